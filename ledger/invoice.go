package ledger

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"aione/catalog"
	"aione/events"
	"github.com/google/uuid"
)

// Status is where an invoice stands: draft → issued → paid | overdue | void.
type Status string

const (
	StatusDraft   Status = "draft"   // a preview: it has no number and binds nobody
	StatusIssued  Status = "issued"  // numbered, in the journal, immutable
	StatusPaid    Status = "paid"    // settled in full
	StatusOverdue Status = "overdue" // issued, and DueDate has passed
	StatusVoid    Status = "void"    // cancelled by a credit note
)

// Invoice is what an org owes for a period, with all that it was computed from.
// Nothing of an issued invoice changes but its Status.
//
//	Total = Subtotal + Adjustments - Discount + Tax - CreditsApplied + Carried
//	      = Σ Amount of the lines
type Invoice struct {
	ID          uuid.UUID `json:"id"`     // derived from org and period
	Number      string    `json:"number"` // empty on a draft
	OrgID       uuid.UUID `json:"org_id"`
	LegalEntity string    `json:"legal_entity"` // who issues it
	Currency    string    `json:"currency"`     // ISO 4217, of every amount here
	Period      Period    `json:"period"`
	CreatedAt   time.Time `json:"created_at"` // UTC
	CreatedOn   Date      `json:"created_on"` // date of CreatedAt in the org's time zone
	TermsDays   int       `json:"terms_days"`
	DueDate     Date      `json:"due_date"` // CreatedOn + TermsDays
	Status      Status    `json:"status"`

	Lines          []Line      `json:"lines"`
	Exact          Amount      `json:"exact"`           // Σ Exact of the lines, for comparison only
	Subtotal       Amount      `json:"subtotal"`        // usage, fees and true-ups of the period
	Adjustments    Amount      `json:"adjustments"`     // late usage of closed periods
	Discount       Amount      `json:"discount"`        // ≥ 0, lowers the total
	Tax            Amount      `json:"tax"`             // added; below zero with a base below zero
	TaxIncluded    Amount      `json:"tax_included"`    // inside the prices, not added
	Taxes          []TaxAmount `json:"taxes,omitempty"` // a rate each
	CreditsApplied Amount      `json:"credits_applied"` // ≥ 0, lowers the total
	Carried        Amount      `json:"carried"`         // ≥ 0: what lies below zero, carried to the org's prepaid balance
	Total          Amount      `json:"total"`           // ≥ 0, what is to be paid

	Cut         uint64          `json:"cut"`          // usage up to this sequence is counted
	PreviousCut uint64          `json:"previous_cut"` // cut of the org's previous period
	Segments    []Segment       `json:"segments"`     // of the period, with the terms in force
	Next        Segment         `json:"next,omitzero"`
	Advance     Amount          `json:"advance"` // fee of this period that the previous invoice charged
	TaxRates    []TaxRate       `json:"tax_rates,omitempty"`
	Credits     []Credit        `json:"credits,omitempty"`    // those used, in the order of use, as they were before
	Origins     []Origin        `json:"origins,omitempty"`    // the closed periods of late usage, oldest first
	Correction  *Correction     `json:"correction,omitempty"` // of an invoice that replaces a void one
	Prices      []catalog.Price `json:"prices"`               // the price versions used, in full, by version
	Inputs      Inputs          `json:"inputs"`               // in canonical order
	InputHash   Hash            `json:"input_hash"`           // of all that the lines were computed from
}

// TaxAmount is what one rate comes to. Base is net of exclusive and gross of
// inclusive taxes.
type TaxAmount struct {
	TaxRate
	Base   Amount `json:"base"`
	Amount Amount `json:"amount"` // rounded once
}

// Hash is a SHA-256 sum, written in hexadecimal.
type Hash [32]byte

