package ledger

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var zoneNames = []string{
	"UTC", "Asia/Shanghai", "Asia/Kolkata", "America/New_York",
	"America/Santiago",   // clocks skip midnight
	"Pacific/Apia",       // skipped a whole day, 2011-12-30
	"America/St_Johns",   // clocks went back at 00:01 on the first of a month
	"Pacific/Kiritimati", // UTC+14
	"Etc/GMT+12",         // UTC-12
	"Africa/Cairo", "America/Havana", "Asia/Beirut", "America/Asuncion",
}

func zoneFor(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestPeriodsTileTime(t *testing.T) {
	zones := make(map[string]*time.Location)
	for _, name := range zoneNames {
		zones[name] = zoneFor(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(zoneNames).Draw(t, "zone")
		zone := zones[name]
		at := time.Unix(rapid.Int64Range(0, 4_102_444_800).Draw(t, "instant"), 0)
		anchor := rapid.IntRange(1, 31).Draw(t, "anchor")
		of := func(at time.Time) Period {
			p, err := AnchoredPeriodOf(at, zone, anchor)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := of(at)
		if !p.Contains(at) {
			t.Fatalf("%s: %s is not in its period %+v", name, at, p)
		}
		next := p.Next(zone)
		if !next.Start.Equal(p.End) {
			t.Fatalf("%s: gap or overlap: %+v then %+v", name, p, next)
		}
		if of(p.End) != next {
			t.Fatalf("%s: the end %s is in %+v, not in the next period %+v", name, p.End, of(p.End), next)
		}
		if of(p.End.Add(-1)) != p || of(p.Start) != p {
			t.Fatalf("%s: first or last instant of %+v is in another period", name, p)
		}
		parsed, err := ParseAnchoredPeriod(p.Label, zone, anchor)
		if err != nil || parsed != p {
			t.Fatalf("%s: %s parses as %+v, %v; want %+v", name, p.Label, parsed, err, p)
		}
		if length := p.End.Sub(p.Start); length < 26*24*time.Hour || length > 32*24*time.Hour {
			t.Fatalf("%s: %+v is %s long", name, p, length)
		}
		// Where the whole day is skipped, the period starts with the day after it.
		if first := DateOf(p.Start, zone); first != p.FirstDay() && first != p.FirstDay().AddDays(1) {
			t.Fatalf("%s: %s starts on %s", name, p.Label, first)
		}
		if days := p.FirstDay().DaysUntil(p.LastDay()) + 1; days < 28 || days > 31 || next.FirstDay() != p.LastDay().AddDays(1) {
			t.Fatalf("%s: %s has %d days, the next begins on %s", name, p.Label, days, next.FirstDay())
		}
		if day := p.FirstDay().Day; day != anchor && p.FirstDay().AddDays(1).Day != 1 {
			t.Fatalf("%s: %s starts on day %d, its anchor is %d", name, p.Label, day, anchor)
		}
	})
}

// Every period there is, in order: rapid may miss the one that matters.
func TestEveryPeriodFollowsTheLast(t *testing.T) {
	for i, name := range zoneNames {
		zone := zoneFor(t, name)
		anchor := []int{1, 29, 30, 31}[i%4]
		p, err := AnchoredPeriodOf(time.Date(1969, 12, 15, 0, 0, 0, 0, time.UTC), zone, anchor)
		if err != nil {
			t.Fatal(err)
		}
		for range 12 * 120 {
			next, err := ParseAnchoredPeriod(p.Next(zone).Label, zone, anchor)
			if err != nil {
				t.Fatal(err)
			}
			if !next.Start.Equal(p.End) || !next.Start.Before(next.End) {
				t.Fatalf("%s: %+v then %+v", name, p, next)
			}
			p = next
		}
	}
}

func TestPeriodBounds(t *testing.T) {
	for _, c := range []struct{ zone, label, start, end, lastDay string }{
		{"Asia/Shanghai", "2023-11", "2023-10-31T16:00:00Z", "2023-11-30T16:00:00Z", "2023-11-30"},
		{"Asia/Kolkata", "2024-02", "2024-01-31T18:30:00Z", "2024-02-29T18:30:00Z", "2024-02-29"},
		{"America/New_York", "2026-03", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z", "2026-03-31"},
		{"America/New_York", "2026-11", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z", "2026-11-30"},
		// 00:01 of the first went back to 23:01: the hour that came twice is November's.
		{"America/St_Johns", "2009-11", "2009-11-01T02:30:00Z", "2009-12-01T03:30:00Z", "2009-11-30"},
		{"Pacific/Apia", "2011-12", "2011-12-01T10:00:00Z", "2011-12-31T10:00:00Z", "2011-12-31"},
		// The first of the month began at 01:00.
		{"America/Asuncion", "2017-10", "2017-10-01T04:00:00Z", "2017-11-01T03:00:00Z", "2017-10-31"},
	} {
		p, err := ParsePeriod(c.label, zoneFor(t, c.zone))
		if err != nil {
			t.Fatal(err)
		}
		if p.Start.Format(time.RFC3339) != c.start || p.End.Format(time.RFC3339) != c.end || p.LastDay().String() != c.lastDay {
			t.Errorf("%s %s: got [%s, %s), last day %s", c.zone, c.label, p.Start.Format(time.RFC3339), p.End.Format(time.RFC3339), p.LastDay())
		}
	}
	twice := time.Date(2009, 11, 1, 3, 0, 0, 0, time.UTC) // 23:30 of October 31 for the second time
	if p := PeriodOf(twice, zoneFor(t, "America/St_Johns")); p.Label != "2009-11" {
		t.Errorf("the second pass of an hour is in %s", p.Label)
	}
}

func TestParsePeriodRefuses(t *testing.T) {
	for _, bad := range []string{"", "2023", "2023-13", "2023-1", "2023-11-01", "23-11"} {
		if _, err := ParsePeriod(bad, time.UTC); !errors.Is(err, ErrPeriod) {
			t.Errorf("%q: got %v, want ErrPeriod", bad, err)
		}
	}
	for _, bad := range []int{-1, 0, 32} {
		if _, err := ParseAnchoredPeriod("2023-11", time.UTC, bad); !errors.Is(err, ErrAnchor) {
			t.Errorf("anchor %d: got %v, want ErrAnchor", bad, err)
		}
		if _, err := AnchoredPeriodOf(time.Unix(0, 0), time.UTC, bad); !errors.Is(err, ErrAnchor) {
			t.Errorf("anchor %d: got %v, want ErrAnchor", bad, err)
		}
	}
}
