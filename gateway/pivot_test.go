package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"aione/events"
	"aione/gateway"
)

// each upstream speaks one dialect: by model.
var spokenBy = map[gateway.Dialect]string{gateway.DialectOpenAI: "small", gateway.DialectAnthropic: "claude-opus-4-6", gateway.DialectGemini: "renamed"}

// upstreamPath is what a request of a dialect asks for.
var upstreamPath = map[gateway.Dialect]string{gateway.DialectOpenAI: "/chat/completions", gateway.DialectAnthropic: "/messages", gateway.DialectGemini: "enerateContent"}

func newMatrix(t *testing.T, edit func(*gateway.Config)) *bench {
	return newBench(t, func(c *gateway.Config) {
		for dialect, model := range spokenBy {
			u := c.Default.Upstreams[0]
			u.Dialect = dialect
			c.Routes[model] = only(u)
		}
		if edit != nil {
			edit(c)
		}
	})
}

// toldUsage is the usage of an answer, put into buckets by the rules of its dialect:
// later figures replace earlier ones. What a dialect does not tell apart is fresh
// input.
func (s speech) toldUsage(raw string) events.Tokens {
	var u struct {
		Prompt        uint64 `json:"prompt_tokens"`
		Completion    uint64 `json:"completion_tokens"`
		PromptDetails struct {
			Cached uint64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
		CompletionDetails struct {
			Reasoning uint64 `json:"reasoning_tokens"`
		} `json:"completion_tokens_details"`

		Input    uint64 `json:"input_tokens"`
		Written  uint64 `json:"cache_creation_input_tokens"`
		Read     uint64 `json:"cache_read_input_tokens"`
		Output   uint64 `json:"output_tokens"`
		Creation struct {
			Hour uint64 `json:"ephemeral_1h_input_tokens"`
		} `json:"cache_creation"`
		OutputDetails struct {
			Thinking uint64 `json:"thinking_tokens"`
		} `json:"output_tokens_details"`

		PromptCount     uint64 `json:"promptTokenCount"`
		CachedCount     uint64 `json:"cachedContentTokenCount"`
		CandidatesCount uint64 `json:"candidatesTokenCount"`
		ThoughtsCount   uint64 `json:"thoughtsTokenCount"`
	}
	for line := range strings.Lines(raw) {
		var v struct {
			Usage, UsageMetadata json.RawMessage
			Message              struct{ Usage json.RawMessage }
		}
		if json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &v) != nil {
			continue
		}
		for _, said := range []json.RawMessage{v.Message.Usage, v.Usage, v.UsageMetadata} {
			if len(said) > 0 {
				_ = json.Unmarshal(said, &u) // null says nothing
			}
		}
	}
	switch s.dialect {
	case gateway.DialectAnthropic:
		return events.Tokens{Input: u.Input, CacheRead: u.Read, CacheWrite5m: u.Written - u.Creation.Hour, CacheWrite1h: u.Creation.Hour, Output: u.Output - u.OutputDetails.Thinking, Reasoning: u.OutputDetails.Thinking}
	case gateway.DialectGemini:
		return events.Tokens{Input: u.PromptCount - u.CachedCount, CacheRead: u.CachedCount, Output: u.CandidatesCount, Reasoning: u.ThoughtsCount}
	default:
		return events.Tokens{Input: u.Prompt - u.PromptDetails.Cached, CacheRead: u.PromptDetails.Cached, Output: u.Completion - u.CompletionDetails.Reasoning, Reasoning: u.CompletionDetails.Reasoning}
	}
}

// inTermsOf is what a dialect can tell of some tokens.
func inTermsOf(d gateway.Dialect, t events.Tokens) events.Tokens {
	if d != gateway.DialectAnthropic {
		t.Input += t.CacheWrite5m + t.CacheWrite1h
		t.CacheWrite5m, t.CacheWrite1h = 0, 0
	}
	return t
}

var anthropicGrammar = regexp.MustCompile(`^message_start ((content_block_start )(ping )?((content_block_delta )*)content_block_stop )*message_delta message_stop $`)

