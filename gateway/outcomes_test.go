package gateway_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"aione/events"
	"aione/gateway"
	"aione/simulator"

	"github.com/google/uuid"
)

// moody is a simulated provider in the mood of the moment.
type moody struct {
	url   string
	calls atomic.Int64
	mood  func() string
}

func newMoody(t *testing.T, mood func() string) *moody {
	m := &moody{mood: mood}
	sim := simulator.New(simulator.Config{APIKey: upstreamKey})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.calls.Add(1)
		switch m.mood() {
		case "error":
			w.WriteHeader(http.StatusInternalServerError)
		case "limited":
			w.WriteHeader(http.StatusTooManyRequests)
		case "refused":
			w.WriteHeader(http.StatusBadRequest)
		case "silent": // until the gateway has had enough
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		case "cut":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choi")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			sim.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	m.url = s.URL + "/v1"
	return m
}

// settled waits until no request is on its way any more, nor its admission.
func (b *bench) settled() {
	b.t.Helper()
	if err := b.gateway.Close(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	last := b.admissions()[0] // another one like it gets to the log after all of them
	last.ID = events.NewID()
	last.Estimate.ID, last.Estimate.OperationID = last.ID, last.ID
	if err := b.log.Admit(b.t.Context(), last); err != nil {
		b.t.Fatal(err)
	}
}

// TestOneAttemptDecides: whatever providers, clients and the gateway itself do, once
// the sweeper has been there each request that the log knows of has exactly one event
// that was not retried, under the request's own id; it says what the client got, and
// all others hold nothing.
func TestOneAttemptDecides(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	moods := []string{"well", "well", "well", "error", "error", "limited", "refused", "silent", "cut"}
	var now atomic.Pointer[[2]string] // of the two providers
	now.Store(&[2]string{"well", "well"})
	one := newMoody(t, func() string { return now.Load()[0] })
	two := newMoody(t, func() string { return now.Load()[1] })
	b := newBench(t, func(c *gateway.Config) {
		c.Default = gateway.Route{Upstreams: []gateway.Upstream{
			{Name: "one", BaseURL: one.url, Dialect: gateway.DialectAny, APIKey: upstreamKey, Weight: 1},
			{Name: "two", BaseURL: two.url, Dialect: gateway.DialectAny, APIKey: upstreamKey, Weight: 1},
			{Name: "dead", BaseURL: "http://127.0.0.1:1/v1", Dialect: gateway.DialectAny, APIKey: upstreamKey, Weight: 1},
		}}
		c.Timeouts.FirstByte, c.Timeouts.Publish, c.Timeouts.Drain = 60*time.Millisecond, 40*time.Millisecond, 100*time.Millisecond
		c.Retry = gateway.Retry{Attempts: 4, Pause: time.Millisecond, PauseMax: 4 * time.Millisecond}
		c.Breaker = gateway.Breaker{Failures: 6, OpenFor: 3 * time.Millisecond} // it opens now and then
	})
	got := map[uuid.UUID]int{} // what the clients got
	crash := func(context.Context) error { return events.ErrClosed }
	for range 300 {
		now.Store(&[2]string{moods[random.IntN(len(moods))], moods[random.IntN(len(moods))]})
		if random.IntN(6) == 0 { // the gateway dies before it has settled
			b.tap.onPublish.Store(&crash)
		}
		ctx, leave := context.WithCancel(t.Context())
		slow := 0
		if random.IntN(6) == 0 {
			slow = 1 + random.IntN(20)
			time.AfterFunc(time.Duration(random.IntN(30))*time.Millisecond, leave)
		}
		req := speeches[0].request(ctx, b, b.secret, ask{stream: random.IntN(2) == 0, simulate: fmt.Sprintf(`{"completion_tokens":8,"latency_ms":%d}`, slow)})
		if resp, err := http.DefaultClient.Do(req); err == nil {
			body, err := io.ReadAll(resp.Body)
			if id, e := uuid.Parse(resp.Header.Get("X-Request-Id")); e == nil && err == nil && ctx.Err() == nil {
				got[id] = resp.StatusCode
				if resp.StatusCode == http.StatusOK && len(body) == 0 {
					t.Errorf("request %s: an empty answer", id)
				}
			}
			resp.Body.Close()
		}
		leave()
		b.tap.onPublish.Store(nil)
	}
	b.settled()
	s, _ := b.sweeper(time.Now().Add(24*time.Hour), gateway.FileCheckpoint{Path: t.TempDir() + "/sweeper"})
	swept, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	decided, retried := map[uuid.UUID]events.Usage{}, map[uuid.UUID]int{}
	outcomes := map[events.Outcome]int{}
	for _, u := range b.usages() {
		if u.Retried {
			if retried[u.OperationID]++; u.ID == u.OperationID || !u.Cost.IsZero() || u.Tokens.Total() != 0 || u.Outcome == events.OutcomeCompleted {
				t.Errorf("a retried attempt: %+v", u)
			}
			continue
		}
		if _, twice := decided[u.OperationID]; twice || u.ID != u.OperationID {
			t.Errorf("a second event decides request %s: %+v", u.OperationID, u)
		}
		decided[u.OperationID] = u
		outcomes[u.Outcome]++
	}
	for id := range retried {
		if _, is := decided[id]; !is {
			t.Errorf("request %s has retried attempts, and none that decided", id)
		}
	}
	for _, a := range b.admissions() {
		if _, is := decided[a.ID]; !is {
			t.Errorf("request %s was let in, and nothing decides it", a.ID)
		}
	}
	for id, status := range got {
		u, is := decided[id]
		if is && (status == http.StatusOK) != (u.Outcome == events.OutcomeCompleted) && u.Outcome != events.OutcomeAbandoned {
			t.Errorf("request %s was answered %d, and its event says %s", id, status, u.Outcome)
		}
		if !is && status == http.StatusOK {
			t.Errorf("request %s was answered and is not in the log", id)
		}
	}
	t.Logf("%d requests decided %v, %d of them by the sweeper; %d were retried; %d and %d calls", len(decided), outcomes, swept.Abandoned, len(retried), one.calls.Load(), two.calls.Load())
	if swept.Abandoned < 2 || len(retried) < 10 || outcomes[events.OutcomeCompleted] < 30 || outcomes[events.OutcomeCancelled] == 0 {
		t.Error("not everything happened")
	}
}
