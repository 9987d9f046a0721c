package events

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"aione/embedded"
)

// These tests wait for their servers, mostly, so more of them may run at once than
// there are processors; a -parallel that is given wins, as it is parsed after.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// testBound is far over what any test needs; it only keeps a hang from lasting.
const testBound = 25 * time.Second

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testBound)
	t.Cleanup(cancel)
	return ctx
}

// natsBox is a real server on disk that can be stopped and started again on the
// same store and port, and connections to it that can be cut or made deaf.
type natsBox struct {
	t    testing.TB
	o    embedded.NATSOptions
	n    *embedded.NATS
	url  string
	mu   sync.Mutex
	cons map[*deafConn]bool
}

func startBox(t testing.TB) *natsBox { return startBoxWith(t, embedded.NATSOptions{}) }

func startBoxWith(t testing.TB, o embedded.NATSOptions) *natsBox {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel() // every test has a server of its own, and mostly waits for it
	}
	o.StoreDir = t.TempDir()
	b := &natsBox{t: t, o: o, cons: map[*deafConn]bool{}}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *natsBox) start() {
	b.t.Helper()
	n, err := embedded.StartNATS(b.o)
	if err != nil {
		b.t.Fatalf("start NATS: %v", err)
	}
	b.n, b.url = n, n.URL()
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.o.Port, _ = strconv.Atoi(u.Port()) // the same one after a restart
}

func (b *natsBox) stop() { b.n.Close() }

// connect gives a connection that comes back by itself after a restart or a cut.
func (b *natsBox) connect() *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect(b.url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.SetCustomDialer(b))
	if err != nil {
		b.t.Fatalf("connect: %v", err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// observe gives a connection that deafen and cut leave alone.
func (b *natsBox) observe() *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect(b.url)
	if err != nil {
		b.t.Fatalf("connect: %v", err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// Dial makes the connections of connect.
func (b *natsBox) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return nil, err
	}
	d := &deafConn{Conn: c}
	b.mu.Lock()
	b.cons[d] = true
	b.mu.Unlock()
	return d, nil
}

// deafen makes the present connections lose every answer: what they ask for is
// done, but they never hear of it. cut ends them; new ones hear again.
func (b *natsBox) deafen() { b.each(func(c *deafConn) { c.deaf.Store(true) }) }
func (b *natsBox) cut()    { b.each(func(c *deafConn) { c.Close(); delete(b.cons, c) }) }

func (b *natsBox) each(f func(*deafConn)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.cons {
		f(c)
	}
}

type deafConn struct {
	net.Conn
	deaf atomic.Bool
}

func (c *deafConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.deaf.Load() {
			return n, err
		}
	}
}

// open opens a log with short attempts, so that tests of retries are quick.
func (b *natsBox) open(o Options) *Log {
	b.t.Helper()
	l, err := Open(bounded(b.t), b.connect(), o)
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	l.attempt, l.lookWithin = 300*time.Millisecond, time.Second
	for _, c := range append([]*committer{l.admits}, l.usage...) {
		c.attempt = l.attempt
	}
	b.t.Cleanup(func() {
		if err := l.Close(bounded(b.t)); err != nil {
			b.t.Errorf("close: %v", err)
		}
	})
	return l
}

// eventually waits for a state of the world, not for a time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testBound); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// readAll decodes a whole shard and checks that its sequences are contiguous.
func readAll(t testing.TB, l *Log, shard int) (us []Usage, messages int) {
	t.Helper()
	ctx := bounded(t)
	var end uint64
	eventually(t, "the log is in reach", func() (ok bool) { // a look-up may be lost with a cut connection
		var err error
		end, _, err = l.UsageEnd(ctx, shard)
		return err == nil
	})
	r, err := l.ReadUsage(ctx, shard, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	var d Decoder
	for seq := uint64(1); seq <= end; seq++ {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("read %d of %d: %v", seq, end, err)
		}
		if m.Seq != seq || m.Shard != shard {
			t.Fatalf("got sequence %d of shard %d, want %d of %d", m.Seq, m.Shard, seq, shard)
		}
		var bad []BadEvent
		us, bad, err = d.Envelope(m.Data, us)
		if err != nil || len(bad) != 0 {
			t.Fatalf("decode %d: %v %v", seq, err, bad)
		}
	}
	return us, int(end)
}

// wantOnce checks that exactly the given events are there, each once.
func wantOnce(t testing.TB, got []Usage, want []Usage) {
	t.Helper()
	seen := map[uuid.UUID]int{}
	for _, u := range got {
		seen[u.ID]++
	}
	for _, u := range want {
		if seen[u.ID] != 1 {
			t.Fatalf("event %s is in the log %d times", u.ID, seen[u.ID])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d events in the log, want %d", len(got), len(want))
	}
}

var (
	orgA = uuid.MustParse("018f2d3c-0000-7000-8000-00000000000a")
	orgB = uuid.MustParse("018f2d3c-0000-7000-8000-00000000000b")
)

// someUsage is a typical event of about 300 bytes.
func someUsage(org uuid.UUID) Usage {
	return Usage{
		ID: NewID(), OperationID: NewID(), OrgID: org, TeamID: orgB, KeyID: orgA,
		Model: "anthropic/claude-sonnet-4.5", Provider: "anthropic-eu-west", PriceVersion: "claude-sonnet-4.5@2026-05-01T00:00:00Z", Currency: "USD",
		OccurredAt: time.UnixMilli(1_780_000_000_123).UTC(),
		Tokens:     Tokens{Input: 1234, CacheRead: 56_789, CacheWrite5m: 2048, Output: 777, Reasoning: 4096},
		Cost:       decimal.New(123_456_789_012, -CostScale),
		Outcome:    OutcomeCompleted, Source: SourceReported, HTTPStatus: 200, LatencyMS: 8123, TTFTMS: 412, Stream: true,
		Producer: "gateway", ExternalID: "msg_01XFDUDYJgAACzvnptvVoYEL",
	}
}

func someUsages(n int) []Usage {
	us := make([]Usage, n)
	for i := range us {
		us[i] = someUsage(orgA)
	}
	return us
}

// streamNamed is the stream behind the Log's back.
func streamNamed(t testing.TB, nc *nats.Conn, name string) jetstream.Stream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(bounded(t), name)
	if err != nil {
		t.Fatal(fmt.Errorf("stream %s: %w", name, err))
	}
	return s
}
