package ledger

import (
	"fmt"
	"slices"
	"time"
)

// Plan is what an org has agreed to from an instant on, as far as money goes.
type Plan struct {
	Code  string
	Terms Terms
	From  time.Time
}

// Segment is a run of whole local days of a period in which one plan is in
// force. The segments of a period tile it.
type Segment struct {
	First    Date      `json:"first"` // local
	Days     int       `json:"days"`  // of the calendar
	Start    time.Time `json:"start"` // UTC, inclusive
	End      time.Time `json:"end"`   // UTC, exclusive
	PlanCode string    `json:"plan_code,omitempty"`
	Terms    Terms     `json:"terms,omitzero"`
}

// SegmentsOf splits a period by the plans in force. A plan is in force from the
// start of the local date of its From until the next one is; of several on one
// date the last counts. Days before the first plan are pay as you go, without a
// plan code. Plans need not be sorted.
func SegmentsOf(p Period, zone *time.Location, plans []Plan) []Segment {
	plans = slices.Clone(plans)
	slices.SortStableFunc(plans, func(a, b Plan) int { return a.From.Compare(b.From) })
	end := p.LastDay().AddDays(1)
	segments := []Segment{{First: p.FirstDay(), Start: p.Start}}
	for _, plan := range plans {
		from, last := DateOf(plan.From, zone), &segments[len(segments)-1]
		switch {
		case !from.Before(end):
			continue
		case !last.First.Before(from): // in force before the period began, or on the same date as another
			last.PlanCode, last.Terms = plan.Code, plan.Terms
		default:
			start := startOfDay(from, zone)
			segments = append(segments, Segment{First: from, Start: start, PlanCode: plan.Code, Terms: plan.Terms})
		}
	}
	for i := range segments {
		next, until := end, p.End
		if i+1 < len(segments) {
			next, until = segments[i+1].First, segments[i+1].Start
		}
		segments[i].Days, segments[i].End = segments[i].First.DaysUntil(next), until
	}
	return segments
}

// NextSegment is the whole period after p, under the plan that is known to be in
// force when it begins: what a fee in advance is charged for.
func NextSegment(p Period, zone *time.Location, plans []Plan) Segment {
	next := p.Next(zone)
	known := slices.DeleteFunc(slices.Clone(plans), func(plan Plan) bool { return next.FirstDay().Before(DateOf(plan.From, zone)) })
	return SegmentsOf(next, zone, known)[0]
}

// checkSegments returns ErrBillInput unless the segments tile the period.
func checkSegments(segments []Segment, p Period) error {
	bad := func(i int, what string) error {
		return fmt.Errorf("%w: segment %d of period %s %s", ErrBillInput, i, p.Label, what)
	}
	if len(segments) == 0 {
		return bad(0, "is missing")
	}
	at, day := p.Start, p.FirstDay()
	for i, s := range segments {
		switch {
		case s.Days < 1 || s.Days > 62:
			return bad(i, fmt.Sprintf("has %d days", s.Days))
		case s.First != day || !s.Start.Equal(at) || !s.Start.Before(s.End):
			return bad(i, "does not begin where the one before ends")
		}
		if err := s.Terms.Check(); err != nil {
			return fmt.Errorf("%w: %w", bad(i, "has bad terms"), err)
		}
		at, day = s.End, day.AddDays(s.Days)
	}
	if !at.Equal(p.End) || day != p.LastDay().AddDays(1) {
		return bad(len(segments)-1, "does not end with the period")
	}
	return nil
}

// Included is what the terms of a segment include for its days, of ofDays of the
// period: tokens, and an amount in minor units.
func (s *Segment) Included(ofDays int, currency string) (tokens uint64, amount Amount, err error) {
	a, err := s.allowances(ofDays, currency)
	return prorateFloor(s.Terms.IncludedTokens, s.Days, ofDays), a.included, err
}
