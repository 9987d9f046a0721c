package ledger

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"aione/catalog"
)

// Explain is the arithmetic of a line (the first is 1) in words, a step a line:
// where its numbers come from, what was done with them, and how it was rounded.
// ErrRequest when there is no such line.
func Explain(inv Invoice, line int) ([]string, error) {
	if line < 1 || line > len(inv.Lines) {
		return nil, fmt.Errorf("%w: invoice %s has no line %d", ErrRequest, inv.Number, line)
	}
	x := explanation{inv: &inv, line: &inv.Lines[line-1]}
	x.say("line %d of invoice %s: %s, period %s", line, numberOf(&inv), x.line.Kind, inv.Period.Label)
	x.where()
	switch x.line.Kind {
	case LineUsage:
		x.price()
		x.product()
	case LineTier:
		x.tier()
		x.product()
	case LineIncluded:
		x.included()
	case LineCommitment:
		x.say("commitment of plan %s: %s", x.line.Name, x.prorated())
		x.say("usage of the segment comes to %s less", x.money(x.line.Amount))
	case LineFee, LineFeeAdvance:
		x.say("monthly fee of plan %s: %s", x.line.Name, x.prorated())
	case LineFeeCharged:
		x.say("the fee of this period that an earlier invoice charged in advance")
	case LineAdjustment:
		if err := x.adjustment(); err != nil {
			return nil, fmt.Errorf("explain line %d of invoice %s: %w", line, inv.Number, err)
		}
	case LineDiscount:
		x.discount()
	case LineTax:
		x.say("%s of %s %% on subtotal + adjustments - discount = %s", x.line.Name, x.line.Pct, x.money(x.line.Base))
		x.say("%s × %s ÷ 100", x.line.Base, x.line.Pct)
	case LineCredit:
		x.credit()
	case LineCarried:
		x.say("what lies below zero is carried to the prepaid balance")
	}
	x.rounding()
	return x.steps, nil
}

func numberOf(inv *Invoice) string {
	if inv.Number == "" {
		return "(draft)"
	}
	return inv.Number
}

type explanation struct {
	inv   *Invoice
	line  *Line
	steps []string
}

func (x *explanation) say(format string, args ...any) {
	x.steps = append(x.steps, fmt.Sprintf(format, args...))
}

func (x *explanation) money(a Amount) string { return a.Format(x.inv.Currency) + " " + x.inv.Currency }

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
	for _, p := range x.inv.Prices {
		if p.Version == x.line.PriceVersion {
			x.say("price version %s of %s, in force from %s", p.Version, p.Model, p.EffectiveFrom.Format("2006-01-02T15:04:05Z"))
		}
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

// product is quantity × price, and the flat fee.
func (x *explanation) product() {
	l := x.line
	text := fmt.Sprintf("%d %s × %s", l.Quantity, l.Unit, l.UnitPrice)
	if l.Unit == UnitTokens {
		text += " ÷ 1,000,000"
	}
	if !l.FlatFee.IsZero() {
		text += fmt.Sprintf(" + flat fee %s", l.FlatFee)
	}
	x.say("%s = %s", text, Amount{d: l.Exact.d.Abs()})
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

func (x *explanation) included() {
	s, _ := x.segment()
	if x.line.Bucket == "" {
		x.say("included amount: %s, at most what the usage comes to", x.prorated())
		if s.Terms.Blocks() {
			x.say("plan %s blocks: exact usage within it is taken off whole, with what its lines round up", x.line.Name)
		}
		return
	}
	x.say("%d included tokens × %d ÷ %d days, spread over the token lines in proportion to their quantities; %d fall on this one",
		s.Terms.IncludedTokens, x.line.Days, x.line.OfDays, x.line.Quantity)
	x.price()
	x.product()
}

// prorated is the base of the line, with the days it is for.
func (x *explanation) prorated() string {
	l := x.line
	if l.Days == l.OfDays {
		return x.money(l.Base)
	}
	return fmt.Sprintf("%s × %d ÷ %d days", x.money(l.Base), l.Days, l.OfDays)
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
		x.say("%s - %s, less the late lines at list price, %s", after, before, list)
	}
	return nil
}

func (x *explanation) discount() {
	if x.line.Pct.IsZero() {
		x.say("fixed discount of plan %s: %s, never more than there is to discount", x.line.Name, x.prorated())
		return
	}
	x.say("discount of plan %s: %s %% of usage and true-up, %s", x.line.Name, x.line.Pct, x.money(x.line.Base))
	x.say("%s × %s ÷ 100", x.line.Base, x.line.Pct)
}

func (x *explanation) credit() {
	for _, c := range x.inv.Credits {
		if c.Grant.ID == x.line.GrantID {
			x.say("%s credit %s of %s, %s of it left before", c.Grant.Kind, c.Grant.ID, x.money(c.Grant.Amount), x.money(c.Remaining))
			if !c.Grant.ExpiresAt.IsZero() {
				x.say("it expires at %s", c.Grant.ExpiresAt.Format("2006-01-02T15:04:05Z"))
			}
		}
	}
}

func (x *explanation) rounding() {
	places, _ := MinorUnits(x.inv.Currency)
	if x.line.Exact.Cmp(x.line.Amount) == 0 {
		x.say("amount: %s", x.money(x.line.Amount))
		return
	}
	x.say("rounded once, a half to even, to %s: %s", decimal.New(1, -places), x.money(x.line.Amount))
}
