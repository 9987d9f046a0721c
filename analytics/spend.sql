-- What many orgs have spent and used, by team and key, each in a range of its own, from rows
-- up to a sequence of each shard. Whole quarter hours come from the projection
-- attempts_by_quarter_hour, which knows no sequences; so what lies past them is taken off
-- again, from rows. The edges of a range that is not of whole quarter hours are rows
-- too. All parts see one snapshot of the table (a pinned setting), or a part that
-- arrives in between would be taken off without having been counted.
SELECT org_id, team_id, key_id, sum(part), toUInt64(sum(tokens_part))
FROM
(
    SELECT org_id, team_id, key_id, sum(cost) AS part,
        toInt64(sum(input_tokens) + sum(cache_read_tokens) + sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens) + sum(output_tokens) + sum(reasoning_tokens)) AS tokens_part
    FROM usage_events
    WHERE org_id IN {orgs:Array(UUID)}
        AND disposition = 'counted'
        AND toStartOfFifteenMinutes(occurred_at) >= {least:DateTime('UTC')}
        AND toUnixTimestamp(toStartOfFifteenMinutes(occurred_at)) >= transform(org_id, {orgs:Array(UUID)}, {whole_from:Array(Int64)}, toInt64(0))
        AND toUnixTimestamp(toStartOfFifteenMinutes(occurred_at)) < transform(org_id, {orgs:Array(UUID)}, {whole_to:Array(Int64)}, toInt64(0))
    GROUP BY org_id, team_id, key_id

    UNION ALL

    SELECT org_id, team_id, key_id, -sum(cost) AS part,
        -toInt64(sum(input_tokens) + sum(cache_read_tokens) + sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens) + sum(output_tokens) + sum(reasoning_tokens)) AS tokens_part
    FROM usage_events
    WHERE org_id IN {orgs:Array(UUID)}
        AND disposition = 'counted'
        AND stream_seq > arrayElement({up_to:Array(UInt64)}, shard + 1)
        AND occurred_at >= toDateTime64({least:DateTime('UTC')}, 3, 'UTC')
        AND toUnixTimestamp(toStartOfFifteenMinutes(occurred_at)) >= transform(org_id, {orgs:Array(UUID)}, {whole_from:Array(Int64)}, toInt64(0))
        AND toUnixTimestamp(toStartOfFifteenMinutes(occurred_at)) < transform(org_id, {orgs:Array(UUID)}, {whole_to:Array(Int64)}, toInt64(0))
    GROUP BY org_id, team_id, key_id

    UNION ALL

    SELECT org_id, team_id, key_id, sum(cost) AS part,
        toInt64(sum(input_tokens) + sum(cache_read_tokens) + sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens) + sum(output_tokens) + sum(reasoning_tokens)) AS tokens_part
    FROM usage_events
    WHERE org_id IN {edged:Array(UUID)}
        AND disposition = 'counted'
        AND stream_seq <= arrayElement({up_to:Array(UInt64)}, shard + 1)
        AND toUnixTimestamp64Milli(occurred_at) >= transform(org_id, {orgs:Array(UUID)}, {from_ms:Array(Int64)}, toInt64(0))
        AND toUnixTimestamp64Milli(occurred_at) < transform(org_id, {orgs:Array(UUID)}, {to_ms:Array(Int64)}, toInt64(0))
        AND NOT
        (
            toUnixTimestamp(toStartOfFifteenMinutes(occurred_at)) >= transform(org_id, {orgs:Array(UUID)}, {whole_from:Array(Int64)}, toInt64(0))
            AND toUnixTimestamp(toStartOfFifteenMinutes(occurred_at)) < transform(org_id, {orgs:Array(UUID)}, {whole_to:Array(Int64)}, toInt64(0))
        )
    GROUP BY org_id, team_id, key_id
)
GROUP BY org_id, team_id, key_id
