package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/gateway"

	"github.com/shopspring/decimal"
)

type noCatalog struct{ gateway.Catalog }

func noRate(catalog.Price, events.Tokens, uint64) (decimal.Decimal, error) {
	return decimal.Decimal{}, errors.New("no rate")
}

// books is a limiter that writes everything down.
type books struct {
	mu      sync.Mutex
	refuse  error
	most    uint64   // tokens of a claim that is let in, if not 0
	asked   []uint64 // tokens
	claims  []gateway.Claim
	settled []string // tokens and cost
}

func (l *books) Reserve(_ context.Context, c gateway.Claim) (gateway.Hold, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, c.Tokens)
	if l.refuse != nil {
		return nil, l.refuse
	}
	if l.most > 0 && c.Tokens > l.most {
		return nil, &gateway.Refusal{Kind: gateway.RateTokens, Scope: "key"}
	}
	l.claims = append(l.claims, c)
	return l, nil
}

func (l *books) Settle(tokens uint64, cost decimal.Decimal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = append(l.settled, fmt.Sprint(tokens, " ", cost))
}

func (l *books) Headers(h http.Header) { h.Set("X-Ratelimit-Remaining-Requests", "7") }

// last is the last claim and what it was settled at; the two are as many.
func (l *books) last(t *testing.T) (gateway.Claim, string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.claims) != len(l.settled) || len(l.claims) == 0 {
		t.Fatalf("%d claims, %d settled", len(l.claims), len(l.settled))
	}
	return l.claims[len(l.claims)-1], l.settled[len(l.settled)-1]
}

func TestLimits(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	for _, s := range speeches {
		for _, stream := range []bool{false, true} {
			more := `,"max_tokens":500`
			switch s.dialect {
			case gateway.DialectAnthropic:
				more = "" // 1000, always
			case gateway.DialectGemini:
				more = `,"generationConfig":{"maxOutputTokens":500}`
			}
			for simulate, wantStatus := range map[string]int{`{"prompt_tokens":10,"completion_tokens":20}`: 200, `{"status":500}`: 502, `{"status":400}`: 400} {
				a := s.ask(b, b.secret, ask{stream: stream, more: more, simulate: simulate})
				if a.status != wantStatus || a.header.Get("X-Ratelimit-Remaining-Requests") != "7" {
					t.Fatalf("%s: %d %v", s.dialect, a.status, a.header)
				}
				u := b.usage(a.id)
				c, settled := l.last(t)
				if want := fmt.Sprint(u.Tokens.Total(), " ", u.Cost); settled != want || c.RequestID != a.id || c.Model != "small" || c.Key.OrgID != b.org {
					t.Errorf("%s %s: claim %+v settled %s, want %s", s.dialect, simulate, c, settled, want)
				}
				// 500 or 1000 of completion at 5 per million, at least.
				least := uint64(500)
				if s.dialect == gateway.DialectAnthropic {
					least = 1000
				}
				if c.Tokens < least+promptTokens || c.Tokens > least+300 || c.Cost.LessThan(decimal.New(int64(least)*5, -6)) || c.Cost.LessThan(u.Cost) {
					t.Errorf("%s: claim of %d tokens and %s", s.dialect, c.Tokens, c.Cost)
				}
			}
		}
		before := len(l.claims)
		l.refuse = &gateway.Refusal{Kind: gateway.RateTokens, RetryAfter: 2500 * time.Millisecond, Scope: "key", Header: http.Header{"X-Ratelimit-Limit-Tokens": {"1000"}}}
		if a := s.ask(b, b.secret, ask{}); a.status != 429 || a.header.Get("Retry-After") != "3" || a.header.Get("X-Ratelimit-Limit-Tokens") != "1000" || a.code != "rate_limit_exceeded" {
			t.Errorf("%s: %d %s %v", s.dialect, a.status, a.raw, a.header)
		}
		l.refuse = &gateway.Refusal{Kind: gateway.Balance, Scope: "org"}
		if a := s.ask(b, b.secret, ask{}); a.status != 402 || a.code != "insufficient_quota" || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %d %s", s.dialect, a.status, a.raw)
		}
		l.refuse = &gateway.Refusal{Kind: gateway.Included, RetryAfter: time.Hour, Scope: "plan", Plan: "pro", Included: "1000 tokens", Renews: time.Date(2026, 11, 30, 16, 0, 0, 0, time.UTC)}
		if a := s.ask(b, b.secret, ask{}); a.status != 402 || a.code != "insufficient_quota" || a.header.Get("Retry-After") != "3600" ||
			!strings.Contains(a.raw, `1000 tokens that the plan \"pro\" includes until 2026-11-30T16:00:00Z`) {
			t.Errorf("%s: %d %s", s.dialect, a.status, a.raw)
		}
		l.refuse = errors.New("the limits are not there")
		if a := s.ask(b, b.secret, ask{}); a.status != 503 || strings.Contains(a.raw, "not there") {
			t.Errorf("%s: %d %s", s.dialect, a.status, a.raw)
		}
		l.refuse = nil
		if len(l.claims) != before {
			t.Error("a refusal took something")
		}
	}
	a := speeches[0].ask(b, b.sandbox, ask{})
	if c, settled := l.last(t); !c.Cost.IsZero() || c.Tokens == 0 || !strings.HasSuffix(settled, " 0") {
		t.Errorf("sandbox %s: claim %+v settled %s", a.id, c, settled)
	}
	if n := b.count(len(l.claims)); n != len(l.claims) {
		t.Errorf("%d admissions for %d claims", n, len(l.claims))
	}
}

