package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aione/events"
	"aione/gateway"

	"github.com/google/uuid"
)

// hold makes the tap wait until release is closed.
func (b *bench) hold(hook *atomic.Pointer[func(context.Context) error], release <-chan struct{}) {
	f := func(ctx context.Context) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", events.ErrUnknown, ctx.Err())
		}
	}
	hook.Store(&f)
}

// TestUpstreamFaults is every way a provider can fail, and what the client and
// the bill make of it. Answers have 8 tokens of text unless they say otherwise.
func TestUpstreamFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	upstream, timeout, completed := events.OutcomeUpstreamError, events.OutcomeTimeout, events.OutcomeCompleted
	for name, c := range map[string]struct {
		simulate string
		stream   bool
		status   int
		code     string // of the error; empty for none
		text     int    // tokens of text the client has
		outcome  events.Outcome
		source   events.Source
		tokens   events.Tokens
	}{
		"plain 500":         {`{"status":500}`, false, 502, "upstream_error", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"stream 500":        {`{"status":500}`, true, 502, "upstream_error", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"our key is bad":    {`{"status":401}`, false, 502, "upstream_error", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"redirect":          {`{"status":302}`, false, 502, "upstream_error", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"client's fault":    {`{"status":400}`, false, 400, "simulated_error", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"rate limit":        {`{"status":429}`, true, 503, "upstream_rate_limited", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"unavailable":       {`{"status":503}`, true, 503, "upstream_unavailable", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"upstream's 504":    {`{"status":504}`, true, 504, "upstream_timeout", 0, timeout, events.SourceEstimated, events.Tokens{}},
		"plain garbage":     {`{"garbage":true}`, false, 502, "upstream_invalid_response", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"garbage at once":   {`{"garbage":true}`, true, 502, "upstream_invalid_response", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"garbage later":     {`{"garbage":true,"garbage_after_chunks":3,"prompt_tokens":9,"completion_tokens":8}`, true, 200, "upstream_invalid_response", 3, upstream, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 3}},
		"plain cut":         {`{"cut_after_chunks":0}`, false, 502, "upstream_cut", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"cut at once":       {`{"cut_after_chunks":0}`, true, 502, "upstream_cut", 0, upstream, events.SourceEstimated, events.Tokens{}},
		"cut later":         {`{"cut_after_chunks":5,"prompt_tokens":9,"completion_tokens":8}`, true, 200, "upstream_cut", 5, upstream, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 5}},
		"polite cut":        {`{"cut_after_chunks":5,"cut_politely":true,"prompt_tokens":9,"completion_tokens":8}`, true, 200, "upstream_cut", 5, upstream, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 5}},
		"error inside":      {`{"error_after_chunks":2,"prompt_tokens":9,"completion_tokens":8}`, true, 200, "upstream_error", 2, upstream, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 2}},
		"stall before":      {`{"latency_ms":9000}`, false, 504, "upstream_timeout", 0, timeout, events.SourceEstimated, events.Tokens{}},
		"stall first chunk": {`{"ttft_ms":9000}`, true, 504, "upstream_timeout", 0, timeout, events.SourceEstimated, events.Tokens{}},
		"stall inside":      {`{"stall_ms":9000,"stall_after_chunks":3,"prompt_tokens":9,"completion_tokens":8}`, true, 200, "upstream_timeout", 3, timeout, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 3}},
		"plain stall":       {`{"stall_ms":9000}`, false, 504, "upstream_timeout", 0, timeout, events.SourceEstimated, events.Tokens{}},
		"usage missing":     {`{"usage":"missing","completion_tokens":8}`, true, 200, "", 8, completed, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 8}},
		"plain missing":     {`{"usage":"missing","completion_tokens":8}`, false, 200, "", 8, completed, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 8}},
		"usage negative":    {`{"usage":"negative","completion_tokens":8}`, true, 200, "", 8, completed, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 8}},
		"usage huge":        {`{"usage":"huge","completion_tokens":8}`, false, 200, "", 8, completed, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 8}},
		"usage overlaps":    {`{"usage":"overlap","completion_tokens":8}`, true, 200, "", 8, completed, events.SourceEstimated, events.Tokens{Input: promptTokens, Output: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := b.ask(b.secret, body(c.stream, c.simulate))
			if a.status != c.status || len(a.text) != 4*c.text || a.err != nil {
				t.Fatalf("answer: %d %q, %v", a.status, a.raw, a.err)
			}
			if c.code == "" && (a.failure != nil || a.done != c.stream) {
				t.Errorf("answer: %q", a.raw)
			}
			if c.code != "" && (a.failure == nil || a.failure.Code != c.code || a.done) {
				t.Errorf("error %q, want %s and no [DONE]", a.raw, c.code)
			}
			u := b.usage(a.id)
			if u.Outcome != c.outcome || u.Source != c.source || u.Tokens != c.tokens {
				t.Errorf("usage: %s %s %+v, want %s %s %+v", u.Outcome, u.Source, u.Tokens, c.outcome, c.source, c.tokens)
			}
			if free := c.text == 0; free != u.Cost.IsZero() {
				t.Errorf("%d tokens of text cost %s", c.text, u.Cost)
			}
		})
	}
}

