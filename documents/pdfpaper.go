package documents

import (
	"slices"
	"strings"

	"aione/ledger"
)

// paper draws what invoices and credit notes share.
type paper struct {
	*sheet
	parties   *Parties
	language  Language
	currency  string
	title     label
	number    string // empty: not numbered yet
	standing  label  // where the document stands
	colour    colour // of standing
	watermark bool   // standing is written across every page too
	priced    bool   // its lines have quantities and prices
}

// fact is one row of a table of names and values; without a text it is left out.
type fact struct {
	label label
	text  string
}

func (p *paper) say(l label) string { return p.language.of(l) }

func (p *paper) money(a ledger.Amount) string { return grouped(a.Format(p.currency)) }

// named is the number of the document, or that it has none.
func (p *paper) named() string {
	if p.number == "" {
		return p.say(labelNoNumber)
	}
	return p.number
}

const (
	partyWidth     = 92.0
	partyHeightMax = 88.0
	factsX         = left + 100
)

// head begins the first page: who bills whom, and what is to be known first.
func (p *paper) head(facts []fact) {
	p.pdf.AddPage()
	p.y = top
	issuerEnds := p.party(left, p.y-1, &p.parties.Issuer.Party, style{size: 13, colour: ink})
	p.textRight(right, p.y+3, p.say(p.title), titleFont)
	p.badge(right, p.y+12)
	p.y = max(issuerEnds, p.y+18) + 3
	p.rule(left, right, p.y, 0.5, accent)
	p.y += 5

	p.text(left, p.y+2, p.say(labelBillTo), heading)
	billToEnds := p.party(left, p.y+5.5, &p.parties.BillTo, style{size: 11, colour: ink})
	y := p.y
	for _, f := range facts {
		if f.text == "" {
			continue
		}
		p.text(factsX, y+2, p.say(f.label), caption)
		p.cellRight(factsX+38, right, y+2, f.text, body)
		y += 5
	}
	p.y = max(billToEnds, y) + 5
}

// party writes a name with what is known of it, smaller if that is very much, and
// gives where it ends.
func (p *paper) party(x, y float64, party *Party, name style) float64 {
	texts := slices.Clone(party.Address)
	for _, f := range []fact{{labelTaxID, party.TaxID}, {labelPhone, party.Phone}, {labelEmail, party.Email}} {
		if f.text != "" {
			texts = append(texts, p.say(f.label)+"  "+f.text)
		}
	}
	rest := body
	height := func() (mm float64) {
		mm = float64(len(p.wrap(party.Name, partyWidth, name))) * name.leading()
		for _, t := range texts {
			mm += float64(len(p.wrap(t, partyWidth, rest))) * rest.leading()
		}
		return mm
	}
	for height() > partyHeightMax {
		name.size, rest.size = name.size*0.93, rest.size*0.93
	}
	y = p.paragraph(x, y, partyWidth, party.Name, name) + 0.8
	for _, t := range texts {
		y = p.paragraph(x, y, partyWidth, t, rest)
	}
	return y
}

// badge says where the document stands, in a frame that ends at x.
func (p *paper) badge(x, y float64) {
	text, st := p.say(p.standing), style{size: 9, bold: true, colour: p.colour}
	w := p.width(text, st) + 6
	p.pdf.SetDrawColor(st.colour.r, st.colour.g, st.colour.b)
	p.pdf.SetLineWidth(0.35)
	p.pdf.RoundedRect(x-w, y-3, w, 6, 1.2, "1234", "D")
	p.text(x-w+3, y, text, st)
}

// headline writes the one figure that everybody looks for.
func (p *paper) headline(what label, amount ledger.Amount, aside string) {
	const height = 13.0
	p.room(height)
	middle := p.y + height/2
	p.box(left, p.y, right-left, height, pale)
	p.box(left, p.y, 1.2, height, accent)
	p.text(left+5, middle, p.say(what), style{size: 10, bold: true, colour: accent})
	p.text(left+62, middle, aside, caption)
	p.cellRight(left+110, right-4, middle, p.currency+" "+p.money(amount), style{size: 15, bold: true, colour: ink})
	p.y += height + 5
}

