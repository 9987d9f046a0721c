package analytics

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"aione/embedded"
)

// crashLog is a log of readable and other events, and their oracle.
func crashLog(t testing.TB, r *rig, seed uint64) *chaos {
	c := newChaos(seed, 30)
	for c.oracle.rows < uint64(rounds(110, 600)) { // several batches, whatever was drawn
		c.publish(r, 1)
	}
	return c
}

// The table of crashes of docs/design.md, at each step of the ingester: nothing
// is lost, nothing is repeated.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range []struct{ point, line string }{
		{"fetched", "after fetch"},
		{"before_insert", "before insert"},
		{"after_insert", "after insert"},
	} {
		t.Run(step.line+", the step fails", func(t *testing.T) {
			r := newRig(t)
			c := crashLog(t, r, seedOf(t))
			n, hits := 0, 0
			r.ingest(func(in *Ingester) {
				in.BatchRows = 50
				in.Failpoint = func(at string) error {
					if at != step.point {
						return nil
					}
					if n++; n%2 == 1 { // every other time, and so at every batch
						hits++
						return errCrash
					}
					return nil
				}
			})
			if hits == 0 {
				t.Fatal("the step never failed")
			}
			r.wantExactly(c)
		})
		t.Run(step.line+", the process dies", func(t *testing.T) {
			r := newRig(t)
			c := crashLog(t, r, seedOf(t))
			hit := 1
			for ; ; hit++ { // at the first batch, then the second of the next process, …
				ctx, die := context.WithCancel(r.ctx)
				in := r.ingester()
				in.BatchRows = 50
				n := 0
				in.Failpoint = func(at string) error {
					if at != step.point {
						return nil
					}
					if n++; n == hit {
						die()
						return errCrash
					}
					return nil
				}
				err := in.Run(ctx)
				die()
				if err == nil {
					break
				}
				if !errors.Is(err, context.Canceled) && !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
			}
			if hit == 1 {
				t.Fatal("no process died")
			}
			r.wantExactly(c)
		})
	}
}

// wantExactly checks that the rows are what the oracle says, and the audit agrees.
func (r *rig) wantExactly(c *chaos) {
	r.t.Helper()
	r.wantDispositions(c.oracle.dispositions)
	if at := r.checkpoint(); at.Seq != c.oracle.seq || at.Rows != c.oracle.rows {
		r.t.Fatalf("checkpoint = %+v, want %d rows up to %d", at, c.oracle.rows, c.oracle.seq)
	}
	r.wantAudit()
}

func TestCrashDuringInsertOnItsWay(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]fault{
		"the body breaks off":                      cutBody,
		"the answer is lost":                       loseAnswer,
		"it is answered as done and never arrived": emptyBody,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := crashLog(t, r, seedOf(t))
			store, proxy := newFaulty(t, r)
			n := 0
			r.ingest(func(in *Ingester) {
				in.Store, in.BatchRows = store, 80
				in.Failpoint = func(at string) error {
					if n++; at == "before_insert" && n%3 == 2 { // every third batch or so
						proxy.next.Store(int32(what))
					}
					return nil
				}
			})
			if proxy.hits.Load() == 0 {
				t.Fatal("no insert met its fault")
			}
			r.wantExactly(c)
			// The last batch has no next one to find it missing.
			c.publish(r, 1)
			proxy.next.Store(int32(what))
			r.ingest(func(in *Ingester) { in.Store = store })
			r.wantExactly(c)
		})
	}
}

// TestCrashOfClickHouse kills an engine of its own, which is started once: that
// is the dear part.
func TestCrashOfClickHouse(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	engine := embedded.OpenPrivateClickHouse(t)
	for name, test := range map[string]func(*testing.T, *rig, uint64){
		"during insert":             killDuringInsert,
		"during a projection merge": killDuringProjectionMerge,
		"between merges":            killBetweenMerges,
	} {
		t.Run(name, func(t *testing.T) {
			database := "killed_" + strings.ReplaceAll(name, " ", "_")
			test(t, rigOn(t, &embedded.Engines{NATS: embedded.OpenNATS(t), ClickHouse: engine, Database: database, DSN: engine.DSNFor(database)}), seed)
		})
	}
}

