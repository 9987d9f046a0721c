package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"
)

// ErrTerms is returned when the terms of a plan, or a tax rate, are senseless.
var ErrTerms = errors.New("invalid terms")

// OveragePolicy says what happens past the included usage. The names cross the
// wire.
type OveragePolicy string

// OverageBill bills what is used past the included usage. OverageBlock turns it
// away at admission, so it needs one kind of included usage and no charges; Bill
// bills what came in all the same.
const (
	OverageBill  OveragePolicy = "bill"
	OverageBlock OveragePolicy = "block"
)

// Terms are the money side of a plan. The zero value is pay as you go: all usage
// at list price and nothing else. All amounts are in the org's currency and for a
// whole period; a segment of n of the period's d days has n/d of the fee, the
// included usage, the commitment and the fixed discount. Tiers are not prorated:
// they go by how much was used, not by how long.
type Terms struct {
	MonthlyFee     Amount          `json:"monthly_fee,omitzero"`      // in advance
	IncludedTokens uint64          `json:"included_tokens,omitempty"` // of tokens at list price
	IncludedAmount Amount          `json:"included_amount,omitzero"`  // of usage, after the included tokens
	Charges        []Charge        `json:"charges,omitempty"`         // instead of list prices
	Commitment     Amount          `json:"commitment,omitzero"`       // usage below it is trued up to it
	DiscountPct    decimal.Decimal `json:"discount_pct,omitzero"`     // 0 … 100, of usage and true-up, not of the fee
	DiscountAmount Amount          `json:"discount_amount,omitzero"`  // after the percentage, never below zero
	OveragePolicy  OveragePolicy   `json:"overage_policy,omitempty"`  // default OverageBill
}

// ChargeModel is how a charge turns a quantity into money. The names cross the wire.
type ChargeModel string

const (
	ChargeFlat      ChargeModel = "flat"      // each unit at the price of the only tier
	ChargeGraduated ChargeModel = "graduated" // each unit at the price of the tier it falls in
	ChargeVolume    ChargeModel = "volume"    // all units at the price of the tier that the last one falls in
	ChargePackage   ChargeModel = "package"   // begun packages at PackagePrice
)

// Charge prices some of the usage of a segment by tiers, instead of at list
// price. The quantities of all the models and buckets that it covers are added
// up. Without usage it charges nothing, flat fees included.
type Charge struct {
	Name    string      `json:"name"`
	Model   ChargeModel `json:"model"`
	Models  []string    `json:"models,omitempty"` // standard ids; empty covers every model
	Buckets []Bucket    `json:"buckets"`          // at least one, all of one Unit
	Tiers   []Tier      `json:"tiers,omitempty"`  // ascending; none for ChargePackage

	PackageSize  uint64 `json:"package_size,omitempty"`
	PackagePrice Amount `json:"package_price,omitzero"`
	FreeUnits    uint64 `json:"free_units,omitempty"` // of ChargePackage: before the first package
}

// Tier is a range of quantities: those after the previous tier's UpTo.
type Tier struct {
	UpTo      uint64          `json:"up_to,omitempty"`   // inclusive; 0 on the last tier only: no end
	UnitPrice decimal.Decimal `json:"unit_price"`        // per 1,000,000 tokens, per image or per request
	FlatFee   Amount          `json:"flat_fee,omitzero"` // once, when the tier is reached
}

// TaxRate is one tax that an org is charged.
type TaxRate struct {
	Name      string          `json:"name"`
	Pct       decimal.Decimal `json:"pct"`                 // 0 … 100
	Inclusive bool            `json:"inclusive,omitempty"` // it is in the prices already: shown, not added
}

const (
	chargesMax      = 100
	tiersMax        = 100
	taxRatesMax     = 20
	termsTextMax    = 256 // bytes of a name
	pctScaleMax     = 6
	modelsChargeMax = 1000
)

