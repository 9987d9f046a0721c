package gateway_test

import (
	"strings"
	"testing"

	"aione/gateway"
)

// unmeteredCases are members of a request that ask for what the tokens do not
// tell, by dialect; the name is what the refusal must say.
var unmeteredCases = map[gateway.Dialect][]struct{ more, param, names string }{
	gateway.DialectOpenAI: {
		{`,"web_search_options":{}`, "web_search_options", "search"},
		{`,"web_search_options":{"search_context_size":"low"}`, "web_search_options", "search"},
		{`,"search_parameters":{"mode":"on"}`, "search_parameters", "search"},
		{`,"enable_search":true`, "enable_search", "search"},
		{`,"plugins":[{"id":"web"}]`, "plugins", "search"},
		{`,"tools":[{"type":"function","function":{"name":"f"}},{"type":"web_search"}]`, "tools", `"web_search"`},
		{`,"tools":[{"\u0074ype":"builtin_function","function":{"name":"$web_search"}}]`, "tools", `"builtin_function"`},
		{`,"tools":[{"type":7}]`, "tools", "type"},
		{`,"service_tier":"priority"`, "service_tier", `"priority"`},
		{`,"service_tier":"flex"`, "service_tier", `"flex"`},
		{`,"service_tier":{"x":1}`, "service_tier", "value"},
		{`,"extra_body":{"google":{"cached_content":"cachedContents/x"}}`, "extra_body.google.cached_content", "cache"},
	},
	gateway.DialectAnthropic: {
		{`,"tools":[{"type":"web_search_20250305","name":"web_search"}]`, "tools", `"web_search_20250305"`},
		{`,"tools":[{"name":"f","input_schema":{}},{"type":"web_fetch_20250910","name":"web_fetch"}]`, "tools", `"web_fetch_20250910"`},
		{`,"tools":[{"type":"code_execution_20250825","name":"code_execution"}]`, "tools", `"code_execution_20250825"`},
		{`,"tools":[{"type":"mcp_toolset","mcp_server_name":"x"}]`, "tools", `"mcp_toolset"`},
		{`,"tools":[{"type":"tool_search_tool_regex_20251119","name":"t"}]`, "tools", `"tool_search_tool_regex_20251119"`},
		{`,"tools":{"type":"web_search_20250305"}`, "tools", `"web_search_20250305"`},
		{`,"mcp_servers":[{"type":"url","url":"https://example.com","name":"x"}]`, "mcp_servers", "server"},
		{`,"container":"container_1"`, "container", "container"},
		{`,"container":{"skills":[{"type":"anthropic","skill_id":"pdf"}]}`, "container", "container"},
		{`,"service_tier":"priority"`, "service_tier", `"priority"`},
		{`,"speed":"fast"`, "speed", `"fast"`},
		{`,"inference_geo":"us"`, "inference_geo", `"us"`},
		{`,"context_management":{"edits":[{"type":"clear_tool_uses_20250919"},{"type":"compact_20260112"}]}`, "context_management", `"compact_20260112"`},
	},
	gateway.DialectGemini: {
		{`,"tools":[{"googleSearch":{}}]`, "tools", `"googleSearch"`},
		{`,"tools":[{"google_search":{}}]`, "tools", `"google_search"`},
		{`,"tools":{"googleSearch":{}}`, "tools", `"googleSearch"`},
		{`,"tools":[{"functionDeclarations":[{"name":"f"}],"googleSearchRetrieval":{}}]`, "tools", `"googleSearchRetrieval"`},
		{`,"tools":[{"functionDeclarations":[{"name":"f"}]},{"codeExecution":{}}]`, "tools", `"codeExecution"`},
		{`,"tools":[{"urlContext":{}}]`, "tools", `"urlContext"`},
		{`,"tools":[{"fileSearch":{"fileSearchStoreNames":["x"]}}]`, "tools", `"fileSearch"`},
		{`,"tools":[{"googleMaps":{}}]`, "tools", `"googleMaps"`},
		{`,"cachedContent":"cachedContents/x"`, "cachedContent", "cache"},
		{`,"cached_content":"cachedContents/x"`, "cached_content", "cache"},
		{`,"serviceTier":"priority"`, "serviceTier", `"priority"`},
	},
}

// TestUnmeteredIsRefused before any money moves: nothing is claimed from a budget,
// sent upstream or recorded.
func TestUnmeteredIsRefused(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	for _, s := range speeches {
		for _, c := range unmeteredCases[s.dialect] {
			for _, secret := range []string{b.secret, b.sandbox} {
				a := s.ask(b, secret, ask{more: c.more, stream: secret == b.secret})
				if a.status != 400 || a.code != "not_metered" || !strings.Contains(a.message, c.names) || !strings.Contains(a.message, c.param) || !strings.Contains(a.message, "bill") {
					t.Errorf("%s %s: %d %s", s.dialect, c.more, a.status, a.raw)
				}
			}
		}
	}
	if n := b.upstream.calls.Load(); n != 0 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
	if n := len(l.asked); n != 0 {
		t.Errorf("%d refused requests took from the limits", n)
	}
	if us, as := b.usages(), b.admissions(); len(us)+len(as) != 0 {
		t.Errorf("refused requests left %d usage events and %d admissions", len(us), len(as))
	}
}

