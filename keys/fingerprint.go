package keys

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"aione/events"
)

// ErrOtherPepper is returned when the log's keys are made under another secret of a
// pepper's version: none of them would work here, and none made here elsewhere.
var ErrOtherPepper = errors.New("keys are made under another pepper of this version")

// recordPepper says which secret a version of the pepper is. It is written before the
// first key is made under it; logs from before have keys without it.
const recordPepper = "pepper.used"

// pepperData is the data of pepper.used.
type pepperData struct {
	Version     int32  `json:"version"`
	Fingerprint string `json:"fingerprint"` // hex, see fingerprint
}

// fingerprint tells peppers apart: half of the HMAC-SHA256 of a constant. Whoever
// reads it learns as little of the secret as by the hash of a key.
func (h *hasher) fingerprint() string {
	m := hmac.New(sha256.New, h.pepper)
	m.Write([]byte("aione pepper fingerprint 1"))
	return hex.EncodeToString(m.Sum(nil)[:sha256.Size/2])
}

// UsePeppers notes in the log which secrets the set's peppers are, where nobody has
// and no key was made under that version yet. It returns ErrOtherPepper if the log
// says another. The set must have been fed what was in the log.
func (s *Set) UsePeppers(ctx context.Context, log Appender) error {
	for _, h := range s.hashers {
		if err := s.usePepper(ctx, log, h); err != nil {
			return fmt.Errorf("pepper %d: %w", h.version, err)
		}
	}
	return nil
}

func (s *Set) usePepper(ctx context.Context, log Appender, h *hasher) error {
	known, madeUnder := s.pepperOf(h.version)
	if known == "" && madeUnder {
		return nil // nobody can say now which it was
	}
	if known == "" {
		r, err := events.NewRecord(recordPepper, s.now().Round(0), "aione", "", pepperData{Version: h.version, Fingerprint: h.fingerprint()})
		if err != nil {
			return err
		}
		subject := events.PepperSubject(h.version)
		if err := s.append(ctx, log, events.Append{Subject: subject, Record: r}); !errors.Is(err, events.ErrConflict) {
			return err
		}
		first, ok, err := log.LastOn(ctx, subject) // another process was first
		if err != nil {
			return err
		}
		if !ok {
			return events.ErrConflict
		}
		if err := s.apply(first); err != nil {
			return err
		}
		known, _ = s.pepperOf(h.version)
	}
	if known != h.fingerprint() {
		return ErrOtherPepper
	}
	return nil
}

// pepperOf is the fingerprint that the log has of a version, empty if it has none,
// and whether a key was made under it.
func (s *Set) pepperOf(version int32) (fingerprint string, madeUnder bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.peppers[version], s.madeUnder[version]
}

// applyPepper keeps the first record of a version, which is the only one.
func (s *Set) applyPepper(r events.Record) error {
	var d pepperData
	if err := r.Into(&d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peppers[d.Version] == "" {
		s.peppers[d.Version] = d.Fingerprint
	}
	return nil
}
