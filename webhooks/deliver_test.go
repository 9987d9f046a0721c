package webhooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"aione/events"
)

// verify checks a request with the reference library, its time too.
func verify(t testing.TB, secret string, c call) error {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wh.Verify(c.body, c.header)
}

func TestMessagesAreDeliveredOnceSignedAndBatched(t *testing.T) {
	w := newWorld(t)
	all, grown := receive(t, nil), receive(t, nil)
	w.deliver()
	every, secret := w.create(all.URL + "/hook?token=1")
	some, other := w.create(grown.URL, "thing.grown")
	const n = 300
	born := w.happen("thing.born", n)
	want := w.happen("thing.grown", n)
	w.settled(every, 2*n)
	w.settled(some, n)
	for id, times := range all.counts() {
		if times != 1 || !slices.Contains(append(born, want...), id) {
			t.Errorf("message %s came %d times", id, times)
		}
	}
	for _, c := range grown.got() {
		if !slices.Contains(want, c.id()) {
			t.Errorf("message %s is of a type that was not wanted", c.id())
		}
	}
	first := all.got()[0]
	if err := verify(t, secret, first); err != nil {
		t.Error(err)
	}
	if verify(t, other, first) == nil {
		t.Error("another endpoint's secret verifies it")
	}
	forged := call{header: first.header, body: bytes.Replace(first.body, []byte(`"n":`), []byte(`"n":1`), 1)}
	if verify(t, secret, forged) == nil {
		t.Error("a changed body verifies")
	}
	if first.field(t, "type") != "thing.born" || first.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s with %v", first.body, first.header)
	}
	if _, err := time.Parse(time.RFC3339, first.field(t, "timestamp").(string)); err != nil {
		t.Error(err)
	}
	records, outcomes := w.attempted()
	if outcomes != 3*n || records > outcomes/4 {
		t.Errorf("%d outcomes in %d records", outcomes, records)
	}
	if d := w.deliveries(every, "")[0]; d.MessageID != want[n-1] || d.Attempts != 1 || d.HTTPStatus != 204 || d.Error != "" || d.LastAttemptAt.IsZero() || !d.NextAttemptAt.IsZero() {
		t.Errorf("the newest is %+v", d)
	}
}

func TestOldSecretSignsInItsGrace(t *testing.T) {
	w := newWorld(t)
	r := receive(t, nil)
	w.deliver()
	e, first := w.create(r.URL)
	_, second, err := w.commands.Rotate(w.bounded(), w.org, e.ID, time.Hour, by())
	if err != nil {
		t.Fatal(err)
	}
	w.happen("thing.born", 1)
	w.settled(e, 1)
	_, third, err := w.commands.Rotate(w.bounded(), w.org, e.ID, 0, by())
	if err != nil {
		t.Fatal(err)
	}
	w.happen("thing.born", 1)
	w.settled(e, 2)
	calls := r.got()
	for i, want := range [][]bool{{true, true, false}, {false, false, true}} {
		for j, secret := range []string{first, second, third} {
			if got := verify(t, secret, calls[i]) == nil; got != want[j] {
				t.Errorf("call %d, secret %d: verifies %t, want %t", i+1, j+1, got, want[j])
			}
		}
	}
}

// What endpoints do wrong, and what is said of it.
func TestFailedAttempts(t *testing.T) {
	elsewhere := receive(t, nil)
	cases := map[string]struct {
		answer http.HandlerFunc
		error  string
		status int
	}{
		"server error": {answering(500), "answered with status 500", 500},
		"bad request":  {answering(400), "answered with status 400", 400},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "redirects are not followed", 307},
		"hang up":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "the connection failed or broke off", 0},
		"not http": {hijack("SSH-2.0-x\r\n"), "the connection failed or broke off", 0},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Big", strings.Repeat("x", 1<<20))
			w.WriteHeader(200)
		}, "the connection failed or broke off", 0},
	}
	w := newWorld(t)
	w.deliver()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := receive(t, c.answer)
			e, _ := w.create(r.URL)
			w.happen("thing.born", 1)
			var d Delivery
			eventually(t, "it failed", func() bool {
				d = w.deliveries(e, StatusWaiting)[0]
				return d.Attempts == 1
			})
			if d.Error != c.error || d.HTTPStatus != c.status {
				t.Errorf("%+v", d)
			}
			if wait := d.NextAttemptAt.Sub(d.LastAttemptAt); wait < retryDelays[0] || wait > retryDelays[0]*5/4 {
				t.Errorf("the next attempt is %s later", wait)
			}
			if err := w.commands.Delete(w.bounded(), w.org, e.ID, by()); err != nil {
				t.Fatal(err)
			}
		})
	}
	if n := len(elsewhere.got()); n != 0 {
		t.Errorf("%d requests where a redirect pointed", n)
	}
}

