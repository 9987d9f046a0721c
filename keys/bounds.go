package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"aione/events"

	"github.com/google/uuid"
)

// Bounds of what an org may have. Zero fields get the defaults. Deleted keys do not
// count; an org that has more already keeps them.
type Bounds struct {
	KeysPerOrgMax   int // API keys; default 10,000
	TokensPerOrgMax int // management tokens; default 1,000
}

func (b Bounds) complete() Bounds {
	if b.KeysPerOrgMax <= 0 {
		b.KeysPerOrgMax = 10_000
	}
	if b.TokensPerOrgMax <= 0 {
		b.TokensPerOrgMax = 1_000
	}
	return b
}

// tenant is the keys of one org.
type tenant struct {
	keys map[uuid.UUID]*state // deleted ones too
	// seq is that of a record of the org's keys up to which all of them are applied.
	seq  uint64
	live [2]int // API keys and tokens that are not deleted
}

// The kinds that are counted.
const (
	kindAPIKey = iota
	kindToken
)

func kindOf(scopes []Scope) int {
	if isAPIKey(scopes) {
		return kindAPIKey
	}
	return kindToken
}

// tenant is that of an org, which may be new. The caller holds the lock.
func (s *Set) tenant(org uuid.UUID) *tenant {
	o := s.orgs[org]
	if o == nil {
		o = &tenant{keys: map[uuid.UUID]*state{}}
		s.orgs[org] = o
	}
	return o
}

func (o *tenant) put(st *state) {
	if old := o.keys[st.key.ID]; old != nil && !old.key.Deleted {
		o.live[kindOf(old.key.Scopes)]--
	}
	if !st.key.Deleted {
		o.live[kindOf(st.key.Scopes)]++
	}
	o.keys[st.key.ID] = st
}

// readTo notes that every record of an org's keys up to seq is applied.
func (s *Set) readTo(org uuid.UUID, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.tenant(org); seq > o.seq {
		o.seq = seq
		s.wake()
	}
}

// counted is how many keys of a kind an org has, by all records up to seq; there may
// be fewer, if some were deleted by others since, but not more.
func (s *Set) counted(org uuid.UUID, kind int) (n int, seq uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if o := s.orgs[org]; o != nil {
		return o.live[kind], o.seq
	}
	return 0, 0
}

// makingShards is how many orgs, at most, have keys made by one set at once.
const makingShards = 64

// enterMaking lets those who make keys of one org through one after the other: they
// would only be in each other's way.
func (s *Set) enterMaking(ctx context.Context, org uuid.UUID) (leave func(), err error) {
	turn := s.making[org[len(org)-1]%makingShards]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// add writes the record of a new key if the org may have one more. The log takes it
// only if it is the next record of any of the org's keys after those that were
// counted, so the bound holds whoever else makes keys, on whichever replica. A
// refusal counts only if it was made on the newest record.
func (s *Set) add(ctx context.Context, log Appender, r events.Record, d createdData) error {
	leave, err := s.enterMaking(ctx, d.OrgID)
	if err != nil {
		return err
	}
	defer leave()
	kind := kindOf(d.Scopes)
	most := [...]int{kindAPIKey: s.bounds.KeysPerOrgMax, kindToken: s.bounds.TokensPerOrgMax}[kind]
	all := events.KeysSubject(d.OrgID)
	for range attemptsMax {
		n, seq := s.counted(d.OrgID, kind)
		if n < most {
			err := s.append(ctx, log, events.Append{Subject: r.Subject, Record: r, ExpectLast: seq, ExpectOn: all})
			if !errors.Is(err, events.ErrConflict) {
				return err
			}
		} else {
			last, _, err := log.LastOn(ctx, all)
			if err != nil {
				return fmt.Errorf("look at the keys of org %s: %w", d.OrgID, err)
			}
			if last.Seq <= seq {
				return fmt.Errorf("%w: the org has %d %s already; delete some, or raise the bound", ErrTooManyKeys, n, [...]string{"API keys", "management tokens"}[kind])
			}
		}
		if err := s.reread(ctx, func() bool { return s.tenant(d.OrgID).seq > seq }); err != nil {
			return err
		}
	}
	return fmt.Errorf("others were first %d times: %w", attemptsMax, events.ErrConflict)
}

// List returns the keys of an org, oldest first, without deleted ones.
func (s *Set) List(org uuid.UUID) []*Key {
	return s.sorted(org, func(*Key) bool { return true })
}

// APIKeys returns a part of an org's API keys, and how many there are in all: at most
// most of them from offset on, oldest first and by their ids among those of one age,
// without deleted ones. A key that is made meanwhile comes last, by the clock of who
// makes it.
func (s *Set) APIKeys(org uuid.UUID, offset, most int) (part []*Key, total int) {
	all := s.sorted(org, func(k *Key) bool { return k.IsAPIKey() })
	from := min(max(offset, 0), len(all))
	return all[from:min(from+max(most, 0), len(all))], len(all)
}

// sorted are the keys of an org that are not deleted, oldest first.
func (s *Set) sorted(org uuid.UUID, with func(*Key) bool) []*Key {
	s.mu.RLock()
	var list []*Key
	if o := s.orgs[org]; o != nil {
		list = make([]*Key, 0, o.live[kindAPIKey]+o.live[kindToken])
		for _, st := range o.keys {
			if k := &st.key; !k.Deleted && with(k) {
				list = append(list, k)
			}
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Key) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list
}
