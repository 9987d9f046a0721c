package webhooks

import (
	"container/heap"
	"time"

	"github.com/google/uuid"
)

// endpointAttemptsMax bounds the attempts of an endpoint at the same time. After a
// failure it is one until something is delivered again, so that endpoints that are
// down leave the room to others.
const endpointAttemptsMax = 4

// queue says which delivery is next: of those whose endpoint has room, the one
// that has been due longest. It holds each key once, from add to release. It knows
// no clock and is not safe for concurrent use.
type queue struct {
	attemptsMax int // at the same time, of all endpoints
	running     int
	due         dueHeap // of endpoints that may have room
	known       map[key]bool
	lines       map[uuid.UUID]*line
	failing     map[uuid.UUID]bool
}

// line is an endpoint with attempts under way.
type line struct {
	running int
	parked  dueHeap // due, but without room
}

type task struct {
	key
	due time.Time
}

func newQueue(attemptsMax int) *queue {
	return &queue{attemptsMax: attemptsMax, known: map[key]bool{}, lines: map[uuid.UUID]*line{}, failing: map[uuid.UUID]bool{}}
}

// add takes a delivery; one that is known already stays as it is.
func (q *queue) add(k key, due time.Time) {
	if !q.known[k] {
		q.known[k] = true
		heap.Push(&q.due, task{k, due})
	}
}

// next starts the next attempt that is due; false if there is none or no room. Each
// one is to be followed by done.
func (q *queue) next(now time.Time) (key, bool) {
	for q.running < q.attemptsMax && len(q.due) > 0 && !q.due[0].due.After(now) {
		t := heap.Pop(&q.due).(task)
		l := q.lines[t.endpoint]
		if l == nil {
			l = &line{}
			q.lines[t.endpoint] = l
		}
		if l.running >= q.room(t.endpoint) {
			heap.Push(&l.parked, t)
			continue
		}
		l.running++
		q.running++
		return t.key, true
	}
	return key{}, false
}

func (q *queue) room(endpoint uuid.UUID) int {
	if q.failing[endpoint] {
		return 1
	}
	return endpointAttemptsMax
}

// wait says when next may give something without anything being done; false if
// that is not known.
func (q *queue) wait() (time.Time, bool) {
	if q.running >= q.attemptsMax || len(q.due) == 0 {
		return time.Time{}, false
	}
	return q.due[0].due, true
}

// done ends an attempt: its endpoint has room again. The key stays known.
func (q *queue) done(k key, failed bool) {
	if failed {
		q.failing[k.endpoint] = true
	} else {
		delete(q.failing, k.endpoint)
	}
	q.leave(k)
}

// skip undoes next for a delivery that is not to be attempted after all, and
// forgets it.
func (q *queue) skip(k key) {
	q.leave(k)
	q.release(k)
}

func (q *queue) leave(k key) {
	l := q.lines[k.endpoint]
	l.running--
	q.running--
	for room := q.room(k.endpoint) - l.running; room > 0 && len(l.parked) > 0; room-- {
		heap.Push(&q.due, heap.Pop(&l.parked))
	}
	if l.running == 0 && len(l.parked) == 0 {
		delete(q.lines, k.endpoint)
	}
}

// release forgets a key after done, so that it can be added again.
func (q *queue) release(k key) { delete(q.known, k) }

// dueHeap has the task that has been due longest first; of those due at the same
// time, the oldest message.
type dueHeap []task

func (h dueHeap) Len() int      { return len(h) }
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h dueHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}
func (h *dueHeap) Push(x any) { *h = append(*h, x.(task)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