// Check returns ErrTerms unless the terms make sense.
func (t Terms) Check() error {
	for _, part := range []struct {
		name   string
		amount Amount
	}{{"monthly fee", t.MonthlyFee}, {"included amount", t.IncludedAmount}, {"commitment", t.Commitment}, {"fixed discount", t.DiscountAmount}} {
		if part.amount.Sign() < 0 {
			return fmt.Errorf("%w: the %s is negative", ErrTerms, part.name)
		}
	}
	if err := checkPct(t.DiscountPct); err != nil {
		return fmt.Errorf("%w: discount: %w", ErrTerms, err)
	}
	switch t.OveragePolicy {
	case "", OverageBill, OverageBlock:
	default:
		return fmt.Errorf("%w: overage policy %.20q is not %s or %s", ErrTerms, t.OveragePolicy, OverageBill, OverageBlock)
	}
	if t.Blocks() {
		if err := t.checkBlock(); err != nil {
			return err
		}
	}
	if len(t.Charges) > chargesMax {
		return fmt.Errorf("%w: %d charges, at most %d", ErrTerms, len(t.Charges), chargesMax)
	}
	for i := range t.Charges {
		if err := t.Charges[i].check(); err != nil {
			return fmt.Errorf("%w: charge %.50q: %w", ErrTerms, t.Charges[i].Name, err)
		}
		for j := range i {
			if t.Charges[i].Name == t.Charges[j].Name || overlap(&t.Charges[i], &t.Charges[j]) {
				return fmt.Errorf("%w: charges %.50q and %.50q have one name or cover the same usage", ErrTerms, t.Charges[j].Name, t.Charges[i].Name)
			}
		}
	}
	return nil
}

// checkBlock: what blocks has to be one number, in one unit.
func (t Terms) checkBlock() error {
	tokens, amount := t.IncludedTokens > 0, t.IncludedAmount.Sign() > 0
	switch {
	case tokens && amount:
		return fmt.Errorf("%w: a plan that blocks includes either tokens or an amount, not both: leave one out", ErrTerms)
	case !tokens && !amount:
		return fmt.Errorf("%w: a plan that blocks needs something to block at: give it included tokens or an included amount", ErrTerms)
	case len(t.Charges) > 0:
		return fmt.Errorf("%w: a plan that blocks goes by list prices: take its charges away, or bill what is used past the included usage", ErrTerms)
	}
	return nil
}

// Blocks reports whether usage past the included usage is turned away.
func (t Terms) Blocks() bool { return t.OveragePolicy == OverageBlock }

// Plain reports whether all usage is billed at list price and nothing is given
// or demanded on top; a fee may be due.
func (t Terms) Plain() bool {
	return t.IncludedTokens == 0 && t.IncludedAmount.IsZero() && len(t.Charges) == 0 &&
		t.Commitment.IsZero() && t.DiscountPct.IsZero() && t.DiscountAmount.IsZero()
}

func checkPct(pct decimal.Decimal) error {
	if e := pct.Exponent(); e > 2 || e < -10*AmountScale {
		return fmt.Errorf("the percentage has exponent %d", e)
	}
	if pct.IsNegative() || pct.Cmp(decimal.New(100, 0)) > 0 || !pct.Truncate(pctScaleMax).Equal(pct) {
		return fmt.Errorf("%s is not a percentage from 0 to 100 with at most %d decimal places", pct, pctScaleMax)
	}
	return nil
}

// CheckTaxes returns ErrTerms unless an org may be charged the taxes.
func CheckTaxes(rates []TaxRate) error {
	if len(rates) > taxRatesMax {
		return fmt.Errorf("%w: %d tax rates, at most %d", ErrTerms, len(rates), taxRatesMax)
	}
	for i, r := range rates {
		if err := checkPct(r.Pct); err != nil {
			return fmt.Errorf("%w: tax %.50q: %w", ErrTerms, r.Name, err)
		}
		if r.Name == "" || len(r.Name) > termsTextMax {
			return fmt.Errorf("%w: tax name %.50q is empty or over %d bytes", ErrTerms, r.Name, termsTextMax)
		}
		if slices.ContainsFunc(rates[:i], func(o TaxRate) bool { return o.Name == r.Name || o.Inclusive != r.Inclusive }) {
			return fmt.Errorf("%w: tax %.50q occurs twice, or is inclusive where another is not", ErrTerms, r.Name)
		}
	}
	return nil
}

