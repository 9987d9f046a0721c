// Package gateway serves chat requests in the dialects of OpenAI, Anthropic and
// Gemini: it authenticates, admits, relays to an upstream provider, meters and
// settles.
//
// The order of things is what makes the bill provable:
//
//	authenticate → place → model, price, context → limits → admission ┐ (both at once)
//	                                                        upstream  ┘
//	admission durable → first byte of the answer → … → usage durable → last byte
//
// Invariants: no byte of an upstream's answer reaches the client before the
// request's admission is durable, and the end of the answer (the whole of a plain
// one; the finish and the usage of a stream) not before its usage is. (If only the
// admission fails, after the whole of a plain answer was there, the usage stands for
// both: what is billed is delivered.) A request
// has one id, minted here, and one usage event with that id, whatever becomes of
// the client. An attempt at an upstream that failed before the client had
// received anything has an event of its own, free of charge, with the request's
// id as its operation; it becomes durable together with the request's. If the
// event cannot be made durable in time the answer ends in an error and the
// admission stays for the Sweeper. A model without a price is refused, never
// free; what the limits refuse, what the model's context cannot hold, and what
// the tokens would not tell (see unmetered) leaves no trace in the log.
//
// A request passes through to an upstream of its own dialect: all that changes is
// the model's name and that a stream's usage is asked for, and all that is left
// out of the answer is a usage chunk nobody asked for. To an upstream of another
// dialect it is translated: from OpenAI's (see translation), to OpenAI's, or by way
// of it (see via). What cannot be said there is refused by name. Which upstream of
// several serves a request is up to their weights, whatever they speak. An
// upstream's redirects are not followed and its headers are not passed on.
//
// The package never computes prices (Config.Rate does), keeps no limits
// (Config.Limiter does), and never logs a key, its own or a provider's.
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aione/events"

	"github.com/go-chi/chi/v5"
)

// Gateway serves the chat routes. It is safe for concurrent use.
type Gateway struct {
	config   Config
	routes   atomic.Pointer[routes]
	deadline time.Duration // of every admission
	logger   *slog.Logger

	rerouting sync.Mutex

	shares  shares
	refused refusals

	mu       sync.Mutex
	inFlight int
	closed   bool
	idle     chan struct{} // closed when closed is set and nothing is in flight
}

// New checks the configuration and makes a gateway.
func New(c Config) (*Gateway, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	deadline := c.Timeouts.deadline()
	if deadline > events.MaxDeadline {
		return nil, fmt.Errorf("gateway: the timeouts add up to %s, more than the %s an admission may last", deadline, events.MaxDeadline)
	}
	g := &Gateway{config: c, deadline: deadline, logger: c.Logger, idle: make(chan struct{})}
	g.routes.Store(&routes{})
	if err := g.Reroute(c.Routing); err != nil {
		return nil, err
	}
	return g, nil
}

// Reroute replaces who serves which model, for requests that are not yet let in.
// An upstream that stays keeps the state of its circuit. If r is refused,
// everything stays as it was.
func (g *Gateway) Reroute(r Routing) error {
	g.rerouting.Lock()
	defer g.rerouting.Unlock()
	next, err := newRoutes(&g.config, r, g.routes.Load().circuits)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	g.routes.Store(next)
	return nil
}

// Routes is the gateway as a handler of its own, errors for unknown routes
// included.
func (g *Gateway) Routes() http.Handler {
	r := chi.NewRouter()
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, clientOf(r), &apiError{status: http.StatusNotFound, typ: typeInvalidRequest, code: "unknown_url",
			message: fmt.Sprintf("Unknown request URL: %s %s.", r.Method, shown(r.URL.Path))})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, clientOf(r), &apiError{status: http.StatusMethodNotAllowed, typ: typeInvalidRequest, code: "method_not_allowed",
			message: fmt.Sprintf("Not allowed to %s on %s.", r.Method, shown(r.URL.Path))})
	})
	g.Mount(r)
	return r
}

// Mount adds the gateway's routes to a router.
func (g *Gateway) Mount(r chi.Router) {
	r.Post("/v1/chat/completions", g.serve(openAI{}))
	r.Post("/v1/messages", g.serve(anthropic{}))
	r.Post("/v1beta/models/*", g.serve(gemini{}))
	r.Post("/v1/models/*", g.serve(gemini{})) // where Google's newer clients ask
	r.Get("/v1/models", g.models)
}

// clientOf guesses whose client asks for something that is not there.
func clientOf(r *http.Request) client {
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1beta/"), r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/models/"):
		return gemini{}
	case strings.HasPrefix(r.URL.Path, "/v1/messages"):
		return anthropic{}
	default:
		return openAI{}
	}
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
