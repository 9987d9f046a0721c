package keys

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"aione/events"

	"github.com/google/uuid"
)

// Appender is where the commands write: events.Log. A nil error means durable;
// events.ErrConflict means that another writer was first on the subject.
type Appender interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
}

// CreateInput says what key to make.
type CreateInput struct {
	OrgID, TeamID uuid.UUID
	Name          string
	ModelsAllowed []string // standard model ids; empty means every model
	// Scopes of a management token (tk-nex-). Empty, or chat alone, makes a plain
	// API key (sk-nex-).
	Scopes    []Scope
	Sandbox   bool
	ExpiresAt time.Time // zero means never

	Actor, Reason string // who and why, for the record
}

// ChangeInput says which key a command is about.
type ChangeInput struct {
	OrgID, ID     uuid.UUID
	Actor, Reason string
}

const nameBytesMax = 256

// Create mints a key, writes it to the ledger and adds it to the set. The secret
// is returned this once and kept nowhere. After an error no key can be used: if
// the append's outcome is unknown a key may exist whose secret nobody has.
// It returns ErrInvalidKey if the input breaks a rule.
func (s *Set) Create(ctx context.Context, log Appender, in CreateInput) (Key, string, error) {
	now := s.now().UTC()
	prefix := chatPrefix
	switch {
	case len(in.Scopes) == 0:
		in.Scopes = []Scope{ScopeChat}
	case !slices.Equal(in.Scopes, []Scope{ScopeChat}):
		prefix = managementPrefix
	}
	if err := in.check(now); err != nil {
		return Key{}, "", err
	}
	secret := mint(prefix)
	id, pepper := events.NewID(), s.peppers[0]
	d := pepper.digest(secret)
	data := createdData{
		ID: id, OrgID: in.OrgID, TeamID: in.TeamID, Name: in.Name,
		Prefix: secret[:prefixLen+displayChars], Hash: hex.EncodeToString(d[:]), PepperVersion: pepper.Version,
		ModelsAllowed: in.ModelsAllowed, Scopes: in.Scopes, Sandbox: in.Sandbox, ExpiresAt: in.ExpiresAt.UTC(),
	}
	r, err := events.NewRecord(recordCreated, now, in.Actor, in.Reason, data)
	if err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	r.Subject = events.KeySubject(in.OrgID, id)
	if err := s.append(ctx, log, r, 0); err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	key, err := s.Get(in.OrgID, id)
	return key, secret, err
}

func (in CreateInput) check(now time.Time) error {
	switch {
	case in.OrgID == uuid.Nil:
		return fmt.Errorf("%w: org_id is missing", ErrInvalidKey)
	case in.Name == "" || len(in.Name) > nameBytesMax:
		return fmt.Errorf("%w: name must have 1 to %d bytes", ErrInvalidKey, nameBytesMax)
	case !in.ExpiresAt.IsZero() && !in.ExpiresAt.After(now):
		return fmt.Errorf("%w: expires_at is not in the future", ErrInvalidKey)
	}
	for _, scope := range in.Scopes {
		if !slices.Contains(scopes, scope) {
			return fmt.Errorf("%w: scope %q is unknown", ErrInvalidKey, scope)
		}
	}
	return nil
}

// Disable switches a key off from now on. It returns ErrUnknownKey, or
// events.ErrConflict if the key changed meanwhile. A key that is off stays off
// without a further record.
func (s *Set) Disable(ctx context.Context, log Appender, in ChangeInput) (Key, error) {
	return s.setDisabled(ctx, log, in, true)
}

// Enable undoes Disable; the errors are the same. It does not prolong a key.
func (s *Set) Enable(ctx context.Context, log Appender, in ChangeInput) (Key, error) {
	return s.setDisabled(ctx, log, in, false)
}

func (s *Set) setDisabled(ctx context.Context, log Appender, in ChangeInput, disabled bool) (Key, error) {
	typ := recordEnabled
	if disabled {
		typ = recordDisabled
	}
	e, err := s.entry(in.OrgID, in.ID)
	if err != nil || e.key.Disabled == disabled {
		return e.key, err
	}
	r, err := events.NewRecord(typ, s.now(), in.Actor, in.Reason, statusData{ID: in.ID, OrgID: in.OrgID})
	if err != nil {
		return Key{}, fmt.Errorf("%s %s: %w", typ, in.ID, err)
	}
	r.Subject = events.KeySubject(in.OrgID, in.ID)
	if err := s.append(ctx, log, r, e.seq); err != nil {
		return Key{}, fmt.Errorf("%s %s: %w", typ, in.ID, err)
	}
	return s.Get(in.OrgID, in.ID)
}

// append writes the record and applies it here at once, so that the caller can
// use what it was told; the ledger's reader brings it again later.
func (s *Set) append(ctx context.Context, log Appender, r events.Record, expectLast uint64) error {
	seqs, err := log.Append(ctx, events.Append{Subject: r.Subject, Record: r, ExpectLast: expectLast})
	if err != nil {
		return err
	}
	r.Seq = seqs[0]
	return s.Apply(r)
}
