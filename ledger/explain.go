package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"aione/catalog"
)

// Explain is the arithmetic of a line (the first is 1) in words, a step a line:
// where its numbers come from, what was done with them, and how it was rounded. It
// can be read literally: what stands before a "=" is what stands behind it, rounded
// to the minor unit where it says "(rounded)", the last of them is the line before
// it was rounded, and the last step its amount. ErrRequest when there is no such line.
func Explain(inv Invoice, line int) ([]string, error) {
	if line < 1 || line > len(inv.Lines) {
		return nil, fmt.Errorf("%w: invoice %s has no line %d", ErrRequest, inv.Number, line)
	}
	x := explanation{inv: &inv, n: line, line: &inv.Lines[line-1]}
	x.say("line %d of invoice %s: %s, period %s", line, numberOf(&inv), x.line.Kind, inv.Period.Label)
	x.where()
	x.exact = x.line.Exact.d
	if err := x.arithmetic(); err != nil {
		return nil, fmt.Errorf("explain line %d of invoice %s: %w", line, inv.Number, err)
	}
	x.rounding()
	return x.steps, nil
}

func (x *explanation) arithmetic() error {
	l := x.line
	switch l.Kind {
	case LineUsage:
		x.price()
		x.product()
	case LineTier:
		x.tier()
		x.product()
	case LineIncluded:
		return x.included()
	case LineCommitment:
		commitment, err := x.prorated("commitment")
		if err != nil {
			return err
		}
		usage := x.before(LineUsage, LineTier, LineIncluded)
		x.say("usage of the segment comes to %s less", x.money(l.Amount))
		x.say("%s - %s = %s", commitment, x.literal(usage), l.Amount)
	case LineFee, LineFeeAdvance:
		_, err := x.prorated("monthly fee")
		return err
	case LineFeeCharged:
		x.say("the fee of this period that an earlier invoice charged in advance is taken off")
		x.say("0 - %s = %s", l.Amount.Neg(), l.Amount)
	case LineAdjustment:
		return x.adjustment()
	case LineDiscount:
		return x.discount()
	case LineTax:
		x.say("%s of %s %% on subtotal + adjustments - discount: %s + %s - %s = %s", l.Name, l.Pct,
			x.literal(x.inv.Subtotal), x.literal(x.inv.Adjustments), x.literal(x.inv.Discount), x.money(l.Base))
		x.percentage(l.Base)
	case LineCredit:
		x.credit()
	case LineCarried:
		due := x.all()
		x.say("what lies below zero is carried to the prepaid balance; the lines before come to %s", x.money(due))
		x.say("-%s = %s", x.literal(due), l.Amount)
	}
	return nil
}

func numberOf(inv *Invoice) string {
	if inv.Number == "" {
		return "(draft)"
	}
	return inv.Number
}

type explanation struct {
	inv   *Invoice
	n     int // number of the line
	line  *Line
	steps []string
	exact decimal.Decimal // what the arithmetic comes to
}

func (x *explanation) say(format string, args ...any) {
	x.steps = append(x.steps, fmt.Sprintf(format, args...))
}

func (x *explanation) money(a Amount) string { return a.Format(x.inv.Currency) + " " + x.inv.Currency }

// literal is an amount as it stands in arithmetic: behind a sign in parentheses,
// where it has one itself.
func (x *explanation) literal(a Amount) string {
	if a.Sign() < 0 {
		return "(" + a.String() + ")"
	}
	return a.String()
}

// before is what the lines before this one come to that are of its segment, in
// time, and of these kinds.
func (x *explanation) before(kinds ...LineKind) Amount {
	var sum Amount
	for _, l := range x.inv.Lines[:x.n-1] {
		if !l.Late() && l.Segment == x.line.Segment && slices.Contains(kinds, l.Kind) {
			sum = Amount{d: sum.d.Add(l.Amount.d)}
		}
	}
	return sum
}

// all is what all lines before this one come to.
func (x *explanation) all() Amount {
	var sum Amount
	for _, l := range x.inv.Lines[:x.n-1] {
		sum = Amount{d: sum.d.Add(l.Amount.d)}
	}
	return sum
}

