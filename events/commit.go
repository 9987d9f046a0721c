package events

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// committer makes events of concurrent callers durable with one message, and so
// one fsync, for many: group commit. Usage does not linger: while one message is
// being written the next one fills, so the fsync itself is the batching window
// and a lone caller waits for nothing. Admissions do, see admitLinger.
//
// One message is in flight at a time. Two were measured: they halve the events a
// message carries and, the server writing one after the other anyway, lost up to
// half of the rate with 64 callers and gained nothing with large batches.
type committer struct {
	publish       func(context.Context, *nats.Msg) error
	subject       string
	limitBytes    int // of the frames of one message
	confirmWithin time.Duration
	attempt       time.Duration // bounds one attempt; a retry sends the same bytes and id
	linger        time.Duration // how long a message waits for more, unless somebody is in a hurry
	hurry         chan struct{} // of one place: whoever finds it taken is served by it

	in      chan *pending
	closing chan struct{} // closed first: lets go of callers that wait for a place in the queue
	done    chan struct{} // closed when the loop has ended
	mu      sync.RWMutex  // guards closed against submits
	closed  bool

	stopOnce sync.Once
}

const (
	// committerQueue bounds the callers waiting to get into a message.
	committerQueue = 4096
	// publishAttempt is longer than any fsync should take, and short enough that a
	// caller whose server restarted at once does not wait long. An attempt that is
	// merely slow costs nothing but a duplicate that the log drops by its id.
	publishAttempt = 2 * time.Second
	retryPause     = 50 * time.Millisecond
	// admitLinger lets more requests share the fsync of an admission, which would
	// otherwise get in the way of the usage that clients wait for. Only the start of a
	// stream waits for an admission, and then it is written at once: see Log.Hurry.
	admitLinger = 5 * time.Millisecond
	// messageBytesMax keeps messages moderate where the server would allow more.
	messageBytesMax = 2 << 20
)

func newCommitter(js jetstream.JetStream, subject string, limitBytes int, confirmWithin, attempt, linger time.Duration) *committer {
	c := &committer{
		publish: func(ctx context.Context, m *nats.Msg) error {
			_, err := js.PublishMsg(ctx, m)
			return err
		},
		subject: subject, confirmWithin: confirmWithin, attempt: attempt, linger: linger,
		limitBytes: min(limitBytes, messageBytesMax) - envelopeHeaderSize - binary.MaxVarintLen64,
		hurry:      make(chan struct{}, 1),
		in:         make(chan *pending, committerQueue),
		closing:    make(chan struct{}),
		done:       make(chan struct{}),
	}
	go c.loop()
	return c
}

// pending is the part of one call that goes into one message whole.
type pending struct {
	frames []byte
	count  int
	result chan error // buffered: the loop never waits for a caller
}

// wait returns when the part is settled. If ctx ends first the outcome is
// unknown: the part is still being written.
func (p *pending) wait(ctx context.Context) error {
	select {
	case err := <-p.result:
		return err
	case <-ctx.Done():
		select {
		case err := <-p.result: // both were ready: the answer is worth more
			return err
		default:
			return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
		}
	}
}

// frameBatch collects frames and remembers where each ends.
type frameBatch struct {
	frames []byte
	ends   []int
}

// reserve makes room for count events like a first one of size bytes.
func (b *frameBatch) reserve(size, count int) {
	b.frames = make([]byte, 0, (size+binary.MaxVarintLen16+size/16)*(count+1))
	b.ends = make([]int, 0, count+1)
}

func (b *frameBatch) add(event []byte) {
	b.frames = appendFrame(b.frames, event)
	b.ends = append(b.ends, len(b.frames))
}

// split cuts the batch into parts that each fit one message.
func (b *frameBatch) split(limitBytes int) []*pending {
	var out []*pending
	start, count := 0, 0
	for i, end := range b.ends {
		count++
		last := i == len(b.ends)-1
		if last || count == MaxEnvelopeEvents || b.ends[i+1]-start > limitBytes {
			out = append(out, &pending{frames: b.frames[start:end], count: count, result: make(chan error, 1)})
			start, count = end, 0
		}
	}
	return out
}

func (c *committer) submit(ctx context.Context, p *pending) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return ErrClosed
	}
	select {
	case c.in <- p:
		return nil
	case <-c.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("queue for the event log: %w", ctx.Err())
	}
}

func (c *committer) close(ctx context.Context) error {
	c.stop()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close %s: %w", c.subject, ctx.Err())
	}
}

// stop makes every later submit ErrClosed.
func (c *committer) stop() {
	c.stopOnce.Do(func() {
		close(c.closing)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closed = true
		close(c.in)
	})
}

func (c *committer) loop() {
	defer close(c.done)
	var next *pending // taken from the queue, but did not fit the last message
	for {
		first := next
		next = nil
		if first == nil {
			var ok bool
			if first, ok = <-c.in; !ok {
				return
			}
		}
		c.pause()
		batch := []*pending{first}
		count, size := first.count, len(first.frames)
	fill:
		for {
			select {
			case p, ok := <-c.in:
				if !ok {
					break fill
				}
				if count+p.count > MaxEnvelopeEvents || size+len(p.frames) > c.limitBytes {
					next = p
					break fill
				}
				batch = append(batch, p)
				count += p.count
				size += len(p.frames)
			default:
				break fill
			}
		}
		err := c.write(batch, count)
		for _, p := range batch {
			p.result <- err
		}
	}
}

func (c *committer) pause() {
	if c.linger <= 0 {
		return
	}
	t := time.NewTimer(c.linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.hurry:
	case <-c.closing:
	}
}

// hurryUp ends the present pause, or the next.
func (c *committer) hurryUp() {
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}

// write publishes one envelope until the log confirms or refuses it.
func (c *committer) write(batch []*pending, count int) error {
	frames := make([][]byte, len(batch))
	for i, p := range batch {
		frames[i] = p.frames
	}
	m := nats.NewMsg(c.subject)
	m.Data = sealEnvelope(count, frames...)
	m.Header.Set(jetstream.MsgIDHeader, NewID().String())

	ctx, cancel := context.WithTimeout(context.Background(), c.confirmWithin)
	defer cancel()
	unconfirmed := false // an attempt had no answer: it may be in the log, or get there yet
	for {
		attempt, stop := context.WithTimeout(ctx, c.attempt)
		err := c.publish(attempt, m)
		stop()
		answer := judge(err)
		switch {
		case answer == answerStored:
			return nil
		case answer == answerFull && !unconfirmed:
			return fmt.Errorf("%w: %v", ErrFull, err)
		case answer == answerRefused && !unconfirmed:
			return fmt.Errorf("the event log refused: %w", err)
		case answer == answerFull, answer == answerRefused, errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		unconfirmed = unconfirmed || answer == answerNone
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		case <-time.After(retryPause):
		}
	}
}
