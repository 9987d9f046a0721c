package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/catalog"
)

// Correction says why an invoice is billed again, and what was put right. The
// invoice that it is on replaces a void one and counts the same usage.
type Correction struct {
	Replaces uuid.UUID  `json:"replaces"` // the void invoice
	Number   string     `json:"number"`   // its number
	N        int        `json:"n"`        // of the period's corrected invoices, from 1 on
	Reason   string     `json:"reason"`
	Repriced []Repriced `json:"repriced,omitempty"` // by version
}

// Repriced bills the usage stamped with a price version at another price. What
// was stamped must still be what its own version gives.
type Repriced struct {
	Version string        `json:"version"`
	Price   catalog.Price `json:"price"` // of the same model; its Version is another
}

func (c *Correction) check(currency string) error {
	if c == nil {
		return nil
	}
	if c.Replaces == uuid.Nil || c.Number == "" || c.N < 1 || c.Reason == "" {
		return fmt.Errorf("%w: a correction needs the invoice it replaces, its number, a count and a reason", ErrBillInput)
	}
	for i, r := range c.Repriced {
		switch {
		case i > 0 && r.Version <= c.Repriced[i-1].Version:
			return fmt.Errorf("%w: repriced versions are not in order, or one occurs twice", ErrBillInput)
		case r.Version == "" || r.Price.Version == "" || r.Price.Version == r.Version:
			return fmt.Errorf("%w: %q is repriced by %q", ErrBillInput, r.Version, r.Price.Version)
		case r.Price.Currency != currency:
			return fmt.Errorf("%w: %w: %s", ErrBillInput, ErrCurrencyMismatch, r.Price.Version)
		}
	}
	return nil
}

// prices are those that replace the stamped ones, by stamped version.
func (c *Correction) prices() map[string]catalog.Price {
	if c == nil {
		return nil
	}
	prices := make(map[string]catalog.Price, len(c.Repriced))
	for _, r := range c.Repriced {
		prices[r.Version] = r.Price
	}
	return prices
}

// Remedy is what to put right about an invoice.
type Remedy struct {
	N        int    // of the period's corrected invoices, from 1 on
	Reason   string // for the reader
	Repriced []Repriced
	Segments []Segment  // other terms for the period; none: as they were billed
	TaxRates *[]TaxRate // other taxes; nil: as they were
	At       time.Time  // of the corrected invoice
	On       Date       // of At in the org's time zone
	Credits  []Credit   // those that may pay it; a dry run needs none
}

// Rebilled is an invoice billed again.
type Rebilled struct {
	Draft      Invoice
	Difference Amount // net with tax, before credits: the draft's less the old invoice's
}

// Correct bills the usage of an invoice again with what was wrong put right. It
// writes nothing: as a dry run it tells the difference; to carry it out, void the
// old invoice by a credit note and issue the draft. Errors are those of Bill.
func Correct(old Invoice, m Remedy) (Rebilled, error) {
	in := old.billInput()
	in.CreatedAt, in.CreatedOn, in.Credits = m.At, m.On, m.Credits
	if len(m.Segments) > 0 {
		in.Segments = m.Segments
	}
	if m.TaxRates != nil {
		in.TaxRates = *m.TaxRates
	}
	in.Correction = &Correction{
		Replaces: old.ID, Number: old.Number, N: m.N, Reason: m.Reason,
		Repriced: slices.SortedFunc(slices.Values(m.Repriced), func(a, b Repriced) int { return cmp.Compare(a.Version, b.Version) }),
	}
	draft, err := Bill(in)
	if err != nil {
		return Rebilled{}, fmt.Errorf("correct invoice %s: %w", old.Number, err)
	}
	after, err := draft.BeforeCredits()
	if err != nil {
		return Rebilled{}, fmt.Errorf("correct invoice %s: %w", old.Number, err)
	}
	before, err := old.BeforeCredits()
	if err != nil {
		return Rebilled{}, fmt.Errorf("correct invoice %s: %w", old.Number, err)
	}
	difference, err := after.Sub(before)
	if err != nil {
		return Rebilled{}, fmt.Errorf("correct invoice %s: %w", old.Number, err)
	}
	return Rebilled{Draft: draft, Difference: difference}, nil
}
