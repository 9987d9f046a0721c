package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"aione/events"
)

// Admissions is the stream of admissions: events.Log.
type Admissions interface {
	ReadAdmissions(ctx context.Context, from uint64) (*events.AdmissionReader, error)
	AdmissionsEnd(ctx context.Context) (uint64, error)
}

// Settled knows which requests have a usage event: the rows of ClickHouse.
type Settled interface {
	// CaughtUp waits until the rows hold everything that was in the usage log when
	// it was called. Without it "not settled" means nothing.
	CaughtUp(ctx context.Context) error
	// Settled says for each key whether a usage event with it has been counted.
	Settled(ctx context.Context, keys []events.UsageKey) (map[events.UsageKey]bool, error)
}

// Publisher is where usage becomes durable: events.Log.
type Publisher interface {
	Publish(ctx context.Context, us []events.Usage) error
}

// Checkpoint keeps the sweeper's position over restarts. It only spares work: a
// position that is lost, or too low, makes the sweeper look again at requests it
// then finds settled.
type Checkpoint interface {
	// Load returns the first sequence that is not swept; 0 or 1 when nothing is.
	Load(ctx context.Context) (uint64, error)
	Save(ctx context.Context, next uint64) error
}

// Sweeper settles the requests whose gateway died: admitted, past their deadline,
// and without a usage event. Each is billed its admission's estimate under the
// same id, with outcome abandoned.
//
// The order makes it safe. A gateway has given up on a request for certain when
// its deadline has passed, so every usage event there will ever be is in the log
// by then; only after that the rows are asked to catch up, and only then which
// requests they hold. The event depends on nothing but the admission, so two
// sweepers, or one that crashed before it saved its position, publish exact
// duplicates, which are counted once.
type Sweeper struct {
	Admissions Admissions
	Settled    Settled
	Publisher  Publisher
	Checkpoint Checkpoint
	Now        func() time.Time
	Logger     *slog.Logger  // default slog.Default()
	Every      time.Duration // between two sweeps of Run; default 1 min
}

// Swept says what one sweep did.
type Swept struct {
	Admissions  int    // looked at
	Abandoned   int    // settled by this sweep
	Undecodable int    // messages of the admissions stream that are damaged; reported, skipped
	Next        uint64 // the first sequence of admissions that is not swept
}

const (
	sweepEvery = time.Minute
	// sweepBatch bounds the admissions settled between two saves of the position.
	sweepBatch = 2000
	// deadlineMax bounds how long one admission, whatever it says, holds up the
	// sweep of those behind it.
	deadlineMax = events.MaxDeadline
	// sweepReadMax bounds the wait for a message that the stream says it has.
	sweepReadMax = 30 * time.Second
	// sweepRowsMax bounds the wait for the rows, so that a projection that stands
	// still is reported and not waited for in silence.
	sweepRowsMax = 5 * time.Minute
)

// Run sweeps until ctx ends and returns its error. A sweep that fails is logged
// and tried again: nothing is lost by waiting.
func (s *Sweeper) Run(ctx context.Context) error {
	for {
		swept, err := s.Sweep(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.logger().Error("sweep the admissions", "next", swept.Next, "error", err)
		case swept.Abandoned > 0 || swept.Undecodable > 0:
			s.logger().Warn("abandoned requests were settled", "abandoned", swept.Abandoned, "undecodable", swept.Undecodable, "next", swept.Next)
		}
		if !sleep(ctx, orDefault(s.Every, sweepEvery)) {
			return ctx.Err()
		}
	}
}

func (s *Sweeper) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.Default()
	}
	return s.Logger
}

