package analytics

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// AuditLog is what the audit reads.
type AuditLog interface {
	UsageLog
	LogEnd
}

// ShardAudit is what the audit of one shard found.
type ShardAudit struct {
	Shard        int               `json:"shard"`
	Through      uint64            `json:"through"` // the last sequence compared
	LogEnd       uint64            `json:"log_end"` // the log's end when the audit began
	Envelopes    uint64            `json:"envelopes"`
	Events       uint64            `json:"events"`       // in the log
	Rows         uint64            `json:"rows"`         // in ClickHouse
	Cost         decimal.Decimal   `json:"cost"`         // Σ of all events of the log, copies included
	Dispositions map[string]uint64 `json:"dispositions"` // rows by what became of them
	Differences  []string          `json:"differences"`  // empty: log and rows agree

	// What an audit that goes on from this one need not look at again: rows of
	// envelopes up to after, all of which were recorded before since or then.
	after uint64
	since time.Time
	ends  time.Time // when the last envelope compared was recorded
}

// sinceOrEver is since as ClickHouse can take it.
func (a *ShardAudit) sinceOrEver() time.Time {
	if a.since.IsZero() {
		return time.Unix(0, 0)
	}
	return a.since
}

// differencesMax bounds how many differences are told one by one.
const differencesMax = 20

func (a *ShardAudit) differ(format string, args ...any) {
	switch len(a.Differences) {
	case differencesMax:
		a.Differences = append(a.Differences, "… more differences are not listed")
	case differencesMax + 1:
	default:
		a.Differences = append(a.Differences, fmt.Sprintf(format, args...))
	}
}

// AuditShard reads the shard's log from its first event to the last that the
// rows claim to hold, recounts it, and compares:
//
//   - every envelope has its rows: as many as it has events, each index once, the
//     same digests, the same cost and the same text of every column; sequences are
//     contiguous from 1, and no row is of no envelope;
//   - every (org, event id) is counted once, and every copy or conflict has the
//     counted row that makes it one;
//   - the rollups inside the parts add up to the rows.
//
// progress is told how many envelopes of how many are done; it may be nil.
func (s *Store) AuditShard(ctx context.Context, log AuditLog, shard int, progress func(done, total uint64)) (ShardAudit, error) {
	return s.AuditOn(ctx, log, ShardAudit{Shard: shard}, progress)
}

// AuditOn goes on from an earlier audit of the shard that found no difference: it
// compares only what has come since, and the sum of both with the number of all
// rows there are. Its cost follows what is new, and the rows of the months that it
// is in; a change of older rows that adds and removes none is left to AuditShard.
func (s *Store) AuditOn(ctx context.Context, log AuditLog, before ShardAudit, progress func(done, total uint64)) (ShardAudit, error) {
	a, shard := before, before.Shard
	a.after, a.since, a.Differences, a.Dispositions = before.Through, before.ends, []string{}, maps.Clone(before.Dispositions)
	at, err := s.Checkpoint(ctx, shard) // before the end of the log, which moves while rows arrive
	if err != nil {
		return a, err
	}
	end, _, err := log.UsageEnd(ctx, shard)
	if err != nil {
		return a, err
	}
	a.LogEnd, a.Through, a.ends = end, at.Seq, at.RecordedAt
	if at.Seq > end {
		a.differ("rows go up to sequence %d, but the log ends at %d", at.Seq, end)
		a.Through = end
	}
	if a.Through < a.after {
		a.differ("rows go up to sequence %d, and went up to %d before", a.Through, a.after)
		return a, nil
	}
	if a.Through > a.after {
		if err := s.compareEnvelopes(ctx, log, &a, progress); err != nil {
			return a, fmt.Errorf("audit shard %d: %w", shard, err)
		}
	}
	if at.Seq == a.Through && at.Rows != a.Rows {
		a.differ("%d rows in all, %d of them belong to envelopes of the log", at.Rows, a.Rows)
	}
	if a.after > 0 && a.Through == a.after {
		return a, nil // nothing is new
	}
	for _, check := range []func(context.Context, *ShardAudit) error{s.checkDispositions, s.checkUnique, s.checkCopies, s.checkRollups} {
		if err := check(ctx, &a); err != nil {
			return a, fmt.Errorf("audit shard %d: %w", shard, err)
		}
	}
	return a, nil
}

const selectDispositions = `
SELECT toString(disposition), count()
FROM usage_events
WHERE shard = {shard:UInt16} AND recorded_at >= {since:DateTime64(3, 'UTC')} AND stream_seq <= {through:UInt64} AND (stream_seq > {after:UInt64} OR {after:UInt64} = 0)
GROUP BY disposition`

func (s *Store) checkDispositions(ctx context.Context, a *ShardAudit) error {
	found, err := s.conn.Query(s.auditQuery(ctx, a), selectDispositions)
	if err != nil {
		return fmt.Errorf("count dispositions: %w", err)
	}
	defer found.Close()
	if a.Dispositions == nil {
		a.Dispositions = map[string]uint64{}
	}
	var rows uint64
	for found.Next() {
		var name string
		var n uint64
		if err := found.Scan(&name, &n); err != nil {
			return fmt.Errorf("count dispositions: %w", err)
		}
		a.Dispositions[name] += n
	}
	for _, n := range a.Dispositions {
		rows += n
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("count dispositions: %w", err)
	}
	if rows != a.Rows {
		a.differ("%d rows in all, %d of them belong to envelopes of the log", rows, a.Rows)
	}
	return nil
}

