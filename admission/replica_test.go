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
	"github.com/shopspring/decimal"

	"aione/events"
)

// replica starts one of several processes and waits until it may let requests in.
func (p *plant) replica(id string, change ...func(*Config)) *process {
	p.t.Helper()
	g := p.startProcess(all, func(c *Config, log *events.Log) {
		c.Wait = 8 * time.Second
		c.Replica = &ReplicaConfig{ID: id, Log: log, TTL: 3 * time.Second, SweptAfter: 10 * time.Minute, Now: time.Now}
		for _, f := range change {
			f(c)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); !g.replica.valid(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("the replica does not join")
		}
	}
	return g
}

// knows waits until a replica has read the ledger to its end.
func (g *process) knows(org uuid.UUID, scope Scope, id uuid.UUID) {
	g.plant.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if s, err := g.Standing(org, scope, id, g.plant.clock.now()); err == nil && s.Limited {
			return
		}
		if time.Now().After(deadline) {
			g.plant.t.Fatal("the budget does not arrive")
		}
	}
}

// logged is what the usage log says an org has spent: the truth.
func (g *process) logged(org uuid.UUID) decimal.Decimal {
	g.plant.t.Helper()
	end, _, err := g.log.UsageEnd(context.Background(), 0)
	if err != nil {
		g.plant.t.Fatal(err)
	}
	sum := decimal.Decimal{}
	if err := (rows{g.log, end}).each(context.Background(), end, func(u events.Usage) {
		if u.OrgID == org {
			sum = sum.Add(u.Cost)
		}
	}); err != nil {
		g.plant.t.Fatal(err)
	}
	return sum
}

