package gateway

import (
	"fmt"

	"aione/events"
)

// result is how a request ended, as its usage event will tell.
type result struct {
	outcome events.Outcome
	status  int // the provider's HTTP status; 0 when it never answered

	reading reading  // what the provider said
	text    *written // what to count if it said nothing final; nil for none
	nothing bool     // the client received nothing, and that is not its doing

	ttftMS uint32
}

// usage mints the event of this exchange. It is called once.
func (x *exchange) usage(r result) (events.Usage, error) {
	u := x.estimate
	u.Provider = x.attempt.Name
	u.Outcome, u.HTTPStatus, u.TTFTMS = r.outcome, uint16(r.status), r.ttftMS
	u.LatencyMS = x.sinceReceivedMS()
	if r.reading.doubt != nil {
		x.log().Warn("the upstream's usage is not believed, an estimate is billed", "upstream", x.attempt.Upstream, "error", r.reading.doubt)
	}
	u.Images = min(r.reading.images, events.MaxImages)
	if r.reading.tokens != nil {
		u.Source, u.Tokens = events.SourceReported, *r.reading.tokens
		err := x.rate(&u)
		if err == nil {
			return u, nil
		}
		// Figures that cannot be priced are as bad as figures that cannot be true.
		x.log().Error("usage cannot be rated, an estimate is billed", "tokens", u.Tokens, "error", err)
	}
	u.Source = events.SourceEstimated
	if r.nothing { // no fee per request either
		u.Tokens, u.Images, u.Cost = events.Tokens{}, 0, zeroCost
		return u, nil
	}
	u.Tokens = x.count(r)
	if err := x.rate(&u); err != nil {
		return events.Usage{}, err
	}
	return u, nil
}

// count is what we can tell without the provider's final figures: its own for the
// prompt, if they came, and the text it wrote.
func (x *exchange) count(r result) (t events.Tokens) {
	if r.reading.prompt != nil {
		t = *r.reading.prompt
	} else {
		t.Input = max(x.request.text(promptSampleMax).tokens(), 1)
	}
	if r.text != nil {
		t.Output = r.text.tokens()
	}
	return t
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
