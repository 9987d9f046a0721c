package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"aione/analytics/idset"
	"aione/events"
)

// UsageLog is what the ingester reads: one shard of the event log.
type UsageLog interface {
	ReadUsage(ctx context.Context, shard int, from uint64) (*events.Reader, error)
}

// Lease says whether this process may write rows of its shard now. Losing it
// cancels the context that the ingester runs under; Valid is asked once more
// before each insert.
type Lease interface {
	// Valid is false when another process may hold the lease already, or may
	// before an insert that starts now has ended.
	Valid() bool
	// Until is when an insert must have reached ClickHouse: the lease may be another
	// process's soon after. ClickHouse refuses what comes later.
	Until() time.Time
	// Fence is larger for each holder than for all before it.
	Fence() uint64
}

// ErrLeaseLost is returned when the lease ended before a batch was written. The
// batch has not been written.
var ErrLeaseLost = errors.New("the lease of the shard is lost")

// errMoved makes the ingester read the checkpoint again: the rows do not end
// where the batch at hand begins. Someone else has written, or an insert that was
// reported as done is not there.
var errMoved = errors.New("the rows do not end where the next batch begins")

// Defaults of an Ingester.
const (
	DefaultBatchRows = 100_000
	DefaultBatchAge  = 100 * time.Millisecond

	batchesInFlight = 2 // one is inserted while the next one fills
	messagesAhead   = 4 // decoded next; each is at most a few megabytes
	retryPauseMin   = 50 * time.Millisecond
	retryPauseMax   = 5 * time.Second
)

// Ingester copies one shard of the event log into ClickHouse rows, exactly once.
// Set the fields, then call Run once.
type Ingester struct {
	Log   UsageLog
	Store *Store
	Shard int
	Lease Lease // nil when nothing else can write the table, as in a rebuild

	BatchRows int           // rows of one INSERT; default DefaultBatchRows, at most insertRowsMax
	BatchAge  time.Duration // how long the first row of a batch waits for more; default DefaultBatchAge
	Until     uint64        // stop after this sequence; 0: run until ctx ends
	Logger    *slog.Logger

	// Failpoint, if set, is called at every commit step and may fail or kill the
	// process there: "fetched", "before_insert", "after_insert".
	Failpoint func(step string) error

	recordedAtOf func(events.Message) time.Time // for tests; nil: Message.At

	seen       *idset.Set
	seenTo     uint64    // the filter holds every id of the log up to this sequence
	recordedAt time.Time // of the last row; clamps the next ones
	unsure     span      // the batch whose insert failed: it is in, or it is not

	done atomic.Uint64 // last sequence known to be in rows
	rows atomic.Uint64 // rows inserted by this run
}

// batch is a run of whole envelopes that goes into one INSERT.
type batch struct {
	rows        rows
	first, last uint64
	month       int // partition: year*12 + month of recorded_at
}

// span is a run of stream sequences; zero when there is none.
type span struct{ first, last uint64 }

// Done is the last sequence known to be in rows.
func (in *Ingester) Done() uint64 { return in.done.Load() }

// Rows is how many rows this run has inserted.
func (in *Ingester) Rows() uint64 { return in.rows.Load() }

// MemoryBytes is what the duplicate filter holds; call it only after Run.
func (in *Ingester) MemoryBytes() uint64 {
	if in.seen == nil {
		return 0
	}
	return in.seen.MemoryBytes()
}

// Run ingests until ctx ends (it then returns ctx's error), Until is reached
// (nil), or something happens that a restart from the checkpoint would not mend.
// ClickHouse or the log out of reach is waited for.
func (in *Ingester) Run(ctx context.Context) error {
	if in.BatchRows == 0 {
		in.BatchRows = DefaultBatchRows
	}
	if in.BatchAge == 0 {
		in.BatchAge = DefaultBatchAge
	}
	if in.Logger == nil {
		in.Logger = slog.Default()
	}
	in.BatchRows = min(in.BatchRows, insertRowsMax/2)
	pause := retryPauseMin
	for {
		before := in.done.Load()
		err := in.runOnce(ctx)
		if err == nil || ctx.Err() != nil || isFinal(err) {
			return err
		}
		if in.done.Load() > before {
			pause = retryPauseMin
		}
		in.Logger.Warn("ingest starts again from the checkpoint", "shard", in.Shard, "done", in.done.Load(), "pause", pause, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, retryPauseMax)
	}
}

// isFinal reports whether starting again from the checkpoint would not help.
func isFinal(err error) bool {
	return errors.Is(err, ErrTorn) || errors.Is(err, ErrLeaseLost) || errors.Is(err, events.ErrGap) || isTableGone(err)
}

