package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/shopspring/decimal"

	"aione/events"
)

// AmountScale is the number of decimal places an Amount may have.
const AmountScale = events.CostScale

// amountLimit bounds |Amount| (exclusive): 38 digits less AmountScale.
var amountLimit = decimal.New(1, 26)

// amountTextBytesMax is longer than any amount: sign, 26 digits, point, 12 digits.
const amountTextBytesMax = 40

// ErrAmount is returned when a number is no Amount: not decimal digits, more
// than AmountScale places, or out of range.
var ErrAmount = errors.New("invalid amount")

// Amount is an exact sum of money in a currency that its holder names. The zero
// value is zero. Compare with Cmp: equal amounts may differ in their insides.
type Amount struct {
	d decimal.Decimal
}

// ParseAmount reads plain decimal digits such as "-12.50"; no exponent, no
// thousands separator, no currency sign.
func ParseAmount(s string) (Amount, error) {
	if s == "" || len(s) > amountTextBytesMax || strings.Trim(s, "0123456789.-") != "" {
		return Amount{}, fmt.Errorf("%w: %.50q is not a decimal number", ErrAmount, s)
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return Amount{}, fmt.Errorf("%w: %q is not a decimal number", ErrAmount, s)
	}
	return NewAmount(d)
}

// NewAmount takes a decimal as it is; it never rounds.
func NewAmount(d decimal.Decimal) (Amount, error) {
	// The exponent comes first: comparing 1e999999999 would build all its digits.
	if d.Exponent() > 26 || d.Exponent() < -10*AmountScale {
		return Amount{}, fmt.Errorf("%w: exponent %d is out of range", ErrAmount, d.Exponent())
	}
	if d.Abs().Cmp(amountLimit) >= 0 {
		return Amount{}, fmt.Errorf("%w: %s is out of range", ErrAmount, d)
	}
	if d.Exponent() < -AmountScale && !d.Truncate(AmountScale).Equal(d) {
		return Amount{}, fmt.Errorf("%w: %s has more than %d decimal places", ErrAmount, d, AmountScale)
	}
	return Amount{d: d}, nil
}

// AmountFromInt is a whole number of currency units.
func AmountFromInt(units int64) Amount { return Amount{d: decimal.NewFromInt(units)} }

// Add returns a + b, or ErrAmount when the sum is out of range.
func (a Amount) Add(b Amount) (Amount, error) { return NewAmount(a.d.Add(b.d)) }

// Sub returns a - b, or ErrAmount when the difference is out of range.
func (a Amount) Sub(b Amount) (Amount, error) { return NewAmount(a.d.Sub(b.d)) }

// Neg returns -a.
func (a Amount) Neg() Amount { return Amount{d: a.d.Neg()} }

// Cmp is -1, 0 or 1 as a is less than, equal to or greater than b.
func (a Amount) Cmp(b Amount) int { return a.d.Cmp(b.d) }

// Sign is -1, 0 or 1.
func (a Amount) Sign() int { return a.d.Sign() }

// IsZero reports whether a is zero.
func (a Amount) IsZero() bool { return a.d.IsZero() }

// Decimal gives the number, exact.
func (a Amount) Decimal() decimal.Decimal { return a.d }

// String is the shortest exact notation: "12.5".
func (a Amount) String() string { return a.d.String() }

// Format gives the amount as the currency writes it, "12.50" in CNY, with more
// places where the amount has more: it never rounds. Unknown currencies get two.
func (a Amount) Format(currency string) string {
	places, ok := MinorUnits(currency)
	if !ok {
		places = 2
	}
	if !a.d.Truncate(places).Equal(a.d) {
		return a.d.String()
	}
	return a.d.StringFixed(places) // exact: there is nothing behind these places
}

// MarshalJSON writes a string: JSON numbers pass through floats in many readers.
func (a Amount) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// UnmarshalJSON reads a string, and nothing else.
func (a *Amount) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%w: money must be a JSON string: %.50s", ErrAmount, b)
	}
	parsed, err := ParseAmount(s)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// UnmarshalText reads what ParseAmount does: flags and the like.
func (a *Amount) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAmount(string(b))
	return err
}

// RoundHalfEvenToMinor rounds to the minor units of a currency, a half to the
// even neighbour. It is the only rounding of money in the module, and each amount
// on an invoice goes through it once.
func RoundHalfEvenToMinor(a Amount, currency string) (Amount, error) {
	return roundRatio(a.d, one, one, currency)
}

var one, hundred = decimal.New(1, 0), decimal.New(100, 0)

// roundRatio is RoundHalfEvenToMinor of d × num ÷ den, where that need not be a
// decimal: it divides integers, so that nothing is rounded before. den is
// positive.
func roundRatio(d, num, den decimal.Decimal, currency string) (Amount, error) {
	places, ok := MinorUnits(currency)
	if !ok {
		return Amount{}, fmt.Errorf("%q: %w", currency, ErrUnknownCurrency)
	}
	if den.Sign() <= 0 {
		return Amount{}, fmt.Errorf("%w: a ratio of %s to %s", ErrAmount, num, den)
	}
	n := new(big.Int).Mul(d.Coefficient(), num.Coefficient())
	by := new(big.Int).Set(den.Coefficient())
	shift := int64(d.Exponent()) + int64(num.Exponent()) - int64(den.Exponent()) + int64(places)
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(shift, -shift)), nil)
	if shift >= 0 {
		n.Mul(n, power)
	} else {
		by.Mul(by, power)
	}
	quotient, rest := new(big.Int).QuoRem(n, by, new(big.Int)) // toward zero
	switch rest.Lsh(rest.Abs(rest), 1).Cmp(by) {
	case 1:
		quotient.Add(quotient, big.NewInt(int64(n.Sign())))
	case 0:
		if quotient.Bit(0) == 1 {
			quotient.Add(quotient, big.NewInt(int64(n.Sign())))
		}
	}
	return NewAmount(decimal.NewFromBigInt(quotient, -places))
}

// prorate is a's share of days out of ofDays, rounded once.
func prorate(a Amount, days, ofDays int, currency string) (Amount, error) {
	return roundRatio(a.d, decimal.NewFromInt(int64(days)), decimal.NewFromInt(int64(ofDays)), currency)
}

// percentOf is pct percent of a, rounded once.
func percentOf(a Amount, pct decimal.Decimal, currency string) (Amount, error) {
	return roundRatio(a.d, pct, hundred, currency)
}

// isMinor reports whether a is a whole number of minor units.
func isMinor(a Amount, currency string) bool {
	places, ok := MinorUnits(currency)
	return ok && a.d.Truncate(places).Equal(a.d)
}

// sumOf adds up, or returns ErrAmount when the sum is out of range.
func sumOf(amounts ...Amount) (Amount, error) {
	var sum Amount
	for _, a := range amounts {
		var err error
		if sum, err = sum.Add(a); err != nil {
			return Amount{}, err
		}
	}
	return sum, nil
}
