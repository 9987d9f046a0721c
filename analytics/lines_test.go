package analytics

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Every line of three months' invoices, with late usage: its events add up to it,
// each is what the log says, in the log's order, and pages tile them.
func TestLineEventsAddUpToTheLine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := seedOf(t)
	c := newChaos(seed, 100)
	random := rand.New(rand.NewPCG(seed, 9))
	var cuts []uint64
	for range 3 {
		c.publish(r, rounds(4, 30))
		cuts = append(cuts, r.end())
	}
	r.ingest()
	const zone = "Asia/Kathmandu"
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	lines, teams := 0, 0
	for i, cut := range cuts {
		start := func(month, day int) time.Time { return time.Date(2026, time.Month(month), day, 0, 0, 0, 0, loc).UTC() }
		q := ledger.InputsQuery{OrgID: c.orgs[0], Cut: cut, Start: start(1+i, 1), End: start(2+i, 1)}
		for m := 2; m <= i; m++ { // January is of no closed period
			q.Spans = append(q.Spans, ledger.Span{Start: start(m, 1), Origin: fmt.Sprintf("2026-%02d", m)})
		}
		q.Spans = append(q.Spans, ledger.Span{Start: start(1+i, 1)}, ledger.Span{Start: start(1+i, 11), Segment: 1})
		if i > 0 {
			q.PreviousCut = cuts[i-1]
			q.LateFrom = start(i, 15)
		}
		want := r.wantInputs(c.oracle.counted, q).Quantities
		teams = max(teams, r.wantTeamQuantities(c.oracle.counted, q, want))
		for n, g := range want {
			if (n+int(seed%4))%rounds(4, 1) > 0 {
				continue // one in four
			}
			for bucket, want := range map[ledger.Bucket]uint64{
				ledger.BucketInput: g.Tokens.Input, ledger.BucketCacheRead: g.Tokens.CacheRead, ledger.BucketCacheWrite5m: g.Tokens.CacheWrite5m,
				ledger.BucketCacheWrite1h: g.Tokens.CacheWrite1h, ledger.BucketOutput: g.Tokens.Output, ledger.BucketReasoning: g.Tokens.Reasoning,
				ledger.BucketImages: g.Images, ledger.BucketRequests: g.Requests - g.Empty,
			} {
				lines++
				line := ledger.Line{Model: g.Model, PriceVersion: g.PriceVersion, Origin: g.Origin, Segment: g.Segment, Bucket: bucket, Quantity: want}
				r.wantLineEvents(c.oracle.counted, q, line, 1+random.IntN(60))
			}
		}
	}
	if lines == 0 || teams < 2 {
		t.Errorf("there were %d lines and %d teams", lines, teams)
	}
	none, total, err := r.store.LineEvents(r.ctx, ledger.InputsQuery{OrgID: c.orgs[0], End: simEnd, Cut: cuts[2]},
		ledger.Line{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Bucket: "fee"}, 10, 0)
	if err != nil || total != 0 || len(none) != 0 {
		t.Errorf("a line that no usage is behind has %d events (%v)", total, err)
	}
}

// wantTeamQuantities: by team there is what there is in all, and each team has what
// its own events say.
func (r *rig) wantTeamQuantities(counted []placed, q ledger.InputsQuery, all []ledger.Quantity) int {
	r.t.Helper()
	used, err := r.store.TeamQuantities(r.ctx, q)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := (ledger.Invoice{Inputs: ledger.Inputs{Quantities: all}}).SplitByTeam(used); err != nil {
		r.t.Errorf("%+v: %v", q, err)
	}
	got, want, teams := recount{}, recount{}, map[uuid.UUID]bool{}
	empty, wantEmpty := uint64(0), uint64(0)
	for _, p := range counted {
		if span, is := countedIn(p, q); is {
			want.add(fmt.Sprint(p.TeamID, p.Model, p.PriceVersion, span.Origin, span.Segment), p.Usage)
			teams[p.TeamID] = true
			if isEmpty(p.Usage) {
				wantEmpty++
			}
		}
	}
	for _, u := range used {
		key := fmt.Sprint(u.TeamID, u.Model, u.PriceVersion, u.Origin, u.Segment)
		empty += u.Empty
		if got[key] != nil || want[key] == nil {
			r.t.Fatalf("%s is there twice, or was not used", key)
		}
		retries := want[key].Retries // rows are attempts
		got[key] = &Sums{Requests: u.Requests - retries, Retries: retries, InputTokens: u.Tokens.Input, CacheReadTokens: u.Tokens.CacheRead,
			CacheWrite5mTokens: u.Tokens.CacheWrite5m, CacheWrite1hTokens: u.Tokens.CacheWrite1h, OutputTokens: u.Tokens.Output,
			ReasoningTokens: u.Tokens.Reasoning, Images: u.Images, Cost: u.Cost, Errors: want[key].Errors}
	}
	if empty != wantEmpty || !maps.EqualFunc(got, want, func(a, b *Sums) bool { return sameSums(*a, *b) }) {
		r.t.Fatalf("%+v: %d teams used %v, want %v", q, len(teams), got, want)
	}
	return len(teams)
}

