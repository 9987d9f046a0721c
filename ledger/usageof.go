package ledger

// UsageOf are the parts of the usage counted that a line (the first is 1) bills,
// as lines of usage by the price version that was stamped: one for a line at list
// price, and for a tier all that its charge covers, whichever tier it fell into.
// Other lines come from terms and other lines: they have none.
func (inv Invoice) UsageOf(line int) []Line {
	if line < 1 || line > len(inv.Lines) {
		return nil
	}
	l := &inv.Lines[line-1]
	switch l.Kind {
	case LineUsage:
		parts := inv.partsOf(l, func(q *Quantity, b Bucket) bool { return b == l.Bucket && inv.billedVersion(q) == l.PriceVersion })
		// Versions that a correction bills at one price have lines that look alike.
		before := 0
		for i := range line - 1 {
			if o := &inv.Lines[i]; o.Kind == l.Kind && o.Bucket == l.Bucket && o.PriceVersion == l.PriceVersion && o.Origin == l.Origin && o.Segment == l.Segment {
				before++
			}
		}
		if before < len(parts) {
			return parts[before : before+1]
		}
	case LineTier:
		if l.Late() || l.Segment >= len(inv.Segments) {
			return nil
		}
		charges := inv.Segments[l.Segment].Terms.Charges
		for i := range charges {
			if c := &charges[i]; c.Name == l.Name {
				return inv.partsOf(l, func(q *Quantity, b Bucket) bool { return c.covers(q.Model, b) })
			}
		}
	}
	return nil
}

// partsOf are the buckets with something in them of the quantities that belong
// where the line does, in the order of the invoice.
func (inv *Invoice) partsOf(l *Line, belongs func(*Quantity, Bucket) bool) []Line {
	var parts []Line
	for i := range inv.Inputs.Quantities {
		q := &inv.Inputs.Quantities[i]
		if q.Origin != l.Origin || q.Segment != l.Segment {
			continue
		}
		for _, b := range buckets {
			if quantity := b.quantity(&q.Tokens, q.Images, q.charged()); quantity > 0 && belongs(q, b.name) {
				parts = append(parts, Line{Kind: LineUsage, Model: q.Model, Bucket: b.name, PriceVersion: q.PriceVersion,
					Origin: q.Origin, Segment: q.Segment, Quantity: quantity, Unit: b.unit})
			}
		}
	}
	return parts
}

// billedVersion is the price version that a quantity was billed at.
func (inv *Invoice) billedVersion(q *Quantity) string {
	if price, ok := inv.Correction.prices()[q.PriceVersion]; ok {
		return price.Version
	}
	return q.PriceVersion
}
