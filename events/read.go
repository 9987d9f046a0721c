package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Reads ahead of the consumer are bounded in bytes, not only in messages, since
// an envelope may be a few hundred bytes or two megabytes.
const (
	readAheadMessages = 512
	readAheadBytes    = 16 << 20
)

// Message is one envelope as it lies in the log.
type Message struct {
	Shard   int
	Subject string
	Seq     uint64
	At      time.Time // when the log stored it, UTC; may step back, sequences do not
	Data    []byte

	more bool // messages of the same atomic batch follow
}

// idleCheck is how long a reader waits for a message before it asks whether the
// log still reaches as far as the reader has come.
const idleCheck = time.Minute

// Reader yields the messages of a stream in order, without gaps, for ever. It is
// not safe for concurrent use, but Stop may be called from anywhere.
type Reader struct {
	arrived  chan arrival
	stopped  chan struct{}
	stopOnce sync.Once
	end      func() // of the source
	shard    int
	next     uint64
}

type arrival struct {
	m   jetstream.Msg
	err error
}

// ReadUsage reads a usage shard from a sequence on (1 is the first). It returns
// ErrGap if the log ends before from-1. Stop it.
func (l *Log) ReadUsage(ctx context.Context, shard int, from uint64) (*Reader, error) {
	if shard < 0 || shard >= l.shards {
		return nil, fmt.Errorf("read usage: shard %d of %d", shard, l.shards)
	}
	return l.read(ctx, usageStream(shard), shard, from)
}

func (l *Log) read(ctx context.Context, stream string, shard int, from uint64) (*Reader, error) {
	from = max(from, 1)
	last, _, err := l.end(ctx, stream)
	if err != nil {
		return nil, err
	}
	if from > last+1 {
		return nil, fmt.Errorf("read %s: %w: it ends at %d, reading is to go on at %d", stream, ErrGap, last, from)
	}
	ctx, cancel := context.WithTimeout(ctx, l.lookWithin)
	defer cancel()
	cons, err := l.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s from %d: %w", stream, from, err)
	}
	msgs, err := cons.Messages(jetstream.PullMaxMessagesWithBytesLimit(readAheadMessages, readAheadBytes))
	if err != nil {
		return nil, fmt.Errorf("read %s from %d: %w", stream, from, err)
	}
	return newReader(msgs, shard, from, idleCheck, func(next uint64) error { return l.checkReaches(stream, next) }), nil
}

// checkReaches returns ErrGap if the log ends before next-1: it has lost its end,
// or was replaced by another. A reader would wait there for messages whose
// sequences were someone else's.
func (l *Log) checkReaches(stream string, next uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.lookWithin)
	defer cancel()
	last, _, err := l.end(ctx, stream)
	if err == nil && next > last+1 {
		return fmt.Errorf("%w: %s ends at %d, the reader is at %d", ErrGap, stream, last, next)
	}
	return nil // out of reach is not a gap
}

// newReader moves messages from the source in a goroutine of its own, because a
// source that repairs itself during an outage does not heed the context of Next.
func newReader(msgs jetstream.MessagesContext, shard int, from uint64, idle time.Duration, check func(next uint64) error) *Reader {
	r := &Reader{arrived: make(chan arrival), stopped: make(chan struct{}), end: msgs.Stop, shard: shard, next: from}
	go func() {
		defer close(r.arrived)
		next := from
		for {
			m, err := msgs.Next(jetstream.NextMaxWait(idle))
			if errors.Is(err, nats.ErrTimeout) {
				if err = check(next); err == nil {
					continue
				}
			}
			select {
			case r.arrived <- arrival{m, err}:
			case <-r.stopped:
				return
			}
			if err != nil {
				return
			}
			next++
		}
	}()
	return r
}

// Next waits for the next message. The error is ctx's, or wraps ErrGap, or says
// that the log is out of reach; after an error other than ctx's open a new Reader.
func (r *Reader) Next(ctx context.Context) (Message, error) {
	if err := ctx.Err(); err != nil {
		return Message{}, err
	}
	var a arrival
	var ok bool
	select {
	case a, ok = <-r.arrived:
	case <-ctx.Done():
		return Message{}, ctx.Err()
	case <-r.stopped:
	}
	if !ok {
		return Message{}, fmt.Errorf("read the event log at %d: %w", r.next, errReaderEnded)
	}
	if a.err != nil {
		return Message{}, fmt.Errorf("read the event log at %d: %w", r.next, a.err)
	}
	meta, err := a.m.Metadata()
	if err != nil {
		return Message{}, fmt.Errorf("read the event log at %d: %w", r.next, err)
	}
	if meta.Sequence.Stream != r.next {
		r.Stop() // whatever comes after a gap must not look like the next message
		return Message{}, fmt.Errorf("%w: expected sequence %d, got %d", ErrGap, r.next, meta.Sequence.Stream)
	}
	r.next++
	h := a.m.Headers()
	return Message{Shard: r.shard, Subject: a.m.Subject(), Seq: meta.Sequence.Stream, At: meta.Timestamp.UTC(), Data: a.m.Data(),
		more: h.Get(batchIDHeader) != "" && h.Get(batchCommitHeader) == ""}, nil
}

