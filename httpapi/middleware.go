package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"aione/events"

	"github.com/go-chi/chi/v5"
)

// handler is a route; its error becomes the answer.
type handler func(w http.ResponseWriter, r *http.Request) error

// handle makes a handler one of net/http.
func (s *Server) handle(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// writeGrace is how long an answer that came in time may take to be read.
const writeGrace = 30 * time.Second

// bounded ends a request's work after a time, and its writing soon after, so that
// a client that does not read holds nothing for ever.
func (s *Server) bounded(within time.Duration, h handler) http.HandlerFunc {
	return s.handle(func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), within)
		defer cancel()
		late := time.AfterFunc(within+writeGrace, func() {
			// Best effort: not every ResponseWriter has a connection below it.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		})
		defer late.Stop()
		return h(w, r.WithContext(ctx))
	})
}

// requestIDHeader names the request in answers and in logs. It is minted here,
// never taken from the client; the gateway puts its own in its place.
const requestIDHeader = "X-Request-Id"

// observed gives each request an id, counts and times it, and survives panics.
// The route is h's; empty means that chi knows it.
func (s *Server) observed(route string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.config.Now()
		routed := chi.NewRouteContext() // ours, since chi takes its own back when it is done
		if route == "" {
			routed.Routes = s.router
			r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, routed))
		}
		rec := &recorder{ResponseWriter: w}
		rec.Header().Set(requestIDHeader, events.NewID().String())
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				s.logger.Error("panic in a handler", "request_id", rec.Header().Get(requestIDHeader),
					"method", r.Method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeDetail(rec, http.StatusInternalServerError, internalError)
					p = nil
				}
			}
			if route == "" {
				route = routed.RoutePattern()
			}
			s.metrics.observe(route, r.Method, rec.status, s.config.Now().Sub(start))
			if p != nil {
				// Half an answer is out: only a cut connection tells the client so.
				panic(http.ErrAbortHandler)
			}
		}()
		h.ServeHTTP(rec, r)
	})
}

// secureHeaders keep browsers from guessing, framing and caching.
var secureHeaders = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"X-Frame-Options":         {"DENY"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
	"Referrer-Policy":         {"no-referrer"},
	"Cache-Control":           {"no-store"},
}

// secured sets the secure headers; a handler may put its own in their place.
func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), secureHeaders)
		h.ServeHTTP(w, r)
	})
}

// recorder remembers the status of an answer. http.ResponseController finds the
// real writer by Unwrap; Flush and Hijack are here for those who do not use it.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // 1xx are not the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
