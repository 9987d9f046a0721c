package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// gemini is the dialect of Google's generateContent.
type gemini struct{}

func (gemini) dialect() Dialect { return DialectGemini }

func (gemini) secret(r *http.Request) string {
	if key := r.Header.Get("X-Goog-Api-Key"); key != "" {
		return key
	}
	if key := r.URL.Query().Get("key"); key != "" {
		return key
	}
	return bearer(r)
}

// Methods of a model.
const (
	generateContent       = "generateContent"
	streamGenerateContent = "streamGenerateContent"
)

// parse takes the model and the method from the path, …/models/<model>:<method>.
func (gemini) parse(r *http.Request, body []byte) (*request, *apiError) {
	_, call, _ := strings.Cut(r.URL.Path, "/models/")
	at := max(strings.LastIndexByte(call, ':'), 0)
	q := &request{body: body, choices: 1, model: call[:at]}
	switch method := strings.TrimPrefix(call[at:], ":"); method {
	case generateContent:
	case streamGenerateContent:
		if q.stream = true; r.URL.Query().Get("alt") != "sse" {
			return nil, badRequest("unsupported_value", "alt", "Streams are sent as server-sent events only: add '?alt=sse'.")
		}
	default:
		return nil, &apiError{status: http.StatusNotFound, typ: typeInvalidRequest, code: "unknown_url",
			message: fmt.Sprintf("A model has no method %q here: call %s or %s.", shown(method), generateContent, streamGenerateContent)}
	}
	var bad *apiError
	var contents, system, tools, generation span
	// Google takes two forms of a name: given both, it and we might read different ones.
	once := func(to *span, name string, at span) {
		if !to.empty() {
			bad = first(bad, badRequest("invalid_json", name, "'%s' is there twice, in two forms of its name.", name))
		}
		*to = at
	}
	_, err := eachMember(body, 0, func(name string, at span) {
		switch name {
		case "contents":
			contents = at
			if body[at.from] != '{' { // a single one is accepted, as Google does
				bad = listField(body[at.from:at.to], name, bad)
			}
		case "systemInstruction", "system_instruction":
			once(&system, name, at)
		case "tools":
			tools, bad = at, first(bad, geminiTools(body[at.from:at.to]))
		case "generationConfig", "generation_config":
			once(&generation, name, at)
			bad = q.generation(at, bad)
		default:
			bad = first(bad, geminiUnmetered(name, body[at.from:at.to]))
		}
	})
	switch {
	case err != nil:
		return nil, badJSON(err)
	case bad != nil:
		return nil, bad
	case q.model == "":
		return nil, missing("model")
	case contents.empty():
		return nil, missing("contents")
	}
	q.measure(system, contents)
	q.measureSchemas(tools)
	return q, nil
}

func (q *request) generation(at span, bad *apiError) *apiError {
	if q.body[at.from] != '{' {
		return first(bad, badRequest("invalid_type", "generationConfig", "'generationConfig' must be an object."))
	}
	_, err := eachMember(q.body[at.from:at.to], at.from, func(name string, at span) {
		raw, n := jsontext.Value(q.body[at.from:at.to]), uint64(0)
		switch name {
		case "candidateCount", "candidate_count":
			n, bad = countField(raw, name, 1, choicesMax, bad)
			q.choices = max(q.choices, int(n)) // of two forms of the name, whichever is heeded
		case "maxOutputTokens", "max_output_tokens":
			n, bad = countField(raw, name, 1, plausibleTokensMax, bad)
			q.completionMax = max(q.completionMax, n)
		case "responseSchema", "response_schema", "responseJsonSchema", "response_json_schema":
			q.measureSchemas(at)
		}
	})
	if err != nil { // the decoder has been over it already
		return first(bad, badRequest("invalid_json", "generationConfig", "'generationConfig' is not valid JSON."))
	}
	return bad
}

// geminiStatus are the names of Google's errors by status.
var geminiStatus = map[int]string{
	http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusRequestEntityTooLarge: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED",
	http.StatusPaymentRequired: "RESOURCE_EXHAUSTED", http.StatusForbidden: "PERMISSION_DENIED", http.StatusNotFound: "NOT_FOUND",
	http.StatusMethodNotAllowed: "UNIMPLEMENTED", http.StatusTooManyRequests: "RESOURCE_EXHAUSTED",
	http.StatusBadGateway: "UNAVAILABLE", http.StatusServiceUnavailable: "UNAVAILABLE", http.StatusGatewayTimeout: "DEADLINE_EXCEEDED",
}

