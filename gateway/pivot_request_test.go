package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"aione/gateway"
)

// send asks with a whole body, for a model.
func (s speech) send(b *bench, model, body string) *told {
	b.t.Helper()
	path := "/v1/chat/completions"
	switch s.dialect {
	case gateway.DialectAnthropic:
		path = "/v1/messages"
	case gateway.DialectGemini:
		path = "/v1beta/models/" + model + ":generateContent"
	}
	req := must(http.NewRequestWithContext(b.t.Context(), "POST", b.url+path, strings.NewReader(strings.Replace(body, "MODEL", model, 1))))
	req.Header.Set("Authorization", "Bearer "+b.secret)
	return s.read(must(http.DefaultClient.Do(req)))
}

const longName = "mcp__a_server_with_a_long_name__and_a_tool_with_a_name_that_is_longer_still"

var pivoted = map[gateway.Dialect]struct {
	body  string
	wants map[gateway.Dialect]string
}{
	gateway.DialectAnthropic: {`{"model":"MODEL","max_tokens":77,"temperature":0.70,"top_p":0.9,"top_k":40,"stop_sequences":["END"],"metadata":{"user_id":"u"},"service_tier":"auto",
		"thinking":{"type":"enabled","budget_tokens":50},"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
		"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}},{"type":"text","text":"Be kind."}],
		"messages":[
			{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},
				{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"BBBB"}},{"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"words"}}]},
			{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"I look."},{"type":"tool_use","id":"toolu_1","name":"look","input":{"at":1.50}},{"type":"tool_use","id":"toolu_2","name":"` + longName + `","input":{}}]},
			{"role":"user","content":[{"type":"text","text":"And?"},{"type":"tool_result","tool_use_id":"toolu_1","content":"a cat"},
				{"type":"tool_result","tool_use_id":"toolu_2","is_error":true,"content":[{"type":"text","text":"no"},{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"CCCC"}}]}]}],
		"tools":[{"name":"look","description":"looks","input_schema":{"type":"object","properties":{"at":{"type":"number"}}},"cache_control":{"type":"ephemeral"}},{"type":"custom","name":"` + longName + `","input_schema":{"type":"object"}}],
		"tool_choice":{"type":"any"},"output_config":{"effort":"high","format":{"type":"json_schema","schema":{"type":"object"}}}}`,
		map[gateway.Dialect]string{
			gateway.DialectOpenAI: `{"model":"small","max_tokens":77,"temperature":0.70,"top_p":0.9,"stop":["END"],"messages":[
				{"role":"system","content":"Be brief.\nBe kind."},
				{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}},
					{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,BBBB"}},{"type":"text","text":"T\nwords"}]},
				{"role":"assistant","content":"I look.","tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"look","arguments":"{\"at\":1.50}"}},{"id":"toolu_2","type":"function","function":{"name":"LONG","arguments":"{}"}}]},
				{"role":"tool","tool_call_id":"toolu_1","content":"a cat"},{"role":"tool","tool_call_id":"toolu_2","content":"Error:\nno"},
				{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/gif;base64,CCCC"}},{"type":"text","text":"And?"}]}],
				"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object","properties":{"at":{"type":"number"}}}}},{"type":"function","function":{"name":"LONG","parameters":{"type":"object"}}}],
				"tool_choice":"required","response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"}}}}`,
			gateway.DialectGemini: `{"systemInstruction":{"parts":[{"text":"Be brief.\nBe kind."}]},"contents":[
				{"role":"user","parts":[{"text":"What is it?"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"fileData":{"fileUri":"https://example.com/a.png"}},{"inlineData":{"mimeType":"application/pdf","data":"BBBB"}},{"text":"T\nwords"}]},
				{"role":"model","parts":[{"text":"I look."},{"functionCall":{"name":"look","args":{"at":1.50}},"thoughtSignature":"skip_thought_signature_validator"},{"functionCall":{"name":"LONG","args":{}}}]},
				{"role":"user","parts":[{"functionResponse":{"name":"look","response":{"result":"a cat"}}},{"functionResponse":{"name":"LONG","response":{"result":"Error:\nno"}}},{"inlineData":{"mimeType":"image/gif","data":"CCCC"}},{"text":"And?"}]}],
				"tools":[{"functionDeclarations":[{"name":"look","description":"looks","parametersJsonSchema":{"type":"object","properties":{"at":{"type":"number"}}}},{"name":"LONG","parametersJsonSchema":{"type":"object"}}]}],
				"toolConfig":{"functionCallingConfig":{"mode":"ANY"}},
				"generationConfig":{"maxOutputTokens":77,"temperature":0.70,"topP":0.9,"topK":40,"stopSequences":["END"],"responseMimeType":"application/json","responseJsonSchema":{"type":"object"}}}`,
		}},
	gateway.DialectGemini: {`{"system_instruction":{"parts":{"text":"Be brief."}},"safetySettings":[{"category":"x"}],"labels":{"a_b":"c"},
		"contents":[
			{"role":"user","parts":[{"text":"What is it?"},{"inline_data":{"mime_type":"image/png","data":"AAAA"}},{"fileData":{"fileUri":"https://example.com/a.png"}},{"inlineData":{"mimeType":"application/pdf","data":"BBBB"}}]},
			{"role":"model","parts":[{"text":"hm","thought":true},{"text":"I look."},{"functionCall":{"name":"look","args":{"at_once":1.50}},"thoughtSignature":"c2ln"},{"functionCall":{"id":"c9","name":"look","args":{}}}]},
			{"parts":[{"text":"And?"},{"functionResponse":{"name":"look","response":{"result":"a cat"}}},{"functionResponse":{"id":"c9","name":"look","response":{"size":2}}}]}],
		"tools":[{"function_declarations":[{"name":"look","description":"looks","parameters":{"type":"OBJECT","properties":{"at":{"type":"NUMBER","nullable":true},"TYPE":{"type":"ARRAY","items":{"type":"STRING"},"min_items":"1"}},"propertyOrdering":["at"],"required":["at"]}},{"name":"zoom"}]}],
		"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["look"]}},
		"generationConfig":{"maxOutputTokens":77,"temperature":0.70,"topP":0.9,"topK":40,"seed":7,"presencePenalty":0.5,"stopSequences":["END"],"responseMimeType":"application/json","responseSchema":{"type":"OBJECT"},"thinkingConfig":{"thinkingBudget":5}}}`,
		map[gateway.Dialect]string{
			gateway.DialectOpenAI: `{"model":"small","max_tokens":77,"temperature":0.70,"top_p":0.9,"seed":7,"presence_penalty":0.5,"stop":["END"],"messages":[
				{"role":"system","content":"Be brief."},
				{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}},
					{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,BBBB"}}]},
				{"role":"assistant","content":"I look.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"at_once\":1.50}"}},{"id":"c9","type":"function","function":{"name":"look","arguments":"{}"}}]},
				{"role":"tool","tool_call_id":"call_1","content":"{\"result\":\"a cat\"}"},{"role":"tool","tool_call_id":"c9","content":"{\"size\":2}"},
				{"role":"user","content":"And?"}],
				"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object","properties":{"at":{"type":["number","null"]},"TYPE":{"type":"array","items":{"type":"string"},"minItems":1}},"required":["at"]}}}],
				"tool_choice":{"type":"function","function":{"name":"look"}},"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"}}}}`,
			gateway.DialectAnthropic: `{"model":"claude-opus-4-6","max_tokens":77,"temperature":0.70,"top_p":0.9,"top_k":40,"stop_sequences":["END"],"system":[{"type":"text","text":"Be brief."}],"messages":[
				{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"BBBB"}}]},
				{"role":"assistant","content":[{"type":"text","text":"I look."},{"type":"tool_use","id":"call_1","name":"look","input":{"at_once":1.50}},{"type":"tool_use","id":"c9","name":"look","input":{}}]},
				{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":"{\"result\":\"a cat\"}"},{"type":"tool_result","tool_use_id":"c9","content":"{\"size\":2}"},{"type":"text","text":"And?"}]}],
				"tools":[{"name":"look","description":"looks","input_schema":{"type":"object","properties":{"at":{"type":["number","null"]},"TYPE":{"type":"array","items":{"type":"string"},"minItems":1}},"required":["at"]}}],
				"tool_choice":{"type":"tool","name":"look"},"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}}`,
		}},
}

