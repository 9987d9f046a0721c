package simulator

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// openAI is the dialect of OpenAI's chat completions, with the pictures that
// gateways to Gemini's image models put beside the text.
type openAI struct{}

func (openAI) secret(r *http.Request) string { return bearer(r) }

type openAIRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Content jsontext.Value `json:"content"` // a string, or a list of parts
	} `json:"messages"`
	MaxTokens           *int64 `json:"max_tokens"`
	MaxCompletionTokens *int64 `json:"max_completion_tokens"`
	Stream              bool   `json:"stream"`
	StreamOptions       *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Tools []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
	ToolChoice     jsontext.Value `json:"tool_choice"` // a string, or {"function":{"name"}}
	ResponseFormat *struct {
		Type string `json:"type"`
	} `json:"response_format"`
	AspectRatio string   `json:"aspect_ratio"`
	ImageSize   string   `json:"image_size"`
	Simulate    Simulate `json:"simulate"`
}

func (openAI) parse(_ *http.Request, body []byte) (*request, error) {
	var in openAIRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	if err := checkPicture(in.AspectRatio, in.ImageSize); err != nil {
		return nil, err
	}
	r := &request{model: in.Model, stream: in.Stream, maxTokens: least(in.MaxTokens, in.MaxCompletionTokens), sim: in.Simulate}
	r.includeUsage = in.StreamOptions != nil && in.StreamOptions.IncludeUsage
	r.json = in.ResponseFormat != nil && (in.ResponseFormat.Type == "json_object" || in.ResponseFormat.Type == "json_schema")
	for _, m := range in.Messages {
		r.words += wordsOf(m.Content)
	}
	var names []string
	for _, t := range in.Tools {
		names = append(names, t.Function.Name)
	}
	var named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	_ = json.Unmarshal(in.ToolChoice, &named) // most often a string, or not there
	r.tool = chosenTool(names, in.Simulate.ToolCall, named.Function.Name, string(in.ToolChoice) == `"required"`)
	return r, nil
}

// chosenTool is the tool an answer calls: the first of the wishes that is given,
// or any if one has to be called.
func chosenTool(names []string, simulated, named string, anyTool bool) string {
	for _, wish := range []string{simulated, named} {
		if wish != "" && slices.Contains(names, wish) {
			return wish
		}
	}
	if anyTool && len(names) > 0 {
		return names[0]
	}
	return ""
}