// Sweep settles everything that is due now. It stops at the first message with an
// admission that is not: those behind it were admitted later and wait with it.
// What it did before an error is done.
func (s *Sweeper) Sweep(ctx context.Context) (Swept, error) {
	var swept Swept
	next, err := s.Checkpoint.Load(ctx)
	if err != nil {
		return swept, fmt.Errorf("load the sweeper's position: %w", err)
	}
	swept.Next = max(next, 1)
	end, err := s.Admissions.AdmissionsEnd(ctx)
	if err != nil {
		return swept, fmt.Errorf("find the end of the admissions: %w", err)
	}
	if swept.Next > end {
		return swept, nil
	}
	reader, err := s.Admissions.ReadAdmissions(ctx, swept.Next)
	if err != nil {
		return swept, err
	}
	defer reader.Stop()
	for swept.Next <= end {
		due, more, err := s.collect(ctx, reader, &swept, end)
		if err != nil {
			return swept, err
		}
		if err := s.settleDue(ctx, due.usage, &swept); err != nil {
			return swept, err
		}
		if due.next > swept.Next {
			if err := s.Checkpoint.Save(ctx, due.next); err != nil {
				return swept, fmt.Errorf("save the sweeper's position %d: %w", due.next, err)
			}
			swept.Next = due.next
		}
		if !more {
			break
		}
	}
	return swept, nil
}

// dueBatch is what is due up to, and without, sequence next.
type dueBatch struct {
	usage []events.Usage
	next  uint64
}

// collect reads whole messages until there are enough, or the end, or one that
// holds an admission that is not due; more is false for the last two.
func (s *Sweeper) collect(ctx context.Context, reader *events.AdmissionReader, swept *Swept, end uint64) (due dueBatch, more bool, err error) {
	due.next = swept.Next
	for due.next <= end {
		if len(due.usage) >= sweepBatch {
			return due, true, nil
		}
		b, err := next(ctx, reader)
		if err != nil {
			return due, false, fmt.Errorf("read the admissions: %w", err)
		}
		switch {
		case errors.Is(b.Err, events.ErrNewerEvent):
			// A newer sweeper understands it; this one must not pass it by.
			return due, false, nil
		case b.Err != nil:
			s.logger().Error("an admission cannot be read; if its request was abandoned it is not billed", "sequence", b.Seq, "error", b.Err)
			swept.Undecodable++
		case !s.allDue(b):
			return due, false, nil
		}
		for _, a := range b.Admissions {
			due.usage = append(due.usage, abandoned(a))
		}
		due.next = b.Seq + 1
	}
	return due, false, nil
}

func next(ctx context.Context, reader *events.AdmissionReader) (events.AdmissionBatch, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepReadMax)
	defer cancel()
	return reader.Next(ctx)
}

// allDue reports whether the deadlines of a message have passed. A clock that was
// ahead when a request was admitted, or a deadline without measure, holds things
// up by deadlineMax at most, counted from when the log stored the message.
func (s *Sweeper) allDue(b events.AdmissionBatch) bool {
	now := s.Now()
	for _, a := range b.Admissions {
		due := a.Estimate.OccurredAt.Add(min(a.Deadline, deadlineMax))
		if now.Before(due) && now.Before(b.At.Add(deadlineMax)) {
			return false
		}
	}
	return true
}

// abandoned is the usage event of a request that nobody settled. It is a function
// of the admission alone.
func abandoned(a events.Admission) events.Usage {
	u := a.Estimate
	u.ID = a.ID
	u.Outcome, u.Source = events.OutcomeAbandoned, events.SourceEstimated
	return u
}

// settleDue publishes those that have no usage event.
func (s *Sweeper) settleDue(ctx context.Context, due []events.Usage, swept *Swept) error {
	if len(due) == 0 {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, sweepRowsMax)
	defer cancel()
	if err := s.Settled.CaughtUp(wait); err != nil {
		return fmt.Errorf("wait for the usage rows: %w", err)
	}
	keys := make([]events.UsageKey, len(due))
	for i, u := range due {
		keys[i] = events.UsageKey{OrgID: u.OrgID, ID: u.ID}
	}
	settled, err := s.Settled.Settled(ctx, keys)
	if err != nil {
		return fmt.Errorf("ask which requests are settled: %w", err)
	}
	var left []events.Usage
	for i, u := range due {
		if !settled[keys[i]] {
			left = append(left, u)
		}
	}
	swept.Admissions += len(due)
	if len(left) == 0 {
		return nil
	}
	if err := s.Publisher.Publish(ctx, left); err != nil {
		return fmt.Errorf("settle %d abandoned requests: %w", len(left), err)
	}
	swept.Abandoned += len(left)
	return nil
}
