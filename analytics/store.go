package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"aione/events"
	"aione/migrations"
)

// Settings that matter are pinned on every statement: their defaults have moved
// between releases, and each of them decides whether rows land once.
var (
	insertSettings = clickhouse.Settings{
		"async_insert":                    0,
		"deduplicate_insert":              "disable", // the checkpoint is what makes inserts exact
		"max_insert_block_size":           insertRowsMax,
		"min_insert_block_size_rows":      insertRowsMax,
		"min_insert_block_size_bytes":     0,
		"max_insert_threads":              1,
		"max_partitions_per_insert_block": 1,
		"max_execution_time":              int(insertTimeMax.Seconds()),
	}
	querySettings = clickhouse.Settings{
		"optimize_use_projections": 1,
		"max_execution_time":       60,
	}
	// scanSettings are for questions about all rows, whose answers are read no
	// faster than the log beside them: only the caller's context bounds them.
	scanSettings = clickhouse.Settings{
		"optimize_use_projections": 1,
		"max_execution_time":       0,
	}
)

const (
	// insertTimeMax bounds an insert on the server; the client waits a little
	// longer, so that a server out of reach cannot hold the ingester for ever.
	insertTimeMax  = 2 * time.Minute
	insertWaitMax  = insertTimeMax + 10*time.Second
	answerStartMax = 10 * time.Minute // until the first row of an answer
)

// insertRowsMax bounds one INSERT; up to it ClickHouse makes one block of it,
// and so one part.
const insertRowsMax = 1 << 20

// ErrTorn is returned when a batch whose insert was in doubt is found to be
// neither in nor out: something other than the ingester has written to the
// table. Rebuild mends it.
var ErrTorn = errors.New("the rows do not end at a batch of this ingester")

// Store is the ClickHouse side. It is safe for concurrent use.
type Store struct {
	conn     driver.Conn
	options  *clickhouse.Options
	database string
	logger   *slog.Logger
	force    bool // for tests: only projections may answer
}

// Open applies the migrations to the database that dsn names and connects. The
// error wraps migrations.ErrTooOld if the server is too old.
func Open(ctx context.Context, dsn string, logger *slog.Logger) (*Store, error) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the ClickHouse DSN: %w", err)
	}
	return open(ctx, options, logger)
}

func open(ctx context.Context, options *clickhouse.Options, logger *slog.Logger) (*Store, error) {
	if options.Auth.Database == "" {
		options.Auth.Database = "default"
	}
	options.MaxOpenConns, options.MaxIdleConns = 16, 16
	if options.ReadTimeout == 0 {
		options.ReadTimeout = answerStartMax
	}
	if err := migrations.Apply(ctx, options); err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse: %w", err)
	}
	if logger == nil {
		logger = slog.Default()
	}
	return &Store{conn: conn, options: options, database: options.Auth.Database, logger: logger}, nil
}

// Close closes the connections. It is idempotent.
func (s *Store) Close() error { return s.conn.Close() }

// Ping asks whether ClickHouse answers.
func (s *Store) Ping(ctx context.Context) error { return s.conn.Ping(ctx) }

func (s *Store) query(ctx context.Context, params clickhouse.Parameters) context.Context {
	settings := querySettings
	if s.force {
		settings = maps.Clone(settings)
		settings["force_optimize_projection"] = 1
	}
	return clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithParameters(params))
}

// scan is query for questions about all rows.
func (s *Store) scan(ctx context.Context, params clickhouse.Parameters) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(scanSettings), clickhouse.WithParameters(params))
}

// Codes of ClickHouse's exceptions that are told apart.
const (
	codeUnknownTable      = 60
	codeUnknownDatabase   = 81
	codeProjectionNotUsed = 584
)

// isTableGone reports whether the table is not there: dropped, or replaced by a
// rebuild that began since.
func isTableGone(err error) bool {
	var e *clickhouse.Exception
	return errors.As(err, &e) && (e.Code == codeUnknownTable || e.Code == codeUnknownDatabase)
}

// hasNoProjection reports whether no part has the projection that a question must be
// answered by.
func hasNoProjection(err error) bool {
	var e *clickhouse.Exception
	return errors.As(err, &e) && e.Code == codeProjectionNotUsed
}

// Checkpoint says how far the rows of a shard go.
type Checkpoint struct {
	First, Seq uint64    // stream sequences of the first and last envelope; 0 when there are no rows
	RecordedAt time.Time // of the last envelope
	Rows       uint64
}

const selectCheckpoint = `
SELECT min(stream_seq), max(stream_seq), max(recorded_at), count()
FROM usage_events
WHERE shard = {shard:UInt16}`

// Checkpoint reads how far the rows of a shard go, from the rows.
func (s *Store) Checkpoint(ctx context.Context, shard int) (Checkpoint, error) {
	var c Checkpoint
	ctx = s.query(ctx, clickhouse.Parameters{"shard": fmt.Sprint(shard)})
	err := s.conn.QueryRow(ctx, selectCheckpoint).Scan(&c.First, &c.Seq, &c.RecordedAt, &c.Rows)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read the checkpoint of shard %d: %w", shard, err)
	}
	if c.Rows == 0 {
		return Checkpoint{}, nil
	}
	return c, nil
}

