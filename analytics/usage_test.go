package analytics

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/ledger"
)

// model is an independent recount of usage events.
type recount map[string]*Sums

func (m recount) add(key string, u events.Usage) {
	if m[key] == nil {
		m[key] = &Sums{Cost: decimal.Zero}
	}
	s := Sums{Requests: 1, InputTokens: u.Tokens.Input, CacheReadTokens: u.Tokens.CacheRead,
		CacheWrite5mTokens: u.Tokens.CacheWrite5m, CacheWrite1hTokens: u.Tokens.CacheWrite1h,
		OutputTokens: u.Tokens.Output, ReasoningTokens: u.Tokens.Reasoning, Images: u.Images, Cost: u.Cost}
	if u.Outcome != events.OutcomeCompleted && u.Outcome != events.OutcomeCancelled {
		s.Errors = 1
	}
	m[key].Add(s)
}

func sameSums(a, b Sums) bool {
	if !a.Cost.Equal(b.Cost) {
		return false
	}
	a.Cost, b.Cost = decimal.Zero, decimal.Zero
	return a == b
}

func TestUsageEqualsRecountInEveryZone(t *testing.T) {
	r := newRig(t)
	g := newUsageGen(2, 3, time.Date(2026, 3, 7, 20, 0, 0, 0, time.UTC))
	us := g.take(4000)
	for i := range us { // spread over days, around New York's change of clocks
		us[i].OccurredAt = time.Date(2026, 3, 6, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.rand.IntN(5*24*3600*1000)) * time.Millisecond)
		us[i].Outcome = events.Outcome(1 + g.rand.IntN(5))
		us[i].Tokens.Reasoning = uint64(g.rand.IntN(50))
	}
	r.publish(us...)
	r.ingest()
	// the projection answers, not the rows
	querySettings["force_optimize_projection"] = 1
	defer delete(querySettings, "force_optimize_projection")
	for _, zone := range []string{"UTC", "Asia/Shanghai", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Pacific/Apia"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		from, to := time.Date(2026, 3, 6, 0, 0, 0, 0, loc), time.Date(2026, 3, 10, 0, 0, 0, 0, loc)
		org := g.orgs[1]
		for name, by := range map[string]Group{"day+model": {Day: true, Model: true}, "hour": {Hour: true}, "team+key": {Team: true, Key: true}, "none": {}} {
			want := recount{}
			for _, u := range us {
				if u.OrgID != org || u.OccurredAt.Before(from) || !u.OccurredAt.Before(to) {
					continue
				}
				var key string
				local := u.OccurredAt.In(loc)
				if by.Day {
					key += local.Format(time.DateOnly)
				}
				if by.Hour { // hours of the zone's clock; offsets here are constant within an hour
					_, offset := local.Zone()
					shift := time.Duration(offset) * time.Second
					key += local.Add(shift).UTC().Truncate(time.Hour).Add(-shift).UTC().Format(time.RFC3339)
					key = u.OccurredAt.Add(shift).UTC().Truncate(time.Hour).Add(-shift).UTC().Format(time.RFC3339)
				}
				if by.Model {
					key += u.Model
				}
				if by.Team {
					key += u.TeamID.String()
				}
				if by.Key {
					key += u.KeyID.String()
				}
				want.add(key, u)
			}
			rows, total, err := r.store.Usage(r.ctx, UsageQuery{OrgID: org, From: from.UTC(), To: to.UTC(), Zone: zone, By: by, Limit: 10000})
			if err != nil {
				t.Fatalf("%s by %s: %v", zone, name, err)
			}
			if len(rows) != len(want) || total != len(want) {
				t.Fatalf("%s by %s: %d rows, total %d, want %d", zone, name, len(rows), total, len(want))
			}
			for _, row := range rows {
				key := row.Date + row.Model
				if by.Team {
					key += row.TeamID.String()
				}
				if by.Key {
					key += row.KeyID.String()
				}
				if want[key] == nil || !sameSums(*want[key], row.Sums) {
					t.Fatalf("%s by %s: %q = %+v, want %+v", zone, name, key, row.Sums, want[key])
				}
			}
		}
		d, err := r.store.Dashboard(r.ctx, DashboardQuery{OrgID: org, From: from.UTC(), To: to.UTC(), Zone: zone})
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Days) != 4 {
			t.Fatalf("%s: dashboard has %d days", zone, len(d.Days))
		}
		var days Sums
		for _, day := range d.Days {
			days.Add(day.Sums)
		}
		if !sameSums(days, d.Total.Sums) {
			t.Fatalf("%s: sum of days %+v is not the range %+v", zone, days, d.Total.Sums)
		}
	}
	none, err := r.store.Dashboard(r.ctx, DashboardQuery{OrgID: uuid.New(), From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC), Zone: "UTC"})
	if err != nil || len(none.Days) != 7 || none.Total.Requests != 0 {
		t.Fatalf("dashboard without use = %+v, %v", none, err)
	}
}

func TestInvoiceInputsCountEachRowInOnePeriod(t *testing.T) {
	r := newRig(t)
	g := newUsageGen(3, 1, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	var cuts []uint64
	// months of usage, published month by month with a few arriving months late
	for m := range 3 {
		us := g.take(300)
		for i := range us {
			month := m - g.rand.IntN(m+1)*g.rand.IntN(2)
			us[i].OccurredAt = time.Date(2026, time.Month(1+month), 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.rand.IntN(28*24*3600*1000)) * time.Millisecond)
		}
		r.publish(us...)
		end, _, err := r.log.UsageEnd(r.ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, end)
	}
	r.ingest()
	var rows uint64
	total := decimal.Zero
	for m := range 3 {
		q := ledger.InputsQuery{OrgID: g.orgs[0], Start: time.Date(2026, time.Month(1+m), 1, 0, 0, 0, 0, time.UTC),
			End: time.Date(2026, time.Month(2+m), 1, 0, 0, 0, 0, time.UTC), Cut: cuts[m], Timezone: "UTC"}
		if m > 0 {
			q.PreviousCut = cuts[m-1]
		}
		in, err := r.store.Inputs(r.ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		rows += in.Rows
		for _, quantity := range in.Quantities {
			total = total.Add(quantity.Cost)
		}
		again, err := r.store.Inputs(r.ctx, q)
		if err != nil || again.RowsDigest != in.RowsDigest || in.RowsDigest == "" {
			t.Fatalf("digest %q, then %q (%v)", in.RowsDigest, again.RowsDigest, err)
		}
	}
	var sum decimal.Decimal
	r.scan("SELECT sum(cost) FROM usage_events", &sum)
	if rows != 900 || !total.Equal(sum) {
		t.Fatalf("three periods count %d rows and %s, want 900 and %s", rows, total, sum)
	}
	first, ok, err := r.store.FirstUse(r.ctx, g.orgs[0])
	if err != nil || !ok || first.Month() != time.January {
		t.Fatalf("first use = %s, %t, %v", first, ok, err)
	}
}
