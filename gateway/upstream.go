package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// watch bounds an upstream call. The call does not end with the client's
// connection: what the provider charges for is read to its end, within Drain.
type watch struct {
	ctx      context.Context // of the upstream call
	cancel   context.CancelCauseFunc
	timeouts Timeouts
	silence  *time.Timer
	total    *time.Timer
	client   context.Context
	left     sync.Once
	unwatch  func() bool
}

func (t *watch) start(client context.Context, timeouts Timeouts) {
	t.client, t.timeouts = client, timeouts
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(client))
	t.silence = time.AfterFunc(timeouts.FirstByte, func() { t.cancel(errStalled) })
	t.total = time.AfterFunc(timeouts.Total, func() { t.cancel(errTotal) })
	t.unwatch = context.AfterFunc(client, t.clientLeft)
}

func (t *watch) stop() {
	t.unwatch()
	t.silence.Stop()
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
	u, body := x.upstream, x.request.upstreamBody(x.upstream.Model)
	url := strings.TrimSuffix(u.BaseURL, "/") + "/chat/completions"
	req, err := http.NewRequestWithContext(x.watch.ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the upstream request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "aione")
	if x.request.stream {
		req.Header.Set("Accept", "text/event-stream")
	}
	if u.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+u.APIKey)
	}
	// RoundTrip, not a Client: a redirect would take the API key elsewhere.
	return x.gateway.config.Transport.RoundTrip(req)
}

// failure is a request that the upstream did not fulfil: what the client is told
// and what is recorded.
type failure struct {
	answer  *apiError
	outcome events.Outcome
	cause   error
}

// failure classifies an error of the call or of reading its answer.
func (x *exchange) failure(err error) failure {
	cause := context.Cause(x.watch.ctx)
	var f failure
	switch {
	case errors.Is(cause, errStalled), errors.Is(cause, errTotal):
		f = failure{errUpstreamTimeout, events.OutcomeTimeout, cause}
	case errors.Is(cause, errDrained):
		f = failure{errUpstreamTimeout, events.OutcomeCancelled, cause}
	case errors.Is(err, errGarbage):
		f = failure{errUpstreamGarbage, events.OutcomeUpstreamError, err}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		f = failure{errUpstreamCut, events.OutcomeUpstreamError, err}
	default:
		f = failure{errUpstream, events.OutcomeUpstreamError, err}
	}
	if x.clientGone() {
		f.outcome = events.OutcomeCancelled
	}
	return f
}

// errGarbage is returned when an upstream sends something that is not its dialect.
var errGarbage = errors.New("not an answer in the dialect of OpenAI")

const (
	errorBodyBytesMax  = 64 << 10
	retryAfterDefault  = 1
	retryAfterSecsMax  = 3600
	messageForwardMax  = 2000
	upstreamCodeLenMax = 64
)

// statusFailure maps an upstream's error status. What the client did wrong is
// passed on, with the provider's words; what we did wrong is a 502.
func (x *exchange) statusFailure(resp *http.Response) failure {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyBytesMax)) // as much as there is
	f := failure{errUpstream, events.OutcomeUpstreamError, fmt.Errorf("status %d", resp.StatusCode)}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		f.answer = x.clientsFault(body)
	case http.StatusTooManyRequests:
		e := *modelUnavailable(x.request.model, "upstream_rate_limited", "its provider limits our rate")
		e.retryAfter = retryAfter(resp.Header)
		f.answer = &e
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		f.answer, f.outcome = errUpstreamTimeout, events.OutcomeTimeout
	case http.StatusServiceUnavailable:
		e := *modelUnavailable(x.request.model, "upstream_unavailable", "its provider is unavailable")
		e.retryAfter = retryAfter(resp.Header)
		f.answer = &e
	}
	if x.clientGone() {
		f.outcome = events.OutcomeCancelled
	}
	return f
}

// clientsFault is a 400 with the provider's message, if it has one we can show.
func (x *exchange) clientsFault(body []byte) *apiError {
	var from struct {
		Error struct {
			Message string `json:"message"`
			Param   any    `json:"param"`
			Code    any    `json:"code"`
		} `json:"error"`
	}
	message := "The model's provider refused the request."
	e := badRequest("invalid_request", "", "%s", message)
	if err := json.Unmarshal(body, &from); err != nil || from.Error.Message == "" {
		return e
	}
	secret := x.upstream.APIKey
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
