-- The rows of a run of envelopes, envelope by envelope, for the audit to lay
-- beside the log. The text has every column that comes from the event, so that a
-- change of any of them shows (rowText in audit_envelopes.go is its other half).
SELECT
    stream_seq,
    count(),
    uniqExact(idx),
    max(idx),
    countIf(disposition = 'undecodable'),
    countIf(disposition = 'sandbox'),
    countIf(disposition = 'counted'),
    groupBitXor(digest),
    groupBitXorIf(xxh3(concatWithSeparator('|',
        toString(idx), toString(org_id), toString(team_id), toString(key_id), toString(event_id), toString(operation_id),
        toString(toUnixTimestamp64Milli(occurred_at)),
        toString(input_tokens), toString(cache_read_tokens), toString(cache_write_5m_tokens), toString(cache_write_1h_tokens),
        toString(output_tokens), toString(reasoning_tokens), toString(images),
        toString(toInt8(outcome)), toString(toInt8(usage_source)), toString(http_status),
        toString(latency_ms), toString(ttft_ms), toString(latency_class), toString(ttft_class), toString(toUInt8(stream)),
        model, provider, price_version, currency, producer, external_id, toString(toUInt8(retried)))), disposition != 'undecodable'),
    sum(cost)
FROM usage_events
WHERE shard = {shard:UInt16} AND recorded_at >= {since:DateTime64(3, 'UTC')} AND stream_seq >= {from:UInt64} AND stream_seq <= {through:UInt64}
GROUP BY stream_seq
ORDER BY stream_seq
