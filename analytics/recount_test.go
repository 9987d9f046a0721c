package analytics

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/ledger"
)

// recount is an independent sum of usage events, by any key.
type recount map[string]*Sums

func (m recount) add(key string, u events.Usage) {
	if m[key] == nil {
		m[key] = &Sums{}
	}
	s := Sums{Requests: 1, InputTokens: u.Tokens.Input, CacheReadTokens: u.Tokens.CacheRead,
		CacheWrite5mTokens: u.Tokens.CacheWrite5m, CacheWrite1hTokens: u.Tokens.CacheWrite1h,
		OutputTokens: u.Tokens.Output, ReasoningTokens: u.Tokens.Reasoning, Images: u.Images, Cost: u.Cost}
	switch {
	case u.Retried: // the attempt that followed is the request
		s.Requests, s.Retries = 0, 1
	case u.Outcome != events.OutcomeCompleted && u.Outcome != events.OutcomeCancelled:
		s.Errors = 1
	}
	m[key].Add(s)
}

// isEmpty: no price per request is taken for what has nothing in it.
func isEmpty(u events.Usage) bool {
	return u.Tokens == (events.Tokens{}) && u.Images == 0 && u.Cost.IsZero()
}

func sameSums(a, b Sums) bool {
	if !a.Cost.Equal(b.Cost) {
		return false
	}
	a.Cost, b.Cost = decimal.Zero, decimal.Zero
	return a == b
}

// within keeps the events of one org in [from, to).
func within(us []events.Usage, org uuid.UUID, from, to time.Time) []events.Usage {
	var out []events.Usage
	for _, u := range us {
		if u.OrgID == org && !u.OccurredAt.Before(from) && u.OccurredAt.Before(to) {
			out = append(out, u)
		}
	}
	return out
}

// hourOf is the UTC instant at which the hour of the zone's clock starts.
func hourOf(t time.Time, zone *time.Location) time.Time {
	local := t.In(zone)
	into := time.Duration(local.Minute())*time.Minute + time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
	return t.Add(-into).UTC()
}

// wantUsage compares the answer to q, which projections must give, with a recount.
func (r *rig) wantUsage(us []events.Usage, q UsageQuery, what string) {
	r.t.Helper()
	zone, err := time.LoadLocation(q.Zone)
	if err != nil {
		r.t.Fatal(err)
	}
	key := func(date, model string, team, key uuid.UUID) string {
		return fmt.Sprint(date, " ", model, " ", team, " ", key)
	}
	want := recount{}
	for _, u := range within(us, q.OrgID, q.From, q.To) {
		row := UsageRow{}
		switch {
		case q.By.Hour:
			row.Date = hourOf(u.OccurredAt, zone).Format(time.RFC3339)
		case q.By.Day:
			row.Date = u.OccurredAt.In(zone).Format(time.DateOnly)
		}
		if q.By.Model {
			row.Model = u.Model
		}
		if q.By.Team {
			row.TeamID = u.TeamID
		}
		if q.By.Key {
			row.KeyID = u.KeyID
		}
		want.add(key(row.Date, row.Model, row.TeamID, row.KeyID), u)
	}
	store := r.store
	if len(want) > 0 { // where no part can hold an answer, no projection is needed for one
		store = r.forced()
	}
	rows, total, err := store.Usage(r.ctx, q)
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	if len(rows) != len(want) || total != len(want) {
		r.t.Fatalf("%s: %d rows, total %d, want %d", what, len(rows), total, len(want))
	}
	for _, row := range rows {
		k := key(row.Date, row.Model, row.TeamID, row.KeyID)
		if want[k] == nil || !sameSums(*want[k], row.Sums) {
			r.t.Fatalf("%s: %s = %+v, want %+v", what, k, row.Sums, want[k])
		}
	}
}

// wantDashboard compares every figure of a dashboard, which projections must
// give, with a recount.
func (r *rig) wantDashboard(us []events.Usage, q DashboardQuery) {
	r.t.Helper()
	zone, err := time.LoadLocation(q.Zone)
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := r.forced().Dashboard(r.ctx, q)
	if err != nil {
		r.t.Fatal(err)
	}
	us = within(us, q.OrgID, q.From, q.To)
	total, days, models, teams := recount{"": &Sums{}}, recount{}, recount{}, recount{}
	var latencies, ttfts []uint32
	var health Health
	for _, u := range us {
		total.add("", u)
		days.add(u.OccurredAt.In(zone).Format(time.DateOnly), u)
		models.add(u.Model, u)
		teams.add(u.TeamID.String(), u)
		if u.Retried {
			continue
		}
		if u.LatencyMS > 0 {
			latencies = append(latencies, u.LatencyMS)
		}
		if u.TTFTMS > 0 {
			ttfts = append(ttfts, u.TTFTMS)
		}
		health.LatencySumMS += uint64(u.LatencyMS)
		if u.HTTPStatus >= 500 {
			health.Status5xx++
		}
		*map[events.Outcome]*uint64{events.OutcomeCompleted: &health.Completed, events.OutcomeCancelled: &health.Cancelled,
			events.OutcomeUpstreamError: &health.UpstreamErrors, events.OutcomeTimeout: &health.Timeouts, events.OutcomeAbandoned: &health.Abandoned}[u.Outcome]++
	}
	if health.Sums = d.Total.Sums; d.Total != health {
		r.t.Fatalf("%s: dashboard %+v, want %+v", q.Zone, d.Total, health)
	}
	if d.Timed != uint64(len(latencies)) {
		r.t.Fatalf("%s: %d requests were timed, want %d", q.Zone, d.Timed, len(latencies))
	}
	got := map[string]recount{"total": {"": &d.Total.Sums}, "day": {}, "model": {}, "team": {}}
	for i, day := range d.Days {
		if want := q.From.In(zone).AddDate(0, 0, i).Format(time.DateOnly); day.Date != want {
			r.t.Fatalf("%s: day %d is %s, want %s", q.Zone, i, day.Date, want)
		}
		if day.Requests+day.Retries > 0 {
			got["day"][day.Date] = &day.Sums
		}
	}
	for _, m := range d.Models {
		got["model"][m.Model] = &m.Sums
	}
	for _, team := range d.Teams {
		got["team"][team.TeamID.String()] = &team.Sums
	}
	for name, want := range map[string]recount{"total": total, "day": days, "model": models, "team": teams} {
		if !maps.EqualFunc(got[name], want, func(a, b *Sums) bool { return sameSums(*a, *b) }) {
			r.t.Fatalf("%s: dashboard by %s = %v, want %v", q.Zone, name, got[name], want)
		}
	}
	for _, p := range []struct {
		name     string
		got      uint32
		permille int
		of       []uint32
	}{{"p50", d.LatencyP50MS, 500, latencies}, {"p95", d.LatencyP95MS, 950, latencies}, {"p99", d.LatencyP99MS, 990, latencies},
		{"ttft p50", d.TTFTP50MS, 500, ttfts}, {"ttft p99", d.TTFTP99MS, 990, ttfts}} {
		if want := nearestRank(p.of, p.permille); !closeTo(p.got, want) {
			r.t.Fatalf("%s: %s = %d ms, want %d within 3.2 %%", q.Zone, p.name, p.got, want)
		}
	}
}

