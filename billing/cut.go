package billing

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// cut is up to where the usage of a shard is counted, or why it is not.
type cut struct {
	seq uint64
	err error
}

// takeCuts decides up to where usage is counted: the end of each shard now. It
// returns when the projection has counted that far, or has been waited for long
// enough.
func (r *run) takeCuts(ctx context.Context, ids []uuid.UUID) map[int]cut {
	cuts := make(map[int]cut)
	for _, id := range ids {
		shard := r.Log.Shard(id)
		if _, ok := cuts[shard]; !ok {
			var c cut
			c.seq, _, c.err = r.Log.UsageEnd(ctx, shard)
			cuts[shard] = c
		}
	}
	pricesErr := r.waitForPrices(ctx)
	for shard, c := range cuts {
		if c.err == nil {
			c.err = pricesErr
		}
		if c.err == nil {
			c.err = r.waitForCount(ctx, shard, c.seq)
		}
		cuts[shard] = c
	}
	return cuts
}

// waitForPrices returns when each price that usage before a cut taken earlier was
// stamped with is known: it was in the ledger before that usage was in the log.
func (r *run) waitForPrices(ctx context.Context) error {
	end, err := r.Log.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	if err := r.Book.WaitFor(ctx, end); err != nil {
		return err
	}
	return r.Prices.WaitFor(ctx, end)
}

const countedPollInterval = 50 * time.Millisecond

func (r *run) waitForCount(ctx context.Context, shard int, seq uint64) error {
	for {
		counted, err := r.Usage.CountedShard(ctx, shard)
		if err != nil {
			return err
		}
		if counted >= seq {
			return nil
		}
		select {
		case <-r.patience.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: counted up to %d of %d", ErrMeteringBehind, counted, seq)
		case <-time.After(countedPollInterval):
		}
	}
}