// forEver is the deadline of an insert that nobody else can come in between.
var forEver = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// insert lands the batch, whole or not at all; the server refuses it if it comes
// later than by. After an error the caller does not know which, and must read the
// checkpoint.
func (s *Store) insert(ctx context.Context, queryID string, r *rows, by time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, insertWaitMax)
	defer cancel()
	// With the types at hand the driver need not ask for them before every insert.
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings), clickhouse.WithQueryID(queryID),
		clickhouse.WithColumnNamesAndTypes(insertColumns))
	batch, err := s.conn.PrepareBatch(ctx, insertRows)
	if err != nil {
		return fmt.Errorf("prepare insert: %w", err)
	}
	defer batch.Close()
	if err := r.appendTo(batch, by); err != nil {
		return fmt.Errorf("build insert: %w", err)
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert %d rows: %w", r.len(), err)
	}
	return nil
}

const selectInserts = `
SELECT query_id FROM system.processes
WHERE startsWith(query_id, {prefix:String})`

// killInserts ends inserts that an earlier writer may have left running and
// waits until they are gone, so that the checkpoint read next cannot move.
func (s *Store) killInserts(ctx context.Context, prefix string) error {
	found, err := s.conn.Query(s.query(ctx, clickhouse.Parameters{"prefix": prefix}), selectInserts)
	if err != nil {
		return fmt.Errorf("look for running inserts: %w", err)
	}
	defer found.Close()
	var ids []string
	for found.Next() {
		var id string
		if err := found.Scan(&id); err != nil {
			return fmt.Errorf("look for running inserts: %w", err)
		}
		ids = append(ids, id)
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("look for running inserts: %w", err)
	}
	for _, id := range ids {
		if err := s.conn.Exec(ctx, "KILL QUERY WHERE query_id = ? SYNC", id); err != nil {
			return fmt.Errorf("end insert %s: %w", id, err)
		}
	}
	return nil
}

const selectIDHashes = `
SELECT id_hash
FROM usage_events
WHERE shard = {shard:UInt16} AND disposition IN ('counted', 'sandbox')`

// hashesAtOnce is how many hashes go to the filter in one call: it likes many.
const hashesAtOnce = 1 << 19

// idHashes streams the hash of every id that has been counted.
func (s *Store) idHashes(ctx context.Context, shard int, out chan<- []uint64) error {
	found, err := s.conn.Query(s.scan(ctx, clickhouse.Parameters{"shard": fmt.Sprint(shard)}), selectIDHashes)
	if err != nil {
		return fmt.Errorf("read the counted ids of shard %d: %w", shard, err)
	}
	defer found.Close()
	var hashes []uint64
	for more := true; more; {
		var hash uint64
		if more = found.Next(); more {
			if err := found.Scan(&hash); err != nil {
				return fmt.Errorf("read the counted ids of shard %d: %w", shard, err)
			}
			hashes = append(hashes, hash)
		}
		if len(hashes) < hashesAtOnce && more || len(hashes) == 0 {
			continue
		}
		select {
		case out <- hashes:
			hashes = make([]uint64, 0, hashesAtOnce) // the filter works on the other one meanwhile
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("read the counted ids of shard %d: %w", shard, err)
	}
	return nil
}

const selectDigests = `
SELECT org_id, event_id, digest
FROM usage_events
WHERE id_hash IN ({hashes:Array(UInt64)}) AND disposition IN ('counted', 'sandbox')`

// lookUpMax bounds the hashes of one look-up: they travel in the URL.
const lookUpMax = 2000

// digests is the exact look-up behind the filter: the digests of those ids that
// have been counted, among them all with one of the hashes.
func (s *Store) digests(ctx context.Context, hashes []uint64) (map[events.UsageKey]uint64, error) {
	known := make(map[events.UsageKey]uint64)
	for len(hashes) > 0 {
		n := min(len(hashes), lookUpMax)
		found, err := s.conn.Query(s.query(ctx, clickhouse.Parameters{"hashes": arrayParam(hashes[:n])}), selectDigests)
		if err != nil {
			return nil, fmt.Errorf("look up %d event ids: %w", n, err)
		}
		for found.Next() {
			var org, id uuid.UUID
			var digest uint64
			if err := found.Scan(&org, &id, &digest); err != nil {
				found.Close()
				return nil, fmt.Errorf("look up %d event ids: %w", n, err)
			}
			known[events.UsageKey{OrgID: org, ID: id}] = digest
		}
		if err := errors.Join(found.Err(), found.Close()); err != nil {
			return nil, fmt.Errorf("look up %d event ids: %w", n, err)
		}
		hashes = hashes[n:]
	}
	return known, nil
}

// arrayParam is the text of an Array(UInt64) or Array(Int64) query parameter.
func arrayParam[N int64 | uint64](ns []N) string {
	b := make([]byte, 0, 2+21*len(ns))
	b = append(b, '[')
	for i, n := range ns {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%d", n)
	}
	return string(append(b, ']'))
}
