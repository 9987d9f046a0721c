package ledger

import (
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Segments tile their period, in days and in instants, and each day has the plan
// that was last to begin on it or before.
func TestSegmentsTileThePeriod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zoneNames).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(0, 4_102_444_800).Draw(t, "instant"), 0)
		p, err := AnchoredPeriodOf(at, zone, rapid.IntRange(1, 31).Draw(t, "anchor"))
		if err != nil {
			t.Fatal(err)
		}
		var plans []Plan
		for i := range rapid.IntRange(0, 5).Draw(t, "plans") {
			from := p.Start.Add(time.Duration(rapid.Int64Range(-40*24*60, 40*24*60).Draw(t, "minutes")) * time.Minute)
			plans = append(plans, Plan{Code: string(rune('a' + i)), From: from})
		}
		segments := SegmentsOf(p, zone, plans)
		if err := checkSegments(segments, p); err != nil {
			t.Fatal(err)
		}
		sort.SliceStable(plans, func(i, j int) bool { return plans[i].From.Before(plans[j].From) })
		for _, seg := range segments {
			for day := range seg.Days {
				date, want := seg.First.AddDays(day), ""
				for _, plan := range plans {
					if !date.Before(DateOf(plan.From, zone)) {
						want = plan.Code
					}
				}
				if seg.PlanCode != want {
					t.Fatalf("%s has plan %q, want %q", date, seg.PlanCode, want)
				}
			}
			if seg.Start.Before(seg.End) && (DateOf(seg.Start, zone).Before(seg.First) || DateOf(seg.End.Add(-1), zone) != seg.First.AddDays(seg.Days-1) && !skipsDays(zone)) {
				t.Fatalf("segment %+v begins on %s and ends on %s", seg, DateOf(seg.Start, zone), DateOf(seg.End.Add(-1), zone))
			}
		}
		next := NextSegment(p, zone, plans)
		if !next.Start.Equal(p.End) || next.First != p.LastDay().AddDays(1) {
			t.Fatalf("the segment after %+v is %+v", p, next)
		}
	})
}

// skipsDays names the zones in which a date is missing or comes twice.
func skipsDays(zone *time.Location) bool {
	return slices.Contains([]string{"Pacific/Apia", "Pacific/Kiritimati", "America/St_Johns"}, zone.String())
}

// Every instant is of the span that a plain search finds, and spans begin one
// after the other, as the query that groups by them needs.
func TestSpans(t *testing.T) {
	zone := zoneFor(t, "Pacific/Apia") // skipped December 30, 2011
	period := func(label string) Period {
		p, err := ParsePeriod(label, zone)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	december, november, september := period("2011-12"), period("2011-11"), period("2011-09")
	day := func(d int) Plan { return Plan{Code: "p", From: startOfDay(Date{2011, 12, d}, zone)} }
	segments := SegmentsOf(december, zone, []Plan{day(15), day(29), day(31)})
	q := InputsQuery{Spans: SpansOf([]Origin{{Period: september}, {Period: november, Segments: SegmentsOf(november, zone, nil)}}, segments)}
	for i := 1; i < len(q.Spans); i++ {
		if !q.Spans[i-1].Start.Before(q.Spans[i].Start) {
			t.Errorf("span %d begins at %s, the next at %s", i-1, q.Spans[i-1].Start, q.Spans[i].Start)
		}
	}
	for _, c := range []struct {
		at      time.Time
		origin  string
		segment int
	}{
		{september.Start.Add(-1), OriginEarlier, 0},
		{september.Start, "2011-09", 0},
		{september.End, OriginEarlier, 0}, // October is not among the closed
		{november.Start, "2011-11", 0},
		{december.Start, "", 0},
		{december.Start.AddDate(0, 0, 20), "", 1},
		{december.End.Add(-1), "", len(segments) - 1},
	} {
		begun := sort.Search(len(q.Spans), func(i int) bool { return q.Spans[i].Start.After(c.at) })
		if span := q.SpanOf(begun); span.Origin != c.origin || span.Segment != c.segment {
			t.Errorf("%s is of %q segment %d, want %q segment %d", c.at, span.Origin, span.Segment, c.origin, c.segment)
		}
	}
}
