package ledger

import (
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aione/catalog"
)

// This file bills again, in rationals, as the rules read: no line of it is shared
// with the package, save for the types.

type modelLine struct {
	kind   LineKind
	amount *big.Rat
}

type modelInvoice struct {
	lines                                                                      []modelLine
	subtotal, adjustments, discount, tax, taxIncluded, credits, carried, total *big.Rat
}

var zero, million = new(big.Rat), big.NewRat(1_000_000, 1)

func plus(rs ...*big.Rat) *big.Rat {
	sum := new(big.Rat)
	for _, r := range rs {
		sum.Add(sum, r)
	}
	return sum
}

func minus(a, b *big.Rat) *big.Rat    { return new(big.Rat).Sub(a, b) }
func quotient(a, b *big.Rat) *big.Rat { return new(big.Rat).Quo(a, b) }
func fraction(a, b int) *big.Rat      { return big.NewRat(int64(a), int64(b)) }

func least(a, b *big.Rat) *big.Rat {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}

// wholePart rounds down what is not below zero.
func wholePart(r *big.Rat) *big.Rat {
	return new(big.Rat).SetInt(new(big.Int).Quo(r.Num(), r.Denom()))
}

// modelBucket is a bucket of a quantity: how much, at what list price, and per how many.
type modelBucket struct {
	name     Bucket
	quantity *big.Rat
	price    *big.Rat
	per      *big.Rat
}

func modelBuckets(q Quantity, p catalog.Price) []modelBucket {
	one := big.NewRat(1, 1)
	return []modelBucket{
		{"input", natural(q.Tokens.Input), rat(p.Input), million},
		{"cache_read", natural(q.Tokens.CacheRead), rat(p.CacheRead), million},
		{"cache_write_5m", natural(q.Tokens.CacheWrite5m), rat(p.CacheWrite5m), million},
		{"cache_write_1h", natural(q.Tokens.CacheWrite1h), rat(p.CacheWrite1h), million},
		{"output", natural(q.Tokens.Output), rat(p.Output), million},
		{"reasoning", natural(q.Tokens.Reasoning), rat(p.Reasoning), million},
		{"images", natural(q.Images), rat(p.Image), one},
		{"requests", natural(q.Requests - q.Empty), rat(p.Request), one},
	}
}

// modelUsage is what a segment's usage comes to, line by line, not rounded.
func modelUsage(seg Segment, days int, qs []Quantity, prices map[string]catalog.Price) []modelLine {
	qs = slices.Clone(qs)
	slices.SortFunc(qs, func(a, b Quantity) int {
		return strings.Compare(a.Model+"\x00"+a.PriceVersion, b.Model+"\x00"+b.PriceVersion)
	})
	var lines, included []modelLine
	var tokens []modelBucket
	covered := make([]*big.Rat, len(seg.Terms.Charges))
	for i := range covered {
		covered[i] = new(big.Rat)
	}
	for _, q := range qs {
		for _, b := range modelBuckets(q, prices[q.PriceVersion]) {
			by := -1
			for i, c := range seg.Terms.Charges {
				if slices.Contains(c.Buckets, b.name) && (c.Models == nil || slices.Contains(c.Models, q.Model)) {
					by = i
				}
			}
			switch {
			case b.quantity.Sign() == 0:
			case by >= 0:
				covered[by] = plus(covered[by], b.quantity)
			case b.name != "requests" || b.price.Sign() > 0:
				lines = append(lines, modelLine{LineUsage, quotient(product(b.quantity, b.price), b.per)})
				if b.per == million {
					tokens = append(tokens, b)
				}
			}
		}
	}
	for i, c := range seg.Terms.Charges {
		lines = append(lines, modelCharge(c, covered[i])...)
	}
	// Included tokens: in proportion, whole parts first, the rest to the largest fractions.
	all := new(big.Rat)
	for _, b := range tokens {
		all = plus(all, b.quantity)
	}
	give := least(wholePart(product(natural(seg.Terms.IncludedTokens), fraction(seg.Days, days))), all)
	shares, rest := make([]*big.Rat, len(tokens)), give
	order := make([]int, len(tokens))
	exact := make([]*big.Rat, len(tokens))
	for i, b := range tokens {
		order[i], exact[i], shares[i] = i, new(big.Rat), new(big.Rat)
		if all.Sign() > 0 {
			exact[i] = quotient(product(give, b.quantity), all)
		}
		shares[i] = wholePart(exact[i])
		rest = minus(rest, shares[i])
	}
	slices.SortStableFunc(order, func(x, y int) int { return minus(exact[y], shares[y]).Cmp(minus(exact[x], shares[x])) })
	for i := 0; rest.Sign() > 0; i++ {
		shares[order[i]] = plus(shares[order[i]], big.NewRat(1, 1))
		rest = minus(rest, big.NewRat(1, 1))
	}
	for i, b := range tokens {
		if shares[i].Sign() > 0 {
			included = append(included, modelLine{LineIncluded, minus(zero, quotient(product(shares[i], b.price), million))})
		}
	}
	return append(lines, included...)
}