// grammar checks the order of a stream's events.
func (s speech) grammar(raw string, failed bool) error {
	var names, finals string
	count := 0
	for _, line := range strings.Split(strings.ReplaceAll(raw, "\r", ""), "\n") {
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			names += name + " "
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			count++
			finals = data
			if s.dialect == gateway.DialectAnthropic && !regexp.MustCompile(`^\{"type": ?"`+lastWord(names)+`"`).MatchString(data) {
				return fmt.Errorf("event %s holds %s", lastWord(names), data)
			}
		}
	}
	switch {
	case s.dialect == gateway.DialectAnthropic && failed:
		if !strings.HasSuffix(names, " error ") || strings.Contains(names, "message_stop") {
			return fmt.Errorf("a failed stream of %s", names)
		}
	case s.dialect == gateway.DialectAnthropic:
		if !anthropicGrammar.MatchString(names) {
			return fmt.Errorf("a stream of %s", names)
		}
	case failed:
		if !strings.HasPrefix(finals, `{"error":{`) {
			return fmt.Errorf("a failed stream ends with %s", finals)
		}
	case s.dialect == gateway.DialectGemini:
		if strings.Count(raw, "finishReason") != 1 || !strings.Contains(finals, "finishReason") || !strings.Contains(finals, "usageMetadata") {
			return fmt.Errorf("the last event is %s", finals)
		}
	case finals != "[DONE]":
		return fmt.Errorf("the last event is %s", finals)
	}
	if names != "" && s.dialect != gateway.DialectAnthropic {
		return fmt.Errorf("events with names: %s", names)
	}
	return nil
}

func lastWord(s string) string {
	words := strings.Fields(s)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// TestMatrix: any client, any upstream; the answer is the same, and what the
// client is told of its usage is what is billed.
func TestMatrix(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, nil)
	const simulate = `{"prompt_tokens":374,"completion_tokens":44,"cached_tokens":100,"cache_write_5m":50,"cache_write_1h":20,"reasoning_tokens":4}`
	for _, s := range speeches {
		for to, model := range spokenBy {
			billed := inTermsOf(to, events.Tokens{Input: 204, CacheRead: 100, CacheWrite5m: 50, CacheWrite1h: 20, Output: 40, Reasoning: 4})
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s to %s, stream %v", s.dialect, to, stream), func(t *testing.T) {
					more := ""
					if s.dialect == gateway.DialectOpenAI && stream {
						more = `,"stream_options":{"include_usage":true}`
					}
					a := s.ask(b, b.secret, ask{model: model, stream: stream, simulate: simulate, more: more})
					if a.status != 200 || a.err != nil || len(a.text) != 160 || a.code != "" || stream && !a.done {
						t.Fatalf("%d %v %s", a.status, a.err, a.raw)
					}
					if path := *b.upstream.path.Load(); !strings.HasSuffix(path, upstreamPath[to]) {
						t.Errorf("the upstream was asked for %s", path)
					}
					u := b.usage(a.id)
					if u.Tokens != billed || u.Source != events.SourceReported || u.Outcome != events.OutcomeCompleted || u.Stream != stream || u.Model != model {
						t.Errorf("billed: %+v", u)
					}
					if got, want := s.toldUsage(a.raw), inTermsOf(s.dialect, billed); got != want {
						t.Errorf("told %+v, want %+v: %s", got, want, a.raw)
					}
					s.matrixOthers(t, b, model, stream)
					if stream {
						if err := s.grammar(a.raw, false); err != nil {
							t.Error(err)
						}
						s.matrixFailures(t, b, model)
					}
				})
			}
		}
	}
}

