package analytics

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"aione/events"
	"aione/ledger"
)

// Zones with whole, half and quarter hours, that change their clocks by an hour, by
// half of one, at midnight, or not at all.
var zonesDrawn = []string{
	"UTC", "Asia/Shanghai", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tehran", "Asia/Beirut", "America/New_York", "America/St_Johns", "America/Havana",
	"America/Los_Angeles", "America/Asuncion", "Europe/Berlin", "Africa/Cairo", "Atlantic/Azores", "Australia/Lord_Howe", "Australia/Eucla",
	"Pacific/Chatham", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Marquesas", "Etc/GMT+12",
}

// startOfDate is the first instant whose local date is d or later, found by walking.
func startOfDate(d ledger.Date, zone *time.Location) time.Time {
	want := fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
	t := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Add(-16 * time.Hour)
	for t.In(zone).Format(time.DateOnly) < want {
		t = t.Add(15 * time.Minute)
	}
	return t
}

// In whatever zone a month is meant: the sum of its days, of its hours and of any
// other grouping is the month, the dashboard says the same, and so does the invoice.
func TestSumsAreTheSameInAnyZone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(seedOf(t), 2, simStart)
	us := g.take(rounds(1000, 3000))
	for i := range us {
		// A year, and most of it around the ends of months and changes of clocks.
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.rand.Int64N(int64(365 * 24 * time.Hour))))
		if i%3 > 0 {
			at = time.Date(2026, time.Month(1+g.rand.IntN(12)), 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.rand.Int64N(int64(60*time.Hour))) - 30*time.Hour)
		}
		us[i].OccurredAt = at.Truncate(time.Millisecond)
		us[i].Outcome = events.Outcome(1 + g.rand.IntN(5))
		us[i].HTTPStatus = []uint16{200, 502}[g.rand.IntN(2)]
		if g.rand.IntN(5) == 0 {
			us[i] = retriedOf(us[i])
		}
	}
	r.publish(us...)
	r.ingest()
	counted := make([]placed, len(us))
	for i, u := range us {
		counted[i] = placed{seq: 1, Usage: u}
	}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zonesDrawn).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		org := rapid.SampledFrom(g.orgs).Draw(t, "org")
		p := ledger.PeriodOf(time.Date(2026, time.Month(rapid.IntRange(1, 12).Draw(t, "month")), 15, 12, 0, 0, 0, time.UTC), zone)
		r.monthIsTheSumOfItsParts(us, counted, org, p, zone)
		r.anyGrouping(t, us, org, zone)
	})
}

// monthIsTheSumOfItsParts compares a month with its days and hours, the dashboard
// and the invoice.
func (r *rig) monthIsTheSumOfItsParts(us []events.Usage, counted []placed, org uuid.UUID, p ledger.Period, zone *time.Location) {
	r.t.Helper()
	var sums []Sums
	for _, by := range []Group{{}, {Day: true}, {Hour: true}, {Day: true, Model: true, Team: true, Key: true}} {
		rows, _, err := r.store.Usage(r.ctx, UsageQuery{OrgID: org, From: p.Start, To: p.End, Zone: zone.String(), By: by, Limit: 100_000})
		if err != nil {
			r.t.Fatal(err)
		}
		var sum Sums
		for _, row := range rows {
			sum.Add(row.Sums)
		}
		sums = append(sums, sum)
	}
	d, err := r.store.Dashboard(r.ctx, DashboardQuery{OrgID: org, From: p.Start, To: p.End, Zone: zone.String()})
	if err != nil {
		r.t.Fatal(err)
	}
	var days Sums
	for _, day := range d.Days {
		days.Add(day.Sums)
	}
	sums = append(sums, d.Total.Sums, days)
	// All that lies in the log before the month is taken to be invoiced already.
	in := r.wantInputs(counted, ledger.InputsQuery{OrgID: org, Start: p.Start, End: p.End, Cut: r.end(), PreviousCut: r.end(), Spans: []ledger.Span{{Start: p.Start}}})
	invoice := Sums{Errors: sums[0].Errors, Retries: sums[0].Retries}
	for _, q := range in.Quantities {
		invoice.Add(Sums{Requests: q.Requests, InputTokens: q.Tokens.Input, CacheReadTokens: q.Tokens.CacheRead, CacheWrite5mTokens: q.Tokens.CacheWrite5m,
			CacheWrite1hTokens: q.Tokens.CacheWrite1h, OutputTokens: q.Tokens.Output, ReasoningTokens: q.Tokens.Reasoning, Images: q.Images, Cost: q.Cost})
	}
	invoice.Requests -= invoice.Retries // rows are attempts
	sums = append(sums, invoice)
	want := Sums{}
	for _, u := range within(us, org, p.Start, p.End) {
		m := recount{}
		m.add("", u)
		want.Add(*m[""])
	}
	for i, sum := range sums {
		if !sameSums(sum, want) {
			r.t.Fatalf("%s in %s, sum %d: %+v, want %+v", p.Label, zone, i, sum, want)
		}
	}
}

// anyGrouping asks for a few days in any grouping, with any filters.
func (r *rig) anyGrouping(t *rapid.T, us []events.Usage, org uuid.UUID, zone *time.Location) {
	day := ledger.DateOf(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), time.UTC).AddDays(rapid.IntRange(0, 364).Draw(t, "day"))
	flag := rapid.Bool()
	q := UsageQuery{OrgID: org, From: startOfDate(day, zone), To: startOfDate(day.AddDays(rapid.IntRange(1, 20).Draw(t, "days")), zone), Zone: zone.String(), Limit: 100_000,
		By: Group{Day: flag.Draw(t, "by day"), Hour: flag.Draw(t, "by hour"), Model: flag.Draw(t, "by model"), Team: flag.Draw(t, "by team"), Key: flag.Draw(t, "by key")}}
	some := us
	keep := func(f func(u events.Usage) bool) {
		var kept []events.Usage
		for _, u := range some {
			if f(u) {
				kept = append(kept, u)
			}
		}
		some = kept
	}
	like := rapid.SampledFrom(us).Draw(t, "like")
	if flag.Draw(t, "of model") {
		q.Model = like.Model
		keep(func(u events.Usage) bool { return u.Model == like.Model })
	}
	if flag.Draw(t, "of team") {
		q.TeamID = like.TeamID
		keep(func(u events.Usage) bool { return u.TeamID == like.TeamID })
	}
	if flag.Draw(t, "of key") {
		q.KeyID = like.KeyID
		keep(func(u events.Usage) bool { return u.KeyID == like.KeyID })
	}
	r.wantUsage(some, q, fmt.Sprintf("%+v", q))
}
