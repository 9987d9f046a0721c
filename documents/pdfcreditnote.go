package documents

import "aione/ledger"

// CreditNotePDF renders a credit note for the invoice that it takes back, whole
// or in part. It returns the errors of InvoicePDF.
func CreditNotePDF(note ledger.CreditNote, inv ledger.Invoice, parties Parties, language Language) ([]byte, error) {
	if err := language.check(); err != nil {
		return nil, err
	}
	if err := parties.Check(); err != nil {
		return nil, err
	}
	if err := checkInvoice(&inv); err != nil {
		return nil, err
	}
	if err := checkCreditNote(&note, &inv); err != nil {
		return nil, err
	}
	p := &paper{
		sheet:   newSheet(note.CreatedAt, language.of(labelCreditNote)+" "+note.Number, parties.Issuer.Name, language),
		parties: &parties, language: language, currency: note.Currency, title: labelCreditNote, number: note.Number,
		standing: labelPartCredit, colour: accent,
	}
	if note.Full {
		p.standing, p.colour = labelFullCredit, red
	}
	p.head([]fact{
		{labelNoteNumber, p.named()},
		{labelIssuedOn, note.CreatedOn.String()},
		{labelOfInvoice, note.InvoiceNumber},
		{labelPeriod, inv.Period.FirstDay().String() + " – " + inv.Period.LastDay().String()},
		{labelCurrency, note.Currency},
	})
	p.headline(labelCredited, note.Total, language.of(labelOfInvoice)+"  "+note.InvoiceNumber)
	p.table(creditedGroups(&note, &inv, language))
	onTop, inside := taxTotals(note.Taxes, note.Currency, language)
	p.totals(append([]total{{language.of(labelSubtotal), note.Subtotal}}, onTop...), labelCredited, note.Total, inside)
	p.section(labelSettlement, p.settlement(&note))
	p.remark(labelReason, note.Reason)
	p.remark(labelNote, parties.Issuer.Note)
	p.smallPrint(p.say(labelNoteID)+"  "+note.ID.String(), p.say(labelInvoiceID)+"  "+inv.ID.String(), p.say(labelInputHash)+"  "+inv.InputHash.String())
	p.everyPage()
	return p.bytes()
}

// creditedGroups are the lines of the invoice with what is credited of them.
func creditedGroups(note *ledger.CreditNote, inv *ledger.Invoice, language Language) []lineGroup {
	if len(note.Lines) == 0 {
		return nil
	}
	g := lineGroup{heading: language.of(labelCreditedLines)}
	for _, l := range note.Lines {
		row := newLineRow(inv, l.Line-1, language)
		row.quantity, row.unitPrice, row.amount = "", "", grouped(l.Amount.Format(note.Currency))
		g.rows = append(g.rows, row)
	}
	return []lineGroup{g}
}

// settlement says where the credited amount goes.
func (p *paper) settlement(note *ledger.CreditNote) []fact {
	money := func(a ledger.Amount) string {
		if a.IsZero() {
			return ""
		}
		return note.Currency + " " + p.money(a)
	}
	facts := []fact{{labelOffDue, money(note.OffDue)}, {labelToPrepaid, money(note.ToPrepaid)}}
	for _, use := range note.Restored {
		facts = append(facts, fact{labelRestored, money(use.Amount)})
	}
	return append(facts, fact{labelTakenBack, money(note.TakenBack)})
}
