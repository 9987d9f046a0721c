package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"aione/analytics"
	"aione/events"
)

// IngestConfig of the ingest role.
type IngestConfig struct {
	BatchRows int           `name:"batch-rows" env:"AIONE_BATCH_ROWS" default:"100000" help:"Rows of one INSERT at most."`
	BatchAge  time.Duration `name:"batch-age" env:"AIONE_BATCH_AGE" default:"100ms" help:"How long the first row of a batch waits for more."`
	LeaseTTL  time.Duration `name:"lease-ttl" env:"AIONE_LEASE_TTL" default:"10s" help:"How long a dead ingester's shard waits for the next one."`
}

// writerPause is how long the writer of a shard rests after an error that a
// restart does not mend; the API goes on serving what is there.
const writerPause = 30 * time.Second

// rebuildLease is how long the shards stay without a writer should a rebuild die.
const rebuildLease = 10 * time.Second

// Ingest copies every shard of the log into rows until ctx ends. Of several
// processes one works on a shard at a time; the others wait.
func (n *Node) Ingest(ctx context.Context, c IngestConfig) error {
	g, ctx := errgroup.WithContext(ctx)
	for shard := range n.Log.Shards() {
		g.Go(func() error { return n.ingestShard(ctx, shard, c) })
	}
	return g.Wait()
}

func (n *Node) ingestShard(ctx context.Context, shard int, c IngestConfig) error {
	for {
		lease, err := n.Log.WaitLease(ctx, n.leaseOptions(shard, c.LeaseTTL))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n.Logger.Warn("cannot take the lease of the shard", "shard", shard, "error", err)
			if !pause(ctx, time.Second) {
				return ctx.Err()
			}
			continue
		}
		err = n.ingestWhile(ctx, lease, shard, c)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, analytics.ErrLeaseLost):
			n.Logger.Info("the shard's lease went to another process", "shard", shard)
		default:
			n.Logger.Error("the shard's writer stops; run `aione verify`, then `aione rebuild`", "shard", shard, "error", err, "again_in", writerPause)
			if !pause(ctx, writerPause) {
				return ctx.Err()
			}
		}
	}
}

func (n *Node) leaseOptions(shard int, ttl time.Duration) events.LeaseOptions {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return events.LeaseOptions{Name: fmt.Sprintf("ingest-%d", shard), Holder: fmt.Sprintf("%s/%d", host, os.Getpid()), TTL: ttl, Now: time.Now}
}

// ingestWhile ingests for as long as the lease is held.
func (n *Node) ingestWhile(ctx context.Context, lease *events.Lease, shard int, c IngestConfig) error {
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-lease.Lost():
			cancel(analytics.ErrLeaseLost)
		case <-held.Done():
		}
	}()
	in := &analytics.Ingester{Log: n.Log, Store: n.Projection.Store, Shard: shard, Lease: lease,
		BatchRows: c.BatchRows, BatchAge: c.BatchAge, Logger: n.Logger}
	err := in.Run(held)
	if errors.Is(context.Cause(held), analytics.ErrLeaseLost) {
		err = analytics.ErrLeaseLost
	}
	release, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	if releaseErr := lease.Release(release); releaseErr != nil {
		n.Logger.Warn("the lease was not given back; it expires by itself", "shard", shard, "error", releaseErr)
	}
	return err
}

// Alone takes the leases of all shards from whoever holds them, for a rebuild.
func (n *Node) Alone(ctx context.Context, ttl time.Duration) (release func(), err error) {
	var held []*events.Lease
	release = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		for _, l := range held {
			if err := l.Release(ctx); err != nil {
				n.Logger.Warn("a lease was not given back; it expires by itself", "error", err)
			}
		}
	})
	for shard := range n.Log.Shards() {
		o := n.leaseOptions(shard, ttl)
		o.Urgent = true
		l, err := n.Log.WaitLease(ctx, o)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, l)
	}
	return release, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Rebuild makes the rows anew from the log, compares and exchanges them.
func (n *Node) Rebuild(ctx context.Context, compareOnly bool, progress func(done, total uint64)) (analytics.RebuildReport, error) {
	return analytics.Rebuild{Store: n.Projection.Store, Log: n.Log, CompareOnly: compareOnly, Progress: progress,
		Alone: func(ctx context.Context) (func(), error) { return n.Alone(ctx, rebuildLease) },
	}.Run(ctx)
}
