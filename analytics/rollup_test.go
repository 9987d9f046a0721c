package analytics

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Projections answer these questions: forced, they would otherwise fail.
func TestProjectionsAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(14, 3, simStart)
	r.publish(g.take(2000)...)
	r.ingest()
	s, from, to := r.forced(), simStart, simEnd
	if _, _, err := s.Usage(r.ctx, UsageQuery{OrgID: g.orgs[0], From: from, To: to, Zone: "Asia/Kathmandu", By: Group{Hour: true, Model: true, Team: true, Key: true},
		Model: "qwen-max", TeamID: g.next().TeamID, KeyID: g.next().KeyID, Limit: 10}); err != nil {
		t.Error(err)
	}
	if _, err := s.Dashboard(r.ctx, DashboardQuery{OrgID: g.orgs[0], From: from, To: to, Zone: "UTC"}); err != nil { // and latency
		t.Error(err)
	}
	if _, err := s.Checkpoint(r.ctx, 0); err != nil {
		t.Error(err)
	}
	for query, projection := range map[string]string{
		selectUsage: "attempts_by_quarter_hour", selectDashboard: "attempts_by_quarter_hour",
		selectLatency: "attempt_latency_by_quarter_hour", selectTTFT: "attempt_ttft_by_quarter_hour",
		selectCheckpoint: "checkpoint", selectDigests: "by_id",
	} {
		plan := r.explain(query, clickhouse.Parameters{
			"shard": "0", "hashes": arrayParam([]uint64{1, 2, 3}), "org": g.orgs[0].String(), "from": instantParam(from), "to": instantParam(to), "zone": "UTC",
			"by_day": "1", "by_hour": "0", "by_model": "1", "by_team": "0", "by_key": "0", "limit": "10", "offset": "0",
			"model": "", "team": "00000000-0000-0000-0000-000000000000", "key": "00000000-0000-0000-0000-000000000000",
		})
		if !strings.Contains(plan, projection) {
			t.Errorf("%s is not answered by projection %s:\n%s", strings.TrimSpace(query)[:60], projection, plan)
		}
	}
	// Invoices read rows.
	in, err := r.store.conn.Query(s.query(r.ctx, clickhouse.Parameters{
		"org": g.orgs[0].String(), "start": milliParam(from), "end": milliParam(to), "cut": "99", "previous_cut": "0", "starts_ms": "[0]"}), selectInputs)
	if err == nil {
		in.Close()
		t.Error("a projection answers what invoices count")
	}
}

func (r *rig) explain(query string, params clickhouse.Parameters) string {
	r.t.Helper()
	found, err := r.store.conn.Query(r.store.query(r.ctx, params), "EXPLAIN indexes = 1, projections = 1 "+query)
	if err != nil {
		r.t.Fatalf("explain %s: %v", query, err)
	}
	defer found.Close()
	var plan strings.Builder
	for found.Next() {
		var line string
		if err := found.Scan(&line); err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintln(&plan, line)
	}
	if err := found.Err(); err != nil {
		r.t.Fatal(err)
	}
	return plan.String()
}

// A look-up for each batch full of copies: every one is found, however many.
func TestEveryCopyIsFoundAtSize(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Minute)
	defer cancel()
	r.ctx = ctx
	g := newUsageGen(seedOf(t), 50, simStart)
	n := rounds(40_000, 2_000_000)
	var again [][]byte
	for left := n; left > 0; left -= 5000 {
		us := g.take(5000)
		var frames [][]byte
		for _, u := range us {
			frames = append(frames, readable(u).bytes)
		}
		message := seal(frames...)
		r.publishRaw(message)
		if left%20_000 == 0 { // a quarter of them comes once more, long after
			again = append(again, message)
		}
	}
	r.ingest()
	for _, message := range again[:len(again)/2] {
		r.publishRaw(message)
	}
	r.ingest() // with a filter made from the rows
	copies := uint64(len(again) / 2 * 5000)
	r.wantDispositions(map[string]uint64{"counted": uint64(n), "duplicate": copies})
	in := r.ingester()
	for _, message := range again {
		r.publishRaw(message)
	}
	in.Until = r.end()
	if err := in.Run(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.wantDispositions(map[string]uint64{"counted": uint64(n), "duplicate": copies + uint64(len(again)*5000)})
	t.Logf("%d ids in a filter of %d bytes", in.seen.Len(), in.MemoryBytes())
}
