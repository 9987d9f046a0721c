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

// FocusSources are what an export by FOCUS takes from elsewhere than the books.
type FocusSources struct {
	Maker      func(model string) string                               // who made a model; empty if nobody knows
	TeamNames  map[uuid.UUID]string                                    // of the org, by id
	UsedByTeam func(inv ledger.Invoice) ([]ledger.TeamQuantity, error) // of what the invoice counted
}

// Focus writes the charges of the invoices whose period begins in the selection,
// and of the credit notes issued in it, oldest first, usage by team. It keeps what one
// invoice counted in memory, and asks for it once.
func Focus(w io.Writer, books Books, s Selection, from FocusSources) error {
	out, err := NewFocusExport(w)
	if err != nil {
		return err
	}
	invoices, _, err := books.Invoices(s.OrgID, 1, all)
	if err != nil {
		return fmt.Errorf("export FOCUS: %w", err)
	}
	for _, inv := range slices.Backward(invoices) {
		if !s.holds(inv.Period.FirstDay()) {
			continue
		}
		f, err := from.invoice(books, inv)
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
	var of FocusInvoice // of the note before: an invoice may have many
	for _, note := range slices.Backward(notes) {
		if !s.holds(note.CreatedOn) {
			continue
		}
		if of.Invoice.ID != note.InvoiceID {
			inv, err := books.Invoice(s.OrgID, note.InvoiceID)
			if err != nil {
				return fmt.Errorf("export FOCUS: %w", err)
			}
			if of, err = from.invoice(books, inv); err != nil {
				return fmt.Errorf("export FOCUS: %w", err)
			}
		}
		period, err := ledger.AnchoredPeriodOf(note.CreatedAt, s.Zone, s.Anchor)
		if err != nil {
			return fmt.Errorf("export FOCUS: %w", err)
		}
		if err := out.AddCreditNote(note, of, period); err != nil {
			return err
		}
	}
	return out.Close()
}

// invoice is an invoice with what FOCUS says of it besides.
func (from *FocusSources) invoice(books Books, inv ledger.Invoice) (FocusInvoice, error) {
	f := FocusInvoice{Invoice: inv, Publishers: map[string]string{}, TeamNames: from.TeamNames}
	for _, l := range inv.Lines {
		f.Publishers[l.Model] = from.Maker(l.Model)
	}
	used, err := from.UsedByTeam(inv)
	if err != nil {
		return f, err
	}
	split, err := inv.SplitByTeam(used)
	if err != nil {
		return f, fmt.Errorf("invoice %s: %w", inv.Number, err)
	}
	f.Shares = split.Shares
	f.Parties, err = PartiesOf(books, inv)
	return f, err
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