// segment is the one that the line belongs to; false when its origin has none.
func (x *explanation) segment() (Segment, bool) {
	segments := x.inv.Segments
	if x.line.Late() {
		segments = nil
		for _, o := range x.inv.Origins {
			if o.Period.Label == x.line.Origin {
				segments = o.Segments
			}
		}
	}
	if x.line.Segment < len(segments) {
		return segments[x.line.Segment], true
	}
	return Segment{}, false
}

// where says which days and which plan the line is of.
func (x *explanation) where() {
	if x.line.Late() {
		x.say("late: it occurred in period %s and arrived after sequence %d, where that had been closed already", x.line.Origin, x.inv.PreviousCut)
	}
	switch x.line.Kind {
	case LineTax, LineCredit, LineCarried, LineFeeCharged, LineFeeAdvance, LineAdjustment:
		return
	}
	if s, ok := x.segment(); ok && s.PlanCode != "" {
		x.say("plan %s, %s to %s (%d days)", s.PlanCode, s.First, s.First.AddDays(s.Days-1), s.Days)
	}
}

func (x *explanation) price() {
	if p, ok := x.inv.PriceOf(x.line.PriceVersion); ok {
		x.say("price version %s of %s, in force from %s", p.Version, p.Model, p.EffectiveFrom.Format("2006-01-02T15:04:05Z"))
	}
	if k := x.inv.Correction; k != nil {
		for _, r := range k.Repriced {
			if r.Price.Version == x.line.PriceVersion {
				x.say("price version %s replaces %s, which the usage was stamped with: %s", r.Price.Version, r.Version, k.Reason)
			}
		}
	}
	x.say("bucket %s: %s per %s", x.line.Bucket, x.line.UnitPrice, perUnit(x.line.Unit))
}

func perUnit(u Unit) string {
	if u == UnitTokens {
		return "1,000,000 tokens"
	}
	return strings.TrimSuffix(string(u), "s")
}

// product is quantity × price, and the flat fee; below zero for what is included.
func (x *explanation) product() {
	l := x.line
	text := fmt.Sprintf("%d %s × %s", l.Quantity, l.Unit, l.UnitPrice)
	if l.Unit == UnitTokens {
		text += " ÷ 1,000,000"
	}
	if !l.FlatFee.IsZero() {
		text += fmt.Sprintf(" + flat fee %s", l.FlatFee)
	}
	if l.Kind == LineIncluded {
		text = "-" + text
	}
	x.say("%s = %s", text, l.Exact)
}

// percentage is the line's percentage of an amount, rounded.
func (x *explanation) percentage(of Amount) {
	text, sum := fmt.Sprintf("%s × %s ÷ 100", x.literal(of), x.line.Pct), x.line.Amount
	if x.line.Kind == LineDiscount {
		text, sum = "-"+text, sum.Neg()
	}
	rounded := ""
	if !of.d.Mul(x.line.Pct).Equal(sum.d.Shift(2)) {
		rounded = " (rounded)"
	}
	x.say("%s = %s%s", text, x.line.Amount, rounded)
}

func (x *explanation) tier() {
	s, _ := x.segment()
	for i := range s.Terms.Charges {
		c := &s.Terms.Charges[i]
		if c.Name != x.line.Name {
			continue
		}
		models := "every model"
		if len(c.Models) > 0 {
			models = strings.Join(c.Models, ", ")
		}
		x.say("charge %s (%s) covers %v of %s", c.Name, c.Model, c.Buckets, models)
		if c.Model == ChargePackage {
			x.say("begun packages of %d, the first %d free", c.PackageSize, c.FreeUnits)
			return
		}
		from := uint64(1)
		if x.line.Tier > 1 {
			from = c.Tiers[x.line.Tier-2].UpTo + 1
		}
		until := "on"
		if t := c.Tiers[x.line.Tier-1]; t.UpTo != 0 {
			until = fmt.Sprintf("to %d", t.UpTo)
		}
		x.say("tier %d, from %d %s: %s per %s", x.line.Tier, from, until, x.line.UnitPrice, perUnit(x.line.Unit))
	}
}

