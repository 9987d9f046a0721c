package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Limiter decides whether a request may be let in, and remembers what it took.
type Limiter interface {
	// Reserve takes the request's upper bound from every limit and budget that
	// applies, all or none. A refusal is a *Refusal.
	Reserve(ctx context.Context, c Claim) (Hold, error)
}

// Claim is the most a request can use.
type Claim struct {
	Key       *keys.Key       // not kept
	Model     string          // standard id
	At        time.Time       // by the gateway's clock: when the request occurs
	Now       time.Time       // of the same clock, of a moment ago, with its monotonic reading
	RequestID uuid.UUID       // the usage event's id
	Tokens    uint64          // upper bound: prompt and the most it may complete
	Cost      decimal.Decimal // upper bound at the price in force; zero for the sandbox
}

// Hold is what a request has taken.
type Hold interface {
	// Settle replaces the bound by what was used, exactly. It is called once, after
	// the usage event is durable; or, if that never came about, with what the
	// request will be billed in the end as far as is known.
	Settle(tokens uint64, cost decimal.Decimal)
	// Headers sets the x-ratelimit-* headers to send with any answer of this request.
	Headers(h http.Header)
}

// RefusalKind is which limit a request would pass.
type RefusalKind string

// The limits.
const (
	RateRequests RefusalKind = "requests"  // requests a minute
	RateTokens   RefusalKind = "tokens"    // tokens a minute
	Budget       RefusalKind = "budget"    // what a key, team or org may spend
	Balance      RefusalKind = "balance"   // what the account holds
	InFlight     RefusalKind = "in_flight" // requests at once
	Included     RefusalKind = "included"  // what the plan includes, if it blocks
)

// Refusal says why a request is not let in.
type Refusal struct {
	Kind       RefusalKind
	RetryAfter time.Duration // until it may be let in; zero when waiting does not help
	Scope      string        // whose limit: "key", "team", "org" or "plan"
	Header     http.Header   // x-ratelimit-*

	// Of Included: the code of the plan, what it includes ("1000 tokens"), and until when.
	Plan, Included string
	Renews         time.Time
}

// Error names the limit.
func (r *Refusal) Error() string {
	return fmt.Sprintf("the %s limit of the %s is reached", r.Kind, r.Scope)
}

// answer is a refusal as the client sees it.
func (r *Refusal) answer() *apiError {
	e := &apiError{status: http.StatusTooManyRequests, typ: typeRateLimit, code: "rate_limit_exceeded",
		retryAfter: int((r.RetryAfter + time.Second - 1) / time.Second)}
	what := map[RefusalKind]string{RateRequests: "requests per minute", RateTokens: "tokens per minute", InFlight: "requests at once"}[r.Kind]
	switch r.Kind {
	case Budget, Balance, Included:
		e.status, e.typ, e.code = http.StatusPaymentRequired, typeQuota, "insufficient_quota"
	}
	switch r.Kind {
	case Included:
		e.message = fmt.Sprintf("This request may use more than is left of the %s that the plan %q includes until %s. It begins anew then.",
			r.Included, r.Plan, r.Renews.UTC().Format(time.RFC3339))
	case Budget, Balance:
		e.message = fmt.Sprintf("This request may cost more than the %s of the %s has left.", r.Kind, r.Scope)
	default:
		e.retryAfter = max(e.retryAfter, 1)
		e.message = fmt.Sprintf("Rate limit reached for this %s: %s. Try again in %d s.", r.Scope, what, e.retryAfter)
	}
	return e
}

// What a claim assumes where a request does not say.
const (
	// completionUnknown bounds the answer of a model without a known context.
	completionUnknown = 128 << 10
	tokensPerMedia    = 4096 // of a picture or other file in a prompt
	tokensAround      = 16   // what a provider may put around a prompt
	imagesPerChoice   = 4    // of a model with a price per picture
	// countedFromBytes is the prompt from which on a claim is counted at once: below,
	// its bytes are bound enough, unless the limits refuse that much.
	countedFromBytes = 16 << 10
)

// promptBytes is more tokens than the prompt can have: no token is less than a
// byte.
func (q *request) promptBytes() uint64 {
	return uint64(max(q.promptRaw-q.scan.mediaBytes, 0)) + tokensAround + uint64(q.scan.media)*tokensPerMedia
}

// promptCounted is a closer bound: a count, with half as much again for models that
// count otherwise than we do. It takes time.
func (q *request) promptCounted() uint64 {
	counted := q.text(promptSampleMax).tokens()
	between := uint64(max(q.promptRaw-q.scan.mediaBytes-q.scan.textBytes, 0)) // roles and the like
	return min(q.promptBytes(), counted+counted/2+between+tokensAround+uint64(q.scan.media)*tokensPerMedia)
}

// completionBound is the most tokens the answer can have.
func (x *exchange) completionBound() uint64 {
	each := x.request.completionMax
	if each == 0 {
		each = min(orElse(x.model.MaxOutputTokens, x.gateway.config.CompletionTokensMax), orElse(x.model.ContextLength, completionUnknown))
	}
	return each * uint64(x.request.choices)
}

