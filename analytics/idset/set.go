// Package idset holds an approximate set of 64-bit hashes that never forgets one: the filter before the exact lookup
// that makes an event id count once for ever (design, invariant 3).
//
// Invariants:
//
//   - No false negatives: Contains is true, for ever, for every hash given to Add or AddAll.
//   - A false positive happens only where two hashes are cut down to the same value; which hashes those are depends on
//     the hashes added and their order alone, not on timing, memory or a seed.
//   - With default options, memory is at most 2 bytes per remembered hash at 1 M hashes and more, at every moment: pages
//     grow block by block and split one at a time; nothing is rehashed, nothing is held twice.
//
// How: a hash is cut down to one of 3·2^31 values (32.6 bits) while the set is small, the first 3.5 M, and to one of
// 3·2^35 (36.6 bits) from then on, or more if more hashes are expected. Few bits are what 2 bytes allow in a sparse set,
// and the false positives they cause stay bounded by how few such hashes there are. The two kinds live in two layers, and
// lookups ask both. A layer cuts its range into pages of some thousand values; a page holds them as an Elias–Fano code,
// within half a bit of the least possible, and keeps a small tail of fresh values that is merged in when full.
//
// It never removes a hash, never reads a clock, never does I/O, and starts no goroutine.
package idset

import "unsafe"

const (
	defaultExpectedIDs = 50_000_000

	// The first hashes are cut down to roots<<firstBits values, the others to roots<<restBits. The false positives of
	// both together must stay below targetPPM.
	firstIDs  = 3_500_000
	firstBits = 31
	restBits  = 35 // at least
	maxBits   = 46 // 10^11 ids

	targetPPM = 1000 // 0.1 %
)

// Options says what a set is made for.
type Options struct {
	// ExpectedIDs is the number of hashes up to which the false positive rate stays within 0.1 %. Default 50 M. More
	// is correct at a higher rate. A larger number takes up to 2.5 bytes per hash while the set is far smaller than that.
	ExpectedIDs uint64
}

// A Set is an approximate set of 64-bit hashes without false negatives. It is not safe for concurrent use; not even two
// calls of Contains may overlap with an Add.
type Set struct {
	pager       *pager
	first, rest *layer // rest is nil until first is full
	plan        plan
}

// A plan is the shape of a set.
type plan struct {
	firstIDs            uint64
	firstBits, restBits uint
	pageIDs             uint64
}

func planFor(o Options) plan {
	expected := o.ExpectedIDs
	if expected == 0 {
		expected = defaultExpectedIDs
	}
	p := plan{firstIDs: firstIDs, firstBits: firstBits, restBits: restBits, pageIDs: pageIDs}
	for p.restBits < maxBits && p.ppm(min(expected, firstIDs), expected-min(expected, firstIDs)) > targetPPM {
		p.restBits++
	}
	return p
}

// ppm returns the false positive rate of a set with these counts, in parts per million, rounded up. A hash that was
// never added is found by chance when it is cut down to the same value as one of n: n in roots<<bits.
func (p plan) ppm(first, rest uint64) uint64 {
	// A count of rest that overflows here would need 10^13 hashes.
	over := func(n uint64, bits uint) uint64 { return (n*1_000_000 + roots<<bits - 1) / (roots << bits) }
	return over(first, p.firstBits) + over(rest, p.restBits)
}

// New returns an empty set. It takes some KiB, and a set of a few thousand hashes some 100 KiB.
func New(o Options) *Set { return newSet(planFor(o)) }

func newSet(p plan) *Set {
	g := &pager{arena: newArena()}
	return &Set{pager: g, first: newLayer(g, p.firstBits, p.pageIDs), plan: p}
}

// Contains says if h may have been added: false means certainly not.
func (s *Set) Contains(h uint64) bool {
	first := s.first.locate(h)
	s.pager.warm(first)
	if s.rest == nil {
		return s.pager.contains(first)
	}
	rest := s.rest.locate(h)
	s.pager.warm(rest)
	return s.pager.contains(first) || s.pager.contains(rest)
}

// Add adds h and returns true if h may have been there already: false means that it certainly was not. Most calls take
// a lookup and a store; one in about seventy merges a page (some 10 µs), and at times one in a thousand splits one
// (some 200 µs). No call does more.
func (s *Set) Add(h uint64) (maybeSeen bool) {
	s.warm(h)
	return s.add(h)
}

func (s *Set) warm(h uint64) {
	s.pager.warm(s.first.locate(h))
	if s.rest != nil {
		s.pager.warm(s.rest.locate(h))
	}
}

func (s *Set) add(h uint64) (maybeSeen bool) {
	at := s.first.locate(h)
	if s.pager.contains(at) {
		return true
	}
	if s.rest == nil {
		s.first.add(at)
		s.fill()
		return false
	}
	at = s.rest.locate(h)
	if s.pager.contains(at) {
		return true
	}
	if s.rest.add(at) {
		s.first.sealNext()
	}
	return false
}

// fill starts the second layer when the first is full.
func (s *Set) fill() {
	if s.rest == nil && s.first.count == s.plan.firstIDs {
		s.rest = newLayer(s.pager, s.plan.restBits, s.plan.pageIDs)
	}
}

// Len returns how many hashes the set tells apart: those for which Add returned false.
func (s *Set) Len() uint64 {
	if s.rest == nil {
		return s.first.count
	}
	return s.first.count + s.rest.count
}

// MemoryBytes returns all memory the set holds: codes, tails, free blocks, headers, directories and scratch space.
func (s *Set) MemoryBytes() uint64 {
	n := int(unsafe.Sizeof(*s)) + s.pager.memoryBytes() + s.first.memoryBytes()
	if s.rest != nil {
		n += s.rest.memoryBytes()
	}
	return uint64(n)
}

// FalsePositivePPM returns the chance, in parts per million and rounded up, that Contains is true for a hash that was
// never added.
func (s *Set) FalsePositivePPM() uint64 {
	if s.rest == nil {
		return s.plan.ppm(s.first.count, 0)
	}
	return s.plan.ppm(s.first.count, s.rest.count)
}
