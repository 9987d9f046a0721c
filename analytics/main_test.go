package analytics

import (
	"context"
	"encoding/binary"
	"flag"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"
	"github.com/zeebo/xxh3"

	"aione/embedded"
	"aione/events"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 chooses one, which a failure prints")

// These tests wait for the engines, mostly, so more of them may run at once than
// there are processors; a -parallel that is given wins, as it is parsed after.
func TestMain(m *testing.M) {
	embedded.RunChildIfAsked() // before flags are parsed
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); testing.Short() && checks.Value.String() == checks.DefValue {
		// Each check asks ClickHouse many things; a fifth of these are made.
		if err := checks.Value.Set("25"); err != nil {
			panic(err)
		}
	}
	os.Exit(embedded.TestMain(m, "TestAuditNamesEachDifference", "TestAuditOnNamesWhatIsNew", "TestAuditWhileEventsArrive", "TestCrashDuringInsertOnItsWay",
		"TestCrashOfClickHouse", "TestEveryCopyIsFoundAtSize", "TestLineEventsAddUpToTheLine", "TestSpendWhileEventsArrive", "TestTableFromBeforeRetried",
		"TestTakeoverEndsARunningInsert", "TestZombieDoesNotWrite"))
}

// seedOf is the seed of a random test.
func seedOf(t testing.TB) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with: go test -run '^%s$' -seed=%d", t.Name(), seed)
		}
	})
	return seed
}

// rounds is n, or few of them in a short run: fewer rounds, never fewer tests.
func rounds(few, n int) int {
	if testing.Short() {
		return few
	}
	return n
}

// rig is one test's real log and real ClickHouse.
type rig struct {
	t       testing.TB
	ctx     context.Context
	engines *embedded.Engines
	js      jetstream.JetStream
	log     *events.Log
	store   *Store
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return rigOn(t, embedded.Open(t))
}

// rigTimeMax is far over what any test needs; it only keeps a hang from lasting.
const rigTimeMax = 6 * time.Minute

var quiet = slog.New(slog.DiscardHandler)

func rigOn(t testing.TB, engines *embedded.Engines) *rig {
	t.Helper()
	nc, err := engines.NATS.Conn()
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), rigTimeMax)
	log, err := events.Open(ctx, nc, events.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	store, err := Open(ctx, engines.DSN, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.Close()
		log.Close(context.Background())
		nc.Close()
		cancel()
	})
	return &rig{t: t, ctx: ctx, engines: engines, js: js, log: log, store: store}
}

// in is the rig in a sub-test.
func (r *rig) in(t testing.TB) *rig {
	sub := *r
	sub.t = t
	return &sub
}

// publishRaw writes one message behind the log's back.
func (r *rig) publishRaw(body []byte) {
	r.t.Helper()
	if _, err := r.js.Publish(r.ctx, "USAGE.0", body); err != nil {
		r.t.Fatal(err)
	}
}

// seal makes an envelope of any bytes, as another version of this program might.
func seal(frames ...[]byte) []byte {
	b := binary.AppendUvarint(make([]byte, 9), uint64(len(frames)))
	for _, f := range frames {
		b = append(binary.AppendUvarint(b, uint64(len(f))), f...)
	}
	b[0] = 1
	binary.LittleEndian.PutUint64(b[1:], xxh3.Hash(b[9:]))
	return b
}

// newerFields begin an event that only a later version can read: min_reader.
var newerFields = []byte{1 << 3, 99}

// newer is an event that only a later version can read.
func newer(u events.Usage) []byte {
	return events.AppendUsage(append([]byte(nil), newerFields...), &u)
}

// ingester is one that runs to the present end of the log.
func (r *rig) ingester() *Ingester {
	r.t.Helper()
	return &Ingester{Log: r.log, Store: r.store, Until: r.end(), BatchAge: 10 * time.Millisecond, Logger: quiet}
}

// end is the last sequence of the log.
func (r *rig) end() uint64 {
	r.t.Helper()
	end, _, err := r.log.UsageEnd(r.ctx, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return end
}

func (r *rig) checkpoint() Checkpoint {
	r.t.Helper()
	c, err := r.store.Checkpoint(r.ctx, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) exec(query string) {
	r.t.Helper()
	if err := r.store.conn.Exec(r.ctx, query); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

func (r *rig) audit() ShardAudit {
	r.t.Helper()
	a, err := r.store.AuditShard(r.ctx, r.log, 0, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// wantAudit fails if log and rows differ.
func (r *rig) wantAudit() ShardAudit {
	r.t.Helper()
	a := r.audit()
	if len(a.Differences) > 0 {
		r.t.Fatalf("the audit finds differences: %q", a.Differences)
	}
	return a
}

func (r *rig) rebuild(compareOnly bool) RebuildReport {
	r.t.Helper()
	report, err := Rebuild{Store: r.store, Log: r.log, CompareOnly: compareOnly,
		Alone: func(context.Context) (func(), error) { return func() {}, nil }}.Run(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// forced makes a store whose questions about usage fail unless projections
// answer them.
func (r *rig) forced() *Store {
	s := *r.store
	s.force = true
	return &s
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
	in := r.ingester()
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
		LatencyMS: uint32(max(0, g.rand.IntN(6000)-1000)), TTFTMS: uint32(g.rand.IntN(900)), Stream: true, Producer: "gateway",
	}
	u.OperationID = u.ID
	return u
}

// retriedOf is u as an attempt that another one followed; it shows where it is counted.
func retriedOf(u events.Usage) events.Usage {
	u.Retried, u.Tokens, u.Images, u.Cost = true, events.Tokens{}, 0, decimal.Zero
	u.LatencyMS, u.TTFTMS = u.LatencyMS+60_000, u.TTFTMS+20_000
	return u
}

func (g *usageGen) take(n int) []events.Usage {
	us := make([]events.Usage, n)
	for i := range us {
		us[i] = g.next()
	}
	return us
}

// wantDispositions compares the rows by what became of them.
func (r *rig) wantDispositions(want map[string]uint64) {
	r.t.Helper()
	if got := r.dispositions(); !maps.Equal(got, want) {
		r.t.Fatalf("rows = %v, want %v", got, want)
	}
}