// TestMeteredIsNotRefused: what looks like it, and is run by the client, or says
// nothing.
func TestMeteredIsNotRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for dialect, cases := range map[gateway.Dialect][]string{
		gateway.DialectOpenAI: {
			`,"tools":[{"type":"custom","custom":{"name":"f"}},{"function":{"name":"g"}}]`, `,"web_search_options":null,"search_parameters":null,"enable_search":false,"plugins":[]`,
			`,"service_tier":"auto"`, `,"service_tier":"default"`, `,"service_tier":null`, `,"modalities":["text","audio"],"audio":{"voice":"ash","format":"wav"}`,
			`,"extra_body":{"google":{"thinking_config":{}}}`, `,"unknown":{"web_search_options":{}}`,
		},
		gateway.DialectAnthropic: {
			`,"tools":[{"name":"f","input_schema":{}},{"type":"custom","name":"g","input_schema":{}},{"type":null,"name":"h","input_schema":{}}]`,
			`,"tools":[{"type":"bash_20250124","name":"bash"},{"type":"text_editor_20250728","name":"e"},{"type":"computer_20250124","name":"c"},{"type":"memory_20250818","name":"m"}]`,
			`,"mcp_servers":[],"container":null,"service_tier":"standard_only","speed":"standard","inference_geo":"global"`, `,"service_tier":"auto"`,
			`,"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}`,
		},
		gateway.DialectGemini: {
			`,"tools":[{"functionDeclarations":[{"name":"f"}],"googleSearch":null},{"computerUse":{"environment":"ENVIRONMENT_BROWSER"}}]`,
			`,"cachedContent":"","serviceTier":"STANDARD"`,
		},
	} {
		for _, more := range cases {
			if a := speechOf(dialect).ask(b, b.secret, ask{more: more}); a.status != 200 {
				t.Errorf("%s %s: %d %s", dialect, more, a.status, a.raw)
			}
		}
	}
}

// TestClaimCoversTheRequest: what a model reads or writes beside its messages is
// claimed too, and of two forms of a name no reader may choose.
func TestClaimCoversTheRequest(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	schema := `{"type":"object","description":"` + strings.Repeat("word ", 2000) + `"}`
	for _, c := range []struct {
		dialect gateway.Dialect
		more    string
		least   uint64 // of the claim, in tokens
	}{
		{gateway.DialectOpenAI, `,"max_tokens":10,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":` + schema + `}}`, 10_000},
		{gateway.DialectOpenAI, `,"max_tokens":10,"functions":[{"name":"f","parameters":` + schema + `}]`, 10_000},
		{gateway.DialectOpenAI, `,"max_tokens":1000,"n":20`, 20_000},
		{gateway.DialectOpenAI, `,"max_completion_tokens":1000,"max_tokens":10,"n":20`, 20_000},
		{gateway.DialectAnthropic, `,"output_config":{"format":{"type":"json_schema","schema":` + schema + `}}`, 11_000},
		{gateway.DialectGemini, `,"generationConfig":{"maxOutputTokens":10,"responseJsonSchema":` + schema + `}`, 10_000},
		{gateway.DialectGemini, `,"generationConfig":{"maxOutputTokens":1000,"candidateCount":20,"candidate_count":1,"max_output_tokens":10}`, 20_000},
	} {
		s := speechOf(c.dialect)
		if a := s.ask(b, b.secret, ask{more: c.more}); a.status != 200 {
			t.Fatalf("%s %s: %d %s", c.dialect, c.more, a.status, a.raw)
		}
		if claim, _ := l.last(t); claim.Tokens < c.least {
			t.Errorf("%s %.100s: a claim of %d tokens, want at least %d", c.dialect, c.more, claim.Tokens, c.least)
		}
	}
	calls := b.upstream.calls.Load()
	for _, more := range []string{
		`,"generationConfig":{"maxOutputTokens":1},"generation_config":{"maxOutputTokens":9}`,
		`,"systemInstruction":{"parts":[]},"system_instruction":{"parts":[{"text":"x"}]}`,
	} {
		if a := speechOf(gateway.DialectGemini).ask(b, b.secret, ask{more: more}); a.status != 400 || a.code != "invalid_json" {
			t.Errorf("%s: %d %s", more, a.status, a.raw)
		}
	}
	if a := b.ask(b.secret, `{"model":"small","messages":[{"role":"user","content":"hi"},{"role":"assistant","audio":{"id":"audio_1"}}],"max_tokens":10}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	if claim, _ := l.last(t); claim.Tokens < 128<<10 {
		t.Errorf("a recording of before claims %d tokens: less than what the context may hold", claim.Tokens)
	}
	if n := b.upstream.calls.Load() - calls; n != 1 {
		t.Errorf("%d refused requests reached the upstream", n-1)
	}
}
