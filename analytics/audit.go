package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

//go:embed audit.sql
var selectEnvelopes string

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
//     same digests and the same cost; sequences are contiguous from 1;
//   - every (org, event id) is counted once, and every copy or conflict has the
//     counted row that makes it one;
//   - the rollups inside the parts add up to the rows.
//
// progress is told how many envelopes of how many are done; it may be nil.
func (s *Store) AuditShard(ctx context.Context, log AuditLog, shard int, progress func(done, total uint64)) (ShardAudit, error) {
	a := ShardAudit{Shard: shard}
	end, _, err := log.UsageEnd(ctx, shard)
	if err != nil {
		return a, err
	}
	at, err := s.Checkpoint(ctx, shard)
	if err != nil {
		return a, err
	}
	a.LogEnd, a.Through = end, at.Seq
	if at.Seq > end {
		a.differ("rows go up to sequence %d, but the log ends at %d", at.Seq, end)
		a.Through = end
	}
	if a.Through > 0 {
		if err := s.compareEnvelopes(ctx, log, &a, progress); err != nil {
			return a, fmt.Errorf("audit shard %d: %w", shard, err)
		}
	}
	for _, check := range []func(context.Context, *ShardAudit) error{s.checkDispositions, s.checkUnique, s.checkCopies, s.checkRollups} {
		if err := check(ctx, &a); err != nil {
			return a, fmt.Errorf("audit shard %d: %w", shard, err)
		}
	}
	return a, nil
}

// envelopeRows is what the rows say of one envelope.
type envelopeRows struct {
	seq                 uint64
	rows, indexes       uint64
	lastIdx             uint16
	undecodable, digest uint64
	cost                decimal.Decimal
}

func scanEnvelope(found driver.Rows) (e envelopeRows, ok bool, err error) {
	if !found.Next() {
		return e, false, found.Err()
	}
	err = found.Scan(&e.seq, &e.rows, &e.indexes, &e.lastIdx, &e.undecodable, &e.digest, &e.cost)
	return e, err == nil, err
}

// compareEnvelopes walks log and rows side by side.
func (s *Store) compareEnvelopes(ctx context.Context, log AuditLog, a *ShardAudit, progress func(done, total uint64)) error {
	reader, err := log.ReadUsage(ctx, a.Shard, 1)
	if err != nil {
		return err
	}
	defer reader.Stop()
	found, err := s.conn.Query(s.query(ctx, clickhouse.Parameters{
		"shard": fmt.Sprint(a.Shard), "through": fmt.Sprint(a.Through),
	}), selectEnvelopes)
	if err != nil {
		return fmt.Errorf("read the rows by envelope: %w", err)
	}
	defer found.Close()
	var decoder events.Decoder
	var usages []events.Usage
	have, ok, err := scanEnvelope(found)
	for seq := uint64(1); seq <= a.Through; seq++ {
		if err != nil {
			return fmt.Errorf("read the rows by envelope: %w", err)
		}
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		var want envelopeRows
		usages, want = recountEnvelope(&decoder, m, usages[:0])
		a.Envelopes++
		a.Events += want.rows
		a.Cost = a.Cost.Add(want.cost)
		switch {
		case !ok || have.seq > seq:
			a.differ("sequence %d has %d events in the log and no rows", seq, want.rows)
			continue
		default:
			a.compare(want, have)
		}
		a.Rows += have.rows
		have, ok, err = scanEnvelope(found)
		if err != nil {
			return fmt.Errorf("read the rows by envelope: %w", err)
		}
		if progress != nil {
			progress(seq, a.Through)
		}
	}
	return nil
}

func recountEnvelope(d *events.Decoder, m events.Message, usages []events.Usage) ([]events.Usage, envelopeRows) {
	want := envelopeRows{seq: m.Seq}
	usages, bad, err := d.Envelope(m.Data, usages)
	if err != nil {
		want.rows, want.undecodable = 1, 1
		return usages, want
	}
	want.rows, want.undecodable = uint64(len(usages)), uint64(len(bad))
	for i := range usages {
		if len(bad) > 0 && bad[0].Idx == i {
			bad = bad[1:]
			continue
		}
		want.digest ^= usages[i].Digest()
		want.cost = want.cost.Add(usages[i].Cost)
	}
	return usages, want
}

