package admission

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// Five hundred at once on a budget of ten: ten are served, though every bound is
// far above what is used, and nothing is overshot at any moment.
func TestBudgetOfTenServesTen(t *testing.T) {
	for _, test := range []struct {
		name, budget, bound, cost string
		served                    int32
	}{
		{"the bound is the cost", "10", "1", "1", 10},
		// The last one needs its whole bound free: a budget can be filled up to the
		// difference between a bound and a cost.
		{"the bound is three times the cost", "12", "3", "1", 10},
		{"all at once", "10", "0.02", "0.01", 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBox(t)
			k := keyOf(1, 1)
			b.budget(1, ScopeKey, k.ID, test.budget)
			b.credit(1, test.budget)
			var served, refused atomic.Int32
			var wg sync.WaitGroup
			for range 500 {
				wg.Go(func() {
					h, err := b.Reserve(t.Context(), claim(k, start, test.bound))
					var r *Refusal
					switch {
					case err == nil:
						s, _ := b.Standing(k.OrgID, ScopeKey, k.ID, start)
						if s.Spent.Add(s.Held).GreaterThan(s.Limit) {
							t.Errorf("spent %s and held %s are over %s", s.Spent, s.Held, s.Limit)
						}
						time.Sleep(time.Millisecond)
						h.Settle(10, dec(test.cost))
						served.Add(1)
					case errors.As(err, &r) && (r.Kind == Budget || r.Kind == Balance):
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if served.Load() != test.served || served.Load()+refused.Load() != 500 {
				t.Fatalf("%d served and %d refused, want %d", served.Load(), refused.Load(), test.served)
			}
		})
	}
}

// The very last of the money is used when the bound fits it exactly.
func TestRefusedAtOnceOnlyWhenItCanNeverFit(t *testing.T) {
	b := newBox(t)
	k := keyOf(1, 1)
	b.budget(1, ScopeOrg, k.OrgID, "10")
	h := b.reserve(claim(k, start, "6"))
	b.refused(claim(k, start, "10.000000000001"), Budget, "org") // never, even if nothing else ran
	granted := make(chan Hold)
	go func() {
		h, err := b.Reserve(t.Context(), claim(k, start, "9"))
		if err != nil {
			t.Error(err)
		}
		granted <- h
	}()
	b.waits(k.OrgID, 1)
	h.Settle(1, dec("1"))
	(<-granted).Settle(1, dec("9"))
	b.stands(1, ScopeOrg, k.OrgID, "10", "0")
	r := b.refused(claim(k, start, "0.000000000001"), Budget, "org")
	if want := time.Date(2026, 12, 1, 0, 0, 0, 0, shanghai.Location).Sub(start); r.RetryAfter != want {
		t.Errorf("retry after %s, want %s: the month's end in the org's zone", r.RetryAfter, want)
	}
}

// waits returns when n claims of an org wait.
func (b *box) waits(org uuid.UUID, n int) {
	b.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		o := b.org(org)
		o.mu.Lock()
		got := len(o.waiting)
		o.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%d claims wait, want %d", got, n)
		}
	}
}

// A large claim is not overtaken by small ones that would fit beside those on
// their way; a team that has money does not wait behind one that has not.
func TestFirstComeFirstServedOnEachAccount(t *testing.T) {
	b := newBox(t)
	one, other := keyOf(1, 1), keyOf(1, 2) // of two teams
	b.budget(1, ScopeTeam, one.TeamID, "10")
	running := b.reserve(claim(one, start, "5"))
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	for i, cost := range []string{"9", "1", "2"} {
		wg.Go(func() {
			h, err := b.Reserve(t.Context(), claim(one, start, cost))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, cost)
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			h.Settle(1, dec("0.1"))
		})
		b.waits(one.OrgID, i+1)
	}
	b.reserve(claim(other, start, "100")).Settle(1, dec("100")) // its team has no budget
	running.Settle(1, dec("0.5"))
	wg.Wait()
	if order[0] != "9" {
		t.Fatalf("served in the order %v", order)
	}
	b.stands(1, ScopeTeam, one.TeamID, "0.8", "0")
}

