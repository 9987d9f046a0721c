package node

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/keys"
)

func TestMain(m *testing.M) {
	os.Exit(embedded.TestMain(m, "TestAloneStopsTheWriters", "TestAuditorKeepsTheInvoicerHonest", "TestFailOverIsOneGoodRequest", "TestOneOrgBesideAnother",
		"TestPlanThatBlocks", "TestWebhooksTellOfCorrections", "TestWebhooksTellOfInvoices"))
}

// up starts a node with its API and its ingester for one test, on a NATS of its own
// and in the ClickHouse that these tests share; change may set the API up differently.
func up(t *testing.T, change ...func(*ServeConfig)) (*Node, *API, Bootstrap) {
	t.Helper()
	n, api := serve(t, EngineConfig{DataDir: t.TempDir(), ClickHouseDSN: embedded.OpenClickHouse(t).DSN, Shards: 1, Replicas: 1}, change...)
	first, err := n.Bootstrap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n, api, first
}

// beside starts another API process, but in this one, on the engines of a node.
func beside(t *testing.T, n *Node) (*Node, *API) {
	t.Helper()
	return serve(t, EngineConfig{DataDir: n.dataDir, NATSURL: n.Engines.NATSURL, ClickHouseDSN: n.Engines.ClickHouseDSN, Shards: 1, Replicas: 1})
}

func serve(t *testing.T, engines EngineConfig, change ...func(*ServeConfig)) (*Node, *API) {
	t.Helper()
	return serveAt(t, nil, engines, change...)
}

// serveAt is serve by another clock.
func serveAt(t *testing.T, clock func() time.Time, engines EngineConfig, change ...func(*ServeConfig)) (*Node, *API) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n, err := Open(ctx, Config{Engines: engines, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	c := ServeConfig{Addr: "127.0.0.1:0", SweepEvery: time.Minute}
	for _, f := range change {
		f(&c)
	}
	api, err := n.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- n.Run(ctx, api.Run, func(ctx context.Context) error {
			return n.Ingest(ctx, IngestConfig{BatchRows: 10_000, BatchAge: 10 * time.Millisecond, LeaseTTL: 2 * time.Second})
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, api
}

func post(t *testing.T, url, key, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

// A limit that the API shows is a limit that the gateway keeps.
func TestRequestsPerMinuteAreKept(t *testing.T) {
	t.Parallel()
	n, api, first := up(t)
	_, secret, err := n.Keys.Create(context.Background(), n.Log, keys.CreateInput{OrgID: first.OrgID, TeamID: first.TeamID, Name: "slow", RPMLimit: 2, Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}`
	for i := range 2 {
		res := post(t, api.URL+"/v1/chat/completions", secret, body)
		if res.StatusCode != http.StatusOK || res.Header.Get("X-Ratelimit-Limit-Requests") != "2" {
			t.Fatalf("request %d: %s, limit %q", i+1, res.Status, res.Header.Get("X-Ratelimit-Limit-Requests"))
		}
	}
	res := post(t, api.URL+"/v1/chat/completions", secret, body)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || res.Header.Get("X-Ratelimit-Remaining-Requests") != "0" {
		t.Fatalf("third request: %s, %v", res.Status, res.Header)
	}
	if res := post(t, api.URL+"/v1/chat/completions", first.ChatKey, body); res.StatusCode != http.StatusOK {
		t.Fatalf("another key: %s", res.Status)
	}
}

// Three dialects, one meter.
func TestDialectsOfTheBuiltInProvider(t *testing.T) {
	t.Parallel()
	n, api, first := up(t)
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"model":"gpt-4o","messages":[{"role":"user","content":"one two"}]}`,
		"/v1/messages":         `{"model":"sonnet-4-6","max_tokens":10,"messages":[{"role":"user","content":"one two"}]}`,
		"/v1beta/models/gemini-2.5-flash:generateContent": `{"contents":[{"role":"user","parts":[{"text":"one two"}]}]}`,
	} {
		if res := post(t, api.URL+path, first.ChatKey, body); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	if end, _, err := n.Log.UsageEnd(context.Background(), 0); err != nil || end == 0 || end > 3 {
		t.Fatalf("the usage log ends at %d (%v)", end, err)
	}
}
