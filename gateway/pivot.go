package gateway

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Clients of Anthropic's and Google's dialects reach upstreams of another one by
// way of OpenAI's: their requests become chat completions, which are passed on or
// translated once more, and what is left of the answer on its way back, in
// OpenAI's dialect, is told in theirs. What the upstream's own dialect says of the
// usage is read before that, as for anybody, so it is metered the same.
//
// A member that is not known, or has no counterpart, is refused by name; what only
// tunes is left out: caching hints, reasoning effort, safety thresholds, labels,
// and top_k where OpenAI's dialect is spoken, which has none. Thoughts of before
// are left out too: only the model that had them can read them.

// speaker is a client's dialect in terms of OpenAI's.
type speaker interface {
	// chat is the client's request for an upstream of a dialect.
	chat(q *request, to Dialect) (*chatCompletion, error)
	// whole is a plain answer, but for its usage, which is told when it is settled.
	whole(q *request, a *heard) ([]byte, error)
	// usage is a member of an answer, with its name.
	usage(used events.Tokens) string
	// stream writes a stream of events.
	stream(q *request) speech
}

// speech is the state of one stream in a client's dialect.
type speech interface {
	// chunk appends what a chunk becomes.
	chunk(b []byte, c *heard) ([]byte, error)
	// end appends the end: the finish and the usage.
	end(b []byte, used events.Tokens) []byte
}

// via is a way through OpenAI's dialect.
type via struct {
	wire // from OpenAI's dialect to the upstream's
	speaker
}

// translated is what a request in OpenAI's dialect does not say any more, and its
// answer needs.
type translated struct {
	thoughts bool              // the client asked to see them
	names    map[string]string // of tools, as the client has them, by those that were sent
	minted   int               // ids of tool calls
}

func (w via) call(q *request, u Upstream, h http.Header) (string, []byte, error) {
	q.translated = translated{}
	c, err := w.chat(q, w.upstream())
	if err != nil {
		return "", nil, err
	}
	if n := len(c.Messages); n > 0 && c.Messages[n-1].Role == "assistant" {
		return "", nil, notTranslated("messages", "A last message of the model's, for it to go on with,")
	}
	c.Model, c.Stream = u.Model, q.stream
	c.MaxTokens = q.completionMax
	if isOpenAI(u.BaseURL) {
		c.MaxTokens, c.MaxCompletionTokens = 0, q.completionMax
	}
	if q.choices > 1 {
		c.Choices = q.choices
	}
	body, err := json.Marshal(c)
	if err != nil { // all of it is the client's
		return "", nil, badJSON(err)
	}
	chat, bad := openAI{}.parse(nil, body)
	if bad != nil {
		return "", nil, bad
	}
	return w.wire.call(chat, u, h)
}

// isOpenAI tells OpenAI's own service, whose newer models know a limit by its newer
// name alone, from others who speak its dialect, and may know it by the older.
func isOpenAI(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil {
		return false
	}
	return u.Hostname() == "api.openai.com" || strings.HasSuffix(u.Hostname(), ".openai.azure.com")
}

func (w via) plain(q *request, body []byte, text *written) ([]byte, reading, error) {
	out, r, err := w.wire.plain(q, body, text)
	if err != nil {
		return nil, r, err
	}
	var a heard
	if err := a.decode(out); err != nil {
		return nil, r, err
	}
	if len(a.Choices) == 0 {
		return nil, r, fmt.Errorf("%w: no choice", errGarbage)
	}
	out, err = w.whole(q, &a)
	return out, r, err
}

// tell adds what is billed to a plain answer.
func (w via) tell(out []byte, used events.Tokens) []byte {
	return append(append(append(out[:len(out)-1], ','), w.usage(used)...), '}')
}

func (w via) tap(q *request) tap { return &viaTap{tap: w.wire.tap(q), speech: w.stream(q)} }

// viaTap reads the upstream's stream by its own tap, and tells the client in its
// dialect what that one passes on in OpenAI's.
type viaTap struct {
	tap
	speech speech
	out    []byte
}

func (t *viaTap) event(name, data []byte, text *written) (seen, error) {
	s, err := t.tap.event(name, data, text)
	if err != nil {
		return s, err
	}
	t.out = t.out[:0]
	for line := range bytes.Lines(s.out) {
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		var c heard
		if err := c.decode(data); err != nil {
			return s, err
		}
		if t.out, err = t.speech.chunk(t.out, &c); err != nil {
			return s, err
		}
	}
	s.out = t.out
	return s, nil
}

func (t *viaTap) tail(used events.Tokens) string { return string(t.speech.end(nil, used)) }

// heard is an answer in OpenAI's dialect, or a chunk of one, from whoever speaks it.
type heard struct {
	ID      string `json:"id"`
	Choices []struct {
		Index   int      `json:"index"`
		Message heardMsg `json:"message"`
		Delta   heardMsg `json:"delta"`
		Finish  string   `json:"finish_reason"`
	} `json:"choices"`
}

type heardMsg struct {
	Content          jsontext.Value    `json:"content"`
	Refusal          string            `json:"refusal"`
	ReasoningContent jsontext.Value    `json:"reasoning_content"`
	Reasoning        jsontext.Value    `json:"reasoning"` // its other name
	ToolCalls        []chatCall        `json:"tool_calls"`
	Images           []completionImage `json:"images"`
}

