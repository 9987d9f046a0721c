package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"aione/events"
	"aione/gateway"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// speech is a client of one dialect.
type speech struct {
	dialect gateway.Dialect
	key     string // header that carries the key
}

var speeches = []speech{
	{gateway.DialectOpenAI, "Authorization"},
	{gateway.DialectAnthropic, "X-Api-Key"},
	{gateway.DialectGemini, "X-Goog-Api-Key"},
}

// ask is a request with more, which begins with a comma, among its members.
type ask struct {
	model, simulate, more string
	stream                bool
}

func (s speech) request(ctx context.Context, b *bench, secret string, q ask) *http.Request {
	if q.model == "" {
		q.model = "small"
	}
	if q.simulate == "" {
		q.simulate = "{}"
	}
	path, body := "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"stream":%v,"messages":[{"role":"user","content":%q}]`, q.model, q.stream, prompt)
	switch s.dialect {
	case gateway.DialectAnthropic:
		path = "/v1/messages"
		body = fmt.Sprintf(`{"model":%q,"stream":%v,"max_tokens":1000,"messages":[{"role":"user","content":[{"type":"text","text":%q}]}]`, q.model, q.stream, prompt)
	case gateway.DialectGemini:
		path = "/v1beta/models/" + q.model + ":generateContent"
		if q.stream {
			path = "/v1beta/models/" + q.model + ":streamGenerateContent?alt=sse"
		}
		body = fmt.Sprintf(`{"contents":[{"role":"user","parts":[{"text":%q}]}]`, prompt)
	}
	req := must(http.NewRequestWithContext(ctx, "POST", b.url+path, strings.NewReader(body+q.more+`,"simulate":`+q.simulate+"}")))
	if secret != "" {
		if s.key == "Authorization" {
			secret = "Bearer " + secret
		}
		req.Header.Set(s.key, secret)
	}
	return req
}

// told is what a client of any dialect makes of an answer.
type told struct {
	status  int
	header  http.Header
	id      uuid.UUID
	raw     string
	err     error
	text    string
	images  int
	tool    string // name and arguments of the call
	done    bool   // the stream's own end came
	code    string // of the error; empty if there is none
	message string
}

func (s speech) ask(b *bench, secret string, q ask) *told {
	b.t.Helper()
	return s.read(must(http.DefaultClient.Do(s.request(b.t.Context(), b, secret, q))))
}

func (s speech) read(resp *http.Response) *told {
	defer resp.Body.Close()
	a := &told{status: resp.StatusCode, header: resp.Header}
	a.id, _ = uuid.Parse(resp.Header.Get("X-Request-Id"))
	var raw []byte
	raw, a.err = io.ReadAll(resp.Body)
	a.raw = string(raw)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		a.take(raw)
		return a
	}
	name := ""
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if n, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			name = string(n)
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			if s.dialect == gateway.DialectAnthropic && !bytes.Contains(data, []byte(`"type":"`+name+`"`)) && name != "ping" {
				a.err = fmt.Errorf("event %q holds %s", name, data)
			}
			a.take(data)
		}
	}
	return a
}

