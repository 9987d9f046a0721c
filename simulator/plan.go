package simulator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
)

// Simulate is the extension field "simulate" of a chat request: exact counts and
// faults. Every field is optional; faults combine.
type Simulate struct {
	PromptTokens     *int64 `json:"prompt_tokens,omitempty"`     // including the cached ones
	CompletionTokens *int64 `json:"completion_tokens,omitempty"` // including reasoning, which has no text
	CachedTokens     int64  `json:"cached_tokens,omitempty"`
	ReasoningTokens  int64  `json:"reasoning_tokens,omitempty"`

	LatencyMS int64 `json:"latency_ms,omitempty"` // before the status line
	TTFTMS    int64 `json:"ttft_ms,omitempty"`    // then before the first byte of the body
	ChunkMS   int64 `json:"chunk_ms,omitempty"`   // between the chunks of a stream

	Status int `json:"status,omitempty"` // answer this error status, without a completion
	Chunks int `json:"chunks,omitempty"` // content chunks of the stream instead of Config.Chunks

	// CutAfterChunks breaks the connection after so many content chunks, or in the
	// middle of a plain body. With CutPolitely the body just ends, as behind a
	// proxy that closes well.
	CutAfterChunks *int `json:"cut_after_chunks,omitempty"`
	CutPolitely    bool `json:"cut_politely,omitempty"`

	// StallMS is a silence after StallAfterChunks content chunks, or in the middle
	// of a plain body.
	StallMS          int64 `json:"stall_ms,omitempty"`
	StallAfterChunks int   `json:"stall_after_chunks,omitempty"`

	// Garbage sends something that is no JSON, in a stream after
	// GarbageAfterChunks good chunks. ErrorAfterChunks ends a stream with an error
	// object, the way providers do once the status line is out.
	Garbage            bool `json:"garbage,omitempty"`
	GarbageAfterChunks int  `json:"garbage_after_chunks,omitempty"`
	ErrorAfterChunks   *int `json:"error_after_chunks,omitempty"`

	Usage UsageFault `json:"usage,omitempty"`
}

// UsageFault is a way for usage to be wrong.
type UsageFault string

// The usage faults.
const (
	UsageMissing  UsageFault = "missing"  // no usage although asked for
	UsageNegative UsageFault = "negative" // negative counts
	UsageHuge     UsageFault = "huge"     // 10^18 prompt tokens
	UsageOverlap  UsageFault = "overlap"  // more cached than prompt tokens
)

// TextTokensMax is how many tokens of text an answer has at most.
const TextTokensMax = 8192

const (
	token         = "tok " // four bytes: a byte count ÷ 4 is exact
	simulateMSMax = 600_000
	chunksMax     = TextTokensMax
)

var text = strings.Repeat(token, TextTokensMax)

func (s *Simulate) check() error {
	for _, n := range []*int64{s.PromptTokens, s.CompletionTokens, &s.CachedTokens, &s.ReasoningTokens} {
		if n != nil && *n < 0 {
			return errors.New("simulate: a token count is negative; ask for usage \"negative\" instead")
		}
	}
	for _, ms := range []int64{s.LatencyMS, s.TTFTMS, s.ChunkMS, s.StallMS} {
		if ms < 0 || ms > simulateMSMax {
			return fmt.Errorf("simulate: a time is not in 0 … %d ms", simulateMSMax)
		}
	}
	switch {
	case s.Status != 0 && (s.Status < 200 || s.Status > 599):
		return errors.New("simulate: status is not in 200 … 599")
	case s.Chunks < 0 || s.Chunks > chunksMax:
		return fmt.Errorf("simulate: chunks is not in 0 … %d", chunksMax)
	}
	switch s.Usage {
	case "", UsageMissing, UsageNegative, UsageHuge, UsageOverlap:
		return nil
	default:
		return fmt.Errorf("simulate: usage %q is unknown", s.Usage)
	}
}

// counts are the token counts of one answer, as OpenAI reports them: prompt
// includes cached, completion includes reasoning.
type counts struct{ prompt, completion, cached, reasoning int64 }

func (r *request) counts() counts {
	c := counts{cached: r.Simulate.CachedTokens, reasoning: r.Simulate.ReasoningTokens}
	if n := r.Simulate.PromptTokens; n != nil {
		c.prompt = *n
	} else {
		c.prompt = r.words()
	}
	if n := r.Simulate.CompletionTokens; n != nil {
		c.completion = *n
		return c
	}
	c.completion = max(c.prompt, 1)
	for _, limit := range []*int64{r.MaxTokens, r.MaxCompletionTokens} {
		if limit != nil && *limit >= 0 {
			c.completion = min(c.completion, *limit)
		}
	}
	return c
}

func (r *request) words() (n int64) {
	for _, m := range r.Messages {
		var s string
		if json.Unmarshal(m.Content, &s) == nil {
			n += int64(len(strings.Fields(s)))
			continue
		}
		var parts []struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(m.Content, &parts) == nil {
			for _, p := range parts {
				n += int64(len(strings.Fields(p.Text)))
			}
		}
	}
	return n
}
