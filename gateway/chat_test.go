package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/gateway"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

const counted = `{"prompt_tokens":374,"completion_tokens":44,"cached_tokens":100,"reasoning_tokens":4}`

var countedTokens = events.Tokens{Input: 274, CacheRead: 100, Output: 40, Reasoning: 4}

func TestPlainAndStream(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for _, stream := range []bool{false, true} {
		for _, ask := range []bool{false, true} {
			t.Run(fmt.Sprintf("stream %v, usage %v", stream, ask), func(t *testing.T) {
				text := body(stream, counted)
				if ask {
					text = strings.Replace(text, `,"simulate"`, `,"stream_options":{"include_usage":true},"simulate"`, 1)
				}
				a := b.ask(b.secret, text)
				if a.status != 200 || a.err != nil || a.failure != nil || len(a.text) != 160 || a.done != stream {
					t.Fatalf("answer: %+v", a)
				}
				if wantUsage := ask || !stream; wantUsage != (a.usage != nil) {
					t.Errorf("usage shown: %v, want %v", a.usage, wantUsage)
				}
				u := b.usage(a.id)
				if u.Tokens != countedTokens || u.Outcome != events.OutcomeCompleted || u.Source != events.SourceReported {
					t.Errorf("usage: %+v", u)
				}
				// 274×1 + 100×0.1 + 40×3 + 4×5 per million, and a millionth per request.
				if !u.Cost.Equal(decimal.RequireFromString("0.000425")) {
					t.Errorf("cost %s", u.Cost)
				}
				if u.OrgID != b.org || u.Model != "small" || u.Provider != "acme-ai" || u.PriceVersion != "small@1" || u.Currency != "CNY" ||
					u.HTTPStatus != 200 || u.Stream != stream || u.Sandbox || u.Producer != "gateway" || u.OperationID != u.ID {
					t.Errorf("usage: %+v", u)
				}
				var sent map[string]any
				if err := json.Unmarshal(*b.upstream.last.Load(), &sent); err != nil {
					t.Fatal(err)
				}
				options, _ := sent["stream_options"].(map[string]any)
				if stream && options["include_usage"] != true {
					t.Errorf("usage was not asked for upstream: %v", sent)
				}
			})
		}
	}
	for _, a := range b.admissions() {
		if u := b.usage(a.ID); !u.OccurredAt.Equal(a.Estimate.OccurredAt) || a.Estimate.Outcome != events.OutcomeAbandoned ||
			a.Estimate.Tokens.Input != promptTokens || !a.Estimate.Cost.IsPositive() || a.Deadline < 20*time.Second {
			t.Errorf("admission: %+v", a)
		}
	}
}

func TestSandboxIsNeverBilled(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	text := strings.Replace(body(true, counted), `"small"`, `"unpriced"`, 1)
	a := b.ask(b.sandbox, text)
	u := b.usage(a.id)
	if !a.done || !u.Sandbox || !u.Cost.IsZero() || u.Tokens != countedTokens || u.Provider != "simulator" || u.PriceVersion != "" {
		t.Errorf("sandbox usage: %+v", u)
	}
}