// matrixOthers are tools, usage that is missing, and errors before an answer.
func (s speech) matrixOthers(t *testing.T, b *bench, model string, stream bool) {
	a := s.ask(b, b.secret, ask{model: model, stream: stream, more: s.tools(), simulate: `{"completion_tokens":6}`})
	if a.status != 200 || a.tool != `look{"a":" tok tok tok tok"}` || a.text != "" || stream && !a.done {
		t.Errorf("tool %q: %s", a.tool, a.raw)
	}
	if stop := map[gateway.Dialect]string{gateway.DialectOpenAI: `"finish_reason":"tool_calls"`, gateway.DialectAnthropic: `"stop_reason":"tool_use"`, gateway.DialectGemini: `"finishReason":"STOP"`}[s.dialect]; !strings.Contains(a.raw, stop) {
		t.Errorf("no %s: %s", stop, a.raw)
	}
	if stream {
		if err := s.grammar(a.raw, false); err != nil {
			t.Error(err)
		}
	}
	a = s.ask(b, b.secret, ask{model: model, stream: stream, simulate: `{"usage":"missing","prompt_tokens":9,"completion_tokens":8}`})
	u := b.usage(a.id)
	if a.status != 200 || u.Source != events.SourceEstimated || u.Tokens != (events.Tokens{Input: promptTokens, Output: 8}) {
		t.Errorf("usage is missing: %d, %+v", a.status, u)
	}
	// An answer that is passed on says nothing; one that is translated says what is billed.
	through := s.dialect != gateway.DialectOpenAI && spokenBy[s.dialect] != model
	if told := s.toldUsage(a.raw); through && told != u.Tokens || !through && told != (events.Tokens{}) {
		t.Errorf("told %+v, billed %+v", told, u.Tokens)
	}
	for simulate, want := range map[string]int{`{"status":400}`: 400, `{"status":401}`: 502, `{"status":429}`: 503, `{"status":504}`: 504, `{"garbage":true}`: 502} {
		a := s.ask(b, b.secret, ask{model: model, stream: stream, simulate: simulate})
		if a.status != want || a.message == "" {
			t.Errorf("%s: %d %s", simulate, a.status, a.raw)
		}
		if u := b.usage(a.id); !u.Cost.IsZero() {
			t.Errorf("%s costs %s", simulate, u.Cost)
		}
	}
}

// matrixFailures are those inside a stream.
func (s speech) matrixFailures(t *testing.T, b *bench, model string) {
	for simulate, code := range map[string]string{
		`{"cut_after_chunks":5,"prompt_tokens":9,"completion_tokens":8}`:                    "upstream_cut",
		`{"error_after_chunks":5,"prompt_tokens":9,"completion_tokens":8}`:                  "upstream_error",
		`{"garbage":true,"garbage_after_chunks":5,"prompt_tokens":9,"completion_tokens":8}`: "upstream_invalid_response",
	} {
		a := s.ask(b, b.secret, ask{model: model, stream: true, simulate: simulate})
		if a.status != 200 || len(a.text) != 20 || a.code != code || a.done {
			t.Errorf("%s: %d %q %s", simulate, a.status, a.code, a.raw)
		}
		if err := s.grammar(a.raw, true); err != nil {
			t.Errorf("%s: %v", simulate, err)
		}
		if u := b.usage(a.id); u.Tokens.Output != 5 || u.Source != events.SourceEstimated || u.Outcome != events.OutcomeUpstreamError {
			t.Errorf("%s: %+v", simulate, u)
		}
	}
}

// TestMatrixEndOnlyAfterAck: whoever speaks to whom, the end of an answer does not
// come before its usage is durable.
func TestMatrixEndOnlyAfterAck(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, nil)
	for _, s := range speeches[1:] {
		for to, model := range spokenBy {
			release := make(chan struct{})
			b.hold(&b.tap.onPublish, release)
			resp := must(http.DefaultClient.Do(s.request(t.Context(), b, b.secret, ask{model: model, stream: true, simulate: `{"completion_tokens":8}`})))
			var got bytes.Buffer
			buf := make([]byte, 4096)
			for strings.Count(got.String(), " tok") < 8 {
				n := must(resp.Body.Read(buf))
				got.Write(buf[:n])
			}
			rest := make(chan string)
			go func() { b, _ := io.ReadAll(resp.Body); resp.Body.Close(); rest <- string(b) }()
			select {
			case <-rest:
				t.Fatalf("%s to %s: the answer ended before its usage was durable", s.dialect, to)
			case <-time.After(150 * time.Millisecond):
			}
			if text := got.String(); strings.Contains(text, "finishReason") || strings.Contains(text, "message_delta") {
				t.Errorf("%s to %s, before the usage is durable: %s", s.dialect, to, text)
			}
			close(release)
			if err := s.grammar(got.String()+<-rest, false); err != nil {
				t.Errorf("%s to %s: %v", s.dialect, to, err)
			}
		}
	}
}

