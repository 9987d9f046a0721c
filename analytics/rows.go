package analytics

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/analytics/idset"
	"aione/events"
)

// Dispositions of a row, as in the table.
const (
	counted     int8 = 1
	sandbox     int8 = 2
	duplicate   int8 = 3
	conflict    int8 = 4
	undecodable int8 = 5
)

// insertColumns are the columns in the order of rows.columns, with the types of
// the table (a test compares).
var insertColumns = []clickhouse.ColumnNameAndType{
	{Name: "shard", Type: "UInt16"},
	{Name: "stream_seq", Type: "UInt64"},
	{Name: "idx", Type: "UInt16"},
	{Name: "disposition", Type: "Enum8('counted' = 1, 'sandbox' = 2, 'duplicate' = 3, 'conflict' = 4, 'undecodable' = 5)"},
	{Name: "reason", Type: "String"},
	{Name: "org_id", Type: "UUID"},
	{Name: "team_id", Type: "UUID"},
	{Name: "key_id", Type: "UUID"},
	{Name: "model", Type: "LowCardinality(String)"},
	{Name: "provider", Type: "LowCardinality(String)"},
	{Name: "price_version", Type: "LowCardinality(String)"},
	{Name: "currency", Type: "LowCardinality(String)"},
	{Name: "event_id", Type: "UUID"},
	{Name: "operation_id", Type: "UUID"},
	{Name: "id_hash", Type: "UInt64"},
	{Name: "digest", Type: "UInt64"},
	{Name: "occurred_at", Type: "DateTime64(3, 'UTC')"},
	{Name: "recorded_at", Type: "DateTime64(3, 'UTC')"},
	{Name: "input_tokens", Type: "UInt64"},
	{Name: "cache_read_tokens", Type: "UInt64"},
	{Name: "cache_write_5m_tokens", Type: "UInt64"},
	{Name: "cache_write_1h_tokens", Type: "UInt64"},
	{Name: "output_tokens", Type: "UInt64"},
	{Name: "reasoning_tokens", Type: "UInt64"},
	{Name: "images", Type: "UInt64"},
	{Name: "cost", Type: "Decimal(18, 12)"},
	{Name: "outcome", Type: "Enum8('none' = 0, 'completed' = 1, 'cancelled' = 2, 'upstream_error' = 3, 'timeout' = 4, 'abandoned' = 5)"},
	{Name: "usage_source", Type: "Enum8('none' = 0, 'reported' = 1, 'estimated' = 2)"},
	{Name: "http_status", Type: "UInt16"},
	{Name: "latency_ms", Type: "UInt32"},
	{Name: "ttft_ms", Type: "UInt32"},
	{Name: "latency_class", Type: "UInt8"},
	{Name: "ttft_class", Type: "UInt8"},
	{Name: "stream", Type: "Bool"},
	{Name: "producer", Type: "LowCardinality(String)"},
	{Name: "external_id", Type: "String"},
	{Name: "retried", Type: "Bool"},
	{Name: "insert_by", Type: "DateTime64(3, 'UTC')"}, // not a column of the row: see appendTo
}

// insertRows names the columns in their order.
var insertRows = func() string {
	names := make([]string, len(insertColumns))
	for i, c := range insertColumns {
		names[i] = c.Name
	}
	return "INSERT INTO usage_events (" + strings.Join(names, ", ") + ")"
}()

// rows are the columns of one batch. They are reused from batch to batch.
type rows struct {
	shard                                    []uint16
	seq                                      []uint64
	idx                                      []uint16
	disposition                              []int8
	reason                                   []string
	org, team, key                           []uuid.UUID
	model, provider, priceVersion, currency  []string
	event, operation                         []uuid.UUID
	idHash, digest                           []uint64
	occurredAtMS, recordedAtMS               []int64
	input, cacheRead, cacheWrite5m, cacheW1h []uint64
	output, reasoning, images                []uint64
	cost                                     []decimal.Decimal
	outcome, source                          []int8
	httpStatus                               []uint16
	latencyMS, ttftMS                        []uint32
	latencyClass, ttftClass                  []uint8
	stream, retried                          []bool
	producer, externalID                     []string

	// suspects are the rows whose id the filter may have seen before.
	suspects []int
}

func (r *rows) len() int { return len(r.seq) }

// columns lists the columns in the order of insertColumns.
func (r *rows) columns() []any {
	return []any{
		r.shard, r.seq, r.idx, r.disposition, r.reason,
		r.org, r.team, r.key, r.model, r.provider, r.priceVersion, r.currency,
		r.event, r.operation, r.idHash, r.digest, r.occurredAtMS, r.recordedAtMS,
		r.input, r.cacheRead, r.cacheWrite5m, r.cacheW1h,
		r.output, r.reasoning, r.images, r.cost,
		r.outcome, r.source, r.httpStatus, r.latencyMS, r.ttftMS, r.latencyClass, r.ttftClass,
		r.stream, r.producer, r.externalID, r.retried,
	}
}

