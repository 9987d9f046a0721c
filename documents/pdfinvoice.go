package documents

import (
	"fmt"
	"slices"

	"aione/ledger"
)

// Settled is what of an invoice's total is not due any more, and why. The zero value
// is an invoice of which all is due.
type Settled struct{ Paid, Credited, WrittenOff ledger.Amount }

// SettledOf is what an invoice's standing says; of a draft, which has none, nothing.
func SettledOf(at ledger.InvoiceState) (s Settled, err error) {
	if at.Invoice == nil {
		return s, nil
	}
	s.Paid, s.WrittenOff, s.Credited = at.Paid, at.WrittenOff, at.Invoice.Total
	for _, part := range []ledger.Amount{at.Paid, at.WrittenOff, at.Due} {
		if s.Credited, err = s.Credited.Sub(part); err != nil {
			return s, err
		}
	}
	return s, nil
}

// due is what of a total is still to be paid; ErrSums when more than all of it is
// settled.
func (s Settled) due(total ledger.Amount) (ledger.Amount, error) {
	due := total
	for _, part := range []ledger.Amount{s.Paid, s.Credited, s.WrittenOff} {
		var err error
		if due, err = due.Sub(part); err != nil {
			return due, err
		}
	}
	if due.Sign() < 0 && due.Cmp(total) != 0 {
		return due, fmt.Errorf("%w: more than the total of %s is settled", ErrSums, total)
	}
	return due, nil
}

// InvoicePDF renders an invoice on A4 pages, with a real font embedded, text that
// can be selected, and bytes that depend on the arguments only. What is due is what
// is not settled yet. What was written off is shown under the total: such an invoice
// is paid only as far as nothing is due. It returns ErrParty when a name cannot be
// shown, and ErrSums when the invoice contradicts itself.
func InvoicePDF(inv ledger.Invoice, settled Settled, parties Parties, language Language) ([]byte, error) {
	if err := language.check(); err != nil {
		return nil, err
	}
	if err := parties.Check(); err != nil {
		return nil, err
	}
	if err := checkInvoice(&inv); err != nil {
		return nil, err
	}
	p := &paper{
		sheet:   newSheet(inv.CreatedAt, language.of(labelInvoice)+" "+inv.Number, parties.Issuer.Name, language),
		parties: &parties, language: language, currency: inv.Currency, title: labelInvoice, number: inv.Number,
		standing: statusLabel(inv.Status), watermark: inv.Status == ledger.StatusDraft || inv.Status == ledger.StatusVoid,
		colour: statusColour(inv.Status), priced: true,
	}
	if inv.Status == ledger.StatusPaid && !settled.WrittenOff.IsZero() {
		p.standing, p.colour = labelWrittenOff, red
	}
	facts := []fact{
		{labelNumber, p.named()},
		{labelIssuedOn, inv.CreatedOn.String()},
		{labelDueDate, inv.DueDate.String()},
		{labelPeriod, inv.Period.FirstDay().String() + " – " + inv.Period.LastDay().String()},
		{labelCurrency, inv.Currency},
		{labelReference, inv.Number},
	}
	if inv.Correction != nil {
		facts = append(facts, fact{labelReplaces, inv.Correction.Number})
	}
	p.head(facts)
	rows, under := invoiceTotals(&inv, language)
	what, figure, aside := labelTotal, inv.Total, ""
	if inv.Status != ledger.StatusPaid && inv.Status != ledger.StatusVoid {
		due, err := settled.due(inv.Total)
		if err != nil {
			return nil, err
		}
		what, figure, aside = labelAmountDue, due, language.of(labelDueDate)+"  "+inv.DueDate.String()
		under = append(under, notZero(total{language.of(labelPaidPart), settled.Paid.Neg()}, total{language.of(labelCredited), settled.Credited.Neg()})...)
	}
	p.headline(what, figure, aside)
	p.table(lineGroups(&inv, language))
	under = append(under, notZero(total{language.of(labelWrittenOff), settled.WrittenOff.Neg()})...)
	p.totals(rows, labelTotal, inv.Total, under)
	if bank := parties.Issuer.Bank; bank != (Bank{}) {
		p.section(labelPayment, []fact{
			{labelHolder, bank.AccountName}, {labelBank, bank.BankName}, {labelAccount, bank.AccountNumber}, {labelSWIFT, bank.SWIFT},
			{labelReference, inv.Number},
		})
	}
	if inv.Correction != nil {
		p.remark(labelReason, inv.Correction.Reason)
	}
	p.remark(labelNote, parties.Issuer.Note)
	p.smallPrint(p.say(proof(inv.Cut)), p.say(labelInputHash)+"  "+inv.InputHash.String(), p.say(labelInvoiceID)+"  "+inv.ID.String())
	p.everyPage()
	return p.bytes()
}

func statusColour(s ledger.Status) colour {
	switch s {
	case ledger.StatusPaid:
		return green
	case ledger.StatusOverdue, ledger.StatusVoid:
		return red
	case ledger.StatusDraft:
		return grey
	}
	return accent
}

func notZero(rows ...total) []total {
	return slices.DeleteFunc(rows, func(r total) bool { return r.amount.IsZero() })
}

// invoiceTotals gives the way from the lines to the total, and the taxes that
// are inside it.
func invoiceTotals(inv *ledger.Invoice, language Language) (rows, inside []total) {
	rows = []total{{language.of(labelSubtotal), inv.Subtotal}}
	if !inv.Adjustments.IsZero() {
		rows = append(rows, total{language.of(labelLateUsage), inv.Adjustments})
	}
	if !inv.Discount.IsZero() {
		rows = append(rows, total{language.of(labelDiscount), inv.Discount.Neg()})
	}
	onTop, inside := taxTotals(inv.Taxes, inv.Currency, language)
	rows = append(rows, onTop...)
	for i := range inv.Lines {
		switch l := &inv.Lines[i]; l.Kind {
		case ledger.LineCredit:
			rows = append(rows, total{language.with(labelCredit, l.Name), l.Amount})
		case ledger.LineCarried:
			rows = append(rows, total{language.of(labelCarried), l.Amount})
		}
	}
	return rows, inside
}

// taxTotals are the taxes that are added, and those that are inside the prices.
func taxTotals(taxes []ledger.TaxAmount, currency string, language Language) (onTop, inside []total) {
	for _, t := range taxes {
		to, how := &onTop, labelTaxOn
		if t.Inclusive {
			to, how = &inside, labelTaxInside
		}
		*to = append(*to, total{t.Name + " " + t.Pct.String() + "% " + language.of(how) + " " + grouped(t.Base.Format(currency)), t.Amount})
	}
	return onTop, inside
}
