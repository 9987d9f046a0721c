package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/catalog"
)

// Errors of Bill, in the order in which it looks for them. ErrInputs comes after
// ErrBillInput, ErrNothingToBill last.
var (
	// ErrBillInput is returned when a field of BillInput is missing or senseless.
	ErrBillInput = errors.New("invalid bill input")
	// ErrNothingToBill is returned when no usage was counted and no fee or commitment
	// is due: such a period gets no invoice.
	ErrNothingToBill = errors.New("nothing to bill")
	// ErrUnknownPrice is returned when usage names a price version that is not among
	// the prices, or that belongs to another model.
	ErrUnknownPrice = errors.New("unknown price version")
	// ErrCurrencyMismatch is returned when usage was priced in a currency other than
	// the org's.
	ErrCurrencyMismatch = errors.New("usage is priced in another currency")
	// ErrRatingMismatch is returned when quantity × price is not the cost that was
	// stamped on the usage when it happened. One of the two is wrong; nothing is
	// invoiced until it is known which.
	ErrRatingMismatch = errors.New("usage was stamped with a cost that its price version does not give")
)

// BillInput is all that an invoice depends on.
type BillInput struct {
	OrgID       uuid.UUID
	LegalEntity string // who issues the invoice
	Currency    string // ISO 4217
	Period      Period
	CreatedAt   time.Time // the instant of the run
	CreatedOn   Date      // its date in the org's time zone
	TermsDays   int       // payment is due so many days after CreatedOn

	Segments []Segment // of the period: SegmentsOf; none: pay as you go all through
	Next     Segment   // the next period, whose fee is due in advance: NextSegment; zero: no fee is due
	Advance  Amount    // fee of this period that the org's invoices charged in advance
	TaxRates []TaxRate
	Credits  []Credit // what the org has; those not used are left out of the invoice

	Cut         uint64 // sequence up to which Inputs are counted
	PreviousCut uint64 // cut of the org's previous period, 0 when there is none
	Inputs      Inputs
	Origins     []Origin                 // closed periods; those without late usage are left out of the invoice
	Prices      map[string]catalog.Price // by version; those not used are left out of the invoice

	Correction *Correction // of an invoice that replaces a void one: see Correct
}

func (in *BillInput) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrBillInput, fmt.Sprintf(format, args...))
	}
	label, err := time.Parse("2006-01", in.Period.Label)
	switch {
	case in.OrgID == uuid.Nil:
		return bad("org id is missing")
	case in.LegalEntity == "":
		return bad("legal entity is missing")
	case err != nil:
		return bad("period label %q", in.Period.Label)
	case in.Period.Anchor < 0 || in.Period.Anchor > 31:
		return bad("anchor day %d", in.Period.Anchor)
	case !in.Period.Start.Before(in.Period.End):
		return bad("period %s ends before it starts", in.Period.Label)
	case !in.Period.Contains(label.AddDate(0, 0, in.Period.FirstDay().Day+13)): // two weeks in, whatever the zone
		return bad("period %s does not hold its own month", in.Period.Label)
	case in.CreatedAt.IsZero() || in.CreatedOn == Date{}:
		return bad("creation instant or date is missing")
	case in.TermsDays < 0 || in.TermsDays > 3650:
		return bad("payment terms of %d days", in.TermsDays)
	case in.Cut < in.PreviousCut:
		return bad("cut %d is before the previous cut %d", in.Cut, in.PreviousCut)
	}
	if _, ok := MinorUnits(in.Currency); !ok {
		return fmt.Errorf("%w: %q: %w", ErrBillInput, in.Currency, ErrUnknownCurrency)
	}
	return in.checkTerms()
}

