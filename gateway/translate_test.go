package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"aione/events"
	"aione/gateway"
)

// newTranslating has Anthropic upstreams for claude-opus-4-6, and Gemini ones for
// small and the image model.
func newTranslating(t *testing.T) *bench {
	return newBench(t, func(c *gateway.Config) {
		for model, dialect := range map[string]gateway.Dialect{"claude-opus-4-6": gateway.DialectAnthropic, "small": gateway.DialectGemini, "gemini-2.5-flash-image": gateway.DialectGemini} {
			u := c.Default.Upstreams[0]
			u.Dialect = dialect
			c.Routes[model] = gateway.Route{Upstreams: []gateway.Upstream{u}}
		}
	})
}

func TestTranslatedAnswers(t *testing.T) {
	t.Parallel()
	b := newTranslating(t)
	const simulate = `{"prompt_tokens":374,"completion_tokens":44,"cached_tokens":100,"cache_write_5m":50,"reasoning_tokens":4}`
	const tools = `,"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"look"}}`
	for model, want := range map[string]events.Tokens{
		"opus-4-6": {Input: 224, CacheRead: 100, CacheWrite5m: 50, Output: 40, Reasoning: 4},
		"small":    {Input: 274, CacheRead: 100, Output: 40, Reasoning: 4},
	} {
		for _, stream := range []bool{false, true} {
			name := fmt.Sprintf("%s, stream %v: ", model, stream)
			a := speeches[0].ask(b, b.secret, ask{model: model, stream: stream, simulate: simulate, more: `,"stream_options":{"include_usage":true}`})
			if a.status != 200 || len(a.text) != 160 || a.done != stream || a.code != "" || !strings.Contains(a.raw, `"finish_reason":"stop"`) || !strings.Contains(a.raw, `"model":"`+model+`"`) {
				t.Fatalf("%s%d %s", name, a.status, a.raw)
			}
			// Clients take a delta for granted, and in a message a content, if only null.
			if stream && strings.Count(a.raw, `"choices":[{`) != strings.Count(a.raw, `"delta":{`) {
				t.Errorf("%sa chunk without a delta: %s", name, a.raw)
			}
			if usage := fmt.Sprintf(`"usage":{"prompt_tokens":374,"completion_tokens":44,"total_tokens":418,"prompt_tokens_details":{"cached_tokens":100},"completion_tokens_details":{"reasoning_tokens":%d}}`, want.Reasoning); !strings.Contains(a.raw, usage) {
				t.Errorf("%susage is not told: %s", name, a.raw)
			}
			if u := b.usage(a.id); u.Tokens != want || u.Source != events.SourceReported || u.Outcome != events.OutcomeCompleted {
				t.Errorf("%s%+v", name, u)
			}
			if a := speeches[0].ask(b, b.secret, ask{model: model, stream: stream}); stream == strings.Contains(a.raw, `"usage"`) {
				t.Errorf("%susage nobody asked for: %s", name, a.raw)
			}
			a = speeches[0].ask(b, b.secret, ask{model: model, stream: stream, more: tools, simulate: `{"completion_tokens":6}`})
			if a.tool != `look{"a":" tok tok tok tok"}` || !strings.Contains(a.raw, `"finish_reason":"tool_calls"`) || !stream && !strings.Contains(a.raw, `"content":null`) {
				t.Errorf("%stool %q: %s", name, a.tool, a.raw)
			}
			a = speeches[0].ask(b, b.secret, ask{model: model, stream: stream, simulate: `{"status":400}`})
			if a.status != 400 || !strings.Contains(a.message, "400") {
				t.Errorf("%s%d %s", name, a.status, a.raw)
			}
		}
		a := speeches[0].ask(b, b.secret, ask{model: model, stream: true, simulate: `{"cut_after_chunks":5,"prompt_tokens":9,"completion_tokens":8}`})
		if u := b.usage(a.id); a.code != "upstream_cut" || a.done || len(a.text) != 20 || u.Tokens != (events.Tokens{Input: 9, Output: 5}) || u.Source != events.SourceEstimated {
			t.Errorf("%s cut: %s, %+v", model, a.raw, u)
		}
	}
	for _, stream := range []bool{false, true} {
		a := speeches[0].ask(b, b.secret, ask{model: "gemini-2.5-flash-image", stream: stream, more: `,"aspect_ratio":"16:9","image_size":"2K","top_k":40`})
		if u := b.usage(a.id); a.images != 1 || u.Images != 1 || !strings.Contains(string(*b.upstream.last.Load()), `"topK":40,"imageConfig":{"aspectRatio":"16:9","imageSize":"2K"}`) {
			t.Errorf("stream %v: %d pictures, %+v: %s", stream, a.images, u, a.raw)
		}
	}
}

const conversation = `"messages":[
	{"role":"system","content":"Be brief."},
	{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]},
	{"role":"assistant","content":"I look.","tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"at\":1.50}"}},{"id":"c2","type":"function","function":{"name":"zoom","arguments":""}}]},
	{"role":"tool","tool_call_id":"c1","content":"a cat"},
	{"role":"tool","tool_call_id":"c2","content":"{\"size\":2}"},
	{"role":"user","content":"And?"}],
	"temperature":0.70,"top_p":0.9,"stop":"END","max_tokens":77,
	"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object","properties":{"at":{"type":"number"}}}}}],"tool_choice":"auto","user":"u1",
	"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}`

