package billing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Account is where an org's money stands.
type Account struct {
	Prepaid ledger.Amount // what is left of its own money
	Promo   ledger.Amount // what is left of credits it was given
	Owed    ledger.Amount // due on invoices
	OwedBy  ledger.Date   // when the oldest of it is due; zero when nothing is owed
	// Opened is since when usage is paid from a balance at admission; zero when the
	// org is billed afterwards only.
	Opened time.Time
}

// Standing is where an invoice stands. Its status depends on the date:
// InvoiceState.Status.
type Standing struct {
	ledger.InvoiceState
	CreditNotes []ledger.CreditNote `json:"credit_notes"` // oldest first
	Payments    []PaidPart          `json:"payments"`     // oldest first
	ReplacedBy  uuid.UUID           `json:"replaced_by"`  // the corrected invoice; zero when there is none
}

// PaidPart is what a payment paid of an invoice.
type PaidPart struct {
	PaymentID uuid.UUID     `json:"payment_id"`
	At        time.Time     `json:"at"`
	Amount    ledger.Amount `json:"amount"`
	Reference string        `json:"reference"`
}

// Change is one thing that happened to an org: a record of the ledger.
type Change struct {
	Seq     uint64    `json:"seq"` // of the ledger
	At      time.Time `json:"at"`
	Type    string    `json:"type"` // e.g. TypePaymentReceived
	Actor   string    `json:"actor"`
	Reason  string    `json:"reason"`
	Subject string    `json:"subject"`
}

// Account is where an org's money stands, or ErrNotFound.
func (b *Book) Account(orgID uuid.UUID) (Account, error) {
	var a Account
	err := b.decide(orgID, func(v view) error {
		a = Account{Prepaid: v.state.PrepaidBalance(), Promo: v.state.PromoBalance(), Owed: v.state.Owed(), Opened: v.balance.opened}
		if open := v.state.Open(); len(open) > 0 {
			a.OwedBy = open[0].Invoice.DueDate
		}
		return nil
	})
	return a, err
}

// invoice is an issued invoice as it was issued; nil when there is none.
func (a *account) invoice(id uuid.UUID) *ledger.Invoice {
	if s, ok := a.state.Invoice(id); ok {
		return s.Invoice
	}
	return nil
}

// Legacy reports whether an invoice is from before journals were chained: it cannot
// be recomputed to the same bytes any more.
func (b *Book) Legacy(orgID, invoiceID uuid.UUID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a := b.orgs[orgID]
	return a != nil && a.legacy[invoiceID]
}

// standingInvoice is a copy with the status that does not depend on the date.
func (a *account) standingInvoice(inv *ledger.Invoice) ledger.Invoice {
	standing := *inv
	if s, ok := a.state.Invoice(inv.ID); ok {
		standing.Status = s.Status(inv.CreatedOn) // nothing is overdue on that day
	}
	return standing
}

// standingInvoices are all invoices with their status, in the order of issue.
func (a *account) standingInvoices() []ledger.Invoice {
	all := make([]ledger.Invoice, len(a.invoices))
	for i, inv := range a.invoices {
		all[i] = a.standingInvoice(inv)
	}
	return all
}

// Standing is where an invoice of an org stands; ErrNotFound also when it is
// another org's.
func (b *Book) Standing(orgID, invoiceID uuid.UUID) (Standing, error) {
	var s Standing
	err := b.decide(orgID, func(v view) error {
		var ok bool
		if s.InvoiceState, ok = v.state.Invoice(invoiceID); !ok {
			return fmt.Errorf("invoice %s: %w", invoiceID, ErrNotFound)
		}
		for i := range v.entries {
			e := &v.entries[i]
			switch {
			case e.CreditNote != nil && e.CreditNote.InvoiceID == invoiceID:
				s.CreditNotes = append(s.CreditNotes, *e.CreditNote)
			case e.Invoice != nil && e.Invoice.Correction != nil && e.Invoice.Correction.Replaces == invoiceID:
				s.ReplacedBy = e.Invoice.ID
			case e.Payment != nil:
				for _, part := range e.Payment.Allocations {
					if part.InvoiceID == invoiceID {
						s.Payments = append(s.Payments, PaidPart{PaymentID: e.Payment.ID, At: e.Payment.At, Amount: part.Amount, Reference: e.Payment.Reference})
					}
				}
			}
		}
		return nil
	})
	return s, err
}

// Credits are an org's credits with something left, in the order of use, or
// ErrNotFound.
func (b *Book) Credits(orgID uuid.UUID) (credits []ledger.Credit, err error) {
	err = b.decide(orgID, func(v view) error {
		credits = v.state.Credits()
		return nil
	})
	return credits, err
}