func TestPivotedRequests(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, nil)
	for from, c := range pivoted {
		for to, want := range c.wants {
			a := speechOf(from).send(b, spokenBy[to], c.body)
			sent := string(*b.upstream.last.Load())
			// The long name has a short form, the same each time, and is not shown to the client.
			if i := strings.Index(sent, longName[:50]); i >= 0 {
				sent = strings.ReplaceAll(sent, sent[i:i+64], "LONG")
			}
			if a.status != 200 || !sameJSON(t, sent, want) {
				t.Errorf("%s to %s: %d %s, the upstream got %s", from, to, a.status, a.raw, sent)
			}
			if !strings.Contains(sent, "0.70") || !strings.Contains(sent, "1.50") {
				t.Errorf("%s to %s: a number changed on its way: %s", from, to, sent)
			}
		}
	}
	for _, to := range []gateway.Dialect{gateway.DialectOpenAI, gateway.DialectGemini} {
		for _, stream := range []bool{false, true} {
			a := speechOf(gateway.DialectAnthropic).ask(b, b.secret, ask{model: spokenBy[to], stream: stream, simulate: `{"completion_tokens":6}`,
				more: `,"tools":[{"name":"` + longName + `","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"` + longName + `"}`})
			if a.tool != longName+`{"a":" tok tok tok tok"}` {
				t.Errorf("%s, stream %v: tool %q: %s", to, stream, a.tool, a.raw)
			}
		}
	}
}

