package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aione/admission"
	"aione/analytics"
	"aione/billing"
	"aione/catalog"
	"aione/embedded"
	"aione/events"
	"aione/keys"
	"aione/ledger"
	"aione/webhooks"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // documents and contracts stay, and are many small objects
	os.Exit(embedded.TestMain(m, "TestAMonthOfFinance", "TestDaysAddUpToTheInvoice", "TestInvoiceRunPlanAndAccount", "TestUsageDaysAreTheOrgs", "TestWatermark"))
}

// clock is the test's time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// rig is the platform of one test, made of its real parts: log, read models, rows
// and server.
type rig struct {
	t     testing.TB
	ctx   context.Context
	clock *clock

	engines    *embedded.Engines
	log        *events.Log
	book       *billing.Book
	catalog    *catalog.Catalog
	keys       *keys.Set
	commands   billing.Commands
	projection analytics.Projection
	invoicer   *billing.Invoicer
	limiter    *admission.Limiter

	config Config
	server *httptest.Server
	logged *syncBuffer
}

// syncBuffer is a log that a test may read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var testNow = time.Date(2026, 11, 15, 4, 30, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newRig starts everything; change may set up the server differently.
func newRig(t testing.TB, engines *embedded.Engines, change ...func(*Config)) *rig {
	t.Helper()
	return newBoundedRig(t, engines, keys.Bounds{}, change...)
}

// newBoundedRig is newRig with other bounds of an org's keys.
func newBoundedRig(t testing.TB, engines *embedded.Engines, bounds keys.Bounds, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{now: testNow}, engines: engines, logged: &syncBuffer{}}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	r.ctx = ctx
	nc := must(engines.NATS.Conn())
	r.log = must(events.Open(ctx, nc, events.Options{}))
	r.book, r.catalog = billing.NewBook(), catalog.New()
	pepper := keys.Pepper{Version: 1, Secret: bytes.Repeat([]byte{7}, 32)}
	r.keys = must(keys.NewSet(keys.Config{Now: r.clock.Now, Peppers: []keys.Pepper{pepper}, Bounds: bounds}))
	hooks := must(webhooks.NewBook([]string{"invoice.issued"}, func(events.Record) (webhooks.Event, bool) { return webhooks.Event{}, false }))
	r.commands = billing.Commands{Log: r.log, Book: r.book, Prices: r.catalog}
	r.limiter = must(admission.New(admission.Config{Zones: r.book, Now: r.clock.Now}))
	if err := r.limiter.Restore(ctx, admission.History{}); err != nil {
		t.Fatal(err)
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		_ = r.log.Follow(ctx, 1, func(rec events.Record) error {
			if err := r.book.Apply(rec); err != nil {
				return err
			}
			if err := r.catalog.Apply(rec); err != nil {
				return err
			}
			if err := hooks.Apply(rec); err != nil {
				return err
			}
			if err := r.limiter.Apply(rec); err != nil {
				return err
			}
			return r.keys.Apply(rec)
		})
	}()
	checks := []Check{LogCheck(r.log), FollowerCheck("ledger", r.log, r.book)}
	var collectors []prometheus.Collector
	if engines.DSN != "" {
		store := must(analytics.Open(ctx, engines.DSN, nil))
		r.projection = analytics.Projection{Store: store, Log: r.log}
		checks = append(checks, PingCheck("clickhouse", store.Ping))
		collectors = append(collectors, NewMeteringCollector(r.projection, r.log))
		t.Cleanup(func() { store.Close() })
	}
	r.invoicer = &billing.Invoicer{Log: r.log, Book: r.book, Prices: r.catalog, Usage: r.projection, Clock: r.clock.Now}
	r.config = Config{
		Keys: r.keys, Orgs: r.book, Books: r.book, Accounts: r.book, Profiles: r.book, Finance: r.commands, PlanCatalog: r.book, Upcoming: r.invoicer, Usage: r.projection, Catalog: r.catalog, Log: r.log,
		KeyCommands: r.keys, Plans: r.book, Tenants: r.commands, Assigner: r.commands, PriceList: r.catalog, InvoiceRun: r.invoicer, Ledger: r.log,
		Budgets: admission.Commands{Log: r.log, Limiter: r.limiter}, Standings: r.limiter,
		Webhooks: hooks, WebhookCommands: webhooks.Commands{Log: r.log, Book: hooks, Secrets: must(webhooks.NewSecrets(pepper)), Destinations: webhooks.Destinations{AllowLoopback: true}},
		Now: r.clock.Now, Logger: slog.New(slog.NewTextHandler(r.logged, nil)), Checks: checks, Collectors: collectors,
	}
	for _, c := range change {
		c(&r.config)
	}
	api := must(New(r.config))
	r.server = httptest.NewServer(api)
	client := r.server.Client() // every answer of every test is held against the document
	client.Transport = &checked{t: t, next: client.Transport, contract: must(contractOf(must(api.document())))}
	t.Cleanup(func() {
		r.server.Close()
		cancel()
		<-followed
		r.log.Close(context.Background())
		nc.Close()
	})
	r.install()
	return r
}

