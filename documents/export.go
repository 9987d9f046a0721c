package documents

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// Books are what exports are made from: the read model of billing. Pages begin at
// 1; beside a page comes the number of all.
type Books interface {
	Invoice(orgID, id uuid.UUID) (ledger.Invoice, error)
	Invoices(orgID uuid.UUID, page, pageSize int) ([]ledger.Invoice, int, error)       // newest first
	CreditNotes(orgID uuid.UUID, page, pageSize int) ([]ledger.CreditNote, int, error) // newest first
	Entries(orgID uuid.UUID, page, pageSize int) ([]ledger.Entry, int, error)          // newest first
	// Sides are issuer and recipient of an invoice, as they were when it was issued.
	Sides(inv ledger.Invoice) (ledger.Issuer, ledger.Party, error)
}

// Selection is which part of an org's books is exported.
type Selection struct {
	OrgID       uuid.UUID
	Zone        *time.Location // of the org
	Anchor      int            // day that its periods begin on
	First, Last ledger.Date    // inclusive
}

func (s *Selection) holds(d ledger.Date) bool { return !d.Before(s.First) && !s.Last.Before(d) }

// all is a page that holds whatever an org has: the books have it in memory.
const all = math.MaxInt32

// PartiesOf are the two sides of an invoice, as they were when it was issued.
func PartiesOf(books Books, inv ledger.Invoice) (Parties, error) {
	issuer, billTo, err := books.Sides(inv)
	return Parties{Issuer: issuer, BillTo: billTo}, err
}

// Focus writes the charges of the invoices whose period begins in the selection,
// and of the credit notes issued in it, oldest first. Maker names who made a
// model; empty if nobody knows.
func Focus(w io.Writer, books Books, s Selection, maker func(model string) string) error {
	out, err := NewFocusExport(w)
	if err != nil {
		return err
	}
	of := func(inv ledger.Invoice) (FocusInvoice, error) {
		parties, err := PartiesOf(books, inv)
		f := FocusInvoice{Invoice: inv, Parties: parties, Publishers: map[string]string{}}
		for _, l := range inv.Lines {
			f.Publishers[l.Model] = maker(l.Model)
		}
		return f, err
	}
	invoices, _, err := books.Invoices(s.OrgID, 1, all)
	if err != nil {
		return fmt.Errorf("export FOCUS: %w", err)
	}
	for _, inv := range slices.Backward(invoices) {
		if !s.holds(inv.Period.FirstDay()) {
			continue
		}
		f, err := of(inv)
		if err != nil {
			return fmt.Errorf("export FOCUS: %w", err)
		}
		if err := out.AddInvoice(f); err != nil {
			return err
		}
	}
	notes, _, err := books.CreditNotes(s.OrgID, 1, all)
	if err != nil {
		return fmt.Errorf("export FOCUS: %w", err)
	}
	for _, note := range slices.Backward(notes) {
		if !s.holds(note.CreatedOn) {
			continue
		}
		inv, err := books.Invoice(s.OrgID, note.InvoiceID)
		if err != nil {
			return fmt.Errorf("export FOCUS: %w", err)
		}
		f, err := of(inv)
		if err != nil {
			return fmt.Errorf("export FOCUS: %w", err)
		}
		period, err := ledger.AnchoredPeriodOf(note.CreatedAt, s.Zone, s.Anchor)
		if err != nil {
			return fmt.Errorf("export FOCUS: %w", err)
		}
		if err := out.AddCreditNote(note, f, period); err != nil {
			return err
		}
	}
	return out.Close()
}

// Journals writes the journals booked in the selection, oldest first, each under
// the number of the document that it books, where that has one.
func Journals(w io.Writer, books Books, s Selection, chart Chart) error {
	out, err := NewJournalExport(w, chart, s.Zone)
	if err != nil {
		return err
	}
	entries, _, err := books.Entries(s.OrgID, 1, all)
	if err != nil {
		return fmt.Errorf("export journals: %w", err)
	}
	for _, e := range slices.Backward(entries) {
		if j := e.Journal; len(j.Transfers) == 0 || !s.holds(ledger.DateOf(j.Transfers[0].At, s.Zone)) {
			continue
		}
		x := JournalEntry{Journal: e.Journal}
		switch {
		case e.Invoice != nil:
			x.Cause = e.Invoice.Number
		case e.CreditNote != nil:
			x.Cause = e.CreditNote.Number
		case e.Payment != nil:
			x.Cause = e.Payment.Reference
		}
		if err := out.Add(x); err != nil {
			return err
		}
	}
	return out.Close()
}
