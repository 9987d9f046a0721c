package documents

import "strconv"

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

// Columns of the table of lines, from their left edge; numbers end at the edge
// of the next one.
const (
	columnItem      = left + 9
	columnVersion   = left + 72
	columnQuantity  = left + 99
	columnUnitPrice = left + 126
	columnAmount    = left + 153
	cellGap         = 3.0
	rowPadding      = 1.5
)

// table writes the lines, over as many pages as it takes.
func (p *paper) table(groups []lineGroup) {
	p.room(30) // the head with a group and a row
	p.tableHead()
	for _, g := range groups {
		p.groupHead(g.heading, p.rowHeight(&g.rows[0]))
		for i := range g.rows {
			p.row(&g.rows[i])
		}
	}
	if len(groups) == 0 {
		p.text(columnItem, p.y+4, p.say(labelNoLines), body)
		p.y += 8
	}
	p.rule(left, right, p.y, 0.3, accent)
	p.y += 4
}

func (p *paper) tableHead() {
	const height = 7.0
	p.box(left, p.y, right-left, height, accent)
	st, y := style{size: 8, bold: true, colour: white}, p.y+height/2
	p.text(left+1.5, y, "#", st)
	p.text(columnItem, y, p.say(labelItem), st)
	p.text(columnVersion, y, p.say(labelPriceFrom), st)
	if p.priced {
		p.textRight(columnUnitPrice-cellGap, y, p.say(labelQuantity), st)
		p.textRight(columnAmount-cellGap, y, p.say(labelUnitPrice), st)
	}
	p.textRight(right-1.5, y, p.say(labelAmount), st)
	p.y += height
}

// groupHead writes a heading with room for at least one row under it.
func (p *paper) groupHead(text string, rowHeight float64) {
	const height = 6.5
	if p.room(height + rowHeight) {
		p.tableHead()
	}
	p.text(columnItem, p.y+height/2+0.4, text, style{size: 8, bold: true, colour: accent})
	p.y += height
}

// cells breaks the texts of a row; the item has the room of cells that are empty.
func (p *paper) cells(r *lineRow) (item, version []string) {
	end := columnVersion
	switch {
	case r.version == "" && r.quantity == "":
		end = columnAmount
	case r.version == "":
		end = columnQuantity
	}
	return p.wrap(r.item, end-columnItem-cellGap, body), p.wrap(r.version, columnQuantity-columnVersion-cellGap, small)
}

func (p *paper) rowHeight(r *lineRow) float64 {
	item, version := p.cells(r)
	return max(float64(len(item))*body.leading(), float64(len(version))*small.leading()) + rowPadding
}

func (p *paper) row(r *lineRow) {
	height := p.rowHeight(r)
	if p.room(height) {
		p.tableHead()
	}
	item, version := p.cells(r)
	y := p.y + rowPadding/2
	first := y + body.leading()/2
	p.text(left+1.5, first, strconv.Itoa(r.n), small)
	for i, l := range item {
		p.text(columnItem, first+float64(i)*body.leading(), l, body)
	}
	for i, l := range version {
		p.text(columnVersion, first+float64(i)*small.leading(), l, small)
	}
	p.cellRight(columnQuantity, columnUnitPrice-cellGap, first, r.quantity, body)
	p.cellRight(columnUnitPrice, columnAmount-cellGap, first, r.unitPrice, body)
	p.cellRight(columnAmount, right-1.5, first, r.amount, body)
	p.y += height
	p.rule(left, right, p.y, 0.1, faint)
}
