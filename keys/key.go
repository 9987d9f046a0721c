// Package keys holds API keys: how they are minted, kept, checked, changed,
// rotated and taken away.
//
// Invariants: a secret exists in this process only while it is minted, derived
// or verified. What is stored is its HMAC under a pepper that is not in the log,
// so neither the log nor a copy of it lets anyone in; no record, error or log
// line carries a secret. A secret with a wrong checksum is refused before any
// lookup. Every state of a key is a fold over its records, on one subject, under
// optimistic concurrency, and a command rests on the newest record even when it
// decides to write none. A key has one secret, and for the grace of a rotation
// the one before it too; never more.
//
// The package never reads a clock, never talks to NATS itself (records go out
// through Appender and come in by Apply), and never decides what a request may
// do: it only says whose key it is and what it was given.
package keys

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Scope is one thing a token may do. The names cross the wire: append only.
type Scope string

// The scopes of a token. A plain sk-nex- key has ScopeChat only, so a leaked
// chat key cannot read invoices.
const (
	ScopeChat        Scope = "chat"
	ScopeIngest      Scope = "ingest"
	ScopeUsageRead   Scope = "usage:read"
	ScopeBillingRead Scope = "billing:read"
	ScopeKeysWrite   Scope = "keys:write"
	ScopeAdmin       Scope = "admin"
	// ScopeWebhooksWrite manages the org's webhooks, and so is told of its invoices
	// and budgets.
	ScopeWebhooksWrite Scope = "webhooks:write"
)

var scopes = []Scope{ScopeChat, ScopeIngest, ScopeUsageRead, ScopeBillingRead, ScopeKeysWrite, ScopeAdmin, ScopeWebhooksWrite}

var chatOnly = []Scope{ScopeChat}

// Status of a key, as listed.
type Status string

// The statuses of a key. Expired is never stored: it follows from ExpiresAt.
// Deleted keys are seen by Lookup only.
const (
	StatusActive   Status = "active"
	StatusDisabled Status = "disabled"
	StatusExpired  Status = "expired"
	StatusDeleted  Status = "deleted"
)

// Key is an API key without its secret, as of one of its records. Keys are shared
// between all who ask for them, and so are their grants: do not modify them. The order
// of the fields is that of their use, see state.
type Key struct {
	Sandbox  bool // talks to the simulated provider and is never billed
	Disabled bool
	Deleted  bool

	ID     uuid.UUID
	OrgID  uuid.UUID
	TeamID uuid.UUID

	RPMLimit  uint64    // requests a minute; 0 means no limit of its own
	TPMLimit  uint64    // tokens a minute; 0 means no limit of its own
	ExpiresAt time.Time // whole microseconds; zero means never
	*Grants             // never nil for a key of a Set

	// Memo is room for what admission found for the key, so that the next request of
	// it need not look again; it is empty again after each change of the key. Nil for a
	// key that comes from no Set.
	Memo *atomic.Value `json:"-"`

	Name      string
	Prefix    string    // the first characters of the newest secret, to recognise it by
	CreatedAt time.Time // whole microseconds

	rotated *rotated
}

// Grants are what a key may do; most keys have the same.
type Grants struct {
	ModelsAllowed []string // standard model ids; empty means every model
	Scopes        []Scope
	AllowedIPs    []netip.Prefix // masked, never IPv4-mapped; empty means from anywhere
}

var (
	plain   = &Grants{Scopes: chatOnly} // of all keys that chat, with any model and from anywhere
	nothing = &Grants{}                 // of deleted keys
)

// RotateGraceUntil is when the secret before the newest stops, also once that is
// past; zero if the key was never rotated, or last without grace.
func (k *Key) RotateGraceUntil() time.Time {
	if k.rotated == nil {
		return time.Time{}
	}
	return k.rotated.graceUntil
}

// StatusAt is the key's status at an instant. Deleted wins over disabled, which
// wins over expired.
func (k *Key) StatusAt(now time.Time) Status {
	switch {
	case k.Deleted:
		return StatusDeleted
	case k.Disabled:
		return StatusDisabled
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return StatusExpired
	default:
		return StatusActive
	}
}

// Has reports whether the key was given a scope.
func (g *Grants) Has(s Scope) bool { return slices.Contains(g.Scopes, s) }

// IsAPIKey tells an API key, which chats and no more, from a management token.
func (g *Grants) IsAPIKey() bool { return isAPIKey(g.Scopes) }

func isAPIKey(scopes []Scope) bool { return len(scopes) == 1 && scopes[0] == ScopeChat }

// AllowsModel reports whether the key may use a model, by its standard id.
func (g *Grants) AllowsModel(id string) bool {
	return len(g.ModelsAllowed) == 0 || slices.Contains(g.ModelsAllowed, id)
}

var (
	// ErrMalformedKey is returned when a secret cannot be one of ours: its prefix,
	// length, alphabet or checksum is wrong. With a wrong checksum nothing was looked up.
	ErrMalformedKey = errors.New("malformed API key")
	// ErrUnknownKey is returned when no key has this secret or id.
	ErrUnknownKey = errors.New("unknown API key")
	// ErrDisabledKey is returned by Verify when the key is switched off.
	ErrDisabledKey = errors.New("API key is disabled")
	// ErrExpiredKey is returned by Verify when the key's time is over.
	ErrExpiredKey = errors.New("API key has expired")
	// ErrTooManyKeys is returned by Create when the org has as many keys of the kind as
	// it may; nothing was written. The text says how many.
	ErrTooManyKeys = errors.New("too many keys")
	// ErrInvalidKey is returned by commands when what is asked for breaks a rule;
	// nothing was written. The error is a *FieldError that says which field.
	ErrInvalidKey = errors.New("invalid API key request")
	// ErrIdempotencyKeyUsed is returned by Rotate when its idempotency key belongs to
	// an earlier rotation whose answer cannot be given again: it asked for another
	// grace, was followed by another rotation, or is longer ago than RecoverWithin.
	// Nothing was written.
	ErrIdempotencyKeyUsed = errors.New("the idempotency key was used for another rotation")
)

// FieldError says which field of a command breaks a rule. It is an
// ErrInvalidKey. Neither part repeats what was sent, which may be a secret in the
// wrong place.
type FieldError struct {
	Field string // as the HTTP API names it, e.g. "allowed_ips"
	Msg   string // why, for people, e.g. "item 2 is not an address or CIDR"
}

func (e *FieldError) Error() string { return "invalid API key request: " + e.Field + ": " + e.Msg }

// Unwrap makes it an ErrInvalidKey.
func (e *FieldError) Unwrap() error { return ErrInvalidKey }
