package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aione/analytics"
	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
)

func TestUnknownRoutesAndMethods(t *testing.T) {
	gateway := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "018f0000-0000-7000-8000-000000000000")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "gateway "+r.URL.Path)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("the gateway cannot flush: %v", err)
		}
	})
	r := newRig(t, embedded.Open(t), func(c *Config) { c.Gateway = gateway })
	x := r.tenant("acme", "")
	for _, c := range []struct {
		method, path string
		status       int
		body, allow  string
	}{
		{"GET", "/", 404, `{"detail":"not found"}`, ""},
		{"GET", "/api/v1/nothing", 404, `{"detail":"not found"}`, ""},
		{"GET", "/v1", 404, `{"detail":"not found"}`, ""},
		{"DELETE", "/api/v1/billing/invoices", 405, `{"detail":"method not allowed"}`, "GET"},
		{"GET", "/api/v1/events", 405, `{"detail":"method not allowed"}`, "POST"},
		{"POST", "/healthz", 405, `{"detail":"method not allowed"}`, "GET"},
		{"GET", "/healthz", 200, `{"status":"ok"}`, ""},
		{"HEAD", "/healthz", 200, ``, ""},
		{"GET", "/readyz", 200, `{"status":"ready","checks":{"clickhouse":"ok","ledger":"ok","log":"ok"}}`, ""},
		{"POST", "/v1/chat/completions", 418, "gateway /v1/chat/completions", ""},
		{"POST", "/v1beta/models/x:generateContent", 418, "gateway /v1beta/models/x:generateContent", ""},
	} {
		a := r.do(c.method, c.path, "", "")
		if a.status != c.status || !sameJSON(a.body, c.body) || a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s = %d %s, allow %q", c.method, c.path, a.status, a.body, a.header.Get("Allow"))
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s has headers %v", c.method, c.path, a.header)
		}
	}
	if a := r.do("POST", "/v1/x", "", ""); a.header.Get("X-Request-Id") != "018f0000-0000-7000-8000-000000000000" {
		t.Errorf("the gateway's request id is replaced by %s", a.header.Get("X-Request-Id"))
	}
	a := r.get("/api/v1/obs/usage", x.token)
	b := r.get("/api/v1/obs/usage", x.token, "X-Request-Id", a.header.Get("X-Request-Id"))
	if a.header.Get("X-Request-Id") == b.header.Get("X-Request-Id") {
		t.Error("a client chooses its request id")
	}
	metrics := r.get("/metrics", "").body
	for _, want := range []string{
		`aione_http_requests_total{method="POST",route="/v1/*",status="418"} 2`,
		`aione_http_requests_total{method="GET",route="none",status="404"} 3`,
		`aione_http_requests_total{method="GET",route="/api/v1/obs/usage",status="200"} 2`,
		`aione_http_request_duration_seconds_count{route="/api/v1/obs/usage"} 2`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s:\n%s", want, metrics)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	return string(must(json.Marshal(x))) == string(must(json.Marshal(y)))
}

// brokenUsage fails as it is told to; nothing real can be made to.
type brokenUsage struct {
	Usage
	each  func(each func(analytics.UsageRow, uint64) error) error
	watch func(ctx context.Context) error
}

func (b brokenUsage) EachUsage(_ context.Context, _ analytics.UsageQuery, each func(analytics.UsageRow, uint64) error) error {
	return b.each(each)
}

func (b brokenUsage) Watermark(ctx context.Context, _ uuid.UUID) (analytics.Watermark, error) {
	return analytics.Watermark{}, b.watch(ctx)
}

func TestFaultsDoNotLeak(t *testing.T) {
	var each func(func(analytics.UsageRow, uint64) error) error
	watch := func(context.Context) error { return nil }
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) {
		c.Usage = brokenUsage{
			each:  func(f func(analytics.UsageRow, uint64) error) error { return each(f) },
			watch: func(ctx context.Context) error { return watch(ctx) },
		}
		c.Limits.AnswerWithin = 50 * time.Millisecond
	})
	x := r.tenant("acme", "")
	const path = "/api/v1/obs/usage"

	each = func(func(analytics.UsageRow, uint64) error) error { panic("the password is hunter2") }
	a := r.get(path, x.token)
	if a.status != http.StatusInternalServerError || a.body != `{"detail":"internal error"}` {
		t.Errorf("a panic = %d %s", a.status, a.body)
	}
	if log := r.logged.String(); !strings.Contains(log, a.header.Get("X-Request-Id")) || !strings.Contains(log, "hunter2") {
		t.Errorf("the log does not name the panic: %s", log)
	}

	// Half an export must not look like a whole one.
	each = func(f func(analytics.UsageRow, uint64) error) error {
		for range 10_000 {
			if err := f(analytics.UsageRow{}, 20_000); err != nil {
				return err
			}
		}
		return errors.New("the connection broke")
	}
	if a, err := r.try("GET", path, x.token, "", "Accept", "text/csv"); err == nil {
		t.Errorf("an export that broke off ends well, with %d bytes", len(a.body))
	}

	watch = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	if a := r.get(path, x.token); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("no answer in time = %d %s", a.status, a.body)
	}
}

func TestQueriesTakeTurns(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) {
		c.Limits.QueriesAtOnce, c.Limits.QueriesPerOrg = 2, 1
		c.Usage = brokenUsage{
			each:  func(func(analytics.UsageRow, uint64) error) error { return nil },
			watch: func(context.Context) error { entered <- struct{}{}; <-leave; return nil },
		}
	})
	x, y, z := r.tenant("acme", ""), r.tenant("rival", ""), r.tenant("third", "")
	const path = "/api/v1/obs/usage"
	done := make(chan answer)
	for _, token := range []string{x.token, y.token} {
		go func() { done <- r.get(path, token) }()
		<-entered
	}
	if a := r.get(path, x.token); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("a second question of one org = %d %s", a.status, a.body)
	}
	if a := r.get(path, z.token); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a third question of all = %d %s", a.status, a.body)
	}
	close(leave)
	for range 2 {
		if a := <-done; a.status != http.StatusOK {
			t.Errorf("one in turn = %d %s", a.status, a.body)
		}
	}
	go func() { <-entered }()
	if a := r.get(path, z.token); a.status != http.StatusOK {
		t.Errorf("a turn given back = %d %s", a.status, a.body)
	}
}

func TestErrorsAreTranslated(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	s := must(New(r.config))
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("a secret detail"), 500},
		{&http.MaxBytesError{Limit: 3}, 413},
		{context.DeadlineExceeded, 503},
		{unavailable(context.DeadlineExceeded), 503},
		{keys.ErrUnknownKey, 404},
		{keys.ErrTooManyKeys, 409},
		{unauthenticated("no"), 401},
		{publishError(context.DeadlineExceeded), 503},
		{events.ErrFull, 503},
		{invalid("x", "y", "query", "z"), 422},
	} {
		w := httptest.NewRecorder()
		s.handle(func(http.ResponseWriter, *http.Request) error { return c.err })(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != c.want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: %d %s, want %d", c.err, w.Code, w.Body, c.want)
		}
	}
}

func TestNewWantsItsParts(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a server of nothing")
	}
}

func TestFollowerCheck(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	r.tenant("acme", "")
	if err := FollowerCheck("ledger", r.log, r.book).Run(r.ctx); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Millisecond)
	defer cancel()
	if err := FollowerCheck("ledger", r.log, billing.NewBook()).Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a book that nobody feeds: %v", err)
	}
}

// serve answers a request without a network.
func serve(s *Server, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}
