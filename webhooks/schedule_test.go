package webhooks

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server/ats"
	"pgregory.net/rapid"

	"aione/embedded"
	"aione/events"
)

// pipes is a network in memory: a listener, and a dial that reaches it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inVirtualTime runs a test with real NATS and a real HTTP server, in a bubble where
// days pass at once.
func inVirtualTime(t *testing.T, answer http.HandlerFunc, test func(t *testing.T, w *world, r *receiver)) {
	t.Helper()
	if !embedded.Alone(t) {
		return
	}
	ats.Register() // NATS's own clock ticks outside of the bubble
	t.Cleanup(ats.Unregister)
	synctest.Test(t, func(t *testing.T) {
		network, r := newPipes(), &receiver{}
		server := &http.Server{Handler: r.handler(answer)}
		served := make(chan error, 1)
		go func() { served <- server.Serve(network) }()
		w := newWorld(t)
		w.config.Destinations.dial = network.dial
		w.config.LeaseTTL = time.Hour // renewals are most of what happens in three days
		t.Cleanup(func() {
			server.Close()
			<-served
		})
		test(t, w, r)
	})
}

// An endpoint that is down is tried for about three days at growing distances, then
// the message is dead. Replayed it begins anew.
func TestThreeDaysOfRetries(t *testing.T) {
	if total := sum(retryDelays); total < 68*time.Hour || total > 76*time.Hour {
		t.Errorf("it is given up after %s", total)
	}
	if all := retryDelays; testing.Short() { // fewer rounds
		retryDelays = all[:7]
		t.Cleanup(func() { retryDelays = all })
	}
	var status atomic.Int32
	status.Store(503)
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }
	inVirtualTime(t, answer, func(t *testing.T, w *world, r *receiver) {
		stop := w.deliver()
		e, secret := w.create("http://127.0.0.1:1/")
		id := w.happen("thing.born", 1)[0]
		time.Sleep(sum(retryDelays) * 5 / 4)
		calls := r.got()
		if len(calls) != len(retryDelays)+1 {
			t.Fatalf("%d attempts", len(calls))
		}
		for i, c := range calls {
			if c.id() != id || string(c.body) != string(calls[0].body) {
				t.Errorf("attempt %d has id %s and body %s", i+1, c.id(), c.body)
			}
			if stamp := fmt.Sprint(c.at.Unix()); c.header.Get("webhook-timestamp") != stamp {
				t.Errorf("attempt %d says %s, it was at %s", i+1, c.header.Get("webhook-timestamp"), stamp)
			}
			if i == 0 {
				continue
			}
			delay, least := c.at.Sub(calls[i-1].at), retryDelays[i-1]
			if delay < least || delay > least+least/jitterParts+2*time.Second {
				t.Errorf("attempt %d is %s after the one before, want %s and up to an eighth more", i+1, delay, least)
			}
		}
		d := w.deliveries(e, StatusDead)
		if len(d) != 1 || d[0].Attempts != len(calls) || d[0].HTTPStatus != 503 || d[0].Error == "" || !d[0].NextAttemptAt.IsZero() {
			t.Fatalf("%+v", d)
		}
		if records, outcomes := w.attempted(); records != len(calls) || outcomes != len(calls) {
			t.Errorf("%d records of %d outcomes", records, outcomes)
		}
		status.Store(200)
		if err := w.commands.Replay(w.bounded(), w.org, e.ID, id, by()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if d := w.deliveries(e, StatusDelivered); len(d) != 1 || d[0].Attempts != 1 {
			t.Errorf("replayed: %+v", d)
		}
		calls = r.got()
		if last := calls[len(calls)-1]; last.id() != id || verify(t, secret, last) != nil {
			t.Errorf("replayed with id %s", last.id())
		}
		stop()
	})
}

func sum(delays []time.Duration) (total time.Duration) {
	for _, d := range delays {
		total += d
	}
	return total
}