func modelCharge(c Charge, quantity *big.Rat) []modelLine {
	if quantity.Sign() == 0 {
		return nil
	}
	if c.Model == "package" {
		beyond := minus(quantity, natural(c.FreeUnits))
		packages := new(big.Rat)
		if beyond.Sign() > 0 {
			packages = wholePart(quotient(beyond, natural(c.PackageSize)))
			if product(packages, natural(c.PackageSize)).Cmp(beyond) < 0 {
				packages = plus(packages, big.NewRat(1, 1))
			}
		}
		return []modelLine{{LineTier, product(packages, rat(c.PackagePrice.d))}}
	}
	per := big.NewRat(1, 1)
	if c.Buckets[0] != "images" && c.Buckets[0] != "requests" {
		per = million
	}
	var lines []modelLine
	before := new(big.Rat)
	for _, tier := range c.Tiers {
		until := quantity
		if tier.UpTo != 0 {
			until = least(quantity, natural(tier.UpTo))
		}
		in := minus(until, before)
		if c.Model == "volume" {
			in = quantity
			if tier.UpTo != 0 && quantity.Cmp(natural(tier.UpTo)) > 0 {
				continue
			}
		}
		lines = append(lines, modelLine{LineTier, plus(quotient(product(in, rat(tier.UnitPrice)), per), rat(tier.FlatFee.d))})
		before = until
		if before.Cmp(quantity) == 0 || c.Model == "volume" {
			break
		}
	}
	return lines
}

func of(qs []Quantity, origin string, segment int) []Quantity {
	var found []Quantity
	for _, q := range qs {
		if q.Origin == origin && q.Segment == segment {
			found = append(found, q)
		}
	}
	return found
}

func modelDays(segments []Segment) int {
	return int(segments[len(segments)-1].First.DaysUntil(segments[0].First))*-1 + segments[len(segments)-1].Days
}

// modelWhole is what usage of a closed period comes to under its terms.
func modelWhole(segments []Segment, qs []Quantity, prices map[string]catalog.Price, round func(*big.Rat) *big.Rat) *big.Rat {
	days, total := modelDays(segments), new(big.Rat)
	for i, seg := range segments {
		usage := new(big.Rat)
		for _, l := range modelUsage(seg, days, of(qs, "", i), prices) {
			usage = plus(usage, l.amount)
		}
		share := fraction(seg.Days, days)
		usage = minus(usage, least(usage, round(product(rat(seg.Terms.IncludedAmount.d), share))))
		if commitment := round(product(rat(seg.Terms.Commitment.d), share)); usage.Cmp(commitment) < 0 {
			usage = commitment
		}
		usage = minus(usage, quotient(product(usage, rat(seg.Terms.DiscountPct)), big.NewRat(100, 1)))
		usage = minus(usage, least(usage, round(product(rat(seg.Terms.DiscountAmount.d), share))))
		total = plus(total, usage)
	}
	return total
}

func modelBill(in BillInput) modelInvoice {
	places, _ := MinorUnits(in.Currency)
	round := func(r *big.Rat) *big.Rat { return modelRound(r, int64(places)) }
	m := modelInvoice{discount: new(big.Rat), credits: new(big.Rat), carried: new(big.Rat), tax: new(big.Rat), taxIncluded: new(big.Rat), adjustments: new(big.Rat), subtotal: new(big.Rat)}
	add := func(kind LineKind, amount *big.Rat, to **big.Rat) {
		m.lines = append(m.lines, modelLine{kind, amount})
		*to = plus(*to, amount)
	}
	days := modelDays(in.Segments)
	var discounts []modelLine
	for i, seg := range in.Segments {
		share, usage, exact := fraction(seg.Days, days), new(big.Rat), new(big.Rat)
		for _, l := range modelUsage(seg, days, of(in.Inputs.Quantities, "", i), in.Prices) {
			add(l.kind, round(l.amount), &m.subtotal)
			usage, exact = plus(usage, round(l.amount)), plus(exact, l.amount)
		}
		included := round(product(rat(seg.Terms.IncludedAmount.d), share))
		off := least(usage, included)
		if seg.Terms.OveragePolicy == "block" && !seg.Terms.IncludedAmount.IsZero() && exact.Cmp(included) <= 0 {
			off = usage // within what is included, whatever the lines round up
		}
		if off.Sign() > 0 {
			add(LineIncluded, minus(zero, off), &m.subtotal)
			usage = minus(usage, off)
		}
		if commitment := round(product(rat(seg.Terms.Commitment.d), share)); usage.Cmp(commitment) < 0 {
			add(LineCommitment, minus(commitment, usage), &m.subtotal)
			usage = commitment
		}
		percent := round(quotient(product(usage, rat(seg.Terms.DiscountPct)), big.NewRat(100, 1)))
		fixed := least(minus(usage, percent), round(product(rat(seg.Terms.DiscountAmount.d), share)))
		for _, off := range []*big.Rat{percent, fixed} {
			if off.Sign() > 0 {
				discounts = append(discounts, modelLine{LineDiscount, off})
			}
		}
	}
	m.fees(in, days, round, add)
	m.late(in, round, add)
	for _, off := range discounts {
		m.lines = append(m.lines, modelLine{LineDiscount, minus(zero, off.amount)})
		m.discount = plus(m.discount, off.amount)
	}
	m.settle(in, round)
	return m
}

