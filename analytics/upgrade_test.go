package analytics

import (
	"os"
	"strings"
	"testing"
	"time"

	"aione/events"
)

// beforeRetried brings the table back to what it was before 0002_retried.sql, with
// its rows.
func (r *rig) beforeRetried() {
	r.t.Helper()
	create, err := os.ReadFile("../migrations/0001_usage_events.sql")
	if err != nil {
		r.t.Fatal(err)
	}
	var columns []string
	for _, c := range insertColumns {
		if c.Name != "retried" && c.Name != "insert_by" {
			columns = append(columns, c.Name)
		}
	}
	list := strings.Join(columns, ", ")
	r.exec(strings.Replace(string(create), "usage_events", "earlier", 1))
	// as many parts as the month's ingest leaves, roughly
	for i := range 3 {
		r.exec("INSERT INTO earlier (" + list + ") SELECT " + list + " FROM usage_events WHERE stream_seq % 3 = " + string(rune('0'+i)) + " SETTINGS max_partitions_per_insert_block = 0")
	}
	r.exec("EXCHANGE TABLES usage_events AND earlier")
	r.exec("DROP TABLE earlier SYNC")
}

// A table from before events said whether they were retried is brought up to date
// while it is in use: every answer is right at once, and comes from projections in
// the end, in earlier parts too.
func TestTableFromBeforeRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(seedOf(t), 2, simStart)
	var us []events.Usage
	write := func(retried bool) {
		for range 6 {
			some := g.take(100)
			for i := range some {
				some[i].Outcome = events.Outcome(1 + g.rand.IntN(5))
				if retried && i%7 == 0 {
					some[i] = retriedOf(some[i])
				}
			}
			us = append(us, some...)
			r.publish(some...)
		}
	}
	write(false)
	r.ingest()
	r.beforeRetried()
	r.exec("SYSTEM STOP MERGES usage_events") // and mutations: the earlier parts stay as they are
	upgraded, err := open(r.ctx, r.store.options, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer upgraded.Close()
	again, err := open(r.ctx, r.store.options, nil) // another process starts meanwhile
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var asked uint64
	r.scan("SELECT countIf(command LIKE '%MATERIALIZE%') FROM system.mutations WHERE database = currentDatabase() AND table = 'usage_events'", &asked)
	if asked != 3 {
		t.Errorf("3 projections are asked for %d times", asked)
	}
	r.wantAudit() // no part has its rollups
	write(true)
	r.ingest()
	for _, org := range g.orgs {
		r.wantUsage(us, UsageQuery{OrgID: org, From: simStart, To: simEnd, Zone: "Asia/Shanghai", By: Group{Day: true, Model: true}, Limit: 1000}, "after the upgrade")
		r.wantDashboard(us, DashboardQuery{OrgID: org, From: simStart, To: simEnd, Zone: "UTC"})
	}
	r.wantAudit()
	r.exec("SYSTEM START MERGES usage_events")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var lacking uint64
		r.scan("SELECT countIf(NOT hasAll(projections, ['attempts_by_quarter_hour', 'attempt_latency_by_quarter_hour', 'attempt_ttft_by_quarter_hour'])) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'usage_events'", &lacking)
		if lacking == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d parts have no rollups", lacking)
		}
	}
	if report := r.rebuild(true); !report.Same {
		t.Fatalf("a rebuild gives other rows: %+v", report)
	}
}
