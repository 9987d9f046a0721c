package events

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Tokens are the disjoint buckets of one request: no token is in two of them,
// so their sum is the request's total and each has a price of its own.
//
// Providers overlap their counts in different ways; whoever mints a usage event
// takes them apart first (OpenAI's prompt_tokens include the cached ones and its
// completion_tokens the reasoning ones; Anthropic's input_tokens exclude both
// cache buckets; Gemini's thoughts stand outside its candidates).
type Tokens struct {
	Input        uint64 `json:"input"`          // prompt tokens neither read from nor written to a cache
	CacheRead    uint64 `json:"cache_read"`     // prompt tokens served from a cache
	CacheWrite5m uint64 `json:"cache_write_5m"` // prompt tokens written to a cache kept for 5 minutes
	CacheWrite1h uint64 `json:"cache_write_1h"` // prompt tokens written to a cache kept for 1 hour
	Output       uint64 `json:"output"`         // completion tokens without reasoning
	Reasoning    uint64 `json:"reasoning"`      // completion tokens spent on reasoning
}

// Prompt is what the client sent, cached or not.
func (t Tokens) Prompt() uint64 { return t.Input + t.CacheRead + t.CacheWrite5m + t.CacheWrite1h }

// Completion is what the model wrote, reasoning included.
func (t Tokens) Completion() uint64 { return t.Output + t.Reasoning }

// Total is the sum of all buckets.
func (t Tokens) Total() uint64 { return t.Prompt() + t.Completion() }

// Outcome says how a request ended. The numbers cross the wire and are stored:
// append only.
type Outcome uint8

const (
	OutcomeCompleted     Outcome = 1 // the whole answer was produced
	OutcomeCancelled     Outcome = 2 // the client left before the end
	OutcomeUpstreamError Outcome = 3 // the provider failed or cut the stream
	OutcomeTimeout       Outcome = 4 // the provider stalled past its deadline
	OutcomeAbandoned     Outcome = 5 // the gateway died; settled by the sweeper
)

// Indexed by number: an event is validated on every way in and out, so this is hot.
var outcomeNames = []string{
	OutcomeCompleted: "completed", OutcomeCancelled: "cancelled", OutcomeUpstreamError: "upstream_error",
	OutcomeTimeout: "timeout", OutcomeAbandoned: "abandoned",
}

// String is the name used in ClickHouse and in JSON.
func (o Outcome) String() string { return nameOf(outcomeNames, uint8(o)) }

// ParseOutcome is the inverse of String.
func ParseOutcome(s string) (Outcome, error) {
	n, err := parseName(outcomeNames, s, "outcome")
	return Outcome(n), err
}

// Source says where the token counts come from. Append only.
type Source uint8

const (
	SourceReported  Source = 1 // the provider counted
	SourceEstimated Source = 2 // we counted: the provider's figures never came
)

var sourceNames = []string{SourceReported: "reported", SourceEstimated: "estimated"}

// String is the name used in ClickHouse and in JSON.
func (s Source) String() string { return nameOf(sourceNames, uint8(s)) }

// ParseSource is the inverse of String.
func ParseSource(s string) (Source, error) {
	n, err := parseName(sourceNames, s, "usage_source")
	return Source(n), err
}

func known(names []string, n uint8) bool { return int(n) < len(names) && names[n] != "" }

func nameOf(names []string, n uint8) string {
	if known(names, n) {
		return names[n]
	}
	return fmt.Sprintf("unknown(%d)", n)
}

func parseName(names []string, s, what string) (uint8, error) {
	for n, name := range names {
		if name == s && s != "" {
			return uint8(n), nil
		}
	}
	return 0, fmt.Errorf("unknown %s %q", what, s)
}

// Limits of one usage event. They are far above anything a provider can report,
// and low enough that no sum over a table can overflow.
const (
	MaxTokensPerBucket = 1 << 40
	MaxImages          = 1 << 20
	MaxTextBytes       = 512 // model, provider, price version, producer, external id
)

// CostScale is the number of decimal places of every cost and amount.
const CostScale = 12

// MaxCost bounds the cost of one event (exclusive): with it a cost fits
// Decimal(18,12) and a sum of any number of events fits Decimal(38,12).
var MaxCost = decimal.New(1_000_000, 0)

// Usage is one metered attempt to serve a request. It is minted once and never
// changed: what is wrong with it is corrected by further events.
type Usage struct {
	ID          uuid.UUID // identity: (OrgID, ID) is charged once, for ever
	OperationID uuid.UUID // what the client asked for; retries of one request share it; zero: ID
	OrgID       uuid.UUID
	TeamID      uuid.UUID
	KeyID       uuid.UUID // zero for usage from other producers

	Model        string
	Provider     string
	PriceVersion string // catalog price version in force at OccurredAt; empty only when Sandbox
	Currency     string // ISO 4217

	OccurredAt   time.Time // UTC, milliseconds: when the request was admitted
	TimeAssigned bool      // OccurredAt is the time of receipt: the producer named none

	Tokens Tokens
	Images uint64
	Cost   decimal.Decimal // exact, scale <= CostScale, 0 <= Cost < MaxCost

	Outcome    Outcome
	Source     Source
	HTTPStatus uint16 // the provider's status; 0 when it never answered
	LatencyMS  uint32 // request received to last byte; 0 when unknown, as of one that was abandoned
	TTFTMS     uint32 // request received to first byte of the answer; 0 when unknown
	Stream     bool
	Sandbox    bool // never billed

	Producer   string // "gateway", or the CloudEvents source
	ExternalID string // the producer's own id of the event, if it has one

	// Retried: another attempt at the operation followed, so the client received
	// nothing of this one. It is never billed. Of an operation exactly one event is not
	// retried: the one that decided what the client received.
	Retried bool
}