func (x *explanation) included() error {
	s, _ := x.segment()
	l := x.line
	if l.Bucket == "" {
		included, err := x.prorated("included amount")
		if err != nil {
			return err
		}
		usage := x.before(LineUsage, LineTier, LineIncluded)
		if s.Terms.Blocks() && included.Cmp(usage) < 0 && usage.Neg().Cmp(l.Amount) == 0 {
			x.say("plan %s blocks: exact usage within it is taken off whole, with what its lines round up", l.Name)
			x.say("-%s = %s", usage, l.Amount)
			return nil
		}
		x.say("at most what the usage comes to, %s", x.money(usage))
		x.say("-min(%s, %s) = %s", included, usage, l.Amount)
		return nil
	}
	x.say("%d included tokens × %d ÷ %d days, spread over the token lines in proportion to their quantities; %d fall on this one",
		s.Terms.IncludedTokens, l.Days, l.OfDays, l.Quantity)
	x.price()
	x.product()
	return nil
}

// prorated says what the base of the line is for its days, and returns it.
func (x *explanation) prorated(what string) (Amount, error) {
	l := x.line
	a, err := prorate(l.Base, l.Days, l.OfDays, x.inv.Currency)
	if err != nil {
		return a, err
	}
	rounded := ""
	if !l.Base.d.Mul(decimal.NewFromInt(int64(l.Days))).Equal(a.d.Mul(decimal.NewFromInt(int64(l.OfDays)))) {
		rounded = " (rounded)"
	}
	x.say("%s of plan %s: %s × %d ÷ %d days = %s%s", what, l.Name, x.money(l.Base), l.Days, l.OfDays, a, rounded)
	return a, nil
}

// adjustment works out again what the origin's terms make of its usage.
func (x *explanation) adjustment() error {
	in := x.inv.billInput()
	r := &rater{currency: in.Currency, prices: in.Prices, repriced: in.Correction.prices(), used: make(map[string]catalog.Price)}
	for i := range x.inv.Origins {
		o := &x.inv.Origins[i]
		if o.Period.Label != x.line.Origin {
			continue
		}
		var late []Quantity
		for _, q := range x.inv.Inputs.Quantities {
			if q.Origin == o.Period.Label {
				late = append(late, q)
			}
		}
		all, err := merge(o.Billed, late)
		if err != nil {
			return err
		}
		before, err := r.chargeOf(o, o.Billed)
		if err != nil {
			return err
		}
		after, err := r.chargeOf(o, all)
		if err != nil {
			return err
		}
		list := decimal.Decimal{}
		for _, l := range x.inv.Lines {
			if l.Kind == LineUsage && l.Origin == o.Period.Label {
				list = list.Add(l.Exact.d)
			}
		}
		var codes []string
		for _, s := range o.Segments {
			codes = append(codes, s.PlanCode)
		}
		x.say("usage of %s under its own terms (plan %s): %s without and %s with what came late", o.Period.Label, strings.Join(codes, ", "), before, after)
		x.exact = after.Sub(before).Sub(list)
		x.say("less the late lines at list price: %s - %s - %s = %s", after, before, list, x.exact)
	}
	return nil
}

func (x *explanation) discount() error {
	l := x.line
	if !l.Pct.IsZero() {
		x.say("discount of plan %s: %s %% of usage and true-up, %s", l.Name, l.Pct, x.money(l.Base))
		x.percentage(l.Base)
		return nil
	}
	fixed, err := x.prorated("fixed discount")
	if err != nil {
		return err
	}
	left := x.before(LineUsage, LineTier, LineIncluded, LineCommitment, LineDiscount)
	x.say("never more than there is to discount, %s", x.money(left))
	x.say("-min(%s, %s) = %s", fixed, left, l.Amount)
	return nil
}

func (x *explanation) credit() {
	for _, c := range x.inv.Credits {
		if c.Grant.ID == x.line.GrantID {
			x.say("%s credit %s of %s, %s of it left before", c.Grant.Kind, c.Grant.ID, x.money(c.Grant.Amount), x.money(c.Remaining))
			if !c.Grant.ExpiresAt.IsZero() {
				x.say("it expires at %s", c.Grant.ExpiresAt.Format("2006-01-02T15:04:05Z"))
			}
			due := x.all()
			x.say("it pays at most what is due, %s", x.money(due))
			x.say("-min(%s, %s) = %s", c.Remaining, due, x.line.Amount)
		}
	}
}

func (x *explanation) rounding() {
	places, _ := MinorUnits(x.inv.Currency)
	if x.exact.Equal(x.line.Amount.d) {
		x.say("amount: %s", x.money(x.line.Amount))
		return
	}
	x.say("rounded once, a half to even, to %s: %s", decimal.New(1, -places), x.money(x.line.Amount))
}