// notPivoted are requests that one dialect can make and another cannot: the refusal
// names what it is.
var notPivoted = []struct {
	from  gateway.Dialect
	to    gateway.Dialect // any but its own, if empty
	body  string          // members beside the model's, or instead of the usual ones
	names string
}{
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":"hi"}],"brand_new":{}`, "brand_new"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":[{"type":"text","text":"hi","brand_new":1}]}]`, "messages.0.content.0.brand_new"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":[{"type":"search_result","content":[],"source":"x"}]}]`, "messages.0.content.0.source"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":[{"type":"container_upload"}]}]`, "container_upload"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]`, "file"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://example.com"}}]}]`, "url"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":[{"type":"document","citations":{"enabled":true},"source":{"type":"text","data":"x"}}]}]`, "citations"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"server_tool_use","id":"x","name":"web_search","input":{}}]},{"role":"user","content":"hi"}]`, "server_tool_use"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"{"}]`, "last message"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"robot","content":"hi"}]`, "robot"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":7}]`, "messages.0.content"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"bash_20250124","name":"bash"}]`, "bash_20250124"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":"hi"}],"tool_choice":{"type":"odd"}`, "tool_choice"},
	{gateway.DialectAnthropic, "", `"messages":[{"role":"user","content":"hi"}],"output_config":{"format":{"type":"grammar"}}`, "output_config.format"},
	{gateway.DialectAnthropic, gateway.DialectGemini, `"messages":[{"role":"user","content":"hi"}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}`, "disable_parallel_tool_use"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"brandNew":{}`, "brandNew"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"responseLogprobs":true}`, "generationConfig.responseLogprobs"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"speechConfig":{}}`, "generationConfig.speechConfig"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"responseModalities":["AUDIO"]}`, "generationConfig.responseModalities"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"responseMimeType":"text/x.enum"}`, "generationConfig.responseMimeType"},
	{gateway.DialectGemini, gateway.DialectAnthropic, `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"responseMimeType":"application/json"}`, "generationConfig.responseMimeType"},
	{gateway.DialectGemini, gateway.DialectAnthropic, `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"candidateCount":2}`, "generationConfig.candidateCount"},
	{gateway.DialectGemini, gateway.DialectAnthropic, `"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"responseModalities":["IMAGE"]}`, "generationConfig.responseModalities"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ODD"}}`, "toolConfig.functionCallingConfig.mode"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"tools":[{"computerUse":{}}]`, "tools.0.computerUse"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"executableCode":{"code":"x"}}]}]`, "executableCode"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}]}]`, "audio/wav"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"fileData":{"mimeType":"image/png","fileUri":"https://generativelanguage.googleapis.com/v1beta/files/x"}}]}]`, "fileData"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"fileData":{"fileUri":"gs://b/x.png"}}]}]`, "fileData"},
	{gateway.DialectGemini, "", `"contents":[{"role":"user","parts":[{"functionResponse":{"name":"nobody","response":{}}}]}]`, "nobody"},
	{gateway.DialectGemini, "", `"contents":[{"role":"user","parts":[{"functionCall":{"name":"f","args":{}}}]}]`, "functionCall"},
	{gateway.DialectGemini, "", `"contents":[{"role":"user","parts":[{"text":"hi"}]},{"role":"model","parts":[{"text":"hi"}]}]`, "last message"},
	{gateway.DialectGemini, "", `"contents":[{"role":"robot","parts":[{"text":"hi"}]}]`, "robot"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":"hi"}]}],"toolConfig":{},"tool_config":{}`, "twice"},
	{gateway.DialectGemini, "", `"contents":[{"parts":[{"text":7}]}]`, "contents.0.parts.0.text"},
}