// A restart neither forgets nor hurries the next attempt.
func TestRestartKeepsTheSchedule(t *testing.T) {
	inVirtualTime(t, answering(500), func(t *testing.T, w *world, r *receiver) {
		stop := w.deliver()
		w.create("http://127.0.0.1:1/")
		w.happen("thing.born", 1)
		time.Sleep(20 * time.Minute) // five attempts
		stop()
		before := len(r.got())
		w.config.Book = w.fresh()
		stop = w.deliver()
		time.Sleep(10 * time.Minute)
		if n := len(r.got()); before != 5 || n != before {
			t.Errorf("%d attempts before the restart, %d after it", before, n-before)
		}
		time.Sleep(30 * time.Minute)
		if n := len(r.got()); n != before+1 {
			t.Errorf("%d attempts before the restart, %d when the next was due", before, n-before)
		}
		stop()
	})
}

// An old secret signs until its grace ends, and not after.
func TestGraceEnds(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, w *world, r *receiver) {
		stop := w.deliver()
		e, first := w.create("http://127.0.0.1:1/")
		_, second, err := w.commands.Rotate(w.bounded(), w.org, e.ID, time.Hour, by())
		if err != nil {
			t.Fatal(err)
		}
		for i, wait := range []time.Duration{59 * time.Minute, time.Minute} {
			time.Sleep(wait)
			w.happen("thing.born", 1)
			time.Sleep(time.Second)
			c := r.got()[i]
			if old := verify(t, first, c) == nil; old != (i == 0) || verify(t, second, c) != nil {
				t.Errorf("call %d: the old secret verifies it: %t; the new one: %v", i+1, old, verify(t, second, c))
			}
		}
		stop()
	})
}

// A book that is behind what this process wrote itself is no other process.
func TestBookThatIsBehind(t *testing.T) {
	answer := func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(2 * time.Second)
		}
	}
	inVirtualTime(t, answer, func(t *testing.T, w *world, r *receiver) {
		stop := w.deliver()
		w.create("http://127.0.0.1:1/")
		w.create("http://127.0.0.1:1/slow")
		w.lag.Store(int64(5 * time.Second))
		w.happen("thing.born", 1)
		time.Sleep(time.Minute)
		if n := len(r.got()); n != 2 {
			t.Errorf("%d attempts:\n%s", n, w.logged)
		}
		stop()
	})
}

// A process that records deliveries behind this one's back ends its shift: what it
// could not record it attempts again, knowing what the other wrote.
func TestOvertakenDelivererBeginsAnew(t *testing.T) {
	var w *world
	var overtaken atomic.Bool
	answer := func(http.ResponseWriter, *http.Request) {
		if overtaken.Swap(true) {
			return
		}
		w.lag.Store(int64(time.Second))
		rec, err := events.NewRecord(recordAttempted, time.Now(), "another", "", attemptedData{OrgID: w.org})
		if err == nil {
			_, err = w.log.Append(w.bounded(), events.Append{Subject: deliverySubject(w.org), Record: rec})
		}
		if err != nil {
			w.t.Error(err)
		}
	}
	inVirtualTime(t, answer, func(t *testing.T, world *world, r *receiver) {
		w = world
		stop := w.deliver()
		e, _ := w.create("http://127.0.0.1:1/")
		id := w.happen("thing.born", 1)[0]
		time.Sleep(time.Minute)
		if n := r.counts()[id]; n != 2 || len(w.deliveries(e, StatusDelivered)) != 1 {
			t.Errorf("%d attempts", n)
		}
		if !strings.Contains(w.logged.String(), errOvertaken.Error()) {
			t.Errorf("it says %s", w.logged)
		}
		stop()
	})
}

// An answer of 410 is no reason to switch off an endpoint whose URL was mended
// meanwhile.
func TestGoneAnswerOfAnEarlierURL(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			time.Sleep(10 * time.Second)
			w.WriteHeader(http.StatusGone)
		}
	}
	inVirtualTime(t, answer, func(t *testing.T, w *world, r *receiver) {
		stop := w.deliver()
		e, _ := w.create("http://127.0.0.1:1/gone")
		w.happen("thing.born", 1)
		time.Sleep(5 * time.Second)
		here := "http://127.0.0.1:1/here"
		if _, err := w.commands.Update(w.bounded(), w.org, e.ID, UpdateInput{URL: &here}, by()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.settled(e, 1)
		if now, err := w.book.Endpoint(w.org, e.ID); err != nil || now.Disabled {
			t.Errorf("%+v, %v", now, err)
		}
		stop()
	})
}

