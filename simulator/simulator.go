// Package simulator is the built-in simulated provider: an HTTP server that
// speaks the chat dialects of OpenAI, Anthropic and Gemini, plain and streaming,
// with token counts that follow exactly from the request and with faults on
// demand. Sandbox keys talk to it, the demo and the tests drive it.
//
// Token counts, when the request carries none of its own (see Simulate):
//
//	prompt tokens     = whitespace-separated words in the text of the prompt
//	completion tokens = prompt tokens, at least 1, at most the dialect's limit
//	                    (max_completion_tokens, max_tokens, maxOutputTokens)
//
// Every token of text is the four bytes " tok", a token of OpenAI's o200k_base,
// so whoever counts by that or by bytes ÷ 4 counts exactly. Text stops at
// TextTokensMax; the counts in usage go on. An answer calls a tool if tools are
// given and Simulate.ToolCall or the tool choice asks for it, is a JSON object if
// the response format asks for it, and holds a picture if the model is a
// gemini-*-image* one.
//
// Invariants: equal requests get equal answers, byte for byte; each dialect
// reports usage the way its provider does, with the same overlaps, and in an
// OpenAI stream only if stream_options.include_usage asks for it. The package
// keeps no state, reads no clock (it only waits), and knows nothing of keys or
// bills.
package simulator

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Config of a Server. The zero value is a provider that knows every model and
// asks for no key.
type Config struct {
	APIKey    string   // if set, requests must carry it the way of their dialect
	Models    []string // listed by /v1/models; empty means every model is served
	Chunks    int      // content chunks of a stream at most; default 8
	BodyBytes int64    // largest request; default 64 MiB
}

const (
	defaultChunks    = 8
	defaultBodyBytes = 64 << 20

	// createdUnix is what every answer says it was created at: equal requests get
	// equal answers.
	createdUnix = 1_750_000_000
)

// Server is the simulated provider.
type Server struct {
	config Config
	mux    *http.ServeMux
}

// dialect is how one provider reads requests and writes answers.
type dialect interface {
	// secret is the API key a request carries.
	secret(r *http.Request) string
	// parse reads a request; an error is the client's fault.
	parse(r *http.Request, body []byte) (*request, error)
	// failure is an error object.
	failure(status int, message, code string) []byte
	// plain appends the whole answer.
	plain(b []byte, a *answer) []byte
	// The events of a stream: before the content, content piece i, after the
	// content, and an error in their midst.
	opening(b []byte, a *answer) []byte
	piece(b []byte, a *answer, i int) []byte
	ending(b []byte, a *answer) []byte
	streamFailure(b []byte) []byte
	// line appends an event that holds data as it is.
	line(b []byte, data string) []byte
}

// New makes a server. Gemini's routes are below /v1beta and /v1, as Google's are.
func New(c Config) *Server {
	if c.Chunks <= 0 {
		c.Chunks = defaultChunks
	}
	if c.BodyBytes <= 0 {
		c.BodyBytes = defaultBodyBytes
	}
	s := &Server{config: c, mux: http.NewServeMux()}
	s.mux.HandleFunc("POST /v1/chat/completions", s.completion(openAI{}))
	s.mux.HandleFunc("POST /v1/messages", s.completion(anthropic{}))
	s.mux.HandleFunc("POST /v1beta/models/{call...}", s.completion(gemini{}))
	s.mux.HandleFunc("POST /v1/models/{call...}", s.completion(gemini{}))
	s.mux.HandleFunc("GET /v1/models", s.models)
	return s
}

// ServeHTTP serves the route.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) allowed(secret string) bool {
	return s.config.APIKey == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(s.config.APIKey)) == 1
}

func bearer(r *http.Request) string {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return secret
}

func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	if !s.allowed(bearer(r)) {
		writeError(w, openAI{}, http.StatusUnauthorized, "Incorrect API key provided.", "invalid_api_key")
		return
	}
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	list := struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{Object: "list", Data: []model{}}
	for _, id := range s.config.Models {
		list.Data = append(list.Data, model{id, "model", createdUnix, "simulator"})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, list) // the client left: there is nobody to tell
}

// completion serves the chat route of a dialect.
func (s *Server) completion(d dialect) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(d.secret(r)) {
			writeError(w, d, http.StatusUnauthorized, "Incorrect API key provided.", "invalid_api_key")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.BodyBytes))
		if err != nil {
			writeError(w, d, http.StatusRequestEntityTooLarge, "The request body could not be read.", "request_too_large")
			return
		}
		req, err := d.parse(r, body)
		if err != nil {
			writeError(w, d, http.StatusBadRequest, "The request is not a chat completion: "+err.Error(), "invalid_request")
			return
		}
		if err := req.sim.check(); err != nil {
			writeError(w, d, http.StatusBadRequest, err.Error(), "invalid_simulate")
			return
		}
		if len(s.config.Models) > 0 && !slices.Contains(s.config.Models, req.model) {
			writeError(w, d, http.StatusNotFound, fmt.Sprintf("The model %q does not exist.", req.model), "model_not_found")
			return
		}
		sim := req.sim
		if !wait(r.Context(), sim.LatencyMS) {
			return
		}
		if sim.Status != 0 && sim.Status != http.StatusOK {
			if sim.Status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "1")
			}
			writeError(w, d, sim.Status, fmt.Sprintf("Simulated status %d.", sim.Status), "simulated_error")
			return
		}
		a := newAnswer(d, r.URL.RequestURI(), body, req, s.config.Chunks)
		if req.stream {
			a.stream(w, r)
		} else {
			a.plain(w, r)
		}
	}
}

// wait reports whether the client is still there after that time.
func wait(ctx context.Context, ms int64) bool {
	if ms <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func writeError(w http.ResponseWriter, d dialect, status int, message, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(d.failure(status, message, code)) // the client left: there is nobody to tell
}

// appendQuoted appends s as a JSON string; bad UTF-8 is replaced.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
