package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"aione/keys"
)

// Types of an error, as OpenAI's clients know them; the other dialects have theirs
// by status.
const (
	typeInvalidRequest = "invalid_request_error"
	typeAuthentication = "authentication_error"
	typePermission     = "permission_error"
	typeServer         = "server_error"
	typeUpstream       = "upstream_error"
	typeRateLimit      = "rate_limit_error"
	typeQuota          = "insufficient_quota"
)

// apiError is an error as the client sees it. Its text never holds a secret, nor
// an internal error.
type apiError struct {
	status     int
	typ        string
	code       string
	param      string
	message    string
	retryAfter int // seconds; 0 says nothing
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message) }

// writeError answers with an error, in the client's dialect.
func writeError(w http.ResponseWriter, c client, e *apiError) {
	b := c.errorBody(e)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if e.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(b) // the client left: there is nobody to tell
}

// shownMax bounds what of a request's own words an error repeats.
const shownMax = 200

// shown is a name out of a request, fit for an error: not without end, and not a
// key that somebody put in the wrong place.
func shown(name string) string {
	if len(name) > shownMax {
		name = name[:shownMax] + "…"
	}
	return strings.ToValidUTF8(keys.Redact(name), "\uFFFD")
}

func badRequest(code, param, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, typ: typeInvalidRequest, code: code, param: param, message: fmt.Sprintf(format, args...)}
}

func badJSON(err error) *apiError {
	return badRequest("invalid_json", "", "The request body is not one valid JSON object in UTF-8: %s.", jsonProblem(err))
}

func missing(name string) *apiError {
	return badRequest("missing_required_parameter", name, "You must provide '%s'.", name)
}

// errNoKey is for requests without an API key.
var errNoKey = &apiError{status: http.StatusUnauthorized, typ: typeAuthentication, code: "invalid_api_key",
	message: "You did not provide an API key. Send it as 'Authorization: Bearer <key>', or the way of the API's own clients."}

func keyError(secret string, err error) *apiError {
	masked := keys.Mask(secret)
	switch {
	case errors.Is(err, keys.ErrDisabledKey):
		return &apiError{status: http.StatusForbidden, typ: typePermission, code: "api_key_disabled",
			message: "The API key " + masked + " is disabled."}
	case errors.Is(err, keys.ErrExpiredKey):
		return &apiError{status: http.StatusUnauthorized, typ: typeAuthentication, code: "invalid_api_key",
			message: "The API key " + masked + " has expired."}
	default:
		return &apiError{status: http.StatusUnauthorized, typ: typeAuthentication, code: "invalid_api_key",
			message: "Incorrect API key provided: " + masked + "."}
	}
}

func scopeError(scope keys.Scope) *apiError {
	return &apiError{status: http.StatusForbidden, typ: typePermission, code: "insufficient_scope",
		message: fmt.Sprintf("This token does not have the scope %q.", scope)}
}

func modelNotFound(model string) *apiError {
	return &apiError{status: http.StatusNotFound, typ: typeInvalidRequest, code: "model_not_found", param: "model",
		message: fmt.Sprintf("The model %q does not exist.", shown(model))}
}

func modelNotAllowed(model string) *apiError {
	return &apiError{status: http.StatusForbidden, typ: typePermission, code: "model_not_allowed", param: "model",
		message: fmt.Sprintf("This API key, or the plan of its organisation, may not use the model %q.", shown(model))}
}

func contextExceeded(model string, limit, prompt, completion uint64) *apiError {
	return badRequest("context_length_exceeded", "messages",
		"The context of %q is %d tokens; this request has about %d tokens of prompt and asks for up to %d more.", model, limit, prompt, completion)
}

func addressNotAllowed(masked string) *apiError {
	return &apiError{status: http.StatusForbidden, typ: typePermission, code: "ip_not_allowed",
		message: "The API key " + masked + " may not be used from this address."}
}

func modelUnavailable(model, code, why string) *apiError {
	return &apiError{status: http.StatusServiceUnavailable, typ: typeServer, code: code, param: "model",
		message: fmt.Sprintf("The model %q cannot be used now: %s.", model, why)}
}

func tooLarge(limit int64) *apiError {
	return &apiError{status: http.StatusRequestEntityTooLarge, typ: typeInvalidRequest, code: "request_too_large",
		message: fmt.Sprintf("The request body is larger than %d bytes.", limit)}
}

var (
	errOverloaded = &apiError{status: http.StatusServiceUnavailable, typ: typeServer, code: "overloaded", retryAfter: 1,
		message: "Too many requests are in flight. Try again shortly."}
	errInternal = &apiError{status: http.StatusInternalServerError, typ: typeServer, code: "internal_error",
		message: "Internal error."}
	// errNotDurable ends an answer whose admission or usage the log did not confirm.
	errNotDurable = &apiError{status: http.StatusServiceUnavailable, typ: typeServer, code: "metering_unavailable", retryAfter: 1,
		message: "The request could not be recorded. Try again shortly."}
	errUpstream = &apiError{status: http.StatusBadGateway, typ: typeUpstream, code: "upstream_error",
		message: "The model's provider failed."}
	errUpstreamCut = &apiError{status: http.StatusBadGateway, typ: typeUpstream, code: "upstream_cut",
		message: "The model's provider ended the answer before it was complete."}
	errUpstreamGarbage = &apiError{status: http.StatusBadGateway, typ: typeUpstream, code: "upstream_invalid_response",
		message: "The model's provider sent something that is no answer."}
	errUpstreamTimeout = &apiError{status: http.StatusGatewayTimeout, typ: typeUpstream, code: "upstream_timeout",
		message: "The model's provider did not answer in time."}
)