func (m *modelInvoice) fees(in BillInput, days int, round func(*big.Rat) *big.Rat, add func(LineKind, *big.Rat, **big.Rat)) {
	var fees []*big.Rat
	for _, seg := range in.Segments {
		if fee := round(product(rat(seg.Terms.MonthlyFee.d), fraction(seg.Days, days))); fee.Sign() > 0 {
			fees = append(fees, fee)
		}
	}
	if plus(fees...).Cmp(rat(in.Advance.d)) != 0 {
		for _, fee := range fees {
			add(LineFee, fee, &m.subtotal)
		}
		if in.Advance.Sign() > 0 {
			add(LineFeeCharged, minus(zero, rat(in.Advance.d)), &m.subtotal)
		}
	}
	if next := round(rat(in.Next.Terms.MonthlyFee.d)); next.Sign() > 0 {
		add(LineFeeAdvance, next, &m.subtotal)
	}
}

func (m *modelInvoice) late(in BillInput, round func(*big.Rat) *big.Rat, add func(LineKind, *big.Rat, **big.Rat)) {
	for _, o := range in.Origins {
		list, isLate := new(big.Rat), false
		all := slices.Clone(o.Billed)
		for i := range o.Segments {
			late := of(in.Inputs.Quantities, o.Period.Label, i)
			slices.SortFunc(late, func(a, b Quantity) int {
				return strings.Compare(a.Model+"\x00"+a.PriceVersion, b.Model+"\x00"+b.PriceVersion)
			})
			for _, q := range late {
				isLate = true
				for _, b := range modelBuckets(q, in.Prices[q.PriceVersion]) {
					if b.quantity.Sign() == 0 || b.name == "requests" && b.price.Sign() == 0 {
						continue
					}
					exact := quotient(product(b.quantity, b.price), b.per)
					list = plus(list, exact)
					add(LineUsage, round(exact), &m.adjustments)
				}
				// The same group as one billed before, if there is one: tokens are spread over groups.
				q.Origin, q.Late = "", false
				at := slices.IndexFunc(all, func(p Quantity) bool {
					return p.Segment == q.Segment && p.Model == q.Model && p.PriceVersion == q.PriceVersion
				})
				if at < 0 {
					all = append(all, q)
					continue
				}
				p := &all[at]
				p.Tokens.Input += q.Tokens.Input
				p.Tokens.CacheRead += q.Tokens.CacheRead
				p.Tokens.CacheWrite5m += q.Tokens.CacheWrite5m
				p.Tokens.CacheWrite1h += q.Tokens.CacheWrite1h
				p.Tokens.Output += q.Tokens.Output
				p.Tokens.Reasoning += q.Tokens.Reasoning
				p.Images += q.Images
				p.Requests += q.Requests
				p.Empty += q.Empty
			}
		}
		if !isLate {
			continue
		}
		delta := minus(modelWhole(o.Segments, all, in.Prices, round), modelWhole(o.Segments, o.Billed, in.Prices, round))
		if adjustment := round(minus(delta, list)); adjustment.Sign() != 0 {
			add(LineAdjustment, adjustment, &m.adjustments)
		}
	}
}

