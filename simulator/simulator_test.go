package simulator_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aione/simulator"
)

func start(t testing.TB, c simulator.Config) string {
	t.Helper()
	s := httptest.NewServer(simulator.New(c))
	t.Cleanup(s.Close)
	return s.URL
}

func post(t testing.TB, url, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

type usage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
	Details    struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

type completion struct {
	Choices []struct {
		Message, Delta struct{ Content string }
		FinishReason   *string `json:"finish_reason"`
	}
	Usage *usage
}

func TestCounts(t *testing.T) {
	url := start(t, simulator.Config{})
	for name, c := range map[string]struct {
		request string
		want    [4]int64 // prompt, completion, cached, reasoning
	}{
		"words":            {`{"model":"m","messages":[{"role":"user","content":"one two  three"}]}`, [4]int64{3, 3, 0, 0}},
		"words of parts":   {`{"model":"m","messages":[{"content":[{"type":"text","text":"a b"},{"type":"image_url"}]},{"content":"c"}]}`, [4]int64{3, 3, 0, 0}},
		"max_tokens":       {`{"model":"m","max_tokens":2,"messages":[{"content":"one two three"}]}`, [4]int64{3, 2, 0, 0}},
		"explicit":         {`{"model":"m","messages":[],"simulate":{"prompt_tokens":374,"completion_tokens":44,"cached_tokens":100,"reasoning_tokens":4}}`, [4]int64{374, 44, 100, 4}},
		"explicit zero":    {`{"model":"m","messages":[{"content":"x"}],"simulate":{"prompt_tokens":0,"completion_tokens":0}}`, [4]int64{0, 0, 0, 0}},
		"more than text":   {`{"model":"m","messages":[],"simulate":{"prompt_tokens":1,"completion_tokens":1000000}}`, [4]int64{1, 1000000, 0, 0}},
		"names are strict": {`{"Simulate":{"prompt_tokens":9},"messages":[{"content":"one"}]}`, [4]int64{1, 1, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var got completion
			if err := json.NewDecoder(post(t, url, c.request).Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			u := got.Usage
			if have := [4]int64{u.Prompt, u.Completion, u.Details.Cached, u.CompletionDetails.Reasoning}; have != c.want {
				t.Errorf("counts %v, want %v", have, c.want)
			}
			text := min(c.want[1]-c.want[3], simulator.TextTokensMax)
			if n := int64(len(got.Choices[0].Message.Content)); n != 4*text {
				t.Errorf("%d bytes of text, want 4 for each of %d tokens", n, text)
			}
		})
	}
}

// readStream returns the chunks, and whether [DONE] came.
func readStream(t testing.TB, r io.Reader) (chunks []completion, done bool, err error) {
	t.Helper()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok:
		case data == "[DONE]":
			done = true
		default:
			var c completion
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				return chunks, done, err
			}
			chunks = append(chunks, c)
		}
	}
	return chunks, done, lines.Err()
}

func TestStream(t *testing.T) {
	url := start(t, simulator.Config{Chunks: 5})
	for _, asked := range []bool{true, false} {
		options := ""
		if asked {
			options = `"stream_options":{"include_usage":true},`
		}
		chunks, done, err := readStream(t, post(t, url, `{"model":"m","stream":true,`+options+`"messages":[],"simulate":{"prompt_tokens":10,"completion_tokens":43,"reasoning_tokens":3}}`).Body)
		if err != nil || !done {
			t.Fatalf("stream: done %v, %v", done, err)
		}
		text, withUsage := "", 0
		for _, c := range chunks {
			if c.Usage != nil {
				withUsage++
			}
			if len(c.Choices) > 0 {
				text += c.Choices[0].Delta.Content
			}
		}
		if want := 6; len(chunks)-withUsage != want || len(text) != 4*40 {
			t.Errorf("%d chunks and %d bytes of text, want %d and 160", len(chunks)-withUsage, len(text), want)
		}
		if asked != (withUsage == 1) {
			t.Errorf("usage asked for: %v, usage chunks: %d", asked, withUsage)
		}
	}
}

