package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
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

// exchange is one request on its way.
type exchange struct {
	gateway  *Gateway
	client   client
	received time.Time // by the machine's monotonic clock: durations are real whatever Config.Now says
	judged   time.Time // by Config.Now: when it is decided whether it may be let in

	request   *request
	model     catalog.Model
	providers []*provider // that can serve it
	price     catalog.Price
	estimate  events.Usage // every field that is known at admission; the sweeper bills it as it is
	hold      Hold         // nil when there are no limits, or it is settled

	admitted func() error // waits for the admission
	attempt  *attempt     // the present one
	tried    []*provider
	failed   []events.Usage // of the attempts before
	billed   events.Tokens  // once it is settled

	// brokenOff: the client was taken for gone in the middle of a stream. If it only
	// stopped sending, or was slow, it may still read, and what it has must not end
	// like a whole answer.
	brokenOff bool

	watch
}

// serve is the route of a client's dialect.
func (g *Gateway) serve(c client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{gateway: g, client: c, received: time.Now(), estimate: events.Usage{ID: events.NewID()}}
		name := x.estimate.ID.String()
		w.Header().Set("X-Request-Id", name)
		if c.dialect() == DialectAnthropic { // its own clients look for it there
			w.Header().Set("Request-Id", name)
		}
		key, leave, e := g.place(c, r)
		if e != nil {
			g.leaveUnread(w)
			writeError(w, c, e)
			return
		}
		defer leave()
		if e := x.enter(w, r, key); e != nil {
			writeError(w, c, e)
			return
		}
		x.run(w, r)
		if x.brokenOff {
			panic(http.ErrAbortHandler) // net/http cuts the connection
		}
	}
}

// place takes a place among the requests of the key's org, and then one among all: so
// what is turned away never stands in another org's way. It has not cost more than
// its header.
func (g *Gateway) place(c client, r *http.Request) (key *keys.Key, leave func(), e *apiError) {
	if key, e = g.authenticate(c, r, g.config.Now()); e != nil {
		return key, nil, e
	}
	if !g.shares.take(key.OrgID, g.config.OrgInFlightMax) {
		g.refused.org.Add(1)
		return key, nil, errShare
	}
	if !g.acquire() {
		g.shares.giveBack(key.OrgID)
		g.refused.all.Add(1)
		return key, nil, errOverloaded
	}
	return key, func() { g.shares.giveBack(key.OrgID); g.release() }, nil
}

// enter decides whether the request is let in. Nothing is recorded before it is.
func (x *exchange) enter(w http.ResponseWriter, r *http.Request, key *keys.Key) *apiError {
	body, e := x.gateway.readBody(w, r)
	if e != nil {
		return e
	}
	if x.request, e = x.client.parse(r, body); e != nil {
		return e
	}
	if e := x.admissible(key); e != nil {
		return e
	}
	if e := x.fits(); e != nil {
		return e
	}
	if e := x.reserve(r.Context(), key, w.Header()); e != nil {
		return e
	}
	if x.attempt = x.choose(x.providers); x.attempt == nil {
		x.settleHold(events.Usage{Cost: zeroCost})
		e := *modelUnavailable(x.request.model, "upstream_unavailable", "its providers are failing")
		e.retryAfter = int(max(x.gateway.config.Breaker.OpenFor/time.Second, 1))
		return &e
	}
	x.estimate.Provider = x.attempt.Name
	return nil
}

// admissible checks what is asked for, and stamps what the decision rests on:
// model, price version and time.
func (x *exchange) admissible(key *keys.Key) *apiError {
	g, id, name := x.gateway, x.estimate.ID, x.request.model
	var ok bool
	if x.model, ok = g.config.Catalog.Resolve(name); !ok || !x.model.Enabled {
		return modelNotFound(name)
	}
	if !g.allows(key, x.model.ID) {
		return modelNotAllowed(name)
	}
	if x.providers = g.routes.Load().of(x.model, key.Sandbox); len(x.providers) == 0 {
		return modelUnavailable(name, "no_upstream", "no provider is configured for it")
	}
	// The log keeps milliseconds; the price must be the one in force at the very
	// instant that is recorded.
	x.judged = g.config.Now()
	at := x.judged.UTC().Truncate(time.Millisecond)
	x.request.created = at.Unix()
	currency := sandboxCurrency
	if !key.Sandbox {
		var err error
		x.price, err = g.price(key, x.model.ID, at)
		if errors.Is(err, catalog.ErrNoPrice) {
			return modelUnavailable(name, "model_not_priced", "it has no price in force in the account's currency")
		}
		if err != nil {
			x.log().Error("find the price", "model", x.model.ID, "error", err)
			return errInternal
		}
		currency = x.price.Currency
	}
	x.estimate = events.Usage{
		ID: id, OperationID: id, OrgID: key.OrgID, TeamID: key.TeamID, KeyID: key.ID,
		Model: x.model.ID, PriceVersion: x.price.Version, Currency: currency,
		OccurredAt: at, Tokens: events.Tokens{Input: x.request.roughPrompt()},
		Outcome: events.OutcomeAbandoned, Source: events.SourceEstimated,
		Stream: x.request.stream, Sandbox: key.Sandbox, Producer: producer,
	}
	// A request whose abandonment could not be billed is not let in.
	err := x.rate(&x.estimate)
	if err == nil {
		err = x.estimate.Validate()
	}
	if err != nil {
		x.log().Error("estimate the cost", "model", x.model.ID, "error", err)
		return errInternal
	}
	return nil
}

