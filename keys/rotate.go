package keys

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"aione/events"

	"github.com/google/uuid"
)

// Bounds of a rotation.
const (
	DefaultGrace = 24 * time.Hour
	MaxGrace     = 720 * time.Hour
	// RecoverWithin is how long the same rotation may be asked for again, by its
	// idempotency key, to get the same secret.
	RecoverWithin = 24 * time.Hour

	idempotencyKeyBytesMax = 255
)

// RotateInput says which key gets a new secret.
type RotateInput struct {
	OrgID, ID uuid.UUID
	Grace     time.Duration // how long the old secret still works, 0 to MaxGrace
	// IdempotencyKey makes the call repeatable: the same again gives the same
	// secret. Empty means that each call rotates. It should be hard to guess, e.g. a
	// random UUID: it is part of what the secret is derived from.
	IdempotencyKey string

	Actor, Reason string
}

// Rotate gives a key a new secret; its id and all else stay. The old secret
// works until the grace ends, also across restarts, and no longer than the key
// itself. If it was in the grace of an earlier rotation, the secret before it
// ends at once: never are more than two live.
//
// With an idempotency key a caller that lost the answer gets it by calling again,
// on any replica: the same secret and key, and nothing is written. That holds for
// RecoverWithin, as long as no other rotation followed; then, and if the repeated
// call asks for another grace, the error is ErrIdempotencyKeyUsed. An idempotency
// key is never forgotten: it rotates a key at most once.
//
// Other errors are those of Update.
func (s *Set) Rotate(ctx context.Context, log Appender, in RotateInput) (*Key, string, error) {
	if err := in.check(); err != nil {
		return nil, "", err
	}
	var secret string
	key, err := s.decide(ctx, log, ChangeInput{in.OrgID, in.ID, in.Actor, in.Reason}, func(st *state) (*change, error) {
		now := s.now().UTC().Round(0)
		var err error
		if secret, err = s.repeated(st, in, now); err != nil || secret != "" {
			return nil, err
		}
		d := rotatedData{identity: identity{ID: in.ID, OrgID: in.OrgID}, GraceUntil: now.Add(in.Grace)}
		prefix, newest := prefixFor(st.key.Scopes), s.hashers[0]
		if in.IdempotencyKey == "" {
			secret = mint(prefix)
		} else {
			var salt [32]byte
			rand.Read(salt[:])
			d.Salt, d.Request = hex.EncodeToString(salt[:]), in.request()
			if secret, err = newest.derive(prefix, salt[:], in.ID, in.IdempotencyKey); err != nil {
				return nil, err
			}
		}
		d.secretData = newest.conceal(secret)
		return &change{recordRotated, now, d}, nil
	})
	if err != nil {
		return nil, "", err
	}
	return key, secret, nil
}

func (in RotateInput) check() error {
	if in.Grace < 0 || in.Grace > MaxGrace {
		return &FieldError{"grace_hours", fmt.Sprintf("is not between 0 and %d", MaxGrace/time.Hour)}
	}
	for _, c := range in.IdempotencyKey {
		if c == utf8.RuneError || unicode.IsControl(c) {
			return &FieldError{"idempotency_key", "has control characters or is not UTF-8"}
		}
	}
	if len(in.IdempotencyKey) > idempotencyKeyBytesMax {
		return &FieldError{"idempotency_key", fmt.Sprintf("has more than %d bytes", idempotencyKeyBytesMax)}
	}
	return nil
}

// request stands for the idempotency key in the log. It is not keyed with the
// pepper, so that a repetition is recognised also after the pepper was replaced;
// the secret cannot be had without the pepper all the same.
func (in RotateInput) request() uuid.UUID {
	return events.DeriveID("key-rotation", in.OrgID[:], in.ID[:], []byte(in.IdempotencyKey))
}

// repeated gives the secret of a rotation that was done before, or "" if the call
// is not a repetition.
func (s *Set) repeated(st *state, in RotateInput, now time.Time) (string, error) {
	if in.IdempotencyKey == "" || st.key.rotated == nil {
		return "", nil
	}
	request, r := in.request(), st.key.rotated
	if slices.Contains(r.earlier, request) {
		return "", fmt.Errorf("rotate key %s: %w: another rotation has followed it", in.ID, ErrIdempotencyKeyUsed)
	}
	if r.request != request {
		return "", nil
	}
	if r.grace != in.Grace {
		return "", fmt.Errorf("rotate key %s: %w: with a grace of %s", in.ID, ErrIdempotencyKeyUsed, r.grace)
	}
	if !now.Before(r.at.Add(RecoverWithin)) {
		return "", fmt.Errorf("rotate key %s: %w: it was at %s", in.ID, ErrIdempotencyKeyUsed, r.at.Format(time.RFC3339))
	}
	for _, h := range s.hashers {
		if h.version != st.current.pepperVersion {
			continue
		}
		secret, err := h.derive(prefixFor(st.key.Scopes), r.salt, in.ID, in.IdempotencyKey)
		if err != nil {
			return "", err
		}
		if d := h.digest(secret); st.current.is(h.version, &d) {
			return secret, nil
		}
	}
	return "", fmt.Errorf("rotate key %s: %w: the pepper of that time is gone", in.ID, ErrIdempotencyKeyUsed)
}
