-- What the invoices of many orgs count: for each org usage that occurred before the
-- end of its period and lies in the log up to its cut, less what the org's earlier
-- invoices have counted. Rows, not rollups. ClickHouse only sums; a cost is bounded
-- (events.MaxCost), so the sum cannot overflow Decimal(38, 12).
--
-- place is the org's in the arrays, which have an element for each org. starts_ms
-- are the starts of the spans of all orgs together, ascending, after the lowest
-- number there is: a row belongs to the last start that is not after it. That splits
-- the spans of one org at the starts of others, which the reader adds up again.
WITH
    transform(org_id, {orgs:Array(UUID)}, {places:Array(UInt32)}, toUInt32(0)) AS place,
    toUnixTimestamp64Milli(occurred_at) AS at_ms
SELECT
    place,
    model,
    price_version,
    roundDown(at_ms, {starts_ms:Array(Int64)}) AS start_ms,
    at_ms < arrayElement({late_from_ms:Array(Int64)}, place) AS too_late,
    count(),
    countIf(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens + reasoning_tokens + images = 0 AND cost = 0),
    sum(input_tokens),
    sum(cache_read_tokens),
    sum(cache_write_5m_tokens),
    sum(cache_write_1h_tokens),
    sum(output_tokens),
    sum(reasoning_tokens),
    sum(images),
    sum(cost),
    sumIf(cost, at_ms >= arrayElement({paid_from_ms:Array(Int64)}, place)),
    groupBitXor(cityHash64(id_hash, digest, cost)),
    sumWithOverflow(cityHash64(id_hash, digest, cost))
FROM usage_events
WHERE org_id IN {orgs:Array(UUID)}
    AND disposition = 'counted'
    AND occurred_at < {last_end:DateTime64(3, 'UTC')}
    AND at_ms < arrayElement({end_ms:Array(Int64)}, place)
    AND stream_seq <= arrayElement({cuts:Array(UInt64)}, place)
    AND NOT (at_ms < arrayElement({start_ms:Array(Int64)}, place) AND stream_seq <= arrayElement({previous_cuts:Array(UInt64)}, place))
GROUP BY place, model, price_version, start_ms, too_late
ORDER BY place, start_ms, model, price_version, too_late
