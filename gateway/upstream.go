package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"aione/events"

	"github.com/go-json-experiment/json"
)

// Why a watch ended the upstream call.
var (
	errStalled = errors.New("the upstream was silent for too long")
	errTotal   = errors.New("the upstream took too long altogether")
	errDrained = errors.New("the client left and the upstream did not finish in time")
)

// watch bounds the upstream calls of a request. They do not end with the client's
// connection: what the provider charges for is read to its end, within Drain.
type watch struct {
	ctx      context.Context // of all attempts
	cancel   context.CancelCauseFunc
	timeouts Timeouts
	total    *time.Timer
	client   context.Context
	left     sync.Once
	unwatch  func() bool

	call    context.Context // of the present attempt
	end     context.CancelCauseFunc
	silence *time.Timer
}

func (t *watch) start(client context.Context, timeouts Timeouts) {
	t.client, t.timeouts = client, timeouts
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(client))
	t.total = time.AfterFunc(timeouts.Total, func() { t.cancel(errTotal) })
	t.unwatch = context.AfterFunc(client, t.clientLeft)
}

// begin starts an attempt, and ends the one before.
func (t *watch) begin() {
	t.finish()
	call, end := context.WithCancelCause(t.ctx)
	t.call, t.end = call, end
	t.silence = time.AfterFunc(t.timeouts.FirstByte, func() { end(errStalled) })
}

func (t *watch) finish() {
	if t.end != nil {
		t.silence.Stop()
		t.end(nil)
	}
}

func (t *watch) stop() {
	t.unwatch()
	t.finish()
	t.total.Stop()
	t.cancel(nil)
}

// progress says that the upstream sent something; the next piece is due within Idle.
func (t *watch) progress() { t.silence.Reset(t.timeouts.Idle) }

// clientLeft starts the bounded rest of the call. It returns at once.
func (t *watch) clientLeft() {
	t.left.Do(func() {
		drain := time.AfterFunc(t.timeouts.Drain, func() { t.cancel(errDrained) })
		context.AfterFunc(t.ctx, func() { drain.Stop() })
	})
}

func (t *watch) clientGone() bool { return t.client.Err() != nil }

// call sends the request to the upstream and waits for the head of its answer.
func (x *exchange) call() (*http.Response, error) {
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"aione"}}
	if x.request.stream {
		header.Set("Accept", "text/event-stream")
	}
	path, body, err := x.attempt.wire.call(x.request, x.attempt.Upstream, header)
	if err != nil {
		return nil, err
	}
	url := strings.TrimSuffix(x.attempt.BaseURL, "/") + path
	req, err := http.NewRequestWithContext(x.watch.call, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the upstream request: %w", err)
	}
	req.Header = header
	// RoundTrip, not a Client: a redirect would take the API key elsewhere.
	return x.gateway.config.Transport.RoundTrip(req)
}

// retryRule says where a request may be tried again after a failure.
type retryRule uint8

const (
	retryNever     retryRule = iota
	retryElsewhere           // at another upstream: this one would do the same
	retryAnywhere            // at this one too, after a pause
)

// failure is an attempt that the upstream did not fulfil: what the client is told
// and what is recorded.
type failure struct {
	answer  *apiError
	outcome events.Outcome
	cause   error
	status  int // the provider's; 0 when it never answered
	retry   retryRule
	wait    time.Duration // the provider asks for
	healthy bool          // the upstream is well all the same
	untold  bool          // nothing can be said about it
}

// health is what the upstream's circuit is told.
func (f *failure) health() error {
	switch {
	case f.cause == nil || f.healthy:
		return nil
	case f.untold:
		return errUntold
	default:
		return errUnhealthy
	}
}

