package gateway

import (
	"fmt"
	"net/http"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// anthropicMaxTokens is asked for when the client names no limit: Anthropic wants
// one, and this is what all of its models can do.
const anthropicMaxTokens = 4096

// toAnthropic translates OpenAI's requests for Anthropic's upstreams.
type toAnthropic struct{ anthropicWire }

type messagesRequest struct {
	Model       string            `json:"model"`
	MaxTokens   uint64            `json:"max_tokens"`
	System      []messagesBlock   `json:"system,omitempty"`
	Messages    []messagesMessage `json:"messages"`
	Stream      bool              `json:"stream,omitzero"`
	Stop        []string          `json:"stop_sequences,omitempty"`
	Temperature jsontext.Value    `json:"temperature,omitzero"`
	TopP        jsontext.Value    `json:"top_p,omitzero"`
	TopK        jsontext.Value    `json:"top_k,omitzero"`
	Tools       []messagesTool    `json:"tools,omitempty"`
	ToolChoice  *messagesChoice   `json:"tool_choice,omitempty"`
	Output      *messagesOutput   `json:"output_config,omitempty"`
	Simulate    jsontext.Value    `json:"simulate,omitzero"`
}

type messagesMessage struct {
	Role    string          `json:"role"`
	Content []messagesBlock `json:"content"`
}

type messagesBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text,omitempty"`
	Thinking  string          `json:"thinking,omitempty"`
	Source    *messagesSource `json:"source,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     jsontext.Value  `json:"input,omitzero"`
	ToolUseID string          `json:"tool_use_id,omitempty"`
	Content   string          `json:"content,omitempty"`
	Signature *string         `json:"signature,omitzero"`
}

type messagesSource struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
}

type messagesTool struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	InputSchema jsontext.Value `json:"input_schema"`
}

// messagesOutput is a response format: Anthropic has those with a schema.
type messagesOutput struct {
	Format struct {
		Type   string         `json:"type"`
		Schema jsontext.Value `json:"schema"`
	} `json:"format"`
}

type messagesChoice struct {
	Type        string `json:"type"`
	Name        string `json:"name,omitempty"`
	NotParallel bool   `json:"disable_parallel_tool_use,omitzero"`
}

func (w toAnthropic) call(q *request, u Upstream, h http.Header) (string, []byte, error) {
	in, err := decodeChat(q.body)
	if err != nil {
		return "", nil, err
	}
	if q.choices > 1 {
		return "", nil, notTranslated("n", "More than one choice")
	}
	out := messagesRequest{Model: u.Model, MaxTokens: orElse(q.completionMax, anthropicMaxTokens), Stream: q.stream, Messages: []messagesMessage{},
		Temperature: number(in.Temperature), TopP: number(in.TopP), TopK: number(in.TopK), Simulate: in.Simulate}
	if f := in.ResponseFormat; f != nil && f.Type != "text" {
		if f.JSONSchema.Schema.Kind() != '{' {
			return "", nil, notTranslated("response_format", "A response format without a schema")
		}
		out.Output = &messagesOutput{}
		out.Output.Format.Type, out.Output.Format.Schema = "json_schema", f.JSONSchema.Schema
	}
	if out.Stop, err = in.stops(); err != nil {
		return "", nil, err
	}
	for i := range in.Messages {
		if err := out.add(&in.Messages[i]); err != nil {
			return "", nil, err
		}
	}
	for _, t := range in.Tools {
		schema := t.Function.Parameters
		if schema.Kind() != '{' {
			schema = jsontext.Value(`{"type":"object"}`)
		}
		out.Tools = append(out.Tools, messagesTool{t.Function.Name, t.Function.Description, schema})
	}
	switch mode, name := in.choice(); {
	case name != "":
		out.ToolChoice = &messagesChoice{Type: "tool", Name: name}
	case mode == "required":
		out.ToolChoice = &messagesChoice{Type: "any"}
	case mode == "auto" || mode == "none":
		out.ToolChoice = &messagesChoice{Type: mode}
	}
	if in.Parallel.Kind() == 'f' && len(out.Tools) > 0 {
		if out.ToolChoice == nil {
			out.ToolChoice = &messagesChoice{Type: "auto"}
		}
		out.ToolChoice.NotParallel = out.ToolChoice.Type != "none" // which has no such member
	}
	body, err := json.Marshal(out)
	if err != nil {
		return "", nil, fmt.Errorf("translate the request: %w", err)
	}
	path, _, err := w.anthropicWire.call(&request{}, u, h) // for its headers
	return path, body, err
}

// add translates a message. Those of one role in a row become one, as tool
// results must.
func (r *messagesRequest) add(m *chatMessage) error {
	role := "user"
	var blocks []messagesBlock
	switch m.Role {
	case "system", "developer":
		text, err := m.text()
		if text != "" {
			r.System = append(r.System, messagesBlock{Type: "text", Text: text})
		}
		return err
	case "tool":
		text, err := m.text()
		if err != nil {
			return err
		}
		blocks = []messagesBlock{{Type: "tool_result", ToolUseID: m.ToolCallID, Content: text}}
	case "user", "assistant":
		role = m.Role
		ps, err := m.parts()
		if err != nil {
			return err
		}
		for _, p := range ps {
			switch {
			case p.data != "", p.url != "":
				blocks = append(blocks, p.image())
			case p.text != "": // Anthropic refuses empty ones
				blocks = append(blocks, messagesBlock{Type: "text", Text: p.text})
			}
		}
		for i := range m.ToolCalls {
			c := &m.ToolCalls[i]
			input, err := c.arguments()
			if err != nil {
				return err
			}
			blocks = append(blocks, messagesBlock{Type: "tool_use", ID: c.ID, Name: c.Function.Name, Input: input})
		}
	default:
		return notTranslated("messages", fmt.Sprintf("A message of role %q", m.Role))
	}
	if n := len(r.Messages); n > 0 && r.Messages[n-1].Role == role {
		r.Messages[n-1].Content = append(r.Messages[n-1].Content, blocks...)
	} else if len(blocks) > 0 {
		r.Messages = append(r.Messages, messagesMessage{role, blocks})
	}
	return nil
}

// image is a picture, or a document, as a block.
func (p part) image() messagesBlock {
	b := messagesBlock{Type: "image", Source: &messagesSource{Type: "base64", MediaType: p.media, Data: p.data}}
	if p.media == mediaPDF {
		b.Type = "document"
	}
	if p.data == "" {
		b.Source = &messagesSource{Type: "url", URL: p.url}
	}
	return b
}

// finishOfAnthropic is OpenAI's word for a stop reason.
func finishOfAnthropic(stop string) string {
	switch stop {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	default:
		return "stop"
	}
}

func (toAnthropic) plain(q *request, body []byte, text *written) ([]byte, reading, error) {
	r, err := readAnthropic(body, text)
	if err != nil {
		return nil, r, err
	}
	var in struct {
		ID         string          `json:"id"`
		Content    []messagesBlock `json:"content"`
		StopReason string          `json:"stop_reason"`
	}
	if err := json.Unmarshal(body, &in, lenient); err != nil {
		return nil, r, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	m, finish := &completionMsg{Role: "assistant"}, finishOfAnthropic(in.StopReason)
	for _, b := range in.Content {
		switch b.Type {
		case "text":
			m.write(b.Text)
		case "thinking":
			m.Reasoning += b.Thinking
		case "tool_use":
			m.ToolCalls = append(m.ToolCalls, newCall(b.ID, b.Name, string(b.Input)))
		}
	}
	answer := q.answer(in.ID, "chat.completion", completionChoice{Message: (*wholeMsg)(m), Finish: &finish})
	answer.Usage = usageOf(r.tokens)
	out, err := json.Marshal(answer, lenient)
	return out, r, err
}

func (toAnthropic) tap(q *request) tap {
	return &fromAnthropic{anthropicTap: anthropicTap{}, chunks: newChunks(q)}
}

// fromAnthropic reads Anthropic's stream and writes OpenAI's.
type fromAnthropic struct {
	anthropicTap
	chunks chunks
	tools  int // calls begun
}

func (t *fromAnthropic) event(name, data []byte, text *written) (seen, error) {
	s, err := t.anthropicTap.event(name, data, text)
	if err != nil {
		return s, err
	}
	t.chunks.out = t.chunks.out[:0]
	err = t.translate(data)
	s.out = t.chunks.out
	return s, err
}

func (t *fromAnthropic) translate(data []byte) error {
	var e struct {
		Type    string `json:"type"`
		Message struct {
			ID string `json:"id"`
		} `json:"message"`
		Block messagesBlock `json:"content_block"`
		Delta struct {
			Type        string `json:"type"`
			Text        string `json:"text"`
			Thinking    string `json:"thinking"`
			PartialJSON string `json:"partial_json"`
			StopReason  string `json:"stop_reason"`
		} `json:"delta"`
	}
	if err := json.Unmarshal(data, &e, lenient); err != nil {
		return fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	switch {
	case e.Type == "message_start":
		t.chunks.id = e.Message.ID
	case e.Type == "content_block_start" && e.Block.Type == "tool_use":
		call, index := newCall(e.Block.ID, e.Block.Name, ""), t.tools
		call.Index = &index
		t.tools++
		return t.chunks.add(0, completionMsg{ToolCalls: []chatCall{call}}, "")
	case e.Type == "message_delta" && e.Delta.StopReason != "":
		return t.chunks.add(0, completionMsg{}, finishOfAnthropic(e.Delta.StopReason))
	case e.Type != "content_block_delta":
	case e.Delta.Type == "text_delta":
		return t.chunks.add(0, completionMsg{Content: &e.Delta.Text}, "")
	case e.Delta.Type == "thinking_delta":
		return t.chunks.add(0, completionMsg{Reasoning: e.Delta.Thinking}, "")
	case e.Delta.Type == "input_json_delta":
		call, index := chatCall{}, max(t.tools-1, 0)
		call.Index, call.Function.Arguments = &index, e.Delta.PartialJSON
		return t.chunks.add(0, completionMsg{ToolCalls: []chatCall{call}}, "")
	}
	return nil
}

func (t *fromAnthropic) tail(events.Tokens) string { return t.chunks.tail(t.reading()) }