func hijack(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			fmt.Fprint(c, text)
			c.Close()
		}
	}
}

// An endless answer costs a few kilobytes; its status counts.
func TestEndlessAnswerIsNotRead(t *testing.T) {
	w := newWorld(t)
	sent := make(chan int, 1)
	r := receive(t, func(w http.ResponseWriter, r *http.Request) {
		block, total := make([]byte, 64<<10), 0
		for {
			n, err := w.Write(block)
			if total += n; err != nil {
				sent <- total
				return
			}
		}
	})
	w.deliver()
	e, _ := w.create(r.URL)
	w.happen("thing.born", 1)
	w.settled(e, 1)
	// The rest of what it could send are buffers of the two machines.
	if total := <-sent; total > 64<<20 {
		t.Errorf("%d bytes were taken", total)
	}
}

// Endpoints that hang, however many messages wait for them, hold up nobody else.
func TestSlowEndpointsDelayNobody(t *testing.T) {
	w := newWorld(t)
	released := make(chan struct{})
	stall := receive(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	})
	quick := receive(t, nil)
	w.deliver(func(c *Config) { c.Attempts = 16 })
	slow := make([]Endpoint, 3)
	for i := range slow {
		slow[i], _ = w.create(stall.URL)
	}
	e, _ := w.create(quick.URL)
	began := time.Now()
	const n = 200
	w.happen("thing.born", n)
	w.settled(e, n)
	if took := time.Since(began); took > attemptTimeout/2 {
		t.Errorf("the quick endpoint took %s", took)
	}
	if stall.inMax > len(slow)*endpointAttemptsMax {
		t.Errorf("%d requests at the same time", stall.inMax)
	}
	for _, s := range slow {
		if waiting := len(w.deliveries(s, StatusWaiting)); waiting != n {
			t.Errorf("%d messages wait for a slow endpoint", waiting)
		}
	}
	close(released)
}

