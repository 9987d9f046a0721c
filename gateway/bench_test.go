package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aione/catalog"
	"aione/embedded"
	"aione/events"
	"aione/gateway"
	"aione/keys"
	"aione/ledger"
	"aione/simulator"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/shopspring/decimal"
)

// These tests wait, mostly, so more of them may run at once than there are
// processors; a -parallel that is given wins, as it is parsed after.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(embedded.TestMain(m, "TestOneAttemptDecides", "TestSlowBodies"))
}

// bench is a whole gateway: real log on real NATS, real keys and catalog, the
// simulated provider and the gateway behind real HTTP servers.
type bench struct {
	t        testing.TB
	log      *events.Log
	tap      *tap
	keys     *keys.Set
	catalog  *catalog.Catalog
	gateway  *gateway.Gateway
	url      string
	upstream *watched
	logged   *lockedBuffer

	org uuid.UUID
	// A key for all models, a sandbox key, one for "small" alone, one switched
	// off, and a management token.
	secret, sandbox, limited, disabled, finance string
	nc                                          *nats.Conn
}

const upstreamKey = "upstream-secret-key-0123456789"

// watched is the simulated provider; it counts requests and keeps the last body.
type watched struct {
	http.Handler
	calls  atomic.Int64
	last   atomic.Pointer[[]byte]
	header atomic.Pointer[http.Header]
	path   atomic.Pointer[string]
}

func (s *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.last.Store(&body)
	s.header.Store(&r.Header)
	s.path.Store(&r.URL.Path)
	s.calls.Add(1)
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.Handler.ServeHTTP(w, r)
}

// tap stands before the real log: it can hold a call up or fail it.
type tap struct {
	*events.Log
	onAdmit, onPublish atomic.Pointer[func(context.Context) error]
	admitted           sync.Map // of the ids of admissions that are durable
	hurried            atomic.Int64
}

func (l *tap) Hurry() {
	l.hurried.Add(1)
	l.Log.Hurry()
}

func (l *tap) Admit(ctx context.Context, a events.Admission) error {
	if f := l.onAdmit.Load(); f != nil {
		if err := (*f)(ctx); err != nil {
			return err
		}
	}
	err := l.Log.Admit(ctx, a)
	if err == nil {
		l.admitted.Store(a.ID, true)
	}
	return err
}

func (l *tap) Publish(ctx context.Context, us []events.Usage) error {
	if f := l.onPublish.Load(); f != nil {
		if err := (*f)(ctx); err != nil {
			return err
		}
	}
	return l.Log.Publish(ctx, us)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// only is a route to one upstream.
func only(u gateway.Upstream) gateway.Route {
	return gateway.Route{Upstreams: []gateway.Upstream{u}}
}

// newBench starts everything; edit may change the gateway's configuration.
func newBench(t testing.TB, edit func(*gateway.Config)) *bench {
	t.Helper()
	nc := must(embedded.OpenNATS(t).Conn())
	t.Cleanup(nc.Close)
	log := must(events.Open(t.Context(), nc, events.Options{}))
	t.Cleanup(func() { _ = log.Close(context.Background()) })
	b := &bench{t: t, nc: nc, log: log, tap: &tap{Log: log}, catalog: catalog.New(), logged: &lockedBuffer{}, org: events.NewID()}
	pepper := keys.Pepper{Version: 1, Secret: bytes.Repeat([]byte("p"), 32)}
	b.keys = must(keys.NewSet(keys.Config{Peppers: []keys.Pepper{pepper}, Now: time.Now}))
	b.feed()
	b.stock()

	b.upstream = &watched{Handler: simulator.New(simulator.Config{APIKey: upstreamKey})}
	up := httptest.NewServer(b.upstream)
	t.Cleanup(up.Close)
	upstream := gateway.Upstream{Name: "acme-ai", BaseURL: up.URL + "/v1", Dialect: gateway.DialectAny, APIKey: upstreamKey}
	renamed := upstream
	renamed.Model = "provider/renamed-v2"
	sandbox := gateway.Upstream{Name: "simulator", BaseURL: up.URL + "/v1/", APIKey: upstreamKey}
	c := gateway.Config{
		Log: b.tap, Keys: b.keys, Catalog: b.catalog, Rate: ledger.Rate,
		Routing: gateway.Routing{Routes: map[string]gateway.Route{"renamed": only(renamed)}, Default: only(upstream)}, Sandbox: sandbox,
		Timeouts: gateway.Timeouts{FirstByte: 1500 * time.Millisecond, Idle: time.Second, Total: 20 * time.Second, Drain: 1500 * time.Millisecond},
		// Faults come thick in tests: what retries and the circuit do to them has tests
		// of its own.
		Retry:   gateway.Retry{Pause: 10 * time.Millisecond, PauseMax: 100 * time.Millisecond},
		Breaker: gateway.Breaker{Failures: 1 << 20},
		Logger:  slog.New(slog.NewTextHandler(b.logged, nil)),
	}
	if edit != nil {
		edit(&c)
	}
	b.gateway = must(gateway.New(c))
	srv := httptest.NewServer(b.gateway.Routes())
	b.url = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := b.gateway.Close(ctx); err != nil {
			t.Error(err)
		}
		if strings.Contains(b.logged.String(), upstreamKey) || strings.Contains(b.logged.String(), b.secret) {
			t.Error("a secret was logged")
		}
	})
	return b
}

