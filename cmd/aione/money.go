package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/billing"
	"aione/ledger"
)

// listMax is how many members a list of the command line shows.
const listMax = 10_000

type adminCreditCmd struct {
	Grant  adminCreditGrantCmd  `cmd:"" help:"Give an org a promotional credit."`
	Topup  adminCreditTopupCmd  `cmd:"" help:"Take in an org's money in advance."`
	List   adminCreditListCmd   `cmd:"" help:"List an org's credits, newest first."`
	Expire adminCreditExpireCmd `cmd:"" help:"End what has expired; the invoicer does so by itself."`
}

// credit is what a top-up and a promotion have in common.
type credit struct {
	once
	Org      string        `arg:"" help:"Org, by name or id."`
	Amount   ledger.Amount `arg:"" help:"In the org's currency."`
	Expires  time.Time     `help:"Instant from which it pays nothing (RFC 3339). Default: never."`
	Priority int           `default:"0" help:"Lower goes first among credits that expire together."`
	Source   string        `help:"What people know it by."`
}

func (c *credit) give(ctx context.Context, g *globals, out *output, admin *adminCmd,
	how func(s *session, org uuid.UUID, by billing.By) (billing.Outcome[ledger.Grant], error)) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	given, err := how(s, org.ID, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(given.Result, func() {
		out.say("%s credit %s: %s %s", given.Result.Kind, given.Result.ID, given.Result.Amount.Format(org.Currency), org.Currency)
		out.repeated(given.Replayed)
	})
}

type adminCreditGrantCmd struct{ credit }
type adminCreditTopupCmd struct{ credit }

// Run gives a promotional credit.
func (c *adminCreditGrantCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.give(ctx, g, out, admin, func(s *session, org uuid.UUID, by billing.By) (billing.Outcome[ledger.Grant], error) {
		return s.commands().GrantCredit(ctx, org, billing.Promotion{Amount: c.Amount, ExpiresAt: c.Expires.UTC(), Priority: c.Priority, Source: c.Source}, by)
	})
}

// Run takes in money.
func (c *adminCreditTopupCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.give(ctx, g, out, admin, func(s *session, org uuid.UUID, by billing.By) (billing.Outcome[ledger.Grant], error) {
		return s.commands().TopUp(ctx, org, billing.TopUp{Amount: c.Amount, ExpiresAt: c.Expires.UTC(), Priority: c.Priority, Reference: c.Source}, by)
	})
}

type adminCreditListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run lists credits.
func (c *adminCreditListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	credits, _, err := s.Book.Grants(org.ID, 1, listMax)
	if err != nil {
		return err
	}
	return out.result(credits, func() {
		var rows [][]string
		for _, c := range credits {
			expires := "never"
			if !c.Grant.ExpiresAt.IsZero() {
				expires = c.Grant.ExpiresAt.Format(time.RFC3339)
			}
			rows = append(rows, []string{c.Grant.ID.String(), string(c.Grant.Kind), c.Grant.Amount.Format(org.Currency), c.Remaining.Format(org.Currency),
				c.Grant.GrantedAt.Format(time.DateOnly), expires, fmt.Sprint(c.Grant.Priority), c.Grant.Source})
		}
		out.table("Credits of "+org.Name+" in "+org.Currency, []string{"id", "kind", "amount", "remaining", "granted", "expires", "priority", "source"}, rows)
	})
}

type adminCreditExpireCmd struct {
	once
	Org string `arg:"" help:"Org, by name or id."`
}

// Run ends expired credits.
func (c *adminCreditExpireCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	expired, err := s.commands().ExpireCredits(ctx, org.ID, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(expired.Result, func() {
		for _, u := range expired.Result.Uses {
			out.say("%s credit %s: %s %s expired", u.Kind, u.GrantID, u.Amount.Format(org.Currency), org.Currency)
		}
		out.repeated(expired.Replayed)
	})
}

type adminPaymentCmd struct {
	Add  adminPaymentAddCmd  `cmd:"" help:"Record money that came in for invoices."`
	List adminPaymentListCmd `cmd:"" help:"List an org's payments, newest first."`
}

type adminPaymentAddCmd struct {
	once
	Org       string        `arg:"" help:"Org, by name or id."`
	Amount    ledger.Amount `arg:"" help:"In the org's currency."`
	At        time.Time     `help:"When it came in (RFC 3339). Default: now."`
	Reference string        `help:"What the bank knows it by."`
	Invoice   []string      `help:"Number or id of what it is for, in this order. Default: the oldest due first."`
}

// Run records a payment.
func (c *adminPaymentAddCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	p := billing.Payment{Amount: c.Amount, At: c.At.UTC(), Reference: c.Reference}
	for _, ref := range c.Invoice {
		inv, err := s.invoice(ref)
		if err != nil {
			return err
		}
		p.For = append(p.For, inv.ID)
	}
	paid, err := s.commands().Pay(ctx, org.ID, p, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(paid.Result, func() {
		out.say("payment %s: %s %s", paid.Result.ID, paid.Result.Amount.Format(org.Currency), org.Currency)
		for _, a := range paid.Result.Allocations {
			number := a.InvoiceID.String()
			if inv, err := s.Book.Invoice(org.ID, a.InvoiceID); err == nil {
				number = inv.Number
			}
			out.say("  %s for %s", a.Amount.Format(org.Currency), number)
		}
		if !paid.Result.Overpaid.IsZero() {
			out.say("  %s left over: prepaid now", paid.Result.Overpaid.Format(org.Currency))
		}
		out.repeated(paid.Replayed)
	})
}

type adminPaymentListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run lists payments.
func (c *adminPaymentListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	payments, _, err := s.Book.Payments(org.ID, 1, listMax)
	if err != nil {
		return err
	}
	return out.result(payments, func() {
		var rows [][]string
		for _, p := range payments {
			rows = append(rows, []string{p.ID.String(), p.At.Format(time.RFC3339), p.Amount.Format(org.Currency), fmt.Sprint(len(p.Allocations)),
				p.Overpaid.Format(org.Currency), cmp.Or(p.Reference, "-")})
		}
		out.table("Payments of "+org.Name+" in "+org.Currency, []string{"id", "received", "amount", "invoices", "overpaid", "reference"}, rows)
	})
}

type adminRefundCmd struct {
	once
	Org       string        `arg:"" help:"Org, by name or id."`
	Amount    ledger.Amount `arg:"" help:"Of its prepaid balance."`
	Reference string        `help:"What the bank knows it by."`
}

// Run gives prepaid money back.
func (c *adminRefundCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	refunded, err := s.commands().Refund(ctx, org.ID, billing.Refund{Amount: c.Amount, Reference: c.Reference}, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(refunded.Result, func() {
		out.say("refund %s: %s %s", refunded.Result.ID, refunded.Result.Amount.Format(org.Currency), org.Currency)
		out.repeated(refunded.Replayed)
	})
}
