package idset

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// checkBudget fails if s takes more than 2 bytes per hash. Below 1 M hashes nothing is promised.
func checkBudget(t *testing.T, s *Set) {
	t.Helper()
	if n := s.Len(); n >= 1_000_000 && s.MemoryBytes() > 2*n {
		t.Fatalf("%d bytes for %d hashes, more than 2 each", s.MemoryBytes(), n)
	}
}

// TestBudgetAtEverySize adds one by one, past the sizes at which pages split and layers change.
func TestBudgetAtEverySize(t *testing.T) {
	n := uint64(9_000_000) // past the worst after the second layer begins
	if testing.Short() {
		n = 1_200_000
	}
	s := New(Options{})
	for i := range n {
		s.Add(hashAt(i))
		if i%5000 == 0 {
			checkBudget(t, s)
		}
	}
}

// TestScale loads the expected number of hashes and reports bytes, times and false positives. Only what does not depend
// on the machine can fail.
func TestScale(t *testing.T) {
	n, probes := uint64(defaultExpectedIDs), uint64(2_000_000)
	if testing.Short() {
		n, probes = 2_000_000, 500_000
	}
	buf := make([]uint64, 1<<20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := New(Options{})
	var spent time.Duration
	for i := uint64(0); i < n; {
		batch := buf[:min(uint64(len(buf)), n-i)]
		for k := range batch {
			batch[k] = hashAt(i + uint64(k))
		}
		start := time.Now()
		s.AddAll(batch)
		spent += time.Since(start)
		i += uint64(len(batch))
		checkBudget(t, s)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := after.HeapAlloc - before.HeapAlloc
	t.Logf("%d hashes: %s bytes/id by MemoryBytes, %s by the heap", s.Len(), perID(s.MemoryBytes(), s.Len()), perID(heap, s.Len()))
	if heap > 2*s.Len() {
		t.Errorf("the heap grew by %d bytes for %d hashes, more than 2 each", heap, s.Len())
	}
	t.Logf("AddAll %d ns/op, %v in all", uint64(spent)/n, spent)

	start := time.Now()
	for i := range probes {
		if h := hashAt(i * 7919 % n); !s.Contains(h) {
			t.Fatalf("Contains(%#x) = false after it was added", h)
		}
	}
	t.Logf("Contains, present: %d ns/op", uint64(time.Since(start))/probes)
	start = time.Now()
	found := uint64(0)
	for i := range probes {
		if s.Contains(hashAt(n + i)) {
			found++
		}
	}
	t.Logf("Contains, absent: %d ns/op, %d ppm false positives, %d by FalsePositivePPM", uint64(time.Since(start))/probes, found*1_000_000/probes, s.FalsePositivePPM())
	if got, want := found*1_000_000/probes, s.FalsePositivePPM(); got > want*5/4 || got < want*3/4 || want > targetPPM {
		t.Errorf("%d ppm false positives, estimated %d, want at most %d", got, want, targetPPM)
	}
	start = time.Now()
	for i := range probes / 4 {
		s.Add(hashAt(n + i))
	}
	t.Logf("Add: %d ns/op", uint64(time.Since(start))/(probes/4))
	runtime.KeepAlive(buf)
}

// perID writes bytes/ids with three decimals.
func perID(bytes, ids uint64) string {
	return fmt.Sprintf("%d.%03d", bytes/ids, bytes*1000/ids%1000)
}

var benchSizes = []uint64{100_000, 1_000_000, 10_000_000}

func filled(n uint64) *Set {
	s, buf := New(Options{}), make([]uint64, n)
	for i := range buf {
		buf[i] = hashAt(uint64(i))
	}
	s.AddAll(buf)
	return s
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, i := filled(n), n
			for b.Loop() {
				s.Add(hashAt(i))
				i++
			}
		})
	}
}

func BenchmarkContains(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, i := filled(n), n
			for b.Loop() {
				s.Contains(hashAt(i))
				i++
			}
		})
	}
}
