package analytics

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
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
	Digest      uint64          `json:"digest,string"` // of every row, whatever their order; too large a number for some readers of JSON
	Cost        decimal.Decimal `json:"cost"`          // Σ of what is counted
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
    sumWithOverflow(xxh3(stream_seq, idx, disposition, org_id, team_id, key_id, event_id, operation_id, digest,
        model, provider, price_version, currency, cost, occurred_at, recorded_at,
        input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, images,
        outcome, usage_source, http_status, latency_ms, ttft_ms, latency_class, ttft_class, stream, producer, external_id, retried)),
    sumIf(cost, disposition = 'counted')
FROM usage_events
WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64}`

// Contents sums up a shard's rows up to a sequence.
func (s *Store) Contents(ctx context.Context, shard int, through uint64) (Contents, error) {
	var c Contents
	params := clickhouse.Parameters{"shard": fmt.Sprint(shard), "through": fmt.Sprint(through)}
	err := s.conn.QueryRow(s.scan(ctx, params), selectContents).Scan(
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
// were, and the next one starts afresh. Two at once do not meet: each has a
// database of its own, and the one that began first fails.
func (r Rebuild) Run(ctx context.Context) (RebuildReport, error) {
	var report RebuildReport
	if err := r.dropOthers(ctx); err != nil {
		return report, err
	}
	options := *r.Store.options
	options.Auth.Database = r.prefix() + strings.ReplaceAll(uuid.NewString(), "-", "")
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
	named := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"old": r.Store.database, "new": fresh.database}))
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

func (r Rebuild) prefix() string { return r.Store.database + "_rebuild_" }

// dropOthers drops what interrupted rebuilds have left.
func (r Rebuild) dropOthers(ctx context.Context) error {
	found, err := r.Store.conn.Query(r.Store.query(ctx, clickhouse.Parameters{"prefix": r.prefix()}),
		"SELECT name FROM system.databases WHERE startsWith(name, {prefix:String})")
	if err != nil {
		return fmt.Errorf("look for an earlier rebuild: %w", err)
	}
	defer found.Close()
	var names []string
	for found.Next() {
		var name string
		if err := found.Scan(&name); err != nil {
			return fmt.Errorf("look for an earlier rebuild: %w", err)
		}
		names = append(names, name)
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("look for an earlier rebuild: %w", err)
	}
	for _, name := range names {
		named := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"name": name}))
		if err := r.Store.conn.Exec(named, "DROP DATABASE IF EXISTS {name:Identifier} SYNC"); err != nil {
			return fmt.Errorf("clear an earlier rebuild: %w", err)
		}
	}
	return nil
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
	var ingesters []*Ingester
	var total uint64
	for shard := range r.Log.Shards() {
		end, _, err := r.Log.UsageEnd(ctx, shard)
		if err != nil {
			return err
		}
		if end == 0 {
			continue
		}
		total += end
		ingesters = append(ingesters, &Ingester{Log: r.Log, Store: fresh, Shard: shard, Until: end,
			BatchRows: rebuildBatchRows, BatchAge: time.Second, Logger: r.Store.logger})
	}
	defer r.watch(ingesters, total)()
	g, ctx := errgroup.WithContext(ctx)
	for _, in := range ingesters {
		g.Go(func() error { return in.Run(ctx) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("rebuild from the log: %w", err)
	}
	var filters uint64
	for _, in := range ingesters {
		report.Rows += in.Rows()
		filters += in.MemoryBytes()
	}
	report.FilterBytes = max(report.FilterBytes, filters)
	return nil
}

const (
	rebuildBatchRows = insertRowsMax / 4
	progressEvery    = 250 * time.Millisecond
)

// watch reports how many envelopes are done until the function it returns is
// called, which waits for the last report.
func (r Rebuild) watch(ingesters []*Ingester, total uint64) (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for ending := false; !ending; {
			select {
			case <-done:
				ending = true
			case <-tick.C:
			}
			var n uint64
			for _, in := range ingesters {
				n += in.Done()
			}
			r.Progress(n, total)
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}
