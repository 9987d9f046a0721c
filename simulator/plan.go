package simulator

import (
	"errors"
	"fmt"
	"strings"
)

// Simulate is the extension field "simulate" of a request in any dialect: exact
// counts and faults. Every field is optional; faults combine.
type Simulate struct {
	PromptTokens     *int64 `json:"prompt_tokens,omitempty"`     // all of them, those read from and written to a cache too
	CompletionTokens *int64 `json:"completion_tokens,omitempty"` // including reasoning, which has no text
	CachedTokens     int64  `json:"cached_tokens,omitempty"`
	CacheWrite5m     int64  `json:"cache_write_5m,omitempty"` // Anthropic only: the others do not report it
	CacheWrite1h     int64  `json:"cache_write_1h,omitempty"`
	ReasoningTokens  int64  `json:"reasoning_tokens,omitempty"`
	Images           *int64 `json:"images,omitempty"` // pictures in the answer; OpenAI and Gemini

	ToolCall string `json:"tool_call,omitempty"` // call the tool of this name, when tools are given

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
	UsageOverlap  UsageFault = "overlap"  // parts larger than their whole
)

// TextTokensMax is how many tokens of text an answer has at most.
const TextTokensMax = 8192

const (
	token         = " tok" // one token of o200k_base and four bytes: either count is exact
	simulateMSMax = 600_000
	chunksMax     = TextTokensMax
	imagesMax     = 16

	// A JSON answer and the arguments of a tool call are an object with one member,
	// its text. What encloses the text makes two tokens.
	jsonHead, jsonTail = `{"a":"`, `"}`
)

var text = strings.Repeat(token, TextTokensMax)

func (s *Simulate) check() error {
	for _, n := range []*int64{s.PromptTokens, s.CompletionTokens, &s.CachedTokens, &s.ReasoningTokens, &s.CacheWrite5m, &s.CacheWrite1h} {
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
	case s.Images != nil && (*s.Images < 0 || *s.Images > imagesMax):
		return fmt.Errorf("simulate: images is not in 0 … %d", imagesMax)
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

// request is what the simulator reads of a request, whatever its dialect.
type request struct {
	model        string
	stream       bool
	includeUsage bool   // OpenAI sends usage in a stream only on request
	words        int64  // in the text of the prompt
	maxTokens    *int64 // the least of the limits given
	tool         string // the tool to call; empty for none
	json         bool   // the text has to be a JSON object
	sim          Simulate
}

// counts are the token counts of one answer: prompt includes what a cache holds
// or is given, completion includes reasoning.
type counts struct{ prompt, completion, cached, write5m, write1h, reasoning, images int64 }

func (r *request) counts() counts {
	s := &r.sim
	c := counts{prompt: r.words, cached: s.CachedTokens, write5m: s.CacheWrite5m, write1h: s.CacheWrite1h, reasoning: s.ReasoningTokens}
	switch {
	case s.Images != nil:
		c.images = *s.Images
	case drawsImages(r.model):
		c.images = 1
	}
	if s.PromptTokens != nil {
		c.prompt = *s.PromptTokens
	}
	if s.CompletionTokens != nil {
		c.completion = *s.CompletionTokens
		return c
	}
	c.completion = max(c.prompt, 1)
	if r.maxTokens != nil && *r.maxTokens >= 0 {
		c.completion = min(c.completion, *r.maxTokens)
	}
	return c
}

// drawsImages reports whether a model answers with a picture: gemini-*-image*.
func drawsImages(model string) bool {
	rest, ok := strings.CutPrefix(model, "gemini-")
	return ok && strings.Contains(rest, "-image")
}

func words(s string) int64 { return int64(len(strings.Fields(s))) }

// least is the lower of two limits that need not be there.
func least(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}
