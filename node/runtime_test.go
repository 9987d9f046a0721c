package node

import (
	"os"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// TestHeapRoom: garbage is at most the greater of the room and what is live, where
// little is live not less than Go's default, and the room a part of the memory.
func TestHeapRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, memory := rapid.Uint64Range(0, 1<<40).Draw(t, "live"), rapid.Uint64Range(0, 1<<40).Draw(t, "memory")
		room := heapRoom(memory)
		if room > heapRoomBytes || memory > 0 && room > memory/heapRoomPart {
			t.Errorf("a room of %d bytes", room)
		}
		percent := gcPercent(live, room)
		if garbage := live / 100 * uint64(percent); percent < 100 || percent > gcPercentMax || garbage > max(room, live) {
			t.Errorf("%d %%, %d bytes of garbage", percent, garbage)
		}
	})
	if room := heapRoom(memoryBytes()); gcPercent(room/4, room) != 400 {
		t.Errorf("on this machine, of %d bytes, a small heap is not given its room of %d", memoryBytes(), room)
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
