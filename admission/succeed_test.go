package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// fill lets in requests that cost 1 until the budget refuses, and counts them.
func (g *process) fill(org, n int) int {
	g.plant.t.Helper()
	for served := 0; ; served++ {
		err := g.serve(context.Background(), claim(keyOf(org, n), g.plant.clock.now(), "1"), dec("1"), 0)
		var r *Refusal
		if errors.As(err, &r) {
			return served
		}
		if err != nil {
			g.plant.t.Fatal(err)
		}
	}
}

// admit lets a request in of a process that will not live to settle it.
func (g *process) admit(org, n int, bound string) Claim {
	g.plant.t.Helper()
	c := claim(keyOf(org, n), g.plant.clock.now(), bound)
	if _, err := g.Reserve(context.Background(), c); err != nil {
		g.plant.t.Fatal(err)
	}
	err := g.log.Admit(context.Background(), events.Admission{ID: c.RequestID, Estimate: usageOf(c.RequestID, *c.Key, c.At, c.Cost), Deadline: time.Minute})
	if err != nil {
		g.plant.t.Fatal(err)
	}
	return c
}

// A process that takes the place of one that was killed goes on at once: what the
// dead one spent is spent, what it left on its way is held, the rest is served, all
// of it, and no other replica can have it twice.
func TestSuccessorGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	for _, others := range []int{0, 2} {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			t.Parallel()
			p := newPlant(t)
			short := func(c *Config) { c.Wait = 2 * time.Second }
			k := keyOf(1, 1)
			one := p.replica("one", short)
			one.setBudget(ScopeOrg, k.OrgID, k.OrgID, "20")
			one.setBudget(ScopeKey, k.OrgID, k.ID, "15")
			var beside []*process
			for i := range others {
				g := p.replica(fmt.Sprint("beside", i), short)
				g.knows(k.OrgID, ScopeKey, k.ID)
				beside = append(beside, g)
			}
			for range 3 {
				if err := one.serve(context.Background(), claim(k, p.clock.now(), "1"), dec("1"), 0); err != nil {
					t.Fatal(err)
				}
			}
			out := one.admit(1, 1, "2")
			one.kill()
			two := p.successor("two", []string{"one"}, short)
			var wg sync.WaitGroup
			for _, g := range append(beside, two) {
				wg.Go(func() { g.fill(1, 1) })
			}
			wg.Wait()
			if spent := two.logged(k.OrgID); !spent.Equal(dec("13")) { // and 2 on their way, of 15
				t.Fatalf("%s of 15 are spent beside 2 that are held, want 13", spent)
			}
			// The sweeper settles what was on its way at less: that is free again, once.
			if err := two.log.Publish(context.Background(), []events.Usage{usageOf(out.RequestID, k, out.At, dec("0.5"))}); err != nil {
				t.Fatal(err)
			}
			for _, g := range append(beside, two) {
				g.fill(1, 1)
			}
			if spent := two.logged(k.OrgID); !spent.Equal(dec("14.5")) {
				t.Fatalf("%s of 15 are spent, want 14.5: less is left than any bound", spent)
			}
		})
	}
}

// successor starts a replica that takes the place of others.
func (p *plant) successor(id string, of []string, change ...func(*Config)) *process {
	p.t.Helper()
	p.before = func(l *Limiter) { l.Succeed(of...) }
	defer func() { p.before = nil }()
	return p.replica(id, change...)
}

// A replica that loses its place takes another. Its requests go on meanwhile and
// settle as ever; nothing is let in twice for them, and nothing stays locked.
func TestLostPlaceIsTakenAgain(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	k := keyOf(1, 1)
	one := p.replica("one", func(c *Config) { c.Wait = 2 * time.Second })
	two := p.replica("two", func(c *Config) { c.Wait = 2 * time.Second })
	one.setBudget(ScopeOrg, k.OrgID, k.OrgID, "12")
	two.knows(k.OrgID, ScopeOrg, k.OrgID)
	ctx := context.Background()
	c := claim(k, p.clock.now(), "3")
	h, err := one.Reserve(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := one.replica.presence.Load().Release(ctx); err != nil {
			t.Fatal(err)
		}
		refused := false
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			err := one.Ready()
			refused = refused || errors.Is(err, ErrFenced)
			if refused && err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the replica does not come back")
			}
		}
	}
	if got := one.fill(1, 1) + two.fill(1, 1); got != 9 {
		t.Fatalf("%d were let in beside 3 on their way, of 12", got)
	}
	if err := one.log.Publish(ctx, []events.Usage{usageOf(c.RequestID, k, c.At, dec("1"))}); err != nil {
		t.Fatal(err)
	}
	h.Settle(10, dec("1"))
	if got := one.fill(1, 1) + two.fill(1, 1); got != 2 {
		t.Fatalf("%d were let in after a request of 3 was settled at 1", got)
	}
	if spent := two.logged(k.OrgID); !spent.Equal(dec("12")) {
		t.Fatalf("%s of 12 are spent", spent)
	}
}

// An org has the lower of its plan's limits and its own, each for itself.
func TestPlanRatesAndOwn(t *testing.T) {
	t.Parallel()
	plan := Rates{RPM: 10}
	b := newBox(t, func(c *Config) { c.PlanRates = func(uuid.UUID, time.Time) Rates { return plan } })
	k := keyOf(1, 1)
	for _, c := range []struct {
		plan, own Rates
		want      Rates
	}{
		{Rates{RPM: 10}, Rates{}, Rates{RPM: 10}},
		{Rates{RPM: 10}, Rates{RPM: 3, TPM: 500}, Rates{RPM: 3, TPM: 500}},
		{Rates{RPM: 2, TPM: 900}, Rates{RPM: 3, TPM: 500}, Rates{RPM: 2, TPM: 500}},
		{Rates{}, Rates{}, Rates{}},
	} {
		plan = c.plan
		if err := b.SetLimits(t.Context(), k.OrgID, c.own, b.by); err != nil {
			t.Fatal(err)
		}
		if inForce, set := b.OrgRates(k.OrgID, b.clock.now()); inForce != c.want || set != c.own {
			t.Errorf("plan %+v, own %+v: in force %+v, set %+v", c.plan, c.own, inForce, set)
		}
	}
	plan = Rates{RPM: 2}
	for range 2 {
		b.reserve(claim(k, b.clock.now(), "0")).Settle(0, decimal.Zero)
	}
	b.refused(claim(k, b.clock.now(), "0"), RateRequests, "plan")
}

// What a replica takes over may settle while its statement is on its way: its
// allowance then pays what was spent, not the bound.
func TestInheritWhatIsSettledMeanwhile(t *testing.T) {
	b, k := newBox(t), keyOf(1, 1)
	o := b.org(k.OrgID)
	o.shared = true
	running, settled := b.reserve(claim(k, start, "5")).(*hold), b.reserve(claim(k, start, "7")).(*hold)
	o.disown()
	settled.Settle(10, dec("2"))
	o.inherit([]*hold{running, settled})
	for _, a := range []*account{&o.budget, running.accounts[atTeam], running.accounts[atKey]} {
		if l := a.now.lease; l.held.decimal().String() != "5" || l.spent.decimal().String() != "2" {
			t.Errorf("%s: %s held and %s spent, want 5 and 2", a.scope, l.held.decimal(), l.spent.decimal())
		}
	}
}
