package billing_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/catalog"
	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

// world is a real log on a real NATS, with a usage projection in memory.
type world struct {
	*testing.T
	ctx   context.Context
	log   *events.Log
	usage *memoryUsage

	mu     sync.Mutex
	now    time.Time
	begun  time.Time       // when the clock was set; zero: it stands still
	ledger []events.Record // all so far
}

// node is one process of the platform: its own read models, fed from the log.
type node struct {
	*billing.Invoicer
	billing.Commands
	catalog *catalog.Catalog
	book    *billing.Book
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	nc, err := embedded.OpenNATS(t).Conn()
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(ctx, nc, events.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ctx: ctx, log: log, usage: &memoryUsage{}, now: instant("2023-12-10T00:00:00Z")}
	var done sync.WaitGroup
	done.Go(func() { w.usage.follow(ctx, log) })
	done.Go(func() {
		_ = log.Follow(ctx, 0, func(r events.Record) error { // ctx ends it
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ledger = append(w.ledger, r)
			return nil
		})
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		log.Close(context.Background())
		nc.Close()
	})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun.IsZero() {
		return w.now.Add(time.Since(w.begun))
	}
	return w.now
}

func (w *world) setClock(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = instant(s)
}

// node starts a process. It runs until the test ends.
func (w *world) node() *node {
	w.Helper()
	n := &node{catalog: catalog.New(), book: billing.NewBook()}
	n.Commands = billing.Commands{Log: w.log, Book: n.book, Prices: n.catalog}
	n.Invoicer = &billing.Invoicer{
		Log: w.log, Book: n.book, Prices: n.catalog, Usage: w.usage, Clock: w.clock,
		Logger: slog.New(slog.DiscardHandler), MeteringWait: 10 * time.Second,
	}
	var done sync.WaitGroup
	ctx, cancel := context.WithCancel(w.ctx)
	done.Go(func() {
		err := w.log.Follow(ctx, 0, func(r events.Record) error {
			if err := n.catalog.Apply(r); err != nil {
				return err
			}
			return n.book.Apply(r)
		})
		if ctx.Err() == nil {
			w.Errorf("the follower ended: %v", err)
		}
	})
	w.Cleanup(func() { cancel(); done.Wait() })
	end, err := w.log.LedgerEnd(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	if err := n.book.WaitFor(w.ctx, end); err != nil {
		w.Fatal(err)
	}
	return n
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func (w *world) by() billing.By {
	return billing.By{Actor: "test", At: w.clock()}
}

// newOrg creates an org at an instant.
func (w *world) newOrg(n *node, name, createdAt string) billing.Org {
	w.Helper()
	org, err := n.CreateOrg(w.ctx, billing.Org{ID: events.NewID(), Name: name}, billing.By{Actor: "test", At: instant(createdAt)})
	if err != nil {
		w.Fatal(err)
	}
	return org
}

// install gives the world the shipped catalog.
func (w *world) install(n *node) {
	w.Helper()
	if _, err := n.catalog.Install(w.ctx, w.log, catalog.Starter(), catalog.By{Actor: "test", At: w.clock()}); err != nil {
		w.Fatal(err)
	}
}

// use publishes one request of a million gpt-4o input tokens: 18 CNY.
func (w *world) use(n *node, org billing.Org, at string) events.Usage {
	w.Helper()
	price, err := n.catalog.PriceAt("gpt-4o", instant(at))
	if err != nil {
		w.Fatal(err)
	}
	tokens := events.Tokens{Input: 1_000_000}
	cost, err := ledger.Rate(price, tokens, 0)
	if err != nil {
		w.Fatal(err)
	}
	u := events.Usage{
		ID: events.NewID(), OrgID: org.ID, Model: price.Model, Provider: "openai", PriceVersion: price.Version, Currency: price.Currency,
		OccurredAt: instant(at), Tokens: tokens, Cost: cost, Outcome: events.OutcomeCompleted, Source: events.SourceReported, Producer: "test",
	}
	w.publish(u)
	return u
}

func (w *world) publish(us ...events.Usage) {
	w.Helper()
	if err := w.log.Publish(w.ctx, us); err != nil {
		w.Fatal(err)
	}
}

func (w *world) run(n *node) billing.Report {
	w.Helper()
	report, err := n.RunDue(w.ctx, w.clock())
	if err != nil {
		w.Fatal(err)
	}
	return report
}

func (w *world) mustVerify(n *node) {
	w.Helper()
	end, err := w.log.LedgerEnd(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	if err := n.book.WaitFor(w.ctx, end); err != nil {
		w.Fatal(err)
	}
	for _, finding := range billing.Verify(n.book).Findings {
		w.Error(finding)
	}
}

// numbers are an org's invoices as "number period total", oldest first.
func (n *node) numbers(t *testing.T, org billing.Org) []string {
	t.Helper()
	invoices, _, err := n.book.Invoices(org.ID, 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, inv := range slices.Backward(invoices) {
		out = append(out, fmt.Sprintf("%s %s %s", inv.Number, inv.Period.Label, inv.Total.Format(inv.Currency)))
	}
	return out
}

// awaitCounted returns when all usage published so far is counted.
func (w *world) awaitCounted(org billing.Org) {
	w.Helper()
	last, err := w.log.UsageLast(w.ctx, org.ID)
	if err != nil {
		w.Fatal(err)
	}
	for {
		if counted, _ := w.usage.CountedShard(w.ctx, 0); counted >= last {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// memoryUsage counts the log of usage as ClickHouse would, in memory.
type memoryUsage struct {
	mu      sync.Mutex
	held    bool // the projection stands still
	counted uint64
	rows    []row // of events, not of their copies
	known   map[[2]uuid.UUID]bool

	beforeFirstUse func() // called without the lock
}

type row struct {
	seq uint64
	events.Usage
}

func (m *memoryUsage) hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
}

func (m *memoryUsage) follow(ctx context.Context, log *events.Log) {
	r, err := log.ReadUsage(ctx, 0, 1)
	if err != nil {
		return
	}
	defer r.Stop()
	var d events.Decoder
	for {
		msg, err := r.Next(ctx)
		if err != nil {
			return
		}
		us, _, err := d.Envelope(msg.Data, nil)
		if err != nil {
			panic(err)
		}
		for !m.count(msg.Seq, us) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	}
}

func (m *memoryUsage) count(seq uint64, us []events.Usage) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held {
		return false
	}
	if m.known == nil {
		m.known = make(map[[2]uuid.UUID]bool)
	}
	for _, u := range us {
		if id := [2]uuid.UUID{u.OrgID, u.ID}; !m.known[id] {
			m.known[id] = true
			m.rows = append(m.rows, row{seq, u})
		}
	}
	m.counted = seq
	return true
}

func (m *memoryUsage) CountedShard(context.Context, int) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counted, nil
}

func (m *memoryUsage) FirstUse(_ context.Context, orgIDs []uuid.UUID) (map[uuid.UUID]time.Time, error) {
	if m.beforeFirstUse != nil {
		m.beforeFirstUse()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	first := make(map[uuid.UUID]time.Time)
	for _, r := range m.rows {
		if at, ok := first[r.OrgID]; slices.Contains(orgIDs, r.OrgID) && !r.Sandbox && (!ok || r.OccurredAt.Before(at)) {
			first[r.OrgID] = r.OccurredAt
		}
	}
	return first, nil
}

func (m *memoryUsage) SortOrgs([]uuid.UUID) {}

func (m *memoryUsage) EachInputs(ctx context.Context, qs []ledger.InputsQuery, each func(int, ledger.Inputs) error) error {
	for i, q := range qs {
		if err := each(i, m.inputs(q)); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryUsage) inputs(q ledger.InputsQuery) (in ledger.Inputs) {
	m.mu.Lock()
	defer m.mu.Unlock()
	type group struct {
		model, version, origin string
		segment                int
	}
	groups := make(map[group]*ledger.Quantity)
	for _, r := range m.rows {
		late := r.OccurredAt.Before(q.Start)
		if r.OrgID != q.OrgID || r.Sandbox || !r.OccurredAt.Before(q.End) || r.seq > q.Cut || late && r.seq <= q.PreviousCut {
			continue
		}
		if !q.PaidFrom.IsZero() && !r.OccurredAt.Before(q.PaidFrom) {
			in.Paid = in.Paid.Add(r.Cost)
		}
		if r.OccurredAt.Before(q.LateFrom) {
			in.TooLateRows++
			in.TooLateCost = in.TooLateCost.Add(r.Cost)
			continue
		}
		begun := sort.Search(len(q.Spans), func(i int) bool { return q.Spans[i].Start.After(r.OccurredAt) })
		span := q.SpanOf(begun)
		g := group{r.Model, r.PriceVersion, span.Origin, span.Segment}
		if groups[g] == nil {
			groups[g] = &ledger.Quantity{Model: g.model, PriceVersion: g.version, Late: late, Origin: g.origin, Segment: g.segment, Cost: decimal.Decimal{}}
		}
		sum := groups[g]
		sum.Tokens.Input += r.Tokens.Input
		sum.Tokens.Output += r.Tokens.Output
		sum.Requests++
		sum.Cost = sum.Cost.Add(r.Cost)
		in.Rows++
	}
	for _, sum := range groups {
		in.Quantities = append(in.Quantities, *sum)
	}
	return in
}
