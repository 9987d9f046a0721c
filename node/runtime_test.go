package node

import (
	"os"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// TestHeapRoom: garbage is at most the greater of the room and what is live, and where
// little is live not less than Go's default.
func TestHeapRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := rapid.Uint64Range(0, 1<<40).Draw(t, "live")
		percent := gcPercent(live)
		if garbage := live / 100 * uint64(percent); percent < 100 || percent > gcPercentMax || garbage > max(heapRoomBytes, live) {
			t.Errorf("%d %%, %d bytes of garbage", percent, garbage)
		}
	})
	if gcPercent(heapRoomBytes/4) != gcPercentMax {
		t.Error("a small heap is collected as often as by default")
	}
}

// TestRoomForCommits: with the log in this process two commits leave every core to use.
func TestRoomForCommits(t *testing.T) {
	if os.Getenv("GOMAXPROCS") == "" {
		roomForCommits() // as the engines of any test before
		if got, want := runtime.GOMAXPROCS(0), goProcs+commitsAtOnce; got != want {
			t.Errorf("%d goroutines may run at once, want %d", got, want)
		}
	}
}
