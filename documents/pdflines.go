package documents

import (
	"fmt"
	"strconv"
	"strings"

	"aione/ledger"
)

// lineGroups gives the lines of an invoice in their order, under a heading
// wherever what they are about changes. Taxes and credits are not among them:
// they stand under the lines.
func lineGroups(inv *ledger.Invoice, language Language) []lineGroup {
	var groups []lineGroup
	for i := range inv.Lines {
		l := &inv.Lines[i]
		switch l.Kind {
		case ledger.LineTax, ledger.LineCredit, ledger.LineCarried:
			continue
		}
		heading := lineHeading(inv, l, language)
		if len(groups) == 0 || groups[len(groups)-1].heading != heading {
			groups = append(groups, lineGroup{heading: heading})
		}
		g := &groups[len(groups)-1]
		g.rows = append(g.rows, newLineRow(inv, i, language))
	}
	return groups
}

func newLineRow(inv *ledger.Invoice, i int, language Language) lineRow {
	l := &inv.Lines[i]
	row := lineRow{
		n: i + 1, item: lineItem(inv, l, language), version: l.PriceVersion, amount: grouped(l.Amount.Format(inv.Currency)),
	}
	if l.Unit != "" {
		row.quantity = grouped(strconv.FormatUint(l.Quantity, 10))
		row.unitPrice = grouped(l.UnitPrice.String()) + " / " + language.short(unitLabel(l.Unit))
	}
	return row
}

func lineHeading(inv *ledger.Invoice, l *ledger.Line, language Language) string {
	switch {
	case l.Origin == ledger.OriginEarlier:
		return language.of(labelLateEarlier)
	case l.Late():
		return language.with(labelLateGroup, l.Origin)
	}
	switch l.Kind {
	case ledger.LineFee, ledger.LineFeeCharged, ledger.LineFeeAdvance:
		return language.of(labelFeeGroup)
	case ledger.LineDiscount:
		return language.of(labelDiscount)
	}
	if s, ok := segmentOf(inv, l); ok && len(inv.Segments) > 1 {
		return language.with(labelUsageGroup, strings.TrimSpace(dates(s)+"  "+s.PlanCode))
	}
	return language.of(labelUsageGroup)
}

// segmentOf finds the part of the line's period that it is about.
func segmentOf(inv *ledger.Invoice, l *ledger.Line) (ledger.Segment, bool) {
	segments := inv.Segments
	if l.Late() {
		segments = nil
		for i := range inv.Origins {
			if inv.Origins[i].Period.Label == l.Origin {
				segments = inv.Origins[i].Segments
			}
		}
	}
	if l.Segment < 0 || l.Segment >= len(segments) {
		return ledger.Segment{}, false
	}
	return segments[l.Segment], true
}

// dates are the first and the last local date of a segment.
func dates(s ledger.Segment) string {
	return s.First.String() + " – " + s.First.AddDays(s.Days-1).String()
}

// lineItem says what a line is for: its parts, as far as it has them.
func lineItem(inv *ledger.Invoice, l *ledger.Line, language Language) string {
	var parts []string
	add := func(has bool, part string) {
		if has && part != "" {
			parts = append(parts, part)
		}
	}
	add(l.Kind != ledger.LineUsage, language.of(lineKind(l.Kind)))
	add(l.Kind == ledger.LineFeeAdvance && !inv.Next.Start.IsZero(), dates(inv.Next))
	add(true, l.Name)
	add(true, l.Model)
	add(true, language.of(bucketLabel(l.Bucket)))
	add(l.Tier > 0, fmt.Sprintf("%s %d", language.of(labelTier), l.Tier))
	add(!l.FlatFee.IsZero(), language.with(labelFlatFee, grouped(l.FlatFee.Format(inv.Currency))))
	add(l.OfDays > 0, fmt.Sprintf("%d/%d %s", l.Days, l.OfDays, language.of(labelDays)))
	add(!l.Pct.IsZero(), l.Pct.String()+"% × "+grouped(l.Base.Format(inv.Currency)))
	return strings.Join(parts, " · ")
}
