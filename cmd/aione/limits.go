package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/admission"
)

type adminBudgetCmd struct {
	Set  adminBudgetSetCmd  `cmd:"" help:"Set the monthly budget of an org, or of a team or key in it."`
	List adminBudgetListCmd `cmd:"" help:"List budgets and balance of an org with what is spent of them."`
}

type adminBudgetSetCmd struct {
	Org    string    `arg:"" help:"Org, by name or id."`
	Amount string    `arg:"" help:"A month, in the org's currency; none takes the budget away."`
	Team   string    `xor:"whose" help:"Of this team, by name or id, instead of the org."`
	Key    uuid.UUID `xor:"whose" help:"Of this key, by id, instead of the org."`
}

// Run sets a budget. The same again changes nothing.
func (c *adminBudgetSetCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	d := admission.BudgetSet{OrgID: org.ID, Scope: admission.ScopeOrg, ID: org.ID}
	if c.Amount != "none" {
		amount, err := decimal.NewFromString(c.Amount)
		if err != nil {
			return fmt.Errorf("%q is no amount like 1000.00, and not none", c.Amount)
		}
		d.Amount = &amount
	}
	switch {
	case c.Team != "":
		team, err := s.team(org, c.Team)
		if err != nil {
			return err
		}
		d.Scope, d.ID = admission.ScopeTeam, team.ID
	case c.Key != uuid.Nil:
		key, err := s.Keys.Get(org.ID, c.Key)
		if err != nil {
			return err
		}
		d.Scope, d.ID = admission.ScopeKey, key.ID
	}
	if err := s.limits().SetBudget(ctx, d, s.limiterBy()); err != nil {
		return err
	}
	return out.result(d, func() { out.say("the monthly budget of %s %s is %s", d.Scope, d.ID, c.Amount) })
}

// limits are the commands about what orgs may use.
func (s *session) limits() admission.Commands {
	return admission.Commands{Log: s.Log, Limiter: s.Limits}
}

type adminBudgetListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// standing is one line of the list.
type standing struct {
	Scope admission.Scope `json:"scope"`
	ID    uuid.UUID       `json:"id"`
	Name  string          `json:"name"`
	Limit *string         `json:"limit"` // null: none
	Spent string          `json:"spent"`
	Held  string          `json:"held"`
}

// Run lists how the accounts of an org stand, from rows and the end of the log, with
// what its plan includes if that blocks.
func (c *adminBudgetListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.RestoreLimits(ctx); err != nil {
		return err
	}
	teams, err := s.Book.Teams(org.ID)
	if err != nil {
		return err
	}
	list := []standing{{Scope: admission.ScopeBalance, ID: org.ID, Name: org.Name}, {Scope: admission.ScopeOrg, ID: org.ID, Name: org.Name}}
	for _, t := range teams {
		list = append(list, standing{Scope: admission.ScopeTeam, ID: t.ID, Name: t.Name})
	}
	for _, k := range s.Keys.List(org.ID) {
		list = append(list, standing{Scope: admission.ScopeKey, ID: k.ID, Name: k.Name})
	}
	for _, scope := range []admission.Scope{admission.ScopeIncludedTokens, admission.ScopeIncludedAmount} {
		if in, err := s.Limits.Standing(org.ID, scope, org.ID, s.Clock()); err != nil {
			return err
		} else if in.Limited {
			list = append(list, standing{Scope: scope, ID: org.ID, Name: org.Name})
		}
	}
	var rows [][]string
	for i := range list {
		at := &list[i]
		account, err := s.Limits.Standing(org.ID, at.Scope, at.ID, s.Clock())
		if err != nil {
			return err
		}
		limit := "none"
		if account.Limited {
			limit = account.Limit.String()
			at.Limit = &limit
		}
		at.Spent, at.Held = account.Spent.String(), account.Held.String()
		rows = append(rows, []string{string(at.Scope), at.ID.String(), at.Name, limit, at.Spent, at.Held})
	}
	return out.result(list, func() {
		out.table("Budgets and balance of "+org.Name+", "+org.Currency, []string{"of", "id", "name", "limit", "spent", "on its way"}, rows)
	})
}

type adminLimitsCmd struct {
	Set adminLimitsSetCmd `cmd:"" help:"Set the rate limits of an org, of all its keys together. Its plan's hold besides."`
}

type adminLimitsSetCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
	RPM uint64 `name:"rpm" help:"Requests a minute. 0: no limit."`
	TPM uint64 `name:"tpm" help:"Tokens a minute. 0: no limit."`
}

// Run sets the limits of an org. The same again changes nothing.
func (c *adminLimitsSetCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	d := admission.LimitsSet{OrgID: org.ID, Rates: admission.Rates{RPM: c.RPM, TPM: c.TPM}}
	if err := s.limits().SetLimits(ctx, org.ID, d.Rates, s.limiterBy()); err != nil {
		return err
	}
	return out.result(d, func() { out.say("org %s has %d requests and %d tokens a minute (0: no limit)", org.ID, c.RPM, c.TPM) })
}

type adminCreditLimitCmd struct {
	Set adminCreditLimitSetCmd `cmd:"" help:"Set how far below zero an org's balance may go. The first one opens the balance: usage from then on is held against it."`
}

type adminCreditLimitSetCmd struct {
	Org    string          `arg:"" help:"Org, by name or id."`
	Amount decimal.Decimal `arg:"" help:"In the org's currency."`
}

// Run sets a credit limit. The same again changes nothing.
func (c *adminCreditLimitSetCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.limits().SetCreditLimit(ctx, org.ID, c.Amount, s.limiterBy()); err != nil {
		return err
	}
	return out.result(admission.CreditLimitSet{OrgID: org.ID, Amount: c.Amount}, func() { out.say("org %s has a credit of %s", org.ID, c.Amount) })
}

// limiterBy is by for what admission keeps.
func (s *session) limiterBy() admission.By {
	by := s.by()
	return admission.By{Actor: by.Actor, Reason: by.Reason, At: by.At}
}