const selectTwice = `
SELECT count(), any(org_id), any(event_id)
FROM
(
    SELECT org_id, event_id
    FROM usage_events
    WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64} AND disposition IN ('counted', 'sandbox')
        AND ({after:UInt64} = 0 OR id_hash IN
        (
            SELECT id_hash
            FROM usage_events
            WHERE shard = {shard:UInt16} AND recorded_at >= {since:DateTime64(3, 'UTC')} AND stream_seq > {after:UInt64} AND {after:UInt64} > 0
        ))
    GROUP BY org_id, event_id
    HAVING count() > 1
)`

func (s *Store) checkUnique(ctx context.Context, a *ShardAudit) error {
	return s.expectNone(ctx, a, selectTwice, "%d event ids are counted more than once, for example org %s event %s")
}

const selectOrphans = `
SELECT count(), any(org_id), any(event_id)
FROM usage_events
WHERE shard = {shard:UInt16} AND recorded_at >= {since:DateTime64(3, 'UTC')} AND stream_seq <= {through:UInt64} AND (stream_seq > {after:UInt64} OR {after:UInt64} = 0)
    AND disposition IN ('duplicate', 'conflict')
    AND (org_id, event_id) NOT IN
    (
        SELECT org_id, event_id
        FROM usage_events
        WHERE shard = {shard:UInt16} AND disposition IN ('counted', 'sandbox')
            AND id_hash IN
            (
                SELECT id_hash
                FROM usage_events
                WHERE shard = {shard:UInt16} AND recorded_at >= {since:DateTime64(3, 'UTC')} AND (stream_seq > {after:UInt64} OR {after:UInt64} = 0)
                    AND disposition IN ('duplicate', 'conflict')
            )
    )`

func (s *Store) checkCopies(ctx context.Context, a *ShardAudit) error {
	return s.expectNone(ctx, a, selectOrphans, "%d rows are set aside as copies of an event that is not counted, for example org %s event %s")
}

func (s *Store) expectNone(ctx context.Context, a *ShardAudit, query, complaint string) error {
	var n uint64
	var org, id uuid.UUID
	if err := s.conn.QueryRow(s.auditQuery(ctx, a), query).Scan(&n, &org, &id); err != nil {
		return fmt.Errorf("check event ids: %w", err)
	}
	if n > 0 {
		a.differ(complaint, n, org, id)
	}
	return nil
}

// Both halves see one snapshot of the table (a pinned setting), so that what arrives
// meanwhile is no difference. The second must not be answered by a projection: none
// of those that hold sums knows the sequence.
const selectRollup = `
SELECT 'rollup', count(), sum(cost), sum(input_tokens), sum(output_tokens)
FROM usage_events
WHERE disposition = 'counted' AND _partition_id IN {partitions:Array(String)}
UNION ALL
SELECT 'rows', count(), sum(cost), sum(input_tokens), sum(output_tokens)
FROM usage_events
WHERE disposition = 'counted' AND _partition_id IN {partitions:Array(String)} AND stream_seq > 0`

// partitionsSince names the partitions of the shard's rows from the month of an
// instant on.
func (s *Store) partitionsSince(ctx context.Context, shard int, since time.Time) (string, error) {
	found, err := s.conn.Query(s.scan(ctx, clickhouse.Parameters{"shard": fmt.Sprint(shard)}), "SELECT DISTINCT _partition_id FROM usage_events WHERE shard = {shard:UInt16}")
	if err != nil {
		return "", fmt.Errorf("list partitions: %w", err)
	}
	defer found.Close()
	first := fmt.Sprintf("%d-%s", shard, since.UTC().Format("200601"))
	var ids []string
	for found.Next() {
		var id string
		if err := found.Scan(&id); err != nil {
			return "", fmt.Errorf("list partitions: %w", err)
		}
		if since.IsZero() || id >= first {
			ids = append(ids, "'"+id+"'")
		}
	}
	if err := found.Err(); err != nil {
		return "", fmt.Errorf("list partitions: %w", err)
	}
	return "[" + strings.Join(ids, ",") + "]", nil
}

var rollupSettings = clickhouse.Settings{
	"optimize_use_projections":                1,
	"force_optimize_projection":               1,
	"enable_shared_storage_snapshot_in_query": 1,
	"max_execution_time":                      0,
}

// checkRollups compares the sums of the projections with those of the rows, of
// whole partitions.
func (s *Store) checkRollups(ctx context.Context, a *ShardAudit) error {
	partitions, err := s.partitionsSince(ctx, a.Shard, a.since)
	if err != nil || partitions == "[]" {
		return err
	}
	type sums struct {
		n, in, out uint64
		cost       decimal.Decimal
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(rollupSettings), clickhouse.WithParameters(clickhouse.Parameters{"partitions": partitions}))
	found, err := s.conn.Query(ctx, selectRollup)
	if hasNoProjection(err) { // they are still being made (see migrations): there is nothing that could be wrong
		return nil
	}
	if err != nil {
		return fmt.Errorf("check rollups: %w", err)
	}
	defer found.Close()
	of := map[string]sums{}
	for found.Next() {
		var name string
		var v sums
		if err := found.Scan(&name, &v.n, &v.cost, &v.in, &v.out); err != nil {
			return fmt.Errorf("check rollups: %w", err)
		}
		of[name] = v
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("check rollups: %w", err)
	}
	rollup, rows := of["rollup"], of["rows"]
	if rollup.n != rows.n || rollup.in != rows.in || rollup.out != rows.out || !rollup.cost.Equal(rows.cost) {
		a.differ("the rollups say %d requests for %s, the rows %d for %s", rollup.n, rollup.cost, rows.n, rows.cost)
	}
	return nil
}

func (s *Store) auditQuery(ctx context.Context, a *ShardAudit) context.Context {
	return s.scan(ctx, clickhouse.Parameters{"shard": fmt.Sprint(a.Shard), "through": fmt.Sprint(a.Through), "after": fmt.Sprint(a.after), "since": milliParam(a.sinceOrEver())})
}