// TestMatrixImages: pictures reach clients of every dialect, and are billed.
func TestMatrixImages(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, nil)
	for _, s := range speeches[1:] {
		for to, model := range spokenBy {
			if to == gateway.DialectAnthropic || to == s.dialect {
				continue // draws none, or passes through
			}
			for _, stream := range []bool{false, true} {
				a := s.ask(b, b.secret, ask{model: model, stream: stream, simulate: `{"images":2}`})
				want := `"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBOR`
				if s.dialect == gateway.DialectGemini {
					want = `"inlineData":{"mimeType":"image/png","data":"iVBOR`
				}
				if u := b.usage(a.id); a.status != 200 || u.Images != 2 || strings.Count(a.raw, want) != 2 || stream && s.grammar(a.raw, false) != nil {
					t.Errorf("%s to %s, stream %v: %+v: %s", s.dialect, to, stream, u, a.raw)
				}
			}
		}
	}
}

// TestMatrixWeights: every upstream of a model serves every client, by weight,
// whatever it speaks.
func TestMatrixWeights(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, func(c *gateway.Config) {
		var all gateway.Route
		for _, d := range []gateway.Dialect{gateway.DialectOpenAI, gateway.DialectAnthropic, gateway.DialectGemini} {
			u := c.Default.Upstreams[0]
			u.Name, u.Dialect = string(d), d
			all.Upstreams = append(all.Upstreams, u)
		}
		c.Routes["small"] = all
		turn := 0
		c.IntN = func(n int) int { turn++; return turn % n }
	})
	for _, s := range speeches {
		served := map[string]int{}
		for range 6 {
			a := s.ask(b, b.secret, ask{})
			if a.status != 200 {
				t.Fatalf("%s: %d %s", s.dialect, a.status, a.raw)
			}
			served[b.usage(a.id).Provider]++
		}
		if served["openai"] != 2 || served["anthropic"] != 2 || served["gemini"] != 2 {
			t.Errorf("%s was served by %v", s.dialect, served)
		}
	}
}

// TestMatrixFailsOver: from an upstream of one dialect to one of another, before
// the client has received anything.
func TestMatrixFailsOver(t *testing.T) {
	t.Parallel()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := must(io.ReadAll(r.Body))
		if !strings.Contains(string(body), `"stream":true`) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream") // a role, and then nothing
		_, _ = io.WriteString(w, `data: {"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`+"\n\n")
	}))
	t.Cleanup(broken.Close)
	b := newMatrix(t, func(c *gateway.Config) {
		google := c.Default.Upstreams[0]
		google.Dialect = gateway.DialectGemini
		c.Routes["small"] = gateway.Route{Upstreams: []gateway.Upstream{{Name: "broken", BaseURL: broken.URL, Weight: 1000}, google}}
		c.IntN = func(int) int { return 0 }
	})
	for _, s := range speeches[1:] {
		for _, stream := range []bool{false, true} {
			a := s.ask(b, b.secret, ask{stream: stream})
			if a.status != 200 || a.text == "" || a.code != "" {
				t.Errorf("%s, stream %v: %d %s", s.dialect, stream, a.status, a.raw)
			}
			if u := b.usage(a.id); u.Provider != "acme-ai" || u.Outcome != events.OutcomeCompleted {
				t.Errorf("%s, stream %v: %+v", s.dialect, stream, u)
			}
		}
	}
}
