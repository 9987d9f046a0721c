package keys

import (
	"cmp"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Config of a Set.
type Config struct {
	Peppers []Pepper         // at least one; the highest version mints
	Now     func() time.Time // stamps the records of the commands
	Bounds
}

// Set is every key of the ledger, folded from its records. It is safe for
// concurrent use. Verify takes one read lock, of one in shardCount parts of the
// index, for one look; a change of a key holds that lock only to put a pointer.
type Set struct {
	hashers  []*hasher // highest pepper version first
	attempts sync.Pool // of *attempt
	now      func() time.Time
	index    index

	bounds Bounds
	making [makingShards]chan struct{} // whoever creates a key of an org, see enterMaking

	mu   sync.RWMutex // serialises Apply
	orgs map[uuid.UUID]*tenant
	// By pepper version: the fingerprint in the log, and whether a key was made under it.
	peppers   map[int32]string
	madeUnder map[int32]bool
	// changed is closed by the next Apply; nil while nobody waits.
	changed chan struct{}
}

// state is a key after one of its records. It is never changed, only replaced, so
// that no key is ever judged by half of a change; but for memo, which begins anew
// then. All that a request looks at is in its first three cache lines of four: among
// a million keys each place that a look touches is a wait for memory, and the waits
// are most of what Verify takes.
type state struct {
	current hashed // zero once deleted
	memo    atomic.Value
	key     Key
	seq     uint64 // of the last record, the key's version for Append
	_       [16]byte
}

// newState is a state to be edited, and then left as it is. Its last record is not
// known yet.
func newState(k Key, current hashed) *state {
	st := &state{key: k, current: current}
	st.key.Memo = &st.memo
	return st
}

// accepts reports whether a digest is one of the key's live secrets: the newest,
// or the one before while its grace lasts. The clock is asked here and not when a
// record is applied, so a grace ends when it should also across restarts.
func (st *state) accepts(pepperVersion int32, d *digest, now time.Time) bool {
	if st.current.is(pepperVersion, d) {
		return true
	}
	r := st.key.rotated
	return r != nil && r.previous.is(pepperVersion, d) && now.Before(r.graceUntil)
}

// hashed is what is kept of a secret.
type hashed struct {
	digest        digest
	pepperVersion int32
}

// rotated is what the last rotation left.
type rotated struct {
	previous   hashed    // works before graceUntil; zero without grace
	graceUntil time.Time // zero without grace
	at         time.Time
	grace      time.Duration
	salt       []byte      // of the derivation; nil if the secret was minted
	request    uuid.UUID   // stands for its idempotency key; zero without
	earlier    []uuid.UUID // those of the rotations before
}

// is compares in constant time.
func (h *hashed) is(pepperVersion int32, d *digest) bool {
	return h.pepperVersion == pepperVersion && hmac.Equal(h.digest[:], d[:])
}

// NewSet makes an empty set.
func NewSet(c Config) (*Set, error) {
	if len(c.Peppers) == 0 || c.Now == nil {
		return nil, errors.New("keys: a pepper and a clock are needed")
	}
	s := &Set{now: c.Now, bounds: c.Bounds.complete(), orgs: map[uuid.UUID]*tenant{}, peppers: map[int32]string{}, madeUnder: map[int32]bool{}}
	for i := range s.making {
		s.making[i] = make(chan struct{}, 1)
	}
	peppers := slices.Clone(c.Peppers)
	slices.SortFunc(peppers, func(a, b Pepper) int { return cmp.Compare(b.Version, a.Version) })
	for i, p := range peppers {
		if p.Version < 1 || p.Version > math.MaxInt32 || len(p.Secret) < pepperBytesMin {
			return nil, fmt.Errorf("keys: pepper %d: want a version from 1 on and a secret of %d bytes or more", p.Version, pepperBytesMin)
		}
		if i > 0 && peppers[i-1].Version == p.Version {
			return nil, fmt.Errorf("keys: pepper %d is there twice", p.Version)
		}
		s.hashers = append(s.hashers, newHasher(p))
	}
	s.attempts.New = func() any { return newAttempt(s.hashers) }
	return s, nil
}

// Verify says whose key a secret is. now is the caller's, the instant the
// request is judged at. It returns ErrMalformedKey, ErrUnknownKey (also for a
// secret that was rotated away and for a deleted key), ErrDisabledKey or
// ErrExpiredKey, in this order; with the last two the key comes too.
func (s *Set) Verify(secret string, now time.Time) (*Key, error) {
	if len(secret) != secretLen {
		return nil, ErrMalformedKey
	}
	a := s.attempts.Get().(*attempt)
	copy(a.secret[:], secret)
	st, err := s.find(a, now)
	clear(a.secret[:]) // no secret stays behind in the pool
	s.attempts.Put(a)
	if err != nil {
		return nil, err
	}
	switch st.key.StatusAt(now) {
	case StatusDeleted:
		return nil, ErrUnknownKey
	case StatusDisabled:
		return &st.key, ErrDisabledKey
	case StatusExpired:
		return &st.key, ErrExpiredKey
	default:
		return &st.key, nil
	}
}

// find is the key that accepts a secret at an instant.
func (s *Set) find(a *attempt, now time.Time) (*state, error) {
	if !checked(&a.secret) {
		return nil, ErrMalformedKey
	}
	for i, h := range s.hashers {
		if st := s.index.find(h.version, a.digest(i), now); st != nil {
			return st, nil
		}
	}
	if !ours(a.secret[:]) {
		return nil, ErrMalformedKey
	}
	return nil, ErrUnknownKey
}

// Get returns a key of an org. It returns ErrUnknownKey for a deleted key, and
// for another org's.
func (s *Set) Get(org, id uuid.UUID) (*Key, error) {
	k, err := s.Lookup(org, id)
	if err == nil && k.Deleted {
		return nil, unknown(id)
	}
	return k, err
}

// Lookup is Get that finds deleted keys too: reports name the keys of the past.
// Of a deleted key only its ids, name, prefix, sandbox and times are left.
func (s *Set) Lookup(org, id uuid.UUID) (*Key, error) {
	st := s.stateOf(org, id)
	if st == nil {
		return nil, unknown(id)
	}
	return &st.key, nil
}

func unknown(id uuid.UUID) error { return fmt.Errorf("key %s: %w", id, ErrUnknownKey) }

// stateOf is nil if the org never had such a key.
func (s *Set) stateOf(org, id uuid.UUID) *state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.held(org, id)
}

// held is stateOf for a caller who holds the lock.
func (s *Set) held(org, id uuid.UUID) *state {
	if o := s.orgs[org]; o != nil {
		return o.keys[id]
	}
	return nil
}

// await waits until is, which is asked under the lock, after each change of a key.
func (s *Set) await(ctx context.Context, is func() bool) error {
	for {
		s.mu.Lock()
		if is() {
			s.mu.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