// ErrInvalidUsage is returned when a usage event breaks a bound of this package;
// nothing of its batch has been published.
var ErrInvalidUsage = errors.New("invalid usage event")

// Validate checks every bound. It returns an error that wraps ErrInvalidUsage
// and names the field.
func (u *Usage) Validate() error {
	_, err := u.check()
	return err
}

// check is Validate, and the coefficient of the cost, which a writer needs next.
func (u *Usage) check() (costE12 uint64, err error) {
	switch {
	case u.ID == uuid.Nil:
		return 0, u.invalid("id is missing")
	case u.OrgID == uuid.Nil:
		return 0, u.invalid("org_id is missing")
	case u.Model == "":
		return 0, u.invalid("model is missing")
	case u.PriceVersion == "" && !u.Sandbox:
		return 0, u.invalid("price_version is missing")
	case !isCurrency(u.Currency):
		return 0, u.invalid("currency %q is not three capital letters", u.Currency)
	case !known(outcomeNames, uint8(u.Outcome)):
		return 0, u.invalid("outcome %d is unknown", u.Outcome)
	case !known(sourceNames, uint8(u.Source)):
		return 0, u.invalid("usage_source %d is unknown", u.Source)
	case u.Images > MaxImages:
		return 0, u.invalid("images %d is over %d", u.Images, MaxImages)
	case u.Sandbox && !u.Cost.IsZero():
		return 0, u.invalid("sandbox usage has a cost")
	case u.Retried && !u.isEmpty(): // readers that do not know the field bill what they find
		return 0, u.invalid("an attempt that was retried has tokens, images or a cost")
	}
	// As an instant: the year of a local time may differ from the one a reader sees.
	if ms := u.OccurredAt.UnixMilli(); ms < occurredFromMS || ms >= occurredToMS {
		return 0, u.invalid("occurred_at %s is not between 2000 and 2200", u.OccurredAt)
	}
	for _, n := range [...]uint64{u.Tokens.Input, u.Tokens.CacheRead, u.Tokens.CacheWrite5m, u.Tokens.CacheWrite1h, u.Tokens.Output, u.Tokens.Reasoning} {
		if n > MaxTokensPerBucket {
			return 0, u.invalid("token count %d is over %d", n, uint64(MaxTokensPerBucket))
		}
	}
	for _, s := range [...]string{u.Model, u.Provider, u.PriceVersion, u.Producer, u.ExternalID} {
		if len(s) > MaxTextBytes {
			return 0, u.invalid("a text field is over %d bytes", MaxTextBytes)
		}
		if !utf8.ValidString(s) {
			return 0, u.invalid("a text field is not UTF-8")
		}
	}
	if costE12, err = costCoefficient(u.Cost); err != nil {
		return 0, u.invalid("%v", err)
	}
	return costE12, nil
}

func (u *Usage) isEmpty() bool { return u.Tokens == Tokens{} && u.Images == 0 && u.Cost.IsZero() }

func (u *Usage) invalid(format string, args ...any) error {
	return fmt.Errorf("%w %s: %s", ErrInvalidUsage, u.ID, fmt.Sprintf(format, args...))
}

func isCurrency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for i := range 3 {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}

// OccurredAt lies from the year 2000 to the end of 2200.
var (
	occurredFromMS = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	occurredToMS   = time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
)

// Admission says that a request was let in. It is durable before the first byte
// of the answer reaches the client, so that a request whose gateway dies is
// still settled: the sweeper bills Estimate unless usage with this ID arrives.
type Admission struct {
	ID       uuid.UUID     // the id that the usage event will carry
	Estimate Usage         // what to bill if the gateway never settles
	Deadline time.Duration // after Estimate.OccurredAt the gateway has given up for certain; at most MaxDeadline
}

// MaxDeadline bounds Admission.Deadline.
const MaxDeadline = 24 * time.Hour

// Validate checks every bound. It returns an error that wraps ErrInvalidUsage.
func (a *Admission) Validate() error {
	if a.ID != a.Estimate.ID {
		return fmt.Errorf("%w: admission %s has an estimate with id %s", ErrInvalidUsage, a.ID, a.Estimate.ID)
	}
	if a.Deadline < 0 || a.Deadline > MaxDeadline {
		return fmt.Errorf("%w: admission %s has a deadline of %s, want 0 to %s", ErrInvalidUsage, a.ID, a.Deadline, MaxDeadline)
	}
	return a.Estimate.Validate()
}
