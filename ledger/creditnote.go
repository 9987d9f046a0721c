package ledger

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// CreditNote takes back an invoice of the org in full, so that it is void, or by
// line. What is credited first lowers what is due; what was paid comes back as
// prepaid money, and then the credits that paid are restored, the last used first.
// It returns ErrRequest, ErrNotOpen for an invoice that is void or, in full,
// credited in part or written off, and ErrTooMuch.
func (s *State) CreditNote(invoiceID uuid.UUID, r CreditRequest) (Entry, error) {
	inv := s.invoices[invoiceID]
	switch {
	case inv == nil:
		return Entry{}, fmt.Errorf("credit invoice %s: %w", invoiceID, ErrNotOpen)
	case inv.Void:
		return Entry{}, fmt.Errorf("credit invoice %s: %w: it is void", inv.Invoice.Number, ErrNotOpen)
	case r.Reason == "":
		return Entry{}, fmt.Errorf("%w: a credit note needs a reason", ErrRequest)
	case r.Number == "" || r.At.IsZero() || r.On == Date{}:
		return Entry{}, fmt.Errorf("%w: a credit note needs a number, an instant and its date", ErrRequest)
	}
	n := CreditNote{
		ID: creditNoteID(invoiceID, inv.Notes+1), Number: r.Number, OrgID: s.OrgID, LegalEntity: inv.Invoice.LegalEntity, Currency: s.Currency,
		InvoiceID: invoiceID, InvoiceNumber: inv.Invoice.Number, N: inv.Notes + 1, CreatedAt: r.At.UTC(), CreatedOn: r.On, Reason: r.Reason,
	}
	if len(r.Lines) == 0 {
		return s.void(inv, n)
	}
	return s.creditLines(inv, n, r.Lines)
}

func creditNoteID(invoiceID uuid.UUID, n int) uuid.UUID {
	return events.DeriveID("credit note", invoiceID[:], fmt.Append(nil, n))
}

// void books the mirror image of the invoice's journal, and returns what was paid.
func (s *State) void(inv *InvoiceState, n CreditNote) (Entry, error) {
	if inv.Notes > 0 || !inv.WrittenOff.IsZero() {
		return Entry{}, fmt.Errorf("void invoice %s, which is credited in part or written off: %w", n.InvoiceNumber, ErrNotOpen)
	}
	of := inv.Invoice
	n.Full, n.Taxes, n.Tax = true, of.Taxes, of.Tax
	n.OffDue, n.ToPrepaid, n.TakenBack = inv.Due, inv.Paid, of.Carried
	n.Restored = of.creditUses()
	slices.Reverse(n.Restored)
	if !of.Carried.IsZero() {
		if c := s.credits[carriedID(of.ID)]; c.Remaining.Cmp(of.Carried) != 0 {
			return Entry{}, fmt.Errorf("void invoice %s, whose carried %s has been spent: %w", of.Number, of.Carried, ErrTooMuch)
		}
	}
	for i := range of.Lines {
		if l := &of.Lines[i]; l.taxable() {
			n.Lines = append(n.Lines, CreditLine{Line: i + 1, Amount: l.Amount})
			n.Subtotal = Amount{d: n.Subtotal.d.Add(l.Amount.d)}
		}
	}
	n.Total = Amount{d: n.Subtotal.d.Add(n.Tax.d)}
	issued, err := InvoiceJournal(*of)
	if err != nil {
		return Entry{}, err
	}
	j := newJournal(&n)
	for _, t := range issued.Transfers {
		flow := t.Amount
		if t.Reversal {
			t.Debit, t.Credit, flow = t.Credit, t.Debit, flow.Neg()
		}
		j.move(t.Code, t.Debit, t.Credit, flow.Neg(), s.Currency, n.CreatedAt)
	}
	j.move(CodeCarried, Receivable(s.OrgID), Prepaid(s.OrgID), n.ToPrepaid, s.Currency, n.CreatedAt)
	return s.seal(Entry{CreditNote: &n}, j)
}

// notCreditable says why a line cannot be credited, after those before it; empty if
// it can, as far as its amount is not too much.
func (s *State) notCreditable(of *Invoice, c CreditLine, before []CreditLine) string {
	switch {
	case c.Line < 1 || c.Line > len(of.Lines):
		return fmt.Sprintf("it has %d lines", len(of.Lines))
	case !of.Lines[c.Line-1].taxable() || of.Lines[c.Line-1].Amount.Sign() <= 0:
		return "the line charges nothing that can be taken back"
	case c.Amount.Sign() <= 0 || !isMinor(c.Amount, s.Currency):
		return "the amount is no positive number of minor units of " + s.Currency
	case slices.ContainsFunc(before, func(o CreditLine) bool { return o.Line == c.Line }):
		return "the line is named twice"
	}
	return ""
}