// failure classifies an error of the call or of reading its answer.
func (x *exchange) failure(err error) failure {
	cause := context.Cause(x.watch.call)
	f := failure{answer: errUpstream, outcome: events.OutcomeUpstreamError, cause: err, retry: retryElsewhere}
	var bad *apiError
	switch {
	case errors.As(err, &bad): // it cannot be put to this upstream
		f.answer, f.retry, f.untold = bad, retryElsewhere, true
	case errors.Is(cause, errStalled), errors.Is(cause, errTotal):
		f.answer, f.outcome, f.cause = errUpstreamTimeout, events.OutcomeTimeout, cause
	case errors.Is(cause, errDrained):
		f.answer, f.outcome, f.cause, f.untold = errUpstreamTimeout, events.OutcomeCancelled, cause, true
	case cause != nil: // the admission failed
		f.untold = true
	case errors.Is(err, errGarbage):
		f.answer = errUpstreamGarbage
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		f.answer = errUpstreamCut
	case isDial(err): // it never saw the request
		f.retry = retryAnywhere
	}
	if x.clientGone() {
		f.outcome = events.OutcomeCancelled
	}
	return f
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// errGarbage is returned when an upstream sends something that is not its dialect.
var errGarbage = errors.New("not an answer in the upstream's dialect")

// errFailedInside is returned when an upstream reports an error inside an answer
// that began with status 200.
var errFailedInside = errors.New("the upstream reports an error inside its answer")

const (
	errorBodyBytesMax  = 64 << 10
	retryAfterDefault  = 1
	retryAfterSecsMax  = 3600
	messageForwardMax  = 2000
	upstreamCodeLenMax = 64

	statusOverloaded = 529 // Anthropic's
)

// statusFailure maps an upstream's error status. What the client did wrong is
// passed on, with the provider's words; what we did wrong is a 502.
func (x *exchange) statusFailure(resp *http.Response) failure {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyBytesMax)) // as much as there is
	f := failure{answer: errUpstream, outcome: events.OutcomeUpstreamError, cause: fmt.Errorf("status %d", resp.StatusCode),
		status: resp.StatusCode, retry: retryElsewhere}
	if resp.StatusCode >= http.StatusInternalServerError {
		f.retry = retryAnywhere
	}
	after := retryAfter(resp.Header)
	if resp.Header.Get("Retry-After") != "" {
		f.wait = time.Duration(after) * time.Second
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		f.answer, f.retry, f.healthy = x.clientsFault(body), retryNever, true
	case http.StatusTooManyRequests:
		e := *modelUnavailable(x.request.model, "upstream_rate_limited", "its provider limits our rate")
		e.retryAfter = after
		f.answer, f.retry, f.healthy = &e, retryAnywhere, true
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		f.answer, f.outcome, f.retry = errUpstreamTimeout, events.OutcomeTimeout, retryElsewhere
	case http.StatusServiceUnavailable, statusOverloaded:
		e := *modelUnavailable(x.request.model, "upstream_unavailable", "its provider is unavailable")
		e.retryAfter = after
		f.answer = &e
	}
	if x.clientGone() {
		f.outcome = events.OutcomeCancelled
	}
	return f
}

// clientsFault is a 400 with the provider's message, if it has one we can show.
// All dialects have it at the same place.
func (x *exchange) clientsFault(body []byte) *apiError {
	var from struct {
		Error struct {
			Message string `json:"message"`
			Param   any    `json:"param"`
			Code    any    `json:"code"`
		} `json:"error"`
	}
	e := badRequest("invalid_request", "", "The model's provider refused the request.")
	if err := json.Unmarshal(body, &from, lenient); err != nil || from.Error.Message == "" {
		return e
	}
	secret := x.attempt.APIKey
	if len(from.Error.Message) <= messageForwardMax && (secret == "" || !bytes.Contains(body, []byte(secret))) {
		e.message = from.Error.Message
		if code, ok := from.Error.Code.(string); ok && code != "" && len(code) <= upstreamCodeLenMax {
			e.code = code
		}
		e.param, _ = from.Error.Param.(string)
	}
	return e
}

func retryAfter(h http.Header) int {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 1 || n > retryAfterSecsMax {
		return retryAfterDefault
	}
	return n
}