func (r *rows) reset() {
	r.shard, r.seq, r.idx, r.disposition, r.reason = r.shard[:0], r.seq[:0], r.idx[:0], r.disposition[:0], r.reason[:0]
	r.org, r.team, r.key = r.org[:0], r.team[:0], r.key[:0]
	r.model, r.provider, r.priceVersion, r.currency = r.model[:0], r.provider[:0], r.priceVersion[:0], r.currency[:0]
	r.event, r.operation, r.idHash, r.digest = r.event[:0], r.operation[:0], r.idHash[:0], r.digest[:0]
	r.occurredAtMS, r.recordedAtMS = r.occurredAtMS[:0], r.recordedAtMS[:0]
	r.input, r.cacheRead, r.cacheWrite5m, r.cacheW1h = r.input[:0], r.cacheRead[:0], r.cacheWrite5m[:0], r.cacheW1h[:0]
	r.output, r.reasoning, r.images, r.cost = r.output[:0], r.reasoning[:0], r.images[:0], r.cost[:0]
	r.outcome, r.source, r.httpStatus = r.outcome[:0], r.source[:0], r.httpStatus[:0]
	r.latencyMS, r.ttftMS, r.latencyClass, r.ttftClass = r.latencyMS[:0], r.ttftMS[:0], r.latencyClass[:0], r.ttftClass[:0]
	r.stream, r.producer, r.externalID, r.retried = r.stream[:0], r.producer[:0], r.externalID[:0], r.retried[:0]
	r.suspects = r.suspects[:0]
}

// place is where a row lies in the log.
type place struct {
	shard      int
	seq        uint64
	idx        int
	recordedAt time.Time
}

// add appends the row of a usage event, as yet not compared with earlier ones.
func (r *rows) add(p place, u *events.Usage) {
	disposition := counted
	if u.Sandbox {
		disposition = sandbox
	}
	r.shard = append(r.shard, uint16(p.shard))
	r.seq, r.idx = append(r.seq, p.seq), append(r.idx, uint16(p.idx))
	r.disposition, r.reason = append(r.disposition, disposition), append(r.reason, "")
	r.recordedAtMS = append(r.recordedAtMS, p.recordedAt.UnixMilli())
	r.org, r.team, r.key = append(r.org, u.OrgID), append(r.team, u.TeamID), append(r.key, u.KeyID)
	r.model, r.provider = append(r.model, u.Model), append(r.provider, u.Provider)
	r.priceVersion, r.currency = append(r.priceVersion, u.PriceVersion), append(r.currency, u.Currency)
	r.event, r.operation = append(r.event, u.ID), append(r.operation, u.OperationID)
	r.idHash = append(r.idHash, idset.Hash(u.OrgID, u.ID))
	r.digest = append(r.digest, u.Digest())
	r.occurredAtMS = append(r.occurredAtMS, u.OccurredAt.UnixMilli())
	r.input, r.cacheRead = append(r.input, u.Tokens.Input), append(r.cacheRead, u.Tokens.CacheRead)
	r.cacheWrite5m, r.cacheW1h = append(r.cacheWrite5m, u.Tokens.CacheWrite5m), append(r.cacheW1h, u.Tokens.CacheWrite1h)
	r.output, r.reasoning = append(r.output, u.Tokens.Output), append(r.reasoning, u.Tokens.Reasoning)
	r.images, r.cost = append(r.images, u.Images), append(r.cost, u.Cost)
	r.outcome, r.source = append(r.outcome, int8(u.Outcome)), append(r.source, int8(u.Source))
	r.httpStatus = append(r.httpStatus, u.HTTPStatus)
	r.latencyMS, r.ttftMS = append(r.latencyMS, u.LatencyMS), append(r.ttftMS, u.TTFTMS)
	r.latencyClass, r.ttftClass = append(r.latencyClass, latencyClass(u.LatencyMS)), append(r.ttftClass, latencyClass(u.TTFTMS))
	r.stream, r.producer, r.externalID = append(r.stream, u.Stream), append(r.producer, u.Producer), append(r.externalID, u.ExternalID)
	r.retried = append(r.retried, u.Retried)
}

// addUndecodable appends the row that stands for bytes nobody can read. The bytes
// stay in the log, where a later version can read them again.
func (r *rows) addUndecodable(p place, why error) {
	r.add(p, &events.Usage{OccurredAt: p.recordedAt})
	last := r.len() - 1
	r.disposition[last], r.reason[last] = undecodable, why.Error()
	r.idHash[last], r.digest[last] = 0, 0
}

// appendTo hands the columns to the driver.
func (r *rows) appendTo(b driver.Batch, by time.Time) error {
	deadlines := slices.Repeat([]int64{by.UnixMilli()}, r.len())
	for i, c := range append(r.columns(), deadlines) {
		if err := b.Column(i).Append(c); err != nil {
			return fmt.Errorf("column %s: %w", insertColumns[i].Name, err)
		}
	}
	return nil
}
