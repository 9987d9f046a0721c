-- One row for every event of the log, whatever became of it: rows are the
-- checkpoint (max(stream_seq)) and the audit (as many rows as events), so nothing
-- is ever left out. Aggregates are projections: they live inside the part and are
-- written with its rows or not at all.
CREATE TABLE IF NOT EXISTS usage_events
(
    -- where it lies in the log
    shard UInt16,
    stream_seq UInt64 CODEC(Delta, LZ4),
    idx UInt16,

    -- what became of it; only 'counted' is usage and is billed
    disposition Enum8('counted' = 1, 'sandbox' = 2, 'duplicate' = 3, 'conflict' = 4, 'undecodable' = 5),
    reason String,

    -- who, what, when
    org_id UUID,
    team_id UUID,
    key_id UUID,
    model LowCardinality(String),
    provider LowCardinality(String),
    price_version LowCardinality(String),
    currency LowCardinality(String),
    event_id UUID,
    operation_id UUID,
    id_hash UInt64,
    digest UInt64,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    -- the log's time stamp, clamped so that it never steps back in stream order:
    -- the partition key is monotone, and a rebuild gives the same value
    recorded_at DateTime64(3, 'UTC') CODEC(Delta, LZ4),

    -- how much: disjoint buckets; cost is exact and bounded, its sum is Decimal(38, 12)
    input_tokens UInt64,
    cache_read_tokens UInt64,
    cache_write_5m_tokens UInt64,
    cache_write_1h_tokens UInt64,
    output_tokens UInt64,
    reasoning_tokens UInt64,
    images UInt64,
    cost Decimal(18, 12),

    -- how it went
    outcome Enum8('none' = 0, 'completed' = 1, 'cancelled' = 2, 'upstream_error' = 3, 'timeout' = 4, 'abandoned' = 5),
    usage_source Enum8('none' = 0, 'reported' = 1, 'estimated' = 2),
    http_status UInt16,
    latency_ms UInt32,
    ttft_ms UInt32,
    -- log-scaled classes of the two, so that percentiles are sums of counts and
    -- come out the same whatever the order of merges (see analytics/latency.go)
    latency_class UInt8,
    ttft_class UInt8,
    stream Bool,
    producer LowCardinality(String),
    external_id String,

    -- the fence: an INSERT says until when its writer holds the shard, and the server
    -- refuses one that reaches it later, when the next writer may be at work
    insert_by DateTime64(3, 'UTC') EPHEMERAL toDateTime64('2200-01-01 00:00:00', 3, 'UTC'),
    in_time UInt8 MATERIALIZED throwIf(insert_by <= now64(3, 'UTC'), 'the INSERT came after the lease of its writer'),

    -- start and audit of the ingester in a few rows
    PROJECTION checkpoint
    (
        SELECT shard, min(stream_seq), max(stream_seq), max(recorded_at), count()
        GROUP BY shard
    ),
    -- usage and dashboards: every zone's offset is a multiple of 15 minutes, so any
    -- zone's hour or day is a sum of these buckets
    PROJECTION by_quarter_hour
    (
        SELECT
            org_id, toStartOfFifteenMinutes(occurred_at), disposition, team_id, key_id, model, outcome,
            count(), countIf(http_status >= 500), sum(latency_ms),
            sum(input_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens), sum(cache_write_1h_tokens),
            sum(output_tokens), sum(reasoning_tokens), sum(images), sum(cost)
        GROUP BY org_id, toStartOfFifteenMinutes(occurred_at), disposition, team_id, key_id, model, outcome
    ),
    -- one for each: their pairs would be nearly as many as the rows
    PROJECTION latency_by_quarter_hour
    (
        SELECT org_id, toStartOfFifteenMinutes(occurred_at), disposition, latency_class, count()
        GROUP BY org_id, toStartOfFifteenMinutes(occurred_at), disposition, latency_class
    ),
    PROJECTION ttft_by_quarter_hour
    (
        SELECT org_id, toStartOfFifteenMinutes(occurred_at), disposition, ttft_class, count()
        GROUP BY org_id, toStartOfFifteenMinutes(occurred_at), disposition, ttft_class
    ),
    -- the exact look-up behind the duplicate filter: a secondary index
    PROJECTION by_id
    (
        SELECT _part_offset ORDER BY id_hash
    )
)
ENGINE = MergeTree
PARTITION BY (shard, toYYYYMM(recorded_at))
ORDER BY (org_id, occurred_at, stream_seq, idx)
SETTINGS non_replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1
