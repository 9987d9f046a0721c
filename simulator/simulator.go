// Package simulator is the built-in simulated provider: an HTTP server that
// speaks OpenAI's chat completions, plain and streaming, with token counts that
// follow exactly from the request and with faults on demand. Sandbox keys talk to
// it, the demo and the tests drive it.
//
// Token counts, when the request carries none of its own (see Simulate):
//
//	prompt tokens     = whitespace-separated words in the text of all messages
//	completion tokens = prompt tokens, at least 1, at most max_completion_tokens
//	                    or max_tokens
//
// Every token of text is the four bytes "tok ", so whoever counts bytes ÷ 4
// counts exactly. Text stops at TextTokensMax; the counts in usage go on.
//
// Invariants: equal requests get equal answers, byte for byte; usage is sent in a
// stream only if stream_options.include_usage asks for it. The package keeps no
// state, reads no clock (it only waits), and knows nothing of keys or bills.
package simulator

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Config of a Server. The zero value is a provider that knows every model and
// asks for no key.
type Config struct {
	APIKey    string   // if set, requests must carry it as Bearer token
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

// New makes a server.
func New(c Config) *Server {
	if c.Chunks <= 0 {
		c.Chunks = defaultChunks
	}
	if c.BodyBytes <= 0 {
		c.BodyBytes = defaultBodyBytes
	}
	s := &Server{config: c, mux: http.NewServeMux()}
	s.mux.HandleFunc("POST /v1/chat/completions", s.chat)
	s.mux.HandleFunc("GET /v1/models", s.models)
	return s
}

// ServeHTTP checks the key and serves the route.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Bearer " + s.config.APIKey
	if s.config.APIKey != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
		writeError(w, http.StatusUnauthorized, "Incorrect API key provided.", "invalid_api_key")
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
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

// request is what the simulator reads of a chat request; the rest it ignores.
type request struct {
	Model               string    `json:"model"`
	Messages            []message `json:"messages"`
	MaxTokens           *int64    `json:"max_tokens"`
	MaxCompletionTokens *int64    `json:"max_completion_tokens"`
	Stream              bool      `json:"stream"`
	StreamOptions       *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Simulate Simulate `json:"simulate"`
}

type message struct {
	Content jsontext.Value `json:"content"` // a string, or a list of parts
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.BodyBytes))
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, "The request body could not be read.", "request_too_large")
		return
	}
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		writeError(w, http.StatusBadRequest, "The request is not a chat completion: "+err.Error(), "invalid_json")
		return
	}
	if err := req.Simulate.check(); err != nil {
		writeError(w, http.StatusBadRequest, err.Error(), "invalid_simulate")
		return
	}
	if len(s.config.Models) > 0 && !slices.Contains(s.config.Models, req.Model) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("The model %q does not exist.", req.Model), "model_not_found")
		return
	}
	sim := req.Simulate
	if !wait(r.Context(), sim.LatencyMS) {
		return
	}
	if sim.Status != 0 && sim.Status != http.StatusOK {
		if sim.Status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		writeError(w, sim.Status, fmt.Sprintf("Simulated status %d.", sim.Status), "simulated_error")
		return
	}
	a := newAnswer(body, &req, s.config.Chunks)
	if req.Stream {
		a.stream(w, r)
	} else {
		a.plain(w, r)
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

func writeError(w http.ResponseWriter, status int, message, code string) {
	b, _ := jsontext.AppendQuote(nil, message) // bad UTF-8 is replaced, which suits a message
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"error":{"message":`+string(b)+`,"type":"simulator_error","param":null,"code":`+strconv.Quote(code)+`}}`)
}
