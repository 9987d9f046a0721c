package documents

import (
	"fmt"
	"io"
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
	Journals(orgID uuid.UUID, page, pageSize int) ([]ledger.Journal, int, error)       // oldest first
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

const (
	exportDocumentsMax = 10_000 // invoices, and credit notes, of an org: centuries of them
	exportPage         = 500    // journals held at once
)

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
	invoices, _, err := books.Invoices(s.OrgID, 1, exportDocumentsMax)
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
	notes, _, err := books.CreditNotes(s.OrgID, 1, exportDocumentsMax)
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
	numbers := map[uuid.UUID]string{}
	invoices, _, err := books.Invoices(s.OrgID, 1, exportDocumentsMax)
	if err != nil {
		return fmt.Errorf("export journals: %w", err)
	}
	for i := range invoices {
		numbers[invoices[i].ID] = invoices[i].Number
	}
	notes, _, err := books.CreditNotes(s.OrgID, 1, exportDocumentsMax)
	if err != nil {
		return fmt.Errorf("export journals: %w", err)
	}
	for i := range notes {
		numbers[notes[i].ID] = notes[i].Number
	}
	for page := 1; ; page++ {
		journals, total, err := books.Journals(s.OrgID, page, exportPage)
		if err != nil {
			return fmt.Errorf("export journals: %w", err)
		}
		for _, j := range journals {
			if len(j.Transfers) == 0 || !s.holds(ledger.DateOf(j.Transfers[0].At, s.Zone)) {
				continue
			}
			if err := out.Add(JournalEntry{Journal: j, Cause: numbers[j.CauseID]}); err != nil {
				return err
			}
		}
		if page*exportPage >= total {
			return out.Close()
		}
	}
}