// String is the sum in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what String writes.
func (h *Hash) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(h) {
		return fmt.Errorf("hash has %d hexadecimal digits, not %d", len(b), 2*len(h))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// InvoiceID names the one invoice of an org and period.
func InvoiceID(orgID uuid.UUID, periodLabel string) uuid.UUID {
	return events.DeriveID("invoice", orgID[:], []byte(periodLabel))
}

// CorrectedInvoiceID names the n-th invoice that replaces the one of an org and
// period, from 1 on.
func CorrectedInvoiceID(orgID uuid.UUID, periodLabel string, n int) uuid.UUID {
	return events.DeriveID("corrected invoice", orgID[:], []byte(periodLabel), fmt.Append(nil, n))
}

// InvoiceNumber is the n-th number of a legal entity's series of a year.
func InvoiceNumber(legalEntity string, year int, n uint64) string {
	return fmt.Sprintf("INV-%s-%04d-%06d", legalEntity, year, n)
}

// Issue returns the draft as an issued invoice under a number.
func (inv Invoice) Issue(number string) Invoice {
	inv.Number = number
	inv.Status = StatusIssued
	return inv
}

// BeforeCredits is what the invoice comes to, with tax, before credits pay it; below
// zero where some of it is carried.
func (inv Invoice) BeforeCredits() (Amount, error) {
	return sumOf(inv.Subtotal, inv.Adjustments, inv.Discount.Neg(), inv.Tax)
}

// PriceOf is a price version that lines of the invoice were billed at or that its
// usage was stamped with, in full; false when it has none of that name.
func (inv Invoice) PriceOf(version string) (catalog.Price, bool) {
	for _, p := range inv.Prices {
		if p.Version == version {
			return p, true
		}
	}
	if inv.Correction != nil {
		for _, r := range inv.Correction.Repriced {
			if r.Price.Version == version {
				return r.Price, true
			}
		}
	}
	return catalog.Price{}, false
}

// StatusOn is the invoice's status on a date of the org's calendar, as far as the
// invoice itself knows: one of nothing is paid when it is issued, any other is
// overdue from the day after DueDate on, without anybody writing so. Payments and
// credit notes are known to InvoiceState.
func (inv Invoice) StatusOn(today Date) Status {
	switch {
	case inv.Status == StatusIssued && inv.Total.IsZero():
		return StatusPaid
	case inv.Status == StatusIssued && inv.DueDate.Before(today):
		return StatusOverdue
	}
	return inv.Status
}

// ErrNotReproducible is returned when an invoice is not what its own inputs
// give: it, or the code that computes it, has been changed.
var ErrNotReproducible = errors.New("invoice cannot be reproduced from its inputs")

// Recompute bills the invoice's own inputs again. An untouched invoice gives the
// same CanonicalBytes; Prove compares them.
func Recompute(inv Invoice) (Invoice, error) {
	again, err := Bill(inv.billInput())
	if err != nil {
		return Invoice{}, fmt.Errorf("recompute invoice %s: %w", inv.Number, err)
	}
	again.Number, again.Status = inv.Number, inv.Status
	return again, nil
}

// billInput is what the invoice was computed from.
func (inv *Invoice) billInput() BillInput {
	prices := make(map[string]catalog.Price, len(inv.Prices))
	for _, p := range inv.Prices {
		prices[p.Version] = p
	}
	return BillInput{
		OrgID: inv.OrgID, LegalEntity: inv.LegalEntity, Currency: inv.Currency, Period: inv.Period,
		CreatedAt: inv.CreatedAt, CreatedOn: inv.CreatedOn, TermsDays: inv.TermsDays,
		Segments: inv.Segments, Next: inv.Next, Advance: inv.Advance, TaxRates: inv.TaxRates, Credits: inv.Credits,
		Cut: inv.Cut, PreviousCut: inv.PreviousCut, Inputs: inv.Inputs, Origins: inv.Origins, Prices: prices,
		Correction: inv.Correction,
	}
}

// InputsQuery asks again for the usage that the invoice counted.
func (inv Invoice) InputsQuery() InputsQuery {
	return InputsQuery{
		OrgID: inv.OrgID, Start: inv.Period.Start, End: inv.Period.End, Cut: inv.Cut, PreviousCut: inv.PreviousCut,
		Spans: SpansOf(inv.Origins, inv.Segments),
	}
}

// Prove recomputes the invoice and returns ErrNotReproducible unless it comes
// out as the same bytes.
func Prove(inv Invoice) error {
	again, err := Recompute(inv)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReproducible, err)
	}
	if !bytes.Equal(again.CanonicalBytes(), inv.CanonicalBytes()) {
		return fmt.Errorf("invoice %s: %w", inv.Number, ErrNotReproducible)
	}
	return nil
}
