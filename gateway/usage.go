package gateway

import (
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
// absurdly large, fractional, or parts larger than their whole.
var errImplausible = errors.New("implausible usage")

// openAIUsage is usage as OpenAI reports it. prompt_tokens include the cached
// ones, completion_tokens the reasoning ones.
type openAIUsage struct {
	PromptTokens        *int64 `json:"prompt_tokens"`
	CompletionTokens    *int64 `json:"completion_tokens"`
	PromptTokensDetails *struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionTokensDetails *struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

// parseUsage takes a provider's usage object apart into disjoint buckets, or
// returns errImplausible.
func parseUsage(raw jsontext.Value) (events.Tokens, error) {
	var u openAIUsage
	if err := json.Unmarshal(raw, &u); err != nil {
		return events.Tokens{}, fmt.Errorf("%w: %w", errImplausible, err)
	}
	return u.tokens()
}

func (u *openAIUsage) tokens() (events.Tokens, error) {
	if u.PromptTokens == nil || u.CompletionTokens == nil {
		return events.Tokens{}, fmt.Errorf("%w: prompt_tokens or completion_tokens is missing", errImplausible)
	}
	prompt, completion := *u.PromptTokens, *u.CompletionTokens
	var cached, reasoning int64
	if u.PromptTokensDetails != nil {
		cached = u.PromptTokensDetails.CachedTokens
	}
	if u.CompletionTokensDetails != nil {
		reasoning = u.CompletionTokensDetails.ReasoningTokens
	}
	for _, n := range [...]int64{prompt, completion, cached, reasoning} {
		if n < 0 || n > plausibleTokensMax {
			return events.Tokens{}, fmt.Errorf("%w: a count of %d", errImplausible, n)
		}
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

// result is how a request ended, as its usage event will tell.
type result struct {
	outcome events.Outcome
	status  int // the provider's HTTP status; 0 when it never answered

	reported *events.Tokens // the provider's figures, if they came and can be true
	// What to count if they did not: the bytes of text the client received, unless
	// it received nothing at all.
	textBytes int
	nothing   bool

	ttftMS uint32
}

// usage mints the event of this exchange. It is called once.
func (x *exchange) usage(r result) (events.Usage, error) {
	u := x.estimate
	u.Outcome, u.HTTPStatus, u.TTFTMS = r.outcome, uint16(r.status), r.ttftMS
	u.LatencyMS = x.sinceReceivedMS()
	counted := events.Tokens{}
	if !r.nothing {
		counted = events.Tokens{Input: x.request.promptTokens, Output: tokensOf(r.textBytes)}
	}
	if r.reported != nil {
		u.Source, u.Tokens = events.SourceReported, *r.reported
		err := x.rate(&u)
		if err == nil {
			return u, nil
		}
		// Figures that cannot be priced are as bad as figures that cannot be true.
		x.log().Error("usage cannot be rated, an estimate is billed", "tokens", u.Tokens, "error", err)
	}
	u.Source, u.Tokens = events.SourceEstimated, counted
	if r.reported == nil && r.nothing { // no fee per request either
		u.Cost = zeroCost
		return u, nil
	}
	if err := x.rate(&u); err != nil {
		return events.Usage{}, err
	}
	return u, nil
}

// rate sets the cost of u: zero in the sandbox, else what its tokens cost at the
// price that was in force when the request was admitted.
func (x *exchange) rate(u *events.Usage) error {
	u.Cost = zeroCost
	if u.Sandbox {
		return nil
	}
	cost, err := x.gateway.config.Rate(x.price, u.Tokens, u.Images)
	if err != nil {
		return fmt.Errorf("rate %s at %s: %w", u.ID, x.price.Version, err)
	}
	if cost.IsNegative() || cost.Cmp(events.MaxCost) >= 0 {
		return fmt.Errorf("rate %s at %s: a cost of %s cannot be recorded", u.ID, x.price.Version, cost)
	}
	u.Cost = cost
	return nil
}
