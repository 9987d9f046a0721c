package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// chatRequest is a chat request as far as the gateway looks at it. The body is
// kept as it came; fields the gateway does not know pass through to the upstream.
type chatRequest struct {
	body         []byte
	model        string
	stream       bool
	includeUsage bool // the client asked for the usage chunk
	choices      int  // how many answers were asked for; at least 1
	promptTokens uint64

	modelAt        span
	streamOptionAt span // of the value of stream_options; empty if there is none
	includeUsageAt span // of the value of include_usage in it; empty if there is none
	end            int  // offset of the closing brace
}

// span is a part of the body, [from, to).
type span struct{ from, to int }

func (s span) empty() bool { return s.to == 0 }

// choicesMax bounds n, the answers of one request; OpenAI's limit is the same.
const choicesMax = 128

// readBody reads the request's body, bounded in size and time.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *apiError) {
	limit := g.config.BodyBytesMax
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	// The deadline must come off again: when it passes, the server takes the
	// client for gone. A socket's deadline is on the real clock.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(g.config.Timeouts.Body))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	var b bytes.Buffer
	// Room for the whole body at once, but not on a client's word alone.
	b.Grow(int(min(max(r.ContentLength, 0), 1<<20)) + bytes.MinRead)
	if _, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return nil, tooLarge(limit)
		}
		return nil, badRequest("unreadable_body", "", "The request body could not be read.")
	}
	return b.Bytes(), nil
}

// parseChat finds the fields the gateway needs in one pass that also checks the
// whole body: it must be one JSON object in UTF-8, no name twice in any object,
// so that no two readers of it can see different requests.
func parseChat(body []byte) (*chatRequest, *apiError) {
	q := &chatRequest{body: body, choices: 1}
	var bad *apiError
	var messages, tools span
	end, err := eachMember(body, 0, func(name string, at span) {
		raw := jsontext.Value(body[at.from:at.to])
		switch name {
		case "model":
			q.modelAt = at
			q.model, bad = stringField(raw, name, bad)
		case "messages":
			messages = at
			if len(raw) == 0 || raw[0] != '[' || len(bytes.Trim(raw[1:len(raw)-1], " \t\r\n")) == 0 {
				bad = first(bad, badRequest("invalid_type", name, "'messages' must be a list of at least one message."))
			}
		case "tools":
			tools = at
		case "stream":
			q.stream, bad = boolField(raw, name, bad)
		case "n":
			q.choices, bad = choicesField(raw, bad)
		case "stream_options":
			bad = q.streamOptions(at, bad)
		}
	})
	switch {
	case err != nil:
		return nil, badRequest("invalid_json", "", "The request body is not one valid JSON object in UTF-8: %s.", jsonProblem(err))
	case bad != nil:
		return nil, bad
	case q.model == "":
		return nil, badRequest("missing_required_parameter", "model", "You must provide a 'model'.")
	case messages.empty():
		return nil, badRequest("missing_required_parameter", "messages", "You must provide 'messages'.")
	}
	q.end = end
	scan := scanChunk(body[messages.from:messages.to])
	q.promptTokens = max(tokensOf(scan.textBytes+scan.partBytes+tools.to-tools.from), 1)
	return q, nil
}

// eachMember calls f for every member of the one object that b holds. Offsets
// are base plus those in b. It returns the offset of the closing brace.
func eachMember(b []byte, base int, f func(name string, at span), opts ...jsontext.Options) (end int, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(b), opts...)
	open, err := d.ReadToken()
	if err != nil {
		return 0, err
	}
	if open.Kind() != '{' {
		return 0, errors.New("it is not an object")
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return 0, err
		}
		text := name.String() // the token is gone with the next read
		value, err := d.ReadValue()
		if err != nil {
			return 0, err
		}
		to := int(d.InputOffset())
		f(text, span{base + to - len(value), base + to})
	}
	if _, err := d.ReadToken(); err != nil {
		return 0, err
	}
	end = base + int(d.InputOffset()) - 1
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return 0, errors.New("something follows the object")
	}
	return end, nil
}

