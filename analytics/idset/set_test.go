package idset

import (
	"math"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// hashAt returns a hash of a fixed sequence of well spread hashes (splitmix64): every run sees the same.
func hashAt(i uint64) uint64 {
	x := (i + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// A model is a set that remembers the same bits as a Set, in maps.
type model struct {
	plan        plan
	first, rest map[uint64]bool
}

func newModel(p plan) *model {
	return &model{plan: p, first: map[uint64]bool{}, rest: map[uint64]bool{}}
}

// cut returns what a layer keeps of h: h*roots>>(64-bits).
func cut(h uint64, keep uint) uint64 {
	high, low := bits.Mul64(h, roots)
	return high<<keep | low>>(64-keep)
}

func (m *model) contains(h uint64) bool {
	return m.first[cut(h, m.plan.firstBits)] || m.rest[cut(h, m.plan.restBits)]
}

func (m *model) add(h uint64) bool {
	switch {
	case m.contains(h):
		return true
	case uint64(len(m.first)) < m.plan.firstIDs:
		m.first[cut(h, m.plan.firstBits)] = true
	default:
		m.rest[cut(h, m.plan.restBits)] = true
	}
	return false
}

// drawHash draws hashes that make trouble: boundaries, neighbours, and many with the same first bits.
func drawHash() *rapid.Generator[uint64] {
	return rapid.OneOf(
		rapid.Uint64(),
		rapid.Map(rapid.Uint64Range(0, 1<<14), func(i uint64) uint64 { return hashAt(i) }),
		rapid.SampledFrom([]uint64{0, 1, math.MaxUint64, math.MaxUint64 - 1, 1 << 63, 1<<63 - 1}),
		rapid.Map(rapid.Uint64Range(0, 1<<12), func(i uint64) uint64 { return i << 30 }),
		rapid.Map(rapid.Uint64Range(0, 1<<12), func(i uint64) uint64 { return 0xabcd<<48 | i<<25 }),
	)
}

func TestSetEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plan{
			firstIDs:  rapid.Uint64Range(1, 3000).Draw(t, "firstIDs"),
			firstBits: rapid.UintRange(2, 40).Draw(t, "firstBits"),
			pageIDs:   rapid.Uint64Range(4, 512).Draw(t, "pageIDs"),
		}
		p.restBits = rapid.UintRange(p.firstBits, 42).Draw(t, "restBits")
		s, m := newSet(p), newModel(p)
		var added []uint64
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			batch := rapid.SliceOfN(drawHash(), 0, 200).Draw(t, "batch")
			// Drawing is slow: stretch each batch by hashes that follow from it.
			from := rapid.Uint64Range(0, 1<<20).Draw(t, "from")
			for i := range rapid.Uint64Range(0, 2000).Draw(t, "more") {
				batch = append(batch, hashAt(from+i))
			}
			if bulk := rapid.Bool().Draw(t, "bulk"); bulk {
				// AddAll takes at most minBatch at once, in order, from sets this small.
				got, want := s.AddAll(slices.Clone(batch)), 0
				slices.Sort(batch)
				for _, h := range batch {
					if m.add(h) {
						want++
					}
				}
				if got != want {
					t.Fatalf("AddAll of %d = %d, want %d", len(batch), got, want)
				}
			} else {
				for _, h := range batch {
					if got, want := s.Add(h), m.add(h); got != want {
						t.Fatalf("Add(%#x) = %v, want %v", h, got, want)
					}
				}
			}
			added = append(added, batch...)
			for _, h := range added {
				if !s.Contains(h) {
					t.Fatalf("Contains(%#x) = false after it was added", h)
				}
			}
			for _, h := range rapid.SliceOfN(drawHash(), 0, 50).Draw(t, "absent") {
				for _, h := range []uint64{h, h ^ 1<<20, h ^ 1<<28, h + 1<<40} {
					if got, want := s.Contains(h), m.contains(h); got != want {
						t.Fatalf("Contains(%#x) = %v, want %v", h, got, want)
					}
				}
			}
			if got, want := s.Len(), uint64(len(m.first)+len(m.rest)); got != want {
				t.Fatalf("Len() = %d, want %d", got, want)
			}
		}
	})
}

// TestOnePage adds only hashes that agree in their first bits: the page they share grows far past what hashing makes,
// and past what its samples can count.
func TestOnePage(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		s, m := New(Options{}), newModel(planFor(Options{}))
		hashes := make([]uint64, 150_000)
		for i := range hashes {
			hashes[i] = 0xabc<<52 | hashAt(uint64(i))>>12
		}
		for _, h := range hashes {
			m.add(h)
		}
		if bulk {
			s.AddAll(slices.Clone(hashes))
		} else {
			for _, h := range hashes {
				s.Add(h)
			}
		}
		for _, h := range hashes {
			if !s.Contains(h) {
				t.Fatalf("bulk %v: Contains(%#x) = false after it was added", bulk, h)
			}
			if h += 1 << 33; s.Contains(h) != m.contains(h) {
				t.Fatalf("bulk %v: Contains(%#x) = %v, want %v", bulk, h, s.Contains(h), m.contains(h))
			}
		}
		if got, want := s.Len(), uint64(len(m.first)); got != want {
			t.Errorf("bulk %v: Len() = %d, want %d", bulk, got, want)
		}
	}
}

func TestBoundaries(t *testing.T) {
	s := New(Options{})
	hashes := []uint64{0, 1, math.MaxUint64, math.MaxUint64 - 1, math.MaxUint64 / 3, math.MaxUint64/3 + 1, 1 << 63, 1<<63 - 1}
	if s.Contains(0) || s.Contains(math.MaxUint64) || s.Len() != 0 {
		t.Fatal("an empty set contains something")
	}
	s.AddAll(nil)
	for range 2 {
		for _, h := range hashes {
			s.Add(h)
			if !s.Contains(h) || !s.Add(h) {
				t.Errorf("%#x is forgotten at once", h)
			}
		}
	}
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		expected uint64
		restBits uint
	}{
		{0, 35}, {1000, 35}, {50_000_000, 35}, {200_000_000, 38}, {1_000_000_000, 40}, {10_000_000_000, 43},
	} {
		p := planFor(Options{ExpectedIDs: tt.expected})
		first := min(tt.expected, firstIDs)
		if got := p.ppm(first, tt.expected-first); got > targetPPM {
			t.Errorf("%d ids: %d ppm false positives, want at most %d", tt.expected, got, targetPPM)
		}
		if p.restBits != tt.restBits {
			t.Errorf("%d ids: %d bits, want %d", tt.expected, p.restBits, tt.restBits)
		}
	}
}

func TestSortHashes(t *testing.T) {
	for _, n := range []int{0, 1, 64, 65, 5000, 100_000} {
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = hashAt(uint64(i%77_777)) >> (i % 3 * 20)
		}
		want := slices.Clone(hashes)
		slices.Sort(want)
		if sortHashes(hashes, 56); !slices.Equal(hashes, want) {
			t.Errorf("%d hashes are not sorted", n)
		}
	}
}

func TestSelectBit(t *testing.T) {
	for i := range uint64(2000) {
		x := hashAt(i) | hashAt(i+9999)&-(i&1)
		k := uint(0)
		for at := range 64 {
			if x>>at&1 == 1 {
				if got := selectBit(x, k); got != at {
					t.Fatalf("selectBit(%#x, %d) = %d, want %d", x, k, got, at)
				}
				k++
			}
		}
	}
}
