// Package gateway serves chat requests in the dialect of OpenAI: it
// authenticates, admits, relays to an upstream provider, meters and settles.
//
// The order of things is what makes the bill provable:
//
//	authenticate → model, price → admission ┐ (both at once)
//	                              upstream  ┘
//	admission durable → first byte of the answer → … → usage durable → last byte
//
// Invariants: no byte of an upstream's answer reaches the client before the
// request's admission is durable, and the end of the answer (the whole of a plain
// one; the finish, the usage and [DONE] of a stream) not before its usage is. A
// request has one id, minted here, and one usage event, whatever becomes of the
// client. If the event cannot be made durable in time the answer ends in an error
// and the admission stays for the Sweeper. A model without a price is refused,
// never free.
//
// The package never edits an answer beyond leaving out a usage chunk that was
// not asked for, never retries a request at another provider, never computes
// prices (Config.Rate does), and never logs a key, its own or a provider's.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/keys"

	"github.com/go-chi/chi/v5"
	"github.com/shopspring/decimal"
)

// Log is where admissions and usage become durable: events.Log. A nil error
// means fsynced; any other may mean that the event is in the log all the same.
type Log interface {
	Admit(ctx context.Context, a events.Admission) error
	Publish(ctx context.Context, us []events.Usage) error
}

// Keys says whose key a secret is: keys.Set.
type Keys interface {
	Verify(secret string, now time.Time) (keys.Key, error)
}

// Catalog says what can be called and what it costs: catalog.Catalog.
type Catalog interface {
	// Resolve turns a name a client may send, standard id or alias, into a model.
	Resolve(name string) (catalog.Model, bool)
	// PriceAt returns catalog.ErrNoPrice when no price of the model is in force.
	PriceAt(model string, at time.Time) (catalog.Price, error)
	Models() []catalog.Model
}

// RateFunc computes the exact cost of tokens and images at a price.
type RateFunc func(p catalog.Price, t events.Tokens, images uint64) (decimal.Decimal, error)

// Upstream is a provider that serves models in the dialect of OpenAI.
type Upstream struct {
	Name    string // recorded as the provider of each usage event
	BaseURL string // up to and with the version, e.g. https://api.openai.com/v1
	APIKey  string // sent as Bearer token; empty sends none
	Model   string // what this upstream calls the model; empty means its standard id
}

// LogValue never logs the API key.
func (u Upstream) LogValue() slog.Value { return slog.StringValue(u.Name + " at " + u.BaseURL) }

// Format never prints the API key, whatever the verb.
func (u Upstream) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s at %s", u.Name, u.BaseURL) }

// Config of a Gateway. Log, Keys, Catalog, Rate and Sandbox are required.
type Config struct {
	Log     Log
	Keys    Keys
	Catalog Catalog
	Rate    RateFunc

	Routes  map[string]Upstream // by standard model id
	Default Upstream            // for models without a route; without BaseURL there is none
	Sandbox Upstream            // the simulated provider: where sandbox keys go, always

	BodyBytesMax   int64 // of a request; default 16 MiB
	AnswerBytesMax int64 // of a plain answer; default 64 MiB
	EventBytesMax  int   // of one event of a stream; default 8 MiB
	MaxInFlight    int   // requests at once, drained ones too; default 4096

	Timeouts Timeouts

	Transport http.RoundTripper // to the upstreams; default one tuned for many streams
	Now       func() time.Time  // default time.Now; stamps events; durations are measured by the machine's own clock
	Logger    *slog.Logger      // default slog.Default()
}

// Timeouts bound every wait of the gateway, so that the Deadline of an admission
// is a promise: after it the gateway has given up for certain.
type Timeouts struct {
	Body      time.Duration // reading the request; default 1 min
	FirstByte time.Duration // request sent to first byte of the answer; default 3 min
	Idle      time.Duration // between two pieces of an answer; default 1 min
	Total     time.Duration // request sent to last byte; default 15 min
	Drain     time.Duration // reading on after the client has left; default 1 min
	Write     time.Duration // one write to a client; then it counts as gone; default 30 s
	Admit     time.Duration // making the admission durable; default 10 s
	Publish   time.Duration // making the usage durable, retries included; default 10 s
}

