package analytics

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/embedded"
	"aione/events"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }

// rig is one test's real log and real ClickHouse.
type rig struct {
	t     testing.TB
	ctx   context.Context
	log   *events.Log
	store *Store
	dsn   string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	engines := embedded.Open(t)
	nc, err := engines.NATS.Conn()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	log, err := events.Open(ctx, nc, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := Open(ctx, engines.DSN, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.Close()
		log.Close(context.Background())
		nc.Close()
		cancel()
	})
	return &rig{t: t, ctx: ctx, log: log, store: store, dsn: engines.DSN}
}

// publish appends the events to the log as one call.
func (r *rig) publish(us ...events.Usage) {
	r.t.Helper()
	if err := r.log.Publish(r.ctx, us); err != nil {
		r.t.Fatal(err)
	}
}

// ingest copies the log into rows up to its end, with an ingester that change
// may have set up differently.
func (r *rig) ingest(change ...func(*Ingester)) *Ingester {
	r.t.Helper()
	end, _, err := r.log.UsageEnd(r.ctx, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	in := &Ingester{Log: r.log, Store: r.store, Until: end, BatchAge: 10 * time.Millisecond}
	for _, c := range change {
		c(in)
	}
	if err := in.Run(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	return in
}

// dispositions counts the rows of each disposition.
func (r *rig) dispositions() map[string]uint64 {
	r.t.Helper()
	found, err := r.store.conn.Query(r.ctx, "SELECT toString(disposition), count() FROM usage_events GROUP BY 1")
	if err != nil {
		r.t.Fatal(err)
	}
	defer found.Close()
	counts := map[string]uint64{}
	for found.Next() {
		var name string
		var n uint64
		if err := found.Scan(&name, &n); err != nil {
			r.t.Fatal(err)
		}
		counts[name] = n
	}
	if err := found.Err(); err != nil {
		r.t.Fatal(err)
	}
	return counts
}

func (r *rig) scan(query string, dest ...any) {
	r.t.Helper()
	if err := r.store.conn.QueryRow(r.ctx, query).Scan(dest...); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

// usageGen makes plausible usage events from a seed.
type usageGen struct {
	rand *rand.Rand
	orgs []uuid.UUID
	at   time.Time
}

func newUsageGen(seed uint64, orgs int, at time.Time) *usageGen {
	g := &usageGen{rand: rand.New(rand.NewPCG(seed, 1)), at: at}
	for i := range orgs {
		g.orgs = append(g.orgs, events.DeriveID("test-org", []byte{byte(i)}))
	}
	return g
}

func (g *usageGen) next() events.Usage {
	org := g.orgs[g.rand.IntN(len(g.orgs))]
	member := byte(g.rand.IntN(3))
	models := []string{"gpt-4o", "deepseek-chat", "qwen-max"}
	model := models[g.rand.IntN(len(models))]
	g.at = g.at.Add(time.Duration(g.rand.IntN(2000)) * time.Millisecond)
	u := events.Usage{
		ID: events.NewID(), OrgID: org, TeamID: events.DeriveID("test-team", org[:], []byte{member}),
		KeyID: events.DeriveID("test-key", org[:], []byte{member}),
		Model: model, Provider: "simulator", PriceVersion: model + "@1", Currency: "CNY",
		OccurredAt: g.at.Truncate(time.Millisecond),
		Tokens:     events.Tokens{Input: uint64(g.rand.IntN(4000)), CacheRead: uint64(g.rand.IntN(100)), Output: uint64(g.rand.IntN(800))},
		Cost:       decimal.New(int64(g.rand.IntN(1_000_000_000)), -12),
		Outcome:    events.OutcomeCompleted, Source: events.SourceReported, HTTPStatus: 200,
		LatencyMS: uint32(g.rand.IntN(5000)), TTFTMS: uint32(g.rand.IntN(900)), Stream: true, Producer: "gateway",
	}
	u.OperationID = u.ID
	return u
}

func (g *usageGen) take(n int) []events.Usage {
	us := make([]events.Usage, n)
	for i := range us {
		us[i] = g.next()
	}
	return us
}

func mapString(m map[string]uint64) string { return fmt.Sprint(m) }
