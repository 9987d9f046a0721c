package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// openAI is the dialect of OpenAI's chat completions.
type openAI struct{}

func (openAI) dialect() Dialect { return DialectOpenAI }

func (openAI) secret(r *http.Request) string { return bearer(r) }

// bearer is the token of a request's Authorization.
func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// parse checks the whole body: it must be one JSON object in UTF-8, no name twice
// in any object, so that no two readers of it can see different requests.
func (openAI) parse(_ *http.Request, body []byte) (*request, *apiError) {
	q := &request{body: body, choices: 1}
	var bad *apiError
	var messages, tools, functions, format span
	end, err := eachMember(body, 0, func(name string, at span) {
		raw := jsontext.Value(body[at.from:at.to])
		n := uint64(0)
		switch name {
		case "model":
			q.modelAt = at
			q.model, bad = stringField(raw, name, bad)
		case "messages":
			messages = at
			bad = listField(raw, name, bad)
		case "tools":
			tools, bad = at, first(bad, toolsOfType(raw, openAITool))
		case "functions": // what tools were called before
			functions = at
		case "response_format":
			format = at
		case "stream":
			q.stream, bad = boolField(raw, name, bad)
		case "n":
			n, bad = countField(raw, name, 1, choicesMax, bad)
			q.choices = max(int(n), 1)
		case "max_tokens", "max_completion_tokens":
			n, bad = countField(raw, name, 1, plausibleTokensMax, bad)
			q.completionMax = max(q.completionMax, n) // providers differ in which of the two they heed
		case "stream_options":
			bad = q.streamOptions(at, bad)
		default:
			bad = first(bad, openAIUnmetered(name, raw))
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
	}
	q.options.end = end
	q.measure(messages)
	q.measureSchemas(tools, functions, format)
	return q, nil
}

func (q *request) streamOptions(at span, bad *apiError) *apiError {
	raw := jsontext.Value(q.body[at.from:at.to])
	q.options.at = at
	if raw.Kind() == 'n' {
		return bad
	}
	if raw.Kind() != '{' {
		return first(bad, badRequest("invalid_type", "stream_options", "'stream_options' must be an object."))
	}
	_, err := eachMember(raw, at.from, func(name string, at span) {
		if name == "include_usage" {
			q.options.includeUsageAt = at
			q.options.includeUsage, bad = boolField(jsontext.Value(q.body[at.from:at.to]), "stream_options.include_usage", bad)
		}
	})
	if err != nil { // the decoder has been over it already
		return first(bad, badRequest("invalid_json", "stream_options", "'stream_options' is not valid JSON."))
	}
	return bad
}

func (openAI) errorBody(e *apiError) []byte {
	type detail struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	d := detail{Message: e.message, Type: e.typ, Code: e.code}
	if e.param != "" {
		d.Param = &e.param
	}
	b, err := json.Marshal(struct {
		Error detail `json:"error"`
	}{d})
	if err != nil { // text that is not UTF-8; none of ours
		return []byte(`{"error":{"message":"Internal error.","type":"server_error","param":null,"code":"internal_error"}}`)
	}
	return b
}

func (o openAI) appendError(b []byte, e *apiError) []byte {
	return appendEvent(b, nil, o.errorBody(e))
}

// openAIWire passes OpenAI's requests through. In a stream it asks for usage, and
// leaves the usage chunk out again if the client did not ask for it.
type openAIWire struct{}

func (openAIWire) upstream() Dialect { return DialectOpenAI }

func (openAIWire) call(q *request, u Upstream, h http.Header) (string, []byte, error) {
	if u.APIKey != "" {
		h.Set("Authorization", "Bearer "+u.APIKey)
	}
	edits := q.rename(u.Model)
	if q.stream && !q.options.includeUsage {
		edits = append(edits, q.askForUsage())
	}
	return "/chat/completions", q.edited(edits), nil
}

func (q *request) askForUsage() edit {
	options := q.options.at
	switch {
	case !q.options.includeUsageAt.empty():
		return edit{q.options.includeUsageAt, "true"}
	case options.empty(): // the object has members: model and messages
		end := q.options.end
		return edit{span{end, end}, `,"stream_options":{"include_usage":true}`}
	case len(bytes.Trim(q.body[options.from+1:options.to-1], " \t\r\n")) > 0 && q.body[options.from] == '{':
		return edit{span{options.from + 1, options.from + 1}, `"include_usage":true,`}
	default: // null, or an object without members
		return edit{options, `{"include_usage":true}`}
	}
}

func (openAIWire) plain(_ *request, body []byte, text *written) ([]byte, reading, error) {
	var r reading
	m, err := members(body, "usage", "error", "choices")
	switch {
	case err != nil:
		return nil, r, err
	case m["error"].Kind() == '{':
		return nil, r, errFailedInside
	case m["choices"].Kind() != '[':
		return nil, r, fmt.Errorf("%w: no choices", errGarbage)
	}
	r.images = uint64(scanChunk(m["choices"], text).images)
	if m["usage"].Kind() == '{' {
		r.believe(parseOpenAIUsage(m["usage"]))
	}
	return body, r, nil
}

// members are some members of the one object that an answer is.
func members(body []byte, names ...string) (map[string]jsontext.Value, error) {
	found := make(map[string]jsontext.Value, len(names))
	_, err := eachMember(body, 0, func(name string, at span) {
		for _, n := range names {
			if n == name {
				found[n] = body[at.from:at.to]
			}
		}
	}, lenient)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	return found, nil
}

func (openAIWire) tap(q *request) tap { return &openAITap{q: q} }

// openAITap: an event goes to the client as soon as it is there until the answer
// is finished, from the last finish_reason or the usage on.
type openAITap struct {
	q         *request
	finishes  int
	usageSeen bool // a chunk of usage alone: nothing follows it
	done      bool
	read      reading
	out       []byte
}

func (t *openAITap) event(_, data []byte, text *written) (seen, error) {
	if string(data) == "[DONE]" {
		t.done = true
		return seen{done: true}, nil
	}
	if err := anObject(data); err != nil {
		return seen{}, err
	}
	scan := scanChunk(data, text)
	t.read.images += uint64(scan.images)
	bare := false
	if scan.usage || scan.failure {
		var err error
		if bare, err = t.inspect(data); err != nil {
			return seen{}, err
		}
	}
	t.finishes += scan.finishes
	s := seen{}
	if t.usageSeen || t.finishes >= t.q.choices {
		s.stage = stageEnd
	}
	if !bare || t.q.options.includeUsage {
		t.out = appendEvent(t.out[:0], nil, data)
		s.out = t.out
	}
	return s, nil
}

func anObject(data []byte) error {
	if len(data) < 2 || data[0] != '{' || data[len(data)-1] != '}' {
		return fmt.Errorf("%w: an event that is no JSON object", errGarbage)
	}
	return nil
}

// inspect decodes a chunk that may hold usage or an error. bare is true for the
// chunk that carries usage and nothing else.
func (t *openAITap) inspect(data []byte) (bare bool, err error) {
	var c struct {
		Choices []jsontext.Value `json:"choices"`
		Usage   jsontext.Value   `json:"usage"`
		Error   jsontext.Value   `json:"error"`
	}
	if err := json.Unmarshal(data, &c, lenient); err != nil {
		return false, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	if c.Error.Kind() == '{' {
		return false, errFailedInside
	}
	if c.Usage.Kind() != '{' {
		return false, nil
	}
	// The last usage counts: some providers send a running total.
	t.read.believe(parseOpenAIUsage(c.Usage))
	bare = len(c.Choices) == 0
	t.usageSeen = t.usageSeen || bare
	return bare, nil
}

// ended: only [DONE] ends an OpenAI stream well.
func (t *openAITap) ended() bool { return t.done }

// reading: a running total of a stream that was cut is no final figure, but what
// it says of the prompt stands.
func (t *openAITap) reading() reading {
	r := t.read
	if final := t.done || t.usageSeen || t.finishes >= t.q.choices; !final && r.tokens != nil {
		r.prompt, r.tokens = promptOf(*r.tokens), nil
	}
	return r
}

func (*openAITap) tail(events.Tokens) string { return "data: [DONE]\n\n" }
