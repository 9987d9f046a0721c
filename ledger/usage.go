package ledger

import (
	"fmt"
	"math/bits"

	"github.com/shopspring/decimal"

	"aione/catalog"
)

// rater turns quantities of usage into lines. It proves the cost stamped on each
// quantity, also where another price is billed.
type rater struct {
	currency string
	prices   map[string]catalog.Price
	repriced map[string]catalog.Price // billed instead of the stamped version
	used     map[string]catalog.Price // those of prices that usage was stamped with
}

// segmentUsage makes the lines of a segment's usage: buckets at list price, then
// the tiers of its charges, then the included tokens.
func (r *rater) segmentUsage(seg *Segment, index, ofDays int, origin string, quantities []Quantity) ([]Line, error) {
	var lines []Line
	covered := make([]uint64, len(seg.Terms.Charges))
	for _, q := range quantities {
		list, err := r.list(q, func(b Bucket, quantity uint64) (bool, error) {
			for i := range seg.Terms.Charges {
				if c := &seg.Terms.Charges[i]; c.covers(q.Model, b) {
					sum, carry := bits.Add64(covered[i], quantity, 0)
					if carry != 0 {
						return true, fmt.Errorf("%w: the quantity of charge %s overflows", ErrInputs, c.Name)
					}
					covered[i] = sum
					return true, nil
				}
			}
			return false, nil
		})
		if err != nil {
			return nil, err
		}
		lines = append(lines, list...)
	}
	included, err := r.includedTokens(lines, prorateFloor(seg.Terms.IncludedTokens, seg.Days, ofDays))
	if err != nil {
		return nil, err
	}
	for i := range seg.Terms.Charges {
		tiers, err := seg.Terms.Charges[i].lines(covered[i], r.currency)
		if err != nil {
			return nil, fmt.Errorf("charge %s: %w", seg.Terms.Charges[i].Name, err)
		}
		lines = append(lines, tiers...)
	}
	for i := range included {
		included[i].Days, included[i].OfDays = seg.Days, ofDays
	}
	lines = append(lines, included...)
	for i := range lines {
		lines[i].Origin, lines[i].Segment = origin, index
	}
	return lines, nil
}

// list makes the list-price lines of a quantity, save of the buckets that
// covered says are charged otherwise, and checks the whole of it against the cost
// that its rows were stamped with.
func (r *rater) list(q Quantity, covered func(Bucket, uint64) (bool, error)) ([]Line, error) {
	stamped, err := priceOf(q, r.prices, r.currency)
	if err != nil {
		return nil, err
	}
	r.used[stamped.Version] = stamped
	price, ok := r.repriced[stamped.Version]
	switch {
	case !ok:
		price = stamped
	case price.Model != stamped.Model:
		return nil, fmt.Errorf("%w: %s of %s is repriced by %s of %s", ErrUnknownPrice, stamped.Version, stamped.Model, price.Version, price.Model)
	}
	var lines []Line
	var rated decimal.Decimal
	for _, b := range buckets {
		quantity := b.quantity(&q.Tokens, q.Images, q.charged())
		if quantity == 0 {
			continue
		}
		cost, err := exactCost(b.price(&stamped), b.unit, quantity)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.PriceVersion, b.name, err)
		}
		rated = rated.Add(cost)
		isCovered, err := covered(b.name, quantity)
		if err != nil {
			return nil, err
		}
		unitPrice := b.price(&price)
		// Every request is counted, but few models charge for it: a line of its own
		// would be noise. Free tokens do get one; the reader may look for them.
		if isCovered || b.unit == UnitRequests && unitPrice.IsZero() {
			continue
		}
		line := Line{Kind: LineUsage, Model: q.Model, Bucket: b.name, PriceVersion: price.Version,
			Origin: q.Origin, Segment: q.Segment, Quantity: quantity, Unit: b.unit, UnitPrice: unitPrice}
		if err := line.rate(r.currency); err != nil {
			return nil, fmt.Errorf("%s %s: %w", price.Version, b.name, err)
		}
		lines = append(lines, line)
	}
	if !rated.Equal(q.Cost) {
		return nil, fmt.Errorf("%w: %d requests at %s %s give %s, their rows say %s",
			ErrRatingMismatch, q.Requests, q.PriceVersion, q.Origin, rated, q.Cost)
	}
	return lines, nil
}

