package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/embedded"
	"aione/events"
	"aione/keys"
)

// testBound is far over what any test needs; it only keeps a hang from lasting.
const testBound = 30 * time.Second

var (
	pepper1 = keys.Pepper{Version: 1, Secret: bytes.Repeat([]byte("pepper one "), 4)}
	pepper2 = keys.Pepper{Version: 2, Secret: bytes.Repeat([]byte("pepper two "), 4)}
)

// thing is what the records of the tests tell of.
type thing struct {
	OrgID uuid.UUID `json:"org_id"`
	N     int       `json:"n"`
}

var thingTypes = []string{"thing.born", "thing.grown"}

func translateThing(r events.Record) (Event, bool) {
	if !strings.HasPrefix(r.Type, "thing.") {
		return Event{}, false
	}
	var t thing
	if err := r.Into(&t); err != nil {
		return Event{}, false
	}
	return Event{OrgID: t.OrgID, Type: r.Type, Data: t}, true
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is one process: a log, a book that follows it, commands and a deliverer.
type world struct {
	t        *testing.T
	log      *events.Log
	book     *Book
	commands Commands
	config   Config
	logged   *logBuffer
	org      uuid.UUID
	things   int
	lag      atomic.Int64 // nanoseconds before the books learn of a record
}

// loopback lets deliveries go to the servers of tests.
var loopback = Destinations{AllowLoopback: true}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, embedded.OpenNATS(t))
}

// newWorldOn is another process on the same log.
func newWorldOn(t *testing.T, server *embedded.NATS) *world {
	t.Helper()
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	log, err := events.Open(t.Context(), nc, events.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close(context.Background()) })
	secrets, err := NewSecrets(pepper1, pepper2)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, log: log, book: newBook(t), logged: &logBuffer{}, org: uuid.New()}
	w.follow(w.book)
	w.commands = Commands{Log: log, Book: w.book, Secrets: secrets, Destinations: loopback}
	w.config = Config{Log: log, Book: w.book, Secrets: secrets, Now: time.Now, Holder: "test", Destinations: loopback,
		Logger: slog.New(slog.NewTextHandler(w.logged, &slog.HandlerOptions{Level: slog.LevelDebug})), RecordEvery: 20 * time.Millisecond}
	return w
}

func newBook(t testing.TB) *Book {
	t.Helper()
	b, err := NewBook(thingTypes, translateThing)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// follow feeds a book until the test ends.
func (w *world) follow(b *Book) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		apply := func(r events.Record) error {
			time.Sleep(time.Duration(w.lag.Load()))
			return b.Apply(r)
		}
		if err := w.log.Follow(ctx, 1, apply); ctx.Err() == nil {
			w.t.Errorf("the follower ended: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); done.Wait() })
}

// fresh is a book made from the log from its beginning.
func (w *world) fresh() *Book {
	w.t.Helper()
	b := newBook(w.t)
	w.follow(b)
	w.catchUp(b)
	return b
}

func (w *world) catchUp(b *Book) {
	w.t.Helper()
	end, err := w.log.LedgerEnd(w.bounded())
	if err == nil {
		err = b.WaitFor(w.bounded(), end)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testBound)
	w.t.Cleanup(cancel)
	return ctx
}

func by() By { return By{Actor: "test", Reason: "because", At: time.Now()} }

// deliver runs a deliverer; stop ends it in good order.
func (w *world) deliver(change ...func(*Config)) (stop func()) {
	w.t.Helper()
	c := w.config
	for _, f := range change {
		f(&c)
	}
	d, err := NewDeliverer(c)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := d.Run(ctx); err != context.Canceled {
			w.t.Errorf("the deliverer ended with %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	w.t.Cleanup(stop)
	eventually(w.t, "types are announced", func() bool { return len(w.book.unannounced()) == 0 })
	return stop
}

func (w *world) create(url string, types ...string) (Endpoint, string) {
	w.t.Helper()
	e, secret, err := w.commands.Create(w.bounded(), CreateInput{OrgID: w.org, URL: url, Events: types}, by())
	if err != nil {
		w.t.Fatal(err)
	}
	return e, secret
}

// happen writes n records of a type and returns the messages' ids.
func (w *world) happen(typ string, n int) (ids []string) {
	w.t.Helper()
	for range n {
		w.things++
		r, err := events.NewRecord(typ, time.Now(), "test", "", thing{w.org, w.things})
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.log.Append(w.bounded(), events.Append{Subject: "LEDGER.thing." + uuid.NewString(), Record: r}); err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, formatMessageID(messageID(r.ID)))
	}
	w.catchUp(w.book)
	return ids
}

// deliveries are all of an endpoint, as shown.
func (w *world) deliveries(e Endpoint, status Status) []Delivery {
	w.t.Helper()
	list, _, err := w.book.Deliveries(e.OrgID, e.ID, status, 1, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// settled waits until nothing waits for an endpoint.
func (w *world) settled(e Endpoint, n int) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%d messages are delivered", n), func() bool {
		return len(w.deliveries(e, StatusDelivered)) == n && len(w.deliveries(e, StatusWaiting)) == 0
	})
}

// attempted counts the records of outcomes and the outcomes in them.
func (w *world) attempted() (records, outcomes int) {
	w.t.Helper()
	w.each(func(r events.Record) {
		var d attemptedData
		if r.Type != recordAttempted {
			return
		}
		if err := r.Into(&d); err != nil {
			w.t.Fatal(err)
		}
		records, outcomes = records+1, outcomes+len(d.Outcomes)
	})
	return records, outcomes
}

// each reads the whole ledger.
func (w *world) each(f func(events.Record)) {
	w.t.Helper()
	end, err := w.log.LedgerEnd(w.bounded())
	if err != nil {
		w.t.Fatal(err)
	}
	for seq := uint64(1); seq <= end; seq++ {
		r, err := w.log.RecordAt(w.bounded(), seq)
		if err != nil {
			w.t.Fatal(err)
		}
		f(r)
	}
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

// call is a request that a receiver got.
type call struct {
	header http.Header
	body   []byte
	at     time.Time
}

func (c call) id() string { return c.header.Get("webhook-id") }

// receiver is a customer's server: it keeps what it gets and answers as it is told.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
	inNow int
	inMax int // most requests at the same time
}

// receive starts a receiver; answer nil means 204.
func receive(t testing.TB, answer http.HandlerFunc) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(r.handler(answer))
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

func (r *receiver) handler(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.mu.Lock()
		r.calls = append(r.calls, call{req.Header.Clone(), body, time.Now()})
		r.inNow++
		r.inMax = max(r.inMax, r.inNow)
		r.mu.Unlock()
		defer func() { r.mu.Lock(); r.inNow--; r.mu.Unlock() }()
		if answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(w, req)
	}
}

func (r *receiver) got() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

// counts says how often each id came.
func (r *receiver) counts() map[string]int {
	n := map[string]int{}
	for _, c := range r.got() {
		n[c.id()]++
	}
	return n
}

func answering(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// field reads a field of a body.
func (c call) field(t testing.TB, name string) any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(c.body, &body); err != nil {
		t.Fatal(err)
	}
	return body[name]
}