// settleMargin covers what a gateway's own bounds do not: an event that the log
// still writes after we stopped waiting for it (events.Options.ConfirmWithin must
// be well below), and clocks that differ.
const settleMargin = 2 * time.Minute

// Gateway serves the chat routes. It is safe for concurrent use.
type Gateway struct {
	config   Config
	deadline time.Duration // of every admission
	logger   *slog.Logger

	mu       sync.Mutex
	inFlight int
	closed   bool
	idle     chan struct{} // closed when closed is set and nothing is in flight
}

// New checks the configuration and makes a gateway.
func New(c Config) (*Gateway, error) {
	if c.Log == nil || c.Keys == nil || c.Catalog == nil || c.Rate == nil || c.Sandbox.BaseURL == "" {
		return nil, errors.New("gateway: Log, Keys, Catalog, Rate and Sandbox are required")
	}
	for model, u := range c.Routes {
		if u.Name == "" || u.BaseURL == "" {
			return nil, fmt.Errorf("gateway: the route of %s needs a name and a base URL", model)
		}
	}
	c.BodyBytesMax = orDefault(c.BodyBytesMax, 16<<20)
	c.AnswerBytesMax = orDefault(c.AnswerBytesMax, 64<<20)
	c.EventBytesMax = orDefault(c.EventBytesMax, 8<<20)
	c.MaxInFlight = orDefault(c.MaxInFlight, 4096)
	t := &c.Timeouts
	t.Body = orDefault(t.Body, time.Minute)
	t.FirstByte = orDefault(t.FirstByte, 3*time.Minute)
	t.Idle = orDefault(t.Idle, time.Minute)
	t.Total = orDefault(t.Total, 15*time.Minute)
	t.Drain = orDefault(t.Drain, time.Minute)
	t.Write = orDefault(t.Write, 30*time.Second)
	t.Admit = orDefault(t.Admit, 10*time.Second)
	t.Publish = orDefault(t.Publish, 10*time.Second)
	if c.Transport == nil {
		c.Transport = newTransport(c.MaxInFlight)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	deadline := t.Total + t.Drain + 2*t.Write + t.Admit + t.Publish + settleMargin
	if deadline > events.MaxDeadline {
		return nil, fmt.Errorf("gateway: the timeouts add up to %s, more than the %s an admission may last", deadline, events.MaxDeadline)
	}
	return &Gateway{config: c, deadline: deadline, logger: c.Logger, idle: make(chan struct{})}, nil
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// newTransport keeps a connection for every request in flight: the default of
// two per host would dial anew for nearly every request.
func newTransport(maxInFlight int) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: maxInFlight,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		ReadBufferSize:      16 << 10,
		DisableCompression:  true, // answers pass through as they are
	}
}

// Routes is the gateway as a handler of its own, errors for unknown routes
// included.
func (g *Gateway) Routes() http.Handler {
	r := chi.NewRouter()
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, typ: typeInvalidRequest, code: "unknown_url",
			message: fmt.Sprintf("Unknown request URL: %s %s.", r.Method, r.URL.Path)})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusMethodNotAllowed, typ: typeInvalidRequest, code: "method_not_allowed",
			message: fmt.Sprintf("Not allowed to %s on %s.", r.Method, r.URL.Path)})
	})
	g.Mount(r)
	return r
}

// Mount adds the gateway's routes to a router.
func (g *Gateway) Mount(r chi.Router) {
	r.Post("/v1/chat/completions", g.chat)
	r.Get("/v1/models", g.models)
}

// Close refuses new requests and waits until those in flight are settled, or ctx
// ends. Close the HTTP server first and the event log after. It is idempotent.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.inFlight == 0 {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.idle:
	case <-ctx.Done():
		return fmt.Errorf("close the gateway: requests are still in flight: %w", ctx.Err())
	}
	if t, ok := g.config.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return nil
}

// acquire takes a place for one request; it is held until the request is settled.
func (g *Gateway) acquire() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.inFlight >= g.config.MaxInFlight {
		return false
	}
	g.inFlight++
	return true
}

func (g *Gateway) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	if g.closed && g.inFlight == 0 {
		close(g.idle)
	}
}