func (a *told) take(data []byte) {
	if string(data) == "[DONE]" {
		a.done = true
		return
	}
	type function struct{ Name, Arguments string }
	type openAI struct {
		Content   string
		ToolCalls []struct{ Function function } `json:"tool_calls"`
		Images    []any
	}
	type block struct {
		Text, Name  string
		Input       json.RawMessage
		PartialJSON string `json:"partial_json"`
	}
	var v struct {
		Choices      []struct{ Message, Delta openAI }
		Type         string
		Content      []block
		ContentBlock block `json:"content_block"`
		Delta        block
		Candidates   []struct {
			Content struct {
				Parts []struct {
					Text         string
					InlineData   *struct{ MimeType string }
					FunctionCall *struct {
						Name string
						Args json.RawMessage
					}
				}
			}
			FinishReason string
		}
		Error *struct {
			Message string
			Code    json.RawMessage
			Details []struct{ Reason string }
		}
	}
	if json.Unmarshal(data, &v) != nil {
		return
	}
	for _, c := range v.Choices {
		for _, m := range []openAI{c.Message, c.Delta} {
			a.text += m.Content
			a.images += len(m.Images)
			for _, t := range m.ToolCalls {
				a.tool += t.Function.Name + t.Function.Arguments
			}
		}
	}
	for _, c := range append(v.Content, v.ContentBlock, v.Delta) {
		a.text += c.Text
		a.tool += c.Name + strings.TrimPrefix(string(c.Input), "{}") + c.PartialJSON
	}
	a.done = a.done || v.Type == "message_stop"
	for _, c := range v.Candidates {
		a.done = a.done || c.FinishReason != ""
		for _, p := range c.Content.Parts {
			a.text += p.Text
			if p.InlineData != nil {
				a.images++
			}
			if p.FunctionCall != nil {
				a.tool += p.FunctionCall.Name + string(p.FunctionCall.Args)
			}
		}
	}
	if v.Error != nil {
		a.code, a.message = strings.Trim(string(v.Error.Code), `"`), v.Error.Message
		if len(v.Error.Details) > 0 {
			a.code = strings.ToLower(v.Error.Details[0].Reason)
		}
	}
}

// TestDialects: the same counts, told the way of each dialect, land in the same
// buckets, as far as the dialect tells them apart.
func TestDialects(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	const simulate = `{"prompt_tokens":374,"completion_tokens":44,"cached_tokens":100,"cache_write_5m":50,"cache_write_1h":20,"reasoning_tokens":4}`
	for dialect, want := range map[gateway.Dialect]events.Tokens{
		gateway.DialectOpenAI:    {Input: 274, CacheRead: 100, Output: 40, Reasoning: 4},
		gateway.DialectAnthropic: {Input: 204, CacheRead: 100, CacheWrite5m: 50, CacheWrite1h: 20, Output: 40, Reasoning: 4},
		gateway.DialectGemini:    {Input: 274, CacheRead: 100, Output: 40, Reasoning: 4},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %v", dialect, stream), func(t *testing.T) {
				s := speechOf(dialect)
				a := s.ask(b, b.secret, ask{model: "opus-4-6", simulate: simulate, stream: stream})
				if a.status != 200 || a.err != nil || a.code != "" || len(a.text) != 160 || (stream && !a.done) {
					t.Fatalf("answer: %+v", a)
				}
				u := b.usage(a.id)
				if u.Tokens != want || u.Outcome != events.OutcomeCompleted || u.Source != events.SourceReported || u.Model != "claude-opus-4-6" || u.Stream != stream {
					t.Errorf("usage: %+v", u)
				}
				if sandbox := b.usage(s.ask(b, b.sandbox, ask{simulate: simulate, stream: stream}).id); !sandbox.Cost.IsZero() || sandbox.Tokens != want {
					t.Errorf("sandbox: %+v", sandbox)
				}
			})
		}
	}
}

func speechOf(d gateway.Dialect) speech {
	for _, s := range speeches {
		if s.dialect == d {
			return s
		}
	}
	panic(d)
}

// tools are members that give a tool and want it called.
func (s speech) tools() string {
	switch s.dialect {
	case gateway.DialectAnthropic:
		return `,"tools":[{"name":"look","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"}`
	case gateway.DialectGemini:
		return `,"tools":[{"functionDeclarations":[{"name":"look"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}`
	default:
		return `,"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}],"tool_choice":"required"`
	}
}

