package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aione/events"
	"aione/gateway"
	"aione/keys"
	"aione/simulator"

	"github.com/google/uuid"
)

// flaky is an upstream in front of the simulator whose behaviour can be changed.
type flaky struct {
	url    string
	calls  atomic.Int64
	status atomic.Int64 // answered instead, with retryAfter, if not 0
	after  atomic.Pointer[string]
	left   atomic.Int64 // so many times; for ever if negative
}

func newFlaky(t testing.TB) *flaky {
	f := &flaky{}
	sim := simulator.New(simulator.Config{APIKey: upstreamKey})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.calls.Add(1)
		if status := f.status.Load(); status != 0 && f.left.Add(-1) != -1 {
			if after := f.after.Load(); after != nil {
				w.Header().Set("Retry-After", *after)
			}
			if status == 302 {
				w.Header().Set("Location", "http://127.0.0.1:1/stolen")
			}
			w.WriteHeader(int(status))
			return
		}
		sim.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	f.url = s.URL + "/v1"
	return f
}

// fails makes it answer so, n times, or for ever if n is negative.
func (f *flaky) fails(status, n int) {
	if n < 0 {
		n = 1 << 40
	}
	f.left.Store(int64(n))
	f.status.Store(int64(status))
}

func (f *flaky) upstream(name string, weight int) gateway.Upstream {
	return gateway.Upstream{Name: name, BaseURL: f.url, Dialect: gateway.DialectAny, APIKey: upstreamKey, Weight: weight}
}

// operation are the events of one request, the deciding one last.
func (b *bench) operation(id uuid.UUID) (failed []events.Usage, decided events.Usage) {
	b.t.Helper()
	for _, u := range b.usages() {
		switch {
		case u.Retried != (u.ID != u.OperationID):
			b.t.Fatalf("every attempt but the last is one that was retried: %+v", u)
		case u.ID == id:
			decided = u
		case u.OperationID == id:
			failed = append(failed, u)
		}
	}
	if decided.ID == uuid.Nil {
		b.t.Fatalf("no event decides request %s", id)
	}
	return failed, decided
}

// TestFailOver: whatever the first upstream does before the client has received
// anything, the second serves; every attempt is an event, and one is billed.
func TestFailOver(t *testing.T) {
	t.Parallel()
	one, two := newFlaky(t), newFlaky(t)
	dead := gateway.Upstream{Name: "dead", BaseURL: "http://127.0.0.1:1/v1", Dialect: gateway.DialectAny, APIKey: upstreamKey}
	first := func(n int) int { return 0 } // always the first of those that are left
	b := newBench(t, func(c *gateway.Config) {
		c.IntN = first
		c.Routes["small"] = gateway.Route{Upstreams: []gateway.Upstream{one.upstream("one", 1), two.upstream("two", 1)}}
		c.Routes["renamed"] = gateway.Route{Upstreams: []gateway.Upstream{dead, two.upstream("two", 1)}}
	})
	for _, s := range speeches {
		for _, stream := range []bool{false, true} {
			for _, c := range []struct {
				model    string
				status   int
				provider string
			}{{"small", 500, "one"}, {"small", 429, "one"}, {"small", 401, "one"}, {"small", 302, "one"}, {"small", 504, "one"}, {"renamed", 0, "dead"}} {
				one.fails(c.status, -1)
				a := s.ask(b, b.secret, ask{model: c.model, stream: stream, simulate: `{"prompt_tokens":100,"completion_tokens":8}`})
				if a.status != 200 || len(a.text) != 32 || stream && !a.done {
					t.Fatalf("%s, stream %v, %+v: %d %s", s.dialect, stream, c, a.status, a.raw)
				}
				failed, u := b.operation(a.id)
				if len(failed) != 1 || u.Provider != "two" || u.Source != events.SourceReported || u.Tokens.Total() != 108 || !u.Cost.IsPositive() {
					t.Fatalf("%+v: failed %+v, decided %+v", c, failed, u)
				}
				if f := failed[0]; f.Provider != c.provider || int(f.HTTPStatus) != c.status || !f.Cost.IsZero() || f.Tokens.Total() != 0 || f.KeyID != u.KeyID || f.Outcome == events.OutcomeCompleted {
					t.Errorf("failed attempt: %+v", f)
				}
			}
		}
	}
	if logged := b.logged.String(); strings.Contains(logged, upstreamKey) || !strings.Contains(logged, "another follows") {
		t.Error("the log tells a key, or nothing")
	}
}