func (c *Charge) check() error {
	switch {
	case c.Name == "" || len(c.Name) > termsTextMax:
		return errors.New("its name is empty or too long")
	case len(c.Buckets) == 0 || len(c.Buckets) > len(buckets):
		return errors.New("it covers no bucket, or one twice")
	case len(c.Models) > modelsChargeMax:
		return fmt.Errorf("it covers %d models, at most %d", len(c.Models), modelsChargeMax)
	}
	for i, b := range c.Buckets {
		unit, known := unitOf(b)
		if first, _ := unitOf(c.Buckets[0]); !known || unit != first || slices.Contains(c.Buckets[:i], b) {
			return fmt.Errorf("bucket %.20q is unknown, twice there, or counted otherwise than %s", b, c.Buckets[0])
		}
	}
	for i, m := range c.Models {
		if m == "" || slices.Contains(c.Models[:i], m) {
			return fmt.Errorf("model %.50q is empty or twice there", m)
		}
	}
	if c.Model == ChargePackage {
		if c.PackageSize == 0 || c.PackagePrice.Sign() < 0 || len(c.Tiers) > 0 {
			return errors.New("a package needs a size and a price that is not negative, and has no tiers")
		}
		return nil
	}
	if c.PackageSize != 0 || c.FreeUnits != 0 || !c.PackagePrice.IsZero() {
		return fmt.Errorf("only a %s has a package size, package price or free units", ChargePackage)
	}
	return c.checkTiers()
}

func (c *Charge) checkTiers() error {
	switch c.Model {
	case ChargeFlat:
		if len(c.Tiers) != 1 {
			return fmt.Errorf("%s needs one tier", ChargeFlat)
		}
	case ChargeGraduated, ChargeVolume:
		if len(c.Tiers) == 0 || len(c.Tiers) > tiersMax {
			return fmt.Errorf("%s needs 1 to %d tiers", c.Model, tiersMax)
		}
	default:
		return fmt.Errorf("its model %.20q is unknown", c.Model)
	}
	last := uint64(0)
	for i, t := range c.Tiers {
		if i < len(c.Tiers)-1 && t.UpTo <= last || i == len(c.Tiers)-1 && t.UpTo != 0 {
			return fmt.Errorf("tier %d: up_to must rise, and the last tier has none", i+1)
		}
		last = t.UpTo
		if _, err := exactCost(t.UnitPrice, UnitTokens, 1); err != nil {
			return fmt.Errorf("tier %d: %w", i+1, err)
		}
		if t.FlatFee.Sign() < 0 {
			return fmt.Errorf("tier %d: the flat fee is negative", i+1)
		}
	}
	return nil
}

func (c *Charge) covers(model string, b Bucket) bool {
	return slices.Contains(c.Buckets, b) && (len(c.Models) == 0 || slices.Contains(c.Models, model))
}

// overlap reports whether some usage is covered by both.
func overlap(a, b *Charge) bool {
	if !slices.ContainsFunc(a.Buckets, func(x Bucket) bool { return slices.Contains(b.Buckets, x) }) {
		return false
	}
	return len(a.Models) == 0 || len(b.Models) == 0 ||
		slices.ContainsFunc(a.Models, func(m string) bool { return slices.Contains(b.Models, m) })
}

// unitOf is what a bucket is counted in; false for a bucket that does not exist.
func unitOf(b Bucket) (Unit, bool) {
	for i := range buckets {
		if buckets[i].name == b {
			return buckets[i].unit, true
		}
	}
	return "", false
}