// checkTerms checks what the plan, the taxes and the credits say.
func (in *BillInput) checkTerms() error {
	if in.Advance.Sign() < 0 || !isMinor(in.Advance, in.Currency) {
		return fmt.Errorf("%w: %s charged in advance", ErrBillInput, in.Advance)
	}
	if err := checkSegments(in.Segments, in.Period); err != nil {
		return err
	}
	if err := in.checkNext(); err != nil {
		return err
	}
	if err := CheckTaxes(in.TaxRates); err != nil {
		return fmt.Errorf("%w: %w", ErrBillInput, err)
	}
	if err := checkCredits(in.Credits, in.Currency); err != nil {
		return fmt.Errorf("%w: %w", ErrBillInput, err)
	}
	for i := range in.Origins {
		o := &in.Origins[i]
		if len(o.Segments) > 0 {
			if err := checkSegments(o.Segments, o.Period); err != nil {
				return err
			}
		}
		if o.Period.End.After(in.Period.Start) || i > 0 && o.Period.Start.Before(in.Origins[i-1].Period.End) {
			return fmt.Errorf("%w: closed period %s is not before the next one", ErrBillInput, o.Period.Label)
		}
	}
	return in.Correction.check(in.Currency)
}

func (in *BillInput) checkNext() error {
	if in.Next.Days == 0 && in.Next.Terms.MonthlyFee.IsZero() {
		return nil
	}
	first := in.Period.FirstDay()
	end := anchorDay(first.Year, first.Month+2, in.Period.anchor())
	if next := in.Next.First; next != in.Period.LastDay().AddDays(1) || in.Next.Days != next.DaysUntil(end) || !in.Next.Start.Equal(in.Period.End) {
		return fmt.Errorf("%w: the next period does not follow %s", ErrBillInput, in.Period.Label)
	}
	if err := in.Next.Terms.Check(); err != nil {
		return fmt.Errorf("%w: the next period: %w", ErrBillInput, err)
	}
	return nil
}

// Bill computes the invoice of a period as a draft. Equal inputs, in any order,
// give equal bytes.
//
// Usage of each segment is billed at list price, or by the tiers of the charges
// that cover it; included tokens and the included amount are taken off, a
// commitment is filled up, and discounts are taken off what this comes to. The fee
// of the next period is due in advance, and what was charged of this one is put
// right. Late usage is billed as the terms of its own period would have had it.
// Tax is on all of this; credits then pay what they can. What would be below zero
// is carried to the org's prepaid balance.
func Bill(in BillInput) (Invoice, error) {
	if len(in.Segments) == 0 {
		in.Segments = []Segment{wholePeriod(in.Period)}
	}
	if err := in.check(); err != nil {
		return Invoice{}, err
	}
	quantities, err := in.Inputs.sorted()
	if err != nil {
		return Invoice{}, err
	}
	r := &rater{currency: in.Currency, prices: in.Prices, repriced: in.Correction.prices(), used: make(map[string]catalog.Price)}
	for i := range quantities {
		if q := &quantities[i]; !r.perRequest(q) && !in.coversRequests(q) {
			q.Empty = 0
		}
	}
	inv := in.draft()
	inv.Inputs = Inputs{Quantities: quantities, Rows: in.Inputs.Rows, RowsDigest: in.Inputs.RowsDigest}
	discounts, err := inv.billPeriod(r, &in)
	if err != nil {
		return Invoice{}, err
	}
	if err := inv.billLate(r, in.Origins); err != nil {
		return Invoice{}, err
	}
	inv.Lines = append(inv.Lines, discounts...)
	if len(quantities) == 0 && len(inv.Lines) == 0 {
		return Invoice{}, fmt.Errorf("org %s, period %s: %w", in.OrgID, in.Period.Label, ErrNothingToBill)
	}
	for _, version := range slices.Sorted(maps.Keys(r.used)) {
		inv.Prices = append(inv.Prices, r.used[version])
	}
	if err := inv.close(in.Credits); err != nil {
		return Invoice{}, fmt.Errorf("org %s, period %s: %w", in.OrgID, in.Period.Label, err)
	}
	inv.InputHash = inv.hashInputs()
	return inv, nil
}

// wholePeriod is a period without a plan.
func wholePeriod(p Period) Segment {
	first := p.FirstDay()
	return Segment{First: first, Days: first.DaysUntil(p.LastDay()) + 1, Start: p.Start, End: p.End}
}