func (m *modelInvoice) settle(in BillInput, round func(*big.Rat) *big.Rat) {
	base := minus(plus(m.subtotal, m.adjustments), m.discount)
	of := big.NewRat(100, 1)
	for _, rate := range in.TaxRates {
		if rate.Inclusive {
			of = plus(of, rat(rate.Pct))
		}
	}
	for _, rate := range in.TaxRates {
		amount := round(quotient(product(base, rat(rate.Pct)), of))
		if rate.Inclusive {
			m.taxIncluded = plus(m.taxIncluded, amount)
			continue
		}
		m.tax = plus(m.tax, amount)
		m.lines = append(m.lines, modelLine{LineTax, amount})
	}
	due := plus(base, m.tax)
	never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	var usable []Credit
	for _, c := range in.Credits {
		if c.Grant.ExpiresAt.IsZero() {
			c.Grant.ExpiresAt = never
		}
		if c.Remaining.Sign() > 0 && !c.Grant.GrantedAt.After(in.CreatedAt) && c.Grant.ExpiresAt.After(in.CreatedAt) {
			usable = append(usable, c)
		}
	}
	slices.SortFunc(usable, func(a, b Credit) int {
		if c := a.Grant.ExpiresAt.Compare(b.Grant.ExpiresAt); c != 0 {
			return c
		}
		if a.Grant.Kind != b.Grant.Kind {
			return -strings.Compare(string(a.Grant.Kind), string(b.Grant.Kind)) // promotional, prepaid
		}
		if a.Grant.Priority != b.Grant.Priority {
			return a.Grant.Priority - b.Grant.Priority
		}
		if c := a.Grant.GrantedAt.Compare(b.Grant.GrantedAt); c != 0 {
			return c
		}
		return strings.Compare(a.Grant.ID.String(), b.Grant.ID.String())
	})
	for _, c := range usable {
		if due.Sign() > 0 {
			pays := least(due, rat(c.Remaining.d))
			m.lines = append(m.lines, modelLine{LineCredit, minus(zero, pays)})
			m.credits, due = plus(m.credits, pays), minus(due, pays)
		}
	}
	m.total = due
	if due.Sign() < 0 {
		m.carried, m.total = minus(zero, due), new(big.Rat)
		m.lines = append(m.lines, modelLine{LineCarried, m.carried})
	}
}

func TestBillEqualsTheModel(t *testing.T) {
	kinds := make(map[LineKind]int)
	missing := func() (rare []LineKind) {
		for _, kind := range []LineKind{LineUsage, LineTier, LineIncluded, LineCommitment, LineFee, LineFeeCharged, LineFeeAdvance, LineAdjustment, LineDiscount, LineTax, LineCredit, LineCarried} {
			if kinds[kind] == 0 {
				rare = append(rare, kind)
			}
		}
		return rare
	}
	// Some kinds are rare: draw until each has come, within reason.
	for range 20 {
		rapid.Check(t, func(t *rapid.T) { checkAgainstModel(t, kinds) })
		if len(missing()) == 0 {
			break
		}
	}
	t.Logf("lines drawn: %v", kinds)
	if rare := missing(); len(rare) > 0 {
		t.Errorf("no line of %v was drawn: the generator is too narrow", rare)
	}
}

func checkAgainstModel(t *rapid.T, kinds map[LineKind]int) {
	in := drawBillInput(t)
	inv, err := Bill(in)
	want := modelBill(in)
	isTax := func(l modelLine) bool { return l.kind == LineTax }
	if len(slices.DeleteFunc(slices.Clone(want.lines), isTax)) == 0 && len(in.Inputs.Quantities) == 0 {
		if !errors.Is(err, ErrNothingToBill) {
			t.Fatalf("got %v, want ErrNothingToBill", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range inv.Lines {
		kinds[l.Kind]++
		if i >= len(want.lines) || l.Kind != want.lines[i].kind || rat(l.Amount.d).Cmp(want.lines[i].amount) != 0 {
			t.Fatalf("line %d is %s, want %v of %d lines", i+1, lineText(&l, inv.Currency), want.lines[min(i, len(want.lines)-1)], len(want.lines))
		}
	}
	if len(inv.Lines) != len(want.lines) {
		t.Fatalf("%d lines, want %d", len(inv.Lines), len(want.lines))
	}
	for name, pair := range map[string][2]*big.Rat{
		"subtotal": {rat(inv.Subtotal.d), want.subtotal}, "adjustments": {rat(inv.Adjustments.d), want.adjustments},
		"discount": {rat(inv.Discount.d), want.discount}, "tax": {rat(inv.Tax.d), want.tax}, "included tax": {rat(inv.TaxIncluded.d), want.taxIncluded},
		"credits": {rat(inv.CreditsApplied.d), want.credits}, "carried": {rat(inv.Carried.d), want.carried}, "total": {rat(inv.Total.d), want.total},
	} {
		if pair[0].Cmp(pair[1]) != 0 {
			t.Fatalf("%s is %s, want %s", name, pair[0], pair[1])
		}
	}
}
