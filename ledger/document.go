package ledger

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Entry is one thing that happened to an org's money, with its journal: exactly
// one of the documents is there. It is what billing stores.
type Entry struct {
	Invoice    *Invoice    `json:"invoice,omitempty"`
	CreditNote *CreditNote `json:"credit_note,omitempty"`
	Payment    *Payment    `json:"payment,omitempty"`
	Grant      *Grant      `json:"grant,omitempty"` // a top-up or a promotion
	Refund     *Refund     `json:"refund,omitempty"`
	Expiry     *Expiry     `json:"expiry,omitempty"`
	WriteOff   *WriteOff   `json:"write_off,omitempty"`
	Journal    Journal     `json:"journal"`
}

// Payment is money that came in.
type Payment struct {
	ID        uuid.UUID   `json:"id"`     // the caller's; the same id is the same payment
	Amount    Amount      `json:"amount"` // positive, in whole minor units
	At        time.Time   `json:"at"`
	Reference string      `json:"reference,omitempty"`
	For       []uuid.UUID `json:"for,omitempty"` // invoices named by the payer, in this order; none: the oldest due first

	Allocations []Allocation `json:"allocations,omitempty"` // decided
	Overpaid    Amount       `json:"overpaid,omitzero"`     // decided: a prepaid grant with the payment's id
}

// Allocation is the part of a payment that an invoice gets.
type Allocation struct {
	InvoiceID uuid.UUID `json:"invoice_id"`
	Amount    Amount    `json:"amount"`
}

