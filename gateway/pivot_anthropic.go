package gateway

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// messagesIn is a request in Anthropic's dialect. What is a bare value is checked
// by parse, or only tunes.
type messagesIn struct {
	Model      jsontext.Value  `json:"model"`
	MaxTokens  jsontext.Value  `json:"max_tokens"`
	Stream     jsontext.Value  `json:"stream"`
	System     messagesContent `json:"system"`
	Messages   []messagesTurn  `json:"messages"`
	Stop       []string        `json:"stop_sequences"`
	Tools      []messagesInUse `json:"tools"`
	ToolChoice struct {
		Type        string `json:"type"`
		Name        string `json:"name"`
		NotParallel bool   `json:"disable_parallel_tool_use"`
	} `json:"tool_choice"`
	Output struct {
		Format messagesFormat `json:"format"`
		Effort jsontext.Value `json:"effort"`
	} `json:"output_config"`
	OutputFormat messagesFormat `json:"output_format"` // its older name
	Thinking     struct {
		Type    string         `json:"type"`
		Display string         `json:"display"`
		Budget  jsontext.Value `json:"budget_tokens"`
	} `json:"thinking"`
	Temperature jsontext.Value `json:"temperature"`
	TopP        jsontext.Value `json:"top_p"`
	TopK        jsontext.Value `json:"top_k"`
	Simulate    jsontext.Value `json:"simulate"`

	Metadata          jsontext.Value `json:"metadata"`
	CacheControl      jsontext.Value `json:"cache_control"`
	ContextManagement jsontext.Value `json:"context_management"`
	ServiceTier       jsontext.Value `json:"service_tier"`
	Speed             jsontext.Value `json:"speed"`
	InferenceGeo      jsontext.Value `json:"inference_geo"`
	Container         jsontext.Value `json:"container"`
	MCPServers        jsontext.Value `json:"mcp_servers"`
}

type messagesTurn struct {
	Role    string          `json:"role"`
	Content messagesContent `json:"content"`
}

type messagesFormat struct {
	Type   string         `json:"type"`
	Schema jsontext.Value `json:"schema"`
}

// messagesInUse is a tool. How eagerly, and by whom, it may be called only tunes.
type messagesInUse struct {
	Type         string         `json:"type"`
	Name         string         `json:"name"`
	Description  string         `json:"description"`
	InputSchema  jsontext.Value `json:"input_schema"`
	Strict       jsontext.Value `json:"strict"`
	Examples     jsontext.Value `json:"input_examples"`
	CacheControl jsontext.Value `json:"cache_control"`
	Deferred     jsontext.Value `json:"defer_loading"`
	Eager        jsontext.Value `json:"eager_input_streaming"`
	Callers      jsontext.Value `json:"allowed_callers"`
}

// messagesContent is a list of blocks, or one text.
type messagesContent []messagesInBlock

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *messagesContent) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return json.UnmarshalDecode(d, (*[]messagesInBlock)(c))
	}
	*c = messagesContent{{Type: "text"}}
	return json.UnmarshalDecode(d, &(*c)[0].Text)
}

type messagesInBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	Source    *messagesOrigin `json:"source"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Input     jsontext.Value  `json:"input"`
	ToolUseID string          `json:"tool_use_id"`
	Content   messagesContent `json:"content"`
	IsError   bool            `json:"is_error"`
	Title     string          `json:"title"`
	Context   string          `json:"context"`
	Citations jsontext.Value  `json:"citations"`
	ToolName  string          `json:"tool_name"`

	Thinking     jsontext.Value `json:"thinking"`
	Signature    jsontext.Value `json:"signature"`
	Data         jsontext.Value `json:"data"`
	CacheControl jsontext.Value `json:"cache_control"`
	Caller       jsontext.Value `json:"caller"`
}

type messagesOrigin struct {
	Type      string         `json:"type"`
	MediaType string         `json:"media_type"`
	Data      string         `json:"data"`
	URL       string         `json:"url"`
	FileID    jsontext.Value `json:"file_id"`
	Content   jsontext.Value `json:"content"`
}

// signedElsewhere is what Google has for tool calls that its model did not make:
// its newer ones refuse a conversation whose calls have no signature, for which
// Anthropic's dialect has no place.
const signedElsewhere = "skip_thought_signature_validator"

// anthropicSpeaker is Anthropic's dialect in terms of OpenAI's.
type anthropicSpeaker struct{}

func (anthropicSpeaker) chat(q *request, to Dialect) (*chatCompletion, error) {
	var in messagesIn
	if err := decodeStrictly(q.body, &in); err != nil {
		return nil, err
	}
	c := &chatCompletion{Temperature: number(in.Temperature), TopP: number(in.TopP), Simulate: in.Simulate}
	if to != DialectOpenAI {
		c.TopK = number(in.TopK)
	}
	q.translated.thoughts = in.Thinking.Type != "" && in.Thinking.Type != "disabled" && in.Thinking.Display != "omitted"
	if len(in.Stop) > 0 {
		c.Stop, _ = json.Marshal(in.Stop) // strings that were decoded
	}
	for _, f := range []messagesFormat{in.OutputFormat, in.Output.Format} {
		switch {
		case f.Type == "json_schema" && f.Schema.Kind() == '{':
			c.ResponseFormat = newFormat(f.Schema)
		case f.Type != "":
			return nil, notTranslated("output_config.format", fmt.Sprintf("A format of type %q ('output_config.format')", shown(f.Type)))
		}
	}
	if err := in.tools(q, c, to); err != nil {
		return nil, err
	}
	if len(in.System) > 0 {
		if err := in.add(q, c, &messagesTurn{Role: "system", Content: in.System}, to); err != nil {
			return nil, err
		}
	}
	for i := range in.Messages {
		if err := in.add(q, c, &in.Messages[i], to); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func newFormat(schema jsontext.Value) *chatFormat {
	return &chatFormat{Type: "json_schema", JSONSchema: chatSchema{Name: "answer", Schema: schema}}
}

func (in *messagesIn) tools(q *request, c *chatCompletion, to Dialect) error {
	for _, t := range in.Tools {
		if t.Type != "" && t.Type != "custom" {
			return notTranslated("tools", fmt.Sprintf("A tool of type %q ('tools'), which only Anthropic's models know,", shown(t.Type)))
		}
		c.Tools = append(c.Tools, newTool(q.sentName(t.Name), t.Description, t.InputSchema))
	}
	switch choice := in.ToolChoice; choice.Type {
	case "":
	case "auto", "none":
		c.ToolChoice = textContent(choice.Type)
	case "any":
		c.ToolChoice = textContent("required")
	case "tool":
		c.ToolChoice = namedChoice(q.sentName(choice.Name))
	default:
		return notTranslated("tool_choice", fmt.Sprintf("'tool_choice' of type %q", shown(choice.Type)))
	}
	if in.ToolChoice.NotParallel {
		if to == DialectGemini {
			return notTranslated("tool_choice.disable_parallel_tool_use", "'tool_choice.disable_parallel_tool_use'")
		}
		c.Parallel = jsontext.Value("false")
	}
	return nil
}

func newTool(name, description string, schema jsontext.Value) chatTool {
	t := chatTool{Type: "function"}
	t.Function.Name, t.Function.Description = name, description
	if schema.Kind() == '{' {
		t.Function.Parameters = schema
	}
	return t
}

func namedChoice(name string) jsontext.Value {
	return jsontext.Value(`{"type":"function","function":{"name":` + quoted(name) + `}}`)
}

// add translates a turn: the results of tools first, which must follow their
// calls; then, with the pictures among them, what else is said.
func (in *messagesIn) add(q *request, c *chatCompletion, t *messagesTurn, to Dialect) error {
	m := chatMessage{Role: t.Role, Content: jsontext.Value("null")}
	var said, shownByTools []chatPart
	for i := range t.Content {
		b := &t.Content[i]
		switch {
		case b.Type == "thinking", b.Type == "redacted_thinking":
		case b.Type == "tool_use" && t.Role == "assistant":
			m.ToolCalls = append(m.ToolCalls, b.call(q, to, len(m.ToolCalls) == 0))
		case b.Type == "tool_result" && t.Role == "user":
			result, pictures, err := b.result()
			if err != nil {
				return err
			}
			c.Messages = append(c.Messages, result)
			shownByTools = append(shownByTools, pictures...)
		default:
			p, err := b.part()
			if err != nil {
				return err
			}
			if p.Type != "text" && t.Role != "user" {
				return notTranslated("messages", fmt.Sprintf("A block of type %q in a message of role %q", b.Type, shown(t.Role)))
			}
			said = append(said, p)
		}
	}
	between := "\n"
	switch t.Role {
	case "assistant":
		between = "" // its blocks are one text
	case "user", "system":
	default:
		return notTranslated("messages", fmt.Sprintf("A message of role %q", shown(t.Role)))
	}
	if said = append(shownByTools, said...); len(said)+len(m.ToolCalls) == 0 {
		return nil
	}
	if len(said) > 0 {
		var err error
		if m.Content, err = partsContent(said, between); err != nil {
			return err
		}
	}
	c.Messages = append(c.Messages, m)
	return nil
}

func (b *messagesInBlock) call(q *request, to Dialect, first bool) chatCall {
	input := b.Input
	if input.Kind() != '{' {
		input = jsontext.Value("{}")
	}
	call := newCall(b.ID, q.sentName(b.Name), string(input))
	if to == DialectGemini && first {
		call.Extra = &extraContent{}
		call.Extra.Google.ThoughtSignature = signedElsewhere
	}
	return call
}

// result is what a tool returned. Pictures have no place in OpenAI's: they follow.
func (b *messagesInBlock) result() (m chatMessage, pictures []chatPart, err error) {
	var texts []string
	if b.IsError {
		texts = append(texts, "Error:")
	}
	for i := range b.Content {
		p, err := b.Content[i].part()
		if err != nil {
			return m, nil, err
		}
		if p.Type == "text" {
			texts = append(texts, p.Text)
			continue
		}
		pictures = append(pictures, p)
	}
	if len(pictures) > 0 && len(texts) == 0 {
		texts = append(texts, "(see below)")
	}
	return chatMessage{Role: "tool", ToolCallID: b.ToolUseID, Content: textContent(strings.Join(texts, "\n"))}, pictures, nil
}

// part is a block that is a text, a picture or a document.
func (b *messagesInBlock) part() (chatPart, error) {
	switch b.Type {
	case "text":
		return textPart(b.Text), nil
	case "tool_reference": // found by a search of the client's: all tools are sent
		return textPart("The tool " + b.ToolName + " is there."), nil
	}
	if b.Type != "image" && b.Type != "document" || b.Source == nil {
		return chatPart{}, notTranslated("messages", fmt.Sprintf("A block of type %q", shown(b.Type)))
	}
	var cited struct {
		Enabled bool `json:"enabled"`
	}
	if _ = json.Unmarshal(b.Citations, &cited); cited.Enabled { // another shape enables nothing
		return chatPart{}, notTranslated("messages", "A document with 'citations'")
	}
	switch s := b.Source; {
	case s.Type == "base64" && (b.Type == "image") == strings.HasPrefix(s.MediaType, "image/"):
		return dataPart("messages", s.MediaType, s.Data)
	case s.Type == "url" && b.Type == "image":
		return imagePart(s.URL), nil
	case s.Type == "text" && b.Type == "document":
		var about string
		for _, line := range []string{b.Title, b.Context} {
			if line != "" {
				about += line + "\n"
			}
		}
		return textPart(about + s.Data), nil
	default:
		return chatPart{}, notTranslated("messages", fmt.Sprintf("A block of type %q with a source of type %q", b.Type, shown(s.Type)))
	}
}
