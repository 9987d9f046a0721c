package gateway

import (
	"fmt"
	"strings"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// translation: requests in OpenAI's dialect are put to upstreams of the other two
// by what the dialects have in common: text, system text, pictures, PDFs, tools and
// their results, tool choice, stop, token limits, temperature, top_p, top_k,
// reasoning text, a response format with a schema, and for Gemini n, any response
// format and the pictures it draws.
// What the other side would need and cannot have is refused, by name; fields
// that only tune are left out. Numbers travel as they were written.

// chatCompletion is a request in OpenAI's dialect, as far as it is translated, from
// it or to it.
type chatCompletion struct {
	Model               string         `json:"model,omitzero"`
	Messages            []chatMessage  `json:"messages"`
	Stream              bool           `json:"stream,omitzero"`
	MaxTokens           uint64         `json:"max_tokens,omitzero"`
	MaxCompletionTokens uint64         `json:"max_completion_tokens,omitzero"`
	Choices             int            `json:"n,omitzero"`
	Tools               []chatTool     `json:"tools,omitzero"`
	ToolChoice          jsontext.Value `json:"tool_choice,omitzero"`
	Parallel            jsontext.Value `json:"parallel_tool_calls,omitzero"`
	Stop                jsontext.Value `json:"stop,omitzero"`
	Temperature         jsontext.Value `json:"temperature,omitzero"`
	TopP                jsontext.Value `json:"top_p,omitzero"`
	TopK                jsontext.Value `json:"top_k,omitzero"`
	Seed                jsontext.Value `json:"seed,omitzero"`
	PresencePenalty     jsontext.Value `json:"presence_penalty,omitzero"`
	FrequencyPenalty    jsontext.Value `json:"frequency_penalty,omitzero"`
	ResponseFormat      *chatFormat    `json:"response_format,omitzero"`
	AspectRatio         string         `json:"aspect_ratio,omitzero"`
	ImageSize           string         `json:"image_size,omitzero"`
	Simulate            jsontext.Value `json:"simulate,omitzero"` // the simulated provider's
}

type chatFormat struct {
	Type       string     `json:"type"`
	JSONSchema chatSchema `json:"json_schema,omitzero"`
}

type chatSchema struct {
	Name   string         `json:"name"`
	Schema jsontext.Value `json:"schema"`
}

type chatMessage struct {
	Role       string         `json:"role"`
	Content    jsontext.Value `json:"content"` // a string, a list of parts, or null
	ToolCalls  []chatCall     `json:"tool_calls,omitzero"`
	ToolCallID string         `json:"tool_call_id,omitzero"`
}

type chatTool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string         `json:"name"`
		Description string         `json:"description,omitzero"`
		Parameters  jsontext.Value `json:"parameters,omitzero"`
	} `json:"function"`
}

// chatCall is a tool call, in requests and answers; Index only in a stream.
type chatCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
	Extra *extraContent `json:"extra_content,omitempty"`
}

// extraContent is where Google's own translation keeps the signature of a thought:
// its newer models refuse a conversation whose tool calls have lost theirs.
type extraContent struct {
	Google struct {
		ThoughtSignature string `json:"thought_signature,omitempty"`
	} `json:"google"`
}

func newCall(id, name, arguments string) chatCall {
	c := chatCall{ID: id, Type: "function"}
	c.Function.Name, c.Function.Arguments = name, arguments
	return c
}

// notTranslated refuses what has no counterpart at the upstream.
func notTranslated(param, what string) *apiError {
	return badRequest("unsupported_value", param, "%s cannot be translated for this model's provider.", what)
}

func decodeChat(body []byte) (*chatCompletion, error) {
	var c chatCompletion
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, badRequest("invalid_type", "", "The request is not a chat completion: a field has the wrong type.")
	}
	for i := range c.Tools {
		if typ := c.Tools[i].Type; typ != "function" && typ != "" {
			return nil, notTranslated("tools", fmt.Sprintf("A tool of type %q", shown(typ)))
		}
	}
	return &c, nil
}

// part is a piece of a message: a text, a picture or a document.
type part struct {
	text        string
	media, data string // of a file in the request itself
	url         string // of a picture elsewhere
}

// of is the part that an address holds or points to.
func (part) of(address string) part {
	head, data, inline := strings.Cut(address, ";base64,")
	if media, ok := strings.CutPrefix(head, "data:"); ok && inline {
		return part{media: media, data: data}
	}
	return part{url: address}
}

// parts of a content, in order.
func (m *chatMessage) parts() ([]part, error) {
	switch m.Content.Kind() {
	case '"':
		var s string
		err := json.Unmarshal(m.Content, &s)
		return []part{{text: s}}, err
	case '[':
	default: // null, or not there
		return nil, nil
	}
	var list []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		ImageURL struct {
			URL string `json:"url"`
		} `json:"image_url"`
		File struct {
			Data string `json:"file_data"`
		} `json:"file"`
	}
	if err := json.Unmarshal(m.Content, &list); err != nil {
		return nil, badRequest("invalid_type", "messages", "A message's content must be a string or a list of parts.")
	}
	var ps []part
	for _, p := range list {
		switch p.Type {
		case "text":
			ps = append(ps, part{text: p.Text})
		case "image_url":
			ps = append(ps, part{}.of(p.ImageURL.URL))
		case "file":
			file := part{}.of(p.File.Data)
			if file.media != mediaPDF {
				return nil, notTranslated("messages", "A file that is no PDF in the request itself")
			}
			ps = append(ps, file)
		default:
			return nil, notTranslated("messages", fmt.Sprintf("A content part of type %q", p.Type))
		}
	}
	return ps, nil
}

