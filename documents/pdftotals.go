package documents

import (
	"fmt"

	"aione/ledger"
)

// total is one row under the lines.
type total struct {
	label  label
	amount ledger.Amount
}

// invoiceTotals gives the way from the lines to the total, which it returns
// ErrSums for if it does not lead there.
func invoiceTotals(inv *ledger.Invoice) ([]total, error) {
	var inTime, late ledger.Amount
	for _, l := range inv.Lines {
		sum := &inTime
		if l.Late() {
			sum = &late
		}
		var err error
		if *sum, err = sum.Add(l.Amount); err != nil {
			return nil, err
		}
	}
	all, err := inTime.Add(late)
	if err != nil {
		return nil, err
	}
	if all.Cmp(inv.Total) != 0 {
		return nil, fmt.Errorf("%w: invoice %s says %s, its lines %s", ErrSums, inv.Number, inv.Total, all)
	}
	totals := []total{{labelSubtotal, inTime}}
	if !late.IsZero() {
		totals = append(totals, total{labelLateUsage, late})
	}
	return totals, nil
}

// totals writes the way from the lines to the total, on one page.
func (d *invoicePDF) totals(rows []total) {
	const x, height, totalHeight = left + 84, 5.6, 10.0
	d.room(float64(len(rows))*height + totalHeight + 4)
	for _, r := range rows {
		d.text(x, d.y+height/2, d.say(r.label), body)
		d.textRight(right-1.5, d.y+height/2, d.money(r.amount), body)
		d.y += height
	}
	d.y += 1
	d.box(x-3, d.y, right-x+3, totalHeight, accent)
	st := style{size: 11, bold: true, colour: white}
	d.text(x, d.y+totalHeight/2, d.say(labelTotal), st)
	d.textRight(right-1.5, d.y+totalHeight/2, d.inv.Currency+" "+d.money(d.inv.Total), st)
	d.y += totalHeight + 6
}

// payment writes where to pay and what else the issuer wants to say.
func (d *invoicePDF) payment() {
	b := d.parties.Issuer.Bank
	if b != (Bank{}) {
		facts := []struct {
			label label
			text  string
		}{{labelHolder, b.AccountName}, {labelBank, b.BankName}, {labelAccount, b.AccountNumber}, {labelSWIFT, b.SWIFT}, {labelReference, d.number()}}
		d.room(7 + float64(len(facts))*5.2)
		d.text(left, d.y+2, d.say(labelPayment), heading)
		d.y += 6
		for _, f := range facts {
			if f.text == "" {
				continue
			}
			d.text(left, d.y+body.leading()/2, d.say(f.label), caption)
			d.y = d.paragraph(left+44, d.y, right-left-44, f.text, body) + 0.4
		}
		d.y += 4
	}
	if note := d.parties.Issuer.Note; note != "" {
		d.room(6 + float64(len(d.wrap(note, right-left, body)))*body.leading())
		d.text(left, d.y+2, d.say(labelNote), heading)
		d.y = d.paragraph(left, d.y+5, right-left, note, body) + 4
	}
}

// smallPrint says how anybody can prove the invoice.
func (d *invoicePDF) smallPrint() {
	texts := []string{
		d.say(proof(d.inv.Cut)),
		d.say(labelInputHash) + "  " + d.inv.InputHash.String(),
		d.say(labelInvoiceID) + "  " + d.inv.ID.String(),
	}
	lines := 0
	for _, t := range texts {
		lines += len(d.wrap(t, right-left, small))
	}
	d.room(4 + float64(lines)*small.leading())
	d.rule(left, right, d.y, 0.2, faint)
	d.y += 2
	for _, t := range texts {
		d.y = d.paragraph(left, d.y, right-left, t, small)
	}
}