// jsonProblem is what is wrong with a body, without quoting it.
func jsonProblem(err error) string {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "a name is there twice"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "it ends too early"
	case errors.As(err, &syntax) && syntax.Err != nil:
		return syntax.Err.Error()
	default:
		return strings.TrimSuffix(err.Error(), ".")
	}
}

func first(a, b *apiError) *apiError {
	if a != nil {
		return a
	}
	return b
}

func stringField(raw jsontext.Value, name string, bad *apiError) (string, *apiError) {
	if raw.Kind() != '"' {
		return "", first(bad, badRequest("invalid_type", name, "%q must be a string.", name))
	}
	b, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", first(bad, badRequest("invalid_type", name, "%q must be a string.", name))
	}
	return string(b), bad
}

func boolField(raw jsontext.Value, name string, bad *apiError) (bool, *apiError) {
	switch raw.Kind() {
	case 't', 'f', 'n':
		return raw.Kind() == 't', bad
	default:
		return false, first(bad, badRequest("invalid_type", name, "%q must be true or false.", name))
	}
}

func choicesField(raw jsontext.Value, bad *apiError) (int, *apiError) {
	if raw.Kind() == 'n' {
		return 1, bad
	}
	n := 0
	for _, c := range raw {
		if c < '0' || c > '9' || n > choicesMax {
			n = 0
			break
		}
		n = n*10 + int(c-'0')
	}
	if n < 1 || n > choicesMax {
		return 1, first(bad, badRequest("invalid_value", "n", "'n' must be a whole number from 1 to %d.", choicesMax))
	}
	return n, bad
}

func (q *chatRequest) streamOptions(at span, bad *apiError) *apiError {
	raw := jsontext.Value(q.body[at.from:at.to])
	q.streamOptionAt = at
	if raw.Kind() == 'n' {
		return bad
	}
	if raw.Kind() != '{' {
		return first(bad, badRequest("invalid_type", "stream_options", "'stream_options' must be an object."))
	}
	_, err := eachMember(raw, at.from, func(name string, at span) {
		if name == "include_usage" {
			q.includeUsageAt = at
			q.includeUsage, bad = boolField(jsontext.Value(q.body[at.from:at.to]), "stream_options.include_usage", bad)
		}
	})
	if err != nil { // the decoder has been over it already
		return first(bad, badRequest("invalid_json", "stream_options", "'stream_options' is not valid JSON."))
	}
	return bad
}

// edit replaces a part of the body.
type edit struct {
	at   span
	text string
}

// upstreamBody is the body for the upstream: the client's, with the model's name
// there and, in a stream, with usage asked for. Nothing else is touched.
func (q *chatRequest) upstreamBody(model string) []byte {
	var edits []edit
	if model != q.model {
		name, _ := jsontext.AppendQuote(nil, model) // configured; bad UTF-8 is replaced
		edits = append(edits, edit{q.modelAt, string(name)})
	}
	if q.stream && !q.includeUsage {
		edits = append(edits, q.askForUsage())
	}
	if len(edits) == 0 {
		return q.body
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.at.from - b.at.from })
	size := len(q.body)
	for _, e := range edits {
		size += len(e.text)
	}
	out, from := make([]byte, 0, size), 0
	for _, e := range edits {
		out = append(append(out, q.body[from:e.at.from]...), e.text...)
		from = e.at.to
	}
	return append(out, q.body[from:]...)
}

func (q *chatRequest) askForUsage() edit {
	options := q.streamOptionAt
	switch {
	case !q.includeUsageAt.empty():
		return edit{q.includeUsageAt, "true"}
	case options.empty(): // the object has members: model and messages
		return edit{span{q.end, q.end}, `,"stream_options":{"include_usage":true}`}
	case len(bytes.Trim(q.body[options.from+1:options.to-1], " \t\r\n")) > 0 && q.body[options.from] == '{':
		return edit{span{options.from + 1, options.from + 1}, `"include_usage":true,`}
	default: // null, or an object without members
		return edit{options, `{"include_usage":true}`}
	}
}