func TestEqualRequestsGetEqualAnswers(t *testing.T) {
	url := start(t, simulator.Config{})
	var answers [2]string
	for i := range answers {
		b, _ := io.ReadAll(post(t, url, `{"model":"m","stream":true,"messages":[{"content":"a b c"}]}`).Body)
		answers[i] = string(b)
	}
	if answers[0] != answers[1] {
		t.Error("the answers differ")
	}
}

func TestFaults(t *testing.T) {
	url := start(t, simulator.Config{})
	ask := func(stream, sim string) *http.Response {
		return post(t, url, `{"model":"m","stream":`+stream+`,"stream_options":{"include_usage":true},"messages":[{"content":"a b c d"}],"simulate":`+sim+`}`)
	}
	if r := ask("false", `{"status":429}`); r.StatusCode != 429 || r.Header.Get("Retry-After") != "1" {
		t.Errorf("status: %d", r.StatusCode)
	}
	if _, err := io.ReadAll(ask("false", `{"cut_after_chunks":0}`).Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("plain cut: %v", err)
	}
	if chunks, done, err := readStream(t, ask("true", `{"cut_after_chunks":2}`).Body); len(chunks) != 2 || done || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %d chunks, done %v, %v", len(chunks), done, err)
	}
	if chunks, done, err := readStream(t, ask("true", `{"cut_after_chunks":2,"cut_politely":true}`).Body); len(chunks) != 2 || done || err != nil {
		t.Errorf("polite cut: %d chunks, done %v, %v", len(chunks), done, err)
	}
	if _, _, err := readStream(t, ask("true", `{"garbage":true,"garbage_after_chunks":1}`).Body); err == nil {
		t.Error("garbage was JSON")
	}
	begun := time.Now()
	if _, done, _ := readStream(t, ask("true", `{"stall_ms":50,"stall_after_chunks":1}`).Body); !done || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("stall: done %v", done)
	}
	for fault, ok := range map[string]func(*usage) bool{
		"missing":  func(u *usage) bool { return u == nil },
		"negative": func(u *usage) bool { return u.Prompt < 0 },
		"huge":     func(u *usage) bool { return u.Prompt == 1e18 },
		"overlap":  func(u *usage) bool { return u.Details.Cached > u.Prompt },
	} {
		var got completion
		if err := json.NewDecoder(ask("false", `{"usage":"`+fault+`"}`).Body).Decode(&got); err != nil || !ok(got.Usage) {
			t.Errorf("usage %s: %+v, %v", fault, got.Usage, err)
		}
	}
	for _, bad := range []string{`{"prompt_tokens":-1}`, `{"latency_ms":-1}`, `{"usage":"wrong"}`, `{"status":99}`, `"x"`} {
		if r := ask("false", bad); r.StatusCode != 400 {
			t.Errorf("simulate %s: status %d, want 400", bad, r.StatusCode)
		}
	}
}

func TestKeyAndModels(t *testing.T) {
	url := start(t, simulator.Config{APIKey: "upstream-key", Models: []string{"m1"}})
	if r := post(t, url, `{}`); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a key: %d", r.StatusCode)
	}
	for path, want := range map[string]int{"/v1/models": 200, "/v1/nothing": 404} {
		req, _ := http.NewRequest("GET", url+path, nil)
		req.Header.Set("Authorization", "Bearer upstream-key")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || (want == 200 && !strings.Contains(string(b), `"id":"m1"`)) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, b)
		}
	}
	req, _ := http.NewRequest("POST", url+"/v1/chat/completions", strings.NewReader(`{"model":"other","messages":[]}`))
	req.Header.Set("Authorization", "Bearer upstream-key")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown model: %d", resp.StatusCode)
	}
}
