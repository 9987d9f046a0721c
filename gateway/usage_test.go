package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"aione/events"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

var anyCount = rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64(), rapid.Int64Range(plausibleTokensMax-1, plausibleTokensMax+1))

var requestWithoutHeaders = &http.Request{}

func believable(counts ...int64) bool {
	for _, n := range counts {
		if n < 0 || n > plausibleTokensMax {
			return false
		}
	}
	return true
}

// TestAnthropicUsageTakenApart: its parts are disjoint already; they sum to the
// whole, with what is written to the cache divided or all for five minutes.
func TestAnthropicUsageTakenApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		input, read, written, output := anyCount.Draw(t, "input"), anyCount.Draw(t, "read"), anyCount.Draw(t, "written"), anyCount.Draw(t, "output")
		five, hour := int64(0), int64(0)
		creation := ""
		if rapid.Bool().Draw(t, "divided") {
			five, hour = anyCount.Draw(t, "five"), anyCount.Draw(t, "hour")
			creation = fmt.Sprintf(`,"cache_creation":{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d}`, five, hour)
		}
		thinking, details := int64(0), ""
		if rapid.Bool().Draw(t, "told apart") {
			thinking = anyCount.Draw(t, "thinking")
			details = fmt.Sprintf(`,"output_tokens_details":{"thinking_tokens":%d}`, thinking)
		}
		// In two events, as a stream tells it; the first one's output is a beginning.
		var u anthropicUsage
		head := fmt.Sprintf(`{"input_tokens":%d,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":1%s}`, input, written, read, creation)
		if err := errors.Join(u.merge(jsontext.Value(head)), u.merge(fmt.Appendf(nil, `{"output_tokens":%d%s}`, output, details))); err != nil {
			t.Fatal(err)
		}
		tokens, err := u.tokens()
		plausible := believable(input, read, written, output, five, hour, thinking) && five+hour <= written && thinking <= output
		if plausible != (err == nil) {
			t.Fatalf("plausible %v, error %v", plausible, err)
		}
		if err != nil {
			if !errors.Is(err, errImplausible) || tokens != (events.Tokens{}) {
				t.Fatalf("%+v, %v", tokens, err)
			}
			return
		}
		want := events.Tokens{Input: uint64(input), CacheRead: uint64(read), CacheWrite5m: uint64(written - hour), CacheWrite1h: uint64(hour), Output: uint64(output - thinking), Reasoning: uint64(thinking)}
		if tokens != want || int64(tokens.Prompt()) != input+read+written {
			t.Fatalf("%s gives %+v, want %+v", head, tokens, want)
		}
	})
}

// TestGeminiUsageTakenApart: cached inside the prompt, thoughts outside the
// candidates; what is not there is zero, but for the prompt.
func TestGeminiUsageTakenApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prompt, cached, tools := anyCount.Draw(t, "prompt"), anyCount.Draw(t, "cached"), anyCount.Draw(t, "tools")
		candidates, thoughts := anyCount.Draw(t, "candidates"), anyCount.Draw(t, "thoughts")
		raw := fmt.Sprintf(`{"promptTokenCount":%d,"totalTokenCount":7`, prompt)
		for name, n := range map[string]*int64{"cachedContentTokenCount": &cached, "toolUsePromptTokenCount": &tools, "candidatesTokenCount": &candidates, "thoughtsTokenCount": &thoughts} {
			if rapid.Bool().Draw(t, name) {
				raw += fmt.Sprintf(`,%q:%d`, name, *n)
			} else {
				*n = 0
			}
		}
		tokens, err := parseGeminiUsage(jsontext.Value(raw + "}"))
		plausible := believable(prompt, cached, tools, candidates, thoughts) && cached <= prompt
		if plausible != (err == nil) {
			t.Fatalf("%s: plausible %v, error %v", raw, plausible, err)
		}
		if err == nil && (int64(tokens.Prompt()) != prompt+tools || int64(tokens.CacheRead) != cached || int64(tokens.Output) != candidates || int64(tokens.Reasoning) != thoughts) {
			t.Fatalf("%s gives %+v", raw, tokens)
		}
	})
	for _, raw := range []string{`{}`, `{"candidatesTokenCount":1}`, `{"promptTokenCount":"1"}`, `{"promptTokenCount":1.5}`} {
		if _, err := parseGeminiUsage(jsontext.Value(raw)); !errors.Is(err, errImplausible) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// TestPromptBounds: what is claimed is never less than a count of the prompt, and
// what a count finds never more than the bytes.
func TestPromptBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 6000, -1).Draw(t, "text")
		quoted, err := jsontext.AppendQuote(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			client client
			body   string
		}{
			{openAI{}, `{"model":"m","messages":[{"role":"user","content":%s}]}`},
			{anthropic{}, `{"model":"m","max_tokens":1,"system":%s,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`},
		} {
			q, bad := c.client.parse(requestWithoutHeaders, fmt.Appendf(nil, c.body, quoted))
			if bad != nil {
				t.Fatal(bad)
			}
			counted := q.text(promptSampleMax).tokens()
			if bound, rough := q.promptCounted(), q.promptBytes(); counted > bound || bound > rough || counted > uint64(q.scan.textBytes) {
				t.Fatalf("%d tokens counted, claim %d or %d, %d bytes", counted, bound, rough, q.scan.textBytes)
			}
			if q.scan.textBytes < len(text) {
				t.Fatalf("%d bytes of text found, want at least %d", q.scan.textBytes, len(text))
			}
		}
	})
}

// 0 is what nobody timed: dashboards leave it out.
func TestBegunMillisecondsCount(t *testing.T) {
	for d, want := range map[time.Duration]uint32{-time.Second: 1, 0: 1, 999 * time.Microsecond: 1, time.Millisecond: 2, 1<<63 - 1: 1<<32 - 1} {
		if got := millis(d); got != want {
			t.Errorf("%s is %d ms, want %d", d, got, want)
		}
	}
}
