-- What an invoice of one org counts: usage that occurred before the end of the
-- period and lies in the log up to the cut, less what the org's earlier invoices
-- have counted. Rows, not rollups. ClickHouse only sums; a cost is bounded
-- (events.MaxCost), so the sum cannot overflow Decimal(38, 12).
--
-- starts_ms ascends and begins with the lowest number there is: a row belongs to the
-- last start that is not after it, and span is how many real starts have begun.
-- roundDown searches for it; counting starts row by row took 25 times as long.
SELECT
    model,
    price_version,
    indexOf({starts_ms:Array(Int64)}, start_ms) - 1 AS span,
    count(),
    sum(input_tokens),
    sum(cache_read_tokens),
    sum(cache_write_5m_tokens),
    sum(cache_write_1h_tokens),
    sum(output_tokens),
    sum(reasoning_tokens),
    sum(images),
    sum(cost),
    groupBitXor(sipHash64(event_id, digest, cost)),
    sumWithOverflow(sipHash64(event_id, digest, cost))
FROM usage_events
WHERE org_id = {org:UUID}
    AND disposition = 'counted'
    AND occurred_at < {end:DateTime64(3, 'UTC')}
    AND stream_seq <= {cut:UInt64}
    AND NOT (occurred_at < {start:DateTime64(3, 'UTC')} AND stream_seq <= {previous_cut:UInt64})
GROUP BY model, price_version, roundDown(toUnixTimestamp64Milli(occurred_at), {starts_ms:Array(Int64)}) AS start_ms
ORDER BY span, model, price_version
