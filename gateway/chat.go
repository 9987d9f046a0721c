package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/keys"

	"github.com/shopspring/decimal"
)

// producer marks the usage events of this package.
const producer = "gateway"

// sandboxCurrency is written on sandbox usage, which has no price to take one from.
const sandboxCurrency = "CNY"

var zeroCost = decimal.New(0, -events.CostScale)

// exchange is one admitted request on its way.
type exchange struct {
	gateway  *Gateway
	received time.Time // by the machine's monotonic clock: durations are real whatever Config.Now says

	request  *chatRequest
	upstream Upstream
	price    catalog.Price
	estimate events.Usage // every field that is known now; the sweeper bills it as it is

	watch
}

func (g *Gateway) chat(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	id := events.NewID()
	w.Header().Set("X-Request-Id", id.String())
	if !g.acquire() {
		writeError(w, errOverloaded)
		return
	}
	defer g.release()
	key, e := g.authenticate(r, g.config.Now())
	if e != nil {
		writeError(w, e)
		return
	}
	body, e := g.readBody(w, r)
	if e != nil {
		writeError(w, e)
		return
	}
	x := &exchange{gateway: g, received: received, estimate: events.Usage{ID: id}}
	if x.request, e = parseChat(body); e != nil {
		writeError(w, e)
		return
	}
	if e := x.admissible(key); e != nil {
		writeError(w, e)
		return
	}
	x.serve(w, r)
}

// authenticate finds the key of a request and checks that it may chat.
func (g *Gateway) authenticate(r *http.Request, now time.Time) (keys.Key, *apiError) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return keys.Key{}, errNoKey
	}
	key, err := g.config.Keys.Verify(secret, now)
	if err != nil {
		return keys.Key{}, keyError(secret, err)
	}
	if !key.Has(keys.ScopeChat) {
		return keys.Key{}, scopeError(keys.ScopeChat)
	}
	return key, nil
}

// admissible decides whether the request is let in, and stamps what the decision
// rests on: model, price version and time.
func (x *exchange) admissible(key keys.Key) *apiError {
	g, id, name := x.gateway, x.estimate.ID, x.request.model
	model, ok := g.config.Catalog.Resolve(name)
	if !ok || !model.Enabled {
		return modelNotFound(name)
	}
	if !key.AllowsModel(model.ID) {
		return modelNotAllowed(name)
	}
	if x.upstream, ok = g.route(model.ID, key.Sandbox); !ok {
		return modelUnavailable(name, "no_upstream", "no provider is configured for it")
	}
	// The log keeps milliseconds; the price must be the one in force at the very
	// instant that is recorded.
	at := g.config.Now().UTC().Truncate(time.Millisecond)
	currency := sandboxCurrency
	if !key.Sandbox {
		var err error
		x.price, err = g.config.Catalog.PriceAt(model.ID, at)
		if errors.Is(err, catalog.ErrNoPrice) {
			return modelUnavailable(name, "model_not_priced", "it has no price in force")
		}
		if err != nil {
			x.log().Error("find the price", "model", model.ID, "error", err)
			return errInternal
		}
		currency = x.price.Currency
	}
	x.estimate = events.Usage{
		ID: id, OperationID: id, OrgID: key.OrgID, TeamID: key.TeamID, KeyID: key.ID,
		Model: model.ID, Provider: x.upstream.Name, PriceVersion: x.price.Version, Currency: currency,
		OccurredAt: at, Tokens: events.Tokens{Input: x.request.promptTokens},
		Outcome: events.OutcomeAbandoned, Source: events.SourceEstimated,
		Stream: x.request.stream, Sandbox: key.Sandbox, Producer: producer,
	}
	// A request whose abandonment could not be billed is not let in.
	err := x.rate(&x.estimate)
	if err == nil {
		err = x.estimate.Validate()
	}
	if err != nil {
		x.log().Error("estimate the cost", "model", model.ID, "error", err)
		return errInternal
	}
	return nil
}

// route finds the upstream of a model, with its Model always set.
func (g *Gateway) route(model string, sandbox bool) (Upstream, bool) {
	u, ok := g.config.Routes[model]
	switch {
	case sandbox:
		u = g.config.Sandbox
	case !ok:
		u = g.config.Default
	}
	if u.Model == "" {
		u.Model = model
	}
	return u, u.BaseURL != ""
}

// serve runs the admission and the upstream call at once, and relays only when
// both are there.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	x.watch.start(r.Context(), x.gateway.config.Timeouts)
	defer x.watch.stop()
	admitted := make(chan error, 1)
	go func() {
		err := x.admit(r.Context())
		if err != nil {
			x.watch.cancel(err) // nothing the upstream sends can be used now
		}
		admitted <- err
	}()
	resp, callErr := x.call()
	if callErr == nil {
		defer resp.Body.Close()
	}
	if err := <-admitted; err != nil {
		x.refuse(w, err)
		return
	}
	switch {
	case callErr != nil:
		x.fail(w, x.failure(callErr), result{nothing: true})
	case resp.StatusCode != http.StatusOK:
		x.fail(w, x.statusFailure(resp), result{nothing: true, status: resp.StatusCode})
	case x.request.stream:
		x.relayStream(w, resp)
	default:
		x.relayPlain(w, resp)
	}
}

// admit makes the admission durable, whether or not the client is still there.
func (x *exchange) admit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.gateway.config.Timeouts.Admit)
	defer cancel()
	return x.gateway.config.Log.Admit(ctx, events.Admission{ID: x.estimate.ID, Estimate: x.estimate, Deadline: x.gateway.deadline})
}

// refuse answers a request whose admission the log did not confirm. The client
// has its answer at once; only then is the admission, which may be in the log
// all the same, settled at nothing. If that fails too the sweeper bills the
// prompt, as for any request the log knows to be admitted and no more.
func (x *exchange) refuse(w http.ResponseWriter, err error) {
	x.log().Error("the admission is not durable, the request is refused", "error", err)
	writeError(w, errNotDurable)
	_ = http.NewResponseController(w).Flush() // best effort: the end of the handler flushes too
	_ = x.settle(result{outcome: events.OutcomeUpstreamError, nothing: true})
}

// fail settles a request of which the client has received nothing, and answers.
func (x *exchange) fail(w http.ResponseWriter, f failure, r result) {
	r.outcome = f.outcome
	x.log().Warn("the upstream failed", "upstream", x.upstream, "status", r.status, "outcome", f.outcome, "error", f.cause)
	if err := x.settle(r); err != nil && f.answer.status < http.StatusInternalServerError {
		writeError(w, errNotDurable)
		return
	}
	writeError(w, f.answer)
}

// log names the request on every line.
func (x *exchange) log() *slog.Logger {
	return x.gateway.logger.With("request_id", x.estimate.ID)
}

func (x *exchange) sinceReceivedMS() uint32 {
	ms := time.Since(x.received).Milliseconds()
	return uint32(min(max(ms, 0), math.MaxUint32))
}
