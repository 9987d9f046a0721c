package analytics

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"
)

// Rebuild makes the rows anew from the log, in a database of their own, and then
// exchanges them with the old ones in one step. The old rows serve until then.
type Rebuild struct {
	Store *Store
	Log   AuditLog

	// Alone takes the leases of all shards, so that nothing else writes rows, and
	// returns how to give them back. It is called when the new rows have nearly
	// caught up; the exchange waits for it.
	Alone func(ctx context.Context) (release func(), err error)

	CompareOnly bool // leave the old rows in place
	Progress    func(done, total uint64)
}

// Contents sums up the rows of a shard, to compare one table with another.
type Contents struct {
	Rows        uint64          `json:"rows"`
	Counted     uint64          `json:"counted"`
	Duplicates  uint64          `json:"duplicates"`
	Conflicts   uint64          `json:"conflicts"`
	Undecodable uint64          `json:"undecodable"`
	Digest      uint64          `json:"digest"` // of every row, whatever their order
	Cost        decimal.Decimal `json:"cost"`   // Σ of what is counted
}

// RebuildReport says what a rebuild found.
type RebuildReport struct {
	Shards      []ShardRebuild `json:"shards"`
	Same        bool           `json:"same"` // the old rows were right, as far as they went
	Exchanged   bool           `json:"exchanged"`
	Rows        uint64         `json:"rows"`         // made anew
	FilterBytes uint64         `json:"filter_bytes"` // memory of the duplicate filters
}

// ShardRebuild compares the rows of one shard up to where the old ones went.
type ShardRebuild struct {
	Shard   int      `json:"shard"`
	Through uint64   `json:"through"`
	Before  Contents `json:"before"`
	After   Contents `json:"after"`
	Same    bool     `json:"same"`
}

const selectContents = `
SELECT count(), countIf(disposition = 'counted'), countIf(disposition = 'duplicate'), countIf(disposition = 'conflict'),
    countIf(disposition = 'undecodable'),
    sumWithOverflow(sipHash64(stream_seq, idx, disposition, org_id, event_id, digest, cost, occurred_at, recorded_at)),
    sumIf(cost, disposition = 'counted')
FROM usage_events
WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64}`

// Contents sums up a shard's rows up to a sequence.
func (s *Store) Contents(ctx context.Context, shard int, through uint64) (Contents, error) {
	var c Contents
	params := clickhouse.Parameters{"shard": fmt.Sprint(shard), "through": fmt.Sprint(through)}
	err := s.conn.QueryRow(s.query(ctx, params), selectContents).Scan(
		&c.Rows, &c.Counted, &c.Duplicates, &c.Conflicts, &c.Undecodable, &c.Digest, &c.Cost)
	if err != nil {
		return Contents{}, fmt.Errorf("sum up the rows of shard %d: %w", shard, err)
	}
	return c, nil
}

func (c Contents) equal(d Contents) bool {
	same := c.Cost.Equal(d.Cost)
	c.Cost, d.Cost = decimal.Zero, decimal.Zero
	return same && c == d
}

// Run rebuilds. It is idempotent: an interrupted one leaves the old rows as they
// were, and the next one starts afresh.
func (r Rebuild) Run(ctx context.Context) (RebuildReport, error) {
	var report RebuildReport
	name := r.Store.database + "_rebuild"
	named := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"old": r.Store.database, "new": name}))
	if err := r.Store.conn.Exec(named, "DROP DATABASE IF EXISTS {new:Identifier} SYNC"); err != nil {
		return report, fmt.Errorf("clear an earlier rebuild: %w", err)
	}
	options := *r.Store.options
	options.Auth.Database = name
	fresh, err := open(ctx, &options, r.Store.logger)
	if err != nil {
		return report, fmt.Errorf("open the database of the rebuild: %w", err)
	}
	defer fresh.Close()
	if err := r.fill(ctx, fresh, &report); err != nil {
		return report, err
	}
	release, err := r.Alone(ctx)
	if err != nil {
		return report, fmt.Errorf("stop other writers: %w", err)
	}
	defer release()
	if err := r.fill(ctx, fresh, &report); err != nil { // what came since
		return report, err
	}
	if err := r.compare(ctx, fresh, &report); err != nil {
		return report, err
	}
	if !r.CompareOnly {
		if err := r.Store.conn.Exec(named, "EXCHANGE TABLES {old:Identifier}.usage_events AND {new:Identifier}.usage_events"); err != nil {
			return report, fmt.Errorf("exchange the rows: %w", err)
		}
		report.Exchanged = true
	}
	if err := r.Store.conn.Exec(named, "DROP DATABASE IF EXISTS {new:Identifier} SYNC"); err != nil {
		return report, fmt.Errorf("drop the other rows: %w", err)
	}
	return report, nil
}

// compare lays the new rows beside the old ones, as far as those went.
func (r Rebuild) compare(ctx context.Context, fresh *Store, report *RebuildReport) error {
	report.Same = true
	for shard := range r.Log.Shards() {
		old, err := r.Store.Checkpoint(ctx, shard)
		if err != nil {
			return err
		}
		c := ShardRebuild{Shard: shard, Through: old.Seq}
		if c.Before, err = r.Store.Contents(ctx, shard, old.Seq); err != nil {
			return err
		}
		if c.After, err = fresh.Contents(ctx, shard, old.Seq); err != nil {
			return err
		}
		c.Same = c.Before.equal(c.After)
		report.Same = report.Same && c.Same
		report.Shards = append(report.Shards, c)
	}
	return nil
}

// fill ingests every shard up to the end of its log.
func (r Rebuild) fill(ctx context.Context, fresh *Store, report *RebuildReport) error {
	g, ctx := errgroup.WithContext(ctx)
	var rows, bytes atomic.Uint64
	for shard := range r.Log.Shards() {
		end, _, err := r.Log.UsageEnd(ctx, shard)
		if err != nil {
			return err
		}
		if end == 0 {
			continue
		}
		in := &Ingester{Log: r.Log, Store: fresh, Shard: shard, Until: end, BatchRows: insertRowsMax / 4, BatchAge: time.Second, Logger: r.Store.logger}
		g.Go(func() error {
			stop := r.watch(in, end)
			defer stop()
			err := in.Run(ctx)
			rows.Add(in.Rows())
			if in.seen != nil {
				bytes.Add(in.MemoryBytes())
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("rebuild from the log: %w", err)
	}
	report.Rows += rows.Load()
	report.FilterBytes = bytes.Load()
	return nil
}

// watch reports the progress of one shard until stop is called.
func (r Rebuild) watch(in *Ingester, end uint64) (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				r.Progress(in.Done(), end)
			}
		}
	}()
	return func() { close(done) }
}