func TestWaitEnds(t *testing.T) {
	t.Run("with the client", func(t *testing.T) {
		b := newBox(t)
		k := keyOf(1, 1)
		b.credit(1, "10")
		h := b.reserve(claim(k, start, "10"))
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := b.Reserve(ctx, claim(k, start, "4"))
			left <- err
		}()
		b.waits(k.OrgID, 1)
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		h.Settle(1, dec("0"))
		b.stands(1, ScopeBalance, k.OrgID, "0", "0")
		b.reserve(claim(k, start, "10"))
	})
	t.Run("in time", func(t *testing.T) {
		b := newBox(t, func(c *Config) { c.Wait = 20 * time.Millisecond })
		k := keyOf(1, 1)
		b.credit(1, "10")
		b.reserve(claim(k, start, "10"))
		if r := b.refused(claim(k, start, "4"), Balance, "org"); r.RetryAfter != time.Second {
			t.Errorf("retry after %s", r.RetryAfter)
		}
		b.waits(k.OrgID, 0)
	})
	t.Run("when too many wait", func(t *testing.T) {
		b := newBox(t, func(c *Config) { c.WaitingMax = 1; c.Wait = 50 * time.Millisecond })
		k := keyOf(1, 1)
		b.credit(1, "10")
		b.reserve(claim(k, start, "10"))
		go b.Reserve(t.Context(), claim(k, start, "4"))
		b.waits(k.OrgID, 1)
		b.refused(claim(k, start, "4"), InFlight, "org")
	})
	t.Run("with money", func(t *testing.T) {
		b := newBox(t)
		k := keyOf(1, 1)
		b.credit(1, "10")
		b.reserve(claim(k, start, "10"))
		granted := make(chan Hold)
		go func() { granted <- b.reserve(claim(k, start, "4")) }()
		b.waits(k.OrgID, 1)
		b.credit(1, "4")
		<-granted
		b.stands(1, ScopeBalance, k.OrgID, "0", "14")
	})
}

// Every account that applies is taken from, or none.
func TestAllOrNone(t *testing.T) {
	b := newBox(t)
	k := keyOf(1, 1)
	b.budget(1, ScopeOrg, k.OrgID, "100")
	b.budget(1, ScopeTeam, k.TeamID, "50")
	b.budget(1, ScopeKey, k.ID, "5")
	b.credit(1, "1000")
	b.refused(claim(k, start, "6"), Budget, "key")
	for _, a := range []struct {
		scope Scope
		id    uuid.UUID
	}{{ScopeBalance, k.OrgID}, {ScopeOrg, k.OrgID}, {ScopeTeam, k.TeamID}, {ScopeKey, k.ID}} {
		b.stands(1, a.scope, a.id, "0", "0")
	}
	b.reserve(claim(k, start, "5")).Settle(7, dec("4.5"))
	for _, a := range []struct {
		scope Scope
		id    uuid.UUID
	}{{ScopeBalance, k.OrgID}, {ScopeOrg, k.OrgID}, {ScopeTeam, k.TeamID}, {ScopeKey, k.ID}} {
		b.stands(1, a.scope, a.id, "4.5", "0")
	}
}

// A month ends in the org's zone; a request belongs to the month it began in.
func TestMonthsOfZones(t *testing.T) {
	for _, name := range []string{"Asia/Shanghai", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Kiritimati", "America/Sao_Paulo"} {
		t.Run(name, func(t *testing.T) {
			z, err := time.LoadLocation(name)
			if err != nil {
				t.Fatal(err)
			}
			b := newBox(t, func(c *Config) { c.Zones = zone{z} })
			k := keyOf(1, 1)
			b.budget(1, ScopeOrg, k.OrgID, "10")
			b.credit(1, "100")
			end := time.Date(2026, 12, 1, 0, 0, 0, 0, z)
			b.clock.add(end.Add(-time.Millisecond).Sub(start))
			b.reserve(claim(k, b.clock.now(), "7")).Settle(1, dec("6"))
			late := b.reserve(claim(k, b.clock.now(), "3"))
			b.refused(claim(k, b.clock.now(), "5"), Budget, "org")
			b.clock.add(time.Millisecond)
			b.stands(1, ScopeOrg, k.OrgID, "0", "0")
			b.reserve(claim(k, b.clock.now(), "10")).Settle(1, dec("9"))
			b.refused(claim(k, end.Add(-time.Millisecond), "5"), Budget, "org") // a clock that is behind
			late.Settle(1, dec("3"))
			b.stands(1, ScopeOrg, k.OrgID, "9", "0")
			b.stands(1, ScopeBalance, k.OrgID, "18", "0")
			b.clock.add(45 * 24 * time.Hour)
			b.reserve(claim(k, b.clock.now(), "10")).Settle(1, dec("1"))
			b.stands(1, ScopeOrg, k.OrgID, "1", "0")
		})
	}
}

func TestSandboxNeedsNoMoney(t *testing.T) {
	b := newBox(t)
	k := keyOf(1, 1)
	b.budget(1, ScopeOrg, k.OrgID, "0")
	b.refused(claim(k, start, "1"), Budget, "org")
	k.Sandbox = true
	b.reserve(claim(k, start, "0")).Settle(1, dec("0"))
}

