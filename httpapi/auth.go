package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"aione/keys"
)

// authorised is a handler for a caller whose token has the route's scope. The
// caller is an argument, so that a query without an org does not compile.
type authorised func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error

// with lets a request through to h if its token has the scope.
func (s *Server) with(scope keys.Scope, h authorised) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller, err := s.authenticate(r)
		if err != nil {
			if errors.Is(err, errUnauthenticated) {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			return err
		}
		if !caller.Has(scope) {
			return &apiError{status: http.StatusForbidden, detail: fmt.Sprintf("this token does not have the scope %s", scope)}
		}
		if err := s.requests.take(caller.OrgID); err != nil {
			return err
		}
		defer s.requests.giveBack(caller.OrgID)
		return h(w, r, caller)
	}
}

// errUnauthenticated is the cause of every 401.
var errUnauthenticated = errors.New("not authenticated")

func unauthenticated(detail string) *apiError {
	return &apiError{status: http.StatusUnauthorized, detail: detail, cause: errUnauthenticated}
}

// authenticate says whose token the request carries. Errors never name the token.
func (s *Server) authenticate(r *http.Request) (*keys.Key, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return nil, unauthenticated("not authenticated: send Authorization: Bearer <token>")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimSpace(token)
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, unauthenticated("invalid authorization header: send Authorization: Bearer <token>, once")
	}
	key, err := s.config.Keys.Verify(token, s.config.Now())
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, keys.ErrDisabledKey):
		return nil, &apiError{status: http.StatusForbidden, detail: "this token is disabled"}
	case errors.Is(err, keys.ErrExpiredKey):
		return nil, unauthenticated("this token has expired")
	case errors.Is(err, keys.ErrMalformedKey), errors.Is(err, keys.ErrUnknownKey):
		return nil, unauthenticated("invalid token")
	default:
		return nil, fmt.Errorf("verify a token: %w", err)
	}
}