var (
	aspectRatios = []string{"", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"}
	imageSizes   = []string{"", "1K", "2K", "4K"}
)

func checkPicture(aspectRatio, imageSize string) error {
	if !slices.Contains(aspectRatios, aspectRatio) {
		return fmt.Errorf("aspect_ratio %q is unknown", aspectRatio)
	}
	if !slices.Contains(imageSizes, imageSize) {
		return fmt.Errorf("image_size %q is unknown", imageSize)
	}
	return nil
}

// wordsOf counts the words of a content: a string, or a list of parts with text.
func wordsOf(content jsontext.Value) (n int64) {
	var s string
	if json.Unmarshal(content, &s) == nil {
		return words(s)
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(content, &parts) == nil {
		for _, p := range parts {
			n += words(p.Text)
		}
	}
	return n
}

func (openAI) failure(_ int, message, code string) []byte {
	b := appendQuoted([]byte(`{"error":{"message":`), message)
	return append(appendQuoted(append(b, `,"type":"simulator_error","param":null,"code":`...), code), "}}"...)
}

func (openAI) head(b []byte, a *answer, object string) []byte {
	b = fmt.Appendf(b, `{"id":"chatcmpl-%s","object":%q,"created":%d,"model":`, a.id, object, createdUnix)
	return appendQuoted(b, a.request.model)
}

func (o openAI) plain(b []byte, a *answer) []byte {
	b = append(o.head(b, a, "chat.completion"), `,"choices":[{"index":0,"message":{"role":"assistant",`...)
	finish := "stop"
	if a.request.tool == "" {
		b = appendQuoted(append(b, `"content":`...), a.text)
	} else {
		finish = "tool_calls"
		b = append(o.toolCall(append(b, `"content":null,"tool_calls":[`...), a, a.text), ']')
	}
	b = o.images(b, a)
	b = fmt.Appendf(b, `},"logprobs":null,"finish_reason":%q}]`, finish)
	if a.sim.Usage != UsageMissing {
		b = o.usage(append(b, `,"usage":`...), a)
	}
	return append(b, '}')
}

func (openAI) toolCall(b []byte, a *answer, arguments string) []byte {
	b = fmt.Appendf(b, `{"id":"call_%s","type":"function","function":{"name":`, a.id)
	b = appendQuoted(append(appendQuoted(b, a.request.tool), `,"arguments":`...), arguments)
	return append(b, "}}"...)
}

func (openAI) images(b []byte, a *answer) []byte {
	for i := range a.counts.images {
		if b = append(b, ','); i == 0 {
			b = append(b, `"images":[`...)
		}
		b = append(b, `{"type":"image_url","image_url":{"url":"data:image/png;base64,`+pixel+`"}}`...)
	}
	if a.counts.images > 0 {
		b = append(b, ']')
	}
	return b
}

func (openAI) opening(b []byte, _ *answer) []byte { return b }

// piece is a chunk with a share of the text. The first names the role, and the
// tool; the last holds the pictures.
func (o openAI) piece(b []byte, a *answer, i int) []byte {
	b = append(o.head(append(b, "data: "...), a, "chat.completion.chunk"), `,"choices":[{"index":0,"delta":{`...)
	if i == 0 {
		b = append(b, `"role":"assistant",`...)
	}
	switch share := a.share(i); {
	case a.request.tool == "":
		b = appendQuoted(append(b, `"content":`...), share)
	case i == 0:
		call := o.toolCall(nil, a, share)
		b = append(append(append(b, `"content":null,"tool_calls":[{"index":0,`...), call[1:]...), ']')
	default:
		b = append(appendQuoted(append(b, `"tool_calls":[{"index":0,"function":{"arguments":`...), share), "}}]"...)
	}
	if i == a.chunks-1 {
		b = o.images(b, a)
	}
	b = append(b, `},"logprobs":null,"finish_reason":null}]`...)
	if a.request.includeUsage {
		b = append(b, `,"usage":null`...)
	}
	return append(b, "}\n\n"...)
}

func (o openAI) ending(b []byte, a *answer) []byte {
	finish := "stop"
	if a.request.tool != "" {
		finish = "tool_calls"
	}
	b = o.head(append(b, "data: "...), a, "chat.completion.chunk")
	b = fmt.Appendf(b, `,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%q}]`, finish)
	if a.request.includeUsage {
		b = append(b, `,"usage":null`...)
	}
	b = append(b, "}\n\n"...)
	if a.request.includeUsage && a.sim.Usage != UsageMissing {
		b = o.head(append(b, "data: "...), a, "chat.completion.chunk")
		b = append(o.usage(append(b, `,"choices":[],"usage":`...), a), "}\n\n"...)
	}
	return append(b, "data: [DONE]\n\n"...)
}

func (o openAI) streamFailure(b []byte) []byte {
	return o.line(b, `{"error":{"message":"Simulated failure.","type":"server_error","code":"simulated_error"}}`)
}

func (openAI) line(b []byte, data string) []byte { return append(b, "data: "+data+"\n\n"...) }

// usage: prompt_tokens include the cached ones, completion_tokens the reasoning.
func (openAI) usage(b []byte, a *answer) []byte {
	c := a.reported()
	return fmt.Appendf(b, `{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d},"completion_tokens_details":{"reasoning_tokens":%d}}`,
		c.prompt, c.completion, c.prompt+c.completion, c.cached, c.reasoning)
}
