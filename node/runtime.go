package node

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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
	// process that holds little would do nothing else.
	heapRoomBytes = 256 << 20
	gcPercentMax  = 400
	heapEvery     = 10 * time.Second
)

// gcPercent is the garbage that may gather, in percent of what is live: heapRoomBytes,
// at most gcPercentMax; or, as is Go's default, as much as is live.
func gcPercent(liveBytes uint64) int {
	return int(min(max(100*heapRoomBytes/max(liveBytes, 1), 100), gcPercentMax))
}

// keepHeapRoom follows what is live until ctx ends. A GOGC in the environment stays as
// it is.
func keepHeapRoom(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	now := 0
	for {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if percent := gcPercent(live[0].Value.Uint64()); percent != now {
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
