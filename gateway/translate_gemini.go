package gateway

import (
	"fmt"
	"net/http"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// toGemini translates OpenAI's requests for Gemini's upstreams.
type toGemini struct{ geminiWire }

type generateRequest struct {
	System     *generateMessage    `json:"systemInstruction,omitempty"`
	Contents   []generateMessage   `json:"contents"`
	Tools      []generateTools     `json:"tools,omitempty"`
	ToolConfig *generateToolConfig `json:"toolConfig,omitempty"`
	Generation generationConfig    `json:"generationConfig"`
	Simulate   jsontext.Value      `json:"simulate,omitzero"`
}

type generateMessage struct {
	Role  string         `json:"role,omitempty"`
	Parts []generatePart `json:"parts"`
}

type generatePart struct {
	Text       string        `json:"text,omitempty"`
	Thought    bool          `json:"thought,omitzero"`
	InlineData *generateBlob `json:"inlineData,omitempty"`
	FileData   *generateFile `json:"fileData,omitempty"`
	Call       *generateCall `json:"functionCall,omitempty"`
	Response   *generateCall `json:"functionResponse,omitempty"`
	Signature  string        `json:"thoughtSignature,omitempty"`
}

type generateBlob struct {
	MimeType string `json:"mimeType"`
	Data     string `json:"data"`
}

type generateFile struct {
	FileURI string `json:"fileUri"`
}

type generateCall struct {
	ID       string         `json:"id,omitempty"` // only to clients: not every version takes one
	Name     string         `json:"name"`
	Args     jsontext.Value `json:"args,omitzero"`
	Response jsontext.Value `json:"response,omitzero"`
}

type generateTools struct {
	Functions []generateFunction `json:"functionDeclarations"`
}

type generateFunction struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Parameters  jsontext.Value `json:"parametersJsonSchema,omitzero"`
}

type generateToolConfig struct {
	Calling struct {
		Mode    string   `json:"mode"`
		Allowed []string `json:"allowedFunctionNames,omitempty"`
	} `json:"functionCallingConfig"`
}

type generationConfig struct {
	MaxOutputTokens uint64         `json:"maxOutputTokens,omitzero"`
	CandidateCount  int            `json:"candidateCount,omitzero"`
	Temperature     jsontext.Value `json:"temperature,omitzero"`
	TopP            jsontext.Value `json:"topP,omitzero"`
	TopK            jsontext.Value `json:"topK,omitzero"`
	Stop            []string       `json:"stopSequences,omitempty"`
	MimeType        string         `json:"responseMimeType,omitempty"`
	Schema          jsontext.Value `json:"responseJsonSchema,omitzero"`
	Image           *generateImage `json:"imageConfig,omitempty"`
}

type generateImage struct {
	AspectRatio string `json:"aspectRatio,omitempty"`
	ImageSize   string `json:"imageSize,omitempty"`
}

func (toGemini) call(q *request, u Upstream, h http.Header) (string, []byte, error) {
	in, err := decodeChat(q.body)
	if err != nil {
		return "", nil, err
	}
	out := generateRequest{Contents: []generateMessage{}, Simulate: in.Simulate}
	if out.Generation, err = in.generation(q); err != nil {
		return "", nil, err
	}
	names := map[string]string{} // of tool calls, by id: a result names only the id
	for i := range in.Messages {
		if err := out.add(&in.Messages[i], names); err != nil {
			return "", nil, err
		}
	}
	var tools generateTools
	for _, t := range in.Tools {
		f := generateFunction{Name: t.Function.Name, Description: t.Function.Description}
		if t.Function.Parameters.Kind() == '{' {
			f.Parameters = t.Function.Parameters
		}
		tools.Functions = append(tools.Functions, f)
	}
	if len(tools.Functions) > 0 {
		out.Tools = []generateTools{tools}
	}
	mode, name := in.choice()
	if mode = map[string]string{"auto": "AUTO", "none": "NONE", "required": "ANY"}[mode]; name != "" {
		mode = "ANY"
	}
	if mode != "" {
		out.ToolConfig = &generateToolConfig{}
		out.ToolConfig.Calling.Mode = mode
		if name != "" {
			out.ToolConfig.Calling.Allowed = []string{name}
		}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return "", nil, fmt.Errorf("translate the request: %w", err)
	}
	return geminiPath(q, u, h), body, nil
}

