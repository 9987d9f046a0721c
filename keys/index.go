package keys

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// index finds keys by the digests of their live secrets. It is in parts, so that
// cores that verify different keys stay off each other's locks.
//
// The tables are our own, because Go's maps touch memory in four places for one
// look and these in one, and memory is what a look among a million keys waits
// for. They can be simple: a digest is its own hash, and nobody without the
// pepper can choose one.
type index [shardCount]shard

const (
	shardCount = 64
	shardBits  = 6
	slotsMin   = 8
)

// shard is a table with linear probing, padded to a cache line.
type shard struct {
	mu    sync.RWMutex
	slots []slot // a power of two of them, or none
	used  int
	_     [8]byte
}

// slot is free when st is nil. The tag is not the whole digest and decides
// nothing: the digest is compared in the key, in constant time.
type slot struct {
	tag uint64
	st  *state
}

func (d *digest) tag() uint64 { return binary.LittleEndian.Uint64(d[:]) }

func (x *index) shard(tag uint64) *shard { return &x[tag%shardCount] }

func (s *shard) home(tag uint64) int { return int(tag>>shardBits) & (len(s.slots) - 1) }

func (s *shard) after(i int) int { return (i + 1) & (len(s.slots) - 1) }

// find is the key that accepts a digest at an instant, or nil.
func (x *index) find(pepperVersion int32, d *digest, now time.Time) *state {
	tag := d.tag()
	s := x.shard(tag)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.used == 0 {
		return nil
	}
	for i := s.home(tag); s.slots[i].st != nil; i = s.after(i) {
		if s.slots[i].tag == tag && s.slots[i].st.accepts(pepperVersion, d, now) {
			return s.slots[i].st
		}
	}
	return nil
}

// put makes a key findable by one of its secrets, in place of what was known of
// that key. Two keys with one secret are no accident, and an error.
func (x *index) put(h *hashed, st *state) error {
	tag := h.digest.tag()
	s := x.shard(tag)
	s.mu.Lock()
	defer s.mu.Unlock()
	if 4*(s.used+1) > 3*len(s.slots) {
		s.grow()
	}
	i := s.home(tag)
	for ; s.slots[i].st != nil; i = s.after(i) {
		other := s.slots[i]
		if other.tag != tag {
			continue
		}
		if other.st.key.ID == st.key.ID {
			s.slots[i].st = st
			return nil
		}
		if hmac.Equal(other.st.current.digest[:], h.digest[:]) {
			return fmt.Errorf("its secret is that of key %s", other.st.key.ID)
		}
	}
	s.slots[i] = slot{tag, st}
	s.used++
	return nil
}

func (s *shard) grow() {
	old := s.slots
	s.slots = make([]slot, max(slotsMin, 2*len(old)))
	for _, o := range old {
		if o.st == nil {
			continue
		}
		i := s.home(o.tag)
		for s.slots[i].st != nil {
			i = s.after(i)
		}
		s.slots[i] = o
	}
}

// remove ends a secret of a key.
func (x *index) remove(h *hashed, st *state) {
	tag := h.digest.tag()
	s := x.shard(tag)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == 0 {
		return
	}
	i := s.home(tag)
	for ; s.slots[i].tag != tag || s.slots[i].st == nil || s.slots[i].st.key.ID != st.key.ID; i = s.after(i) {
		if s.slots[i].st == nil {
			return
		}
	}
	// A hole would cut those behind it off from their home: move back each that may
	// not stay behind it.
	for j := s.after(i); s.slots[j].st != nil; j = s.after(j) {
		home := s.home(s.slots[j].tag)
		if mask := len(s.slots) - 1; (j-home)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = slot{}
	s.used--
}
