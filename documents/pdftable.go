package documents

import (
	"strconv"

	"aione/ledger"
)

// lineGroup is lines of an invoice under one heading.
type lineGroup struct {
	heading string
	rows    []lineRow
}

// lineRow is one line as it is printed.
type lineRow struct {
	n                                          int // its number on the invoice
	item, version, quantity, unitPrice, amount string
}

// lineGroups gives the lines in their order, under a heading wherever their kind
// changes.
func lineGroups(inv *ledger.Invoice, language Language) ([]lineGroup, error) {
	var groups []lineGroup
	for i, l := range inv.Lines {
		heading := language.of(labelUsageGroup)
		if l.Late() {
			heading = language.of(lateGroup(l.Origin))
		}
		if len(groups) == 0 || groups[len(groups)-1].heading != heading {
			groups = append(groups, lineGroup{heading: heading})
		}
		g := &groups[len(groups)-1]
		g.rows = append(g.rows, lineRow{
			n: i + 1, item: l.Model + " · " + language.of(bucketLabel(l.Bucket)), version: l.PriceVersion,
			quantity:  grouped(strconv.FormatUint(l.Quantity, 10)),
			unitPrice: grouped(l.UnitPrice.String()) + " / " + language.short(unitLabel(l.Unit)),
			amount:    grouped(l.Amount.Format(inv.Currency)),
		})
	}
	return groups, nil
}

func bucketLabel(b ledger.Bucket) label {
	if l, ok := bucketLabels[b]; ok {
		return l
	}
	return label{string(b), string(b)}
}

func unitLabel(u ledger.Unit) label {
	if l, ok := unitLabels[u]; ok {
		return l
	}
	return label{string(u), string(u)}
}

// Columns of the table of lines, from their left edge; numbers end at the edge
// of the next one.
const (
	columnItem      = left + 9
	columnVersion   = left + 72
	columnQuantity  = left + 101
	columnUnitPrice = left + 126
	columnAmount    = left + 153
	cellGap         = 3.0
	rowPadding      = 1.5
)

// table writes the lines, over as many pages as it takes.
func (d *invoicePDF) table(groups []lineGroup) {
	d.tableHead()
	for _, g := range groups {
		d.groupHead(g.heading, d.rowHeight(&g.rows[0]))
		for i := range g.rows {
			d.row(&g.rows[i])
		}
	}
	if len(groups) == 0 {
		d.text(columnItem, d.y+4, d.say(labelNoLines), body)
		d.y += 8
	}
	d.rule(left, right, d.y, 0.3, accent)
	d.y += 4
}

func (d *invoicePDF) tableHead() {
	const height = 7.0
	d.box(left, d.y, right-left, height, accent)
	st, y := style{size: 8, bold: true, colour: white}, d.y+height/2
	d.text(left+1.5, y, "#", st)
	d.text(columnItem, y, d.say(labelItem), st)
	d.text(columnVersion, y, d.say(labelPriceFrom), st)
	d.textRight(columnUnitPrice-cellGap, y, d.say(labelQuantity), st)
	d.textRight(columnAmount-cellGap, y, d.say(labelUnitPrice), st)
	d.textRight(right-1.5, y, d.say(labelAmount), st)
	d.y += height
}

// groupHead writes a heading with room for at least one row under it.
func (d *invoicePDF) groupHead(text string, rowHeight float64) {
	const height = 6.5
	if d.room(height + rowHeight) {
		d.tableHead()
	}
	d.text(columnItem, d.y+height/2+0.4, text, style{size: 8, bold: true, colour: accent})
	d.y += height
}

func (d *invoicePDF) cells(r *lineRow) (item, version []string) {
	return d.wrap(r.item, columnVersion-columnItem-cellGap, body), d.wrap(r.version, columnQuantity-columnVersion-cellGap, small)
}

func (d *invoicePDF) rowHeight(r *lineRow) float64 {
	item, version := d.cells(r)
	return max(float64(len(item))*body.leading(), float64(len(version))*small.leading()) + rowPadding
}

func (d *invoicePDF) row(r *lineRow) {
	height := d.rowHeight(r)
	if d.room(height) {
		d.tableHead()
	}
	item, version := d.cells(r)
	y := d.y + rowPadding/2
	first := y + body.leading()/2
	d.text(left+1.5, first, strconv.Itoa(r.n), small)
	for i, l := range item {
		d.text(columnItem, first+float64(i)*body.leading(), l, body)
	}
	for i, l := range version {
		d.text(columnVersion, first+float64(i)*small.leading(), l, small)
	}
	d.textRight(columnUnitPrice-cellGap, first, r.quantity, body)
	d.textRight(columnAmount-cellGap, first, r.unitPrice, body)
	d.textRight(right-1.5, first, r.amount, body)
	d.y += height
	d.rule(left, right, d.y, 0.1, faint)
}
