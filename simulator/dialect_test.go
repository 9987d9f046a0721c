package simulator_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"aione/simulator"
)

// ask posts a request with a key the way of any dialect, and reads the answer.
func ask(t testing.TB, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer upstream-key")
	req.Header.Set("X-Goog-Api-Key", "upstream-key")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestDialects: the same answer, each told the way of its provider, and twice the
// same to the byte.
func TestDialects(t *testing.T) {
	url := start(t, simulator.Config{APIKey: "upstream-key", Chunks: 2})
	const sim = `"simulate":{"prompt_tokens":20,"completion_tokens":5,"cached_tokens":4,"cache_write_5m":3,"cache_write_1h":2,"reasoning_tokens":1}}`
	const messages = `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],`
	for name, c := range map[string]struct {
		path, body string
		want       []string // in this order
	}{
		"anthropic": {"/v1/messages", messages + sim, []string{`"type":"message"`, `"text":" tok tok tok tok"`, `"stop_reason":"end_turn"`,
			`"usage":{"input_tokens":11,"cache_creation_input_tokens":5,"cache_read_input_tokens":4,"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":2},"output_tokens":5`}},
		"anthropic stream": {"/v1/messages", strings.Replace(messages, "{", `{"stream":true,`, 1) + sim, []string{"event: message_start\n", `"input_tokens":11`, `"output_tokens":1`, "event: content_block_start\n", "event: ping\n",
			`{"type":"text_delta","text":" tok tok"}`, `{"type":"text_delta","text":" tok tok"}`, "event: content_block_stop\n", "event: message_delta\n", `"usage":{"output_tokens":5,"output_tokens_details":{"thinking_tokens":1}}`, "event: message_stop\n"}},
		"gemini": {"/v1beta/models/m:generateContent", `{"contents":[{"parts":[{"text":"hi"}]}],` + sim, []string{`{"text":" tok tok tok tok"}`, `"finishReason":"STOP"`,
			`"usageMetadata":{"promptTokenCount":20,"cachedContentTokenCount":4,"candidatesTokenCount":4,"thoughtsTokenCount":1,"totalTokenCount":25}`}},
		"gemini stream": {"/v1/models/a/m:streamGenerateContent?alt=sse", `{"contents":[{"parts":[{"text":"hi"}]}],` + sim, []string{`{"text":" tok tok"}`, `"promptTokenCount":20`, `{"text":" tok tok"}`,
			`"finishReason":"STOP"`, `"thoughtsTokenCount":1`, `"modelVersion":"a/m"`}},
		"gemini picture":  {"/v1beta/models/gemini-2.5-flash-image:generateContent", `{"contents":[{"parts":[{"text":"hi"}]}],` + sim, []string{`"inlineData":{"mimeType":"image/png"`, `"modality":"IMAGE"`}},
		"openai picture":  {"/v1/chat/completions", strings.Replace(messages, `"m"`, `"gemini-3-pro-image-preview"`, 1) + sim, []string{`"images":[{"type":"image_url"`}},
		"anthropic error": {"/v1/messages", messages + `"simulate":{"status":529}}`, []string{`{"type":"error","error":{"type":"overloaded_error"`}},
		"gemini error":    {"/v1beta/models/m:generateContent", `{"simulate":{"status":429}}`, []string{`{"error":{"code":429,`, `"status":"RESOURCE_EXHAUSTED"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := ask(t, url+c.path, c.body)
			rest := got
			for _, want := range c.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("no %s in %s", want, got)
				}
				rest = after
			}
			if _, again := ask(t, url+c.path, c.body); again != got {
				t.Error("the same request got another answer")
			}
		})
	}
	for path, body := range map[string]string{
		"/v1/messages":                            `{"model":"m","messages":[]}`, // no max_tokens
		"/v1beta/models/m:countTokens":            `{}`,
		"/v1beta/models/m:streamGenerateContent":  `{}`, // no alt=sse
		"/v1beta/models/m:generateContent":        `{"simulate":{"images":17}}`,
		"/v1beta/models/m:generateContent?x=size": `{"generationConfig":{"imageConfig":{"imageSize":"9K"}}}`,
	} {
		if status, got := ask(t, url+path, body); status != 400 {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	for _, path := range []string{"/v1/messages", "/v1beta/models/m:generateContent?key=wrong", "/v1/chat/completions"} {
		resp, err := http.Post(url+path, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", path, resp.StatusCode)
		}
	}
}