// text is a content's text alone.
func (m *chatMessage) text() (string, error) {
	ps, err := m.parts()
	var b strings.Builder
	for _, p := range ps {
		if p.text == "" && (p.data != "" || p.url != "") {
			return "", notTranslated("messages", "A picture in a message of role "+m.Role)
		}
		b.WriteString(p.text)
	}
	return b.String(), err
}

// arguments of a tool call are an object in the other dialects.
func (c *chatCall) arguments() (jsontext.Value, error) {
	raw := jsontext.Value(strings.TrimSpace(c.Function.Arguments))
	if len(raw) == 0 {
		return jsontext.Value("{}"), nil
	}
	if raw.Kind() != '{' || !raw.IsValid() {
		return nil, badRequest("invalid_value", "messages", "The arguments of a tool call must be a JSON object.")
	}
	return raw, nil
}

// stops are the stop sequences: OpenAI's may be one string.
func (c *chatCompletion) stops() ([]string, error) {
	switch c.Stop.Kind() {
	case '"':
		var s string
		err := json.Unmarshal(c.Stop, &s)
		return []string{s}, err
	case '[':
		var list []string
		if err := json.Unmarshal(c.Stop, &list); err != nil {
			return nil, badRequest("invalid_type", "stop", "'stop' must be a string or a list of strings.")
		}
		return list, nil
	default:
		return nil, nil
	}
}

// choice is the tool choice: auto, none, required, or a tool by its name; both
// empty if there is none.
func (c *chatCompletion) choice() (mode, name string) {
	if c.ToolChoice.Kind() == '"' {
		_ = json.Unmarshal(c.ToolChoice, &mode)
		return mode, ""
	}
	var named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	_ = json.Unmarshal(c.ToolChoice, &named) // another shape names no tool
	return "", named.Function.Name
}

// number passes a number on, and leaves null out.
func number(raw jsontext.Value) jsontext.Value {
	if raw.Kind() == '0' {
		return raw
	}
	return nil
}

// completion is an answer, or a chunk of one, in OpenAI's dialect.
type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   *completionUsage   `json:"usage,omitempty"`
}

type completionChoice struct {
	Index   int            `json:"index"`
	Message *wholeMsg      `json:"message,omitzero"`
	Delta   *completionMsg `json:"delta,omitzero"` // an empty one is there
	Finish  *string        `json:"finish_reason"`
}

type completionMsg struct {
	Role      string            `json:"role,omitempty"`
	Content   *string           `json:"content,omitzero"`
	Reasoning string            `json:"reasoning_content,omitempty"`
	ToolCalls []chatCall        `json:"tool_calls,omitempty"`
	Images    []completionImage `json:"images,omitempty"`
}

// wholeMsg is a completionMsg that is no delta: its content is there, or null.
type wholeMsg struct {
	Role      string            `json:"role,omitempty"`
	Content   *string           `json:"content"`
	Reasoning string            `json:"reasoning_content,omitempty"`
	ToolCalls []chatCall        `json:"tool_calls,omitempty"`
	Images    []completionImage `json:"images,omitempty"`
}

type completionImage struct {
	Type     string `json:"type"`
	ImageURL struct {
		URL string `json:"url"`
	} `json:"image_url"`
}

// mediaPDF is the type of the documents that all models read.
const mediaPDF = "application/pdf"

func (m *completionMsg) write(text string) {
	if m.Content != nil {
		text = *m.Content + text
	}
	m.Content = &text
}

type completionUsage struct {
	Prompt        uint64 `json:"prompt_tokens"`
	Completion    uint64 `json:"completion_tokens"`
	Total         uint64 `json:"total_tokens"`
	PromptDetails struct {
		Cached uint64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning uint64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

// usageOf tells disjoint buckets the way of OpenAI; nil if there is nothing to tell.
func usageOf(t *events.Tokens) *completionUsage {
	if t == nil {
		return nil
	}
	u := &completionUsage{Prompt: t.Prompt(), Completion: t.Completion(), Total: t.Total()}
	u.PromptDetails.Cached, u.CompletionDetails.Reasoning = t.CacheRead, t.Reasoning
	return u
}

// answer is the frame of an answer to q.
func (q *request) answer(id, object string, choices ...completionChoice) completion {
	return completion{ID: "chatcmpl-" + id, Object: object, Created: q.created, Model: q.model, Choices: choices}
}

// chunks writes a stream in OpenAI's dialect.
type chunks struct {
	q       *request
	id      string
	started map[int]bool // choices whose first chunk is out
	out     []byte
}

func newChunks(q *request) chunks { return chunks{q: q, started: map[int]bool{}} }

// add appends a chunk of one choice; finish is empty before its end.
func (c *chunks) add(index int, delta completionMsg, finish string) error {
	if !c.started[index] {
		c.started[index], delta.Role = true, "assistant"
	}
	choice := completionChoice{Index: index, Delta: &delta}
	if finish != "" {
		choice.Finish = &finish
	}
	return c.append(c.q.answer(c.id, "chat.completion.chunk", choice))
}

func (c *chunks) append(chunk completion) error {
	data, err := json.Marshal(chunk, lenient)
	if err != nil {
		return fmt.Errorf("%w: %w", errGarbage, err)
	}
	c.out = appendEvent(c.out, nil, data)
	return nil
}

// tail is the usage, if the client asked and it is known, and the end.
func (c *chunks) tail(r reading) string {
	c.out = c.out[:0]
	if usage := usageOf(r.tokens); usage != nil && c.q.options.includeUsage {
		chunk := c.q.answer(c.id, "chat.completion.chunk")
		chunk.Choices, chunk.Usage = []completionChoice{}, usage
		_ = c.append(chunk) // numbers and names that have been written before
	}
	return string(c.out) + "data: [DONE]\n\n"
}