// draft is the invoice without its lines.
func (in *BillInput) draft() Invoice {
	inv := Invoice{
		ID: InvoiceID(in.OrgID, in.Period.Label), OrgID: in.OrgID, LegalEntity: in.LegalEntity, Currency: in.Currency,
		Period:    Period{Label: in.Period.Label, Start: in.Period.Start.UTC(), End: in.Period.End.UTC(), Anchor: in.Period.anchor()},
		CreatedAt: in.CreatedAt.UTC(), CreatedOn: in.CreatedOn, TermsDays: in.TermsDays,
		DueDate: in.CreatedOn.AddDays(in.TermsDays), Status: StatusDraft,
		Cut: in.Cut, PreviousCut: in.PreviousCut, Segments: in.Segments, Next: in.Next, Advance: in.Advance,
		TaxRates: in.TaxRates, Correction: in.Correction,
	}
	if in.Correction != nil {
		inv.ID = CorrectedInvoiceID(in.OrgID, in.Period.Label, in.Correction.N)
	}
	return inv
}

// billPeriod adds the lines of the period's own usage and of its fees, and
// returns those of its discounts.
func (inv *Invoice) billPeriod(r *rater, in *BillInput) (discounts []Line, err error) {
	ofDays := daysOf(inv.Segments)
	inTime := slices.DeleteFunc(slices.Clone(inv.Inputs.Quantities), func(q Quantity) bool { return q.Late })
	for _, q := range inTime {
		if q.Segment < 0 || q.Segment >= len(inv.Segments) {
			return nil, fmt.Errorf("%w: usage of %s in segment %d of %d", ErrInputs, q.Model, q.Segment, len(inv.Segments))
		}
	}
	for i := range inv.Segments {
		seg := &inv.Segments[i]
		usage, err := r.segmentUsage(seg, i, ofDays, "", inSegment(inTime, i))
		if err != nil {
			return nil, err
		}
		lines, off, err := seg.settleLines(i, ofDays, usage, inv.Currency)
		if err != nil {
			return nil, err
		}
		inv.Lines = append(append(inv.Lines, usage...), lines...)
		discounts = append(discounts, off...)
	}
	fees, err := feeLines(in, ofDays)
	inv.Lines = append(inv.Lines, fees...)
	return discounts, err
}

// billLate adds the lines of late usage, and notes the closed periods it is of.
func (inv *Invoice) billLate(r *rater, closed []Origin) error {
	var late []Quantity
	for _, q := range inv.Inputs.Quantities {
		if q.Late {
			late = append(late, q)
		}
	}
	for _, o := range append(slices.Clone(closed), Origin{Period: Period{Label: OriginEarlier}}) {
		var of []Quantity
		for len(late) > 0 && late[0].Origin == o.Period.Label { // both are sorted, the oldest first
			of, late = append(of, late[0]), late[1:]
		}
		if len(of) == 0 {
			continue
		}
		for _, q := range of {
			if q.Segment < 0 || q.Segment >= max(len(o.Segments), 1) {
				return fmt.Errorf("%w: usage of %s in segment %d of %s", ErrInputs, q.Model, q.Segment, q.Origin)
			}
		}
		if o.plain() {
			o.Billed = nil // it makes no difference
		}
		var err error
		if o.Billed, err = merge(o.Billed); err != nil {
			return err
		}
		lines, err := r.originLines(&o, of)
		if err != nil {
			return err
		}
		inv.Lines = append(inv.Lines, lines...)
		if o.Period.Label != OriginEarlier {
			inv.Origins = append(inv.Origins, o)
		}
	}
	if len(late) > 0 {
		return fmt.Errorf("%w: late usage of %s, which is no closed period", ErrInputs, late[0].Origin)
	}
	return nil
}

// coversRequests reports whether a charge of the period that q occurred in counts
// requests of its model.
func (in *BillInput) coversRequests(q *Quantity) bool {
	segments := in.Segments
	if q.Late {
		segments = nil
		for i := range in.Origins {
			if in.Origins[i].Period.Label == q.Origin {
				segments = in.Origins[i].Segments
			}
		}
	}
	return slices.ContainsFunc(segments, func(s Segment) bool {
		return slices.ContainsFunc(s.Terms.Charges, func(c Charge) bool { return c.covers(q.Model, BucketRequests) })
	})
}
