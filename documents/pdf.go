package documents

import (
	"errors"
	"strings"

	"aione/ledger"
)

// ErrSums is returned when the lines of an invoice do not add up to what it says:
// it has been changed, or this package does not know all of its parts.
var ErrSums = errors.New("invoice does not add up")

// InvoicePDF renders an invoice on A4 pages, with a real font embedded, text that
// can be selected, and bytes that depend on the arguments only. It returns
// ErrParty when a name cannot be shown, and ErrSums when the invoice contradicts
// itself.
func InvoicePDF(inv ledger.Invoice, parties Parties, language Language) ([]byte, error) {
	if err := language.check(); err != nil {
		return nil, err
	}
	if err := parties.Check(); err != nil {
		return nil, err
	}
	groups, err := lineGroups(&inv, language)
	if err != nil {
		return nil, err
	}
	totals, err := invoiceTotals(&inv)
	if err != nil {
		return nil, err
	}
	d := &invoicePDF{
		sheet: newSheet(&inv, language.of(labelInvoice)+" "+inv.Number, parties.Issuer.Name, language),
		inv:   &inv, parties: &parties, language: language,
	}
	d.firstPage()
	d.table(groups)
	d.totals(totals)
	d.payment()
	d.smallPrint()
	d.everyPage()
	return d.sheet.bytes()
}

// invoicePDF draws one invoice.
type invoicePDF struct {
	*sheet
	inv      *ledger.Invoice
	parties  *Parties
	language Language
}

func (d *invoicePDF) say(l label) string { return d.language.of(l) }

func (d *invoicePDF) money(a ledger.Amount) string { return grouped(a.Format(d.inv.Currency)) }

// number is the invoice's, or that it has none.
func (d *invoicePDF) number() string {
	if d.inv.Number == "" {
		return d.say(labelNoNumber)
	}
	return d.inv.Number
}

// firstPage writes who bills whom, for what, how much and until when.
func (d *invoicePDF) firstPage() {
	d.pdf.AddPage()
	d.y = top
	const half = 92.0
	issuerEnds := d.party(left, d.y-1, half, &d.parties.Issuer.Party, style{size: 13, colour: ink})
	d.textRight(right, d.y+3, d.say(labelInvoice), titleFont)
	d.badge(right, d.y+12)
	d.y = max(issuerEnds, d.y+18) + 3
	d.rule(left, right, d.y, 0.5, accent)
	d.y += 5

	d.text(left, d.y+2, d.say(labelBillTo), heading)
	billToEnds := d.party(left, d.y+5.5, half, &d.parties.BillTo, style{size: 11, colour: ink})
	factsEnd := d.facts(left+half+8, d.y)
	d.y = max(billToEnds, factsEnd) + 5
	d.amountDue()
}

// party writes a name with what is known of it, and gives where it ends.
func (d *invoicePDF) party(x, y, width float64, p *Party, name style) float64 {
	y = d.paragraph(x, y, width, p.Name, name) + 0.8
	for _, l := range p.Address {
		y = d.paragraph(x, y, width, l, body)
	}
	for _, fact := range []struct {
		label label
		text  string
	}{{labelTaxID, p.TaxID}, {labelPhone, p.Phone}, {labelEmail, p.Email}} {
		if fact.text != "" {
			y = d.paragraph(x, y, width, d.say(fact.label)+"  "+fact.text, body)
		}
	}
	return y
}

// badge says where the invoice stands.
func (d *invoicePDF) badge(x, y float64) {
	c := accent
	switch d.inv.Status {
	case ledger.StatusPaid:
		c = green
	case ledger.StatusOverdue, ledger.StatusVoid:
		c = red
	case ledger.StatusDraft:
		c = grey
	}
	text, st := d.say(d.statusLabel()), style{size: 9, bold: true, colour: c}
	w := d.width(text, st) + 6
	d.pdf.SetDrawColor(c.r, c.g, c.b)
	d.pdf.SetLineWidth(0.35)
	d.pdf.RoundedRect(x-w, y-3, w, 6, 1.2, "1234", "D")
	d.text(x-w+3, y, text, st)
}

func (d *invoicePDF) statusLabel() label {
	if l, ok := statusLabels[d.inv.Status]; ok {
		return l
	}
	return label{string(d.inv.Status), string(d.inv.Status)}
}

// facts writes the table of dates and numbers, and gives where it ends.
func (d *invoicePDF) facts(x, y float64) float64 {
	for _, fact := range []struct {
		label label
		text  string
	}{
		{labelNumber, d.number()},
		{labelIssuedOn, d.inv.CreatedOn.String()},
		{labelDueDate, d.inv.DueDate.String()},
		{labelPeriod, d.inv.Period.FirstDay().String() + " – " + d.inv.Period.LastDay().String()},
		{labelCurrency, d.inv.Currency},
		{labelReference, d.number()},
	} {
		d.text(x, y+2, d.say(fact.label), caption)
		d.textRight(right, y+2, fact.text, body)
		y += 5
	}
	return y
}

// amountDue writes the one figure that everybody looks for.
func (d *invoicePDF) amountDue() {
	const height = 13.0
	d.box(left, d.y, right-left, height, pale)
	d.box(left, d.y, 1.2, height, accent)
	d.text(left+5, d.y+height/2, d.say(labelAmountDue), style{size: 10, bold: true, colour: accent})
	d.text(left+62, d.y+height/2, d.say(labelDueDate)+"  "+d.inv.DueDate.String(), caption)
	d.textRight(right-4, d.y+height/2, d.inv.Currency+" "+d.money(d.inv.Total), style{size: 15, bold: true, colour: ink})
	d.y += height + 5
}

// nextPage begins a page that says what it continues.
func (d *invoicePDF) nextPage() {
	d.pdf.AddPage()
	d.y = top - 4
	d.text(left, d.y, d.parties.Issuer.Name, caption)
	d.textRight(right, d.y, d.say(labelInvoice)+" "+d.number()+" ("+d.say(labelContinued)+")", caption)
	d.rule(left, right, d.y+4, 0.2, faint)
	d.y += 8
}

// room begins a page unless so many millimetres are left on this one, and
// reports whether it did.
func (d *invoicePDF) room(height float64) bool {
	if d.y+height <= bottom {
		return false
	}
	d.nextPage()
	return true
}

// everyPage writes what each page has, when it is known how many there are.
func (d *invoicePDF) everyPage() {
	pages := d.pdf.PageNo()
	for n := 1; n <= pages; n++ {
		d.pdf.SetPage(n)
		d.rule(left, right, footerY-4, 0.2, faint)
		d.text(left, footerY, d.parties.Issuer.Name+" · "+d.number(), small)
		d.textRight(right, footerY, d.say(pageOf(n, pages)), small)
		switch d.inv.Status {
		case ledger.StatusDraft:
			d.watermark(d.say(d.statusLabel()), grey)
		case ledger.StatusVoid:
			d.watermark(d.say(d.statusLabel()), red)
		}
	}
}

// grouped puts commas between the thousands of a plain decimal number.
func grouped(number string) string {
	sign := ""
	if strings.HasPrefix(number, "-") {
		sign, number = "-", number[1:]
	}
	whole, fraction, hasFraction := strings.Cut(number, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if hasFraction {
		whole += "." + fraction
	}
	return sign + whole
}
