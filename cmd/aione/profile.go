package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/documents"
	"aione/ledger"
)

// party is who stands on a document.
type party struct {
	Name    string   `help:"Name on the documents."`
	Address []string `sep:"none" help:"A line of the address; may be repeated."`
	TaxID   string   `help:"Tax number."`
	Email   string   `help:"E-mail address."`
	Phone   string   `help:"Phone number."`
}

func (p *party) party() ledger.Party {
	return ledger.Party{Name: p.Name, Address: p.Address, TaxID: p.TaxID, Email: p.Email, Phone: p.Phone}
}

type adminOrgProfileCmd struct {
	once
	Org        string                     `arg:"" help:"Org, by name or id."`
	Set        bool                       `help:"Replace the profile by what the other flags say; else it is shown."`
	BillTo     party                      `embed:"" prefix:"bill-to-" group:"Bill to"`
	Taxes      map[string]decimal.Decimal `name:"tax" help:"Tax: NAME=PERCENT; may be repeated."`
	Inclusive  bool                       `help:"The taxes are in the prices already: shown, not added."`
	TermsDays  *int                       `help:"Days until an invoice is due. Default: the platform's."`
	Grace      *time.Duration             `help:"How long an ended period stays open for late usage. Default: the platform's."`
	Anchor     int                        `default:"0" help:"Day of the month that periods begin on; fixed once a period is closed. Default: as it is."`
	LowBalance ledger.Amount              `default:"0" help:"At or below it, balance.low is announced."`
	From       time.Time                  `help:"Instant from which it is in force (RFC 3339). Default: now."`
}

func (c *adminOrgProfileCmd) profile() (billing.Profile, error) {
	p := billing.Profile{EffectiveFrom: c.From.UTC(), TermsDays: c.TermsDays, Grace: c.Grace, Anchor: c.Anchor, LowBalance: c.LowBalance}
	for _, name := range sortedKeys(c.Taxes) {
		p.TaxRates = append(p.TaxRates, ledger.TaxRate{Name: name, Pct: c.Taxes[name], Inclusive: c.Inclusive})
	}
	if c.BillTo.Name != "" {
		billTo := c.BillTo.party()
		if err := documents.CheckParty(billTo); err != nil {
			return p, err
		}
		p.BillTo = &billTo
	}
	return p, nil
}

// says reports whether a flag says something of the profile to set.
func (c *adminOrgProfileCmd) says() bool {
	return !reflect.DeepEqual(c.BillTo, party{}) || len(c.Taxes) > 0 || c.Inclusive || c.TermsDays != nil || c.Grace != nil ||
		c.Anchor != 0 || !c.LowBalance.IsZero() || !c.From.IsZero() || c.Key != ""
}

// Run shows or sets a profile.
func (c *adminOrgProfileCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	if !c.Set && c.says() {
		return errors.New("say --set: it replaces the whole profile by what the other flags say")
	}
	p, err := c.profile()
	if err != nil {
		return err
	}
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	if c.Set {
		set, err := s.commands().SetProfile(ctx, org.ID, p, s.byOnce(c.once))
		if err != nil {
			return err
		}
		return out.result(set.Result, func() { out.profile(org, set.Result, 0) })
	}
	if p, err = s.Book.ProfileAt(org.ID, s.Clock()); err != nil {
		return err
	}
	anchor, err := s.Book.Anchor(org.ID)
	if err != nil {
		return err
	}
	return out.result(p, func() { out.profile(org, p, anchor) })
}

// profile prints how an org is invoiced.
func (o *output) profile(org billing.Org, p billing.Profile, anchor int) {
	var rows [][]string
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	if p.BillTo != nil {
		add("bill to", p.BillTo.Name)
		add("address", strings.Join(p.BillTo.Address, ", "))
		add("tax number", p.BillTo.TaxID)
		add("e-mail", p.BillTo.Email)
	}
	for _, t := range p.TaxRates {
		how := "on top"
		if t.Inclusive {
			how = "inside the prices"
		}
		add("tax", fmt.Sprintf("%s %s %% %s", t.Name, t.Pct, how))
	}
	if p.TermsDays != nil {
		add("terms", fmt.Sprintf("%d days", *p.TermsDays))
	}
	if p.Grace != nil {
		add("grace", p.Grace.String())
	}
	if anchor > 0 {
		add("periods begin on day", fmt.Sprint(anchor))
	}
	if !p.LowBalance.IsZero() {
		add("low balance", p.LowBalance.Format(org.Currency)+" "+org.Currency)
	}
	o.table("Profile of "+org.Name, []string{"setting", "value"}, rows)
}

type adminOrgAccountCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run shows where an org's money stands.
func (c *adminOrgAccountCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	at, err := s.Book.Account(org.ID)
	if err != nil {
		return err
	}
	plan, err := s.Book.PlanAt(org.ID, s.Clock())
	if err != nil {
		return err
	}
	shown := map[string]string{"org_id": org.ID.String(), "plan": plan.Code, "currency": org.Currency,
		"prepaid": at.Prepaid.Format(org.Currency), "promotional": at.Promo.Format(org.Currency), "owed": at.Owed.Format(org.Currency)}
	return out.result(shown, func() {
		out.table("Account of "+org.Name+" in "+org.Currency, []string{"plan", "prepaid", "promotional", "owed"},
			[][]string{{plan.Code, shown["prepaid"], shown["promotional"], shown["owed"]}})
	})
}

type adminOrgChangesCmd struct {
	Org   string `arg:"" help:"Org, by name or id."`
	Limit int    `default:"50" help:"How many, from the newest on."`
}

// Run shows what happened to an org.
func (c *adminOrgChangesCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	changes, total, err := s.Book.Changes(org.ID, 1, max(c.Limit, 1))
	if err != nil {
		return err
	}
	return out.result(changes, func() {
		var rows [][]string
		for _, c := range changes {
			rows = append(rows, []string{fmt.Sprint(c.Seq), c.At.UTC().Format(time.RFC3339), c.Type, c.Actor, c.Reason})
		}
		out.table(fmt.Sprintf("Changes of %s: %d of %d", org.Name, len(changes), total), []string{"record", "at", "what", "who", "why"}, rows)
	})
}

type adminEntityCmd struct {
	Set  adminEntitySetCmd  `cmd:"" help:"Say who a legal entity is, for the documents of invoices made from now on."`
	List adminEntityListCmd `cmd:"" help:"List the legal entities."`
}

type adminEntitySetCmd struct {
	once
	Code string `arg:"" help:"Code in the numbers of invoices: A-Z and 0-9."`
	party
	BankHolder  string `help:"Holder of the account that invoices are paid to."`
	BankName    string `help:"Its bank, with the branch."`
	BankAccount string `help:"Its number."`
	BankSWIFT   string `name:"bank-swift" help:"SWIFT code."`
	Note        string `help:"Said at the end of every invoice."`
}

// Run says who a legal entity is.
func (c *adminEntitySetCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	e := billing.LegalEntity{Code: c.Code, Issuer: ledger.Issuer{Party: c.party.party(), Note: c.Note,
		Bank: ledger.Bank{AccountName: c.BankHolder, BankName: c.BankName, AccountNumber: c.BankAccount, SWIFT: c.BankSWIFT}}}
	if err := documents.CheckIssuer(e.Issuer); err != nil {
		return err
	}
	s, err := g.admin(ctx, out, admin.Reason)
	if err != nil {
		return err
	}
	defer s.Close()
	set, err := s.commands().SetLegalEntity(ctx, e, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(set.Result, func() {
		out.say("legal entity %s is %s", set.Result.Code, set.Result.Issuer.Name)
		out.repeated(set.Replayed)
	})
}

type adminEntityListCmd struct{}

// Run lists the legal entities.
func (c *adminEntityListCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	entities := n.Book.LegalEntities()
	return out.result(entities, func() {
		var rows [][]string
		for _, e := range entities {
			rows = append(rows, []string{e.Code, e.Issuer.Name, e.Issuer.TaxID, e.Issuer.Bank.BankName, e.Issuer.Bank.AccountNumber})
		}
		out.table("Legal entities", []string{"code", "name", "tax number", "bank", "account"}, rows)
	})
}