// TestToolsAndJSON: tool calls and structured answers pass through.
func TestToolsAndJSON(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for _, s := range speeches {
		tools, format := s.tools(), `,"response_format":{"type":"json_object"}`
		switch s.dialect {
		case gateway.DialectAnthropic:
			format = ""
		case gateway.DialectGemini:
			format = `,"generationConfig":{"responseMimeType":"application/json"}`
		}
		for _, stream := range []bool{false, true} {
			a := s.ask(b, b.secret, ask{more: tools, stream: stream, simulate: `{"completion_tokens":6}`})
			if want := `look{"a":" tok tok tok tok"}`; a.status != 200 || a.tool != want || a.text != "" || (stream && !a.done) {
				t.Errorf("%s, stream %v: %q, want %q: %s", s.dialect, stream, a.tool, want, a.raw)
			}
			if u := b.usage(a.id); u.Tokens.Output != 6 || u.Source != events.SourceReported {
				t.Errorf("%s, stream %v: %+v", s.dialect, stream, u)
			}
			if format == "" {
				continue
			}
			a = s.ask(b, b.secret, ask{more: format, stream: stream, simulate: `{"completion_tokens":6}`})
			if a.text != `{"a":" tok tok tok tok"}` {
				t.Errorf("%s, stream %v: %q", s.dialect, stream, a.text)
			}
		}
	}
}

// TestImages are counted and billed each.
func TestImages(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for _, s := range []speech{speeches[0], speeches[2]} {
		for _, stream := range []bool{false, true} {
			more := `,"aspect_ratio":"16:9","image_size":"2K","top_k":3`
			if s.dialect == gateway.DialectGemini {
				more = `,"generationConfig":{"imageConfig":{"aspectRatio":"16:9","imageSize":"2K"},"topK":3}`
			}
			a := s.ask(b, b.secret, ask{model: "gemini-2.5-flash-image", more: more, stream: stream, simulate: `{"prompt_tokens":0,"completion_tokens":0,"images":2}`})
			u := b.usage(a.id)
			if a.images != 2 || u.Images != 2 || !u.Cost.Equal(decimal.RequireFromString("0.400001")) {
				t.Errorf("%s, stream %v: %d pictures, usage %+v", s.dialect, stream, a.images, u)
			}
			if bad := s.ask(b, b.secret, ask{model: "gemini-2.5-flash-image", more: strings.Replace(more, "16:9", "7:8", 1)}); bad.status != 400 || !strings.Contains(bad.message, "7:8") {
				t.Errorf("%s: a wrong aspect ratio: %d %s", s.dialect, bad.status, bad.raw)
			}
		}
	}
}

