package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/ledger"
)

// once makes a command about money repeatable.
type once struct {
	Key string `help:"Makes the command repeatable: the same key and command again is carried out once."`
}

// byOnce is by under a key.
func (s *session) byOnce(o once) billing.By {
	by := s.by()
	by.Key = o.Key
	return by
}

// repeated says that nothing was done now.
func (o *output) repeated(replayed bool) {
	if replayed {
		o.say("It was carried out before; nothing was done now.")
	}
}

type adminPlanCmd struct {
	Publish adminPlanPublishCmd `cmd:"" help:"Publish the next version of a plan. The same again changes nothing."`
	Assign  adminPlanAssignCmd  `cmd:"" help:"Give an org a published plan. The same again changes nothing."`
	List    adminPlanListCmd    `cmd:"" help:"List the published plans."`
}

type adminPlanPublishCmd struct {
	once
	Code           string          `arg:"" help:"Code: a-z, 0-9 and -."`
	Name           string          `arg:"" help:"Name, for people."`
	Currency       string          `default:"CNY" help:"Only orgs invoiced in it can have the plan."`
	Fee            decimal.Decimal `default:"0" help:"A month, in advance."`
	IncludedTokens uint64          `default:"0" help:"A month, of tokens at list price."`
	IncludedAmount decimal.Decimal `default:"0" help:"A month, of usage after the included tokens."`
	Commitment     decimal.Decimal `default:"0" help:"Usage of a month below it is billed up to it."`
	DiscountPct    decimal.Decimal `default:"0" help:"0 to 100, of usage and commitment, not of the fee."`
	DiscountAmount decimal.Decimal `default:"0" help:"A month, after the percentage."`
	Overage        string          `enum:"bill,block" default:"bill" help:"What becomes of usage past what is included: bill, or block (of one kind of included usage, without charges)."`
	RPM            uint64          `name:"rpm" default:"0" help:"Requests a minute of the whole org. Default: no limit."`
	TPM            uint64          `name:"tpm" default:"0" help:"Tokens a minute of the whole org. Default: no limit."`
	Models         []string        `help:"Models that it is for, by id or alias. Default: all."`
	Charges        string          `type:"existingfile" help:"JSON file with an array of charges: what is priced by tiers instead of at list price."`
}

func (c *adminPlanPublishCmd) plan() (billing.Plan, error) {
	p := billing.Plan{Code: c.Code, Name: c.Name, Currency: c.Currency, RPMLimit: c.RPM, TPMLimit: c.TPM,
		Terms: ledger.Terms{IncludedTokens: c.IncludedTokens, DiscountPct: c.DiscountPct, OveragePolicy: billing.OveragePolicy(c.Overage)}}
	for _, part := range []struct {
		to   *ledger.Amount
		from decimal.Decimal
		flag string
	}{{&p.MonthlyFee, c.Fee, "fee"}, {&p.IncludedAmount, c.IncludedAmount, "included-amount"},
		{&p.Commitment, c.Commitment, "commitment"}, {&p.DiscountAmount, c.DiscountAmount, "discount-amount"}} {
		var err error
		if *part.to, err = ledger.NewAmount(part.from); err != nil {
			return p, fmt.Errorf("--%s: %w", part.flag, err)
		}
	}
	if c.Charges != "" {
		body, err := os.ReadFile(c.Charges)
		if err != nil {
			return p, fmt.Errorf("read the charges: %w", err)
		}
		if err := json.Unmarshal(body, &p.Charges); err != nil {
			return p, fmt.Errorf("read the charges in %s: %w", c.Charges, err)
		}
	}
	return p, nil
}

// Run publishes a plan.
func (c *adminPlanPublishCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	plan, err := c.plan()
	if err != nil {
		return err
	}
	s, err := g.admin(ctx, out, admin.Reason)
	if err != nil {
		return err
	}
	defer s.Close()
	if plan.ModelsAllowed, err = s.standardModels(c.Models); err != nil {
		return err
	}
	published, err := s.commands().PublishPlan(ctx, plan, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(published.Result, func() {
		out.say("plan %s version %d is published", c.Code, published.Result.Version)
		out.repeated(published.Replayed)
	})
}

type adminPlanAssignCmd struct {
	once
	Org     string    `arg:"" help:"Org, by name or id."`
	Code    string    `arg:"" help:"Code of the plan."`
	Version int       `default:"0" help:"Default: the newest."`
	From    time.Time `help:"Instant from which it is in force (RFC 3339); money changes at the start of that local date. Default: now."`
}

// Run gives an org a plan.
func (c *adminPlanAssignCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	assigned, err := s.commands().AssignPublished(ctx, org.ID, c.Code, c.Version, c.From.UTC(), s.byOnce(c.once))
	if err != nil {
		return shownBy(err, "aione admin plan list")
	}
	return out.result(assigned.Result, func() {
		out.say("org %s has plan %s from %s on", org.Name, assigned.Result.Code, assigned.Result.EffectiveFrom.Format(time.RFC3339))
		out.repeated(assigned.Replayed)
	})
}

type adminPlanListCmd struct{}

// Run lists plans.
func (c *adminPlanListCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	plans := n.Book.PublishedPlans()
	return out.result(plans, func() {
		var rows [][]string
		for _, p := range plans {
			rows = append(rows, []string{p.Plan.Code, fmt.Sprint(p.Version), p.Plan.Name, p.Plan.MonthlyFee.Format(p.Plan.Currency), p.Plan.Currency,
				thousands(p.Plan.IncludedTokens), p.Plan.Commitment.Format(p.Plan.Currency), p.Plan.DiscountPct.String() + " %", fmt.Sprint(len(p.Plan.Charges))})
		}
		out.table("Plans", []string{"code", "version", "name", "fee", "currency", "included tokens", "commitment", "discount", "charges"}, rows)
	})
}
