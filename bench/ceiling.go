package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/zeebo/xxh3"

	"aione/events"
)

// insertBare names the columns of usage_events, as any program would that writes
// them with clickhouse-go and nothing else.
const insertBare = `INSERT INTO usage_events (shard, stream_seq, idx, disposition, reason,
	org_id, team_id, key_id, model, provider, price_version, currency, event_id, operation_id, id_hash, digest, occurred_at, recorded_at,
	input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, images, cost,
	outcome, usage_source, http_status, latency_ms, ttft_ms, latency_class, ttft_class, stream, producer, external_id)`

// The settings of the ingester: one INSERT is one block is one part.
var bareSettings = clickhouse.Settings{
	"async_insert": 0, "deduplicate_insert": "disable", "max_insert_threads": 1,
	"max_insert_block_size": 1 << 20, "min_insert_block_size_rows": 1 << 20, "min_insert_block_size_bytes": 0,
	"max_partitions_per_insert_block": 1,
}

// bareBatch is one INSERT's columns, ready to be encoded.
type bareBatch struct {
	rows        int
	shard, idx  []uint16
	seq         []uint64
	disposition []int8
	reason      []string

	org, team, key, event, operation   []uuid.UUID
	model, provider, price, currency   []string
	idHash, digest                     []uint64
	occurredAtMS, recordedAtMS         []int64
	input, cacheRead, write5m, write1h []uint64
	output, reasoning, images          []uint64
	cost                               []decimal.Decimal
	outcome, source                    []int8
	status                             []uint16
	latencyMS, ttftMS                  []uint32
	latencyClass, ttftClass            []uint8
	stream                             []bool
	producer, external                 []string
}

func (b *bareBatch) add(m events.Message, idx int, u *events.Usage) {
	b.rows++
	b.shard, b.seq, b.idx = append(b.shard, uint16(m.Shard)), append(b.seq, m.Seq), append(b.idx, uint16(idx))
	b.disposition, b.reason = append(b.disposition, 1), append(b.reason, "")
	b.org, b.team, b.key = append(b.org, u.OrgID), append(b.team, u.TeamID), append(b.key, u.KeyID)
	b.model, b.provider = append(b.model, u.Model), append(b.provider, u.Provider)
	b.price, b.currency = append(b.price, u.PriceVersion), append(b.currency, u.Currency)
	b.event, b.operation = append(b.event, u.ID), append(b.operation, u.OperationID)
	b.idHash, b.digest = append(b.idHash, xxh3.Hash(u.ID[:])), append(b.digest, u.Digest())
	b.occurredAtMS, b.recordedAtMS = append(b.occurredAtMS, u.OccurredAt.UnixMilli()), append(b.recordedAtMS, m.At.UnixMilli())
	b.input, b.cacheRead = append(b.input, u.Tokens.Input), append(b.cacheRead, u.Tokens.CacheRead)
	b.write5m, b.write1h = append(b.write5m, u.Tokens.CacheWrite5m), append(b.write1h, u.Tokens.CacheWrite1h)
	b.output, b.reasoning = append(b.output, u.Tokens.Output), append(b.reasoning, u.Tokens.Reasoning)
	b.images, b.cost = append(b.images, u.Images), append(b.cost, u.Cost)
	b.outcome, b.source = append(b.outcome, int8(u.Outcome)), append(b.source, int8(u.Source))
	b.status = append(b.status, u.HTTPStatus)
	b.latencyMS, b.ttftMS = append(b.latencyMS, u.LatencyMS), append(b.ttftMS, u.TTFTMS)
	b.latencyClass, b.ttftClass = append(b.latencyClass, bareClass(u.LatencyMS)), append(b.ttftClass, bareClass(u.TTFTMS))
	b.stream, b.producer, b.external = append(b.stream, u.Stream), append(b.producer, u.Producer), append(b.external, u.ExternalID)
}

// bareClass is the latency class of the table: sixteen to a factor of e.
func bareClass(ms uint32) uint8 { return uint8(min(255, math.Log(float64(ms)+1)*16)) }

func (b *bareBatch) columns() []any {
	return []any{b.shard, b.seq, b.idx, b.disposition, b.reason,
		b.org, b.team, b.key, b.model, b.provider, b.price, b.currency, b.event, b.operation, b.idHash, b.digest, b.occurredAtMS, b.recordedAtMS,
		b.input, b.cacheRead, b.write5m, b.write1h, b.output, b.reasoning, b.images, b.cost,
		b.outcome, b.source, b.status, b.latencyMS, b.ttftMS, b.latencyClass, b.ttftClass, b.stream, b.producer, b.external}
}

// bareBatches reads the log up to a sequence and makes the batches that an
// ingester makes of it: whole envelopes until there are enough rows.
func (r *rig) bareBatches(ctx context.Context, through uint64, batchRows int) ([]*bareBatch, error) {
	reader, err := r.log.ReadUsage(ctx, 0, 1)
	if err != nil {
		return nil, err
	}
	defer reader.Stop()
	var decoder events.Decoder
	var us []events.Usage
	batches := []*bareBatch{{}}
	for seq := uint64(0); seq < through; {
		m, err := reader.Next(ctx)
		if err != nil {
			return nil, err
		}
		seq = m.Seq
		var bad []events.BadEvent
		if us, bad, err = decoder.Envelope(m.Data, us[:0]); err != nil || len(bad) > 0 {
			return nil, fmt.Errorf("envelope %d of the bench itself cannot be read: %w %v", m.Seq, err, bad)
		}
		last := batches[len(batches)-1]
		if last.rows >= batchRows {
			last = &bareBatch{}
			batches = append(batches, last)
		}
		for i := range us {
			last.add(m, i, &us[i])
		}
	}
	return batches, nil
}

// insertBareLoop is the ceiling: the rows are columns already, one connection sends
// them, one INSERT after the other. Nothing is checked, looked up or remembered.
func insertBareLoop(ctx context.Context, conn driver.Conn, batches []*bareBatch) (time.Duration, error) {
	began := time.Now()
	for _, b := range batches {
		batch, err := conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithSettings(bareSettings)), insertBare)
		if err != nil {
			return 0, fmt.Errorf("bare insert: %w", err)
		}
		for i, c := range b.columns() {
			if err := batch.Column(i).Append(c); err != nil {
				return 0, fmt.Errorf("bare insert, column %d: %w", i, err)
			}
		}
		if err := batch.Send(); err != nil {
			return 0, fmt.Errorf("bare insert: %w", err)
		}
	}
	return time.Since(began), nil
}
