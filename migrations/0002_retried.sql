-- One request can take several attempts, each of which is an event. What a client saw
-- of it is the attempt that was not retried: requests, errors and latencies are
-- counted by those. The rollups tell both apart, and have names of their own: parts
-- from before hold the earlier ones, and answer from their rows until Apply has had
-- the new ones made for them.
ALTER TABLE usage_events
    -- 0 in rows from before, as in events from before
    ADD COLUMN IF NOT EXISTS retried Bool AFTER external_id,
    ADD PROJECTION IF NOT EXISTS attempts_by_quarter_hour
    (
        SELECT
            org_id, toStartOfFifteenMinutes(occurred_at), disposition, team_id, key_id, model, outcome, retried,
            count(), countIf(http_status >= 500), sum(latency_ms),
            sum(input_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens), sum(cache_write_1h_tokens),
            sum(output_tokens), sum(reasoning_tokens), sum(images), sum(cost)
        GROUP BY org_id, toStartOfFifteenMinutes(occurred_at), disposition, team_id, key_id, model, outcome, retried
    ),
    ADD PROJECTION IF NOT EXISTS attempt_latency_by_quarter_hour
    (
        SELECT org_id, toStartOfFifteenMinutes(occurred_at), disposition, retried, latency_class, count()
        GROUP BY org_id, toStartOfFifteenMinutes(occurred_at), disposition, retried, latency_class
    ),
    ADD PROJECTION IF NOT EXISTS attempt_ttft_by_quarter_hour
    (
        SELECT org_id, toStartOfFifteenMinutes(occurred_at), disposition, retried, ttft_class, count()
        GROUP BY org_id, toStartOfFifteenMinutes(occurred_at), disposition, retried, ttft_class
    ),
    DROP PROJECTION IF EXISTS by_quarter_hour,
    DROP PROJECTION IF EXISTS latency_by_quarter_hour,
    DROP PROJECTION IF EXISTS ttft_by_quarter_hour