// TestClaimIsCountedWhereItMatters: the length of a prompt bounds it well enough,
// unless the limits refuse that much, or it is long.
func TestClaimIsCountedWhereItMatters(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	for _, c := range []struct {
		words  int
		most   uint64
		status int
		asked  int
	}{{1000, 0, 200, 1}, {1000, 3000, 200, 2}, {1000, 1000, 429, 2}, {10_000, 20_000, 200, 1}, {10_000, 9_000, 429, 1}} {
		l.most, l.asked = c.most, nil
		a := b.ask(b.secret, `{"model":"small","max_tokens":50,"messages":[{"role":"user","content":"`+strings.Repeat(" word", c.words)+`"}]}`)
		if a.status != c.status || len(l.asked) != c.asked {
			t.Errorf("%+v: %d after claims of %d tokens", c, a.status, l.asked)
		}
		if last := l.asked[len(l.asked)-1]; last < uint64(c.words)+50 || len(l.asked) == 2 && (l.asked[0] < 5000 || last > 2000) {
			t.Errorf("%+v: claims of %d tokens", c, l.asked)
		}
	}
}

// TestCostWithoutMeasure: what could not be recorded is the client's to change.
func TestCostWithoutMeasure(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *gateway.Config) {
		c.Limiter = &books{}
		c.Rate = func(p catalog.Price, tokens events.Tokens, images uint64) (decimal.Decimal, error) {
			return decimal.NewFromUint64(tokens.Total()), nil // dear
		}
	})
	a := b.ask(b.secret, `{"model":"small","n":128,"max_tokens":16777216,"messages":[{"role":"user","content":"hi"}]}`)
	if a.status != 400 || a.failure.Code != "invalid_value" || len(b.admissions()) != 0 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// TestHoldIsSettledWhateverHappens, once.
func TestHoldIsSettledWhateverHappens(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) {
		c.Limiter = l
		c.Timeouts.Publish = 100 * time.Millisecond
		c.Breaker.Failures = 1
	})
	f := func(context.Context) error { return events.ErrFull }
	b.tap.onAdmit.Store(&f)
	b.tap.onPublish.Store(&f)
	b.ask(b.secret, body(true, `{}`))
	b.tap.onAdmit.Store(nil)
	b.ask(b.secret, body(true, counted))
	b.ask(b.secret, body(false, counted))
	b.tap.onPublish.Store(nil)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		n := len(l.settled)
		l.mu.Unlock()
		if n == 3 {
			break
		}
	}
	if _, settled := l.last(t); settled != "418 0.000425" { // it may be in the log
		t.Errorf("settled at %s", settled)
	}
	b.ask(b.secret, body(false, `{"status":500}`)) // opens the circuit
	b.ask(b.secret, body(false, `{}`))
	if _, settled := l.last(t); settled != "0 0" || len(l.claims) != 5 {
		t.Errorf("without an upstream: settled at %s, %d claims", settled, len(l.claims))
	}
}