// Replicas that race for one budget never spend more than it, and spend all of it.
func TestReplicasShareABudget(t *testing.T) {
	for _, test := range []struct {
		replicas            int
		budget, bound, cost string
		claims              int
		spent               string
	}{
		{2, "20", "1", "1", 60, "20"},
		{3, "20", "1", "1", 90, "20"},
		{3, "32", "3", "1", 90, "30"},       // the last 2 are less than any bound
		{3, "15", "10", "0.25", 30, "5.25"}, // as long as 10 are left
	} {
		t.Run(fmt.Sprintf("%d replicas %s of %s", test.replicas, test.bound, test.budget), func(t *testing.T) {
			t.Parallel()
			p := newPlant(t)
			k := keyOf(1, 1)
			var gs []*process
			for i := range test.replicas {
				gs = append(gs, p.replica(fmt.Sprint("r", i)))
			}
			gs[0].setBudget(ScopeKey, k.OrgID, k.ID, test.budget)
			for _, g := range gs {
				g.knows(k.OrgID, ScopeKey, k.ID)
			}
			var wg sync.WaitGroup
			var served, refused atomic.Int32
			for i := range test.claims {
				wg.Go(func() {
					err := gs[i%len(gs)].serve(context.Background(), claim(k, p.clock.now(), test.bound), dec(test.cost), 5*time.Millisecond)
					var r *Refusal
					switch {
					case err == nil:
						served.Add(1)
					case errors.As(err, &r) && r.Kind == Budget:
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			spent := gs[0].logged(k.OrgID)
			if spent.GreaterThan(dec(test.budget)) {
				t.Fatalf("overshoot: %s of %s", spent, test.budget)
			}
			if !spent.Equal(dec(test.spent)) {
				t.Fatalf("%s of %s were used (%d served, %d refused), want %s", spent, test.budget, served.Load(), refused.Load(), test.spent)
			}
		})
	}
}

// What a replica that died had been allowed is usable again when it counts as dead
// and its requests as swept, and not before.
func TestDeadReplicaIsReclaimed(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	k := keyOf(1, 1)
	one, two := p.replica("one"), p.replica("two", func(c *Config) { c.Wait = 500 * time.Millisecond })
	one.setBudget(ScopeOrg, k.OrgID, k.OrgID, "10")
	two.knows(k.OrgID, ScopeOrg, k.OrgID)
	ctx := context.Background()
	for range 3 {
		if err := one.serve(ctx, claim(k, p.clock.now(), "1"), dec("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	out := claim(k, p.clock.now(), "2")
	if _, err := one.Reserve(ctx, out); err != nil {
		t.Fatal(err)
	}
	one.kill()
	taken := 0
	fill := func() {
		for ; ; taken++ {
			var r *Refusal
			if err := two.serve(ctx, claim(k, p.clock.now(), "1"), dec("1"), 0); errors.As(err, &r) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if taken > 5 {
		t.Fatalf("%d were let in beside 3 spent and 2 held of 10", taken)
	}
	for deadline := time.Now().Add(15 * time.Second); two.replica.replicas() != 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the dead replica is counted among the living")
		}
	}
	// The sweeper settles what was on its way.
	if err := two.log.Publish(ctx, []events.Usage{usageOf(out.RequestID, k, out.At, dec("0.5"))}); err != nil {
		t.Fatal(err)
	}
	before := taken
	fill()
	if got := two.logged(k.OrgID); got.GreaterThan(dec("10")) {
		t.Fatalf("overshoot: %s", got)
	}
	p.clock.add(11 * time.Minute)
	fill()
	if taken != 6 || taken == before { // 3 + 0.5 + 6 = 9.5
		t.Fatalf("%d of 6 were let in (%d before), spent %s", taken, before, two.logged(k.OrgID))
	}
}

// A replica that leaves in order gives back at once.
func TestLeavingGivesBack(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	k := keyOf(1, 1)
	one := p.replica("one")
	one.setBudget(ScopeOrg, k.OrgID, k.OrgID, "10")
	ctx := context.Background()
	if err := one.serve(ctx, claim(k, p.clock.now(), "4"), dec("4"), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := one.Leave(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := one.Reserve(ctx, claim(k, p.clock.now(), "1")); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	one.kill()
	two := p.replica("two")
	for range 6 {
		if err := two.serve(ctx, claim(k, p.clock.now(), "1"), dec("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	var r *Refusal
	if err := two.serve(ctx, claim(k, p.clock.now(), "1"), dec("1"), 0); !errors.As(err, &r) {
		t.Fatal(err)
	}
}

// Alone, a replica leases the whole remainder: one record, whatever it lets in.
func TestAloneLeasesTheWhole(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	k := keyOf(1, 1)
	g := p.replica("one")
	g.setBudget(ScopeOrg, k.OrgID, k.OrgID, "100")
	for range 100 {
		if err := g.serve(context.Background(), claim(k, p.clock.now(), "1"), dec("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	records := 0
	end, err := g.log.LedgerEnd(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_ = g.log.Follow(ctx, 1, func(r events.Record) error {
		if r.Subject == LeaseSubject(k.OrgID) {
			records++
		}
		if r.Seq == end {
			cancel()
		}
		return nil
	})
	if records != 1 {
		t.Fatalf("%d records of leases", records)
	}
}

// Two replicas that share rates let in no more together than one would.
func TestReplicasShareRates(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	one, two := p.replica("one"), p.replica("two")
	for one.replica.replicas() != 2 {
		time.Sleep(time.Millisecond)
	}
	k := rated(keyOf(1, 1), Rates{RPM: 61, TPM: 100_000})
	begin := p.clock.now()
	total := 0
	drain := func(g *process) {
		for {
			h, err := g.Reserve(context.Background(), claim(k, p.clock.now(), "0"))
			if err != nil {
				var r *Refusal
				if !errors.As(err, &r) || r.Kind != RateRequests {
					t.Fatal(err)
				}
				return
			}
			h.Settle(100, dec("0"))
			total++
		}
	}
	for range 300 {
		drain(one)
		drain(two)
		minutes := p.clock.now().Sub(begin)
		if most := 61 + int(61*minutes/time.Minute); total > most {
			t.Fatalf("%d let in within %s, one alone would let in %d", total, minutes, most)
		}
		p.clock.add(700 * time.Millisecond)
	}
	if least := int(61 * (p.clock.now().Sub(begin) - 2*time.Second) / time.Minute); total < least {
		t.Fatalf("%d let in, less than the %d that flow in", total, least)
	}
	// One goes: the other takes over all of it.
	if err := two.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	for one.replica.replicas() != 1 {
		time.Sleep(time.Millisecond)
	}
	drain(one)
	p.clock.add(time.Minute)
	before := total
	drain(one)
	if total-before != 61 {
		t.Fatalf("alone it lets in %d a minute", total-before)
	}
}
