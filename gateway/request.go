package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// request is a client's request as far as the gateway looks at it. The body is
// kept as it came; fields the gateway does not know pass through to an upstream
// of the same dialect.
type request struct {
	body          []byte
	model         string
	stream        bool
	created       int64       // Unix time, for answers that are translated
	choices       int         // how many answers were asked for; at least 1
	completionMax uint64      // tokens each of them may have; 0 if the request names no limit
	header        http.Header // of the client's, what an upstream of the same dialect is to see

	prompt    []span    // where in body the text that the model reads is
	schemas   []span    // and what describes its tools, and the form of the answer
	scan      chunkScan // of those
	promptRaw int       // bytes of those, text or not

	modelAt    span // of the name; empty if it is not in the body
	options    streamOptions
	translated translated
}

// streamOptions are what OpenAI's clients say about a stream.
type streamOptions struct {
	includeUsage   bool // the client asked for the usage chunk
	at             span // of the value of stream_options; empty if there is none
	includeUsageAt span // of the value of include_usage in it; empty if there is none
	end            int  // offset of the body's closing brace
}

// span is a part of the body, [from, to).
type span struct{ from, to int }

func (s span) empty() bool { return s.to == 0 }

// choicesMax bounds the answers of one request; OpenAI's limit is the same.
const choicesMax = 128

// measure scans the parts of the body that the model reads.
func (q *request) measure(parts ...span) {
	for _, at := range parts {
		if at.empty() {
			continue
		}
		part := q.body[at.from:at.to]
		s := scanChunk(part, nil)
		if len(part) > 0 && part[0] == '"' { // a text, not an object with text
			s.textBytes += decodedLen(part[1 : len(part)-1])
		}
		q.scan.textBytes += s.textBytes
		q.scan.media += s.media
		q.scan.mediaBytes += s.mediaBytes
		q.scan.documents += s.documents
		q.scan.links += s.links
		q.promptRaw += len(part)
		q.prompt = append(q.prompt, at)
	}
}

// measureSchemas counts what describes tools and answers as it stands: nearly all
// of it is read by the model.
func (q *request) measureSchemas(parts ...span) {
	for _, at := range parts {
		if at.empty() {
			continue
		}
		q.scan.textBytes += at.to - at.from
		q.promptRaw += at.to - at.from
		q.schemas = append(q.schemas, at)
	}
}

// roughPrompt is the prompt's tokens by length alone; at least 1.
func (q *request) roughPrompt() uint64 { return max(roughTokens(q.scan.textBytes), 1) }

// text collects the prompt, for counting. No more of it is kept than a count
// may take.
func (q *request) text(sampleMax int) *written {
	w := &written{max: sampleMax}
	for _, at := range q.prompt {
		part := q.body[at.from:at.to]
		scanChunk(part, w)
		if len(part) > 0 && part[0] == '"' {
			w.add(part, decodedLen(part[1:len(part)-1]))
		}
	}
	for _, at := range q.schemas {
		w.addRaw(q.body[at.from:at.to])
	}
	return w
}

// readBody reads the request's body, bounded in size and time.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) (_ []byte, e *apiError) {
	limit := g.config.BodyBytesMax
	control := http.NewResponseController(w)
	defer func() {
		if e != nil {
			g.leaveUnread(w)
			return
		}
		// The deadline must come off again: when it passes, the server takes the client
		// for gone.
		_ = control.SetReadDeadline(time.Time{})
	}()
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	_ = control.SetReadDeadline(time.Now().Add(g.config.Timeouts.Body)) // a socket's deadline is on the real clock
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

// decoders keep what they learned to hold: the names of an object, for one.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// eachMember calls f for every member of the one object that b holds. Offsets
// are base plus those in b. It returns the offset of the closing brace.
func eachMember(b []byte, base int, f func(name string, at span), opts ...jsontext.Options) (end int, err error) {
	d := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(d)
	d.Reset(bytes.NewBuffer(b), opts...)
	defer d.Reset(noBytes{}) // holds on to nothing
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

// noBytes is an empty reader.
type noBytes struct{}

func (noBytes) Read([]byte) (int, error) { return 0, io.EOF }

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

// countField reads a whole number from least to most; null is none.
func countField(raw jsontext.Value, name string, least, most uint64, bad *apiError) (uint64, *apiError) {
	if raw.Kind() == 'n' {
		return 0, bad
	}
	n := uint64(0)
	ok := len(raw) > 0 && len(raw) < 19
	for _, c := range raw {
		if ok = ok && c >= '0' && c <= '9'; ok {
			n = n*10 + uint64(c-'0')
		}
	}
	if !ok || n < least || n > most {
		return 0, first(bad, badRequest("invalid_value", name, "'%s' must be a whole number from %d to %d.", name, least, most))
	}
	return n, bad
}

// listField checks that a value is a list of at least one element.
func listField(raw jsontext.Value, name string, bad *apiError) *apiError {
	if len(raw) < 2 || raw[0] != '[' || len(bytes.Trim(raw[1:len(raw)-1], " \t\r\n")) == 0 {
		return first(bad, badRequest("invalid_type", name, "'%s' must be a list of at least one message.", name))
	}
	return bad
}

// edit replaces a part of the body.
type edit struct {
	at   span
	text string
}

// edited is the body with the edits made; the client's own is never changed.
func (q *request) edited(edits []edit) []byte {
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

// rename is the edit that gives the model the upstream's name for it.
func (q *request) rename(model string) []edit {
	if model == q.model || q.modelAt.empty() {
		return nil
	}
	name, _ := jsontext.AppendQuote(nil, model) // configured; bad UTF-8 is replaced
	return []edit{{q.modelAt, string(name)}}
}
