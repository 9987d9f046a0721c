package documents

import (
	"errors"
	"fmt"

	"aione/ledger"
)

// ErrSums is returned when the parts of a document do not add up to what it says:
// it has been changed, or this package does not know all of its parts.
var ErrSums = errors.New("document does not add up")

// checkInvoice holds an invoice against its lines:
//
//	Total = Σ Amount of the lines
//	      = Subtotal + Adjustments - Discount + Tax - CreditsApplied + Carried
func checkInvoice(inv *ledger.Invoice) error {
	byKind := make(map[ledger.LineKind]ledger.Amount)
	var all ledger.Amount
	for _, l := range inv.Lines {
		var err error
		if byKind[l.Kind], err = byKind[l.Kind].Add(l.Amount); err != nil {
			return err
		}
		if all, err = all.Add(l.Amount); err != nil {
			return err
		}
	}
	parts, err := sum(inv.Subtotal, inv.Adjustments, inv.Discount.Neg(), inv.Tax, inv.CreditsApplied.Neg(), inv.Carried)
	if err != nil {
		return err
	}
	taxes, err := taxOnTop(inv.Taxes)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what       string
		says, adds ledger.Amount
	}{
		{"total of the lines", inv.Total, all},
		{"total of the parts", inv.Total, parts},
		{"discount", inv.Discount.Neg(), byKind[ledger.LineDiscount]},
		{"tax", inv.Tax, byKind[ledger.LineTax]},
		{"tax by rate", inv.Tax, taxes},
		{"credits", inv.CreditsApplied.Neg(), byKind[ledger.LineCredit]},
		{"carried", inv.Carried, byKind[ledger.LineCarried]},
	} {
		if c.says.Cmp(c.adds) != 0 {
			return fmt.Errorf("%w: invoice %s: the %s is said to be %s and comes to %s", ErrSums, inv.Number, c.what, c.says, c.adds)
		}
	}
	return nil
}

// checkCreditNote holds a credit note against its lines, and these against the
// invoice that it is for.
func checkCreditNote(note *ledger.CreditNote, inv *ledger.Invoice) error {
	if note.InvoiceID != inv.ID || note.Currency != inv.Currency {
		return fmt.Errorf("%w: credit note %s is for invoice %s, not %s", ErrSums, note.Number, note.InvoiceNumber, inv.Number)
	}
	amounts := make([]ledger.Amount, len(note.Lines))
	for i, l := range note.Lines {
		if l.Line < 1 || l.Line > len(inv.Lines) {
			return fmt.Errorf("%w: credit note %s credits line %d of invoice %s, which has %d", ErrSums, note.Number, l.Line, inv.Number, len(inv.Lines))
		}
		amounts[i] = l.Amount
	}
	subtotal, err := sum(amounts...)
	if err != nil {
		return err
	}
	tax, err := taxOnTop(note.Taxes)
	if err != nil {
		return err
	}
	all, err := sum(subtotal, tax)
	if err != nil {
		return err
	}
	if subtotal.Cmp(note.Subtotal) != 0 || tax.Cmp(note.Tax) != 0 || all.Cmp(note.Total) != 0 {
		return fmt.Errorf("%w: credit note %s says %s + %s = %s, its parts are %s, %s and %s",
			ErrSums, note.Number, note.Subtotal, note.Tax, note.Total, subtotal, tax, all)
	}
	return nil
}

// taxOnTop is the sum of the taxes that are not inside the prices.
func taxOnTop(taxes []ledger.TaxAmount) (ledger.Amount, error) {
	var amounts []ledger.Amount
	for _, t := range taxes {
		if !t.Inclusive {
			amounts = append(amounts, t.Amount)
		}
	}
	return sum(amounts...)
}

func sum(amounts ...ledger.Amount) (ledger.Amount, error) {
	var all ledger.Amount
	for _, a := range amounts {
		var err error
		if all, err = all.Add(a); err != nil {
			return ledger.Amount{}, err
		}
	}
	return all, nil
}