func TestJitterSpreadsAndRepeats(t *testing.T) {
	seen := map[time.Duration]bool{}
	for seq := range uint64(100) {
		k := key{endpoint: uuid.UUID{1}, seq: seq}
		for attempt := 1; attempt <= len(retryDelays); attempt++ {
			first, _ := retryAfter(k, attempt)
			again, ok := retryAfter(k, attempt)
			least := retryDelays[attempt-1]
			if !ok || first != again || first < least || first >= least+least/jitterParts {
				t.Fatalf("attempt %d: %s, then %s", attempt, first, again)
			}
			seen[first] = true
		}
		if _, ok := retryAfter(k, len(retryDelays)+1); ok {
			t.Fatal("it never ends")
		}
	}
	if len(seen) < 1000 {
		t.Errorf("%d different delays of 1100", len(seen))
	}
}

// modelQueue says what is next by looking at everything.
type modelQueue struct {
	attemptsMax int
	waiting     map[key]time.Time
	running     []key
	recorded    map[key]bool // done, not released
	failing     map[uuid.UUID]bool
}

func (m *modelQueue) next(now time.Time) (key, bool) {
	var best key
	found := false
	for k, due := range m.waiting {
		busy := 0
		for _, r := range m.running {
			if r.endpoint == k.endpoint {
				busy++
			}
		}
		room := endpointAttemptsMax
		if m.failing[k.endpoint] {
			room = 1
		}
		if due.After(now) || busy >= room || len(m.running) >= m.attemptsMax {
			continue
		}
		if !found || due.Before(m.waiting[best]) || due.Equal(m.waiting[best]) && k.seq < best.seq {
			best, found = k, true
		}
	}
	return best, found
}

func TestQueueLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &modelQueue{attemptsMax: rapid.IntRange(1, 12).Draw(t, "max"), waiting: map[key]time.Time{}, recorded: map[key]bool{}, failing: map[uuid.UUID]bool{}}
		q := newQueue(m.attemptsMax)
		now, seq := time.Unix(0, 0), uint64(0)
		pick := func(from []key) (key, bool) {
			if len(from) == 0 {
				return key{}, false
			}
			slices.SortFunc(from, func(a, b key) int { return int(a.seq) - int(b.seq) })
			return rapid.SampledFrom(from).Draw(t, "key"), true
		}
		next := func(t *rapid.T) {
			got, ok := q.next(now)
			want, expected := m.next(now)
			if ok != expected || got != want {
				t.Fatalf("next is %v %t, want %v %t", got, ok, want, expected)
			}
			if ok {
				delete(m.waiting, got)
				m.running = append(m.running, got)
			} else if at, ok := q.wait(); ok && !at.After(now) {
				t.Fatal("it says that something is due, and gives nothing")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				seq++
				k := key{endpoint: uuid.UUID{byte(rapid.IntRange(1, 3).Draw(t, "endpoint"))}, seq: seq}
				due := now.Add(time.Duration(rapid.IntRange(-5, 5).Draw(t, "due")))
				q.add(k, due)
				q.add(k, due.Add(-time.Hour)) // changes nothing
				m.waiting[k] = due
			},
			"wait": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "for"))) },
			"next": next, "next again": next,
			"done": func(t *rapid.T) {
				k, ok := pick(m.running)
				if !ok {
					return
				}
				failed := rapid.Bool().Draw(t, "failed")
				q.done(k, failed)
				m.running = slices.DeleteFunc(m.running, func(r key) bool { return r == k })
				m.recorded[k], m.failing[k.endpoint] = true, failed
				q.add(k, now) // known until release
			},
			"release": func(t *rapid.T) {
				var keys []key
				for k := range m.recorded {
					keys = append(keys, k)
				}
				k, ok := pick(keys)
				if !ok {
					return
				}
				delete(m.recorded, k)
				q.release(k)
				if rapid.Bool().Draw(t, "again") {
					q.add(k, now)
					m.waiting[k] = now
				}
			},
		})
		for now = now.Add(time.Hour); len(m.waiting)+len(m.running) > 0; { // nothing is left behind
			next(t)
			for _, k := range m.running {
				q.done(k, false)
				q.release(k)
				delete(m.failing, k.endpoint)
			}
			m.running = nil
		}
		if len(q.due) != 0 || len(q.lines) != 0 || q.running != 0 {
			t.Fatalf("left: %+v", q)
		}
	})
}