// run runs the admission and the attempts at once; nothing of an answer goes to the
// client before the admission is durable, or the usage itself.
func (x *exchange) run(w http.ResponseWriter, r *http.Request) {
	x.watch.start(r.Context(), x.gateway.config.Timeouts)
	defer x.watch.stop()
	defer func() { x.settleHold(x.estimate) }() // if nothing else has
	admitted := make(chan error, 1)
	go func() {
		err := x.admit(r.Context())
		if err != nil {
			x.log().Error("the admission is not durable", "error", err)
			x.watch.cancel(err) // nothing the upstream sends can be used now
		}
		admitted <- err
	}()
	x.admitted = sync.OnceValue(func() error {
		select {
		case err := <-admitted:
			return err
		default:
			x.gateway.config.Log.Hurry()
			return <-admitted
		}
	})
	for tries := 1; ; tries++ {
		f, over := x.once(w)
		if over {
			return
		}
		if !x.again(f, tries) {
			if err := x.admitted(); err != nil {
				x.refuse(w, err)
			} else {
				x.fail(w, f)
			}
			return
		}
	}
}

// once makes the present attempt. If over, the request is answered and settled;
// else the client has received nothing, and f says why.
func (x *exchange) once(w http.ResponseWriter) (f failure, over bool) {
	a := x.attempt
	defer func() { a.report(f.health()) }()
	a.begun = time.Now()
	x.watch.begin()
	resp, err := x.call()
	if err != nil {
		return x.failure(err), false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return x.statusFailure(resp), false
	}
	if !x.request.stream {
		return x.relayPlain(w, resp)
	}
	if err := x.admitted(); err != nil {
		x.refuse(w, err)
		return failure{}, true
	}
	return x.relayStream(w, resp)
}

// again prepares another attempt, if there is one to make: at an upstream that
// has not been tried, at once; else, after a pause, at any, if the failure may
// pass.
func (x *exchange) again(f failure, tries int) bool {
	retry := x.gateway.config.Retry
	if f.retry == retryNever || tries >= retry.Attempts || x.estimate.Sandbox || x.clientGone() || x.watch.ctx.Err() != nil {
		return false
	}
	x.tried = append(x.tried, x.attempt.of)
	next := x.choose(slices.DeleteFunc(slices.Clone(x.providers), func(p *provider) bool { return slices.Contains(x.tried, p) }))
	if next == nil && f.retry == retryAnywhere {
		pause := min(retry.Pause<<min(tries-1, 20), retry.PauseMax)
		pause = pause/2 + time.Duration(x.gateway.config.IntN(int(pause/2)+1))
		if pause = max(pause, f.wait); pause > retry.PauseMax || !sleep(x.watch.client, pause) {
			return false
		}
		next = x.choose(x.providers)
	}
	if next == nil {
		return false
	}
	x.log().Warn("an attempt failed, another follows", "upstream", x.attempt.Upstream, "next", next.Upstream, "status", f.status, "outcome", f.outcome, "error", f.cause)
	x.failed = append(x.failed, x.failedAttempt(f))
	x.attempt = next
	return true
}

// failedAttempt is the event of an attempt that brought the client nothing and that
// another one follows. Its id follows from the request's, which stays free for the
// attempt that decides: so no request has two deciding events, whoever settles it.
// It is published with that one: a gateway that dies between two attempts leaves the
// admission alone, which the sweeper makes the event that decides.
func (x *exchange) failedAttempt(f failure) events.Usage {
	u := x.estimate
	u.ID = events.DeriveID("gateway-attempt", u.OperationID[:], []byte(strconv.Itoa(len(x.failed))))
	u.Provider, u.Tokens, u.Cost = x.attempt.Name, events.Tokens{}, zeroCost
	u.Outcome, u.HTTPStatus, u.LatencyMS = f.outcome, uint16(f.status), millis(time.Since(x.attempt.begun))
	u.Retried = true
	return u
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
	x.log().Error("the request is refused without its admission", "error", err)
	writeError(w, x.client, errNotDurable)
	_ = http.NewResponseController(w).Flush() // best effort: the end of the handler flushes too
	_ = x.settle(result{outcome: events.OutcomeUpstreamError, nothing: true})
}

// fail settles a request of which the client has received nothing, and answers.
func (x *exchange) fail(w http.ResponseWriter, f failure) {
	x.log().Warn("the upstream failed", "upstream", x.attempt.Upstream, "status", f.status, "outcome", f.outcome, "error", f.cause)
	err := x.settle(result{outcome: f.outcome, status: f.status, nothing: true})
	if err != nil && f.answer.status < http.StatusInternalServerError {
		writeError(w, x.client, errNotDurable)
		return
	}
	writeError(w, x.client, f.answer)
}

// log names the request on every line.
func (x *exchange) log() *slog.Logger {
	return x.gateway.logger.With("request_id", x.estimate.ID)
}

func (x *exchange) sinceReceivedMS() uint32 { return millis(time.Since(x.received)) }

// millis is d, begun milliseconds counted: 0 would say that it was not timed.
func millis(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0)+1, math.MaxUint32))
}