func TestTranslatedRequests(t *testing.T) {
	t.Parallel()
	b := newTranslating(t)
	for model, want := range map[string]string{
		"opus-4-6": `{"model":"claude-opus-4-6","max_tokens":77,"system":[{"type":"text","text":"Be brief."}],"messages":[
			{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]},
			{"role":"assistant","content":[{"type":"text","text":"I look."},{"type":"tool_use","id":"c1","name":"look","input":{"at":1.50}},{"type":"tool_use","id":"c2","name":"zoom","input":{}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"a cat"},{"type":"tool_result","tool_use_id":"c2","content":"{\"size\":2}"},{"type":"text","text":"And?"}]}],
			"stop_sequences":["END"],"temperature":0.70,"top_p":0.9,
			"tools":[{"name":"look","description":"looks","input_schema":{"type":"object","properties":{"at":{"type":"number"}}}}],"tool_choice":{"type":"auto"},"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}}`,
		"small": `{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[
			{"role":"user","parts":[{"text":"What is it?"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"fileData":{"fileUri":"https://example.com/a.png"}}]},
			{"role":"model","parts":[{"text":"I look."},{"functionCall":{"name":"look","args":{"at":1.50}}},{"functionCall":{"name":"zoom","args":{}}}]},
			{"role":"user","parts":[{"functionResponse":{"name":"look","response":{"result":"a cat"}}},{"functionResponse":{"name":"zoom","response":{"size":2}}},{"text":"And?"}]}],
			"tools":[{"functionDeclarations":[{"name":"look","description":"looks","parametersJsonSchema":{"type":"object","properties":{"at":{"type":"number"}}}}]}],
			"toolConfig":{"functionCallingConfig":{"mode":"AUTO"}},
			"generationConfig":{"maxOutputTokens":77,"temperature":0.70,"topP":0.9,"stopSequences":["END"],"responseMimeType":"application/json","responseJsonSchema":{"type":"object"}}}`,
	} {
		a := b.ask(b.secret, `{"model":"`+model+`",`+conversation+`}`)
		sent := string(*b.upstream.last.Load())
		if a.status != 200 || !sameJSON(t, sent, want) {
			t.Errorf("%s: %d, the upstream got %s", model, a.status, sent)
		}
		if !strings.Contains(sent, "0.70") {
			t.Errorf("%s: a number changed on its way: %s", model, sent)
		}
	}
	calls := b.upstream.calls.Load()
	for _, c := range []struct{ model, more, param string }{
		{"opus-4-6", `,"n":2`, "n"},
		{"opus-4-6", `,"response_format":{"type":"json_object"}`, "response_format"},
		{"opus-4-6", `,"tools":[{"type":"custom","custom":{"name":"f"}}]`, "tools"},
		{"small", `,"tools":[{"type":"web_search"}]`, "tools"},
		{"small", `,"messages2":[],"stop":7.5,"tools":{}`, ""},
	} {
		a := speeches[0].ask(b, b.secret, ask{model: c.model, more: c.more})
		if a.status != 400 || c.param != "" && a.code != "unsupported_value" && a.code != "not_metered" {
			t.Errorf("%s %s: %d %s", c.model, c.more, a.status, a.raw)
		}
	}
	for _, messages := range []string{
		`[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"x"}}]}]`,
		`[{"role":"function","content":"x"}]`,
		`[{"role":"assistant","tool_calls":[{"id":"x","function":{"name":"f","arguments":"[1]"}}]}]`,
		`[{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]`,
	} {
		for _, model := range []string{"opus-4-6", "small"} {
			if a := b.ask(b.secret, `{"model":"`+model+`","messages":`+messages+`}`); a.status != 400 && !(model == "small" && strings.Contains(messages, "system")) {
				t.Errorf("%s %s: %d %s", model, messages, a.status, a.raw)
			}
		}
	}
	if n := b.upstream.calls.Load() - calls; n > 1 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
	a := b.ask(b.secret, `{"model":"small","messages":[{"role":"user","content":"hi"},{"role":"tool","tool_call_id":"of nobody","content":"x"}]}`)
	if a.status != 400 || !strings.Contains(a.raw, "of nobody") {
		t.Errorf("a result without its call: %d %s", a.status, a.raw)
	}
	for _, u := range b.usages() {
		if u.HTTPStatus == 0 && !u.Cost.IsZero() {
			t.Errorf("a refused request costs %s", u.Cost)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

// TestThoughtSignatures: what Gemini signs a tool call with comes back to it.
func TestThoughtSignatures(t *testing.T) {
	t.Parallel()
	answer := `{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"look","args":{}},"thoughtSignature":"c2lnbmVk"}]},"finishReason":"STOP"}],` +
		`"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2},"responseId":"r1"}`
	var sent string
	gemini := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := must(io.ReadAll(r.Body))
		sent = string(body)
		if strings.HasSuffix(r.URL.Path, ":streamGenerateContent") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+answer+"\n\n")
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(gemini.Close)
	b := newBench(t, func(c *gateway.Config) {
		c.Routes["small"] = gateway.Route{Upstreams: []gateway.Upstream{{Name: "g", BaseURL: gemini.URL + "/v1beta", Dialect: gateway.DialectGemini}}}
	})
	const kept = `"extra_content":{"google":{"thought_signature":"c2lnbmVk"}}`
	for _, stream := range []bool{false, true} {
		if a := speeches[0].ask(b, b.secret, ask{stream: stream}); a.status != 200 || !strings.Contains(a.raw, kept) {
			t.Errorf("stream %v: %d %s", stream, a.status, a.raw)
		}
	}
	b.ask(b.secret, `{"model":"small","messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{}"},`+kept+`}]},{"role":"tool","tool_call_id":"c1","content":"x"}]}`)
	if !strings.Contains(sent, `"thoughtSignature":"c2lnbmVk"`) {
		t.Errorf("the upstream got %s", sent)
	}
}
