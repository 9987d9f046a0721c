package keys

import (
	"cmp"
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"aione/events"

	"github.com/google/uuid"
)

// Types of the records of this package, all on events.KeySubject.
const (
	recordCreated  = "key.created"
	recordDisabled = "key.disabled"
	recordEnabled  = "key.enabled"
)

// createdData is the data of key.created.
type createdData struct {
	ID            uuid.UUID `json:"id"`
	OrgID         uuid.UUID `json:"org_id"`
	TeamID        uuid.UUID `json:"team_id"`
	Name          string    `json:"name"`
	Prefix        string    `json:"prefix"`
	Hash          string    `json:"hash"` // hex HMAC-SHA256 of the secret
	PepperVersion int       `json:"pepper_version"`
	ModelsAllowed []string  `json:"models_allowed,omitempty"`
	Scopes        []Scope   `json:"scopes"`
	Sandbox       bool      `json:"sandbox,omitempty"`
	ExpiresAt     time.Time `json:"expires_at,omitzero"`
}

// statusData is the data of key.disabled and key.enabled.
type statusData struct {
	ID    uuid.UUID `json:"id"`
	OrgID uuid.UUID `json:"org_id"`
}

// Config of a Set.
type Config struct {
	Peppers []Pepper         // at least one; the highest version mints
	Now     func() time.Time // stamps the records of Create, Disable and Enable
}

// Set is every key of the ledger, folded from its records. It is safe for
// concurrent use; Verify takes a read lock for one map lookup.
type Set struct {
	peppers []Pepper // highest version first
	now     func() time.Time

	mu    sync.RWMutex
	byTag map[tag][]*entry
	orgs  map[uuid.UUID]map[uuid.UUID]*entry
}

// tag finds the candidates for a secret: a part of its digest. The whole digest
// is then compared in constant time, so timing tells nothing about stored hashes.
type tag struct {
	pepperVersion int
	head          uint64
}

type entry struct {
	key    Key
	digest digest
	seq    uint64 // of the last record applied, the key's version for Append
}

// NewSet makes an empty set.
func NewSet(c Config) (*Set, error) {
	if len(c.Peppers) == 0 || c.Now == nil {
		return nil, errors.New("keys: a pepper and a clock are needed")
	}
	s := &Set{
		peppers: slices.Clone(c.Peppers), now: c.Now,
		byTag: map[tag][]*entry{}, orgs: map[uuid.UUID]map[uuid.UUID]*entry{},
	}
	slices.SortFunc(s.peppers, func(a, b Pepper) int { return cmp.Compare(b.Version, a.Version) })
	for i, p := range s.peppers {
		if p.Version < 1 || len(p.Secret) < pepperBytesMin {
			return nil, fmt.Errorf("keys: pepper %d: want a version from 1 on and a secret of %d bytes or more", p.Version, pepperBytesMin)
		}
		if i > 0 && s.peppers[i-1].Version == p.Version {
			return nil, fmt.Errorf("keys: pepper %d is there twice", p.Version)
		}
	}
	return s, nil
}

// Verify says whose key a secret is. now is the caller's, the instant the
// request is judged at. It returns ErrMalformedKey, ErrUnknownKey,
// ErrDisabledKey or ErrExpiredKey; with the last two the key comes too.
func (s *Set) Verify(secret string, now time.Time) (Key, error) {
	if err := checkForm(secret); err != nil {
		return Key{}, err
	}
	for _, p := range s.peppers {
		key, ok := s.find(p.Version, p.digest(secret))
		if !ok {
			continue
		}
		switch key.StatusAt(now) {
		case StatusDisabled:
			return key, ErrDisabledKey
		case StatusExpired:
			return key, ErrExpiredKey
		default:
			return key, nil
		}
	}
	return Key{}, ErrUnknownKey
}

func (s *Set) find(pepperVersion int, d digest) (Key, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.byTag[tagOf(pepperVersion, d)] {
		if hmac.Equal(e.digest[:], d[:]) {
			return e.key, true
		}
	}
	return Key{}, false
}

func tagOf(pepperVersion int, d digest) tag {
	return tag{pepperVersion, binary.BigEndian.Uint64(d[:8])}
}

// Get returns a key of an org, or ErrUnknownKey: another org's key is unknown too.
func (s *Set) Get(org, id uuid.UUID) (Key, error) {
	e, err := s.entry(org, id)
	return e.key, err
}

// entry is a copy, taken under the lock.
func (s *Set) entry(org, id uuid.UUID) (entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.orgs[org][id]
	if !ok {
		return entry{}, fmt.Errorf("key %s: %w", id, ErrUnknownKey)
	}
	return *e, nil
}

// List returns the keys of an org, oldest first.
func (s *Set) List(org uuid.UUID) []Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Key, 0, len(s.orgs[org]))
	for _, e := range s.orgs[org] {
		list = append(list, e.key)
	}
	slices.SortFunc(list, func(a, b Key) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list
}

// Apply folds one record of the ledger into the set. Records of other types are
// ignored, and so is a record that was applied before: a set may be fed by its
// own commands and by the ledger's reader at once.
func (s *Set) Apply(r events.Record) error {
	switch r.Type {
	case recordCreated:
		return s.applyCreated(r)
	case recordDisabled, recordEnabled:
		return s.applyStatus(r)
	default:
		return nil
	}
}

func (s *Set) applyCreated(r events.Record) error {
	var d createdData
	if err := r.Into(&d); err != nil {
		return err
	}
	if err := onItsSubject(r, d.OrgID, d.ID); err != nil {
		return err
	}
	e := &entry{seq: r.Seq, key: Key{
		ID: d.ID, OrgID: d.OrgID, TeamID: d.TeamID, Name: d.Name, Prefix: d.Prefix,
		ModelsAllowed: d.ModelsAllowed, Scopes: d.Scopes, Sandbox: d.Sandbox,
		ExpiresAt: d.ExpiresAt, CreatedAt: r.At.Round(0),
	}}
	raw, err := hex.DecodeString(d.Hash)
	if err != nil || len(raw) != len(e.digest) {
		return fmt.Errorf("apply %s at ledger sequence %d: its hash is not %d hexadecimal bytes", r.Type, r.Seq, len(e.digest))
	}
	copy(e.digest[:], raw)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orgs[d.OrgID] == nil {
		s.orgs[d.OrgID] = map[uuid.UUID]*entry{}
	}
	if s.orgs[d.OrgID][d.ID] != nil {
		return nil
	}
	s.orgs[d.OrgID][d.ID] = e
	t := tagOf(d.PepperVersion, e.digest)
	s.byTag[t] = append(s.byTag[t], e)
	return nil
}

func (s *Set) applyStatus(r events.Record) error {
	var d statusData
	if err := r.Into(&d); err != nil {
		return err
	}
	if err := onItsSubject(r, d.OrgID, d.ID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.orgs[d.OrgID][d.ID]
	if !ok {
		return fmt.Errorf("apply %s at ledger sequence %d: key %s: %w", r.Type, r.Seq, d.ID, ErrUnknownKey)
	}
	if r.Seq <= e.seq {
		return nil
	}
	e.key.Disabled = r.Type == recordDisabled
	e.seq = r.Seq
	return nil
}

// onItsSubject refuses a record that names another key than its subject: two
// writers on two subjects would not conflict, and concurrency control is gone.
func onItsSubject(r events.Record, org, id uuid.UUID) error {
	if want := events.KeySubject(org, id); r.Subject != want {
		return fmt.Errorf("apply %s at ledger sequence %d: it is on subject %s, not %s", r.Type, r.Seq, r.Subject, want)
	}
	return nil
}
