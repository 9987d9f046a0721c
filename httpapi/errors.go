package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"aione/billing"
	"aione/events"
	"aione/keys"

	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json"
)

const internalError = "internal error"

// apiError is an error as the client sees it.
type apiError struct {
	status     int
	detail     string
	retryAfter int   // seconds; 0 says nothing
	cause      error // for the log only
}

func (e *apiError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%d %s: %v", e.status, e.detail, e.cause)
	}
	return fmt.Sprintf("%d %s", e.status, e.detail)
}

func (e *apiError) Unwrap() error { return e.cause }

// statusClientClosed is never seen by anyone: the client has gone. It keeps the
// metrics from counting such requests as failures.
const statusClientClosed = 499

// sentinels says how each known error is answered; the first match counts. Their
// texts are for the log, these are for the client.
var sentinels = []struct {
	err    error
	answer apiError
}{
	{billing.ErrNotFound, apiError{status: http.StatusNotFound, detail: "not found"}},
	{keys.ErrUnknownKey, apiError{status: http.StatusNotFound, detail: "not found"}}, // by id; as a token it is a 401
	{billing.ErrIdempotency, apiError{status: http.StatusConflict, detail: "the Idempotency-Key was used for another request"}},
	{billing.ErrExists, apiError{status: http.StatusConflict, detail: "the Idempotency-Key was used for another request"}},
	{errKeyReused, apiError{status: http.StatusConflict, detail: "the Idempotency-Key was used for another request"}},
	{keys.ErrIdempotencyKeyUsed, apiError{status: http.StatusConflict, detail: "the Idempotency-Key was used for another rotation"}},
	{events.ErrConflict, apiError{status: http.StatusConflict, detail: "somebody else was first; look at it and send the request again"}},
	{billing.ErrUnproven, apiError{status: http.StatusServiceUnavailable, detail: "nothing is invoiced while log, rows and invoices differ; the auditor has found that they do", retryAfter: 60}},
	{errUsageUnavailable, apiError{status: http.StatusServiceUnavailable, detail: "usage data cannot be read now", retryAfter: 5}},
	{keys.ErrTooManyKeys, apiError{status: http.StatusConflict, detail: "the organisation has as many keys as it may have; delete one that is not used any more, or ask the operator for more"}},
	{errTooManyRequests, apiError{status: http.StatusTooManyRequests, detail: "your organisation sends too many requests at once", retryAfter: 1}},
	{errTooManyIntakes, apiError{status: http.StatusTooManyRequests, detail: "your organisation sends too many requests with events at once; send the same events again, they are counted once", retryAfter: 1}},
	{errTooManyQueries, apiError{status: http.StatusTooManyRequests, detail: "your organisation asks too many questions at once", retryAfter: 1}},
	{errQueriesBusy, apiError{status: http.StatusServiceUnavailable, detail: "too many questions are in work; ask again", retryAfter: 1}},
	{errIntakeBusy, apiError{status: http.StatusServiceUnavailable, detail: "too many events are in work; send the request again", retryAfter: 1}},
	{events.ErrFull, apiError{status: http.StatusServiceUnavailable, detail: "the event log is full; send the same events again later, they are counted once", retryAfter: 60}},
	{events.ErrUnknown, apiError{status: http.StatusServiceUnavailable, detail: unconfirmed, retryAfter: 1}},
	{events.ErrClosed, apiError{status: http.StatusServiceUnavailable, detail: unconfirmed, retryAfter: 5}},
	{context.DeadlineExceeded, apiError{status: http.StatusServiceUnavailable, detail: "the answer took too long", retryAfter: 5}},
	{context.Canceled, apiError{status: statusClientClosed, detail: "the client has gone"}},
}

const unconfirmed = "the event log did not confirm in time; send the same events again, they are counted once"

var (
	// errUsageUnavailable marks an error of the usage projection: there is no
	// answer, and zeros would be a lie.
	errUsageUnavailable = errors.New("usage is unavailable")
	// errIntakeBusy is returned when as many requests with events are in work as may be.
	errIntakeBusy = errors.New("too many requests with events")
)

// fail answers a request with its error. Nothing of an answer may be out yet.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var invalid validationErrors
	if errors.As(err, &invalid) {
		writeJSON(w, http.StatusUnprocessableEntity, validationAnswer{Detail: invalid})
		return
	}
	e := s.answerTo(r, err)
	if e.status >= http.StatusInternalServerError {
		s.logger.Error("request failed", "request_id", w.Header().Get(requestIDHeader),
			"method", r.Method, "route", chi.RouteContext(r.Context()).RoutePattern(), "status", e.status, "error", err)
	}
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	writeDetail(w, e.status, e.detail)
}

func (s *Server) answerTo(r *http.Request, err error) *apiError {
	var known *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return &apiError{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case errors.Is(r.Context().Err(), context.Canceled):
		return &apiError{status: statusClientClosed, detail: "the client has gone"}
	}
	for i := range sentinels {
		if errors.Is(err, sentinels[i].err) {
			return &sentinels[i].answer
		}
	}
	return &apiError{status: http.StatusInternalServerError, detail: internalError}
}

// problem is one member of HTTPValidationError.
type problem struct {
	Loc  []any  `json:"loc"` // names and indexes, outermost first
	Msg  string `json:"msg"`
	Type string `json:"type"`
}

// validationErrors is what is wrong with a request, all of it at once.
type validationErrors []problem

func (v validationErrors) Error() string { return fmt.Sprintf("%d validation errors", len(v)) }

type validationAnswer struct {
	Detail validationErrors `json:"detail"`
}

func invalid(typ, msg string, loc ...any) validationErrors {
	return validationErrors{{Loc: loc, Msg: msg, Type: typ}}
}

type detailAnswer struct {
	Detail string `json:"detail"`
}

// writeDetail answers with {"detail": …}.
func writeDetail(w http.ResponseWriter, status int, detail string) {
	writeJSON(w, status, detailAnswer{detail})
}

// writeJSON answers with v, whole or not at all.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		// Only text that is not UTF-8 can do this, and none comes this far.
		status, b = http.StatusInternalServerError, []byte(`{"detail":"`+internalError+`"}`)
	}
	writeBytes(w, status, jsonType, b)
}

func writeBytes(w http.ResponseWriter, status int, media string, b []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client left: there is nobody to tell
}

func (s *Server) notFound(http.ResponseWriter, *http.Request) error {
	return &apiError{status: http.StatusNotFound, detail: "not found"}
}

func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	for _, method := range [...]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if s.router.Match(chi.NewRouteContext(), method, r.URL.Path) {
			w.Header().Add("Allow", method)
		}
	}
	return &apiError{status: http.StatusMethodNotAllowed, detail: "method not allowed"}
}