// nextPage begins a page that says what it continues.
func (p *paper) nextPage() {
	p.pdf.AddPage()
	p.y = top - 4
	p.text(left, p.y, p.clip(p.parties.Issuer.Name, 78, caption), caption)
	p.cellRight(left+80, right, p.y, p.say(p.title)+" "+p.named()+" ("+p.say(labelContinued)+")", caption)
	p.rule(left, right, p.y+4, 0.2, faint)
	p.y += 8
}

// room begins a page unless so many millimetres are left on this one, and
// reports whether it did.
func (p *paper) room(height float64) bool {
	if p.y+height <= bottom {
		return false
	}
	p.nextPage()
	return true
}

// everyPage writes what each page has, when it is known how many there are.
func (p *paper) everyPage() {
	pages := p.pdf.PageNo()
	for n := 1; n <= pages; n++ {
		p.pdf.SetPage(n)
		p.rule(left, right, footerY-4, 0.2, faint)
		p.text(left, footerY, p.clip(p.parties.Issuer.Name+" · "+p.named(), 130, small), small)
		p.textRight(right, footerY, p.say(pageOf(n, pages)), small)
		if p.watermark {
			p.across(p.say(p.standing), p.colour)
		}
	}
}

// total is one row under the lines.
type total struct {
	text   string
	amount ledger.Amount
}

// totals writes the way from the lines to the total, on one page, and under it
// what is to be known of the total: what is inside it already, what was given up.
func (p *paper) totals(rows []total, what label, sum ledger.Amount, under []total) {
	const x, height, sumHeight = left + 84, 5.6, 10.0
	write := func(rows []total, st style) {
		for _, r := range rows {
			lines := p.wrap(r.text, right-x-27, st)
			p.room(height + float64(len(lines)-1)*st.leading())
			for i, l := range lines {
				p.text(x, p.y+height/2+float64(i)*st.leading(), l, st)
			}
			p.cellRight(right-26, right-1.5, p.y+height/2, p.money(r.amount), st)
			p.y += height + float64(len(lines)-1)*st.leading()
		}
	}
	p.room(min(float64(len(rows)+len(under))*height+sumHeight+4, bottom-top))
	write(rows, body)
	p.y += 1
	p.room(sumHeight)
	p.box(x-3, p.y, right-x+3, sumHeight, accent)
	st := style{size: 11, bold: true, colour: white}
	p.text(x, p.y+sumHeight/2, p.say(what), st)
	p.cellRight(x+36, right-1.5, p.y+sumHeight/2, p.currency+" "+p.money(sum), st)
	p.y += sumHeight + 1
	write(under, caption)
	p.y += 5
}

// section writes a heading and a table of facts under it, if there are any.
func (p *paper) section(what label, facts []fact) {
	const textX = left + 46
	facts = slices.DeleteFunc(facts, func(f fact) bool { return f.text == "" })
	if len(facts) == 0 {
		return
	}
	p.room(min(7+float64(len(facts))*5.2, bottom-top))
	p.text(left, p.y+2, p.say(what), heading)
	p.y += 6
	for _, f := range facts {
		p.room(body.leading())
		p.text(left, p.y+body.leading()/2, p.say(f.label), caption)
		p.flow(textX, f.text, body)
		p.y += 0.4
	}
	p.y += 4
}

// remark writes a heading and a text under it.
func (p *paper) remark(what label, text string) {
	if text == "" {
		return
	}
	p.room(6 + 2*body.leading())
	p.text(left, p.y+2, p.say(what), heading)
	p.y += 5
	p.flow(left, text, body)
	p.y += 4
}

// smallPrint ends the document.
func (p *paper) smallPrint(texts ...string) {
	p.room(4 + float64(len(texts))*small.leading())
	p.rule(left, right, p.y, 0.2, faint)
	p.y += 2
	for _, t := range texts {
		p.flow(left, t, small)
	}
}

// flow writes a text from x to the right margin, over as many pages as it takes.
func (p *paper) flow(x float64, text string, st style) {
	for _, l := range p.wrap(text, right-x, st) {
		p.room(st.leading())
		p.text(x, p.y+st.leading()/2, l, st)
		p.y += st.leading()
	}
}

// grouped puts commas between the thousands of a plain decimal number.
func grouped(number string) string {
	sign := ""
	if number != "" && number[0] == '-' {
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