// TestNotPivoted: what cannot be said in the upstream's dialect is refused by name,
// not lost on the way, and costs nothing. To its own dialect it passes.
func TestNotPivoted(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, nil)
	for _, c := range notPivoted {
		for to, model := range spokenBy {
			if to == c.from || c.to != "" && to != c.to {
				continue
			}
			head := `{"model":"MODEL","max_tokens":9,`
			if c.from == gateway.DialectGemini {
				head = "{"
			}
			a := speechOf(c.from).send(b, model, head+c.body+"}")
			if a.status != 400 || !strings.Contains(a.message, c.names) {
				t.Errorf("%s to %s, %s: %d %s, want %s", c.from, to, c.body, a.status, a.raw, c.names)
			}
			if u := b.usage(a.id); !u.Cost.IsZero() || u.Tokens.Total() != 0 || u.HTTPStatus != 0 {
				t.Errorf("%s costs %s", c.body, fmt.Sprint(u))
			}
		}
	}
	if n := b.upstream.calls.Load(); n != 0 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
}

// TestLimitByItsName: OpenAI's own service is told the limit by the name that its
// newer models know, others by the one that all know.
func TestLimitByItsName(t *testing.T) {
	t.Parallel()
	b := newMatrix(t, func(c *gateway.Config) {
		other := c.Default.Upstreams[0]
		other.Dialect = gateway.DialectOpenAI
		c.Routes["renamed"] = only(other)
		c.Routes["small"] = only(gateway.Upstream{Name: "openai", BaseURL: "http://api.openai.com/v1", Insecure: true})
		c.Transport = redirected{to: strings.TrimPrefix(strings.TrimSuffix(c.Default.Upstreams[0].BaseURL, "/v1"), "http://")}
	})
	for model, want := range map[string]string{"small": `"max_completion_tokens":1000`, "renamed": `"max_tokens":1000`} {
		speechOf(gateway.DialectAnthropic).ask(b, b.secret, ask{model: model})
		if sent := string(*b.upstream.last.Load()); !strings.Contains(sent, want) || strings.Count(sent, "_tokens") != 1 {
			t.Errorf("%s: the upstream got %s", model, sent)
		}
	}
}

// redirected sends all requests to one server.
type redirected struct{ to string }

func (r redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	req.URL.Host = r.to
	return http.DefaultTransport.RoundTrip(req)
}
