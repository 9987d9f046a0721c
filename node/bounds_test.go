package node

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/keys"
)

// TestOneOrgBesideAnother: an org that floods the whole API with slow streams is told
// to wait, and of another every request is served; the refusals are in /metrics.
func TestOneOrgBesideAnother(t *testing.T) {
	n, api, first := up(t, func(c *ServeConfig) { c.InFlightMax = 8 })
	o := operateOn(t, n, api, first)
	commands := billing.Commands{Log: n.Log, Book: n.Book, Prices: n.Catalog}
	other, err := commands.CreateOrg(context.Background(), billing.Org{ID: events.NewID(), Name: "other"}, billing.By{Actor: "test", At: n.Clock()})
	if err != nil {
		t.Fatal(err)
	}
	_, theirs, err := n.Keys.Create(context.Background(), n.Log, keys.CreateInput{OrgID: other.ID, Name: "theirs", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	_, ours := o.key(keys.CreateInput{})
	o.known()
	const chat, plain = "/v1/chat/completions", `{"model":"flat","messages":[{"role":"user","content":"hi"}]`
	slow := plain + `,"stream":true,"simulate":{"completion_tokens":5,"chunks":5,"chunk_ms":30}}`
	var refused atomic.Int64
	flooding, stop := context.WithCancel(context.Background())
	var flood sync.WaitGroup
	for range 16 {
		flood.Go(func() {
			for flooding.Err() == nil {
				switch a := o.ask(api, "POST", chat, ours, slow); {
				case a.status == http.StatusTooManyRequests && strings.Contains(a.body, "rate_limit_exceeded") && a.header.Get("Retry-After") == "1":
					refused.Add(1)
				case a.status != http.StatusOK:
					t.Errorf("the flood: %d %s", a.status, a.body)
				}
			}
		})
	}
	for i := range 20 {
		if a := o.ask(api, "POST", chat, theirs, plain+"}"); a.status != http.StatusOK {
			t.Errorf("request %d of the other org: %d %s", i+1, a.status, a.body)
		}
	}
	stop()
	flood.Wait()
	metrics := o.ask(api, "GET", "/metrics", "", "").body
	for _, want := range []string{fmt.Sprintf(`aione_gateway_refused_total{of="org"} %d`, refused.Load()), `aione_gateway_refused_total{of="all"} 0`} {
		if refused.Load() == 0 || !strings.Contains(metrics, want+"\n") {
			t.Errorf("%d were refused, and the metrics do not say %s", refused.Load(), want)
		}
	}
}

// TestKeyBoundOfTheConfiguration: the setting reaches the commands.
func TestKeyBoundOfTheConfiguration(t *testing.T) {
	ctx := context.Background()
	n, err := Open(ctx, Config{Engines: EngineConfig{DataDir: t.TempDir(), ClickHouseDSN: embedded.OpenClickHouse(t).DSN, Shards: 1, Replicas: 1}, Keys: KeyConfig{KeysMax: 1, TokensMax: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	org := events.NewID()
	for i, want := range []bool{true, false} {
		if _, _, err := n.Keys.Create(ctx, n.Log, keys.CreateInput{OrgID: org, Name: "key", Actor: "test"}); (err == nil) != want {
			t.Errorf("key %d: %v", i+1, err)
		}
	}
	for i, want := range []bool{true, true, false} {
		if _, _, err := n.Keys.Create(ctx, n.Log, keys.CreateInput{OrgID: org, Name: "token", Scopes: []keys.Scope{keys.ScopeIngest}, Actor: "test"}); (err == nil) != want {
			t.Errorf("token %d: %v", i+1, err)
		}
	}
}
