package gateway

import (
	"fmt"
	"net/http"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// anthropic is the dialect of Anthropic's messages.
type anthropic struct{}

func (anthropic) dialect() Dialect { return DialectAnthropic }

func (anthropic) secret(r *http.Request) string {
	if key := r.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	return bearer(r)
}

// forwarded are the client's headers that choose a version of the API.
var forwarded = []string{"Anthropic-Version", "Anthropic-Beta"}

// anthropicVersion is sent for clients that name none.
const anthropicVersion = "2023-06-01"

func (anthropic) parse(r *http.Request, body []byte) (*request, *apiError) {
	q := &request{body: body, choices: 1, header: http.Header{}}
	for _, name := range forwarded {
		if v := r.Header.Values(name); len(v) > 0 {
			q.header[name] = v
		}
	}
	var bad *apiError
	var messages, system, tools, output span
	limited := false
	_, err := eachMember(body, 0, func(name string, at span) {
		raw := jsontext.Value(body[at.from:at.to])
		switch name {
		case "model":
			q.modelAt = at
			q.model, bad = stringField(raw, name, bad)
		case "messages":
			messages = at
			bad = listField(raw, name, bad)
		case "system":
			system = at
		case "tools":
			tools, bad = at, first(bad, toolsOfType(raw, anthropicTool))
		case "output_config", "output_format":
			output = at
		case "stream":
			q.stream, bad = boolField(raw, name, bad)
		case "max_tokens":
			limited = true
			q.completionMax, bad = countField(raw, name, 1, plausibleTokensMax, bad)
		default:
			bad = first(bad, anthropicUnmetered(name, raw))
		}
	})
	switch {
	case err != nil:
		return nil, badJSON(err)
	case bad != nil:
		return nil, bad
	case q.model == "":
		return nil, missing("model")
	case messages.empty():
		return nil, missing("messages")
	case !limited || q.completionMax == 0:
		return nil, missing("max_tokens")
	}
	q.measure(system, messages)
	q.measureSchemas(tools, output)
	return q, nil
}

// anthropicTypes are the types of Anthropic's errors by status.
var anthropicTypes = map[int]string{
	http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "authentication_error",
	http.StatusPaymentRequired: "billing_error", http.StatusForbidden: "permission_error", http.StatusNotFound: "not_found_error",
	http.StatusMethodNotAllowed: "invalid_request_error", http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests: "rate_limit_error", http.StatusServiceUnavailable: "overloaded_error", http.StatusGatewayTimeout: "timeout_error",
}

// errorBody is Anthropic's, with our code beside the type.
func (anthropic) errorBody(e *apiError) []byte {
	typ := anthropicTypes[e.status]
	if typ == "" {
		typ = "api_error"
	}
	message, _ := jsontext.AppendQuote(nil, e.message) // bad UTF-8 is replaced
	code, _ := jsontext.AppendQuote(nil, e.code)
	return fmt.Appendf(nil, `{"type":"error","error":{"type":%q,"message":%s,"code":%s}}`, typ, message, code)
}

func (a anthropic) appendError(b []byte, e *apiError) []byte {
	return appendEvent(b, []byte("error"), a.errorBody(e))
}

// anthropicWire passes Anthropic's requests through.
type anthropicWire struct{}

func (anthropicWire) upstream() Dialect { return DialectAnthropic }

func (anthropicWire) call(q *request, u Upstream, h http.Header) (string, []byte, error) {
	h.Set("Anthropic-Version", anthropicVersion)
	for name, values := range q.header {
		h[name] = values
	}
	if u.APIKey != "" {
		h.Set("X-Api-Key", u.APIKey)
	}
	return "/messages", q.edited(q.rename(u.Model)), nil
}

func (anthropicWire) plain(_ *request, body []byte, text *written) ([]byte, reading, error) {
	r, err := readAnthropic(body, text)
	return body, r, err
}

func readAnthropic(body []byte, text *written) (reading, error) {
	var r reading
	m, err := members(body, "usage", "error", "content")
	switch {
	case err != nil:
		return r, err
	case m["error"].Kind() == '{':
		return r, errFailedInside
	case m["content"].Kind() != '[':
		return r, fmt.Errorf("%w: no content", errGarbage)
	}
	scanChunk(m["content"], text)
	if m["usage"].Kind() == '{' {
		var u anthropicUsage
		err := u.merge(m["usage"])
		if err == nil {
			r.believe(u.tokens())
		} else {
			r.doubt = err
		}
	}
	return r, nil
}

func (anthropicWire) tap(*request) tap { return &anthropicTap{} }

// anthropicTap: message_start carries the figures of the prompt, message_delta
// the stop reason and the cumulative output; what comes before the first delta of
// the content goes out with it.
type anthropicTap struct {
	usage    anthropicUsage
	doubt    error
	final    bool // message_delta brought the output
	begun    bool // content has come
	pings    int
	stopping bool
	done     bool
	out      []byte
}

func (t *anthropicTap) event(name, data []byte, text *written) (seen, error) {
	if err := anObject(data); err != nil {
		return seen{}, err
	}
	if len(name) == 0 {
		var c struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(data, &c, lenient); err != nil {
			return seen{}, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
		}
		name = []byte(c.Type)
	}
	s, err := t.take(string(name), data, text)
	t.out = appendEvent(t.out[:0], name, data)
	s.out = t.out
	return s, err
}

func (t *anthropicTap) take(name string, data []byte, text *written) (seen, error) {
	switch name {
	case "error":
		return seen{}, errFailedInside
	case "message_start":
		return seen{stage: stageOpening}, t.report(data, "message")
	case "content_block_start":
		scanChunk(data, text)
	case "content_block_delta":
		scanChunk(data, text)
		t.begun = true
	case "ping":
		// One ping follows every start; a second means that the content takes its
		// time, and the client is to see that there is life.
		t.pings++
		t.begun = t.begun || t.pings > 1
	case "message_delta":
		t.stopping, t.final = true, true
		if err := t.report(data, ""); err != nil {
			return seen{}, err
		}
	case "message_stop":
		t.done = true
		return seen{stage: stageEnd, done: true}, nil
	}
	switch {
	case t.stopping:
		return seen{stage: stageEnd}, nil
	case !t.begun:
		return seen{stage: stageOpening}, nil
	}
	return seen{}, nil
}

// report takes the usage of an event, or of an object inside it.
func (t *anthropicTap) report(data []byte, inside string) error {
	for _, name := range []string{inside, "usage"} {
		if name == "" {
			continue
		}
		m, err := members(data, name)
		if err != nil {
			return err
		}
		if data = m[name]; len(data) == 0 || data[0] != '{' {
			return nil
		}
	}
	if err := t.usage.merge(data); err != nil {
		t.doubt = err
	}
	return nil
}

func (t *anthropicTap) ended() bool { return t.done }

func (t *anthropicTap) reading() reading {
	r := reading{doubt: t.doubt}
	if t.doubt != nil || t.usage.empty() {
		return r
	}
	tokens, err := t.usage.tokens()
	switch {
	case err != nil:
		r.doubt = err
	case t.final:
		r.tokens = &tokens
	default: // the output of message_start is a beginning, not a count
		r.prompt = promptOf(tokens)
	}
	return r
}

func (*anthropicTap) tail(events.Tokens) string { return "" }