// Headers that a message of an atomic batch keeps in the log; its last one has
// the commit.
const (
	batchIDHeader     = "Nats-Batch-Id"
	batchCommitHeader = "Nats-Batch-Commit"
)

var errReaderEnded = errors.New("the reader has ended")

// Stop ends the reader. It is idempotent.
func (r *Reader) Stop() {
	r.stopOnce.Do(func() {
		close(r.stopped)
		r.end()
	})
}

// UsageAt reads one message of a usage shard.
func (l *Log) UsageAt(ctx context.Context, shard int, seq uint64) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, l.lookWithin)
	defer cancel()
	s, err := l.js.Stream(ctx, usageStream(shard))
	if err != nil {
		return Message{}, fmt.Errorf("look up usage shard %d: %w", shard, err)
	}
	m, err := s.GetMsg(ctx, seq)
	if err != nil {
		return Message{}, fmt.Errorf("read usage shard %d at %d: %w", shard, seq, err)
	}
	return Message{Shard: shard, Subject: m.Subject, Seq: m.Sequence, At: m.Time.UTC(), Data: m.Data}, nil
}

// UsageEnd is the sequence and time of the last message of a usage shard; zero
// when it is empty.
func (l *Log) UsageEnd(ctx context.Context, shard int) (uint64, time.Time, error) {
	return l.end(ctx, usageStream(shard))
}

// UsageLast is the sequence up to which the shard of an org holds events now.
func (l *Log) UsageLast(ctx context.Context, org uuid.UUID) (uint64, error) {
	seq, _, err := l.UsageEnd(ctx, l.Shard(org))
	return seq, err
}

// LedgerEnd is the sequence of the last record; zero when there is none.
func (l *Log) LedgerEnd(ctx context.Context) (uint64, error) {
	seq, _, err := l.end(ctx, ledgerStream)
	return seq, err
}

func (l *Log) end(ctx context.Context, stream string) (uint64, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, l.lookWithin)
	defer cancel()
	s, err := l.js.Stream(ctx, stream)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("look up %s: %w", stream, err)
	}
	state := s.CachedInfo().State
	return state.LastSeq, state.LastTime.UTC(), nil
}

// UsageKey names one usage event.
type UsageKey struct{ OrgID, ID uuid.UUID }

// AdmissionBatch is one message of the admissions stream.
type AdmissionBatch struct {
	Seq        uint64
	At         time.Time
	Admissions []Admission
	Err        error // what of the message could not be decoded; Admissions has the rest
}

// AdmissionReader yields the admissions in order.
type AdmissionReader struct {
	r *Reader
	d Decoder
}

// ReadAdmissions reads the admissions from a sequence on (1 is the first). Stop it.
func (l *Log) ReadAdmissions(ctx context.Context, from uint64) (*AdmissionReader, error) {
	r, err := l.read(ctx, admissionStream, 0, from)
	if err != nil {
		return nil, err
	}
	return &AdmissionReader{r: r}, nil
}

// Next waits for the next message; errors are those of Reader.Next.
func (a *AdmissionReader) Next(ctx context.Context) (AdmissionBatch, error) {
	m, err := a.r.Next(ctx)
	if err != nil {
		return AdmissionBatch{}, err
	}
	as, err := a.d.Admissions(m.Data)
	return AdmissionBatch{Seq: m.Seq, At: m.At, Admissions: as, Err: err}, nil
}

// Stop ends the reader. It is idempotent.
func (a *AdmissionReader) Stop() { a.r.Stop() }

// AdmissionsEnd is the sequence of the last message of admissions.
func (l *Log) AdmissionsEnd(ctx context.Context) (uint64, error) {
	seq, _, err := l.end(ctx, admissionStream)
	return seq, err
}

// followPause is the time between attempts to read a ledger that is out of reach.
const followPause = 250 * time.Millisecond

// Follow applies every record of the ledger from a sequence on, each once and in
// order, until ctx ends (it then returns ctx's error), apply fails, the log has a
// gap or the connection is closed for good. It outlasts restarts of the server.
func (l *Log) Follow(ctx context.Context, from uint64, apply func(Record) error) error {
	for {
		next, err := l.followOnce(ctx, from, apply)
		var failed *applyError
		switch {
		case errors.As(err, &failed):
			return failed.error
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrGap), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, jetstream.ErrConnectionClosed):
			return err
		}
		l.logger.Warn("ledger reader restarts", "from", next, "error", err)
		from = next
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followPause):
		}
	}
}

// applyError marks an error that reading again will not cure.
type applyError struct{ error }

func (l *Log) followOnce(ctx context.Context, from uint64, apply func(Record) error) (next uint64, err error) {
	next = max(from, 1)
	r, err := l.read(ctx, ledgerStream, 0, next)
	if err != nil {
		return next, err
	}
	defer r.Stop()
	for {
		m, err := r.Next(ctx)
		if err != nil {
			return next, err
		}
		rec, err := decodeRecord(m.Subject, m.Seq, m.Data)
		if err != nil {
			return next, &applyError{err}
		}
		rec.More = m.more
		if err := apply(rec); err != nil {
			return next, &applyError{fmt.Errorf("apply ledger sequence %d: %w", m.Seq, err)}
		}
		next = m.Seq + 1
	}
}
