// Package keys holds API keys: how they are minted, kept, checked and switched
// off.
//
// Invariants: a secret exists in this process only while it is minted or
// verified. What is stored is its HMAC under a pepper that is not in the log, so
// neither the log nor a copy of it lets anyone in; no record, error or log line
// carries a secret. A secret with a wrong checksum is refused before any lookup.
// Every state of a key is a fold over its records, on one subject, under
// optimistic concurrency.
//
// The package never reads a clock, never talks to NATS itself (records go out
// through Appender and come in by Apply), and never decides what a key may do:
// it only says whose key it is and what it was given.
package keys

import (
	"errors"
	"slices"
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
)

var scopes = []Scope{ScopeChat, ScopeIngest, ScopeUsageRead, ScopeBillingRead, ScopeKeysWrite, ScopeAdmin}

// Status of a key, as listed.
type Status string

// The statuses of a key. Expired is never stored: it follows from ExpiresAt.
const (
	StatusActive   Status = "active"
	StatusDisabled Status = "disabled"
	StatusExpired  Status = "expired"
)

// Key is an API key without its secret. Its slices are shared: do not modify them.
type Key struct {
	ID     uuid.UUID
	OrgID  uuid.UUID
	TeamID uuid.UUID
	Name   string
	Prefix string // the first characters of the secret, to recognise it by

	ModelsAllowed []string // standard model ids; empty means every model
	Scopes        []Scope
	Sandbox       bool // talks to the simulated provider and is never billed

	ExpiresAt time.Time // zero means never
	Disabled  bool
	CreatedAt time.Time
}

// StatusAt is the key's status at an instant. Disabled wins over expired.
func (k Key) StatusAt(now time.Time) Status {
	switch {
	case k.Disabled:
		return StatusDisabled
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return StatusExpired
	default:
		return StatusActive
	}
}

// Has reports whether the key was given a scope.
func (k Key) Has(s Scope) bool { return slices.Contains(k.Scopes, s) }

// AllowsModel reports whether the key may use a model, by its standard id.
func (k Key) AllowsModel(id string) bool {
	return len(k.ModelsAllowed) == 0 || slices.Contains(k.ModelsAllowed, id)
}

var (
	// ErrMalformedKey is returned when a secret cannot be one of ours: its prefix,
	// length, alphabet or checksum is wrong. Nothing was looked up.
	ErrMalformedKey = errors.New("malformed API key")
	// ErrUnknownKey is returned when no key has this secret or id.
	ErrUnknownKey = errors.New("unknown API key")
	// ErrDisabledKey is returned by Verify when the key is switched off.
	ErrDisabledKey = errors.New("API key is disabled")
	// ErrExpiredKey is returned by Verify when the key's time is over.
	ErrExpiredKey = errors.New("API key has expired")
	// ErrInvalidKey is returned by Create when what is asked for breaks a rule;
	// nothing was written.
	ErrInvalidKey = errors.New("invalid API key request")
)
