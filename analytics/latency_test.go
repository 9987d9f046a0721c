package analytics

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryLatencyLiesInItsClass(t *testing.T) {
	check := func(ms uint32) {
		c := latencyClass(ms)
		if classBounds[c] > ms || c < 255 && classBounds[c+1] <= ms {
			t.Fatalf("%d ms is in class %d, which begins at %d", ms, c, classBounds[c])
		}
		if got := classMS(c); c < 255 && !closeTo(got, ms) {
			t.Fatalf("class %d of %d ms stands for %d", c, ms, got)
		}
	}
	end := uint32(rounds(1<<20, 9_000_000)) // beyond the last bound
	for ms := uint32(0); ms < end; ms++ {
		check(ms)
	}
	for _, bound := range classBounds {
		check(bound)
		check(bound - min(bound, 1))
		check(bound + 1)
	}
	check(math.MaxUint32)
}

func TestQuantilesAreWithin32Permille(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.OneOf(rapid.Uint32Range(0, 100), rapid.Uint32Range(0, 60_000), rapid.Uint32Range(0, classBounds[255]-1))
		latencies := rapid.SliceOfN(ms, 1, 300).Draw(t, "latencies")
		permille := rapid.IntRange(1, 1000).Draw(t, "permille")
		var h histogram
		for _, l := range latencies {
			h[latencyClass(l)]++
		}
		got, want := h.quantileMS(uint64(permille)), nearestRank(latencies, permille)
		if !closeTo(got, want) {
			t.Fatalf("%d‰ is %d ms, want %d within 3.2 %%", permille, got, want)
		}
	})
}

func TestQuantileOfNothing(t *testing.T) {
	var h histogram
	if got := h.quantileMS(990); got != 0 {
		t.Fatalf("p99 of nothing is %d ms", got)
	}
}