func TestUpstreamUnreachable(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) { c.Default.Upstreams[0].BaseURL = "http://127.0.0.1:1/v1" })
	a := b.ask(b.secret, body(true, `{}`))
	if u := b.usage(a.id); a.status != 502 || !u.Cost.IsZero() || u.HTTPStatus != 0 || u.Outcome != events.OutcomeUpstreamError {
		t.Errorf("answer %d %s, usage %+v", a.status, a.raw, u)
	}
}

// TestDurableBeforeFirstByte: nothing of an answer that is ready may come through
// while neither its admission nor its usage is durable. The start of a stream waits
// for the admission, a plain answer for its usage, which says more.
func TestDurableBeforeFirstByte(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for _, stream := range []bool{false, true} {
		admit, publish := make(chan struct{}), make(chan struct{})
		b.hold(&b.tap.onAdmit, admit)
		b.hold(&b.tap.onPublish, publish)
		before := b.upstream.calls.Load()
		head := make(chan *http.Response, 1)
		go func() { head <- must(http.DefaultClient.Do(b.request(t.Context(), b.secret, body(stream, `{}`)))) }()
		for b.upstream.calls.Load() == before { // the upstream is called meanwhile
			time.Sleep(time.Millisecond)
		}
		select {
		case resp := <-head:
			t.Fatalf("stream %v: status %d came before anything was durable", stream, resp.StatusCode)
		case <-time.After(200 * time.Millisecond):
		}
		first, second := publish, admit
		hurried := int64(0) // only the start of a stream waits for its admission
		if stream {
			first, second = admit, publish
			hurried = 1
		}
		if got := b.tap.hurried.Load(); got != hurried {
			t.Errorf("stream %v: the log was hurried %d times", stream, got)
		}
		close(first)
		resp := <-head
		close(second)
		a := readAnswer(resp)
		if a.status != 200 || a.failure != nil || a.text == "" {
			t.Errorf("stream %v: %d %s", stream, a.status, a.raw)
		}
		b.admitted(a)
	}
}

func TestAdmissionFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	f := func(context.Context) error { return events.ErrFull }
	b.tap.onAdmit.Store(&f)
	begun := time.Now()
	a := b.ask(b.secret, body(true, `{"latency_ms":60000}`))
	if a.status != 503 || a.failure.Code != "metering_unavailable" || a.header.Get("Retry-After") == "" || time.Since(begun) > 30*time.Second {
		t.Errorf("answer: %d %s after %s", a.status, a.raw, time.Since(begun))
	}
	// It may be in the log all the same, so it is settled: at nothing.
	if u := b.soon(a.id); !u.Cost.IsZero() || u.Tokens.Total() != 0 {
		t.Errorf("usage: %+v", u)
	}
}

// TestAdmissionFailsLate: a plain answer whose usage is durable is billed, and so
// it is delivered.
func TestAdmissionFailsLate(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	published := make(chan struct{})
	late := func(context.Context) error { <-published; return events.ErrFull }
	b.tap.onAdmit.Store(&late)
	seen := func(context.Context) error { close(published); return nil }
	b.tap.onPublish.Store(&seen)
	a := b.ask(b.secret, body(false, counted))
	if u := b.usage(a.id); a.status != 200 || a.text == "" || !u.Cost.IsPositive() || u.Outcome != events.OutcomeCompleted {
		t.Errorf("%d %s, usage %+v", a.status, a.raw, u)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(b.logged.String(), "the admission is not durable"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody is told")
		}
	}
}

