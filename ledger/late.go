package ledger

import (
	"fmt"
	"maps"
	"slices"

	"github.com/shopspring/decimal"
)

// originLines bill the late usage of one closed period: each bucket at list price,
// which proves what was stamped on it, and then, in one line, what the terms that
// were in force then make of it: what all usage of the period comes to with the
// late usage, less what it came to without.
func (r *rater) originLines(o *Origin, late []Quantity) ([]Line, error) {
	var lines []Line
	adjustment := decimal.Decimal{}
	for _, q := range late {
		list, err := r.list(q, notCovered)
		if err != nil {
			return nil, err
		}
		for i := range list {
			adjustment = adjustment.Sub(list[i].Exact.d)
		}
		lines = append(lines, list...)
	}
	if o.plain() {
		return lines, nil
	}
	all, err := merge(o.Billed, late)
	if err != nil {
		return nil, err
	}
	before, err := r.chargeOf(o, o.Billed)
	if err != nil {
		return nil, fmt.Errorf("usage of %s billed before: %w", o.Period.Label, err)
	}
	after, err := r.chargeOf(o, all)
	if err != nil {
		return nil, fmt.Errorf("usage of %s with what came late: %w", o.Period.Label, err)
	}
	amount, err := roundRatio(adjustment.Add(after).Sub(before), one, one, r.currency)
	if err != nil {
		return nil, fmt.Errorf("adjustment of %s: %w", o.Period.Label, err)
	}
	if !amount.IsZero() {
		lines = append(lines, Line{Kind: LineAdjustment, Origin: o.Period.Label, Exact: amount, Amount: amount})
	}
	return lines, nil
}

// plain reports whether late usage of the period is billed at list price, and
// that is all.
func (o *Origin) plain() bool {
	return !slices.ContainsFunc(o.Segments, func(s Segment) bool { return !s.Terms.Plain() })
}

// chargeOf is what usage of a closed period comes to under its terms.
func (r *rater) chargeOf(o *Origin, quantities []Quantity) (decimal.Decimal, error) {
	total := decimal.Decimal{}
	ofDays := daysOf(o.Segments)
	for i := range o.Segments {
		seg := &o.Segments[i]
		usage, err := r.segmentUsage(seg, i, ofDays, o.Period.Label, inSegment(quantities, i))
		if err != nil {
			return total, err
		}
		charge, err := seg.exactCharge(ofDays, usage, r.currency)
		if err != nil {
			return total, err
		}
		total = total.Add(charge)
	}
	return total, nil
}

func daysOf(segments []Segment) int {
	days := 0
	for _, s := range segments {
		days += s.Days
	}
	return days
}

func inSegment(quantities []Quantity, index int) []Quantity {
	var in []Quantity
	for _, q := range quantities {
		if q.Segment == index {
			in = append(in, q)
		}
	}
	return in
}

// usageKey is what quantities of one period are grouped by.
type usageKey struct {
	segment        int
	model, version string
}

// merge adds up quantities of one period, by segment, model and price version, in
// that order. They keep the origin of none.
func merge(lists ...[]Quantity) ([]Quantity, error) {
	groups := make(map[usageKey]Quantity)
	for _, list := range lists {
		for _, q := range list {
			key := usageKey{q.Segment, q.Model, q.PriceVersion}
			sum, ok := groups[key]
			if !ok {
				sum = Quantity{Model: q.Model, PriceVersion: q.PriceVersion, Segment: q.Segment}
			}
			if err := sum.add(q); err != nil {
				return nil, err
			}
			groups[key] = sum
		}
	}
	return slices.SortedFunc(maps.Values(groups), compareQuantities), nil
}

// add adds the counts of p; ErrInputs when one overflows.
func (q *Quantity) add(p Quantity) error {
	for _, c := range []struct {
		to   *uint64
		more uint64
	}{
		{&q.Tokens.Input, p.Tokens.Input}, {&q.Tokens.CacheRead, p.Tokens.CacheRead}, {&q.Tokens.CacheWrite5m, p.Tokens.CacheWrite5m},
		{&q.Tokens.CacheWrite1h, p.Tokens.CacheWrite1h}, {&q.Tokens.Output, p.Tokens.Output}, {&q.Tokens.Reasoning, p.Tokens.Reasoning},
		{&q.Images, p.Images}, {&q.Requests, p.Requests}, {&q.Empty, p.Empty},
	} {
		if *c.to += c.more; *c.to < c.more {
			return fmt.Errorf("%w: the quantities of %s at %s overflow", ErrInputs, q.Model, q.PriceVersion)
		}
	}
	q.Cost = q.Cost.Add(p.Cost)
	return nil
}

// BilledOf is what the invoices have counted of a period: its own, and those that
// came later with late usage of it. Void invoices count nothing. It returns
// ErrInputs when the counts overflow.
func BilledOf(label string, invoices []Invoice) ([]Quantity, error) {
	var lists [][]Quantity
	for _, inv := range invoices {
		if inv.Status == StatusVoid {
			continue
		}
		of := label
		if inv.Period.Label == label {
			of = ""
		}
		var list []Quantity
		for _, q := range inv.Inputs.Quantities {
			if q.Origin == of {
				list = append(list, q)
			}
		}
		lists = append(lists, list)
	}
	return merge(lists...)
}

// AdvanceOf is what the invoices have charged of a period's fee in advance. Void
// invoices charge nothing. It returns ErrAmount when the sum is out of range.
func AdvanceOf(p Period, invoices []Invoice) (Amount, error) {
	var sum Amount
	for _, inv := range invoices {
		if inv.Status == StatusVoid || !inv.Next.Start.Equal(p.Start) {
			continue
		}
		for _, l := range inv.Lines {
			if l.Kind != LineFeeAdvance {
				continue
			}
			var err error
			if sum, err = sum.Add(l.Amount); err != nil {
				return Amount{}, err
			}
		}
	}
	return sum, nil
}