// pageOf collects a page (the first is 1) of the entries that pick finds something
// in, newest first, and how many there are.
func pageOf[T any](b *Book, orgID uuid.UUID, page, pageSize int, pick func(view, *ledger.Entry) (T, bool)) (list []T, total int, err error) {
	if page < 1 || pageSize < 1 {
		return nil, 0, fmt.Errorf("%w: page %d of %d each", ErrInvalid, page, pageSize)
	}
	err = b.decide(orgID, func(v view) error {
		for i := len(v.entries) - 1; i >= 0; i-- {
			found, ok := pick(v, &v.entries[i])
			if !ok {
				continue
			}
			if total/pageSize == page-1 {
				list = append(list, found)
			}
			total++
		}
		return nil
	})
	return list, total, err
}

// Grants is a page (the first is 1) of the top-ups and promotions of an org,
// newest first, with what is left of each, and how many there are; or ErrNotFound.
// Money that was carried or overpaid is in Credits only.
func (b *Book) Grants(orgID uuid.UUID, page, pageSize int) ([]ledger.Credit, int, error) {
	left := make(map[uuid.UUID]ledger.Credit)
	credits, err := b.Credits(orgID)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range credits {
		left[c.Grant.ID] = c
	}
	return pageOf(b, orgID, page, pageSize, func(_ view, e *ledger.Entry) (ledger.Credit, bool) {
		if e.Grant == nil {
			return ledger.Credit{}, false
		}
		return ledger.Credit{Grant: *e.Grant, Remaining: left[e.Grant.ID].Remaining}, true
	})
}

// Payments is a page of an org's payments, newest first, as Grants.
func (b *Book) Payments(orgID uuid.UUID, page, pageSize int) ([]ledger.Payment, int, error) {
	return pageOf(b, orgID, page, pageSize, func(_ view, e *ledger.Entry) (ledger.Payment, bool) {
		if e.Payment == nil {
			return ledger.Payment{}, false
		}
		return *e.Payment, true
	})
}

// CreditNotes is a page of an org's credit notes, newest first, as Grants.
func (b *Book) CreditNotes(orgID uuid.UUID, page, pageSize int) ([]ledger.CreditNote, int, error) {
	return pageOf(b, orgID, page, pageSize, func(_ view, e *ledger.Entry) (ledger.CreditNote, bool) {
		if e.CreditNote == nil {
			return ledger.CreditNote{}, false
		}
		return *e.CreditNote, true
	})
}

// CreditNote is a credit note of an org; ErrNotFound also when it is another org's.
func (b *Book) CreditNote(orgID, id uuid.UUID) (note ledger.CreditNote, err error) {
	err = b.decide(orgID, func(v view) error {
		at := slices.IndexFunc(v.entries, func(e ledger.Entry) bool { return e.CreditNote != nil && e.CreditNote.ID == id })
		if at < 0 {
			return fmt.Errorf("credit note %s: %w", id, ErrNotFound)
		}
		note = *v.entries[at].CreditNote
		return nil
	})
	return note, err
}

// Entries is a page of all that moved an org's money, with the journals, newest
// first, as Grants.
func (b *Book) Entries(orgID uuid.UUID, page, pageSize int) ([]ledger.Entry, int, error) {
	return pageOf(b, orgID, page, pageSize, func(_ view, e *ledger.Entry) (ledger.Entry, bool) { return *e, true })
}

// changesMax bounds how many changes of an org are remembered: the last ones. The
// log has them all.
const changesMax = 10_000

// noted are the subjects whose records are changes: the token after it is the org.
var noted = []string{orgPrefix, planPrefix, journalPrefix, invoicePrefix, budgetPrefix, thresholdPrefix,
	"LEDGER.run.", "LEDGER.key.", "LEDGER.webhook."}

// note remembers who did what to an org. The batch's other records say no more
// than the one on the journal subject, but who looks for a run finds it.
func (b *Book) note(r events.Record) {
	for _, prefix := range noted {
		rest, ok := strings.CutPrefix(r.Subject, prefix)
		if !ok {
			continue
		}
		id, _, _ := strings.Cut(rest, ".")
		orgID, err := uuid.Parse(id)
		if err != nil {
			return
		}
		if a := b.orgs[orgID]; a != nil {
			if len(a.changes) == changesMax {
				a.changes = slices.Delete(a.changes, 0, changesMax/10)
			}
			a.changes = append(a.changes, Change{Seq: r.Seq, At: r.At, Type: r.Type, Actor: r.Actor, Reason: r.Reason, Subject: r.Subject})
		}
		return
	}
}

// Changes is a page of what happened to an org, newest first, as Grants: who did
// it, when and why. The last changesMax are remembered.
func (b *Book) Changes(orgID uuid.UUID, page, pageSize int) (list []Change, total int, err error) {
	if page < 1 || pageSize < 1 {
		return nil, 0, fmt.Errorf("%w: page %d of %d each", ErrInvalid, page, pageSize)
	}
	err = b.decide(orgID, func(v view) error {
		if total = len(v.changes); page > total/pageSize+1 { // also keeps the product below from overflowing
			return nil
		}
		for i := total - 1 - (page-1)*pageSize; i >= 0 && len(list) < pageSize; i-- {
			list = append(list, v.changes[i])
		}
		return nil
	})
	return list, total, err
}