func (c *chatCompletion) generation(q *request) (generationConfig, error) {
	g := generationConfig{MaxOutputTokens: q.completionMax, Temperature: number(c.Temperature), TopP: number(c.TopP), TopK: number(c.TopK)}
	if q.choices > 1 {
		g.CandidateCount = q.choices
	}
	if f := c.ResponseFormat; f != nil && f.Type != "text" {
		g.MimeType = "application/json"
		if f.JSONSchema.Schema.Kind() == '{' {
			g.Schema = f.JSONSchema.Schema
		}
	}
	if c.AspectRatio != "" || c.ImageSize != "" {
		g.Image = &generateImage{c.AspectRatio, c.ImageSize}
	}
	var err error
	g.Stop, err = c.stops()
	return g, err
}

// add translates a message. Those of one role in a row become one.
func (r *generateRequest) add(m *chatMessage, names map[string]string) error {
	ps, err := m.parts()
	if err != nil {
		return err
	}
	var parts []generatePart
	for _, p := range ps {
		switch {
		case p.data != "":
			parts = append(parts, generatePart{InlineData: &generateBlob{p.media, p.data}})
		case p.url != "":
			parts = append(parts, generatePart{FileData: &generateFile{p.url}})
		case p.text != "":
			parts = append(parts, generatePart{Text: p.text})
		}
	}
	role := "user"
	switch m.Role {
	case "system", "developer":
		if r.System == nil {
			r.System = &generateMessage{Parts: []generatePart{}}
		}
		r.System.Parts = append(r.System.Parts, parts...)
		return nil
	case "tool":
		text, err := m.text()
		if err != nil {
			return err
		}
		result := jsontext.Value(text)
		if result.Kind() != '{' || !result.IsValid() {
			quoted, _ := jsontext.AppendQuote(nil, text) // was decoded, so it is UTF-8
			result = fmt.Appendf(nil, `{"result":%s}`, quoted)
		}
		name, called := names[m.ToolCallID]
		if !called {
			return badRequest("invalid_value", "messages", "A message of role tool answers no tool call before it: its tool_call_id is %q.", shown(m.ToolCallID))
		}
		parts = []generatePart{{Response: &generateCall{Name: name, Response: result}}}
	case "assistant":
		role = "model"
		for i := range m.ToolCalls {
			c := &m.ToolCalls[i]
			args, err := c.arguments()
			if err != nil {
				return err
			}
			names[c.ID] = c.Function.Name
			part := generatePart{Call: &generateCall{Name: c.Function.Name, Args: args}}
			if c.Extra != nil {
				part.Signature = c.Extra.Google.ThoughtSignature
			}
			parts = append(parts, part)
		}
	case "user":
	default:
		return notTranslated("messages", fmt.Sprintf("A message of role %q", m.Role))
	}
	if n := len(r.Contents); n > 0 && r.Contents[n-1].Role == role {
		r.Contents[n-1].Parts = append(r.Contents[n-1].Parts, parts...)
	} else if len(parts) > 0 {
		r.Contents = append(r.Contents, generateMessage{role, parts})
	}
	return nil
}

// generateAnswer is an answer of Gemini's, or an event of one.
type generateAnswer struct {
	Candidates []struct {
		Index   int             `json:"index"`
		Content generateMessage `json:"content"`
		Finish  string          `json:"finishReason"`
	} `json:"candidates"`
	Feedback struct {
		BlockReason string `json:"blockReason"`
	} `json:"promptFeedback"`
	ResponseID string `json:"responseId"`
}

