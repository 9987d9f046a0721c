package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// InputsQuery asks for the usage that an invoice has to count. A usage row of
// OrgID belongs to the answer when
//
//	occurred_at < End
//	AND stream_seq <= Cut
//	AND NOT (occurred_at < Start AND stream_seq <= PreviousCut)
//	AND occurred_at >= LateFrom
//	AND it is counted (no copy of an event already counted, not set aside)
//	AND it is not sandbox usage
//
// It is late when occurred_at < Start: it belongs to a period that was closed at
// PreviousCut, before the row arrived. As cuts of an org never fall, each row is
// in the answer of exactly one of the org's periods. Those that only LateFrom
// keeps out are told of in TooLateRows and TooLateCost.
//
// Rows are grouped by (model, price version, span): the span of a row is the last
// of Spans whose Start is not after occurred_at, or none when all are. What comes
// back is how many spans have begun; SpanOf says what Origin and Segment that is.
type InputsQuery struct {
	OrgID       uuid.UUID
	Start       time.Time // UTC, inclusive
	End         time.Time // UTC, exclusive
	Cut         uint64    // sequence in the org's USAGE stream; rows after it are not counted yet
	PreviousCut uint64    // cut of the org's previous period, 0 when there is none
	Spans       []Span    // ascending; see SpansOf
	LateFrom    time.Time // not after Start; zero: usage is never too late
	PaidFrom    time.Time // see Inputs.Paid; zero: nothing is asked
}

// Span is a stretch of time from Start to the next span's: a segment of the
// period or of a closed one.
type Span struct {
	Start   time.Time
	Origin  string // label of the closed period; empty in the invoice's own
	Segment int    // index in the segments of that period
}

// OriginEarlier is the origin of late usage from a time that no closed period
// covers. It is billed at list price.
const OriginEarlier = "earlier"

// Origin is a closed period that late usage may belong to.
type Origin struct {
	Period   Period    `json:"period"`
	Segments []Segment `json:"segments"` // empty: pay as you go all through

	// Billed is what earlier invoices have counted of the period, by segment, model
	// and price version: see BilledOf. It only matters where the terms are not Plain.
	Billed []Quantity `json:"billed,omitempty"`
}

// SpansOf lists the spans of closed periods, oldest first, and of the segments of
// the period to be invoiced. Usage between or before them is of OriginEarlier. No
// two spans begin together.
func SpansOf(closed []Origin, segments []Segment) []Span {
	var spans []Span
	var end time.Time
	add := func(start, until time.Time, origin string, segment int) {
		if len(spans) > 0 && !start.Equal(end) {
			spans = append(spans, Span{Start: end, Origin: OriginEarlier})
		}
		spans, end = append(spans, Span{Start: start, Origin: origin, Segment: segment}), until
	}
	for _, o := range closed {
		if len(o.Segments) == 0 {
			add(o.Period.Start, o.Period.End, o.Period.Label, 0)
		}
		for i, s := range o.Segments {
			add(s.Start, s.End, o.Period.Label, i)
		}
	}
	for i, s := range segments {
		add(s.Start, s.End, "", i)
	}
	return spans
}

// SpanOf is what the usage of a group belongs to, by its number of spans that
// have begun.
func (q *InputsQuery) SpanOf(begun int) Span {
	switch {
	case begun > 0 && begun <= len(q.Spans):
		return q.Spans[begun-1]
	case len(q.Spans) == 0 && begun == 0: // a query without segments: the period as a whole
		return Span{Start: q.Start}
	}
	return Span{Origin: OriginEarlier}
}

// Quantity is the usage of one group: rows are grouped by model, price version,
// origin and segment.
type Quantity struct {
	Model        string `json:"model"`
	PriceVersion string `json:"price_version"`

	// Late usage occurred before InputsQuery.Start. Origin is then the label
	// ("2023-11") of the closed period that it occurred in, or OriginEarlier, and
	// empty otherwise.
	Late    bool   `json:"late"`
	Origin  string `json:"origin,omitempty"`
	Segment int    `json:"segment,omitempty"` // index of the segment of its period

	Tokens   events.Tokens `json:"tokens"`   // sums
	Images   uint64        `json:"images"`   // sum
	Requests uint64        `json:"requests"` // number of rows
	// Empty is how many of the rows have nothing in them and cost nothing: attempts
	// that brought the client nothing. A price per request is not taken for those. In
	// an invoice it is zero where nothing is charged per request.
	Empty uint64          `json:"empty,omitempty"`
	Cost  decimal.Decimal `json:"cost"` // exact sum of the costs stamped on the rows
}

// Inputs is the answer to an InputsQuery. The order of Quantities has no meaning:
// Bill sorts them.
type Inputs struct {
	Quantities []Quantity `json:"quantities"`
	Rows       uint64     `json:"rows"` // all rows counted, = Σ Requests

	// RowsDigest identifies the exact set of rows. It must not depend on their
	// order. This package only stores and hashes it; it may be empty.
	RowsDigest string `json:"rows_digest,omitempty"`

	// What follows is no part of an invoice, and is not kept with it. Rows of usage
	// from before LateFrom, and what was stamped on them:
	TooLateRows uint64          `json:"-"`
	TooLateCost decimal.Decimal `json:"-"`
	// Paid is what was stamped on all rows, those that came too late included, that
	// occurred at PaidFrom or later: usage that a balance has paid already.
	Paid decimal.Decimal `json:"-"`
}

// ErrInputs is returned when Inputs contradict themselves: the source that
// counted them is broken.
var ErrInputs = errors.New("invoice inputs contradict themselves")

// sorted returns the quantities in their one canonical order, checked.
func (in Inputs) sorted() ([]Quantity, error) {
	qs := slices.Clone(in.Quantities)
	slices.SortFunc(qs, compareQuantities)
	rows := uint64(0)
	for i, q := range qs {
		switch {
		case i > 0 && compareQuantities(qs[i-1], q) == 0:
			return nil, fmt.Errorf("%w: %s %s %q segment %d occurs twice", ErrInputs, q.Model, q.PriceVersion, q.Origin, q.Segment)
		case q.Late != (q.Origin != ""):
			return nil, fmt.Errorf("%w: %s late is %t but its origin is %q", ErrInputs, q.Model, q.Late, q.Origin)
		case q.Requests == 0:
			return nil, fmt.Errorf("%w: %s %s has no rows", ErrInputs, q.Model, q.PriceVersion)
		case q.Empty > q.Requests:
			return nil, fmt.Errorf("%w: %s %s has %d empty rows of %d", ErrInputs, q.Model, q.PriceVersion, q.Empty, q.Requests)
		case q.Cost.IsNegative():
			return nil, fmt.Errorf("%w: %s %s has a negative cost %s", ErrInputs, q.Model, q.PriceVersion, q.Cost)
		}
		rows += q.Requests
		if rows < q.Requests {
			return nil, fmt.Errorf("%w: the number of rows overflows", ErrInputs)
		}
	}
	if rows != in.Rows {
		return nil, fmt.Errorf("%w: %d rows in all, but the groups have %d", ErrInputs, in.Rows, rows)
	}
	return qs, nil
}

// charged is the number of requests that a price per request is taken for.
func (q *Quantity) charged() uint64 { return q.Requests - q.Empty }

// compareQuantities orders usage in time before late usage, older origins first.
func compareQuantities(a, b Quantity) int {
	return cmp.Or(
		cmp.Compare(a.Origin, b.Origin),
		cmp.Compare(a.Segment, b.Segment),
		cmp.Compare(a.Model, b.Model),
		cmp.Compare(a.PriceVersion, b.PriceVersion),
	)
}
