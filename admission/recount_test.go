package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// config makes the plans of a process's orgs those of the contract.
func (c *contract) config(config *Config, _ *events.Log) { config.Included = c.included }

// caughtUp waits until a process has read the usage log to its end.
func (g *process) caughtUp() {
	g.plant.t.Helper()
	end, _, err := g.log.UsageEnd(context.Background(), 0)
	if err != nil {
		g.plant.t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); g.past.shards[0].read.Load() < end; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			g.plant.t.Fatal("the usage log is not read")
		}
	}
}

// includedAt is how the included usage stands once it is counted.
func (g *process) includedAt(org uuid.UUID, scope Scope) Standing {
	g.plant.t.Helper()
	o := g.org(org)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s, err := g.Standing(org, scope, org, g.plant.clock.now())
		o.mu.Lock()
		counting := false
		for _, segment := range o.blocking() {
			counting = counting || segment.uncounted
		}
		o.mu.Unlock()
		if err != nil || time.Now().After(deadline) {
			g.plant.t.Fatalf("%+v counting %v: %v", s, counting, err)
		}
		if !counting {
			return s
		}
	}
}

// A plan that begins today counts what was used today, whether the rows know of it
// or only the log, and whatever is on its way, settles and is reported meanwhile.
func TestPlanCountsWhatWasUsedBefore(t *testing.T) {
	t.Parallel()
	for round := range 4 {
		p := newPlant(t)
		k := keyOf(1, 1)
		c := newContract(1)
		g := p.startProcess(all, c.config)
		work := func(n int, each func(i int)) {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					each(i)
					if err := g.serve(context.Background(), claim(k, p.clock.now(), "2"), dec("1"), time.Duration(i%7)*time.Millisecond); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		p.clock.add(-24 * time.Hour)
		work(5, func(int) {}) // yesterday: of another segment
		p.clock.add(24 * time.Hour)
		work(20, func(int) {})
		end, _, err := g.log.UsageEnd(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 { // else all of it is in the log
			g.past.spend = rows{g.log, end / uint64(round)}
		}
		foreign := usageOf(events.NewID(), k, p.clock.now(), dec("5"))
		work(60, func(i int) {
			switch i {
			case 20:
				c.agree(g.Limiter, k.OrgID, blocks(p.clock.now(), 0, "1000"))
				if _, err := g.Standing(k.OrgID, ScopeIncludedAmount, k.OrgID, p.clock.now()); err != nil {
					t.Error(err)
				}
			case 30:
				for range 2 {
					if err := g.log.Publish(context.Background(), []events.Usage{foreign}); err != nil {
						t.Error(err)
					}
				}
			}
		})
		g.caughtUp()
		s := g.includedAt(k.OrgID, ScopeIncludedAmount)
		in, _ := c.included(k.OrgID, p.clock.now())
		if !s.Limited || !s.Limit.Equal(in.Limit) || !s.Spent.Equal(dec("85")) || !s.Held.IsZero() {
			t.Errorf("round %d: %+v, want 85 of %s", round, s, in.Limit)
		}
		// In tokens from the same day on: each request has ten, the one reported too.
		c.agree(g.Limiter, k.OrgID, blocks(p.clock.now(), 100_000, "0"))
		if s := g.includedAt(k.OrgID, ScopeIncludedTokens); !s.Spent.Equal(dec("810")) {
			t.Errorf("round %d: %+v, want 810 tokens", round, s)
		}
		g.kill()
	}
}

// What was settled here but has not come back from the log counts when it does.
func TestPlanCountsWhatIsUnread(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	k := keyOf(1, 1)
	c := newContract(1)
	g := p.startProcess(all, c.config)
	cl := claim(k, p.clock.now(), "2")
	h, err := g.Reserve(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	h.Settle(10, dec("1"))
	c.agree(g.Limiter, k.OrgID, blocks(p.clock.now(), 0, "1000"))
	if s := g.includedAt(k.OrgID, ScopeIncludedAmount); !s.Spent.IsZero() {
		t.Fatalf("%+v", s)
	}
	if err := g.log.Publish(t.Context(), []events.Usage{usageOf(cl.RequestID, k, cl.At, dec("1"))}); err != nil {
		t.Fatal(err)
	}
	g.caughtUp()
	if s := g.includedAt(k.OrgID, ScopeIncludedAmount); !s.Spent.Equal(dec("1")) || !s.Held.IsZero() {
		t.Fatalf("%+v", s)
	}
}

// Killed, a process knows what is used of what is included, whatever part of the
// log is in the rows; what is reported from elsewhere counts, above the limit too.
func TestIncludedUsageSurvivesKill(t *testing.T) {
	t.Parallel()
	for _, plan := range []ledger.Plan{blocks(start.AddDate(0, -2, 0), 200, "0"), blocks(start.AddDate(0, -2, 0), 0, "20")} {
		p := newPlant(t)
		k := keyOf(1, 1)
		c := newContract(9, plan)
		p.beforeRestore = func(l *Limiter) { l.TermsChanged(k.OrgID, 1, true) }
		g := p.startProcess(all, c.config)
		ten := func() Claim {
			cl := claim(k, p.clock.now(), "1")
			cl.Tokens = 10
			return cl
		}
		for range 12 {
			if err := g.serve(context.Background(), ten(), dec("1"), 0); err != nil {
				t.Fatal(err)
			}
		}
		out := ten()
		if _, err := g.Reserve(context.Background(), out); err != nil {
			t.Fatal(err)
		}
		if err := g.log.Admit(context.Background(), events.Admission{ID: out.RequestID, Estimate: usageOf(out.RequestID, k, out.At, dec("1")), Deadline: time.Minute}); err != nil {
			t.Fatal(err)
		}
		g.kill()
		for _, part := range []float32{0, 0.5, 1} {
			g = p.startProcess(countedTo(t, part, k.OrgID), c.config)
			for i := range 2 {
				if err := g.serve(context.Background(), ten(), dec("1"), 0); err != nil {
					t.Fatalf("rows to %v, %d: %v", part, i, err)
				}
			}
			g.kill()
		}
		// 18 are used and one is on its way: one is left.
		g = p.startProcess(countedTo(t, 0.7, k.OrgID), func(config *Config, log *events.Log) { c.config(config, log); config.Wait = 50 * time.Millisecond })
		if err := g.serve(context.Background(), ten(), dec("1"), 0); err != nil {
			t.Fatal(err)
		}
		var r *Refusal
		if err := g.serve(context.Background(), ten(), dec("1"), 0); !errors.As(err, &r) || r.Kind != UsedUp {
			t.Fatal(err)
		}
		for range 3 {
			if err := g.log.Publish(context.Background(), []events.Usage{usageOf(events.NewID(), k, p.clock.now(), dec("1"))}); err != nil {
				t.Fatal(err)
			}
		}
		g.caughtUp()
		scope := map[bool]Scope{true: ScopeIncludedTokens, false: ScopeIncludedAmount}[plan.Terms.IncludedTokens > 0]
		if s := g.includedAt(k.OrgID, scope); !s.Spent.GreaterThan(s.Limit) {
			t.Errorf("%+v: what was reported is not counted", s)
		}
		p.clock.add(20 * 24 * time.Hour) // the ninth of the next month begins a period
		if err := g.serve(context.Background(), ten(), dec("1"), 0); err != nil {
			t.Fatal(err)
		}
		g.kill()
	}
}

// Replicas that race for what is included use all of it and no more.
func TestReplicasShareIncludedUsage(t *testing.T) {
	t.Parallel()
	for _, plan := range []ledger.Plan{blocks(start.AddDate(0, -2, 0), 200, "0"), blocks(start.AddDate(0, -2, 0), 0, "20")} {
		p := newPlant(t)
		k := keyOf(1, 1)
		c := newContract(5, plan)
		p.beforeRestore = func(l *Limiter) { l.TermsChanged(k.OrgID, 1, true) }
		var gs []*process
		for i := range 3 {
			gs = append(gs, p.replica(fmt.Sprint("r", i), func(config *Config) { config.Included = c.included }))
		}
		var wg sync.WaitGroup
		var served atomic.Int32
		for i := range 90 {
			wg.Go(func() {
				cl := claim(k, p.clock.now(), "1")
				cl.Tokens = 10
				err := gs[i%3].serve(context.Background(), cl, dec("1"), 5*time.Millisecond)
				var r *Refusal
				switch {
				case err == nil:
					served.Add(1)
				case !errors.As(err, &r) || r.Kind != UsedUp:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if served.Load() != 20 {
			t.Errorf("%d of 20 were served", served.Load())
		}
		for _, g := range gs {
			g.kill()
		}
	}
}

// Five hundred at once on what is included for ten: ten are served, though every
// bound is far above what is used.
func TestIncludedForTenServesTen(t *testing.T) {
	for _, plan := range []ledger.Plan{blocks(start.AddDate(0, -2, 0), 190, "0"), blocks(start.AddDate(0, -2, 0), 0, "10.9")} {
		c := newContract(1, plan)
		b := blockedBox(t, c, named("org", 1))
		var wg sync.WaitGroup
		var served atomic.Int32
		for range 500 {
			wg.Go(func() {
				h, err := b.Reserve(context.Background(), claim(keyOf(1, 1), b.clock.now(), "1.9"))
				var r *Refusal
				switch {
				case err == nil:
					time.Sleep(time.Millisecond)
					h.Settle(10, dec("1"))
					served.Add(1)
				case !errors.As(err, &r) || r.Kind != UsedUp:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if served.Load() != 10 {
			t.Errorf("%d were served of 10", served.Load())
		}
	}
}
