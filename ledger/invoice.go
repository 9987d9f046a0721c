package ledger

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
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

// Line is one bucket of one model at one price version.
type Line struct {
	Model        string          `json:"model"`
	Bucket       Bucket          `json:"bucket"`
	PriceVersion string          `json:"price_version"`
	Origin       string          `json:"origin,omitempty"` // label of the closed period that late usage occurred in; empty for usage in time
	Quantity     uint64          `json:"quantity"`
	Unit         Unit            `json:"unit"`
	UnitPrice    decimal.Decimal `json:"unit_price"` // per 1,000,000 tokens, per image or per request
	Exact        Amount          `json:"exact"`      // Quantity × UnitPrice, not rounded
	Amount       Amount          `json:"amount"`     // Exact, rounded once
}

// Late reports whether the line adjusts a period that was closed before its
// usage arrived.
func (l Line) Late() bool { return l.Origin != "" }

// Invoice is what an org owes for a period, with all that it was computed from.
// Nothing of an issued invoice changes but its Status.
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

	Lines []Line `json:"lines"`
	Exact Amount `json:"exact"` // Σ Exact of the lines = cost of the usage, for comparison only
	Total Amount `json:"total"` // Σ Amount of the lines

	Cut         uint64          `json:"cut"`          // usage up to this sequence is counted
	PreviousCut uint64          `json:"previous_cut"` // cut of the org's previous period
	Prices      []catalog.Price `json:"prices"`       // the price versions used, in full, by version
	Inputs      Inputs          `json:"inputs"`       // in canonical order
	InputHash   Hash            `json:"input_hash"`   // of all that the lines were computed from
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

// StatusOn is the invoice's status on a date of the org's calendar: an issued
// invoice is overdue from the day after DueDate on, without anybody writing so.
func (inv Invoice) StatusOn(today Date) Status {
	if inv.Status == StatusIssued && inv.DueDate.Before(today) {
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
	prices := make(map[string]catalog.Price, len(inv.Prices))
	for _, p := range inv.Prices {
		prices[p.Version] = p
	}
	again, err := Bill(BillInput{
		OrgID: inv.OrgID, LegalEntity: inv.LegalEntity, Currency: inv.Currency, Period: inv.Period,
		CreatedAt: inv.CreatedAt, CreatedOn: inv.CreatedOn, TermsDays: inv.TermsDays,
		Cut: inv.Cut, PreviousCut: inv.PreviousCut, Inputs: inv.Inputs, Prices: prices,
	})
	if err != nil {
		return Invoice{}, fmt.Errorf("recompute invoice %s: %w", inv.Number, err)
	}
	again.Number, again.Status = inv.Number, inv.Status
	return again, nil
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
