package analytics

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// LogEnd is what a Projection asks of the event log: where its shards end.
type LogEnd interface {
	Shards() int
	Shard(org uuid.UUID) int
	UsageEnd(ctx context.Context, shard int) (uint64, time.Time, error)
}

// Projection is the Store together with the log it is a projection of, and so
// knows how far behind it is.
type Projection struct {
	*Store
	Log LogEnd
}

// caughtUpPoll is how often a wait for the ingester looks again.
const caughtUpPoll = 20 * time.Millisecond

// Watermark says how far an answer about an org has counted, so that "nothing
// used" is told apart from "metering is behind".
type Watermark struct {
	Seq            uint64    // the last envelope counted
	End            uint64    // the last envelope in the log
	CountedThrough time.Time // when the last envelope counted was written to the log; zero when there is none
}

// Behind is the number of envelopes not counted yet.
func (w Watermark) Behind() uint64 { return w.End - min(w.Seq, w.End) }

// Watermark reads how far the org's shard is counted. The rows are read first, so
// Behind may be too large by what arrived since, never too small.
func (p Projection) Watermark(ctx context.Context, org uuid.UUID) (Watermark, error) {
	shard := p.Log.Shard(org)
	c, err := p.Checkpoint(ctx, shard)
	if err != nil {
		return Watermark{}, err
	}
	end, _, err := p.Log.UsageEnd(ctx, shard)
	if err != nil {
		return Watermark{}, err
	}
	return Watermark{Seq: c.Seq, End: end, CountedThrough: c.RecordedAt}, nil
}

// CountedShard is the sequence of a shard up to which everything is in rows.
func (p Projection) CountedShard(ctx context.Context, shard int) (uint64, error) {
	c, err := p.Checkpoint(ctx, shard)
	return c.Seq, err
}

// CaughtUp waits until the rows hold everything that was in the log when it was
// called.
func (p Projection) CaughtUp(ctx context.Context) error {
	for shard := range p.Log.Shards() {
		end, _, err := p.Log.UsageEnd(ctx, shard)
		if err != nil {
			return err
		}
		for {
			c, err := p.Checkpoint(ctx, shard)
			if err != nil {
				return err
			}
			if c.Seq >= end {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(caughtUpPoll):
			}
		}
	}
	return nil
}
