package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"aione/events"

	"pgregory.net/rapid"
)

// TestUsageTakenApart: whatever a provider reports, either its parts are disjoint
// and sum to its whole, or it is not believed.
func TestUsageTakenApart(t *testing.T) {
	count := rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64(), rapid.Int64Range(plausibleTokensMax-1, plausibleTokensMax+1))
	rapid.Check(t, func(t *rapid.T) {
		prompt, completion := count.Draw(t, "prompt"), count.Draw(t, "completion")
		cached, reasoning := count.Draw(t, "cached"), count.Draw(t, "reasoning")
		raw := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":0,"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":%d}}`,
			prompt, completion, cached, reasoning)
		tokens, err := parseOpenAIUsage([]byte(raw))
		plausible := 0 <= cached && cached <= prompt && prompt <= plausibleTokensMax && 0 <= reasoning && reasoning <= completion && completion <= plausibleTokensMax
		if plausible != (err == nil) {
			t.Fatalf("plausible %v, error %v", plausible, err)
		}
		if err != nil {
			if !errors.Is(err, errImplausible) || tokens != (events.Tokens{}) {
				t.Fatalf("%+v, %v", tokens, err)
			}
			return
		}
		if int64(tokens.Prompt()) != prompt || int64(tokens.Completion()) != completion || int64(tokens.CacheRead) != cached ||
			int64(tokens.Reasoning) != reasoning || int64(tokens.Total()) != prompt+completion {
			t.Fatalf("%s gives %+v", raw, tokens)
		}
	})
}

func TestUsageNotBelieved(t *testing.T) {
	for _, raw := range []string{
		`{}`, `{"prompt_tokens":1}`, `{"completion_tokens":1}`, `{"prompt_tokens":1.5,"completion_tokens":1}`, `{"prompt_tokens":"1","completion_tokens":1}`,
		`{"prompt_tokens":1e3,"completion_tokens":1}`, `{"prompt_tokens":99999999999999999999,"completion_tokens":1}`, `{"prompt_tokens":null,"completion_tokens":1}`,
	} {
		if tokens, err := parseOpenAIUsage([]byte(raw)); !errors.Is(err, errImplausible) {
			t.Errorf("%s: %+v, %v", raw, tokens, err)
		}
	}
	if tokens, err := parseOpenAIUsage([]byte(`{"prompt_tokens":0,"completion_tokens":0,"prompt_tokens_details":null}`)); err != nil || tokens.Total() != 0 {
		t.Errorf("an explicit zero: %+v, %v", tokens, err)
	}
}

// TestUsageOfOthers: what others who speak the dialect call differently.
func TestUsageOfOthers(t *testing.T) {
	for raw, want := range map[string]events.Tokens{
		// DeepSeek
		`{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}`: {Input: 36, CacheRead: 64, Output: 20},
		// Moonshot
		`{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"cached_tokens":64}`: {Input: 36, CacheRead: 64, Output: 20},
		// Both places: told once
		`{"prompt_tokens":100,"completion_tokens":20,"prompt_cache_hit_tokens":64,"prompt_tokens_details":{"cached_tokens":64}}`: {Input: 36, CacheRead: 64, Output: 20},
		// xAI
		`{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}`: {Input: 32, Output: 9, Reasoning: 94},
		`{"prompt_tokens":32,"completion_tokens":90,"total_tokens":127,"completion_tokens_details":{"reasoning_tokens":5}}`: {Input: 32, Output: 90, Reasoning: 5},
		// OpenAI
		`{"prompt_tokens":32,"completion_tokens":90,"total_tokens":122,"completion_tokens_details":{"reasoning_tokens":5}}`: {Input: 32, Output: 85, Reasoning: 5},
	} {
		if got, err := parseOpenAIUsage([]byte(raw)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{
		`{"prompt_tokens":100,"completion_tokens":20,"cached_tokens":101}`, `{"prompt_tokens":100,"completion_tokens":20,"prompt_cache_hit_tokens":-1}`,
		`{"prompt_tokens":32,"completion_tokens":9,"total_tokens":136,"completion_tokens_details":{"reasoning_tokens":94}}`,
	} {
		if got, err := parseOpenAIUsage([]byte(raw)); !errors.Is(err, errImplausible) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
}

// anyJSON draws a JSON value whose objects may use the very names we look for.
func anyJSON(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 3+2*min(depth, 1)).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return float64(rapid.Int32().Draw(t, "number"))
		case 3:
			return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"model":"x"`, `}`, `\"`, `"`, `\`})).Draw(t, "string")
		case 4:
			return rapid.SliceOfN(anyJSON(depth-1), 0, 3).Draw(t, "list")
		default:
			return rapid.MapOfN(memberName(), anyJSON(depth-1), 0, 3).Draw(t, "object")
		}
	})
}

func memberName() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"model", "include_usage", "stream_options", "content", "usage", "x", `a"b`}), rapid.String())
}

// TestUpstreamBody: the upstream gets what the client sent but for the model's
// name and, in a stream, that usage is asked for.
func TestUpstreamBody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		request := rapid.MapOfN(memberName(), anyJSON(2), 0, 4).Draw(t, "more")
		request["model"] = rapid.SampledFrom([]string{"gpt-4o", `we"ird\é`}).Draw(t, "model")
		request["messages"] = []any{map[string]any{"role": "user", "content": "hi"}}
		delete(request, "n")
		stream := rapid.Bool().Draw(t, "stream")
		request["stream"] = stream
		delete(request, "stream_options")
		if rapid.Bool().Draw(t, "with options") {
			request["stream_options"] = rapid.OneOf(
				rapid.SampledFrom([]any{nil, map[string]any{}, map[string]any{"include_usage": false}, map[string]any{"include_usage": true, "x": 1.0}, map[string]any{"x": map[string]any{"include_usage": false}}}),
			).Draw(t, "options")
		}
		raw, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "indented") {
			raw, _ = json.MarshalIndent(request, " ", "\t")
		}
		before := string(raw)
		q, bad := (openAI{}).parse(nil, raw)
		if bad != nil {
			t.Fatalf("%s: %v", raw, bad)
		}
		if q.model != request["model"] || q.stream != stream {
			t.Fatalf("%s: model %q, stream %v", raw, q.model, q.stream)
		}
		name := rapid.SampledFrom([]string{q.model, "renamed", `re"named`}).Draw(t, "upstream model")
		_, out, _ := openAIWire{}.call(q, Upstream{Model: name}, http.Header{})
		var got map[string]any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s became %s: %v", raw, out, err)
		}
		want := request
		want["model"] = name
		if stream {
			options, _ := want["stream_options"].(map[string]any)
			merged := map[string]any{"include_usage": true}
			for k, v := range options {
				if k != "include_usage" {
					merged[k] = v
				}
			}
			want["stream_options"] = merged
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s became %s", raw, out)
		}
		if string(raw) != before {
			t.Fatal("the client's body was changed in place")
		}
	})
}