func (h *heard) decode(data []byte) error {
	if err := json.Unmarshal(data, h, lenient); err != nil {
		return fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	h.ID = strings.TrimPrefix(h.ID, "chatcmpl-")
	return nil
}

// text is what is said, be it a refusal.
func (m *heardMsg) text() string {
	s := textOf(m.Content)
	if m.Content.Kind() == '[' {
		var list []struct {
			Text jsontext.Value `json:"text"`
		}
		_ = json.Unmarshal(m.Content, &list, lenient) // another shape has no text
		for _, p := range list {
			s += textOf(p.Text)
		}
	}
	return s + m.Refusal
}

func (m *heardMsg) thoughts() string { return textOf(m.ReasoningContent) + textOf(m.Reasoning) }

// textOf is a JSON string; of anything else, nothing.
func textOf(raw jsontext.Value) (s string) {
	if raw.Kind() == '"' {
		_ = json.Unmarshal(raw, &s, lenient) // it has been decoded around
	}
	return s
}

// calls are the tool calls of a whole answer. One that the limit cut off is left
// out: the finish says so.
func (q *request) calls(m *heardMsg, id, finish string) ([]chatCall, error) {
	var out []chatCall
	for i, c := range m.ToolCalls {
		args, err := c.arguments()
		switch {
		case err != nil && finish == "length":
			continue
		case err != nil:
			return nil, fmt.Errorf("%w: arguments of a tool call that are no object", errGarbage)
		}
		c.Function.Arguments = string(args)
		c.Function.Name = q.clientsName(c.Function.Name)
		if c.ID == "" {
			c.ID = mintedID(id, i)
		}
		out = append(out, c)
	}
	return out, nil
}

// mintedID names a call that its upstream gave no name.
func mintedID(answer string, i int) string { return fmt.Sprintf("call_%s_%d", answer, i) }

const (
	toolNameMax  = 64 // of OpenAI's and Google's tools
	toolNameKept = toolNameMax - 9
)

// sentName is a tool's name that every dialect takes, the same each time. The
// client's own is kept, for the answer.
func (q *request) sentName(name string) string {
	fits := len(name) <= toolNameMax
	safe := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		fits = false
		return '_'
	}, name)
	if len(safe) > 0 && (safe[0] == '-' || safe[0] <= '9') {
		fits = false
		safe = "_" + safe
	}
	if fits {
		return name
	}
	sent := fmt.Sprintf("%s_%x", safe[:min(len(safe), toolNameKept)], sha256.Sum256([]byte(name)))[:min(len(safe), toolNameKept)+9]
	if q.translated.names == nil {
		q.translated.names = map[string]string{}
	}
	q.translated.names[sent] = name
	return sent
}

func (q *request) clientsName(sent string) string {
	if name, ok := q.translated.names[sent]; ok {
		return name
	}
	return sent
}

// decodeStrictly decodes a request of which every member must be known: what is
// not could change its meaning, and would be lost.
func decodeStrictly(body []byte, into any) error {
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	var at *json.SemanticError
	if !errors.As(err, &at) {
		return badJSON(err)
	}
	param := shown(strings.ReplaceAll(strings.TrimPrefix(string(at.JSONPointer), "/"), "/", "."))
	if errors.Is(err, json.ErrUnknownName) {
		return notTranslated(param, "'"+param+"'")
	}
	return badRequest("invalid_type", param, "'%s' has the wrong type.", param)
}

// quoted is a text as JSON.
func quoted(s string) string {
	b, _ := jsontext.AppendQuote(nil, s) // bad UTF-8 is replaced
	return string(b)
}

// textContent and partsContent are contents of a message: texts alone become one
// string, which every server takes.
func textContent(s string) jsontext.Value { return jsontext.Value(quoted(s)) }

func partsContent(ps []chatPart, between string) (jsontext.Value, error) {
	var texts []string
	for _, p := range ps {
		if p.Type == "text" {
			texts = append(texts, p.Text)
		}
	}
	if len(texts) == len(ps) {
		return textContent(strings.Join(texts, between)), nil
	}
	raw, err := json.Marshal(ps)
	if err != nil {
		return nil, fmt.Errorf("translate a message: %w", err)
	}
	return raw, nil
}

// chatPart is a part of a content on its way to the upstream.
type chatPart struct {
	Type     string    `json:"type"`
	Text     string    `json:"text,omitempty"`
	ImageURL *chatURL  `json:"image_url,omitzero"`
	File     *chatFile `json:"file,omitzero"`
}

type chatURL struct {
	URL string `json:"url"`
}

type chatFile struct {
	Name string `json:"filename"`
	Data string `json:"file_data"`
}

func textPart(s string) chatPart { return chatPart{Type: "text", Text: s} }

func imagePart(url string) chatPart { return chatPart{Type: "image_url", ImageURL: &chatURL{url}} }

// dataPart is a file in the request itself: a picture, or a PDF.
func dataPart(param, media, data string) (chatPart, error) {
	url := "data:" + media + ";base64," + data
	switch {
	case strings.HasPrefix(media, "image/"):
		return imagePart(url), nil
	case media == mediaPDF:
		return chatPart{Type: "file", File: &chatFile{Name: "document.pdf", Data: url}}, nil
	}
	return chatPart{}, notTranslated(param, fmt.Sprintf("A file of type %q", shown(media)))
}