// runOnce reads the checkpoint and ingests from it until the first error.
func (in *Ingester) runOnce(ctx context.Context) error {
	// First of all: a holder that was replaced must not end its successor's inserts.
	if in.Lease != nil && !in.Lease.Valid() {
		return ErrLeaseLost
	}
	if err := in.Store.killInserts(ctx, in.queryPrefix()); err != nil {
		return err
	}
	at, err := in.Store.Checkpoint(ctx, in.Shard)
	if err != nil {
		return err
	}
	if in.unsure.last != 0 && at.Seq != in.unsure.last && at.Seq != in.unsure.first-1 {
		if in.Lease != nil && !in.Lease.Valid() {
			return ErrLeaseLost // what is there is the next holder's
		}
		return fmt.Errorf("%w: batch %d to %d was in doubt, now the rows end at %d", ErrTorn, in.unsure.first, in.unsure.last, at.Seq)
	}
	in.unsure = span{}
	in.done.Store(at.Seq)
	in.recordedAt = at.RecordedAt
	if in.Until != 0 && at.Seq >= in.Until {
		return nil
	}
	if err := in.remember(ctx, at.Seq); err != nil {
		return err
	}
	reader, err := in.Log.ReadUsage(ctx, in.Shard, at.Seq+1)
	if err != nil {
		return err
	}
	defer reader.Stop()

	messages := make(chan events.Message, messagesAhead)
	batches := make(chan *batch)
	free := make(chan *batch, batchesInFlight)
	for range batchesInFlight {
		free <- new(batch)
	}
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(messages)
		return in.fetch(running, reader, messages)
	})
	g.Go(func() error {
		defer close(batches)
		f := filler{in: in, out: batches, free: free}
		return f.run(running, messages)
	})
	g.Go(func() error { return in.drain(running, batches, free) })
	if err := g.Wait(); err != nil {
		return err
	}
	// Until is reached. The last insert has no next one to find that it is not there.
	if at, err = in.Store.Checkpoint(ctx, in.Shard); err != nil {
		return err
	}
	if at.Seq < in.Until {
		return fmt.Errorf("%w: they end at %d, the last batch at %d", errMoved, at.Seq, in.Done())
	}
	return nil
}

// remember loads the ids counted so far into the filter, unless it holds them:
// what the filter remembers of a batch that then failed is harmless, since the
// exact look-up decides, but an id of rows that another process has written would
// be counted twice.
func (in *Ingester) remember(ctx context.Context, through uint64) error {
	if in.seen != nil && through <= in.seenTo {
		return nil
	}
	seen := idset.New(idset.Options{})
	chunks := make(chan []uint64)
	g, reading := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(chunks)
		return in.Store.idHashes(reading, in.Shard, chunks)
	})
	for hashes := range chunks {
		seen.AddAll(hashes)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	in.seen, in.seenTo = seen, through
	return nil
}

func (in *Ingester) fetch(ctx context.Context, reader *events.Reader, out chan<- events.Message) error {
	for {
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case out <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
		if in.Until != 0 && m.Seq >= in.Until {
			return nil
		}
	}
}

// drain inserts the batches, one after the other.
func (in *Ingester) drain(ctx context.Context, batches <-chan *batch, free chan<- *batch) error {
	for b := range batches {
		if err := in.failpoint("fetched"); err != nil {
			return err
		}
		if err := in.classify(ctx, &b.rows); err != nil {
			return err
		}
		if err := in.commit(ctx, b); err != nil {
			return err
		}
		free <- b
	}
	return ctx.Err()
}

// classify decides which suspects are copies or conflicts. All rows before this
// batch are in ClickHouse by now, so the look-up is exact.
func (in *Ingester) classify(ctx context.Context, r *rows) error {
	if len(r.suspects) == 0 {
		return nil
	}
	suspicious := make(map[uint64]struct{}, len(r.suspects))
	hashes := make([]uint64, 0, len(r.suspects))
	for _, i := range r.suspects {
		if _, ok := suspicious[r.idHash[i]]; !ok {
			suspicious[r.idHash[i]] = struct{}{}
			hashes = append(hashes, r.idHash[i])
		}
	}
	known, err := in.Store.digests(ctx, hashes)
	if err != nil {
		return err
	}
	for i, hash := range r.idHash {
		if r.disposition[i] == undecodable {
			continue
		}
		if _, ok := suspicious[hash]; !ok {
			continue
		}
		key := events.UsageKey{OrgID: r.org[i], ID: r.event[i]}
		digest, ok := known[key]
		switch {
		case !ok: // the first of its kind
			known[key] = r.digest[i]
		case digest == r.digest[i]:
			r.disposition[i] = duplicate
		default:
			r.disposition[i] = conflict
			r.reason[i] = fmt.Sprintf("event id was counted before with another body (digest %016x, now %016x)", digest, r.digest[i])
		}
	}
	return nil
}

func (in *Ingester) queryPrefix() string {
	return fmt.Sprintf("ingest/%s/%d/", in.Store.database, in.Shard) // a dash may be in a name
}

// commit inserts a batch. The rows must end where it begins: that turns a zombie
// back that wakes after others have written, however late, and finds an insert
// that was answered as done and is not there. It is no lock: what starts in the
// few milliseconds after it is the lease's matter, and the audit's.
func (in *Ingester) commit(ctx context.Context, b *batch) error {
	at, err := in.Store.Checkpoint(ctx, in.Shard)
	if err != nil {
		return err
	}
	if at.Seq != b.first-1 {
		return fmt.Errorf("%w: they end at %d, the batch is %d to %d", errMoved, at.Seq, b.first, b.last)
	}
	if err := in.failpoint("before_insert"); err != nil {
		return err
	}
	fence, by := uint64(0), forEver
	if in.Lease != nil {
		if !in.Lease.Valid() { // last of all, with nothing but the insert after it
			return ErrLeaseLost
		}
		fence, by = in.Lease.Fence(), in.Lease.Until()
	}
	queryID := fmt.Sprintf("%s%d-%d-%d", in.queryPrefix(), fence, b.first, b.last)
	err = in.Store.insert(ctx, queryID, &b.rows, by)
	if err == nil {
		err = in.failpoint("after_insert")
	}
	if err != nil {
		// Unknown: it may be in, it may still be running. Whoever reads the checkpoint
		// next ends what runs first (runOnce).
		in.unsure = span{b.first, b.last}
		return fmt.Errorf("batch %d to %d: %w", b.first, b.last, err)
	}
	in.done.Store(b.last)
	in.rows.Add(uint64(b.rows.len()))
	return nil
}

func (in *Ingester) failpoint(step string) error {
	if in.Failpoint == nil {
		return nil
	}
	return in.Failpoint(step)
}
