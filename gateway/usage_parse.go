package gateway

import (
	"cmp"
	"errors"
	"fmt"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// plausibleTokensMax is the largest count of one answer that is believed. It is
// several times the largest context window there is, and low enough that no
// price makes a cost that the event log refuses.
const plausibleTokensMax = 1 << 24

// errImplausible is returned when a provider's figures cannot be true: negative,
// absurdly large, fractional, missing, or parts larger than their whole.
var errImplausible = errors.New("implausible usage")

func plausible(counts ...int64) error {
	for _, n := range counts {
		if n < 0 || n > plausibleTokensMax {
			return fmt.Errorf("%w: a count of %d", errImplausible, n)
		}
	}
	return nil
}

// promptOf are the buckets of the prompt alone.
func promptOf(t events.Tokens) *events.Tokens {
	return &events.Tokens{Input: t.Input, CacheRead: t.CacheRead, CacheWrite5m: t.CacheWrite5m, CacheWrite1h: t.CacheWrite1h}
}

// parseOpenAIUsage takes OpenAI's usage apart: prompt_tokens include the cached
// ones, completion_tokens the reasoning ones. Some who speak its dialect tell the
// cached ones at another place (DeepSeek, Moonshot), or count the reasoning ones
// beside the completion (xAI): then only all three together make their total.
func parseOpenAIUsage(raw jsontext.Value) (events.Tokens, error) {
	var u struct {
		Prompt        *int64 `json:"prompt_tokens"`
		Completion    *int64 `json:"completion_tokens"`
		Total         int64  `json:"total_tokens"`
		CacheHit      int64  `json:"prompt_cache_hit_tokens"`
		Cached        int64  `json:"cached_tokens"`
		PromptDetails struct {
			Cached int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
		CompletionDetails struct {
			Reasoning int64 `json:"reasoning_tokens"`
		} `json:"completion_tokens_details"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		return events.Tokens{}, fmt.Errorf("%w: %w", errImplausible, err)
	}
	if u.Prompt == nil || u.Completion == nil {
		return events.Tokens{}, fmt.Errorf("%w: prompt_tokens or completion_tokens is missing", errImplausible)
	}
	prompt, completion, reasoning := *u.Prompt, *u.Completion, u.CompletionDetails.Reasoning
	cached := cmp.Or(u.PromptDetails.Cached, u.CacheHit, u.Cached)
	if err := plausible(prompt, completion, cached, reasoning); err != nil {
		return events.Tokens{}, err
	}
	if reasoning > 0 && u.Total == prompt+completion+reasoning {
		completion += reasoning
	}
	if cached > prompt || reasoning > completion {
		return events.Tokens{}, fmt.Errorf("%w: %d cached of %d prompt tokens, %d reasoning of %d completion tokens",
			errImplausible, cached, prompt, reasoning, completion)
	}
	return events.Tokens{
		Input: uint64(prompt - cached), CacheRead: uint64(cached),
		Output: uint64(completion - reasoning), Reasoning: uint64(reasoning),
	}, nil
}

// anthropicUsage is Anthropic's usage, whose parts do not overlap: input_tokens
// exclude what the cache holds or is given. output_tokens include thinking, which
// newer versions tell apart. A stream reports it in two events; later figures
// replace earlier ones.
type anthropicUsage struct {
	Input   *int64 `json:"input_tokens"`
	Written *int64 `json:"cache_creation_input_tokens"`
	Read    *int64 `json:"cache_read_input_tokens"`
	Output  *int64 `json:"output_tokens"`
	// How Written divides; without it all is for 5 minutes, the default.
	Creation *struct {
		FiveMinutes int64 `json:"ephemeral_5m_input_tokens"`
		OneHour     int64 `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	OutputDetails *struct {
		Thinking int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
}

func (u *anthropicUsage) empty() bool { return *u == anthropicUsage{} }

func (u *anthropicUsage) merge(raw jsontext.Value) error {
	var next anthropicUsage
	if err := json.Unmarshal(raw, &next); err != nil {
		return fmt.Errorf("%w: %w", errImplausible, err)
	}
	for _, f := range []struct{ to, from **int64 }{
		{&u.Input, &next.Input}, {&u.Written, &next.Written}, {&u.Read, &next.Read}, {&u.Output, &next.Output},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	if next.Creation != nil {
		u.Creation = next.Creation
	}
	if next.OutputDetails != nil {
		u.OutputDetails = next.OutputDetails
	}
	return nil
}

func (u *anthropicUsage) tokens() (events.Tokens, error) {
	if u.Input == nil || u.Output == nil {
		return events.Tokens{}, fmt.Errorf("%w: input_tokens or output_tokens is missing", errImplausible)
	}
	var written, read, oneHour, fiveMinutes, thinking int64
	if u.Read != nil {
		read = *u.Read
	}
	if u.Creation != nil {
		fiveMinutes, oneHour = u.Creation.FiveMinutes, u.Creation.OneHour
	}
	if u.OutputDetails != nil {
		thinking = u.OutputDetails.Thinking
	}
	if err := plausible(*u.Input, *u.Output, read, fiveMinutes, oneHour, thinking); err != nil {
		return events.Tokens{}, err
	}
	if written = fiveMinutes + oneHour; u.Written != nil {
		written = *u.Written
	}
	if err := plausible(written); err != nil {
		return events.Tokens{}, err
	}
	if fiveMinutes+oneHour > written || thinking > *u.Output {
		return events.Tokens{}, fmt.Errorf("%w: %d+%d of %d tokens written to the cache, %d of %d thinking",
			errImplausible, fiveMinutes, oneHour, written, thinking, *u.Output)
	}
	return events.Tokens{
		Input: uint64(*u.Input), CacheRead: uint64(read), CacheWrite5m: uint64(written - oneHour), CacheWrite1h: uint64(oneHour),
		Output: uint64(*u.Output - thinking), Reasoning: uint64(thinking),
	}, nil
}

// parseGeminiUsage takes Gemini's usage apart: promptTokenCount includes the
// cached ones, candidatesTokenCount excludes the thoughts, and what tools added to
// the prompt stands by itself. Counts of zero are left out by Google.
func parseGeminiUsage(raw jsontext.Value) (events.Tokens, error) {
	var u struct {
		Prompt     *int64 `json:"promptTokenCount"`
		Cached     int64  `json:"cachedContentTokenCount"`
		ToolPrompt int64  `json:"toolUsePromptTokenCount"`
		Candidates int64  `json:"candidatesTokenCount"`
		Thoughts   int64  `json:"thoughtsTokenCount"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		return events.Tokens{}, fmt.Errorf("%w: %w", errImplausible, err)
	}
	if u.Prompt == nil {
		return events.Tokens{}, fmt.Errorf("%w: promptTokenCount is missing", errImplausible)
	}
	if err := plausible(*u.Prompt, u.Cached, u.ToolPrompt, u.Candidates, u.Thoughts); err != nil {
		return events.Tokens{}, err
	}
	if u.Cached > *u.Prompt {
		return events.Tokens{}, fmt.Errorf("%w: %d cached of %d prompt tokens", errImplausible, u.Cached, *u.Prompt)
	}
	return events.Tokens{
		Input: uint64(*u.Prompt - u.Cached + u.ToolPrompt), CacheRead: uint64(u.Cached),
		Output: uint64(u.Candidates), Reasoning: uint64(u.Thoughts),
	}, nil
}