// TestEndOnlyAfterAck: the client has all of the text, but not the end of the
// answer, while the usage is not durable.
func TestEndOnlyAfterAck(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	release := make(chan struct{})
	b.hold(&b.tap.onPublish, release)
	resp := must(http.DefaultClient.Do(b.request(t.Context(), b.secret, body(true, `{"completion_tokens":8}`))))
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	text := ""
	for range 8 {
		line := must(in.ReadString('\n'))
		must(in.ReadString('\n'))
		text += line
	}
	if strings.Contains(text, `"stop"`) || strings.Contains(text, "[DONE]") || strings.Count(text, " tok") != 8 {
		t.Fatalf("before the usage is durable: %s", text)
	}
	rest := make(chan string)
	go func() { b, _ := io.ReadAll(in); rest <- string(b) }()
	select {
	case s := <-rest:
		t.Fatalf("the answer ended before the usage was durable: %s", s)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if s := <-rest; !strings.Contains(s, `"stop"`) || !strings.HasSuffix(s, "data: [DONE]\n\n") {
		t.Errorf("the end: %s", s)
	}

	release = make(chan struct{})
	b.hold(&b.tap.onPublish, release)
	head := make(chan *http.Response, 1)
	go func() { head <- must(http.DefaultClient.Do(b.request(t.Context(), b.secret, body(false, `{}`)))) }()
	select {
	case <-head:
		t.Fatal("a plain answer came before its usage was durable")
	case <-time.After(300 * time.Millisecond):
	}
	close(release)
	if a := readAnswer(<-head); a.status != 200 {
		t.Errorf("plain: %d", a.status)
	}
}

func TestPublishFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) { c.Timeouts.Publish = 300 * time.Millisecond })
	tries := 0
	f := func(context.Context) error { tries++; return events.ErrUnknown }
	b.tap.onPublish.Store(&f)
	a := b.ask(b.secret, body(false, `{}`))
	if a.status != 503 || a.failure.Code != "metering_unavailable" || a.text != "" || tries < 3 {
		t.Errorf("plain after %d tries: %d %s", tries, a.status, a.raw)
	}
	s := b.ask(b.secret, body(true, `{}`))
	if s.status != 200 || s.failure == nil || s.failure.Code != "metering_unavailable" || s.done || strings.Contains(s.raw, `"stop"`) {
		t.Errorf("stream: %d %s", s.status, s.raw)
	}
	if as := b.admissions(); len(as) != 2 || len(b.usages()) != 0 {
		t.Errorf("%d admissions are left for the sweeper, want 2", len(as))
	}
	once := true
	g := func(context.Context) error {
		if once {
			once = false
			return events.ErrFull
		}
		return nil
	}
	b.tap.onPublish.Store(&g)
	if a := b.ask(b.secret, body(true, `{}`)); !a.done || b.usage(a.id).Outcome != events.OutcomeCompleted {
		t.Errorf("after one failure: %s", a.raw)
	}
}

// leave asks for a stream, reads so many chunks and closes the connection.
func (b *bench) leave(text string, chunks int) (id uuid.UUID) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}}
	resp := must(client.Do(b.request(ctx, b.secret, text)))
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for range 2 * chunks {
		must(in.ReadString('\n'))
	}
	return must(uuid.Parse(resp.Header.Get("X-Request-Id")))
}

