package ledger

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// UnitPackages counts begun packages of a charge.
const UnitPackages Unit = "packages"

// lines are a line for each tier that a quantity reaches. No usage, no lines.
func (c *Charge) lines(quantity uint64, currency string) ([]Line, error) {
	if quantity == 0 {
		return nil, nil
	}
	unit, _ := unitOf(c.Buckets[0])
	var lines []Line
	add := func(n int, quantity uint64) error {
		t := &c.Tiers[n]
		l := Line{Kind: LineTier, Name: c.Name, Tier: n + 1, Quantity: quantity, Unit: unit, UnitPrice: t.UnitPrice, FlatFee: t.FlatFee}
		err := l.rate(currency)
		lines = append(lines, l)
		return err
	}
	switch c.Model {
	case ChargePackage:
		l, err := c.packages(quantity)
		if err != nil {
			return nil, err
		}
		if l.Amount, err = RoundHalfEvenToMinor(l.Exact, currency); err != nil {
			return nil, err
		}
		return append(lines, l), nil
	case ChargeVolume:
		for n, t := range c.Tiers {
			if t.UpTo == 0 || quantity <= t.UpTo {
				return lines, add(n, quantity)
			}
		}
	case ChargeFlat, ChargeGraduated:
		from := uint64(0)
		for n, t := range c.Tiers {
			until := quantity
			if t.UpTo != 0 {
				until = min(quantity, t.UpTo)
			}
			if err := add(n, until-from); err != nil {
				return nil, err
			}
			if from = until; from == quantity {
				return lines, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %s has no tier for %d", ErrTerms, c.Model, quantity)
}

// packages is the line of begun packages; its Quantity is how many, its
// UnitPrice what one costs.
func (c *Charge) packages(quantity uint64) (Line, error) {
	n := uint64(0)
	if quantity > c.FreeUnits {
		n = (quantity-c.FreeUnits-1)/c.PackageSize + 1
	}
	l := Line{Kind: LineTier, Name: c.Name, Tier: 1, Quantity: n, Unit: UnitPackages, UnitPrice: c.PackagePrice.d}
	var err error
	l.Exact, err = NewAmount(c.PackagePrice.d.Mul(decimal.NewFromUint64(n)))
	return l, err
}
