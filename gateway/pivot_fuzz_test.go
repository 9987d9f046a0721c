package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"aione/events"
)

// FuzzPivotedRequest: whatever a client sends is refused as its own mistake or
// becomes one JSON object; nothing of it is an internal error.
func FuzzPivotedRequest(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","max_tokens":9,"system":"s","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}}]}],"tools":[{"name":"a.b","input_schema":{}}],"tool_choice":{"type":"tool","name":"a.b"},"stop_sequences":["x"],"thinking":{"type":"adaptive"}}`,
		`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","is_error":true,"content":[{"type":"text","text":"no"}]}]}]}`,
		`{"contents":[{"role":"user","parts":[{"text":"hi"},{"inline_data":{"mime_type":"application/pdf","data":"AA"}}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]},{"parts":[{"functionResponse":{"name":"f","response":{}}}]}],"generation_config":{"response_schema":{"type":"OBJECT","any_of":[{"type":"STRING","nullable":true}],"properties":{"a":{"min_items":"3"}}},"candidateCount":2}}`,
		`{"contents":{"parts":{"text":"hi"}},"tools":{"functionDeclarations":{"name":"f","parameters":{"type":"ARRAY","items":{"items":{}}}}},"toolConfig":{"functionCallingConfig":{"mode":"any","allowedFunctionNames":["f","g"]}},"simulate":{}}`,
		`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[]}],"contents":[{"parts":[]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for path, c := range map[string]client{"/v1/messages": anthropic{}, "/v1beta/models/m:generateContent": gemini{}} {
			q, bad := c.parse(newRequest(path), body)
			if bad != nil {
				continue
			}
			for _, w := range wires[c.dialect()] {
				_, out, err := w.call(q, Upstream{Model: "m", BaseURL: "https://api.openai.com/v1"}, http.Header{})
				var refused *apiError
				switch {
				case errors.As(err, &refused) && refused.status == http.StatusBadRequest:
				case err != nil:
					t.Errorf("%T: %q fails: %v", w, body, err)
				case !json.Valid(out):
					t.Errorf("%T: %q becomes %q", w, body, out)
				}
			}
		}
	})
}

// FuzzPivotedAnswer: whatever an upstream sends is garbage or becomes an answer in
// the client's dialect, plain and streamed.
func FuzzPivotedAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"id":"chatcmpl-1","choices":[{"index":0,"message":{"content":"hi","reasoning_content":"hm","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}],"images":[{"image_url":{"url":"data:image/png;base64,AA"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
		`{"choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n" + `{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":"}}]}}]}` + "\n" + `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":"stop"}]}` + "\n[DONE]",
		`{"candidates":[{"content":{"parts":[{"text":"hm","thought":true},{"functionCall":{"name":"f","args":{}}}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1},"responseId":"r"}`,
		`{"id":"msg_1","content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t","name":"f","input":{}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":1}}`,
		`{"type":"message_start","message":{"id":"m","usage":{"input_tokens":1,"output_tokens":1}}}` + "\n" + `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}` + "\n" + `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}` + "\n" + `{"type":"message_stop"}`,
		`{"choices":[{"message":{"content":[{"type":"text","text":"hi"},7]}}]}`, `{"choices":[]}`, `{"error":{}}`,
	} {
		f.Add([]byte(seed))
	}
	used := events.Tokens{Input: 1, Output: 2}
	f.Fuzz(func(t *testing.T, body []byte) {
		known := func(err error) bool { return errors.Is(err, errGarbage) || errors.Is(err, errFailedInside) }
		for _, from := range []Dialect{DialectAnthropic, DialectGemini} {
			for _, w := range wires[from][1:] {
				q := &request{model: "m", choices: 1, translated: translated{thoughts: true}}
				out, _, err := w.plain(q, bytes.Clone(body), nil)
				switch {
				case err == nil:
					if out = w.(via).tell(out, used); !json.Valid(out) {
						t.Errorf("%T: %q becomes %q", w, body, out)
					}
				case !known(err):
					t.Errorf("%T: %q fails: %v", w, body, err)
				}
				tap := w.tap(q)
				var stream strings.Builder
				for line := range bytes.Lines(body) {
					if line = bytes.TrimSpace(line); len(line) == 0 {
						continue
					}
					s, err := tap.event(nil, line, nil)
					if err != nil {
						if !known(err) {
							t.Errorf("%T: %q fails: %v", w, body, err)
						}
						break
					}
					stream.Write(s.out)
				}
				stream.WriteString(tap.tail(used))
				for line := range strings.Lines(stream.String()) {
					if data, ok := strings.CutPrefix(line, "data: "); ok && !json.Valid([]byte(data)) {
						t.Errorf("%T: %q streams %q", w, body, data)
					}
				}
			}
		}
	})
}
