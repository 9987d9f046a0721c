package webhooks

import (
	"encoding/binary"
	"time"

	"github.com/zeebo/xxh3"
)

// retryDelays are the times between an attempt that failed and the next one: about
// three days in all. After the last one the message is dead.
var retryDelays = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 24 * time.Hour,
}

// jitterParts is the share of a delay by which it may be longer: one part in this
// many. It keeps what failed together from coming back together.
const jitterParts = 8

// retryAfter says how long after the attempt with this number (1 is the first) the
// next one is; false if there is none. The jitter follows from the delivery: a
// replayed log gives the same.
func retryAfter(k key, attempt int) (time.Duration, bool) {
	if attempt > len(retryDelays) {
		return 0, false
	}
	delay := retryDelays[attempt-1]
	var seed [40]byte
	copy(seed[:], k.endpoint[:])
	binary.BigEndian.PutUint64(seed[16:], k.seq)
	binary.BigEndian.PutUint64(seed[24:], k.round)
	binary.BigEndian.PutUint64(seed[32:], uint64(attempt))
	return delay + time.Duration(xxh3.Hash(seed[:])%uint64(delay/jitterParts)), true
}
