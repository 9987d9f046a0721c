package webhooks

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

var (
	// ErrNotFound is returned when there is no such endpoint or message, or it is
	// another org's: the two cannot be told apart from outside.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned by Create when the id is taken by an endpoint that says
	// something else, or was changed or deleted since.
	ErrExists = errors.New("exists already, with other content")
	// ErrInvalid is returned by commands when what is asked for breaks a rule; nothing
	// was written. The error is a *FieldError that says which field.
	ErrInvalid = errors.New("invalid webhook request")
	// ErrTooMany is returned by Create when the org has EndpointsMax endpoints.
	ErrTooMany = errors.New("the org has as many endpoints as it may have")
	// ErrDisabled is returned by Test, Replay and ReplaySince: nothing is sent to an
	// endpoint that is switched off.
	ErrDisabled = errors.New("the endpoint is disabled")
	// ErrManySecrets is returned by Rotate while too many old secrets still sign.
	ErrManySecrets = errors.New("too many old secrets are in their grace: wait, or rotate without grace")
	// ErrCorrupt is returned by Book.Apply when the log contradicts itself.
	ErrCorrupt = errors.New("webhook records contradict each other")
)

// FieldError says which field of a command breaks a rule. It is an ErrInvalid, and
// does not repeat what was sent.
type FieldError struct {
	Field string // as the HTTP API names it, e.g. "url"
	Msg   string // why, for people
}

func (e *FieldError) Error() string { return ErrInvalid.Error() + ": " + e.Field + ": " + e.Msg }

// Unwrap makes it an ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// Endpoint is where an org wants to be told. Its secrets are not part of it.
type Endpoint struct {
	ID          uuid.UUID `json:"id"`
	OrgID       uuid.UUID `json:"org_id"`
	URL         string    `json:"url"`
	Description string    `json:"description"`
	Events      []string  `json:"events"` // types it wants, sorted; empty means all

	Disabled       bool   `json:"disabled"`
	DisabledReason string `json:"disabled_reason"` // of whoever disabled it
	SecretVersion  int    `json:"secret_version"`  // 1, 2, 3 …: how often the secret was made
	// OldSecretsUntil is when the last secret before the newest stops signing; zero
	// if there is none.
	OldSecretsUntil time.Time `json:"old_secrets_until,omitzero"`
	CreatedAt       time.Time `json:"created_at"`
	UpdatedAt       time.Time `json:"updated_at"`
}

// wants says whether an endpoint is told of a type.
func (e Endpoint) wants(typ string) bool {
	return len(e.Events) == 0 || slices.Contains(e.Events, typ)
}

// Status of a delivery.
type Status string

// The statuses of a delivery. The names are in the log: append only.
const (
	StatusWaiting   Status = "waiting" // for its first attempt or its next one
	StatusDelivered Status = "delivered"
	StatusDead      Status = "dead" // given up
)

// Delivery is what has become of one message for one endpoint.
type Delivery struct {
	MessageID  string    `json:"message_id"` // the header webhook-id, the same on every attempt
	Type       string    `json:"type"`
	HappenedAt time.Time `json:"happened_at"` // the body's timestamp

	Status        Status    `json:"status"`
	Attempts      int       `json:"attempts"`        // since it happened or was last replayed
	HTTPStatus    int       `json:"http_status"`     // of the last attempt; 0 if there was no answer
	Error         string    `json:"error"`           // why the last attempt failed; empty if it did not
	LastAttemptAt time.Time `json:"last_attempt_at"` // zero before the first
	NextAttemptAt time.Time `json:"next_attempt_at"` // zero unless waiting; may be past if attempts are behind or the endpoint is disabled
}

// Bounds.
const (
	EndpointsMax        = 16   // of an org
	DescriptionBytesMax = 1024 // of an endpoint
	MaxGrace            = 7 * 24 * time.Hour

	eventsMax     = 100 // types of an endpoint
	oldSecretsMax = 4   // of an endpoint that still sign
)

func checkDescription(s string) error {
	if len(s) > DescriptionBytesMax || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return &FieldError{"description", fmt.Sprintf("has more than %d bytes, control characters, or is not UTF-8", DescriptionBytesMax)}
	}
	return nil
}

// checkEvents gives the types in the form they are kept in.
func checkEvents(types, known []string) ([]string, error) {
	if len(types) > eventsMax {
		return nil, &FieldError{"events", fmt.Sprintf("has more than %d items", eventsMax)}
	}
	for i, typ := range types {
		if !slices.Contains(known, typ) {
			return nil, &FieldError{"events", fmt.Sprintf("item %d is not an event type", i+1)}
		}
	}
	types = slices.Clone(types)
	slices.Sort(types)
	return slices.Compact(types), nil
}