// TestFailOverInsideTheAnswer: an answer that breaks before the client has any of
// it may still come from elsewhere; one that breaks later may not.
func TestFailOverInsideTheAnswer(t *testing.T) {
	t.Parallel()
	var broken atomic.Pointer[string]
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, *broken.Load())
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer bad.Close()
	two := newFlaky(t)
	b := newBench(t, func(c *gateway.Config) {
		c.IntN = func(int) int { return 0 }
		c.Routes["small"] = gateway.Route{Upstreams: []gateway.Upstream{{Name: "bad", BaseURL: bad.URL, Dialect: gateway.DialectAny}, two.upstream("two", 1)}}
	})
	for _, c := range []struct {
		dialect gateway.Dialect
		sent    string
		again   bool
	}{
		{gateway.DialectOpenAI, "", true},
		{gateway.DialectOpenAI, "data: garbage\n\n", true},
		{gateway.DialectOpenAI, "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n", false},
		{gateway.DialectAnthropic, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n", true},
		{gateway.DialectAnthropic, "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n", false},
	} {
		broken.Store(&c.sent)
		a := speechOf(c.dialect).ask(b, b.secret, ask{stream: true, simulate: `{"completion_tokens":8}`})
		failed, u := b.operation(a.id)
		if again := a.done && len(a.text) == 32 && len(failed) == 1 && u.Outcome == events.OutcomeCompleted; again != c.again {
			t.Errorf("%s %q: %d %s", c.dialect, c.sent, a.status, a.raw)
		}
		if !c.again && (len(failed) != 0 || a.code == "" && a.message == "" || u.Provider != "bad" || u.Tokens.Output != 1) {
			t.Errorf("%s %q: failed %+v, decided %+v: %s", c.dialect, c.sent, failed, u, a.raw)
		}
	}
}