func TestAliasAndRename(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for sent, want := range map[string][2]string{"s": {"small", "small"}, "renamed": {"renamed", "provider/renamed-v2"}} {
		a := b.ask(b.secret, strings.Replace(body(false, `{}`), `"small"`, `"`+sent+`"`, 1))
		u := b.usage(a.id)
		var got struct{ Model string }
		if err := json.Unmarshal(*b.upstream.last.Load(), &got); err != nil || u.Model != want[0] || got.Model != want[1] {
			t.Errorf("%s: billed as %s, upstream %s, want %v", sent, u.Model, got.Model, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) { c.BodyBytesMax = 4096 })
	ok := body(false, `{}`)
	model := func(name string) string { return strings.Replace(ok, `"small"`, name, 1) }
	for name, c := range map[string]struct {
		secret, body string
		status       int
		code, param  string
	}{
		"no key":            {"", ok, 401, "invalid_api_key", ""},
		"malformed key":     {"sk-nex-abc", ok, 401, "invalid_api_key", ""},
		"unknown key":       {b.secret[:len(b.secret)-1] + "!", ok, 401, "invalid_api_key", ""},
		"disabled key":      {b.disabled, ok, 403, "api_key_disabled", ""},
		"finance token":     {b.finance, ok, 403, "insufficient_scope", ""},
		"not JSON":          {b.secret, `{"model":"small"`, 400, "invalid_json", ""},
		"not an object":     {b.secret, `[]`, 400, "invalid_json", ""},
		"two objects":       {b.secret, ok + ok, 400, "invalid_json", ""},
		"name twice":        {b.secret, strings.Replace(ok, `{`, `{"model":"renamed",`, 1), 400, "invalid_json", ""},
		"not UTF-8":         {b.secret, strings.Replace(ok, "sixteen", "sixt\xffen", 1), 400, "invalid_json", ""},
		"no model":          {b.secret, `{"messages":[{"content":"x"}]}`, 400, "missing_required_parameter", "model"},
		"model no string":   {b.secret, model(`7`), 400, "invalid_type", "model"},
		"no messages":       {b.secret, `{"model":"small"}`, 400, "missing_required_parameter", "messages"},
		"messages empty":    {b.secret, `{"model":"small","messages":[ ]}`, 400, "invalid_type", "messages"},
		"stream no bool":    {b.secret, strings.Replace(ok, `{`, `{"stream":"yes",`, 1), 400, "invalid_type", "stream"},
		"n too large":       {b.secret, strings.Replace(ok, `{`, `{"n":1000,`, 1), 400, "invalid_value", "n"},
		"unknown model":     {b.secret, model(`"none"`), 404, "model_not_found", "model"},
		"disabled model":    {b.secret, model(`"off"`), 404, "model_not_found", "model"},
		"model not allowed": {b.limited, model(`"renamed"`), 403, "model_not_allowed", "model"},
		"no price":          {b.secret, model(`"unpriced"`), 503, "model_not_priced", "model"},
		"body too large":    {b.secret, strings.Replace(ok, "sixteen", strings.Repeat("x", 5000), 1), 413, "request_too_large", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := b.ask(c.secret, c.body)
			if a.status != c.status || a.failure == nil || a.failure.Code != c.code || a.id.Version() != 7 {
				t.Fatalf("answer: %d %s", a.status, a.raw)
			}
			if param := a.failure.Param; (param == nil) != (c.param == "") || (param != nil && *param != c.param) {
				t.Errorf("param %v, want %q", param, c.param)
			}
			if a.failure.Type == "" || a.failure.Message == "" || strings.Contains(a.raw, b.secret[:20]) {
				t.Errorf("error: %s", a.raw)
			}
		})
	}
	if n := b.upstream.calls.Load(); n != 0 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
	if us, as := b.usages(), b.admissions(); len(us)+len(as) != 0 {
		t.Errorf("refused requests left %d usage events and %d admissions", len(us), len(as))
	}
	if a := b.ask("sk-nex-"+strings.Repeat("a", 49), ok); !strings.Contains(a.raw, "sk-nex-aaa...aaa") {
		t.Errorf("the key is not masked: %s", a.raw)
	}
}

// agreed are plans of one org.
type agreed struct {
	currency string
	org      uuid.UUID
}

func (a *agreed) Currency(org uuid.UUID) (string, bool) { return a.currency, org == a.org }

func (a *agreed) AllowsModel(_ uuid.UUID, model string, _ time.Time) bool { return model != "renamed" }