func TestClaimsThatAreRefusedAsInvalid(t *testing.T) {
	b := newBox(t)
	good := claim(keyOf(1, 1), start, "1")
	for name, change := range map[string]func(*Claim){
		"no key":          func(c *Claim) { c.Key = nil },
		"no org":          func(c *Claim) { k := *c.Key; k.OrgID, c.Key = uuid.Nil, &k },
		"no id":           func(c *Claim) { c.RequestID = uuid.Nil },
		"no time":         func(c *Claim) { c.At = time.Time{} },
		"long ago":        func(c *Claim) { c.At = start.AddDate(0, -2, 0) },
		"negative":        func(c *Claim) { c.Cost = dec("-1") },
		"without measure": func(c *Claim) { c.Cost = dec("1e30") },
	} {
		c := good
		change(&c)
		if _, err := b.Reserve(t.Context(), c); !errors.Is(err, ErrInvalidClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.reserve(good)
	if _, err := b.Reserve(t.Context(), good); !errors.Is(err, ErrInvalidClaim) {
		t.Errorf("the same request twice: %v", err)
	}
}

// Commands say the same twice without harm and give way to other writers.
func TestCommands(t *testing.T) {
	b := newBox(t)
	org := named("org", 1)
	id := events.NewID()
	for range 2 {
		if err := b.Credit(t.Context(), BalanceCredited{OrgID: org, CreditID: id, Amount: dec("3")}, b.by); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Credit(t.Context(), BalanceCredited{OrgID: org, CreditID: id, Amount: dec("4")}, b.by); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if err := b.SetCreditLimit(t.Context(), org, dec("2"), b.by); err != nil {
		t.Fatal(err)
	}
	if s, _ := b.Standing(org, ScopeBalance, org, start); !s.Limit.Equal(dec("5")) || !s.Credit.Equal(dec("3")) {
		t.Fatalf("%+v", s)
	}
	for _, d := range []BudgetSet{{OrgID: org, Scope: ScopeBalance, ID: org}, {OrgID: org, Scope: ScopeTeam}, {OrgID: org, Scope: ScopeOrg, ID: named("org", 2)},
		{OrgID: org, Scope: ScopeOrg, Amount: decp("-1")}, {OrgID: org, Scope: ScopeOrg, Amount: decp("0.0000000000001")}} {
		if err := b.SetBudget(t.Context(), d, b.by); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", d, err)
		}
	}
	// A limiter that has not read the last record yet writes after it has.
	slow, err := New(Config{Zones: shanghai, Now: b.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		for _, r := range b.log.records[:2] {
			if err := slow.Apply(r); err != nil {
				t.Error(err)
			}
		}
	}()
	if err := (Commands{Log: b.log, Limiter: slow}).SetLimits(t.Context(), org, Rates{RPM: 1}, b.by); err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(b.log.records[2]); err != nil {
		t.Fatal(err)
	}
	if b.org(org).rates.RPM != 1 {
		t.Fatal("the limit is not there")
	}
}

// A balance that is opened takes in what is on its way and is to be paid from it.
func TestOpeningABalanceTakesInWhatIsOnItsWay(t *testing.T) {
	b := newBox(t)
	k := keyOf(1, 1)
	before := b.reserve(claim(k, start.Add(-time.Second), "3"))
	after := b.reserve(claim(k, start, "2"))
	b.credit(1, "10")
	b.stands(1, ScopeBalance, k.OrgID, "0", "2")
	before.Settle(1, dec("3"))
	after.Settle(1, dec("1.5"))
	b.stands(1, ScopeBalance, k.OrgID, "1.5", "0")
	if room, limited, err := b.Room(&k, start); err != nil || !limited || !room.Equal(dec("8.5")) {
		t.Fatalf("room for %s, %v, %v", room, limited, err)
	}
	if _, limited, err := b.Room(new(keyOf(2, 1)), start); err != nil || limited {
		t.Fatalf("an org without accounts is limited (%v)", err)
	}
}

// A claim that waited in vain has its rates back.
func TestWaitInVainGivesRatesBack(t *testing.T) {
	b := newBox(t)
	k := keyOf(1, 1)
	k.RPMLimit = 5
	b.budget(1, ScopeKey, k.ID, "10")
	h := b.reserve(claim(k, start, "10"))
	refused := make(chan *Refusal)
	go func() { refused <- b.refused(claim(k, start, "4"), Budget, "key") }()
	b.waits(k.OrgID, 1)
	h.Settle(1, dec("7"))
	if r := <-refused; r.Header.Get("x-ratelimit-remaining-requests") != "4" {
		t.Fatal(r.Header)
	}
}
