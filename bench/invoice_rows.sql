-- One slice of the invoice bench's month, as the ingester would have left it after
-- merges. The first {big} rows are the big org's, the others belong to {orgs}
-- further orgs, all alike. Every row costs what its price version says.
INSERT INTO usage_events
    (shard, stream_seq, idx, disposition, org_id, team_id, key_id, model, provider, price_version, currency,
    event_id, operation_id, id_hash, digest, occurred_at, recorded_at,
    input_tokens, cache_read_tokens, output_tokens, reasoning_tokens, cost,
    outcome, usage_source, http_status, latency_ms, ttft_ms, latency_class, ttft_class, stream, producer, external_id)
WITH
    number < {big:UInt64} AS is_big,
    if(is_big, 0, 1 + (number - {big:UInt64}) % {orgs:UInt64}) AS org,
    if(is_big, number, intDiv(number - {big:UInt64}, {orgs:UInt64})) AS nth,
    if(is_big, {big:UInt64}, intDiv({rows:UInt64} - {big:UInt64}, {orgs:UInt64}) + 1) AS of,
    fromUnixTimestamp64Milli(toInt64({from_ms:Int64} + intDiv(nth * {span_ms:Int64}, of)), 'UTC') AS at,
    rand(1) % length({inputs:Array(UInt32)}) + 1 AS drawn,
    {inputs:Array(UInt32)}[drawn] AS input,
    {outputs:Array(UInt32)}[drawn] AS output,
    toUInt32(120 + intDiv(input, 20) + rand(2) % 200) AS first_ms,
    toUInt32(first_ms + output * (8 + rand(3) % 12)) AS all_ms
SELECT
    0, {first_seq:UInt64} + intDiv(number, 1000), number % 1000, 'counted',
    reinterpret(toFixedString(concat('bench-org', leftPad(toString(org), 7, '0')), 16), 'UUID'),
    reinterpret(toFixedString(concat('team', leftPad(toString(org), 12, '0')), 16), 'UUID'),
    reinterpret(toFixedString(concat('key_', leftPad(toString(org), 12, '0')), 16), 'UUID'),
    {models:Array(String)}[(nth + intDiv(nth, 7)) % length({models:Array(String)}) + 1] AS model_name,
    'provider', concat(model_name, '@1'), 'CNY',
    generateUUIDv4(4), generateUUIDv4(5), rand64(6), rand64(7), at, at + INTERVAL 1 SECOND,
    input, 0, output, 0, reinterpret(toInt64(input * 18000000 + output * 72000000), 'Decimal64(12)'),
    'completed', 'reported', 200, all_ms, first_ms,
    least(255, floor(log(all_ms + 1) * 16)), least(255, floor(log(first_ms + 1) * 16)), true, 'gateway', ''
FROM numbers({rows:UInt64})
