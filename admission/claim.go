package admission

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/keys"
)

// Claim is what a request may take at most.
type Claim struct {
	Key       *keys.Key // not kept
	Model     string
	At        time.Time       // when it occurred: decides the month it counts in
	Now       time.Time       // Config.Now of a moment ago, with its monotonic reading; zero: it is read
	RequestID uuid.UUID       // the usage event's id
	Tokens    uint64          // upper bound: prompt + most it may complete
	Cost      decimal.Decimal // upper bound at the price in force; zero for sandbox
}

// Hold is what a request has taken.
type Hold interface {
	// Settle replaces the bound by what was used, exactly; call it once, after the
	// usage event is durable. If the event never becomes durable, do not call it: the
	// sweeper's event settles the hold.
	Settle(tokens uint64, cost decimal.Decimal)
	// Headers sets the x-ratelimit-* headers as they are now.
	Headers(h http.Header)
}

// RefusalKind says what was short.
type RefusalKind uint8

// The kinds of refusal.
const (
	RateRequests RefusalKind = iota + 1 // requests a minute
	RateTokens                          // tokens a minute
	Budget                              // a monthly budget
	Balance                             // prepaid balance and credit
	InFlight                            // too many requests wait for money that others hold
	UsedUp                              // what the plan includes, if it blocks
)

var refusalNames = [...]string{"", "requests per minute", "tokens per minute", "budget", "balance", "requests in flight", "included usage"}

// String names the kind for people.
func (k RefusalKind) String() string {
	if int(k) < len(refusalNames) && k > 0 {
		return refusalNames[k]
	}
	return fmt.Sprintf("refusal %d", uint8(k))
}

// Refusal is why a request was not let in. Nothing is taken then.
type Refusal struct {
	Kind       RefusalKind
	RetryAfter time.Duration // when it may fit; 0 when waiting does not help
	Scope      string        // "key", "team", "org", "plan"
	Header     http.Header   // x-ratelimit-*, and Retry-After when there is one
	Included   *Included     // of UsedUp: what was used up, and To when it renews
}

// Error says what was short and where.
func (r *Refusal) Error() string {
	return fmt.Sprintf("not let in: %s of the %s", r.Kind, r.Scope)
}

var (
	// ErrInvalidClaim is returned when a claim breaks a rule; nothing was taken.
	ErrInvalidClaim = errors.New("invalid claim")
	// ErrNotReady is returned by Reserve before Restore has succeeded: what was
	// spent is not known yet.
	ErrNotReady = errors.New("admission is not ready: spend is not restored yet")
	// ErrFenced is returned while this replica has no place among the others: it has
	// not joined yet, has left, or could not renew its place, so that they may be
	// about to share out what it holds.
	ErrFenced = errors.New("this replica has no place among the others")
)

// costBoundMax bounds one claim, so that no sum of holds can overflow.
var costBoundMax = amount{hi: 1 << 12} // about 75 thousand million

func (c *Claim) check() (cost amount, err error) {
	switch {
	case c.Key == nil || c.Key.OrgID == uuid.Nil || c.Key.ID == uuid.Nil:
		return cost, fmt.Errorf("%w: it has no key", ErrInvalidClaim)
	case c.RequestID == uuid.Nil:
		return cost, fmt.Errorf("%w: it has no request id", ErrInvalidClaim)
	case c.At.Before(earliest) || !c.At.Before(latest):
		return cost, fmt.Errorf("%w: its time %s is not between 2000 and 2200", ErrInvalidClaim, c.At)
	}
	if cost, err = amountUp(c.Cost); err != nil || cost.negative() || costBoundMax.less(cost) {
		return cost, fmt.Errorf("%w: its cost %s is negative or without measure", ErrInvalidClaim, c.Cost)
	}
	return cost, nil
}

// The bounds of events.Usage.OccurredAt.
var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC)
)