// errorBody is Google's; our code is the reason in its details.
func (gemini) errorBody(e *apiError) []byte {
	name := geminiStatus[e.status]
	if name == "" {
		name = "INTERNAL"
	}
	message, _ := jsontext.AppendQuote(nil, e.message) // bad UTF-8 is replaced
	reason, _ := jsontext.AppendQuote(nil, strings.ToUpper(e.code))
	return fmt.Appendf(nil, `{"error":{"code":%d,"message":%s,"status":%q,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":%s,"domain":"aione"}]}}`,
		e.status, message, name, reason)
}

func (g gemini) appendError(b []byte, e *apiError) []byte {
	return appendEvent(b, nil, g.errorBody(e))
}

// geminiWire passes Gemini's requests through.
type geminiWire struct{}

func (geminiWire) upstream() Dialect { return DialectGemini }

func (geminiWire) call(q *request, u Upstream, h http.Header) (string, []byte, error) {
	return geminiPath(q, u, h), q.body, nil
}

// geminiPath sets the key as a header: an address may be logged on its way.
func geminiPath(q *request, u Upstream, h http.Header) string {
	if u.APIKey != "" {
		h.Set("X-Goog-Api-Key", u.APIKey)
	}
	path := "/models/" + (&url.URL{Path: u.Model}).EscapedPath() + ":"
	if q.stream {
		return path + streamGenerateContent + "?alt=sse"
	}
	return path + generateContent
}

func (geminiWire) plain(_ *request, body []byte, text *written) ([]byte, reading, error) {
	r, err := readGemini(body, text)
	return body, r, err
}

// readGemini reads a whole answer. A prompt that was blocked has no candidates.
func readGemini(body []byte, text *written) (reading, error) {
	var r reading
	m, err := members(body, "usageMetadata", "error", "candidates", "promptFeedback")
	switch {
	case err != nil:
		return r, err
	case m["error"].Kind() == '{':
		return r, errFailedInside
	case m["candidates"].Kind() != '[' && m["promptFeedback"].Kind() != '{':
		return r, fmt.Errorf("%w: no candidates", errGarbage)
	}
	r.images = uint64(scanChunk(m["candidates"], text).images)
	if m["usageMetadata"].Kind() == '{' {
		r.believe(parseGeminiUsage(m["usageMetadata"]))
	}
	return r, nil
}

func (geminiWire) tap(q *request) tap { return &geminiTap{choices: q.choices} }

// geminiTap: every event may carry a running count; the last is final once all
// candidates have finished. The end of the body is the end of the stream.
type geminiTap struct {
	choices  int
	finishes int
	blocked  bool // the prompt was, so there are no candidates to finish
	read     reading
	out      []byte
}

func (t *geminiTap) event(_, data []byte, text *written) (seen, error) {
	if err := t.take(data, text); err != nil {
		return seen{}, err
	}
	t.out = appendEvent(t.out[:0], nil, data)
	s := seen{out: t.out}
	if t.ended() {
		s.stage = stageEnd
	}
	return s, nil
}

func (t *geminiTap) take(data []byte, text *written) error {
	if err := anObject(data); err != nil {
		return err
	}
	scan := scanChunk(data, text)
	t.finishes += scan.finishes
	t.read.images += uint64(scan.images)
	if !scan.usage && !scan.failure {
		return nil
	}
	var c struct {
		Usage    jsontext.Value `json:"usageMetadata"`
		Error    jsontext.Value `json:"error"`
		Feedback struct {
			BlockReason string `json:"blockReason"`
		} `json:"promptFeedback"`
	}
	if err := json.Unmarshal(data, &c, lenient); err != nil {
		return fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	if c.Error.Kind() == '{' {
		return errFailedInside
	}
	t.blocked = t.blocked || c.Feedback.BlockReason != ""
	if c.Usage.Kind() == '{' {
		t.read.believe(parseGeminiUsage(c.Usage))
	}
	return nil
}

func (t *geminiTap) ended() bool { return t.blocked || t.finishes >= t.choices }

func (t *geminiTap) reading() reading {
	r := t.read
	if !t.ended() && r.tokens != nil {
		r.prompt, r.tokens = promptOf(*r.tokens), nil
	}
	return r
}

func (*geminiTap) tail(events.Tokens) string { return "" }
