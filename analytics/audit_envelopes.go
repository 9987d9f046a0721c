package analytics

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/zeebo/xxh3"

	"aione/events"
)

//go:embed audit.sql
var selectEnvelopes string

// auditEnvelopes bounds the envelopes of one query of the audit, and so the
// memory that ClickHouse groups them in.
const auditEnvelopes = 1 << 20

// envelopeRows is what the rows, or the log, say of one envelope.
type envelopeRows struct {
	seq                           uint64
	rows, indexes                 uint64
	lastIdx                       uint16
	undecodable, sandbox, counted uint64
	digest, text                  uint64
	cost                          decimal.Decimal
}

// envelopeScan reads the rows of a shard, envelope by envelope.
type envelopeScan struct {
	store   *Store
	shard   int
	since   time.Time // when the first of them was recorded, or before
	from    uint64    // of the next query
	through uint64
	found   driver.Rows // nil between two queries
}

// next returns the next envelope that has rows; false after the last.
func (e *envelopeScan) next(ctx context.Context) (r envelopeRows, ok bool, err error) {
	for {
		if e.found == nil {
			if e.from > e.through {
				return r, false, nil
			}
			to := min(e.from+auditEnvelopes-1, e.through)
			e.found, err = e.store.conn.Query(e.store.scan(ctx, clickhouse.Parameters{
				"shard": strconv.Itoa(e.shard), "from": strconv.FormatUint(e.from, 10), "through": strconv.FormatUint(to, 10), "since": milliParam(e.since),
			}), selectEnvelopes)
			if err != nil {
				return r, false, fmt.Errorf("read the rows by envelope: %w", err)
			}
			e.from = to + 1
		}
		if e.found.Next() {
			err := e.found.Scan(&r.seq, &r.rows, &r.indexes, &r.lastIdx, &r.undecodable, &r.sandbox, &r.counted, &r.digest, &r.text, &r.cost)
			if err != nil {
				return r, false, fmt.Errorf("read the rows by envelope: %w", err)
			}
			return r, true, nil
		}
		if err := errors.Join(e.found.Err(), e.close()); err != nil {
			return r, false, fmt.Errorf("read the rows by envelope: %w", err)
		}
	}
}

func (e *envelopeScan) close() error {
	if e.found == nil {
		return nil
	}
	found := e.found
	e.found = nil
	return found.Close()
}

// compareEnvelopes walks log and rows side by side.
func (s *Store) compareEnvelopes(ctx context.Context, log AuditLog, a *ShardAudit, progress func(done, total uint64)) error {
	reader, err := log.ReadUsage(ctx, a.Shard, a.after+1)
	if err != nil {
		return err
	}
	defer reader.Stop()
	scan := &envelopeScan{store: s, shard: a.Shard, since: a.sinceOrEver(), through: a.Through}
	if a.after > 0 {
		scan.from = a.after + 1
	}
	defer scan.close() // an error of next is the one to tell
	var recount recounter
	have, ok, err := scan.next(ctx)
	if err != nil {
		return err
	}
	for seq := a.after + 1; seq <= a.Through; seq++ {
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		want := recount.envelope(m)
		a.Envelopes++
		a.Events += want.rows
		a.Cost = a.Cost.Add(want.cost)
		for ok && have.seq <= seq {
			if have.seq < seq { // only below the first: every later one is compared or passed
				a.differ("sequence %d is not in the log and has %d rows", have.seq, have.rows)
			} else {
				if have.undecodable > want.undecodable {
					err = s.checkUnread(ctx, a, seq, recount.usages)
				} else {
					a.compare(want, have)
				}
				if err != nil {
					return err
				}
				a.Rows += have.rows
				want.seq = 0 // found
			}
			if have, ok, err = scan.next(ctx); err != nil {
				return err
			}
		}
		if want.seq != 0 {
			a.differ("sequence %d has %d events in the log and no rows", seq, want.rows)
		}
		if progress != nil {
			progress(seq, a.Through)
		}
	}
	return nil
}