func nearestRank(of []uint32, permille int) uint32 {
	if len(of) == 0 {
		return 0
	}
	of = slices.Sorted(slices.Values(of))
	return of[(len(of)*permille+999)/1000-1]
}

// closeTo allows 3.2 % of the latency plus one, and the rounding to a millisecond.
func closeTo(got, want uint32) bool {
	off := float64(got) - float64(want)
	return max(off, -off) <= 0.032*float64(want+1)+1
}

// wantInputs compares what an invoice counts with a recount.
func (r *rig) wantInputs(counted []placed, q ledger.InputsQuery) ledger.Inputs {
	r.t.Helper()
	key := func(model, version, origin string, segment int) string {
		return fmt.Sprint(model, " ", version, " ", origin, " ", segment)
	}
	want := recount{}
	var rows, empty, tooLate uint64
	tooLateCost, paid := decimal.Decimal{}, decimal.Decimal{}
	for _, p := range counted {
		late := p.OccurredAt.Before(q.Start)
		if p.OrgID != q.OrgID || !p.OccurredAt.Before(q.End) || p.seq > q.Cut || late && p.seq <= q.PreviousCut {
			continue
		}
		if !q.PaidFrom.IsZero() && !p.OccurredAt.Before(q.PaidFrom) {
			paid = paid.Add(p.Cost)
		}
		if p.OccurredAt.Before(q.LateFrom) {
			tooLate, tooLateCost = tooLate+1, tooLateCost.Add(p.Cost)
			continue
		}
		span := ledger.Span{Origin: ledger.OriginEarlier}
		for _, s := range q.Spans {
			if !p.OccurredAt.Before(s.Start) {
				span = s
			}
		}
		want.add(key(p.Model, p.PriceVersion, span.Origin, span.Segment), p.Usage)
		rows++
		if isEmpty(p.Usage) {
			empty++
		}
	}
	in, err := r.store.Inputs(r.ctx, q)
	if err != nil {
		r.t.Fatal(err)
	}
	got, gotEmpty := recount{}, uint64(0)
	for _, g := range in.Quantities {
		gotEmpty += g.Empty
		var errorsOf, retriesOf uint64 // an invoice counts no errors; its empty rows are attempts that were retried, too
		if w := want[key(g.Model, g.PriceVersion, g.Origin, g.Segment)]; w != nil {
			errorsOf, retriesOf = w.Errors, w.Retries
		}
		if g.Empty < retriesOf {
			r.t.Fatalf("inputs of %+v: %d rows are empty, %d were retried", q, g.Empty, retriesOf)
		}
		got[key(g.Model, g.PriceVersion, g.Origin, g.Segment)] = &Sums{Requests: g.Requests - retriesOf, Retries: retriesOf, InputTokens: g.Tokens.Input, CacheReadTokens: g.Tokens.CacheRead,
			CacheWrite5mTokens: g.Tokens.CacheWrite5m, CacheWrite1hTokens: g.Tokens.CacheWrite1h, OutputTokens: g.Tokens.Output,
			ReasoningTokens: g.Tokens.Reasoning, Images: g.Images, Cost: g.Cost, Errors: errorsOf}
	}
	if in.TooLateRows != tooLate || !in.TooLateCost.Equal(tooLateCost) || !in.Paid.Equal(paid) {
		r.t.Fatalf("inputs of %+v: %d rows too late for %s, %s paid; want %d for %s, %s", q, in.TooLateRows, in.TooLateCost, in.Paid, tooLate, tooLateCost, paid)
	}
	if in.Rows != rows || gotEmpty != empty || !maps.EqualFunc(got, want, func(a, b *Sums) bool { return sameSums(*a, *b) }) {
		r.t.Fatalf("inputs of %+v: %d rows, %d of them empty %v, want %d rows, %d of them empty %v", q, in.Rows, gotEmpty, got, rows, empty, want)
	}
	return in
}