// TestParseNeverPanics on any bytes, and never accepts what encoding/json does not.
func TestParseNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.SampledFrom([]byte("{}[]\",:\\ umodelsg01tfn\xff\n")), 0, 60).Draw(t, "body")
		if q, bad := (openAI{}).parse(nil, raw); bad == nil {
			if !json.Valid(raw) {
				t.Fatalf("accepted %q", raw)
			}
			_, _, _ = openAIWire{}.call(q, Upstream{Model: "m"}, http.Header{})
		}
		_ = scanChunk(raw, nil)
	})
}

// TestScanCountsText against the bytes of the text itself.
func TestScanCountsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "content")
		arguments := rapid.OneOf(rapid.String(), rapid.Just(`{"usage":{},"finish_reason":"stop"}`)).Draw(t, "arguments")
		raw, err := json.Marshal(map[string]any{"choices": []any{map[string]any{
			"index": 0, "finish_reason": nil,
			"delta": map[string]any{"content": text, "role": "assistant", "tool_calls": []any{map[string]any{"function": map[string]any{"arguments": arguments, "name": "f"}}}},
		}}, "usage": nil})
		if err != nil {
			t.Fatal(err)
		}
		scan := scanChunk(raw, nil)
		var decoded struct {
			Choices []struct {
				Delta struct {
					Content   string
					ToolCalls []struct{ Function struct{ Arguments string } } `json:"tool_calls"`
				}
			}
		}
		if err := json.Unmarshal(raw, &decoded); err != nil {
			t.Fatal(err)
		}
		d := decoded.Choices[0].Delta
		want := len(d.Content) + len(d.ToolCalls[0].Function.Arguments)
		if scan.textBytes != want || scan.finishes != 0 || scan.usage || scan.failure {
			t.Fatalf("%s: %+v, want %d bytes of text and nothing else", raw, scan, want)
		}
	})
	for raw, want := range map[string]chunkScan{
		`{"choices":[{"delta":{},"finish_reason":"stop"}]}`:                   {finishes: 1},
		`{"choices":[{"finish_reason" : "stop"},{"finish_reason":"length"}]}`: {finishes: 2},
		`{"choices":[],"usage": {"prompt_tokens":1}}`:                         {usage: true},
		`{"error":{"message":"x"}}`:                                           {failure: true},
		`{"error":null,"usage":null}`:                                         {},
		`[{"type":"text","text":"abcd"}]`:                                     {textBytes: 4},
		`["content","usage"]`:                                                 {},
		`{"content":"\u4e2d\n\u0041"}`:                                        {textBytes: 5},
	} {
		if got := scanChunk([]byte(raw), nil); got != want {
			t.Errorf("%s: %+v, want %+v", raw, got, want)
		}
	}
}

func BenchmarkScanChunk(b *testing.B) {
	raw := []byte(`{"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" Hello there"},"logprobs":null,"finish_reason":null}],"usage":null}`)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		_ = scanChunk(raw, nil)
	}
}

func BenchmarkParseChat(b *testing.B) {
	raw := []byte(`{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 400) + `"}],"temperature":0.7}`)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		q, bad := (openAI{}).parse(nil, raw)
		if bad != nil {
			b.Fatal(bad)
		}
		_, _, _ = openAIWire{}.call(q, Upstream{Model: "renamed"}, http.Header{})
	}
}