// Signal 9 to the engine while inserts run, at random moments.
func killDuringInsert(t *testing.T, r *rig, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	c := newChaos(seed, 20)
	c.publish(r, rounds(40, 400))
	kills, killed := rounds(1, 10), sync.WaitGroup{}
	r.ingest(func(in *Ingester) {
		in.BatchRows = 1 + int(c.oracle.rows)/(2*kills)
		in.Failpoint = func(at string) error {
			if at == "before_insert" && kills > 0 {
				kills--
				wait := time.Duration(random.IntN(30_000)) * time.Microsecond // an insert takes that long
				killed.Go(func() {
					time.Sleep(wait)
					if err := r.engines.ClickHouse.KillChild(r.ctx); err != nil {
						t.Error(err)
					}
				})
			}
			return nil
		}
	})
	killed.Wait()
	if err := r.engines.ClickHouse.Ping(r.ctx); err != nil {
		t.Fatal(err)
	}
	if kills > 0 {
		t.Fatalf("%d kills were not made", kills)
	}
	r.eventually("the engine is back", func() error { _, err := r.store.Checkpoint(r.ctx, 0); return err })
	r.wantExactly(c)
}

// Signal 9 to the engine while it merges parts and the projections in them.
func killDuringProjectionMerge(t *testing.T, r *rig, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 8))
	g := newUsageGen(seed, 20, simStart)
	r.exec("SYSTEM STOP MERGES usage_events")
	for range 12 {
		r.publish(g.take(rounds(300, 10_000))...)
		r.ingest()
	}
	r.exec("SYSTEM START MERGES usage_events")
	before, err := r.store.Contents(r.ctx, 0, r.end())
	if err != nil {
		t.Fatal(err)
	}
	for range rounds(1, 4) {
		merged := make(chan error, 1)
		go func() { merged <- r.store.conn.Exec(r.ctx, "OPTIMIZE TABLE usage_events FINAL") }()
		r.eventually("a merge runs", func() error {
			var n uint64
			if err := r.store.conn.QueryRow(r.ctx, "SELECT count() FROM system.merges WHERE table = 'usage_events'").Scan(&n); err != nil || n > 0 {
				return err
			}
			select {
			case err := <-merged: // it was too quick to be seen
				merged <- err
				return err
			default:
				return errors.New("not yet")
			}
		})
		time.Sleep(time.Duration(random.IntN(40_000)) * time.Microsecond)
		if err := r.engines.ClickHouse.KillChild(r.ctx); err != nil {
			t.Fatal(err)
		}
		<-merged
		r.eventually("the engine is back", func() error { _, err := r.store.Checkpoint(r.ctx, 0); return err })
		after, err := r.store.Contents(r.ctx, 0, r.end())
		if err != nil {
			t.Fatal(err)
		}
		if !before.equal(after) {
			t.Fatalf("rows before the merge died %+v, after %+v", before, after)
		}
		r.wantAudit() // and that compares rollups with rows
	}
}

// Rollups are the sum of the rows, at every moment of many inserts, merges and
// kills.
func killBetweenMerges(t *testing.T, r *rig, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	c := newChaos(seed, 30)
	for i := range rounds(4, 20) {
		c.publish(r, rounds(3, 10))
		r.ingest(func(in *Ingester) { in.BatchRows = 1 + random.IntN(60) })
		switch i % 4 {
		case 1:
			r.exec("OPTIMIZE TABLE usage_events FINAL")
		case 3:
			if err := r.engines.ClickHouse.KillChild(r.ctx); err != nil {
				t.Fatal(err)
			}
		}
		r.eventually("the engine is there", func() error { _, err := r.store.Checkpoint(r.ctx, 0); return err })
		r.wantExactly(c)
	}
	us := c.oracle.usages()
	for _, org := range c.orgs {
		r.wantUsage(us, UsageQuery{OrgID: org, From: simStart, To: simEnd, Zone: "Asia/Shanghai", By: Group{Hour: true}, Limit: 100_000}, "after it all")
	}
}