// perRequest reports whether usage was stamped with, or is billed at, a price per request.
func (r *rater) perRequest(q *Quantity) bool {
	stamped, billed := r.prices[q.PriceVersion], r.repriced[q.PriceVersion]
	return !stamped.Request.IsZero() || !billed.Request.IsZero()
}

// notCovered lists all of a quantity.
func notCovered(Bucket, uint64) (bool, error) { return false, nil }

// rate sets Exact = Quantity × UnitPrice + FlatFee, less than zero for what is
// included, and rounds it.
func (l *Line) rate(currency string) error {
	cost, err := exactCost(l.UnitPrice, l.Unit, l.Quantity)
	if err != nil {
		return err
	}
	cost = cost.Add(l.FlatFee.d)
	if l.Kind == LineIncluded {
		cost = cost.Neg()
	}
	if l.Exact, err = NewAmount(cost); err != nil {
		return err
	}
	l.Amount, err = RoundHalfEvenToMinor(l.Exact, currency)
	return err
}

// priceOf finds the price that the usage was stamped with, and checks that it
// may be used.
func priceOf(q Quantity, prices map[string]catalog.Price, currency string) (catalog.Price, error) {
	price, ok := prices[q.PriceVersion]
	switch {
	case !ok:
		return catalog.Price{}, fmt.Errorf("%w: usage of %s was priced at %q", ErrUnknownPrice, q.Model, q.PriceVersion)
	case price.Version != q.PriceVersion || price.Model != q.Model:
		return catalog.Price{}, fmt.Errorf("%w: usage of %s was priced at %q, which is %q of %s",
			ErrUnknownPrice, q.Model, q.PriceVersion, price.Version, price.Model)
	case price.Currency != currency:
		return catalog.Price{}, fmt.Errorf("%w: %s is in %s, the org pays in %s", ErrCurrencyMismatch, price.Version, price.Currency, currency)
	}
	return price, nil
}

// includedTokens spreads the included tokens over the token lines in proportion
// to their quantities: each gets the whole part of its share, and what is left
// goes one by one to the largest fractions, of equal ones to the first.
func (r *rater) includedTokens(lines []Line, included uint64) ([]Line, error) {
	var at []int
	var quantities []uint64
	for i := range lines {
		if lines[i].Unit == UnitTokens {
			at, quantities = append(at, i), append(quantities, lines[i].Quantity)
		}
	}
	shares, err := largestRemainder(quantities, included)
	if err != nil {
		return nil, err
	}
	var out []Line
	for n, share := range shares {
		if share == 0 {
			continue
		}
		l := lines[at[n]]
		l.Kind, l.Quantity = LineIncluded, share
		if err := l.rate(r.currency); err != nil {
			return nil, fmt.Errorf("included %s %s: %w", l.PriceVersion, l.Bucket, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// largestRemainder splits min(total, Σ quantities) in proportion to quantities.
func largestRemainder(quantities []uint64, total uint64) ([]uint64, error) {
	var sum, carry uint64
	for _, q := range quantities {
		if sum, carry = bits.Add64(sum, q, 0); carry != 0 {
			return nil, fmt.Errorf("%w: the number of tokens overflows", ErrInputs)
		}
	}
	shares := make([]uint64, len(quantities))
	if total >= sum {
		copy(shares, quantities)
		return shares, nil
	}
	remainders, left := make([]uint64, len(quantities)), total
	for i, q := range quantities {
		hi, lo := bits.Mul64(q, total)
		shares[i], remainders[i] = bits.Div64(hi, lo, sum) // hi < sum, as q ≤ sum and total < sum
		left -= shares[i]
	}
	for ; left > 0; left-- {
		best := 0
		for i, rest := range remainders {
			if rest > remainders[best] {
				best = i
			}
		}
		shares[best]++
		remainders[best] = 0
	}
	return shares, nil
}

// prorateFloor is the whole part of n × days ÷ ofDays.
func prorateFloor(n uint64, days, ofDays int) uint64 {
	hi, lo := bits.Mul64(n, uint64(days))
	quotient, _ := bits.Div64(hi, lo, uint64(ofDays)) // fits: days ≤ ofDays
	return quotient
}