// countedIn says whether an invoice counts an event, and in which span.
func countedIn(p placed, q ledger.InputsQuery) (ledger.Span, bool) {
	span := ledger.Span{Origin: ledger.OriginEarlier}
	for _, s := range q.Spans {
		if !p.OccurredAt.Before(s.Start) {
			span = s
		}
	}
	return span, p.OrgID == q.OrgID && p.OccurredAt.Before(q.End) && p.seq <= q.Cut &&
		!(p.OccurredAt.Before(q.Start) && p.seq <= q.PreviousCut) && !p.OccurredAt.Before(q.LateFrom)
}

// quantityOf is an own idea of what a bucket holds.
func quantityOf(u events.Usage, bucket ledger.Bucket) uint64 {
	request := uint64(1)
	if isEmpty(u) {
		request = 0
	}
	return map[ledger.Bucket]uint64{
		ledger.BucketInput: u.Tokens.Input, ledger.BucketCacheRead: u.Tokens.CacheRead, ledger.BucketCacheWrite5m: u.Tokens.CacheWrite5m,
		ledger.BucketCacheWrite1h: u.Tokens.CacheWrite1h, ledger.BucketOutput: u.Tokens.Output, ledger.BucketReasoning: u.Tokens.Reasoning,
		ledger.BucketImages: u.Images, ledger.BucketRequests: request,
	}[bucket]
}

func (r *rig) wantLineEvents(counted []placed, q ledger.InputsQuery, line ledger.Line, pageSize int) {
	r.t.Helper()
	var want []string
	for _, p := range counted {
		span, is := countedIn(p, q)
		if is && p.Model == line.Model && p.PriceVersion == line.PriceVersion && span.Origin == line.Origin && span.Segment == line.Segment &&
			quantityOf(p.Usage, line.Bucket) > 0 {
			want = append(want, textOf(p.Usage))
		}
	}
	var got []string
	sum := uint64(0)
	for offset := 0; ; offset += pageSize {
		page, total, err := r.store.LineEvents(r.ctx, q, line, pageSize, offset)
		if err != nil {
			r.t.Fatal(err)
		}
		if total != len(want) || len(page) > pageSize {
			r.t.Fatalf("%+v: a page of %d of %d, want %d in all", line, len(page), total, len(want))
		}
		for _, u := range page {
			got, sum = append(got, textOf(u)), sum+quantityOf(u, line.Bucket)
		}
		if len(page) == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("%+v: events\n%q, want\n%q", line, got, want)
	}
	if sum != line.Quantity {
		r.t.Fatalf("%+v: its events add up to %d", line, sum)
	}
}

// textOf is every field that a row keeps of an event.
func textOf(u events.Usage) string {
	u.TimeAssigned = false
	return fmt.Sprint(u.ID, u.OperationID, u.OrgID, u.TeamID, u.KeyID, u.Model, u.Provider, u.PriceVersion, u.Currency, u.OccurredAt.UTC(), u.Tokens, u.Images,
		u.Cost.String(), u.Outcome, u.Source, u.HTTPStatus, u.LatencyMS, u.TTFTMS, u.Stream, u.Producer, u.ExternalID)
}