// creditLines credits parts of lines, with their share of the taxes.
func (s *State) creditLines(inv *InvoiceState, n CreditNote, lines []CreditLine) (Entry, error) {
	of, receivable, accrued := inv.Invoice, Receivable(s.OrgID), Accrued(s.OrgID)
	j := newJournal(&n)
	move := func(code Code, debit, credit Account, amount Amount) {
		j.move(code, debit, credit, amount, s.Currency, n.CreatedAt)
	}
	for i, c := range lines {
		if why := s.notCreditable(of, c, lines[:i]); why != "" {
			return Entry{}, fmt.Errorf("%w: credit %s of line %d of invoice %s: %s", ErrRequest, c.Amount, c.Line, of.Number, why)
		}
		l := &of.Lines[c.Line-1]
		if inv.lines[c.Line].d.Add(c.Amount.d).Cmp(l.Amount.d) > 0 {
			return Entry{}, fmt.Errorf("credit %s of line %d of invoice %s: %w: %s of %s are credited", c.Amount, c.Line, of.Number, ErrTooMuch, inv.lines[c.Line], l.Amount)
		}
		n.Subtotal = Amount{d: n.Subtotal.d.Add(c.Amount.d)}
		account, code := l.account()
		if code == CodeUsage || code == CodeLateUsage {
			move(code, accrued, account, c.Amount.Neg())
			move(CodeInvoiced, receivable, accrued, c.Amount.Neg())
			continue
		}
		move(code, receivable, account, c.Amount.Neg())
	}
	n.Lines = lines
	if err := n.shareTaxes(inv); err != nil {
		return Entry{}, err
	}
	for _, t := range n.Taxes {
		if t.Inclusive {
			move(CodeIncludedTax, RevenueIncludedTax, TaxPayable(t.Name), t.Amount.Neg())
		} else {
			move(CodeTax, receivable, TaxPayable(t.Name), t.Amount.Neg())
		}
	}
	if err := n.settle(inv); err != nil {
		return Entry{}, err
	}
	move(CodeCarried, receivable, Prepaid(s.OrgID), n.ToPrepaid)
	for _, u := range n.Restored {
		code, account := creditAccount(u.Kind, s.OrgID)
		move(code, account, receivable, u.Amount.Neg())
	}
	j.CauseHash = hashOf(&n)
	return s.seal(Entry{CreditNote: &n}, j)
}

// shareTaxes gives back of each tax what belongs to all that is credited by now,
// less what earlier notes gave back: with the last of it all of the tax is back.
func (n *CreditNote) shareTaxes(inv *InvoiceState) error {
	of := inv.Invoice
	base, err := sumOf(of.Subtotal, of.Adjustments, of.Discount.Neg())
	if err != nil {
		return err
	}
	credited := inv.base.d.Add(n.Subtotal.d)
	if credited.Cmp(base.d) > 0 {
		return fmt.Errorf("credit %s of invoice %s: %w: after discounts it came to %s, of which %s are credited", n.Subtotal, of.Number, ErrTooMuch, base, inv.base)
	}
	for i, t := range of.Taxes {
		all, err := roundRatio(t.Amount.d, credited, base.d, n.Currency)
		if err != nil {
			return err
		}
		part := Amount{d: all.d.Sub(inv.taxes[i].d)}
		n.Taxes = append(n.Taxes, TaxAmount{TaxRate: t.TaxRate, Base: n.Subtotal, Amount: part})
		if !t.Inclusive {
			n.Tax = Amount{d: n.Tax.d.Add(part.d)}
		}
	}
	n.Total = Amount{d: n.Subtotal.d.Add(n.Tax.d)}
	return nil
}

// settle decides where the credited amount goes.
func (n *CreditNote) settle(inv *InvoiceState) error {
	left := n.Total.d
	take := func(most decimal.Decimal) Amount {
		part := decimal.Min(left, most)
		left = left.Sub(part)
		return Amount{d: part}
	}
	n.OffDue = take(inv.Due.d)
	n.ToPrepaid = take(inv.Paid.d.Sub(inv.returned.d))
	uses := inv.Invoice.creditUses()
	slices.Reverse(uses)
	for _, u := range uses {
		if u.Amount = take(u.Amount.d.Sub(inv.restored[u.GrantID].d)); !u.Amount.IsZero() {
			n.Restored = append(n.Restored, u)
		}
	}
	if left.Sign() > 0 { // the rest was written off
		return fmt.Errorf("credit %s of invoice %s: %w: %s of it was neither paid nor is it due", n.Total, n.InvoiceNumber, ErrTooMuch, left)
	}
	return nil
}

func (s *State) moveCreditNote(n *CreditNote) error {
	inv := s.invoices[n.InvoiceID]
	inv.Notes++
	inv.Void = n.Full
	inv.Due = Amount{d: inv.Due.d.Sub(n.OffDue.d)}
	inv.returned = Amount{d: inv.returned.d.Add(n.ToPrepaid.d)}
	inv.base = Amount{d: inv.base.d.Add(n.Subtotal.d)}
	for _, l := range n.Lines {
		inv.lines[l.Line] = Amount{d: inv.lines[l.Line].d.Add(l.Amount.d)}
	}
	for i, t := range n.Taxes {
		inv.taxes[i] = Amount{d: inv.taxes[i].d.Add(t.Amount.d)}
	}
	for _, u := range n.Restored {
		inv.restored[u.GrantID] = Amount{d: inv.restored[u.GrantID].d.Add(u.Amount.d)}
	}
	if !n.ToPrepaid.IsZero() {
		s.give(prepaidGrant(n.ID, n.ToPrepaid, n.CreatedAt, "credit note "+n.Number))
	}
	if !n.TakenBack.IsZero() {
		back := []GrantUse{{GrantID: carriedID(n.InvoiceID), Kind: GrantPrepaid, Amount: n.TakenBack}}
		if err := s.spend(back, asIs); err != nil {
			return err
		}
	}
	return s.spend(n.Restored, negated)
}