func TestClientLeaves(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	t.Run("the provider's count is billed in full", func(t *testing.T) {
		u := b.soon(b.leave(body(true, `{"prompt_tokens":1000,"completion_tokens":200,"chunk_ms":60}`), 2))
		if u.Outcome != events.OutcomeCancelled || u.Source != events.SourceReported || (u.Tokens != events.Tokens{Input: 1000, Output: 200}) {
			t.Errorf("usage: %s %s %+v", u.Outcome, u.Source, u.Tokens)
		}
	})
	t.Run("without a count, all that was written", func(t *testing.T) {
		u := b.soon(b.leave(body(true, `{"usage":"missing","completion_tokens":8,"chunk_ms":60}`), 2))
		if u.Outcome != events.OutcomeCancelled || u.Source != events.SourceEstimated || u.Tokens.Output != 8 || u.Tokens.Input != promptTokens {
			t.Errorf("usage: %s %s %+v", u.Outcome, u.Source, u.Tokens)
		}
	})
	t.Run("draining is bounded", func(t *testing.T) {
		begun := time.Now()
		u := b.soon(b.leave(body(true, `{"completion_tokens":600,"chunks":600,"chunk_ms":100}`), 3))
		if took := time.Since(begun); u.Outcome != events.OutcomeCancelled || u.Source != events.SourceEstimated || took > 30*time.Second {
			t.Errorf("after %s: %s %s %+v", took, u.Outcome, u.Source, u.Tokens)
		}
	})
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("before the first byte, stream %v", stream), func(t *testing.T) {
			before := len(b.admissions())
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			go func() {
				for len(b.admissions()) == before && t.Context().Err() == nil {
					time.Sleep(5 * time.Millisecond)
				}
				leave()
			}()
			if _, err := http.DefaultClient.Do(b.request(ctx, b.secret, body(stream, `{"latency_ms":900,"prompt_tokens":1000,"completion_tokens":200}`))); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			as := b.admissions()
			if len(as) != before+1 {
				t.Fatalf("%d admissions", len(as)-before)
			}
			u := b.soon(as[before].ID)
			if u.Outcome != events.OutcomeCancelled || u.Source != events.SourceReported || u.Tokens.Output != 200 {
				t.Errorf("usage: %s %s %+v", u.Outcome, u.Source, u.Tokens)
			}
		})
	}
}

// TestHalfClosedClient: who has closed its side of the connection is taken for gone.
// If it reads on all the same, the answer must be seen to break off.
func TestHalfClosedClient(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	conn := must(net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))).(*net.TCPConn)
	defer conn.Close()
	text := body(true, `{"completion_tokens":8,"chunks":8,"chunk_ms":50}`)
	must(fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", b.secret, len(text), text))
	resp := must(http.ReadResponse(bufio.NewReader(conn), nil))
	in := bufio.NewReader(resp.Body)
	must(in.ReadString('\n'))
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err == nil || strings.Contains(string(rest), "[DONE]") {
		t.Errorf("it ends with %v: %q", err, rest)
	}
	if u := b.soon(must(uuid.Parse(resp.Header.Get("X-Request-Id")))); u.Outcome != events.OutcomeCancelled || u.Tokens.Output != 8 {
		t.Errorf("usage: %s %+v", u.Outcome, u.Tokens)
	}
}

// TestStreamIsNotCollected: each chunk comes through when it is there.
func TestStreamIsNotCollected(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	resp := must(http.DefaultClient.Do(b.request(t.Context(), b.secret, body(true, `{"completion_tokens":4,"chunks":4,"chunk_ms":300}`))))
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	must(in.ReadString('\n'))
	begun := time.Now()
	_, _ = io.Copy(io.Discard, in)
	if took := time.Since(begun); took < 100*time.Millisecond { // of 900
		t.Errorf("the last chunk came %s after the first", took)
	}
	u := b.usage(must(uuid.Parse(resp.Header.Get("X-Request-Id"))))
	if u.TTFTMS >= u.LatencyMS || u.LatencyMS < 900 {
		t.Errorf("first byte after %d ms of %d", u.TTFTMS, u.LatencyMS)
	}
}