// An endpoint that says it is gone is switched off, and told what waited once it is
// switched on again.
func TestGoneEndpointIsDisabledAndResumes(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			time.Sleep(10 * time.Second) // all three are under way
			w.WriteHeader(http.StatusGone)
		}
	}
	inVirtualTime(t, answer, func(t *testing.T, w *world, r *receiver) {
		stop := w.deliver()
		e, _ := w.create("http://127.0.0.1:1/gone")
		w.happen("thing.born", 3)
		time.Sleep(time.Minute)
		now, err := w.book.Endpoint(w.org, e.ID)
		if err != nil || !now.Disabled || !strings.Contains(now.DisabledReason, "410") {
			t.Fatalf("%+v, %v", now, err)
		}
		attempts := len(r.got())
		w.happen("thing.born", 2) // nobody is told
		time.Sleep(time.Hour)
		var actors []string
		w.each(func(r events.Record) {
			if r.Type == recordDisabled {
				actors = append(actors, r.Actor)
			}
		})
		if !slices.Equal(actors, []string{actor}) {
			t.Errorf("it was disabled by %v", actors)
		}
		if waiting := len(w.deliveries(e, StatusWaiting)); waiting != 3 || len(r.got()) != attempts || attempts != 3 {
			t.Errorf("%d messages wait after %d attempts, %d of them while it was disabled", waiting, attempts, len(r.got())-attempts)
		}
		if _, err := w.commands.Test(w.bounded(), w.org, e.ID, by()); !errors.Is(err, ErrDisabled) {
			t.Errorf("tested: %v", err)
		}
		here := "http://127.0.0.1:1/here"
		if _, err := w.commands.Update(w.bounded(), w.org, e.ID, UpdateInput{URL: &here}, by()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.commands.Enable(w.bounded(), w.org, e.ID, by()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.settled(e, 3)
		stop()
	})
}

// Whoever stops in good order repeats nothing: what is under way ends, and is
// recorded.
func TestStopRecordsWhatIsUnderWay(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	r := receive(t, func(http.ResponseWriter, *http.Request) { <-release })
	stop := w.deliver(func(c *Config) { c.RecordEvery = time.Hour })
	e, _ := w.create(r.URL)
	const n = endpointAttemptsMax
	w.happen("thing.born", n)
	eventually(t, "all attempts are under way", func() bool { return len(r.got()) == n })
	go func() {
		time.Sleep(100 * time.Millisecond) // the deliverer is told to stop meanwhile
		close(release)
	}()
	stop()
	w.catchUp(w.book)
	if delivered := len(w.deliveries(e, StatusDelivered)); delivered != n {
		t.Errorf("%d of %d are recorded", delivered, n)
	}
}

// Nothing that has happened waits because a clock was ahead.
func TestRecordOfAClockThatIsAhead(t *testing.T) {
	w := newWorld(t)
	r := receive(t, nil)
	w.deliver()
	e, _ := w.create(r.URL)
	ahead := by()
	ahead.At = ahead.At.Add(time.Hour)
	if _, err := w.commands.Test(w.bounded(), w.org, e.ID, ahead); err != nil {
		t.Fatal(err)
	}
	w.settled(e, 1)
}

func TestReplays(t *testing.T) {
	w := newWorld(t)
	r := receive(t, nil)
	w.deliver()
	first, _ := w.create(r.URL, "thing.born")
	begin := time.Now()
	ids := w.happen("thing.born", 3)
	w.happen("thing.grown", 1)
	w.settled(first, 3)
	if err := w.commands.Replay(w.bounded(), w.org, first.ID, ids[1], by()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is there again", func() bool { return r.counts()[ids[1]] == 2 })
	w.settled(first, 3)

	// One made later is told what happened before.
	late := receive(t, nil)
	second, _ := w.create(late.URL)
	for _, c := range []struct {
		since time.Time
		want  int
	}{{begin, 4}, {time.Now().Add(time.Hour), 0}} {
		n, err := w.commands.ReplaySince(w.bounded(), w.org, second.ID, c.since, by())
		if err != nil || n != c.want {
			t.Fatalf("%d messages, %v; want %d", n, err, c.want)
		}
	}
	w.settled(second, 4)
	message, err := w.commands.Test(w.bounded(), w.org, second.ID, by())
	if err != nil {
		t.Fatal(err)
	}
	w.settled(second, 5)
	if n := late.counts()[message]; n != 1 {
		t.Errorf("the test came %d times", n)
	}
	for _, id := range []string{"", "msg_", "msg_xyz", ids[0] + "0", strings.Replace(ids[0], "msg_", "msg-", 1)} {
		if err := w.commands.Replay(w.bounded(), w.org, first.ID, id, by()); err == nil {
			t.Errorf("%q is replayed", id)
		}
	}
	for id, n := range r.counts() {
		if want := map[bool]int{true: 2, false: 1}[id == ids[1]]; n != want {
			t.Errorf("message %s came %d times, want %d", id, n, want)
		}
	}
}

// Nothing that we write or say holds a secret or a pepper.
func TestNoSecretIsWritten(t *testing.T) {
	w := newWorld(t)
	r := receive(t, answering(500))
	w.deliver()
	e, first := w.create(r.URL + "/path?token=in-the-url")
	again, same, err := w.commands.Create(w.bounded(), CreateInput{OrgID: w.org, ID: e.ID, URL: e.URL}, by())
	if err != nil || same != first || again.ID != e.ID {
		t.Fatalf("asked again: %v, the same secret: %t", err, same == first)
	}
	_, second, err := w.commands.Rotate(w.bounded(), w.org, e.ID, time.Hour, by())
	if err != nil {
		t.Fatal(err)
	}
	w.happen("thing.born", 1)
	eventually(t, "it failed", func() bool { return w.deliveries(e, "")[0].Attempts == 1 })
	now, err := w.book.Endpoint(w.org, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("%+v %#v %v %s %+v", w.commands.Secrets, w.commands.Secrets, w.commands, w.logged, now)
	w.each(func(r events.Record) {
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		said += string(body)
	})
	if _, err := json.Marshal(w.commands.Secrets); err == nil {
		t.Error("peppers become JSON")
	}
	for _, secret := range []string{first, second, first[6:20], second[6:20], "pepper one", "pepper two", "whsec_"} {
		if strings.Contains(said, secret) {
			t.Errorf("%.10s… is written", secret)
		}
	}
	if strings.Contains(w.logged.String(), "in-the-url") {
		t.Error("a URL is logged")
	}
}
