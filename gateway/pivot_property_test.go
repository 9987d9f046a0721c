package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"aione/events"

	"pgregory.net/rapid"
)

// object is a JSON object of a test.
type object = map[string]any

func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(1, 20, -1), rapid.SampledFrom([]string{"\"", "\n\n", "data: [DONE]", "中", `{"a":1}`, "\u2028"}))
}

// anyArguments are of a tool call, with names that mean something elsewhere.
func anyArguments() *rapid.Generator[object] {
	return rapid.Custom(func(t *rapid.T) object {
		return rapid.MapOfN(rapid.SampledFrom([]string{"a", "snake_case", "text", "type", "content", "finish_reason", "usage"}),
			rapid.OneOf(rapid.Map(anyText(), func(s string) any { return s }), rapid.Map(rapid.Int32(), func(n int32) any { return float64(n) }), rapid.Just[any](nil), rapid.Just[any](object{"x": []any{true}})), 0, 3).Draw(t, "arguments")
	})
}

var toolNames = []string{"look", "zoom", "mcp__x"}

// turn draws what one side says, as texts and pictures; of texts alone there is one,
// since more become one.
func pieces(t *rapid.T, text func(string) object, picture func(string) object) (out []any) {
	n := rapid.IntRange(0, 3).Draw(t, "pieces")
	if n < 2 {
		return append(out, text(anyText().Draw(t, "text")))
	}
	for range n {
		if rapid.Bool().Draw(t, "picture") {
			out = append(out, picture(rapid.SampledFrom([]string{"AAAA", "BBBB"}).Draw(t, "data")))
		} else {
			out = append(out, text(anyText().Draw(t, "text")))
		}
	}
	return append(out, picture("CCCC"))
}

// anthropicRequest draws a conversation of what Anthropic's dialect shares with the
// others, in the form that translations write.
func anthropicRequest(t *rapid.T) object {
	text := func(s string) object { return object{"type": "text", "text": s} }
	picture := func(s string) object {
		return object{"type": "image", "source": object{"type": "base64", "media_type": "image/png", "data": s}}
	}
	r := object{"model": "m", "max_tokens": float64(rapid.IntRange(1, 9000).Draw(t, "max"))}
	if rapid.Bool().Draw(t, "with system") {
		r["system"] = []any{text(anyText().Draw(t, "system"))}
	}
	var messages []any
	id := 0
	for range rapid.IntRange(0, 3).Draw(t, "turns") {
		said := []any{text(anyText().Draw(t, "said"))}
		var results []any
		for range rapid.IntRange(0, 2).Draw(t, "calls") {
			id++
			name := fmt.Sprint("toolu_", id)
			said = append(said, object{"type": "tool_use", "id": name, "name": rapid.SampledFrom(toolNames).Draw(t, "tool"), "input": anyArguments().Draw(t, "input")})
			results = append(results, object{"type": "tool_result", "tool_use_id": name, "content": anyText().Draw(t, "result")})
		}
		messages = append(messages, object{"role": "user", "content": pieces(t, text, picture)}, object{"role": "assistant", "content": said})
		if len(results) > 0 {
			messages = append(messages, object{"role": "user", "content": results}, object{"role": "assistant", "content": []any{text("ok")}})
		}
	}
	r["messages"] = append(messages, object{"role": "user", "content": pieces(t, text, picture)})
	for _, name := range []string{"temperature", "top_p", "top_k"} {
		if rapid.Bool().Draw(t, name) {
			r[name] = 0.5
		}
	}
	if rapid.Bool().Draw(t, "stop") {
		r["stop_sequences"] = []any{anyText().Draw(t, "stop sequence")}
	}
	if rapid.Bool().Draw(t, "format") {
		r["output_config"] = object{"format": object{"type": "json_schema", "schema": object{"type": "object", "x": anyArguments().Draw(t, "schema")}}}
	}
	if rapid.Bool().Draw(t, "tools") {
		r["tools"] = []any{object{"name": "look", "description": anyText().Draw(t, "description"), "input_schema": object{"type": "object"}}, object{"name": "zoom", "input_schema": object{"type": "object"}}}
		choice := object{"type": rapid.SampledFrom([]string{"auto", "any", "none", "tool"}).Draw(t, "choice")}
		if choice["type"] == "tool" {
			choice["name"] = "zoom"
		}
		if choice["type"] != "none" && rapid.Bool().Draw(t, "not parallel") {
			choice["disable_parallel_tool_use"] = true
		}
		r["tool_choice"] = choice
	}
	if rapid.Bool().Draw(t, "stream") {
		r["stream"] = true
	}
	return r
}

