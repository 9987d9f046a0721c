package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"
)

// close adds tax, credits and what is carried to an invoice that has all its
// other lines, and sums up.
func (inv *Invoice) close(credits []Credit) error {
	for i := range inv.Lines {
		l := &inv.Lines[i]
		part, amount := &inv.Subtotal, l.Amount
		switch {
		case l.Kind == LineDiscount:
			part, amount = &inv.Discount, l.Amount.Neg()
		case l.Late():
			part = &inv.Adjustments
		}
		var err error
		if *part, err = part.Add(amount); err != nil {
			return fmt.Errorf("sum of the lines: %w", err)
		}
	}
	base, err := sumOf(inv.Subtotal, inv.Adjustments, inv.Discount.Neg())
	if err != nil {
		return fmt.Errorf("sum of the lines: %w", err)
	}
	if err := inv.tax(base); err != nil {
		return fmt.Errorf("tax: %w", err)
	}
	due, err := base.Add(inv.Tax)
	if err != nil {
		return fmt.Errorf("sum with tax: %w", err)
	}
	if inv.Total, err = inv.applyCredits(due, credits); err != nil {
		return err
	}
	if inv.Total.Sign() < 0 {
		inv.Carried, inv.Total = inv.Total.Neg(), Amount{}
		inv.Lines = append(inv.Lines, Line{Kind: LineCarried, Exact: inv.Carried, Amount: inv.Carried})
	}
	for _, l := range inv.Lines {
		if inv.Exact, err = inv.Exact.Add(l.Exact); err != nil {
			return fmt.Errorf("sum of the lines: %w", err)
		}
	}
	return nil
}

// tax charges each rate on base. Rates inside the prices are taken out of base
// together: base × rate ÷ (100 + all rates).
func (inv *Invoice) tax(base Amount) error {
	of := hundred
	for _, rate := range inv.TaxRates {
		if rate.Inclusive {
			of = of.Add(rate.Pct)
		}
	}
	for _, rate := range inv.TaxRates {
		amount, err := roundRatio(base.d, rate.Pct, of, inv.Currency)
		if err != nil {
			return err
		}
		inv.Taxes = append(inv.Taxes, TaxAmount{TaxRate: rate, Base: base, Amount: amount})
		sum := &inv.TaxIncluded
		if !rate.Inclusive {
			sum = &inv.Tax
			inv.Lines = append(inv.Lines, Line{Kind: LineTax, Name: rate.Name, Pct: rate.Pct, Base: base, Exact: amount, Amount: amount})
		}
		if *sum, err = sum.Add(amount); err != nil {
			return err
		}
	}
	return nil
}

// applyCredits lets credits pay what is due, in the order of their use, and
// returns what is left to pay. Those used are noted on the invoice.
func (inv *Invoice) applyCredits(due Amount, credits []Credit) (Amount, error) {
	credits = slices.Clone(credits)
	slices.SortFunc(credits, compareCredits)
	for _, c := range credits {
		if due.Sign() <= 0 {
			break
		}
		if !c.usableAt(inv.CreatedAt) {
			continue
		}
		pays := Amount{d: decimal.Min(c.Remaining.d, due.d)}
		inv.Lines = append(inv.Lines, Line{Kind: LineCredit, Name: c.Grant.Source, GrantID: c.Grant.ID, Exact: pays.Neg(), Amount: pays.Neg()})
		inv.Credits = append(inv.Credits, c)
		var err error
		if due, err = due.Sub(pays); err != nil {
			return Amount{}, err
		}
		if inv.CreditsApplied, err = inv.CreditsApplied.Add(pays); err != nil {
			return Amount{}, err
		}
	}
	return due, nil
}

func checkCredits(credits []Credit, currency string) error {
	ids := make(map[[16]byte]bool, len(credits))
	for i := range credits {
		c := &credits[i]
		if err := c.Grant.check(currency); err != nil {
			return fmt.Errorf("credit %s: %w", c.Grant.ID, err)
		}
		if c.Remaining.Sign() < 0 || c.Remaining.Cmp(c.Grant.Amount) > 0 || !isMinor(c.Remaining, currency) || ids[c.Grant.ID] {
			return fmt.Errorf("credit %s has %s left of %s, or occurs twice", c.Grant.ID, c.Remaining, c.Grant.Amount)
		}
		ids[c.Grant.ID] = true
	}
	return nil
}

func (g *Grant) check(currency string) error {
	switch {
	case g.ID == [16]byte{}:
		return errors.New("its id is missing")
	case g.Kind != GrantPromotional && g.Kind != GrantPrepaid:
		return fmt.Errorf("its kind %.20q is not %s or %s", g.Kind, GrantPromotional, GrantPrepaid)
	case g.Amount.Sign() <= 0 || !isMinor(g.Amount, currency):
		return fmt.Errorf("%s is no positive number of minor units of %s", g.Amount, currency)
	case g.GrantedAt.IsZero() || !g.ExpiresAt.IsZero() && !g.GrantedAt.Before(g.ExpiresAt):
		return fmt.Errorf("it is given at %s and expires at %s", g.GrantedAt, g.ExpiresAt)
	case len(g.Source) > termsTextMax:
		return fmt.Errorf("its source has over %d bytes", termsTextMax)
	}
	return nil
}
