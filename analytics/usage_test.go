package analytics

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/ledger"
)

func TestUsageEqualsRecountInEveryZone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(2, 3, time.Date(2026, 3, 7, 20, 0, 0, 0, time.UTC))
	us := g.take(4000)
	for i := range us { // spread over days, around New York's change of clocks
		us[i].OccurredAt = time.Date(2026, 3, 6, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.rand.IntN(5*24*3600*1000)) * time.Millisecond)
		us[i].Outcome = events.Outcome(1 + g.rand.IntN(5))
		us[i].Tokens.Reasoning = uint64(g.rand.IntN(50))
		us[i].HTTPStatus = []uint16{200, 429, 502}[g.rand.IntN(3)]
		if g.rand.IntN(5) == 0 {
			us[i] = retriedOf(us[i])
		}
	}
	r.publish(us...)
	r.ingest()
	zones := []string{"America/New_York", "Asia/Kathmandu", "Asia/Shanghai", "UTC", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"}
	for _, zone := range zones[:rounds(3, len(zones))] {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		from, to := time.Date(2026, 3, 6, 0, 0, 0, 0, loc), time.Date(2026, 3, 10, 0, 0, 0, 0, loc)
		for name, by := range map[string]Group{"day+model": {Day: true, Model: true}, "hour": {Hour: true}, "team+key": {Team: true, Key: true}, "none": {}} {
			r.wantUsage(us, UsageQuery{OrgID: g.orgs[1], From: from.UTC(), To: to.UTC(), Zone: zone, By: by, Limit: 10000}, zone+" by "+name)
		}
		r.wantDashboard(us, DashboardQuery{OrgID: g.orgs[1], From: from.UTC(), To: to.UTC(), Zone: zone})
	}
	none, err := r.store.Dashboard(r.ctx, DashboardQuery{OrgID: uuid.New(), From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC), Zone: "UTC"})
	if err != nil || len(none.Days) != 7 || none.Total.Requests != 0 {
		t.Fatalf("dashboard without use = %+v, %v", none, err)
	}
}

func TestInvoiceInputsCountEachRowInOnePeriod(t *testing.T) {
	t.Parallel()
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
		cuts = append(cuts, r.end())
	}
	r.ingest()
	var rows uint64
	total := decimal.Zero
	for m := range 3 {
		q := ledger.InputsQuery{OrgID: g.orgs[0], Start: time.Date(2026, time.Month(1+m), 1, 0, 0, 0, 0, time.UTC),
			End: time.Date(2026, time.Month(2+m), 1, 0, 0, 0, 0, time.UTC), Cut: cuts[m]}
		q.Spans = []ledger.Span{{Start: q.Start}}
		if m > 0 {
			q.PreviousCut = cuts[m-1]
			q.Spans = append([]ledger.Span{{Start: q.Start.AddDate(0, -1, 0), Origin: q.Start.AddDate(0, -1, 0).Format("2006-01")}}, q.Spans...)
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
	stranger := uuid.New()
	first, err := r.store.FirstUse(r.ctx, []uuid.UUID{g.orgs[0], stranger})
	if _, used := first[stranger]; err != nil || used || first[g.orgs[0]].Month() != time.January {
		t.Fatalf("first use = %v, %v", first, err)
	}
}