// geminiRequest is anthropicRequest for Gemini's dialect.
func geminiRequest(t *rapid.T) object {
	text := func(s string) object { return object{"text": s} }
	picture := func(s string) object { return object{"inlineData": object{"mimeType": "image/png", "data": s}} }
	r := object{}
	if rapid.Bool().Draw(t, "with system") {
		r["systemInstruction"] = object{"parts": []any{text(anyText().Draw(t, "system"))}}
	}
	var contents []any
	for range rapid.IntRange(0, 3).Draw(t, "turns") {
		said := []any{text(anyText().Draw(t, "said"))}
		var results []any
		for range rapid.IntRange(0, 2).Draw(t, "calls") {
			name := rapid.SampledFrom(toolNames).Draw(t, "tool")
			said = append(said, object{"functionCall": object{"name": name, "args": anyArguments().Draw(t, "args")}})
			results = append(results, object{"functionResponse": object{"name": name, "response": anyArguments().Draw(t, "response")}})
		}
		contents = append(contents, object{"role": "user", "parts": pieces(t, text, picture)}, object{"role": "model", "parts": said})
		if len(results) > 0 {
			contents = append(contents, object{"role": "user", "parts": results}, object{"role": "model", "parts": []any{text("ok")}})
		}
	}
	r["contents"] = append(contents, object{"role": "user", "parts": pieces(t, text, picture)})
	g := object{}
	for _, name := range []string{"temperature", "topP", "topK"} {
		if rapid.Bool().Draw(t, name) {
			g[name] = 0.5
		}
	}
	for _, more := range []object{{"maxOutputTokens": 77.0}, {"candidateCount": 2.0}, {"stopSequences": []any{"END"}}} {
		if rapid.Bool().Draw(t, fmt.Sprint(more)) {
			maps.Copy(g, more)
		}
	}
	if rapid.Bool().Draw(t, "format") {
		g["responseMimeType"] = "application/json"
		if rapid.Bool().Draw(t, "schema") {
			g["responseJsonSchema"] = object{"type": "object"}
		}
	}
	r["generationConfig"] = g
	if rapid.Bool().Draw(t, "tools") {
		r["tools"] = []any{object{"functionDeclarations": []any{object{"name": "look", "description": anyText().Draw(t, "description"), "parametersJsonSchema": object{"type": "object"}}}}}
		calling := object{"mode": rapid.SampledFrom([]string{"AUTO", "ANY", "NONE"}).Draw(t, "mode")}
		if calling["mode"] == "ANY" && rapid.Bool().Draw(t, "named") {
			calling["allowedFunctionNames"] = []any{"look"}
		}
		r["toolConfig"] = object{"functionCallingConfig": calling}
	}
	return r
}

// TestThereAndBack: a request that goes to OpenAI's dialect and back to its own
// keeps everything that the dialects share.
func TestThereAndBack(t *testing.T) {
	for name, c := range map[string]struct {
		client  client
		draw    func(*rapid.T) object
		through via
		path    string
	}{
		"anthropic": {anthropic{}, anthropicRequest, via{toAnthropic{}, anthropicSpeaker{}}, "/v1/messages"},
		"gemini":    {gemini{}, geminiRequest, via{toGemini{}, geminiSpeaker{}}, "/v1beta/models/m:generateContent"},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := c.draw(t)
				raw, err := json.Marshal(want)
				if err != nil {
					t.Fatal(err)
				}
				q, bad := c.client.parse(newRequest(c.path), raw)
				if bad != nil {
					t.Fatalf("%s: %v", raw, bad)
				}
				_, out, err := c.through.call(q, Upstream{Model: "m"}, http.Header{})
				if err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
				var got object
				if err := json.Unmarshal(out, &got); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("%s\ncame back as\n%s", raw, out)
				}
			})
		})
	}
}