// TestRetry: one upstream is asked again after what may pass, in bounds.
func TestRetry(t *testing.T) {
	t.Parallel()
	one := newFlaky(t)
	b := newBench(t, func(c *gateway.Config) {
		c.Default = only(one.upstream("one", 1))
		c.Retry = gateway.Retry{Attempts: 3, Pause: 10 * time.Millisecond, PauseMax: 1500 * time.Millisecond}
	})
	second, hour := "1", "3600"
	for _, c := range []struct {
		status, times int
		after         *string
		calls, answer int
		least         time.Duration
	}{
		{503, 2, nil, 3, 200, 0},
		{429, 1, &second, 2, 200, time.Second},
		{429, 1, &hour, 1, 503, 0}, // asks for longer than we wait
		{500, 5, nil, 3, 502, 0},
		{400, 5, nil, 1, 400, 0}, // the client's fault stays the same
		{403, 5, nil, 1, 502, 0}, // so does ours
		{504, 5, nil, 1, 504, 0}, // a timeout was wait enough
	} {
		before, begun := one.calls.Load(), time.Now()
		one.after.Store(c.after)
		one.fails(c.status, c.times)
		a := speeches[0].ask(b, b.secret, ask{})
		one.fails(0, 0)
		if calls := int(one.calls.Load() - before); a.status != c.answer || calls != c.calls || time.Since(begun) < c.least {
			t.Errorf("%d %d times: %d after %d calls and %s", c.status, c.times, a.status, calls, time.Since(begun))
		}
		failed, u := b.operation(a.id)
		if len(failed) != c.calls-1 || u.Cost.IsPositive() != (c.answer == 200) {
			t.Errorf("%d: %d failed attempts, decided %+v", c.status, len(failed), u)
		}
		if c.after == &hour && a.header.Get("Retry-After") != hour {
			t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
		}
	}
	if a := speeches[0].ask(b, b.sandbox, ask{simulate: `{"status":503}`}); a.status != 503 {
		t.Errorf("sandbox: %d", a.status)
	} else if failed, _ := b.operation(a.id); len(failed) != 0 {
		t.Error("the sandbox was tried again")
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	one, two := newFlaky(t), newFlaky(t)
	n := 0
	b := newBench(t, func(c *gateway.Config) {
		c.IntN = func(of int) int { n++; return n % of } // each value as often
		c.Routes["small"] = gateway.Route{Upstreams: []gateway.Upstream{one.upstream("one", 3), two.upstream("two", 1)}}
	})
	for range 20 {
		speeches[0].ask(b, b.secret, ask{})
	}
	if one.calls.Load() != 15 || two.calls.Load() != 5 {
		t.Errorf("%d and %d calls, want 15 and 5", one.calls.Load(), two.calls.Load())
	}
}

// TestBreaker: an upstream that keeps failing is left alone, and let in again.
func TestBreaker(t *testing.T) {
	t.Parallel()
	one := newFlaky(t)
	b := newBench(t, func(c *gateway.Config) {
		c.Default = only(one.upstream("one", 1))
		c.Retry.Attempts = 1
		c.Breaker = gateway.Breaker{Failures: 3, OpenFor: time.Second}
	})
	ask := func() int { return speeches[0].ask(b, b.secret, ask{}).status }
	one.fails(429, -1) // limits our rate, but is well
	for range 4 {
		ask()
	}
	one.fails(500, -1)
	for range 3 {
		if status := ask(); status != 502 {
			t.Fatalf("status %d", status)
		}
	}
	calls, as := one.calls.Load(), len(b.admissions())
	for range 3 {
		if status := ask(); status != 503 {
			t.Errorf("status %d with an open circuit", status)
		}
	}
	if one.calls.Load() != calls || len(b.admissions()) != as {
		t.Error("an open circuit let requests through")
	}
	time.Sleep(1050 * time.Millisecond)
	if status := ask(); status != 502 || one.calls.Load() != calls+1 {
		t.Errorf("half open: %d after %d calls", status, one.calls.Load()-calls)
	}
	if status := ask(); status != 503 {
		t.Errorf("open again: %d", status)
	}
	time.Sleep(1050 * time.Millisecond)
	one.fails(0, 0)
	for range 3 {
		if status := ask(); status != 200 {
			t.Errorf("closed again: %d", status)
		}
	}
	if logged := b.logged.String(); !strings.Contains(logged, "closed") || !strings.Contains(logged, "half-open") {
		t.Errorf("the log does not tell: %s", logged)
	}
}

// TestSweeperAfterFailOver: a gateway that dies while it retries leaves one
// request to settle, whatever number of attempts.
func TestSweeperAfterFailOver(t *testing.T) {
	t.Parallel()
	one := newFlaky(t)
	b := newBench(t, func(c *gateway.Config) { c.Default = only(one.upstream("one", 1)) })
	one.fails(500, 1)
	b.kill(1)
	one.fails(500, 1)
	a := speeches[0].ask(b, b.secret, ask{})
	s, _ := b.sweeper(time.Now().Add(24*time.Hour), gateway.FileCheckpoint{Path: t.TempDir() + "/sweeper"})
	if swept, err := s.Sweep(t.Context()); err != nil || swept.Abandoned != 1 || swept.Admissions != 2 {
		t.Fatalf("sweep: %+v, %v", swept, err)
	}
	billed := 0
	for _, u := range b.usages() {
		if u.Cost.IsPositive() {
			billed++
		}
	}
	if failed, u := b.operation(a.id); len(failed) != 1 || u.Outcome != events.OutcomeCompleted || billed != 2 {
		t.Errorf("%d failed attempts, %+v, %d events billed", len(failed), u, billed)
	}
}

func TestUpstreamsAreChecked(t *testing.T) {
	t.Parallel()
	base := gateway.Upstream{Name: "x", BaseURL: "https://api.example.com/v1"}
	with := func(edit func(*gateway.Upstream)) gateway.Upstream { u := base; edit(&u); return u }
	for name, c := range map[string]struct {
		u  gateway.Upstream
		ok bool
	}{
		"https":        {base, true},
		"loopback":     {with(func(u *gateway.Upstream) { u.BaseURL = "http://[::1]:80/v1" }), true},
		"plain http":   {with(func(u *gateway.Upstream) { u.BaseURL = "http://10.0.0.8/v1" }), false},
		"allowed http": {with(func(u *gateway.Upstream) { u.BaseURL, u.Insecure = "http://10.0.0.8/v1", true }), true},
		"file":         {with(func(u *gateway.Upstream) { u.BaseURL = "file:///etc/passwd" }), false},
		"user":         {with(func(u *gateway.Upstream) { u.BaseURL = "https://a:b@api.example.com" }), false},
		"query":        {with(func(u *gateway.Upstream) { u.BaseURL += "?key=x" }), false},
		"no name":      {with(func(u *gateway.Upstream) { u.Name = "" }), false},
		"metadata":     {with(func(u *gateway.Upstream) { u.BaseURL = "https://169.254.169.254/v1" }), false},
		"mapped":       {with(func(u *gateway.Upstream) { u.BaseURL = "https://[::ffff:169.254.169.254]/v1" }), false},
		"alibaba's":    {with(func(u *gateway.Upstream) { u.BaseURL = "https://100.100.100.200/v1" }), false},
		"amazon's":     {with(func(u *gateway.Upstream) { u.BaseURL = "https://[fd00:ec2::254]/v1" }), false},
		"dialect":      {with(func(u *gateway.Upstream) { u.Dialect = "cohere" }), false},
		"weight":       {with(func(u *gateway.Upstream) { u.Weight = -1 }), false},
	} {
		_, err := gateway.New(gateway.Config{Log: &tap{}, Keys: (*keys.Set)(nil), Catalog: noCatalog{}, Rate: noRate, Sandbox: base,
			Routing: gateway.Routing{Routes: map[string]gateway.Route{"m": only(c.u)}}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A name, or another way to write an address, is known only when it is resolved.
	for address, ok := range map[string]bool{"169.254.169.254:443": false, "[fe80::1%eth0]:443": false, "[::ffff:169.254.1.1]:80": false, "100.100.100.200:80": false, "10.0.0.7:443": true, "[2001:db8::1]:443": true} {
		if err := gateway.DialControl("tcp", address, nil); (err == nil) != ok {
			t.Errorf("dial %s: %v", address, err)
		}
	}
}

// TestAddresses: a key that is bound to addresses works from there alone, and
// nobody can claim an address but our own proxies.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allowed, trusted, forwarded string
		ok                          bool
	}{
		{"127.0.0.0/8", "", "", true},
		{"10.1.0.0/16", "", "", false},
		{"10.1.0.0/16", "", "10.1.2.3", false},
		{"10.1.0.0/16", "127.0.0.1/32", "10.1.2.3", true},
		{"10.1.0.0/16", "127.0.0.1/32", "10.1.2.3, 8.8.8.8", false},
		{"10.1.0.0/16", "127.0.0.1/32", "8.8.8.8,10.1.2.3, 127.0.0.1", true},
		{"10.1.0.0/16", "127.0.0.1/32", "nonsense", false},
		{"127.0.0.1/32", "127.0.0.1/32", "nonsense", false}, // the proxy is not the client
		{"10.1.0.0/16", "127.0.0.1/32", "10.1.2.3:4567", true},
	} {
		b := newBench(t, func(cfg *gateway.Config) {
			if c.trusted != "" {
				cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
			}
		})
		_, secret, err := b.keys.Create(t.Context(), b.log, keys.CreateInput{OrgID: b.org, TeamID: events.NewID(), Actor: "test", Name: "bound", AllowedIPs: []string{c.allowed}})
		if err != nil {
			t.Fatal(err)
		}
		req := speeches[0].request(t.Context(), b, secret, ask{})
		if c.forwarded != "" {
			req.Header.Set("X-Forwarded-For", c.forwarded)
		}
		a := speeches[0].read(must(http.DefaultClient.Do(req)))
		if (a.status == 200) != c.ok || !c.ok && (a.status != 403 || a.code != "ip_not_allowed") {
			t.Errorf("%+v: %d %s", c, a.status, a.raw)
		}
	}
}
