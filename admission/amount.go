package admission

import (
	"errors"
	"math"
	"math/big"
	"math/bits"

	"github.com/shopspring/decimal"

	"aione/events"
)

// amount is money in units of 10^-12 (events.CostScale): 128 bits in two's
// complement. Sums saturate: at the top an account is full, so an overflow
// refuses and never admits.
type amount struct {
	hi int64
	lo uint64
}

var (
	amountMost  = amount{math.MaxInt64, math.MaxUint64}
	amountLeast = amount{math.MinInt64, 0}
)

// amountDigitsMax bounds what comes in from outside: 25 digits before the point,
// a tenth of what 128 bits hold.
const amountDigitsMax = 37

var (
	errTooPrecise = errors.New("more than 12 decimal places")
	errTooLarge   = errors.New("more than 25 digits before the point")
)

func (a amount) negative() bool { return a.hi < 0 }

func (a amount) isZero() bool { return a == amount{} }

func (a amount) less(b amount) bool {
	return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo
}

func (a amount) plus(b amount) amount {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(uint64(a.hi), uint64(b.hi), carry)
	sum := amount{int64(hi), lo}
	if a.negative() == b.negative() && sum.negative() != a.negative() {
		if a.negative() {
			return amountLeast
		}
		return amountMost
	}
	return sum
}

func (a amount) minus(b amount) amount {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(uint64(a.hi), uint64(b.hi), borrow)
	rest := amount{int64(hi), lo}
	if a.negative() != b.negative() && rest.negative() != a.negative() {
		if a.negative() {
			return amountLeast
		}
		return amountMost
	}
	return rest
}

// part is a n-th of a, rounded down. a is not negative, n is positive.
func (a amount) part(n int) amount {
	hi, rest := bits.Div64(0, uint64(a.hi), uint64(n))
	lo, _ := bits.Div64(rest, a.lo, uint64(n))
	return amount{int64(hi), lo}
}

// lesser and greater are min and max.
func lesser(a, b amount) amount {
	if b.less(a) {
		return b
	}
	return a
}

func greater(a, b amount) amount {
	if a.less(b) {
		return b
	}
	return a
}

// tenTo are the powers of ten that fit 64 bits.
var tenTo = func() (p [19]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// amountOf is d exactly, or an error.
func amountOf(d decimal.Decimal) (amount, error) {
	places := int(d.Exponent()) + events.CostScale
	if d.NumDigits() <= 18 && places >= 0 && places <= 18 {
		c := d.CoefficientInt64()
		hi, lo := bits.Mul64(uint64(max(c, -c)), tenTo[places])
		a := amount{int64(hi), lo} // below 10^36
		if c < 0 {
			a = amount{}.minus(a)
		}
		return a, nil
	}
	return slowAmountOf(d)
}

func slowAmountOf(d decimal.Decimal) (amount, error) {
	switch {
	case d.IsZero():
		return amount{}, nil
	case int(d.Exponent())+d.NumDigits()+events.CostScale > amountDigitsMax:
		return amount{}, errTooLarge
	case d.NumDigits()+amountDigitsMax < -int(d.Exponent()): // not worth bringing to our scale
		return amount{}, errTooPrecise
	}
	scaled := d.Shift(events.CostScale)
	if !scaled.IsInteger() {
		return amount{}, errTooPrecise
	}
	var magnitude [16]byte
	scaled.BigInt().FillBytes(magnitude[:])
	var a amount
	for i := range 8 {
		a.hi = a.hi<<8 | int64(magnitude[i])
		a.lo = a.lo<<8 | uint64(magnitude[8+i])
	}
	if d.IsNegative() {
		a = amount{}.minus(a)
	}
	return a, nil
}

// amountUp is d, rounded up to the scale: a bound may be finer than what is billed.
func amountUp(d decimal.Decimal) (amount, error) {
	a, err := amountOf(d)
	if !errors.Is(err, errTooPrecise) {
		return a, err
	}
	if d.NumDigits()+amountDigitsMax < -int(d.Exponent()) {
		if d.IsNegative() {
			return amount{}, nil
		}
		return amount{lo: 1}, nil
	}
	return amountOf(d.RoundCeil(events.CostScale))
}

// decimal is a as the world outside sees it.
func (a amount) decimal() decimal.Decimal {
	if a.hi == 0 && a.lo <= math.MaxInt64 {
		return decimal.New(int64(a.lo), -events.CostScale)
	}
	n := new(big.Int).Lsh(big.NewInt(a.hi), 64)
	return decimal.NewFromBigInt(n.Add(n, new(big.Int).SetUint64(a.lo)), -events.CostScale)
}