func newRequest(path string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, "http://x"+path, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// said is an answer of an OpenAI upstream, as one and in pieces.
type said struct {
	thoughts, text string
	calls          []chatCall
	finish         string
}

func anySaid(t *rapid.T) said {
	a := said{finish: rapid.SampledFrom([]string{"stop", "length", "content_filter"}).Draw(t, "finish")}
	if rapid.Bool().Draw(t, "thoughts") {
		a.thoughts = anyText().Draw(t, "thought")
	}
	if rapid.Bool().Draw(t, "text") {
		a.text = anyText().Draw(t, "said")
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "calls") {
		args, err := json.Marshal(anyArguments().Draw(t, "arguments"))
		if err != nil {
			t.Fatal(err)
		}
		a.calls = append(a.calls, newCall(fmt.Sprint("id", i), rapid.SampledFrom(toolNames).Draw(t, "tool"), string(args)))
		a.finish = "tool_calls"
	}
	return a
}

func (a said) plain() []byte {
	m := object{"role": "assistant", "content": nil, "tool_calls": a.calls, "reasoning_content": a.thoughts}
	if a.text != "" {
		m["content"] = a.text
	}
	b, err := json.Marshal(object{"id": "chatcmpl-x", "choices": []any{object{"index": 0, "message": m, "finish_reason": a.finish}}})
	if err != nil {
		panic(err)
	}
	return b
}

// stream cuts the answer anywhere between characters. Some servers number all calls
// alike, and tell them by their ids.
func (a said) stream(t *rapid.T) (lines [][]byte) {
	add := func(delta object, finish any) {
		b, err := json.Marshal(object{"id": "chatcmpl-x", "choices": []any{object{"index": 0, "delta": delta, "finish_reason": finish}}})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b)
	}
	cut := func(s string) (ps []string) {
		for runes := []rune(s); len(runes) > 0; {
			n := rapid.IntRange(1, len(runes)).Draw(t, "cut")
			ps, runes = append(ps, string(runes[:n])), runes[n:]
		}
		return ps
	}
	alike := rapid.Bool().Draw(t, "numbered alike")
	add(object{"role": "assistant", "content": ""}, nil)
	for _, p := range cut(a.thoughts) {
		add(object{"reasoning_content": p}, nil)
	}
	for _, p := range cut(a.text) {
		add(object{"content": p}, nil)
	}
	for i, c := range a.calls {
		if alike {
			i = 0
		}
		add(object{"tool_calls": []any{object{"index": i, "id": c.ID, "type": "function", "function": object{"name": c.Function.Name, "arguments": ""}}}}, nil)
		for _, p := range cut(c.Function.Arguments) {
			add(object{"tool_calls": []any{object{"index": i, "function": object{"arguments": p}}}}, nil)
		}
	}
	add(object{}, a.finish)
	return lines
}

var blocksGrammar = regexp.MustCompile(`^message_start (content_block_start (content_block_delta )*content_block_stop )*message_delta message_stop $`)