// finishOfGemini is OpenAI's word for a finish reason; empty stays empty.
func finishOfGemini(reason string, called bool) string {
	switch {
	case reason == "":
		return ""
	case reason == "MAX_TOKENS":
		return "length"
	case reason != "STOP":
		return "content_filter"
	case called:
		return "tool_calls"
	default:
		return "stop"
	}
}

// message puts parts into OpenAI's shape; calls counts the tool calls of the
// answer so far, whose ids Gemini leaves out.
func (c generateMessage) message(responseID string, calls *int, stream bool) completionMsg {
	var m completionMsg
	for _, p := range c.Parts {
		switch {
		case p.Call != nil:
			args := string(p.Call.Args)
			if args == "" {
				args = "{}"
			}
			call, index := newCall(fmt.Sprintf("call_%s_%d", responseID, *calls), p.Call.Name, args), *calls
			if stream {
				call.Index = &index
			}
			if p.Signature != "" {
				call.Extra = &extraContent{}
				call.Extra.Google.ThoughtSignature = p.Signature
			}
			*calls++
			m.ToolCalls = append(m.ToolCalls, call)
		case p.InlineData != nil:
			image := completionImage{Type: "image_url"}
			image.ImageURL.URL = "data:" + p.InlineData.MimeType + ";base64," + p.InlineData.Data
			m.Images = append(m.Images, image)
		case p.Thought:
			m.Reasoning += p.Text
		case p.Text != "":
			m.write(p.Text)
		}
	}
	return m
}

func (toGemini) plain(q *request, body []byte, text *written) ([]byte, reading, error) {
	r, err := readGemini(body, text)
	if err != nil {
		return nil, r, err
	}
	var in generateAnswer
	if err := json.Unmarshal(body, &in, lenient); err != nil {
		return nil, r, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	var choices []completionChoice
	for _, c := range in.Candidates {
		calls := 0
		m := c.Content.message(in.ResponseID, &calls, false)
		m.Role = "assistant"
		finish := finishOfGemini(c.Finish, calls > 0)
		choices = append(choices, completionChoice{Index: c.Index, Message: (*wholeMsg)(&m), Finish: &finish})
	}
	if len(choices) == 0 { // the prompt was blocked
		finish := "content_filter"
		choices = []completionChoice{{Message: &wholeMsg{Role: "assistant"}, Finish: &finish}}
	}
	answer := q.answer(in.ResponseID, "chat.completion", choices...)
	answer.Usage = usageOf(r.tokens)
	out, err := json.Marshal(answer, lenient)
	return out, r, err
}

func (toGemini) tap(q *request) tap {
	return &fromGemini{geminiTap: geminiTap{choices: q.choices}, chunks: newChunks(q), calls: map[int]int{}}
}

// fromGemini reads Gemini's stream and writes OpenAI's.
type fromGemini struct {
	geminiTap
	chunks chunks
	calls  map[int]int // by candidate
}

func (t *fromGemini) event(name, data []byte, text *written) (seen, error) {
	s, err := t.geminiTap.event(name, data, text)
	if err != nil {
		return s, err
	}
	var in generateAnswer
	if err := json.Unmarshal(data, &in, lenient); err != nil {
		return s, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	t.chunks.id, t.chunks.out = in.ResponseID, t.chunks.out[:0]
	for _, c := range in.Candidates {
		calls := t.calls[c.Index]
		m := c.Content.message(in.ResponseID, &calls, true)
		t.calls[c.Index] = calls
		finish := finishOfGemini(c.Finish, calls > 0)
		if m.Content == nil && m.Reasoning == "" && len(m.ToolCalls)+len(m.Images) == 0 && finish == "" {
			continue
		}
		if err := t.chunks.add(c.Index, m, finish); err != nil {
			return s, err
		}
	}
	if in.Feedback.BlockReason != "" {
		if err := t.chunks.add(0, completionMsg{}, "content_filter"); err != nil {
			return s, err
		}
	}
	s.out = t.chunks.out
	return s, nil
}

func (t *fromGemini) tail(events.Tokens) string { return t.chunks.tail(t.reading()) }
