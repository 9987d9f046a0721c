package node

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"aione/events"
	"aione/simulator"
)

// provider is a real simulated one that asks for its key, and fails on demand.
func provider(t *testing.T, key string) (url string, calls *atomic.Int64, failing *atomic.Bool) {
	t.Helper()
	calls, failing = &atomic.Int64{}, &atomic.Bool{}
	sim := simulator.New(simulator.Config{APIKey: key})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		sim.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1", calls, failing
}

// usage reads all of the usage log.
func usage(t *testing.T, n *Node) (all []events.Usage) {
	t.Helper()
	end, _, err := n.Log.UsageEnd(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if end == 0 {
		return nil
	}
	r, err := n.Log.ReadUsage(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	for d := new(events.Decoder); ; {
		m, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all, _, err = d.Envelope(m.Data, all); err != nil {
			t.Fatal(err)
		}
		if m.Seq == end {
			return all
		}
	}
}

// TestRoutesFile: the running process sends each model where the file says, goes
// on at the other upstream when one fails, and reads the file again on SIGHUP.
func TestRoutesFile(t *testing.T) {
	one, oneCalls, oneFails := provider(t, "key-of-one")
	two, twoCalls, _ := provider(t, "key-of-two")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("two.key", "key-of-two\n")
	t.Setenv("TEST_KEY_OF_ONE", "key-of-one")
	upstreams := fmt.Sprintf("upstreams:\n  one: {url: %q, key_env: TEST_KEY_OF_ONE}\n  two: {url: %q, key_file: two.key}\n", one, two)
	path := write("routes.yaml", upstreams+"models:\n  gpt-4o: [{upstream: one, weight: 1000}, {upstream: two}]\n  gpt-4o-mini: [{upstream: two}]\n")
	n, api, first := up(t, func(c *ServeConfig) { c.RoutesFile = path })
	chat := func(model string) int {
		return post(t, api.URL+"/v1/chat/completions", first.ChatKey, `{"model":"`+model+`","messages":[{"role":"user","content":"hello"}]}`).StatusCode
	}
	if status := chat("gpt-4o-mini"); status != http.StatusOK || twoCalls.Load() != 1 || oneCalls.Load() != 0 {
		t.Fatalf("%d, %d and %d calls", status, oneCalls.Load(), twoCalls.Load())
	}
	if status := chat("claude-haiku-4-5"); status != http.StatusServiceUnavailable {
		t.Errorf("a model without a route: %d", status)
	}
	oneFails.Store(true)
	for range 3 {
		if status := chat("gpt-4o"); status != http.StatusOK {
			t.Errorf("one upstream fails, and the client gets %d", status)
		}
	}
	served, failed := 0, 0
	for _, u := range usage(t, n) {
		switch {
		case u.Provider == "two" && u.Outcome == events.OutcomeCompleted && u.Cost.IsPositive():
			served++
		case u.Provider == "one" && u.Outcome == events.OutcomeUpstreamError && u.Cost.IsZero() && u.OperationID != u.ID:
			failed++
		default:
			t.Errorf("%+v", u)
		}
	}
	if served != 4 || failed < 2 || int64(failed) != oneCalls.Load() {
		t.Errorf("%d served, %d failed attempts", served, failed)
	}

	// Or a signal before the node listens, or after, would end the tests.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	reread := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("routes.yaml", upstreams+"default: [{upstream: two}]\n")
	reread("the new default does not serve", func() bool { return chat("claude-haiku-4-5") == http.StatusOK })
	write("routes.yaml", upstreams+"default: [{upstream: three}]\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if status := chat("gpt-4o"); status != http.StatusOK {
			t.Errorf("after a file that is refused: %d", status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRoutesAreCheckedAtStart(t *testing.T) {
	n, err := Open(context.Background(), Config{Engines: EngineConfig{DataDir: t.TempDir(), Shards: 1, Replicas: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(path, []byte("upstreams: {}\ndefault: [{upstream: nobody}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]ServeConfig{
		"routes.yaml:2: default[0].upstream": {RoutesFile: path},
		"name the providers once":            {RoutesFile: path, UpstreamURL: "https://api.example.com/v1"},
		"plain http to another machine":      {UpstreamURL: "http://api.example.com/v1", UpstreamAs: "x"},
		"no such file":                       {RoutesFile: path + ".old"},
	} {
		c.Addr = "127.0.0.1:0"
		if _, err := n.Listen(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