// assembled puts a stream together, the way of its dialect's clients, into the form
// of a plain answer: content and why it ended.
func assembled(t *rapid.T, stream []byte, anthropic bool) (content []any, stop string) {
	var names string
	for line := range strings.Lines(string(stream)) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type       string
			Index      int
			Block      object `json:"content_block"`
			Delta      map[string]string
			Candidates []struct {
				Content struct{ Parts []object }
				Finish  string `json:"finishReason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		names += e.Type + " "
		switch e.Type {
		case "content_block_start":
			if e.Index != len(content) {
				t.Fatalf("block %d follows %d others", e.Index, len(content))
			}
			content = append(content, e.Block)
		case "content_block_delta":
			b := content[e.Index].(object)
			for from, to := range map[string]string{"text": "text", "thinking": "thinking", "partial_json": "partial"} {
				if piece := e.Delta[from]; piece != "" {
					before, _ := b[to].(string)
					b[to] = before + piece
				}
			}
		case "message_delta":
			stop = e.Delta["stop_reason"]
		case "":
			stop = e.Candidates[0].Finish
			for _, p := range e.Candidates[0].Content.Parts {
				content = joined(content, p)
			}
		}
	}
	if anthropic && !blocksGrammar.MatchString(names) {
		t.Fatalf("a stream of %s", names)
	}
	for _, c := range content {
		if b := c.(object); b["type"] == "tool_use" {
			var input any
			partial, _ := b["partial"].(string)
			if err := json.Unmarshal([]byte(partial), &input); err != nil {
				t.Fatalf("input %q: %v", partial, err)
			}
			b["input"] = input
			delete(b, "partial")
		}
	}
	return content, stop
}

// joined appends a part of Gemini's: texts of a kind are one.
func joined(content []any, p object) []any {
	if p["text"] == "" {
		return content
	}
	if n := len(content); n > 0 {
		last := content[n-1].(object)
		if a, ok := last["text"].(string); ok && p["text"] != nil && last["thought"] == p["thought"] {
			last["text"] = a + p["text"].(string)
			return content
		}
	}
	return append(content, p)
}

// TestStreamEqualsPlain: a stream, put together by its client, is the plain answer,
// wherever the upstream has cut it.
func TestStreamEqualsPlain(t *testing.T) {
	used := events.Tokens{Input: 7, CacheRead: 2, Output: 3, Reasoning: 1}
	for name, w := range map[string]via{"anthropic": {openAIWire{}, anthropicSpeaker{}}, "gemini": {openAIWire{}, geminiSpeaker{}}} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				a := anySaid(t)
				q := &request{model: "m", choices: 1, stream: true}
				q.translated.thoughts = rapid.Bool().Draw(t, "thoughts are asked for")
				plain, _, err := w.plain(q, a.plain(), nil)
				if err != nil {
					t.Fatal(err)
				}
				var want struct {
					Content    []any
					Stop       string `json:"stop_reason"`
					Candidates []struct {
						Content struct{ Parts []any }
						Finish  string `json:"finishReason"`
					}
				}
				if err := json.Unmarshal(w.tell(plain, used), &want); err != nil {
					t.Fatal(err)
				}
				if len(want.Candidates) > 0 {
					want.Content, want.Stop = want.Candidates[0].Content.Parts, want.Candidates[0].Finish
				}
				var stream bytes.Buffer
				tap := w.tap(q)
				for _, line := range append(a.stream(t), []byte("[DONE]")) {
					s, err := tap.event(nil, line, nil)
					if err != nil {
						t.Fatalf("%s: %v", line, err)
					}
					stream.Write(s.out)
				}
				stream.WriteString(tap.tail(used))
				got, stop := assembled(t, stream.Bytes(), name == "anthropic")
				if stop != want.Stop || len(got)+len(want.Content) > 0 && !reflect.DeepEqual(got, want.Content) {
					t.Fatalf("%s\nstreamed:\n%s\nplain:\n%s", stop, stream.Bytes(), plain)
				}
				if shown := len(got) > 0 && strings.Contains(fmt.Sprint(got[0]), "thinking") || strings.Contains(fmt.Sprint(got), "thought:true"); shown != (a.thoughts != "" && q.translated.thoughts) {
					t.Fatalf("thoughts are shown: %v", shown)
				}
			})
		})
	}
}

// TestBrokenCalls: arguments that are no object are garbage, unless the limit cut
// them off; so are pieces that belong to no call.
func TestBrokenCalls(t *testing.T) {
	for _, w := range []via{{openAIWire{}, anthropicSpeaker{}}, {openAIWire{}, geminiSpeaker{}}} {
		for finish, want := range map[string]error{"length": nil, "tool_calls": errGarbage} {
			body := fmt.Appendf(nil, `{"choices":[{"message":{"content":"hi","tool_calls":[{"id":"x","function":{"name":"f","arguments":"{\"a\":"}}]},"finish_reason":%q}]}`, finish)
			out, _, err := w.plain(&request{choices: 1}, body, nil)
			if !errors.Is(err, want) || err == nil && (!strings.Contains(string(out), "hi") || strings.Contains(string(out), `"x"`)) {
				t.Errorf("%T, %s: %s, %v", w.speaker, finish, out, err)
			}
		}
		for _, stream := range []string{
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}},{"index":1,"id":"b","function":{"name":"f"}},{"index":2,"function":{"arguments":"}"}}]}}]}`,
			`{"choices":7}`, `{"choices":[{"delta":{"content":"x","tool_calls":7}}]}`,
		} {
			if _, err := w.tap(&request{choices: 1}).event(nil, []byte(stream), nil); !errors.Is(err, errGarbage) {
				t.Errorf("%T: %s is taken: %v", w.speaker, stream, err)
			}
		}
	}
}
