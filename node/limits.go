package node

import (
	"context"
	"errors"
	"fmt"

	"aione/admission"
	"aione/gateway"
)

// limiter lets the gateway ask package admission, which knows nothing of gateways.
type limiter struct{ admission *admission.Limiter }

var refusalKinds = map[admission.RefusalKind]gateway.RefusalKind{
	admission.RateRequests: gateway.RateRequests, admission.RateTokens: gateway.RateTokens,
	admission.Budget: gateway.Budget, admission.Balance: gateway.Balance, admission.InFlight: gateway.InFlight,
}

// Reserve takes the request's upper bound from every limit that applies.
func (l limiter) Reserve(ctx context.Context, c gateway.Claim) (gateway.Hold, error) {
	hold, err := l.admission.Reserve(ctx, admission.Claim(c))
	var refusal *admission.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, &gateway.Refusal{Kind: refusalKinds[refusal.Kind], RetryAfter: refusal.RetryAfter, Scope: refusal.Scope, Header: refusal.Header}
	case err != nil:
		return nil, err
	}
	return hold, nil
}

// openLimits makes the limiter of this process: requests and tokens a minute of
// each key. Every API process keeps its own buckets. Budgets are not offered yet:
// nothing here or in the API sets one, and so there is no spend to restore.
func (n *Node) openLimits(ctx context.Context) (limiter, error) {
	l, err := admission.New(admission.Config{Zones: n.Book, Now: n.Clock, Logger: n.Logger})
	if err != nil {
		return limiter{}, fmt.Errorf("open the limits: %w", err)
	}
	return limiter{l}, l.Restore(ctx, admission.History{})
}
