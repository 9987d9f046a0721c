package idset

import (
	"math"
	"math/bits"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// hashes is a fixed sequence of well spread hashes (splitmix64): every run sees the same.
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

func TestScale(t *testing.T) {
	n := uint64(50_000_000)
	if testing.Short() {
		n = 2_000_000
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := New(Options{})
	start := time.Now()
	last, worst, worstAt := s.MemoryBytes(), 0.0, uint64(0)
	for i := range n {
		s.Add(hashAt(i))
		if i%10000 == 0 && i >= 1000000 {
			last = s.MemoryBytes()
			if r := float64(last) / float64(s.Len()); r > worst {
				worst, worstAt = r, i
			}
			if i%1000000 == 0 && (i < 10e6 || i%5000000 == 0) {
				t.Logf("%d M: %.3f B/id", i/1000000, float64(last)/float64(s.Len()))
			}
		}
	}
	d := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("add %.1f ns; worst %.3f at %d, mem %d heap %d", float64(d.Nanoseconds())/float64(n), worst, worstAt, s.MemoryBytes(), after.HeapAlloc-before.HeapAlloc)
	start = time.Now()
	fp := 0
	const probes = 5000000
	for i := range uint64(probes) {
		if s.Contains(hashAt(n + i)) {
			fp++
		}
	}
	d = time.Since(start)
	t.Logf("miss %.1f ns; fp %d ppm, est %d", float64(d.Nanoseconds())/probes, fp*1000000/probes, s.FalsePositivePPM())
	start = time.Now()
	for i := range uint64(probes) {
		if !s.Contains(hashAt(i * (n/probes/2*2 + 1) % n)) {
			t.Fatal("forgot")
		}
	}
	d = time.Since(start)
	t.Logf("hit %.1f ns", float64(d.Nanoseconds())/probes)
	runtime.KeepAlive(s)
}
