package ledger

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// allowances are what the terms of a segment give and demand for its days, in
// minor units, each rounded once.
type allowances struct {
	included, commitment, discount Amount
}

func (s *Segment) allowances(ofDays int, currency string) (a allowances, err error) {
	for _, part := range []struct {
		to   *Amount
		from Amount
	}{{&a.included, s.Terms.IncludedAmount}, {&a.commitment, s.Terms.Commitment}, {&a.discount, s.Terms.DiscountAmount}} {
		if *part.to, err = prorate(part.from, s.Days, ofDays, currency); err != nil {
			return allowances{}, fmt.Errorf("prorate the terms of plan %s: %w", s.PlanCode, err)
		}
	}
	return a, nil
}

// settled is what becomes of a segment's usage. All of it is positive or zero.
type settled struct {
	included decimal.Decimal // taken off by the included amount
	trueUp   decimal.Decimal // put on to reach the commitment
	base     decimal.Decimal // usage - included + trueUp: what is discounted
	percent  decimal.Decimal // taken off by the percentage
	fixed    decimal.Decimal // taken off by the fixed discount
}

// settle applies a segment's terms to what its usage comes to. percentOf says
// how a percentage is rounded, if it is.
func (a allowances) settle(usage decimal.Decimal, percentOf func(decimal.Decimal) (decimal.Decimal, error)) (settled, error) {
	s := settled{included: decimal.Min(a.included.d, usage)}
	rest := usage.Sub(s.included)
	if rest.Cmp(a.commitment.d) < 0 {
		s.trueUp = a.commitment.d.Sub(rest)
	}
	s.base = rest.Add(s.trueUp)
	var err error
	s.percent, err = percentOf(s.base)
	s.fixed = decimal.Min(a.discount.d, s.base.Sub(s.percent))
	return s, err
}

// charged is what is left to be paid for the usage.
func (s settled) charged() decimal.Decimal { return s.base.Sub(s.percent).Sub(s.fixed) }

// settleLines makes the lines of a segment after those of its usage: included
// amount and true-up, and the discounts, which come at the end of the invoice.
func (s *Segment) settleLines(index, ofDays int, usage []Line, currency string) (lines, discounts []Line, err error) {
	a, err := s.allowances(ofDays, currency)
	if err != nil {
		return nil, nil, err
	}
	sum, exact := decimal.Decimal{}, decimal.Decimal{}
	for i := range usage {
		sum, exact = sum.Add(usage[i].Amount.d), exact.Add(usage[i].Exact.d)
	}
	if s.Terms.Blocks() && s.Terms.IncludedAmount.Sign() > 0 && exact.Cmp(a.included.d) <= 0 {
		a.included.d = decimal.Max(a.included.d, sum) // admission let in no more: what lines round up is not overage
	}
	settled, err := a.settle(sum, func(base decimal.Decimal) (decimal.Decimal, error) {
		amount, err := percentOf(Amount{d: base}, s.Terms.DiscountPct, currency)
		return amount.d, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("discount of plan %s: %w", s.PlanCode, err)
	}
	line := func(to *[]Line, l Line, amount decimal.Decimal) {
		if amount.IsZero() || err != nil {
			return
		}
		l.Segment, l.Name = index, s.PlanCode
		l.Amount, err = NewAmount(amount)
		l.Exact = l.Amount
		*to = append(*to, l)
	}
	line(&lines, Line{Kind: LineIncluded, Base: s.Terms.IncludedAmount, Days: s.Days, OfDays: ofDays}, settled.included.Neg())
	line(&lines, Line{Kind: LineCommitment, Base: s.Terms.Commitment, Days: s.Days, OfDays: ofDays}, settled.trueUp)
	line(&discounts, Line{Kind: LineDiscount, Pct: s.Terms.DiscountPct, Base: Amount{d: settled.base}}, settled.percent.Neg())
	line(&discounts, Line{Kind: LineDiscount, Base: s.Terms.DiscountAmount, Days: s.Days, OfDays: ofDays}, settled.fixed.Neg())
	return lines, discounts, err
}

// exactCharge is what a segment's usage comes to under its terms, with nothing
// rounded but what the terms give for its days.
func (s *Segment) exactCharge(ofDays int, usage []Line, currency string) (decimal.Decimal, error) {
	a, err := s.allowances(ofDays, currency)
	if err != nil {
		return decimal.Decimal{}, err
	}
	sum := decimal.Decimal{}
	for i := range usage {
		sum = sum.Add(usage[i].Exact.d)
	}
	settled, err := a.settle(sum, func(base decimal.Decimal) (decimal.Decimal, error) {
		return base.Mul(s.Terms.DiscountPct).Shift(-2), nil
	})
	return settled.charged(), err
}

// feeLines charge the fee of the next period in advance, and put right what was
// charged of this one: nothing, where its days cost what was charged.
func feeLines(in *BillInput, ofDays int) ([]Line, error) {
	var lines []Line
	cost := Amount{}
	for i := range in.Segments {
		s := &in.Segments[i]
		fee, err := prorate(s.Terms.MonthlyFee, s.Days, ofDays, in.Currency)
		if err != nil {
			return nil, fmt.Errorf("fee of plan %s: %w", s.PlanCode, err)
		}
		if fee.IsZero() {
			continue
		}
		if cost, err = cost.Add(fee); err != nil {
			return nil, fmt.Errorf("fee of plan %s: %w", s.PlanCode, err)
		}
		lines = append(lines, Line{Kind: LineFee, Name: s.PlanCode, Segment: i, Base: s.Terms.MonthlyFee, Days: s.Days, OfDays: ofDays, Exact: fee, Amount: fee})
	}
	switch {
	case cost.Cmp(in.Advance) == 0:
		lines = nil
	case !in.Advance.IsZero():
		back := in.Advance.Neg()
		lines = append(lines, Line{Kind: LineFeeCharged, Exact: back, Amount: back})
	}
	fee, err := RoundHalfEvenToMinor(in.Next.Terms.MonthlyFee, in.Currency)
	if err != nil {
		return nil, fmt.Errorf("fee of plan %s: %w", in.Next.PlanCode, err)
	}
	if !fee.IsZero() {
		lines = append(lines, Line{Kind: LineFeeAdvance, Name: in.Next.PlanCode, Base: in.Next.Terms.MonthlyFee,
			Days: in.Next.Days, OfDays: in.Next.Days, Exact: fee, Amount: fee})
	}
	return lines, nil
}