// TestCurrency: a model is not served whose usage could never be invoiced.
func TestCurrency(t *testing.T) {
	t.Parallel()
	plans := &agreed{currency: "USD"}
	b := newBench(t, func(c *gateway.Config) { c.Plans = plans })
	plans.org = b.org
	models := func(secret string) int {
		req := must(http.NewRequest("GET", b.url+"/v1/models", nil))
		req.Header.Set("Authorization", "Bearer "+secret)
		return strings.Count(readAnswer(must(http.DefaultClient.Do(req))).raw, `"id"`)
	}
	if a := b.ask(b.secret, body(false, `{}`)); a.status != 503 || a.failure.Code != "model_not_priced" || models(b.secret) != 0 {
		t.Errorf("in dollars: %d %s", a.status, a.raw)
	}
	if a := b.ask(b.sandbox, body(false, `{}`)); a.status != 200 || models(b.sandbox) == 0 {
		t.Errorf("the sandbox costs nothing: %d %s", a.status, a.raw)
	}
	if len(b.usages()) != 1 {
		t.Error("a refused request left a trace")
	}
	plans.currency = "CNY"
	if a := b.ask(b.secret, body(false, `{}`)); a.status != 200 || models(b.secret) == 0 {
		t.Errorf("in yuan: %d %s", a.status, a.raw)
	}
	if a := b.ask(b.secret, strings.Replace(body(false, `{}`), "small", "renamed", 1)); a.status != 403 || a.failure.Code != "model_not_allowed" {
		t.Errorf("a model that the plan does not have: %d %s", a.status, a.raw)
	}
	plans.org = events.NewID()
	if a := b.ask(b.secret, body(false, `{}`)); a.status != 503 {
		t.Errorf("an org that there is not: %d %s", a.status, a.raw)
	}
}

// TestNoRoute has no default upstream.
func TestNoRoute(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) { c.Default = gateway.Route{} })
	if a := b.ask(b.secret, body(false, `{}`)); a.status != 503 || a.failure.Code != "no_upstream" {
		t.Errorf("answer: %d %s", a.status, a.raw)
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for secret, want := range map[string]string{b.secret: "claude-opus-4-6 gemini-2.5-flash-image renamed small tight", b.limited: "small", b.sandbox: "claude-opus-4-6 gemini-2.5-flash-image renamed small tight unpriced"} {
		req := must(http.NewRequest("GET", b.url+"/v1/models", nil))
		req.Header.Set("Authorization", "Bearer "+secret)
		resp := must(http.DefaultClient.Do(req))
		var list struct {
			Object string
			Data   []struct {
				ID, Object string
				OwnedBy    string `json:"owned_by"`
				Created    int64
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		var ids []string
		for _, m := range list.Data {
			ids = append(ids, m.ID)
			if m.Object != "model" || m.OwnedBy != "acme" || m.Created == 0 {
				t.Errorf("model: %+v", m)
			}
		}
		if got := strings.Join(ids, " "); got != want || list.Object != "list" {
			t.Errorf("models %q, want %q", got, want)
		}
	}
	for path, want := range map[string]int{"/v1/nothing": 404, "/v1/chat/completions": 405, "/v1/models": 401} {
		resp := must(http.Get(b.url + path))
		a := readAnswer(resp)
		if a.status != want || a.failure == nil || a.failure.Code == "" {
			t.Errorf("GET %s: %d %s", path, a.status, a.raw)
		}
	}
}

func TestPriceIsStampedAtAdmission(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour)
	b := newBench(t, func(c *gateway.Config) { c.Now = func() time.Time { return at } })
	by := catalog.By{Actor: "test", At: time.Now()}
	p := b.catalog.Prices("small")[0]
	p.EffectiveFrom, p.Input = at.UTC().Truncate(time.Millisecond), decimal.RequireFromString("1000")
	must(b.catalog.PublishPrice(t.Context(), b.log, catalog.Publication{Price: p}, by))
	u := b.usage(b.ask(b.secret, body(false, counted)).id)
	want := must(ledger.Rate(b.catalog.Prices("small")[1], countedTokens, 0))
	if u.PriceVersion != "small@2" || !u.Cost.Equal(want) {
		t.Errorf("price %s, cost %s, want small@2, %s", u.PriceVersion, u.Cost, want)
	}
}

func TestOverload(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) { c.MaxInFlight, c.OrgInFlightMax = 1, 2 })
	release := make(chan struct{})
	b.hold(&b.tap.onPublish, release)
	first := make(chan *answer)
	go func() { first <- b.ask(b.secret, body(false, `{}`)) }()
	for b.upstream.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if a := b.ask(b.secret, body(false, `{}`)); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("second request: %d %s", a.status, a.raw)
	}
	close(release)
	if a := <-first; a.status != 200 {
		t.Errorf("first request: %d %s", a.status, a.raw)
	}
}
