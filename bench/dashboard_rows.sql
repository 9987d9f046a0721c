-- One slice of time of the dashboard bench, as the ingester would have left it
-- after merges: every org has rows in it, in the order of the table. Rows are made
-- inside ClickHouse, so that twenty million of them fit a minute.
--
-- The first {small} rows are the small org's, the next ten times as many the large
-- one's, the others belong to {orgs} further orgs. An org's rows cycle through its
-- groups (key and model, some failing) in each quarter of an hour, so the two orgs
-- under test have the same number of groups whatever their number of rows.
INSERT INTO usage_events
    (shard, stream_seq, idx, disposition, org_id, team_id, key_id, model, provider, price_version, currency,
    event_id, operation_id, id_hash, digest, occurred_at, recorded_at,
    input_tokens, cache_read_tokens, output_tokens, reasoning_tokens, cost,
    outcome, usage_source, http_status, latency_ms, ttft_ms, latency_class, ttft_class, stream, producer, external_id)
WITH
    number < {small:UInt64} AS is_small,
    NOT is_small AND number < 11 * {small:UInt64} AS is_large,
    intDiv({rows:UInt64} - 11 * {small:UInt64} + {orgs:UInt64} - 1, {orgs:UInt64}) AS other_rows,
    multiIf(is_small, 0, is_large, 1, 2 + intDiv(number - 11 * {small:UInt64}, other_rows)) AS org,
    multiIf(is_small, number, is_large, number - {small:UInt64}, (number - 11 * {small:UInt64}) % other_rows) AS nth,
    multiIf(is_small, {small:UInt64}, is_large, 10 * {small:UInt64}, other_rows) AS of,
    fromUnixTimestamp64Milli(toInt64({from_ms:Int64} + intDiv(nth * {span_ms:Int64}, of)), 'UTC') AS at,
    nth % 28 AS combination,
    combination >= 24 AS fails,
    combination % 4 AS key,
    -- two draws from the thousand-row sample of the real trace
    rand(1) % length({inputs:Array(UInt32)}) + 1 AS drawn,
    {inputs:Array(UInt32)}[drawn] AS input,
    {outputs:Array(UInt32)}[drawn] AS output,
    toUInt32(120 + intDiv(input, 20) + rand(2) % 200) AS first_ms,
    toUInt32(first_ms + output * (8 + rand(3) % 12)) AS all_ms
SELECT
    0, {first_seq:UInt64} + intDiv(number, 1000), number % 1000, 'counted',
    reinterpret(toFixedString(concat('bench-org', leftPad(toString(org), 7, '0')), 16), 'UUID'),
    reinterpret(toFixedString(concat('team', leftPad(toString(org), 7, '0'), leftPad(toString(key % 2), 5, '0')), 16), 'UUID'),
    reinterpret(toFixedString(concat('key_', leftPad(toString(org), 7, '0'), leftPad(toString(key), 5, '0')), 16), 'UUID'),
    ['gpt-4o', 'gpt-4o-mini', 'claude-sonnet-4-6', 'deepseek-chat', 'qwen-max', 'gemini-2.5-flash'][intDiv(combination, 4) % 6 + 1] AS model_name,
    ['openai', 'openai', 'anthropic', 'deepseek', 'alibaba', 'google'][intDiv(combination, 4) % 6 + 1],
    concat(model_name, '@1'), 'CNY',
    generateUUIDv4(4), generateUUIDv4(5), rand64(6), rand64(7), at, at + INTERVAL 1 SECOND,
    if(fails, 0, input), 0, if(fails, 0, output), 0,
    reinterpret(toInt64(if(fails, 0, input * 18000000 + output * 72000000)), 'Decimal64(12)'),
    if(fails, 'upstream_error', 'completed'), 'reported', if(fails, 502, 200), all_ms, first_ms,
    least(255, floor(log(all_ms + 1) * 16)), least(255, floor(log(first_ms + 1) * 16)), true, 'gateway', ''
FROM numbers({rows:UInt64})