// TestClaimWithoutALimit: what names no limit may use what its model can write, or a
// default for a model of which nobody said it.
func TestClaimWithoutALimit(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	small, _ := b.catalog.Resolve("small")
	for _, c := range []struct{ context, output, want uint64 }{
		{200_000, 0, 32 << 10}, {200_000, 100_000, 100_000}, {50_000, 100_000, 50_000}, {20_000, 0, 20_000}, {200_000, 1000, 1000},
	} {
		small.ContextLength, small.MaxOutputTokens = c.context, c.output
		if err := b.catalog.RegisterModel(t.Context(), b.log, small, catalog.By{Actor: "test", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		for _, s := range []speech{speeches[0], speeches[2]} {
			s.ask(b, b.secret, ask{})
			if got, _ := l.last(t); got.Tokens < c.want || got.Tokens > c.want+300 {
				t.Errorf("%s, context %d, output %d: a claim of %d tokens", s.dialect, c.context, c.output, got.Tokens)
			}
		}
	}
}

// TestClaimsClock: a claim says when it is made by the reading that stamped the
// request, or, where tokens were counted since, by a later one.
func TestClaimsClock(t *testing.T) {
	t.Parallel()
	l, openAI := &books{}, speeches[0]
	var reads atomic.Int64
	b := newBench(t, func(c *gateway.Config) {
		c.Limiter = l
		c.Now = func() time.Time { return time.Now().Add(time.Duration(reads.Add(1)) * time.Minute) }
	})
	tools := `,"tools":[{"type":"function","function":{"name":"f","description":"%s"}}]`
	for _, c := range []struct {
		why, model string
		words      int
		later      bool
	}{
		{"nothing is counted", "", 10, false},
		{"counted because the context may be too short", "tight", 30, true},
		{"counted because it is long", "", 5000, true},
	} {
		openAI.ask(b, b.secret, ask{model: c.model, more: fmt.Sprintf(tools, strings.Repeat(" word", c.words))})
		got, _ := l.last(t)
		if since := got.Now.Sub(got.At); since < 0 || since > time.Minute == !c.later || !strings.Contains(got.Now.String(), " m=") {
			t.Errorf("%s: a claim of %s is made at %s", c.why, got.At, got.Now)
		}
	}
}

// TestContextLength: a request that cannot fit is refused before anything moves.
// The model's context is 100 tokens.
func TestContextLength(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	openAI, anthropic, gemini := speeches[0], speeches[1], speeches[2]
	tools := `,"tools":[{"type":"function","function":{"name":"f","description":"%s"}}]`
	system := `,"systemInstruction":{"parts":[{"text":"%s"}]}`
	for _, c := range []struct {
		s     speech
		more  string
		words int
		fits  bool
	}{
		{openAI, tools, 10, true},
		{openAI, tools + `,"max_tokens":95`, 10, false},
		{openAI, tools, 120, false},
		{openAI, tools, 100_000, false},
		{gemini, system, 10, true},
		{gemini, system + `,"generationConfig":{"maxOutputTokens":95}`, 10, true}, // two limits there
		{gemini, system, 120, false},
		{anthropic, "", 0, false}, // asks for 1000
	} {
		more := c.more
		if more != "" {
			more = fmt.Sprintf(more, strings.Repeat(" word", c.words))
		}
		a := c.s.ask(b, b.secret, ask{model: "tight", more: more})
		if (a.status == 200) != c.fits || !c.fits && (a.status != 400 || a.code != "context_length_exceeded") {
			t.Errorf("%s, %d words: %d %s", c.s.dialect, c.words, a.status, a.raw)
		}
	}
	if n := b.count(3); n != 3 || len(l.claims) != 3 {
		t.Errorf("%d admissions and %d claims, want 3", n, len(l.claims))
	}
}

// TestClaimsOfDocuments: what a model may read of a file is claimed, by its bytes or
// as much as the context holds; of a picture a fixed number.
func TestClaimsOfDocuments(t *testing.T) {
	t.Parallel()
	l := &books{}
	b := newBench(t, func(c *gateway.Config) { c.Limiter = l })
	const model, context = "small", 128 << 10 // what is claimed of a context nobody knows
	text, data := strings.Repeat(" word", 30_000), strings.Repeat("QUJD", 10_000)
	for _, c := range []struct {
		s           speech
		content     string
		least, most uint64
	}{
		{speeches[0], `{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}}`, 4096, 6000},
		{speeches[0], `{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,` + data + `"}}`, 40_000, 50_000},
		{speeches[0], `{"type":"input_audio","input_audio":{"format":"mp3","data":"` + strings.Repeat(data, 9) + `"}}`, context, context + 1000},
		{speeches[0], `{"type":"file","file":{"file_id":"file-7"}}`, context, context + 1000},
		{speeches[0], `{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}`, context, context + 1000},
		{speeches[1], `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + data + `"}}`, 4096, 6000},
		{speeches[1], `{"type":"document","source":{"type":"text","media_type":"text/plain","data":"` + text + `"}}`, 30_000, 60_000},
		{speeches[1], `{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"` + data + `"}}`, 40_000, 50_000},
		{speeches[1], `{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}`, context, context + 2000},
		{speeches[2], `{"inlineData":{"mimeType":"image/png","data":"` + data + `"}}`, 4096, 6000},
		{speeches[2], `{"inlineData":{"mimeType":"audio/mp3","data":"` + data + `"}}`, 40_000, 50_000},
		{speeches[2], `{"fileData":{"mimeType":"image/png","fileUri":"https://example.com/a.png"}}`, 4096, 6000},
		{speeches[2], `{"fileData":{"fileUri":"https://example.com/film"}}`, context, context + 1000},
	} {
		body := ""
		switch c.s.dialect {
		case gateway.DialectGemini:
			body = `{"contents":[{"role":"user","parts":[` + c.content + `]}],"generationConfig":{"maxOutputTokens":100}`
		default:
			body = `{"model":"small","max_tokens":100,"messages":[{"role":"user","content":[` + c.content + `]}]`
		}
		req := c.s.request(t.Context(), b, b.secret, ask{model: model})
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body+"}")), int64(len(body)+1)
		before := len(l.asked)
		c.s.read(must(http.DefaultClient.Do(req)))
		if len(l.asked) != before+1 || l.asked[before] < c.least || l.asked[before] > c.most {
			t.Errorf("%s %.90s: claims of %d, want %d to %d", c.s.dialect, c.content, l.asked[before:], c.least, c.most)
		}
	}
}