// feed follows the ledger into keys and catalog, as the wiring does.
func (b *bench) feed() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.log.Follow(ctx, 1, func(r events.Record) error {
			if err := b.keys.Apply(r); err != nil {
				return err
			}
			return b.catalog.Apply(r)
		})
	}()
	b.t.Cleanup(func() { cancel(); <-done })
}

// stock registers models and mints keys. Prices are such that every bucket shows
// in the cost.
func (b *bench) stock() {
	ctx, by := b.t.Context(), catalog.By{Actor: "test", At: time.Now()}
	for _, m := range []catalog.Model{
		{ID: "small", Name: "Small", Provider: "acme", Aliases: []string{"s"}, Enabled: true},
		{ID: "renamed", Name: "Renamed", Provider: "acme", Enabled: true},
		{ID: "unpriced", Name: "Unpriced", Provider: "acme", Enabled: true},
		{ID: "claude-opus-4-6", Name: "Opus", Provider: "acme", Aliases: []string{"opus-4-6"}, Enabled: true},
		{ID: "gemini-2.5-flash-image", Name: "Flash Image", Provider: "acme", Enabled: true},
		{ID: "tight", Name: "Tight", Provider: "acme", ContextLength: 100, Enabled: true},
		{ID: "off", Name: "Off", Provider: "acme"},
	} {
		if err := b.catalog.RegisterModel(ctx, b.log, m, by); err != nil {
			b.t.Fatal(err)
		}
		if m.ID == "unpriced" {
			continue
		}
		p := catalog.Price{
			Model: m.ID, Currency: "CNY", EffectiveFrom: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
			Input: decimal.RequireFromString("1"), CacheRead: decimal.RequireFromString("0.1"),
			Output: decimal.RequireFromString("3"), Reasoning: decimal.RequireFromString("5"), Request: decimal.RequireFromString("0.000001"),
			CacheWrite5m: decimal.RequireFromString("1.25"), CacheWrite1h: decimal.RequireFromString("2"), Image: decimal.RequireFromString("0.2"),
		}
		must(b.catalog.PublishPrice(ctx, b.log, catalog.Publication{Price: p, Backdate: true}, by))
	}
	for secret, in := range map[*string]keys.CreateInput{
		&b.secret:   {Name: "all"},
		&b.sandbox:  {Name: "sandbox", Sandbox: true},
		&b.limited:  {Name: "limited", ModelsAllowed: []string{"small"}},
		&b.disabled: {Name: "disabled"},
		&b.finance:  {Name: "finance", Scopes: []keys.Scope{keys.ScopeBillingRead}},
	} {
		in.OrgID, in.TeamID, in.Actor = b.org, events.NewID(), "test"
		k, s, err := b.keys.Create(ctx, b.log, in)
		if err != nil {
			b.t.Fatal(err)
		}
		*secret = s
		if k.Name == "disabled" {
			must(b.keys.Disable(ctx, b.log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}))
		}
	}
}

// prompt is 16 bytes of text: 4 tokens when we have to count them.
const prompt = "sixteen bytes ok"

const promptTokens = 4

func body(stream bool, simulate string) string {
	s := `{"model":"small","messages":[{"role":"user","content":"` + prompt + `"}]`
	if stream {
		s += `,"stream":true`
	}
	return s + `,"simulate":` + simulate + `}`
}

func (b *bench) request(ctx context.Context, secret, body string) *http.Request {
	req := must(http.NewRequestWithContext(ctx, "POST", b.url+"/v1/chat/completions", strings.NewReader(body)))
	req.Header.Set("Content-Type", "application/json")
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	return req
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	id     uuid.UUID
	raw    string
	err    error // reading the body

	chunks  []chunk // of a stream
	text    string
	done    bool // [DONE] came
	failure *errorDetail
	usage   *reportedUsage
}