// TestDialectFaults is TestUpstreamFaults for the other dialects. Their streams
// tell the prompt's tokens before the end, so a cut one estimates only the text.
func TestDialectFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	upstream, timeout, completed := events.OutcomeUpstreamError, events.OutcomeTimeout, events.OutcomeCompleted
	const counts = `,"prompt_tokens":9,"completion_tokens":8}`
	for name, c := range map[string]struct {
		simulate string
		stream   bool
		status   int
		code     string
		text     int // tokens of text the client has
		input    uint64
		outcome  events.Outcome
	}{
		"plain 500":         {`{"status":500}`, false, 502, "upstream_error", 0, 0, upstream},
		"our key is bad":    {`{"status":401}`, true, 502, "upstream_error", 0, 0, upstream},
		"client's fault":    {`{"status":400}`, false, 400, "", 0, 0, upstream},
		"rate limit":        {`{"status":429}`, true, 503, "upstream_rate_limited", 0, 0, upstream},
		"overloaded":        {`{"status":529}`, true, 503, "upstream_unavailable", 0, 0, upstream},
		"upstream's 504":    {`{"status":504}`, true, 504, "upstream_timeout", 0, 0, timeout},
		"plain garbage":     {`{"garbage":true}`, false, 502, "upstream_invalid_response", 0, 0, upstream},
		"garbage at once":   {`{"garbage":true}`, true, 502, "upstream_invalid_response", 0, 0, upstream},
		"garbage later":     {`{"garbage":true,"garbage_after_chunks":3` + counts, true, 200, "upstream_invalid_response", 3, 9, upstream},
		"plain cut":         {`{"cut_after_chunks":0}`, false, 502, "upstream_cut", 0, 0, upstream},
		"cut at once":       {`{"cut_after_chunks":0}`, true, 502, "upstream_cut", 0, 0, upstream},
		"cut later":         {`{"cut_after_chunks":5` + counts, true, 200, "upstream_cut", 5, 9, upstream},
		"polite cut":        {`{"cut_politely":true,"cut_after_chunks":5` + counts, true, 200, "upstream_cut", 5, 9, upstream},
		"error inside":      {`{"error_after_chunks":2` + counts, true, 200, "upstream_error", 2, 9, upstream},
		"error at once":     {`{"error_after_chunks":0` + counts, true, 502, "upstream_error", 0, 0, upstream},
		"stall first chunk": {`{"ttft_ms":9000}`, true, 504, "upstream_timeout", 0, 0, timeout},
		"stall inside":      {`{"stall_ms":9000,"stall_after_chunks":3` + counts, true, 200, "upstream_timeout", 3, 9, timeout},
		"usage missing":     {`{"usage":"missing"` + counts, true, 200, "", 8, promptTokens, completed},
		"plain missing":     {`{"usage":"missing"` + counts, false, 200, "", 8, promptTokens, completed},
		"usage negative":    {`{"usage":"negative"` + counts, true, 200, "", 8, promptTokens, completed},
		"usage huge":        {`{"usage":"huge"` + counts, false, 200, "", 8, promptTokens, completed},
		"usage overlaps":    {`{"usage":"overlap"` + counts, true, 200, "", 8, promptTokens, completed},
	} {
		for _, s := range speeches[1:] {
			t.Run(fmt.Sprintf("%s, %s", s.dialect, name), func(t *testing.T) {
				t.Parallel()
				a := s.ask(b, b.secret, ask{simulate: c.simulate, stream: c.stream})
				if a.status != c.status || len(a.text) != 4*c.text || a.err != nil {
					t.Fatalf("answer: %d %q, %v", a.status, a.raw, a.err)
				}
				if bad := c.status != 200 || c.code != ""; bad != (a.message != "") || bad && a.done || (c.code != "" && a.code != c.code) {
					t.Errorf("error %q, done %v, want %q: %s", a.code, a.done, c.code, a.raw)
				}
				u := b.usage(a.id)
				want := events.Tokens{Input: c.input, Output: uint64(c.text)}
				if u.Outcome != c.outcome || u.Source != events.SourceEstimated || u.Tokens != want || u.Cost.IsZero() != (c.text == 0) {
					t.Errorf("usage: %s %s %+v %s, want %s %+v", u.Outcome, u.Source, u.Tokens, u.Cost, c.outcome, want)
				}
			})
		}
	}
}

// TestDialectErrors: every refusal speaks the client's dialect.
func TestDialectErrors(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) { c.Providers = map[string]gateway.Route{"nobody": c.Default} })
	shapes := map[gateway.Dialect]map[int]string{
		gateway.DialectOpenAI:    {401: `{"error":{"message":`, 404: `"type":"invalid_request_error","param":"model","code":"model_not_found"}}`},
		gateway.DialectAnthropic: {401: `{"type":"error","error":{"type":"authentication_error","message":`, 404: `{"type":"error","error":{"type":"not_found_error","message":`},
		gateway.DialectGemini:    {401: `{"error":{"code":401,"message":`, 404: `"status":"NOT_FOUND","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"MODEL_NOT_FOUND"`},
	}
	for _, s := range speeches {
		for _, c := range []struct {
			secret string
			q      ask
			status int
			code   string
		}{
			{"", ask{}, 401, "invalid_api_key"},
			{"sk-nex-abc", ask{}, 401, "invalid_api_key"},
			{b.disabled, ask{}, 403, "api_key_disabled"},
			{b.secret, ask{model: "none"}, 404, "model_not_found"},
			{b.limited, ask{model: "opus-4-6"}, 403, "model_not_allowed"},
			{b.secret, ask{model: "unpriced"}, 503, "model_not_priced"},
			{b.secret, ask{more: `,"model":1,"model":2`}, 400, "invalid_json"},
			{b.secret, ask{more: `,"x":`}, 400, "invalid_json"},
		} {
			a := s.ask(b, c.secret, c.q)
			if a.status != c.status || a.code != c.code || a.message == "" || a.id.Version() != 7 {
				t.Errorf("%s: %d %s, want %d %s", s.dialect, a.status, a.raw, c.status, c.code)
			}
			if want := shapes[s.dialect][c.status]; !strings.Contains(a.raw, want) {
				t.Errorf("%s: %s, want %s", s.dialect, a.raw, want)
			}
		}
	}
	for path, want := range map[string]string{
		"/v1beta/models/small:streamGenerateContent": "UNSUPPORTED_VALUE", "/v1beta/models/small:countTokens": "UNKNOWN_URL", "/v1beta/models/small": "UNKNOWN_URL",
		"/v1beta/other": `"status":"NOT_FOUND"`, "/v1/messages/x": `{"type":"error"`, "/v1/messages": "max_tokens",
	} {
		req := must(http.NewRequest("POST", b.url+path+"?key="+b.secret, strings.NewReader(`{"model":"small","messages":[1],"contents":[1]}`)))
		if path == "/v1/messages" {
			req.Header.Set("Authorization", "Bearer "+b.secret)
		}
		if a := speeches[2].read(must(http.DefaultClient.Do(req))); a.status < 400 || !strings.Contains(a.raw, want) {
			t.Errorf("%s: %d %s", path, a.status, a.raw)
		}
	}
	if n := b.upstream.calls.Load(); n != 0 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
	if len(b.usages())+len(b.admissions()) != 0 {
		t.Error("refused requests left a trace")
	}
}

