package admission

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/shopspring/decimal"

	"aione/embedded"
	"aione/events"
	"aione/keys"
)

// plant is one test's real event log, and the processes on it.
type plant struct {
	t     testing.TB
	nats  *embedded.NATS
	clock *clock

	before        func(*Limiter) // what happens to the next process before it runs
	beforeRestore func(*Limiter) // and before it restores
}

func newPlant(t testing.TB) *plant {
	t.Helper()
	return &plant{t: t, nats: embedded.OpenNATS(t), clock: newClock()}
}

// process is one gateway with its own connection.
type process struct {
	*Limiter
	Commands
	plant *plant
	conn  *nats.Conn
	log   *events.Log
	stop  context.CancelFunc
	ended sync.WaitGroup
	by    By
}

// startProcess opens the log, reads the ledger, restores and runs.
func (p *plant) startProcess(h func(*events.Log) History, change ...func(*Config, *events.Log)) *process {
	p.t.Helper()
	conn, err := p.nats.Conn()
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log, err := events.Open(ctx, conn, events.Options{ConfirmWithin: 5 * time.Second})
	if err != nil {
		p.t.Fatal(err)
	}
	c := Config{Zones: shanghai, Now: p.clock.now}
	for _, f := range change {
		f(&c, log)
	}
	g := &process{plant: p, conn: conn, log: log, stop: cancel, by: By{Actor: "test", At: p.clock.now()}}
	if g.Limiter, err = New(c); err != nil {
		p.t.Fatal(err)
	}
	g.Commands = Commands{Log: log, Limiter: g.Limiter}
	end, err := log.LedgerEnd(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	read := make(chan struct{})
	if end == 0 {
		close(read)
	}
	g.ended.Go(func() {
		err := log.Follow(ctx, 1, func(r events.Record) error {
			err := g.Apply(r)
			if r.Seq == end {
				close(read)
			}
			return err
		})
		if ctx.Err() == nil {
			p.t.Errorf("follow the ledger: %v", err)
		}
	})
	<-read
	if p.beforeRestore != nil {
		p.beforeRestore(g.Limiter)
	}
	if err := g.Restore(ctx, h(log)); err != nil {
		p.t.Fatal(err)
	}
	if p.before != nil {
		p.before(g.Limiter)
	}
	g.ended.Go(func() {
		if err := g.Run(ctx); ctx.Err() == nil {
			p.t.Logf("run: %v", err)
		}
	})
	p.t.Cleanup(g.kill)
	return g
}

// kill ends a process as kill -9 would: it says nothing more to the log.
func (g *process) kill() {
	g.stop()
	g.conn.Close()
	g.ended.Wait()
}

func (g *process) setBudget(scope Scope, org, id uuid.UUID, amount string) {
	g.plant.t.Helper()
	if err := g.SetBudget(context.Background(), BudgetSet{OrgID: org, Scope: scope, ID: id, Amount: decp(amount)}, g.by); err != nil {
		g.plant.t.Fatal(err)
	}
}

func usageOf(id uuid.UUID, k keys.Key, at time.Time, cost decimal.Decimal) events.Usage {
	return events.Usage{
		ID: id, OperationID: id, OrgID: k.OrgID, TeamID: k.TeamID, KeyID: k.ID,
		Model: "m", Provider: "p", PriceVersion: "m@1", Currency: "CNY", OccurredAt: at.UTC().Truncate(time.Millisecond),
		Tokens: events.Tokens{Input: 7, Output: 3}, Cost: cost, Sandbox: k.Sandbox,
		Outcome: events.OutcomeCompleted, Source: events.SourceReported, HTTPStatus: 200, Producer: "gateway",
	}
}

// serve does what a gateway does. The bound is the admission's estimate here, so
// that it is what a restart holds.
func (g *process) serve(ctx context.Context, c Claim, cost decimal.Decimal, takes time.Duration) error {
	h, err := g.Reserve(ctx, c)
	if err != nil {
		return err
	}
	bound := usageOf(c.RequestID, *c.Key, c.At, c.Cost)
	if err := g.log.Admit(ctx, events.Admission{ID: c.RequestID, Estimate: bound, Deadline: time.Minute}); err != nil {
		return err
	}
	time.Sleep(takes)
	u := usageOf(c.RequestID, *c.Key, c.At, cost)
	if err := g.log.Publish(ctx, []events.Usage{u}); err != nil {
		return err
	}
	h.Settle(u.Tokens.Total(), cost)
	return nil
}

// rows plays ClickHouse: what is counted up to a sequence, folded from the log.
type rows struct {
	log  *events.Log
	upTo uint64
}

func (r rows) Counted(context.Context) ([]uint64, error) { return []uint64{r.upTo}, nil }

func (r rows) each(ctx context.Context, upTo uint64, f func(u events.Usage)) error {
	if upTo == 0 {
		return nil
	}
	reader, err := r.log.ReadUsage(ctx, 0, 1)
	if err != nil {
		return err
	}
	defer reader.Stop()
	var d events.Decoder
	seen := map[uuid.UUID]bool{}
	for {
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		us, _, err := d.Envelope(m.Data, nil)
		if err != nil {
			return err
		}
		for _, u := range us {
			if !seen[u.ID] {
				seen[u.ID] = true
				f(u)
			}
		}
		if m.Seq >= upTo {
			return nil
		}
	}
}

func (r rows) EachSpend(ctx context.Context, asked []SpendOf, upTo []uint64, each func(SpendRow) error) error {
	return r.each(ctx, upTo[0], func(u events.Usage) {
		for i, a := range asked {
			if a.OrgID == u.OrgID && !u.OccurredAt.Before(a.From) && u.OccurredAt.Before(a.To) {
				if err := each(SpendRow{Asked: i, TeamID: u.TeamID, KeyID: u.KeyID, Cost: u.Cost, Tokens: u.Tokens.Total()}); err != nil {
					panic(err)
				}
			}
		}
	})
}

func (r rows) Settled(ctx context.Context, asked []events.UsageKey) (map[events.UsageKey]bool, error) {
	settled := map[events.UsageKey]bool{}
	err := r.each(ctx, r.upTo, func(u events.Usage) { settled[events.UsageKey{OrgID: u.OrgID, ID: u.ID}] = true })
	return settled, err
}

func all(log *events.Log) History { return History{Usage: log, Admissions: log} }

// countedTo is a history whose rows end somewhere in the log.
func countedTo(t testing.TB, part float32, orgs ...uuid.UUID) func(*events.Log) History {
	return func(log *events.Log) History {
		end, _, err := log.UsageEnd(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return History{Usage: log, Admissions: log, Spend: rows{log, uint64(part * float32(end))}, Orgs: orgs}
	}
}

// sameStanding waits until two limiters say the same of an account.
func (g *process) sums(k keys.Key) (sums [4]Standing) {
	for i, a := range []struct {
		scope Scope
		id    uuid.UUID
	}{{ScopeBalance, k.OrgID}, {ScopeOrg, k.OrgID}, {ScopeTeam, k.TeamID}, {ScopeKey, k.ID}} {
		s, err := g.Standing(k.OrgID, a.scope, a.id, g.plant.clock.now())
		if err != nil {
			g.plant.t.Fatal(err)
		}
		sums[i] = s
	}
	return sums
}

func equalSums(a, b [4]Standing) bool {
	for i := range a {
		if !a[i].Spent.Equal(b[i].Spent) || !a[i].Held.Equal(b[i].Held) || !a[i].Limit.Equal(b[i].Limit) {
			return false
		}
	}
	return true
}

// Killed at any moment, a process that starts again knows what every account has
// spent and what is outstanding, whatever part of the log is in the rows.
func TestSpendSurvivesKill(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	one := p.startProcess(all)
	members := []keys.Key{keyOf(1, 1), keyOf(1, 2), keyOf(2, 1)}
	orgs := []uuid.UUID{members[0].OrgID, members[2].OrgID}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	for _, k := range members {
		one.setBudget(ScopeOrg, k.OrgID, k.OrgID, "1000")
		one.setBudget(ScopeKey, k.OrgID, k.ID, "300")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	work := func(n int) {
		for i := range n {
			k := members[rng.IntN(len(members))]
			c := claim(k, p.clock.now().Add(-time.Duration(rng.IntN(100))*time.Second), "3")
			cost := decimal.New(rng.Int64N(3_000_000_000_000), -12)
			takes := time.Duration(rng.IntN(10)) * time.Millisecond
			wg.Go(func() {
				if err := one.serve(ctx, c, cost, takes); err != nil {
					t.Error(err)
				}
			})
			if i%10 == 9 {
				wg.Wait()
			}
		}
		wg.Wait()
	}
	work(60)
	// Halfway a balance is opened; usage from before does not count on it.
	p.clock.add(time.Hour)
	one.by.At = p.clock.now()
	if err := one.Credit(ctx, BalanceCredited{OrgID: orgs[0], CreditID: events.NewID(), Amount: dec("500")}, one.by); err != nil {
		t.Fatal(err)
	}
	p.clock.add(time.Hour)
	work(60)
	// From another producer, a month ago and now; and copies of what is there.
	foreign := usageOf(events.NewID(), members[0], p.clock.now(), dec("1.25"))
	foreign.KeyID, foreign.Producer = uuid.Nil, "elsewhere"
	old := usageOf(events.NewID(), members[0], p.clock.now().AddDate(0, -1, 0), dec("77"))
	for range 3 {
		if err := one.log.Publish(ctx, []events.Usage{foreign, old}); err != nil {
			t.Fatal(err)
		}
	}
	// Outstanding: admitted, nobody knows how it went.
	out := claim(members[1], p.clock.now(), "2.5")
	if _, err := one.Reserve(ctx, out); err != nil {
		t.Fatal(err)
	}
	if err := one.log.Admit(ctx, events.Admission{ID: out.RequestID, Estimate: usageOf(out.RequestID, *out.Key, out.At, out.Cost), Deadline: time.Minute}); err != nil {
		t.Fatal(err)
	}
	end, _, err := one.log.UsageEnd(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for one.past.shards[0].read.Load() < end {
		time.Sleep(time.Millisecond)
	}
	var want [3][4]Standing
	for i, k := range members {
		want[i] = one.sums(k)
	}
	if !want[1][1].Held.Equal(dec("2.5")) || want[0][0].Spent.IsZero() {
		t.Fatalf("%+v", want)
	}
	one.kill()
	for _, part := range []float32{0, 0.3, 0.77, 1} {
		two := p.startProcess(countedTo(t, part, orgs...))
		for i, k := range members {
			if got := two.sums(k); !equalSums(got, want[i]) {
				t.Errorf("rows to %v of the log: key %d stands at\n%+v, was\n%+v", part, i, got, want[i])
			}
		}
		two.kill()
	}
	// The sweeper's event settles what was outstanding, here and only once.
	three := p.startProcess(countedTo(t, 0.5, orgs...))
	swept := usageOf(out.RequestID, *out.Key, out.At, dec("0.5"))
	for range 2 {
		if err := three.log.Publish(ctx, []events.Usage{swept}); err != nil {
			t.Fatal(err)
		}
	}
	expect := want[1][3].Spent.Add(dec("0.5"))
	for {
		s := three.sums(members[1])[3]
		if s.Held.IsZero() {
			if !s.Spent.Equal(expect) {
				t.Fatalf("spent %s, want %s", s.Spent, expect)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the outstanding request is held for ever")
		}
		time.Sleep(time.Millisecond)
	}
}

// A settlement counts once, whether the gateway says it first or the log.
func TestLogAndSettleCountOnce(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	g := p.startProcess(all)
	k := keyOf(1, 1)
	ctx := t.Context()
	for i := range 2 {
		c := claim(k, p.clock.now(), "5")
		h, err := g.Reserve(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			h.Settle(10, dec("2"))
		}
		if err := g.log.Publish(ctx, []events.Usage{usageOf(c.RequestID, k, c.At, dec("2"))}); err != nil {
			t.Fatal(err)
		}
		end, _, err := g.log.UsageEnd(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		for g.past.shards[0].read.Load() < end {
			time.Sleep(time.Millisecond)
		}
		h.Settle(10, dec("2"))
	}
	o := g.org(k.OrgID)
	if s := g.sums(k)[3]; !s.Spent.Equal(dec("4")) || !s.Held.IsZero() || len(o.unread) != 0 || o.holds.n != 0 {
		t.Fatalf("%+v, %d unread, %d holds", s, len(o.unread), o.holds.n)
	}
}