type errorDetail struct {
	Message, Type, Code string
	Param               *string
}

type reportedUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
}

type chunk struct {
	Choices []struct {
		Message, Delta struct{ Content string }
		FinishReason   *string `json:"finish_reason"`
	}
	Usage *reportedUsage
	Error *errorDetail
}

func (b *bench) ask(secret, body string) *answer {
	b.t.Helper()
	resp, err := http.DefaultClient.Do(b.request(b.t.Context(), secret, body))
	if err != nil {
		b.t.Fatal(err)
	}
	return readAnswer(resp)
}

func readAnswer(resp *http.Response) *answer {
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	a.id, _ = uuid.Parse(resp.Header.Get("X-Request-Id"))
	var raw []byte
	raw, a.err = io.ReadAll(resp.Body)
	a.raw = string(raw)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		a.take(raw)
		return a
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			a.take([]byte(data))
		}
	}
	return a
}

func (a *answer) take(data []byte) {
	if string(data) == "[DONE]" {
		a.done = true
		return
	}
	var c chunk
	if json.Unmarshal(data, &c) != nil {
		return
	}
	a.chunks = append(a.chunks, c)
	if c.Error != nil {
		a.failure = c.Error
	}
	if c.Usage != nil {
		a.usage = c.Usage
	}
	for _, choice := range c.Choices {
		a.text += choice.Message.Content + choice.Delta.Content
	}
}

// usages reads the whole usage log.
func (b *bench) usages() []events.Usage {
	b.t.Helper()
	end, _, err := b.log.UsageEnd(b.t.Context(), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	if end == 0 {
		return nil
	}
	r := must(b.log.ReadUsage(b.t.Context(), 0, 1))
	defer r.Stop()
	var d events.Decoder
	var all []events.Usage
	for {
		m := must(r.Next(b.t.Context()))
		var bad []events.BadEvent
		all, bad, err = d.Envelope(m.Data, all)
		if err != nil || len(bad) > 0 {
			b.t.Fatalf("envelope %d: %v %v", m.Seq, bad, err)
		}
		if m.Seq == end {
			return all
		}
	}
}

// usage returns the one usage event of a request. It must be there by now.
func (b *bench) usage(id uuid.UUID) events.Usage {
	b.t.Helper()
	u, n := b.find(id)
	if n != 1 {
		b.t.Fatalf("%d usage events for request %s, want 1", n, id)
	}
	return u
}

func (b *bench) find(id uuid.UUID) (u events.Usage, n int) {
	b.t.Helper()
	for _, v := range b.usages() {
		if v.ID == id {
			u = v
			n++
		}
	}
	return u, n
}

// soon waits for the usage event of a request whose client has left.
func (b *bench) soon(id uuid.UUID) events.Usage {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if u, n := b.find(id); n > 0 {
			return u
		}
	}
	b.t.Fatalf("no usage event for request %s", id)
	return events.Usage{}
}

// admitted waits for the admissions of requests: plain answers do not.
func (b *bench) admitted(of ...*answer) {
	b.t.Helper()
	for _, a := range of {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, ok := b.tap.admitted.Load(a.id); ok {
				break
			}
			if time.Now().After(end) {
				b.t.Fatalf("no admission of request %s", a.id)
			}
		}
	}
}

// count is the number of admissions once there are as many as expected, or too long
// has passed.
func (b *bench) count(expected int) int {
	b.t.Helper()
	n := len(b.admissions())
	for end := time.Now().Add(20 * time.Second); n < expected && time.Now().Before(end); n = len(b.admissions()) {
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

// admissions reads the whole stream of admissions.
func (b *bench) admissions() []events.Admission {
	b.t.Helper()
	end := must(b.log.AdmissionsEnd(b.t.Context()))
	if end == 0 {
		return nil
	}
	r := must(b.log.ReadAdmissions(b.t.Context(), 1))
	defer r.Stop()
	var all []events.Admission
	for {
		m := must(r.Next(b.t.Context()))
		all = append(all, m.Admissions...)
		if m.Seq == end {
			return all
		}
	}
}

// The real parts fit where the gateway and the sweeper want them.
var (
	_ gateway.Log        = (*events.Log)(nil)
	_ gateway.Publisher  = (*events.Log)(nil)
	_ gateway.Admissions = (*events.Log)(nil)
	_ gateway.Keys       = (*keys.Set)(nil)
	_ gateway.Catalog    = (*catalog.Catalog)(nil)
	_ keys.Appender      = (*events.Log)(nil)
	_ gateway.RateFunc   = ledger.Rate
	_ gateway.Checkpoint = gateway.FileCheckpoint{}
)