// checkUnread is about an envelope of which an earlier version could not read what
// this one can: its events are counted all the same once they were replayed.
func (s *Store) checkUnread(ctx context.Context, a *ShardAudit, seq uint64, usages []events.Usage) error {
	var keys []events.UsageKey
	for _, u := range usages {
		if u.ID != uuid.Nil { // else it still cannot be read
			keys = append(keys, events.UsageKey{OrgID: u.OrgID, ID: u.ID})
		}
	}
	settled, err := s.Settled(ctx, keys)
	if err != nil {
		return err
	}
	missing := 0
	for _, k := range keys {
		if !settled[k] {
			missing++
		}
	}
	if missing > 0 {
		a.differ("sequence %d has %d events that this version can read and that are not counted: replay them, or rebuild", seq, missing)
	}
	return nil
}

// recounter sums up envelopes of the log, on its own: it shares nothing with the
// way rows are made but the decoder.
type recounter struct {
	decoder events.Decoder
	usages  []events.Usage
	text    []byte
}

func (c *recounter) envelope(m events.Message) envelopeRows {
	want := envelopeRows{seq: m.Seq}
	usages, bad, err := c.decoder.Envelope(m.Data, c.usages[:0])
	c.usages = usages
	if err != nil {
		want.rows, want.undecodable = 1, 1
		return want
	}
	want.rows, want.undecodable = uint64(len(usages)), uint64(len(bad))
	for i := range usages {
		if len(bad) > 0 && bad[0].Idx == i {
			bad = bad[1:]
			continue
		}
		u := &usages[i]
		if u.Sandbox {
			want.sandbox++
		} else {
			want.counted++
		}
		want.digest ^= u.Digest()
		c.text = rowText(c.text[:0], i, u)
		want.text ^= xxh3.Hash(c.text)
		want.cost = want.cost.Add(u.Cost)
	}
	return want
}

// rowText is the text that audit.sql makes of a row.
func rowText(b []byte, idx int, u *events.Usage) []byte {
	b = strconv.AppendInt(b, int64(idx), 10)
	for _, id := range [...]interface{ String() string }{u.OrgID, u.TeamID, u.KeyID, u.ID, u.OperationID} {
		b = append(append(b, '|'), id.String()...)
	}
	b = strconv.AppendInt(append(b, '|'), u.OccurredAt.UnixMilli(), 10)
	t := u.Tokens
	for _, n := range [...]uint64{
		t.Input, t.CacheRead, t.CacheWrite5m, t.CacheWrite1h, t.Output, t.Reasoning, u.Images,
		uint64(u.Outcome), uint64(u.Source), uint64(u.HTTPStatus), uint64(u.LatencyMS), uint64(u.TTFTMS),
		uint64(latencyClass(u.LatencyMS)), uint64(latencyClass(u.TTFTMS)), bit(u.Stream),
	} {
		b = strconv.AppendUint(append(b, '|'), n, 10)
	}
	for _, s := range [...]string{u.Model, u.Provider, u.PriceVersion, u.Currency, u.Producer, u.ExternalID} {
		b = append(append(b, '|'), s...)
	}
	return strconv.AppendUint(append(b, '|'), bit(u.Retried), 10)
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// compare lays the rows of an envelope beside its events. At most counted, at
// most sandbox: copies are neither, and checked elsewhere.
func (a *ShardAudit) compare(want, have envelopeRows) {
	switch {
	case have.rows != want.rows:
		a.differ("sequence %d has %d events in the log and %d rows", want.seq, want.rows, have.rows)
	case have.indexes != have.rows || uint64(have.lastIdx)+1 != have.rows:
		a.differ("sequence %d has %d rows with %d different indexes up to %d", want.seq, have.rows, have.indexes, have.lastIdx)
	case have.undecodable < want.undecodable:
		a.differ("sequence %d has %d events that cannot be read and %d rows that say so", want.seq, want.undecodable, have.undecodable)
	case have.digest != want.digest:
		a.differ("sequence %d: the digest of its rows is %016x, of its events %016x", want.seq, have.digest, want.digest)
	case !have.cost.Equal(want.cost):
		a.differ("sequence %d: its rows cost %s, its events %s", want.seq, have.cost, want.cost)
	case have.text != want.text:
		a.differ("sequence %d: a column of its rows is not what its events say", want.seq)
	case have.sandbox > want.sandbox || have.counted > want.counted:
		a.differ("sequence %d has %d rows counted and %d sandbox, but at most %d and %d events that could be", want.seq, have.counted, have.sandbox, want.counted, want.sandbox)
	}
}