// TestOddStreams are streams the simulator does not make, of providers that do
// things their own way.
func TestOddStreams(t *testing.T) {
	t.Parallel()
	raw := ""
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, raw)
	}))
	defer odd.Close()
	b := newBench(t, func(c *gateway.Config) { c.Default = only(gateway.Upstream{Name: "odd", BaseURL: odd.URL}) })
	const usage = `"usage":{"prompt_tokens":7,"completion_tokens":3}`
	for name, c := range map[string]struct {
		raw    string
		done   bool
		text   string
		tokens events.Tokens
		source events.Source
	}{
		"CRLF, comments, no space": {": hello\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\r\n\r\n: still here\r\n\r\nevent: x\r\ndata: {\"choices\":[]," + usage + "}\r\n\r\ndata:[DONE]\r\n\r\n",
			true, "hi", events.Tokens{Input: 7, Output: 3}, events.SourceReported},
		"usage with the finish": {"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]," + usage + "}\n\ndata: [DONE]\n\n",
			true, "hi", events.Tokens{Input: 7, Output: 3}, events.SourceReported},
		"a running total": {"data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"i\"}}]," + usage + "}\n\ndata: [DONE]\n\n",
			true, "hi", events.Tokens{Input: 7, Output: 3}, events.SourceReported},
		"usage, then a cut": {"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[]," + usage + "}\n\n",
			false, "hi", events.Tokens{Input: 7, Output: 3}, events.SourceReported},
		"usage is text":       {"data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{} \\u00e9\"}}],\"usage\":null}\n\ndata: [DONE]\n\n", true, "\"usage\":{} é", events.Tokens{Input: promptTokens, Output: gateway.CountTokens("\"usage\":{} é")}, events.SourceEstimated},
		"long event":          {"data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("long", 20000) + "\"}}]}\n\ndata: [DONE]\n\n", true, strings.Repeat("long", 20000), events.Tokens{Input: promptTokens, Output: 20000}, events.SourceEstimated},
		"nothing but [DONE]":  {"data: [DONE]\n\n", true, "", events.Tokens{Input: promptTokens}, events.SourceEstimated},
		"JSON without events": {`{"choices":[{"message":{"content":"x"}}]}`, false, "", events.Tokens{}, events.SourceEstimated},
	} {
		t.Run(name, func(t *testing.T) {
			raw = c.raw
			a := b.ask(b.secret, body(true, `{}`))
			u := b.usage(a.id)
			if a.done != c.done || a.text != c.text || (a.failure == nil) != c.done || u.Tokens != c.tokens || u.Source != c.source {
				t.Errorf("done %v, error %+v, %d bytes of text, %s %+v", a.done, a.failure, len(a.text), u.Source, u.Tokens)
			}
		})
	}
}

// TestClientThatDoesNotRead is taken for gone after Timeouts.Write; the upstream
// is read to its end all the same.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	fast := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event := "data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("long", 64<<10) + "\"}}]}\n\n"
		for range 128 { // 32 MiB: more than the sockets between us hold
			_, _ = io.WriteString(w, event)
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n")
	}))
	defer fast.Close()
	b := newBench(t, func(c *gateway.Config) {
		c.Default = only(gateway.Upstream{Name: "fast", BaseURL: fast.URL})
		c.Timeouts.Write, c.Timeouts.Drain = 300*time.Millisecond, 10*time.Second
	})
	conn := must(net.Dial("tcp", strings.TrimPrefix(b.url, "http://")))
	defer conn.Close()
	text := body(true, `{}`)
	must(fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", b.secret, len(text), text))
	for end := time.Now().Add(20 * time.Second); len(b.admissions()) == 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	u := b.soon(b.admissions()[0].ID)
	if u.Outcome != events.OutcomeCancelled || u.Source != events.SourceReported || (u.Tokens != events.Tokens{Input: 7, Output: 3}) {
		t.Errorf("usage: %s %s %+v", u.Outcome, u.Source, u.Tokens)
	}
}

// TestNoGoroutineLeaks runs every kind of end and counts what is left.
func TestNoGoroutineLeaks(t *testing.T) {
	b := newBench(t, nil)
	for _, simulate := range []string{`{}`, `{"status":500}`, `{"cut_after_chunks":1}`, `{"garbage":true}`} {
		b.ask(b.secret, body(true, simulate))
		b.ask(b.secret, body(false, simulate))
	}
	b.soon(b.leave(body(true, `{"completion_tokens":600,"chunks":600,"chunk_ms":100}`), 1))
	b.soon(b.leave(body(true, `{"chunk_ms":50,"completion_tokens":8}`), 1))
	if err := b.gateway.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The log and its server have goroutines of their own; ours, and those of
	// connections to the upstream, are told by their stacks.
	left := func() (ours []string) {
		buf := make([]byte, 4<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "aione/gateway.(*") || strings.Contains(g, "net/http.(*persistConn)") {
				ours = append(ours, g)
			}
		}
		return ours
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		http.DefaultClient.CloseIdleConnections()
		if ours := left(); len(ours) == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%d goroutines are left:\n%s", len(ours), strings.Join(ours, "\n\n"))
		}
	}
	if a := b.ask(b.secret, body(false, `{}`)); a.status != 503 {
		t.Errorf("after Close: %d", a.status)
	}
}