// Refund is prepaid money that goes back to the org.
type Refund struct {
	ID        uuid.UUID  `json:"id"`     // the caller's
	Amount    Amount     `json:"amount"` // positive, in whole minor units
	At        time.Time  `json:"at"`
	Reference string     `json:"reference,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Uses      []GrantUse `json:"uses,omitempty"` // decided, in the order of use
}

// Expiry ends the credits that have expired at an instant.
type Expiry struct {
	ID   uuid.UUID  `json:"id"` // derived from the org and its number of journals
	At   time.Time  `json:"at"`
	Uses []GrantUse `json:"uses"` // decided
}

// WriteOff gives up what is open of an invoice.
type WriteOff struct {
	ID        uuid.UUID `json:"id"` // the caller's
	InvoiceID uuid.UUID `json:"invoice_id"`
	At        time.Time `json:"at"`
	Reason    string    `json:"reason"`
	Amount    Amount    `json:"amount"` // decided: all that is open
}

// CreditNote takes back an invoice, or parts of it.
//
//	Total = Subtotal + Tax = OffDue + ToPrepaid + Σ Restored - TakenBack
type CreditNote struct {
	ID            uuid.UUID    `json:"id"`     // derived from the invoice and N
	Number        string       `json:"number"` // of a series of its own
	OrgID         uuid.UUID    `json:"org_id"`
	LegalEntity   string       `json:"legal_entity"`
	Currency      string       `json:"currency"`
	InvoiceID     uuid.UUID    `json:"invoice_id"`
	InvoiceNumber string       `json:"invoice_number"`
	N             int          `json:"n"` // of the invoice's credit notes, from 1 on
	CreatedAt     time.Time    `json:"created_at"`
	CreatedOn     Date         `json:"created_on"` // in the org's time zone
	Reason        string       `json:"reason"`
	Full          bool         `json:"full"`  // the invoice is void
	Lines         []CreditLine `json:"lines"` // of a full one: all that are taxed, with their sign
	Subtotal      Amount       `json:"subtotal"`
	Taxes         []TaxAmount  `json:"taxes,omitempty"`
	Tax           Amount       `json:"tax"` // exclusive taxes
	Total         Amount       `json:"total"`

	OffDue    Amount     `json:"off_due"`            // what the invoice left to pay
	ToPrepaid Amount     `json:"to_prepaid"`         // was paid already: a prepaid grant with the note's id
	Restored  []GrantUse `json:"restored,omitempty"` // given back to the credits that paid, the last used first
	TakenBack Amount     `json:"taken_back"`         // what the invoice had carried to the prepaid balance
}

// CreditLine credits a line of the invoice.
type CreditLine struct {
	Line   int    `json:"line"`   // from 1 on
	Amount Amount `json:"amount"` // without exclusive tax
}

// CreditRequest asks for a credit note.
type CreditRequest struct {
	Number string // CreditNoteNumber
	At     time.Time
	On     Date // of At in the org's time zone
	Reason string
	Lines  []CreditLine // with positive amounts; none: all of the invoice, which becomes void
}

// CreditNoteNumber is the n-th credit note of a legal entity's series of a year.
func CreditNoteNumber(legalEntity string, year int, n uint64) string {
	return fmt.Sprintf("CN-%s-%04d-%06d", legalEntity, year, n)
}

// document is one of the documents of an entry.
type document interface {
	id() uuid.UUID
	canonicalBytes() []byte
}

// document is the one that is there; an error when there is not exactly one.
func (e *Entry) document() (document, error) {
	var found []document
	if e.Invoice != nil {
		found = append(found, e.Invoice)
	}
	if e.CreditNote != nil {
		found = append(found, e.CreditNote)
	}
	if e.Payment != nil {
		found = append(found, e.Payment)
	}
	if e.Grant != nil {
		found = append(found, e.Grant)
	}
	if e.Refund != nil {
		found = append(found, e.Refund)
	}
	if e.Expiry != nil {
		found = append(found, e.Expiry)
	}
	if e.WriteOff != nil {
		found = append(found, e.WriteOff)
	}
	if len(found) != 1 {
		return nil, errors.New("an entry has exactly one document")
	}
	return found[0], nil
}

func (inv *Invoice) id() uuid.UUID  { return inv.ID }
func (n *CreditNote) id() uuid.UUID { return n.ID }
func (p *Payment) id() uuid.UUID    { return p.ID }
func (g *Grant) id() uuid.UUID      { return g.ID }
func (r *Refund) id() uuid.UUID     { return r.ID }
func (x *Expiry) id() uuid.UUID     { return x.ID }
func (w *WriteOff) id() uuid.UUID   { return w.ID }

func (inv *Invoice) canonicalBytes() []byte { return inv.CanonicalBytes() }

func (n *CreditNote) canonicalBytes() []byte {
	var c canonical
	c.text("aione.credit-note.v1")
	c.bytes(n.ID[:])
	c.text(n.Number)
	c.bytes(n.OrgID[:])
	c.text(n.LegalEntity)
	c.text(n.Currency)
	c.bytes(n.InvoiceID[:])
	c.text(n.InvoiceNumber)
	c.int(n.N)
	c.time(n.CreatedAt)
	c.text(n.CreatedOn.String())
	c.text(n.Reason)
	c.bool(n.Full)
	list(&c, n.Lines, func(l *CreditLine) {
		c.int(l.Line)
		c.amount(l.Amount)
	})
	list(&c, n.Taxes, c.taxAmount)
	for _, a := range []Amount{n.Subtotal, n.Tax, n.Total, n.OffDue, n.ToPrepaid, n.TakenBack} {
		c.amount(a)
	}
	list(&c, n.Restored, c.grantUse)
	return c.b
}

func (p *Payment) canonicalBytes() []byte {
	var c canonical
	c.text("aione.payment.v1")
	c.bytes(p.ID[:])
	c.amount(p.Amount)
	c.time(p.At)
	c.text(p.Reference)
	list(&c, p.For, func(id *uuid.UUID) { c.bytes(id[:]) })
	list(&c, p.Allocations, func(a *Allocation) {
		c.bytes(a.InvoiceID[:])
		c.amount(a.Amount)
	})
	c.amount(p.Overpaid)
	return c.b
}

func (g *Grant) canonicalBytes() []byte {
	var c canonical
	c.text("aione.grant.v1")
	c.grant(g)
	return c.b
}

func (r *Refund) canonicalBytes() []byte {
	var c canonical
	c.text("aione.refund.v1")
	c.bytes(r.ID[:])
	c.amount(r.Amount)
	c.time(r.At)
	c.text(r.Reference)
	c.text(r.Reason)
	list(&c, r.Uses, c.grantUse)
	return c.b
}

func (x *Expiry) canonicalBytes() []byte {
	var c canonical
	c.text("aione.expiry.v1")
	c.bytes(x.ID[:])
	c.time(x.At)
	list(&c, x.Uses, c.grantUse)
	return c.b
}

func (w *WriteOff) canonicalBytes() []byte {
	var c canonical
	c.text("aione.write-off.v1")
	c.bytes(w.ID[:])
	c.bytes(w.InvoiceID[:])
	c.time(w.At)
	c.text(w.Reason)
	c.amount(w.Amount)
	return c.b
}