func (a *ShardAudit) compare(want, have envelopeRows) {
	switch {
	case have.rows != want.rows:
		a.differ("sequence %d has %d events in the log and %d rows", want.seq, want.rows, have.rows)
	case have.indexes != have.rows || uint64(have.lastIdx)+1 != have.rows:
		a.differ("sequence %d has %d rows with %d different indexes up to %d", want.seq, have.rows, have.indexes, have.lastIdx)
	case have.undecodable < want.undecodable:
		a.differ("sequence %d has %d events that cannot be read and %d rows that say so", want.seq, want.undecodable, have.undecodable)
	case have.undecodable > want.undecodable:
		// An earlier version could not read what this one can: replay or rebuild.
	case have.digest != want.digest:
		a.differ("sequence %d: the digest of its rows is %016x, of its events %016x", want.seq, have.digest, want.digest)
	case !have.cost.Equal(want.cost):
		a.differ("sequence %d: its rows cost %s, its events %s", want.seq, have.cost, want.cost)
	}
}

const selectDispositions = `
SELECT toString(disposition), count()
FROM usage_events
WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64}
GROUP BY disposition`

func (s *Store) checkDispositions(ctx context.Context, a *ShardAudit) error {
	found, err := s.conn.Query(s.auditQuery(ctx, a), selectDispositions)
	if err != nil {
		return fmt.Errorf("count dispositions: %w", err)
	}
	defer found.Close()
	a.Dispositions = map[string]uint64{}
	var rows uint64
	for found.Next() {
		var name string
		var n uint64
		if err := found.Scan(&name, &n); err != nil {
			return fmt.Errorf("count dispositions: %w", err)
		}
		a.Dispositions[name] = n
		rows += n
	}
	if rows != a.Rows {
		a.differ("%d rows in all, %d of them belong to envelopes of the log", rows, a.Rows)
	}
	return found.Err()
}

const selectTwice = `
SELECT count(), any(org_id), any(event_id)
FROM
(
    SELECT org_id, event_id
    FROM usage_events
    WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64} AND disposition IN ('counted', 'sandbox')
    GROUP BY org_id, event_id
    HAVING count() > 1
)`

func (s *Store) checkUnique(ctx context.Context, a *ShardAudit) error {
	return s.expectNone(ctx, a, selectTwice, "%d event ids are counted more than once, for example org %s event %s")
}

const selectOrphans = `
SELECT count(), any(org_id), any(event_id)
FROM usage_events
WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64} AND disposition IN ('duplicate', 'conflict')
    AND (org_id, event_id) NOT IN
    (
        SELECT org_id, event_id
        FROM usage_events
        WHERE shard = {shard:UInt16} AND disposition IN ('counted', 'sandbox')
            AND id_hash IN (SELECT id_hash FROM usage_events WHERE shard = {shard:UInt16} AND disposition IN ('duplicate', 'conflict'))
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

const selectRollup = `
SELECT count(), sum(cost), sum(input_tokens), sum(output_tokens)
FROM usage_events
WHERE disposition = 'counted'`

// checkRollups compares the sums of the projections with those of the rows. It is
// about the whole table, whatever arrives meanwhile, so it looks again before it
// complains.
func (s *Store) checkRollups(ctx context.Context, a *ShardAudit) error {
	type sums struct {
		n, in, out uint64
		cost       decimal.Decimal
	}
	ask := func(projections int) (v sums, err error) {
		ctx := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"optimize_use_projections": projections}))
		err = s.conn.QueryRow(ctx, selectRollup).Scan(&v.n, &v.cost, &v.in, &v.out)
		return v, err
	}
	var rollup, plain sums
	for range 5 {
		before, err := ask(0)
		if err == nil {
			rollup, err = ask(1)
		}
		if err == nil {
			plain, err = ask(0)
		}
		if err != nil {
			return fmt.Errorf("check rollups: %w", err)
		}
		if rollup.n == plain.n && rollup.in == plain.in && rollup.out == plain.out && rollup.cost.Equal(plain.cost) {
			return nil
		}
		if before.n == plain.n {
			break // nothing arrived: it is a difference
		}
		time.Sleep(caughtUpPoll)
	}
	a.differ("the rollups say %d requests for %s, the rows %d for %s", rollup.n, rollup.cost, plain.n, plain.cost)
	return nil
}

func (s *Store) auditQuery(ctx context.Context, a *ShardAudit) context.Context {
	return s.query(ctx, clickhouse.Parameters{"shard": fmt.Sprint(a.Shard), "through": fmt.Sprint(a.Through)})
}
