package ledger

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
)

// ErrCostRange is returned when usage costs events.MaxCost or more.
var ErrCostRange = errors.New("cost is out of range")

// ErrPriceScale is returned when a price has more decimal places than
// catalog.PriceScaleMax, so that a cost would not be exact.
var ErrPriceScale = errors.New("price has too many decimal places")

// Rate is what one request costs at a price version, exact, with at most
// events.CostScale places. It counts one request at p.Request.
func Rate(p catalog.Price, t events.Tokens, images uint64) (decimal.Decimal, error) {
	if units, ok, err := rateUnits(&p, &t, images); ok {
		if err != nil {
			return decimal.Decimal{}, err
		}
		return decimal.New(int64(units), -events.CostScale), nil
	}
	return rateDecimal(p, t, images)
}

// maxCostUnits is events.MaxCost in units of 10^-CostScale.
const maxCostUnits = 1_000_000 * 1_000_000_000_000

// factors of a price per token, image and request, from units of 10^-6 currency
// (the scale of prices) to units of 10^-12.
const (
	perToken = 1 // ÷ 1,000,000 tokens, × 10^12 ÷ 10^6
	perWhole = 1_000_000
)

// rateUnits computes in 64-bit integers of 10^-12 currency. It is !ok when a
// price does not fit; rateDecimal then gives the answer, slower.
func rateUnits(p *catalog.Price, t *events.Tokens, images uint64) (units uint64, ok bool, err error) {
	terms := [...]struct {
		price    *decimal.Decimal
		quantity uint64
		factor   uint64
	}{
		{&p.Input, t.Input, perToken},
		{&p.CacheRead, t.CacheRead, perToken},
		{&p.CacheWrite5m, t.CacheWrite5m, perToken},
		{&p.CacheWrite1h, t.CacheWrite1h, perToken},
		{&p.Output, t.Output, perToken},
		{&p.Reasoning, t.Reasoning, perToken},
		{&p.Image, images, perWhole},
		{&p.Request, 1, perWhole},
	}
	overflow := false
	for i := range terms {
		term := &terms[i]
		if term.quantity == 0 {
			continue
		}
		micros, fits := priceMicros(term.price)
		if !fits {
			return 0, false, nil
		}
		hi, lo := bits.Mul64(micros, term.factor)
		if hi != 0 {
			return 0, false, nil
		}
		hi, lo = bits.Mul64(lo, term.quantity)
		sum, carry := bits.Add64(units, lo, 0)
		// No term is negative: what passes 2^64 is far over the limit of 10^18.
		overflow = overflow || hi != 0 || carry != 0
		units = sum
	}
	if overflow || units >= maxCostUnits {
		return 0, true, fmt.Errorf("%w: a request at %s costs %s or more", ErrCostRange, p.Version, events.MaxCost)
	}
	return units, true, nil
}

var powersOf10 = [...]uint64{1, 10, 100, 1_000, 10_000, 100_000, 1_000_000}

// priceMicros gives a price in units of 10^-6 if it is one that fits.
func priceMicros(price *decimal.Decimal) (micros uint64, fits bool) {
	shift := price.Exponent() + catalog.PriceScaleMax
	if shift < 0 || int(shift) >= len(powersOf10) || price.Sign() < 0 || price.NumDigits() > 18 {
		return 0, false
	}
	hi, micros := bits.Mul64(uint64(price.CoefficientInt64()), powersOf10[shift])
	return micros, hi == 0
}

// rateDecimal is rateUnits in decimals of any size. It takes copies: pointers
// would move Rate's arguments to the heap, on its fast path too.
func rateDecimal(p catalog.Price, t events.Tokens, images uint64) (decimal.Decimal, error) {
	total := decimal.Decimal{}
	for _, b := range buckets {
		price := b.price(&p)
		quantity := b.quantity(&t, images, 1)
		if quantity == 0 {
			continue
		}
		exact, err := exactCost(price, b.unit, quantity)
		if err != nil {
			return decimal.Decimal{}, fmt.Errorf("rate %s at %s: %w", b.name, p.Version, err)
		}
		total = total.Add(exact)
	}
	if total.Cmp(events.MaxCost) >= 0 {
		return decimal.Decimal{}, fmt.Errorf("%w: a request at %s costs %s", ErrCostRange, p.Version, total)
	}
	return total, nil
}

// priceDigitsMax bounds a price before it is computed with.
const priceDigitsMax = 26

// exactCost is quantity × price, for tokens per 1,000,000, without any rounding.
func exactCost(price decimal.Decimal, unit Unit, quantity uint64) (decimal.Decimal, error) {
	if e := price.Exponent(); e > priceDigitsMax || e < -10*AmountScale {
		return decimal.Decimal{}, fmt.Errorf("%w: exponent %d", ErrPriceScale, e)
	}
	if price.IsNegative() {
		return decimal.Decimal{}, fmt.Errorf("%w: price %s is negative", ErrCostRange, price)
	}
	if !price.Truncate(catalog.PriceScaleMax).Equal(price) {
		return decimal.Decimal{}, fmt.Errorf("%w: %s", ErrPriceScale, price)
	}
	cost := price.Truncate(catalog.PriceScaleMax).Mul(decimal.NewFromUint64(quantity))
	if unit == UnitTokens {
		cost = cost.Shift(-6) // per 1,000,000: moves the point, drops no digit
	}
	return cost, nil
}