// TestKeysTravel: a client may send its key the way of any of the dialect's
// clients, and the upstream gets ours alone, with the version the client asked for.
func TestKeysTravel(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for _, c := range []struct {
		s      speech
		change func(*http.Request)
		header string
	}{
		{speech{gateway.DialectAnthropic, "Authorization"}, func(r *http.Request) { r.Header.Set("Anthropic-Version", "2024-01-01"); r.Header.Set("X-Other", "x") }, "X-Api-Key"},
		{speech{gateway.DialectGemini, "Authorization"}, func(*http.Request) {}, "X-Goog-Api-Key"},
		{speech{gateway.DialectGemini, "X-None"}, func(r *http.Request) { r.URL.RawQuery += "&key=" + b.secret }, "X-Goog-Api-Key"},
	} {
		req := c.s.request(t.Context(), b, b.secret, ask{stream: true})
		c.change(req)
		if a := c.s.read(must(http.DefaultClient.Do(req))); a.status != 200 || !a.done {
			t.Errorf("%+v: %d %s", c.s, a.status, a.raw)
		}
		h := *b.upstream.header.Load()
		if h.Get(c.header) != upstreamKey || h.Get("X-Other") != "" || h.Get("X-Forwarded-For") != "" || strings.Contains(fmt.Sprint(h), b.secret) {
			t.Errorf("the upstream got %v", h)
		}
		if c.s.dialect == gateway.DialectAnthropic && h.Get("Anthropic-Version") != "2024-01-01" {
			t.Errorf("the upstream got version %q", h.Get("Anthropic-Version"))
		}
	}
}

// TestDialectClientLeaves: who leaves is billed what the provider counts.
func TestDialectClientLeaves(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for _, s := range speeches[1:] {
		for usage, want := range map[string]events.Tokens{"": {Input: 1000, Output: 200}, `,"usage":"missing"`: {Input: promptTokens, Output: 200}} {
			ctx, cancel := context.WithCancel(t.Context())
			resp := must(http.DefaultClient.Do(s.request(ctx, b, b.secret, ask{stream: true, simulate: `{"prompt_tokens":1000,"completion_tokens":200,"chunk_ms":40` + usage + `}`})))
			must(resp.Body.Read(make([]byte, 10)))
			cancel()
			resp.Body.Close()
			u := b.soon(must(uuid.Parse(resp.Header.Get("X-Request-Id"))))
			if u.Outcome != events.OutcomeCancelled || u.Tokens != want || (usage == "") != (u.Source == events.SourceReported) {
				t.Errorf("%s%s: %s %s %+v", s.dialect, usage, u.Outcome, u.Source, u.Tokens)
			}
		}
	}
}