func orElse(n, def uint64) uint64 {
	if n == 0 {
		return def
	}
	return n
}

// reserve takes the request's upper bound from the limits: by the length of the
// prompt, or by a count where that matters. The headers of the hold, or of the
// refusal, are set on the answer.
func (x *exchange) reserve(ctx context.Context, key *keys.Key, h http.Header) *apiError {
	limiter := x.gateway.config.Limiter
	if limiter == nil {
		return nil
	}
	prompt := x.request.promptBytes()
	count := prompt > countedFromBytes
	if count {
		prompt = x.promptCounted()
	}
	hold, err := x.ask(ctx, limiter, key, prompt)
	var refusal *Refusal
	if errors.As(err, &refusal) && !count {
		if counted := x.promptCounted(); counted <= prompt/2 { // or it is not worth asking again
			hold, err = x.ask(ctx, limiter, key, counted)
		}
	}
	var bad *apiError
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &refusal):
		maps.Copy(h, refusal.Header)
		return refusal.answer()
	case err != nil:
		x.log().Error("ask the limits", "error", err)
		return errNotDurable
	}
	x.hold = hold
	hold.Headers(h)
	return nil
}

// promptCounted is that of the request. It takes time, so the clock is read again.
func (x *exchange) promptCounted() uint64 {
	counted := x.request.promptCounted()
	x.judged = x.gateway.config.Now()
	return counted
}

// ask claims a prompt of so many tokens, and what may follow, from the limits.
func (x *exchange) ask(ctx context.Context, limiter Limiter, key *keys.Key, prompt uint64) (Hold, error) {
	claim, err := x.claim(key, prompt)
	if err != nil {
		x.log().Warn("a request may cost more than can be recorded", "error", err)
		return nil, badRequest("invalid_value", "", "This request may cost more than can be recorded: ask for fewer tokens or answers.")
	}
	ctx, cancel := context.WithTimeout(ctx, x.gateway.config.Timeouts.Admit)
	defer cancel()
	return limiter.Reserve(ctx, claim)
}

// claim is the most that the request can use with a prompt of so many tokens.
func (x *exchange) claim(key *keys.Key, prompt uint64) (Claim, error) {
	prompt, completion := x.withDocuments(prompt), x.completionBound()
	c := Claim{Key: key, Model: x.model.ID, At: x.estimate.OccurredAt, Now: x.judged, RequestID: x.estimate.ID, Tokens: prompt + completion, Cost: zeroCost}
	if key.Sandbox {
		return c, nil
	}
	worst := events.Usage{ID: x.estimate.ID, Tokens: dearest(x.price, prompt, completion)}
	if x.price.Image.IsPositive() {
		worst.Images = uint64(x.request.choices) * imagesPerChoice
	}
	err := x.rate(&worst)
	c.Cost = worst.Cost
	return c, err
}

// withDocuments adds to a prompt what the model may read of its documents, recordings
// and films: no more than their bytes, and than its context holds; of one that is
// elsewhere nothing else is known.
func (x *exchange) withDocuments(prompt uint64) uint64 {
	s := &x.request.scan
	context := orElse(x.model.ContextLength, completionUnknown)
	switch {
	case s.documents == 0:
		return prompt
	case s.links > 0:
		return max(prompt, context)
	}
	return max(prompt, min(prompt+uint64(s.mediaBytes), context))
}

// dearest puts the tokens where they cost most.
func dearest(p catalog.Price, prompt, completion uint64) (t events.Tokens) {
	in, bucket := p.Input, &t.Input
	if p.CacheWrite5m.GreaterThan(in) {
		in, bucket = p.CacheWrite5m, &t.CacheWrite5m
	}
	if p.CacheWrite1h.GreaterThan(in) {
		in, bucket = p.CacheWrite1h, &t.CacheWrite1h
	}
	if p.CacheRead.GreaterThan(in) {
		bucket = &t.CacheRead
	}
	*bucket = prompt
	if p.Reasoning.GreaterThan(p.Output) {
		t.Reasoning = completion
	} else {
		t.Output = completion
	}
	return t
}

// settleHold gives back what was not used, once.
func (x *exchange) settleHold(u events.Usage) {
	if x.hold == nil {
		return
	}
	x.hold.Settle(u.Tokens.Total(), u.Cost)
	x.hold = nil
}

// promptSampleMax bounds the text of a prompt that is counted; a longer one
// counts in proportion.
const promptSampleMax = 1 << 20

// fits refuses a request that the model's context cannot hold. No text has more
// tokens than bytes, so only one that is near the limit is counted.
func (x *exchange) fits() *apiError {
	limit, q := x.model.ContextLength, x.request
	if limit == 0 {
		return nil
	}
	completion := q.completionMax
	if x.client.dialect() == DialectGemini {
		completion = 0 // Google's limits for prompt and answer are apart
	}
	if uint64(q.scan.textBytes)+completion <= limit {
		return nil
	}
	prompt := q.text(promptSampleMax).tokens()
	x.judged = x.gateway.config.Now()
	if prompt+completion <= limit {
		return nil
	}
	return contextExceeded(q.model, limit, prompt, completion)
}
