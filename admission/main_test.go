package admission

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/embedded"
	"aione/events"
	"aione/keys"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m, "TestLostPlaceIsTakenAgain")) }

var start = time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)

// zone is every org's.
type zone struct{ *time.Location }

func (z zone) Zone(uuid.UUID) (*time.Location, error) { return z.Location, nil }

var shanghai = func() zone {
	z, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		panic(err)
	}
	return zone{z}
}()

// clock is an injected one.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: start} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// memory is a ledger without a log: records are numbered and kept.
type memory struct {
	mu      sync.Mutex
	records []events.Record
}

func (m *memory) Append(_ context.Context, as ...events.Append) ([]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := uint64(0)
	for _, r := range m.records {
		if r.Subject == as[0].Subject {
			last = r.Seq
		}
	}
	if last != as[0].ExpectLast {
		return nil, events.ErrConflict
	}
	r := as[0].Record
	r.Seq, r.Subject = uint64(len(m.records)+1), as[0].Subject
	m.records = append(m.records, r)
	return []uint64{r.Seq}, nil
}

func named(kind string, n int) uuid.UUID { return events.DeriveID(kind, fmt.Append(nil, n)) }

func keyOf(org, n int) keys.Key {
	return keys.Key{ID: named("key", org*1000+n), OrgID: named("org", org), TeamID: named("team", org*1000+n%2)}
}

func dec(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func decp(s string) *decimal.Decimal { d := dec(s); return &d }

func claim(k keys.Key, at time.Time, cost string) Claim {
	return Claim{Key: &k, Model: "m", At: at.Truncate(time.Millisecond), RequestID: events.NewID(), Tokens: 100, Cost: dec(cost)}
}

// box is a Limiter alone, ready, with commands on a ledger in memory.
type box struct {
	*Limiter
	Commands
	t     testing.TB
	clock *clock
	log   *memory
	by    By
}

func newBox(t testing.TB, change ...func(*Config)) *box {
	t.Helper()
	b := &box{t: t, clock: newClock(), log: &memory{}}
	c := Config{Zones: shanghai, Now: b.clock.now}
	for _, f := range change {
		f(&c)
	}
	var err error
	if b.Limiter, err = New(c); err != nil {
		t.Fatal(err)
	}
	b.Commands = Commands{Log: b.log, Limiter: b.Limiter}
	b.by = By{Actor: "test", At: b.clock.now()}
	if err := b.Restore(t.Context(), History{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) budget(org int, scope Scope, id uuid.UUID, amount string) {
	b.t.Helper()
	d := BudgetSet{OrgID: named("org", org), Scope: scope, ID: id}
	if amount != "" {
		d.Amount = decp(amount)
	}
	if err := b.SetBudget(b.t.Context(), d, b.by); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) credit(org int, amount string) {
	b.t.Helper()
	if err := b.Credit(b.t.Context(), BalanceCredited{OrgID: named("org", org), CreditID: events.NewID(), Amount: dec(amount)}, b.by); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) reserve(c Claim) Hold {
	b.t.Helper()
	h, err := b.Reserve(b.t.Context(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

func (b *box) refused(c Claim, kind RefusalKind, scope string) *Refusal {
	b.t.Helper()
	_, err := b.Reserve(b.t.Context(), c)
	var r *Refusal
	if !errors.As(err, &r) || r.Kind != kind || r.Scope != scope {
		b.t.Fatalf("got %v (%+v), want a refusal by %s of the %s", err, r, kind, scope)
	}
	return r
}

// stands checks what is spent and held.
func (b *box) stands(org int, scope Scope, id uuid.UUID, spent, held string) {
	b.t.Helper()
	s, err := b.Standing(named("org", org), scope, id, b.clock.now())
	if err != nil {
		b.t.Fatal(err)
	}
	if !s.Spent.Equal(dec(spent)) || !s.Held.Equal(dec(held)) {
		b.t.Fatalf("%s stands at spent %s held %s, want %s and %s", scope, s.Spent, s.Held, spent, held)
	}
}
