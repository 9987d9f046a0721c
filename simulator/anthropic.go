package simulator

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// anthropic is the dialect of Anthropic's messages.
type anthropic struct{}

func (anthropic) secret(r *http.Request) string {
	if key := r.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	return bearer(r)
}

type anthropicRequest struct {
	Model    string         `json:"model"`
	System   jsontext.Value `json:"system"`
	Messages []struct {
		Content jsontext.Value `json:"content"`
	} `json:"messages"`
	MaxTokens *int64 `json:"max_tokens"`
	Stream    bool   `json:"stream"`
	Tools     []struct {
		Name string `json:"name"`
	} `json:"tools"`
	ToolChoice struct {
		Type string `json:"type"`
		Name string `json:"name"`
	} `json:"tool_choice"`
	OutputConfig struct {
		Format struct {
			Type string `json:"type"`
		} `json:"format"`
	} `json:"output_config"`
	Simulate Simulate `json:"simulate"`
}

func (anthropic) parse(r *http.Request, body []byte) (*request, error) {
	if r.Header.Get("Anthropic-Version") == "" {
		return nil, errors.New("the header anthropic-version is required")
	}
	var in anthropicRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	if in.MaxTokens == nil || *in.MaxTokens < 1 {
		return nil, errors.New("max_tokens: a positive number is required")
	}
	q := &request{model: in.Model, stream: in.Stream, maxTokens: in.MaxTokens, sim: in.Simulate, words: wordsOf(in.System), json: in.OutputConfig.Format.Type == "json_schema"}
	for _, m := range in.Messages {
		q.words += wordsOf(m.Content)
	}
	var names []string
	for _, t := range in.Tools {
		names = append(names, t.Name)
	}
	q.tool = chosenTool(names, in.Simulate.ToolCall, in.ToolChoice.Name, in.ToolChoice.Type == "any")
	return q, nil
}

func (anthropic) failure(status int, message, code string) []byte {
	typ := map[int]string{400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}[status]
	if typ == "" {
		typ = "api_error"
	}
	b := appendQuoted(fmt.Appendf(nil, `{"type":"error","error":{"type":%q,"message":`, typ), message)
	return fmt.Appendf(b, `},"request_id":"req_%s"}`, code)
}

func (d anthropic) plain(b []byte, a *answer) []byte {
	b = d.head(b, a, d.block(nil, a, a.text))
	if a.request.tool == "" {
		b = append(b, `,"stop_reason":"end_turn","stop_sequence":null`...)
	} else {
		b = append(b, `,"stop_reason":"tool_use","stop_sequence":null`...)
	}
	if a.sim.Usage != UsageMissing {
		b = d.usage(append(b, `,"usage":`...), a, a.reported().completion)
	}
	return append(b, '}')
}

// head is a message up to its content.
func (anthropic) head(b []byte, a *answer, content []byte) []byte {
	b = fmt.Appendf(b, `{"id":"msg_%s","type":"message","role":"assistant","model":`, a.id)
	b = append(appendQuoted(b, a.request.model), `,"content":[`...)
	return append(append(b, content...), ']')
}

// block is the one content block of an answer; input is a tool's.
func (anthropic) block(b []byte, a *answer, text string) []byte {
	if a.request.tool == "" {
		return append(appendQuoted(append(b, `{"type":"text","text":`...), text), '}')
	}
	b = appendQuoted(fmt.Appendf(b, `{"type":"tool_use","id":"toolu_%s","name":`, a.id), a.request.tool)
	if text == "" {
		text = "{}"
	}
	return append(b, `,"input":`+text+"}"...)
}

func event(b []byte, name string) []byte { return append(b, "event: "+name+"\ndata: "...) }

func (d anthropic) opening(b []byte, a *answer) []byte {
	b = d.head(append(event(b, "message_start"), `{"type":"message_start","message":`...), a, nil)
	b = append(b, `,"stop_reason":null,"stop_sequence":null`...)
	if a.sim.Usage != UsageMissing {
		b = d.usage(append(b, `,"usage":`...), a, min(a.reported().completion, 1))
	}
	b = append(event(append(b, "}}\n\n"...), "content_block_start"), `{"type":"content_block_start","index":0,"content_block":`...)
	b = append(d.block(b, a, ""), "}\n\n"...)
	return append(event(b, "ping"), "{\"type\": \"ping\"}\n\n"...)
}

func (anthropic) piece(b []byte, a *answer, i int) []byte {
	b = append(event(b, "content_block_delta"), `{"type":"content_block_delta","index":0,"delta":`...)
	if a.request.tool == "" {
		b = append(b, `{"type":"text_delta","text":`...)
	} else {
		b = append(b, `{"type":"input_json_delta","partial_json":`...)
	}
	return append(appendQuoted(b, a.share(i)), "}}\n\n"...)
}

func (d anthropic) ending(b []byte, a *answer) []byte {
	stop := "end_turn"
	if a.request.tool != "" {
		stop = "tool_use"
	}
	b = append(event(b, "content_block_stop"), `{"type":"content_block_stop","index":0}`+"\n\n"...)
	b = fmt.Appendf(event(b, "message_delta"), `{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null}`, stop)
	if a.sim.Usage != UsageMissing { // cumulative
		c := a.reported()
		b = fmt.Appendf(b, `,"usage":{"output_tokens":%d,"output_tokens_details":{"thinking_tokens":%d}}`, c.completion, c.reasoning)
	}
	return append(event(append(b, "}\n\n"...), "message_stop"), "{\"type\":\"message_stop\"}\n\n"...)
}

func (anthropic) streamFailure(b []byte) []byte {
	return append(event(b, "error"), `{"type":"error","error":{"type":"overloaded_error","message":"Simulated failure."}}`+"\n\n"...)
}

func (anthropic) line(b []byte, data string) []byte {
	return append(event(b, "content_block_delta"), data+"\n\n"...)
}

// usage: input_tokens exclude what the cache holds or is given; output_tokens
// include thinking.
func (anthropic) usage(b []byte, a *answer, output int64) []byte {
	c := a.reported()
	input, written := max(c.prompt-c.cached-c.write5m-c.write1h, 0), c.write5m+c.write1h
	switch a.sim.Usage {
	case UsageNegative:
		input = -1
	case UsageOverlap:
		c.cached, c.write5m = a.counts.cached, written+1
	}
	return fmt.Appendf(b, `{"input_tokens":%d,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"cache_creation":{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d},"output_tokens":%d,"output_tokens_details":{"thinking_tokens":%d},"service_tier":"standard"}`,
		input, written, c.cached, c.write5m, c.write1h, output, min(c.reasoning, max(output, 0)))
}