// install puts two models with prices into the catalog: gpt-4o (two versions),
// claude-haiku-4-5 (alias haiku-4-5), and one priced in dollars.
func (r *rig) install() {
	r.t.Helper()
	by := catalog.By{Actor: "test", At: r.clock.Now()}
	starter := slices.DeleteFunc(catalog.Starter(), func(e catalog.StarterEntry) bool {
		return !slices.Contains([]string{"gpt-4o", "gpt-4o-mini", "claude-haiku-4-5"}, e.Model.ID)
	})
	if _, err := r.catalog.Install(r.ctx, r.log, starter, by); err != nil {
		r.t.Fatal(err)
	}
	dollars := starter[0]
	dollars.Model.ID, dollars.Price.Model, dollars.Price.Currency = "dollar-model", "dollar-model", "USD"
	if _, err := r.catalog.Install(r.ctx, r.log, []catalog.StarterEntry{dollars}, by); err != nil {
		r.t.Fatal(err)
	}
	late := dollars
	late.Model.ID, late.Price.Model, late.Price.Currency = "new-model", "new-model", "CNY"
	late.Price.EffectiveFrom = testNow.AddDate(0, 0, -1)
	if _, err := r.catalog.Install(r.ctx, r.log, []catalog.StarterEntry{late}, by); err != nil {
		r.t.Fatal(err)
	}
}

// tenant is an org with a team and tokens.
type tenant struct {
	org    billing.Org
	team   billing.Team
	token  string // usage:read, billing:read
	ingest string
	key    *keys.Key // a chat key
	chat   string    // its secret
}

func (r *rig) tenant(name, zone string) tenant {
	r.t.Helper()
	by := billing.By{Actor: "test", At: r.clock.Now()}
	var x tenant
	x.org = must(r.commands.CreateOrg(r.ctx, billing.Org{ID: events.NewID(), Name: name, Timezone: zone}, by))
	x.team = must(r.commands.CreateTeam(r.ctx, billing.Team{ID: events.NewID(), OrgID: x.org.ID, Name: name + " research"}, by))
	x.token = r.token(x, keys.ScopeUsageRead, keys.ScopeBillingRead)
	x.ingest = r.token(x, keys.ScopeIngest)
	var err error
	x.key, x.chat, err = r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, TeamID: x.team.ID, Name: "chat", Actor: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	return x
}

func (r *rig) token(x tenant, scopes ...keys.Scope) string {
	r.t.Helper()
	_, secret, err := r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, TeamID: x.team.ID, Name: "token", Scopes: scopes, Actor: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

// usageOf makes a plausible event that the org's own prices give.
func (r *rig) usageOf(x tenant, model string, at time.Time, tokens events.Tokens) events.Usage {
	r.t.Helper()
	price := must(r.catalog.PriceAt(model, at))
	return events.Usage{
		ID: events.NewID(), OrgID: x.org.ID, TeamID: x.team.ID, KeyID: x.key.ID,
		Model: model, Provider: "simulator", PriceVersion: price.Version, Currency: price.Currency,
		OccurredAt: at.Truncate(time.Millisecond), Tokens: tokens, Cost: must(ledger.Rate(price, tokens, 0)),
		Outcome: events.OutcomeCompleted, Source: events.SourceReported, HTTPStatus: 200,
		LatencyMS: 400, TTFTMS: 100, Producer: "gateway",
	}
}

func (r *rig) publish(us ...events.Usage) {
	r.t.Helper()
	if err := r.log.Publish(r.ctx, us); err != nil {
		r.t.Fatal(err)
	}
}

// ingest counts everything that is in the log.
func (r *rig) ingest() {
	r.t.Helper()
	end, _, err := r.log.UsageEnd(r.ctx, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	in := &analytics.Ingester{Log: r.log, Store: r.projection.Store, Until: end, BatchAge: 5 * time.Millisecond}
	if err := in.Run(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

// ingesting counts what is published until the function it returns is called.
func (r *rig) ingesting() (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := &analytics.Ingester{Log: r.log, Store: r.projection.Store, BatchAge: 5 * time.Millisecond}
		if err := in.Run(ctx); ctx.Err() == nil {
			r.t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("decode %s: %v", a.body, err)
	}
}

func (r *rig) do(method, path, token, body string, headers ...string) answer {
	r.t.Helper()
	a, err := r.try(method, path, token, body, headers...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (r *rig) try(method, path, token, body string, headers ...string) (answer, error) {
	req := must(http.NewRequestWithContext(r.ctx, method, r.server.URL+path, strings.NewReader(body)))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if _, err := uuid.Parse(resp.Header.Get("X-Request-Id")); err != nil {
		r.t.Errorf("%s %s has the request id %q", method, path, resp.Header.Get("X-Request-Id"))
	}
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func (r *rig) get(path, token string, headers ...string) answer {
	r.t.Helper()
	return r.do(http.MethodGet, path, token, "", headers...)
}

func byTest(r *rig) billing.By { return billing.By{Actor: "test", At: r.clock.Now()} }

func teamOf(x tenant, name string) billing.Team {
	return billing.Team{ID: events.NewID(), OrgID: x.org.ID, Name: name}
}
