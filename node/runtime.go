package node

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"
)

// commitsAtOnce are the commits that the disk is usually given at once: one of usage
// and one of admissions.
const commitsAtOnce = 2

// roomForCommits lets Go run goroutines on every core while commits are on their way.
// The embedded NATS fsyncs in this process, and the scheduler takes a thread that
// waits for a disk for one that runs, for longer than an fsync takes: on two cores two
// commits would stop everything. A GOMAXPROCS in the environment stays as it is.
var roomForCommits = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(goProcs + commitsAtOnce)
	}
})

// goProcs is what Go found.
var goProcs = runtime.GOMAXPROCS(0)

const (
	// heapRoomBytes of garbage may gather before it is collected, where Go's default
	// would let it be less: while garbage is collected requests take longer, and a
	// process that holds little would do nothing else. It is at most a part of the
	// memory that there is.
	heapRoomBytes = 512 << 20
	heapRoomPart  = 8
	gcPercentMax  = 2000
	heapEvery     = time.Second
)

// gcPercent is the garbage that may gather, in percent of what is live: a room for it,
// at most gcPercentMax; or, as is Go's default, as much as is live.
func gcPercent(liveBytes, roomBytes uint64) int {
	return int(min(max(100*roomBytes/max(liveBytes, 1), 100), gcPercentMax))
}

// heapRoom is the room in a memory of so many bytes; 0 is not known.
func heapRoom(memoryBytes uint64) uint64 {
	if memoryBytes == 0 {
		return heapRoomBytes / 2
	}
	return min(heapRoomBytes, memoryBytes/heapRoomPart)
}

// memoryBytes is what this process may use: of its control group or, if that has no
// limit, of the machine. 0 where the system does not say.
func memoryBytes() uint64 {
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil { // else "max"
			return n
		}
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kB, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64) // 0 if it is no number
			return kB << 10
		}
	}
	return 0
}

// keepHeapRoom follows what is live until ctx ends. A GOGC in the environment stays as
// it is.
func keepHeapRoom(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	room, now := heapRoom(memoryBytes()), 0
	for {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if percent := gcPercent(live[0].Value.Uint64(), room); percent != now {
			debug.SetGCPercent(percent)
			now = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(heapEvery):
		}
	}
}
