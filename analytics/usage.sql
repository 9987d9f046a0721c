-- Usage of one org in [from, to), grouped as asked; attempts that were retried are not
-- requests, and have a sum of their own. The inner query is over the keys and
-- aggregates of the projection attempts_by_quarter_hour, so the cost follows its
-- rows. A group that was not asked for is empty. An hour is the instant at which it
-- starts in the org's zone; zones differ by multiples of 15 minutes, so a bucket is
-- never cut.
SELECT
    date, model, team, key,
    sumIf(attempts, NOT retried),
    sumIf(attempts, retried),
    sum(input), sum(cache_read), sum(cache_write_5m), sum(cache_write_1h), sum(output), sum(reasoning), sum(images),
    sum(cost),
    sumIf(attempts, NOT retried AND outcome IN ('upstream_error', 'timeout', 'abandoned')),
    count() OVER () AS total
FROM
(
    SELECT
        multiIf(
            {by_hour:Bool}, formatDateTime(toStartOfHour(toStartOfFifteenMinutes(occurred_at), {zone:String}), '%Y-%m-%dT%H:%i:%SZ', 'UTC'),
            {by_day:Bool}, toString(toDate(toStartOfFifteenMinutes(occurred_at), {zone:String})),
            '') AS date,
        if({by_model:Bool}, usage_events.model, '') AS model,
        if({by_team:Bool}, team_id, toUUID('00000000-0000-0000-0000-000000000000')) AS team,
        if({by_key:Bool}, key_id, toUUID('00000000-0000-0000-0000-000000000000')) AS key,
        outcome,
        retried,
        count() AS attempts,
        sum(input_tokens) AS input,
        sum(cache_read_tokens) AS cache_read,
        sum(cache_write_5m_tokens) AS cache_write_5m,
        sum(cache_write_1h_tokens) AS cache_write_1h,
        sum(output_tokens) AS output,
        sum(reasoning_tokens) AS reasoning,
        sum(usage_events.images) AS images,
        sum(usage_events.cost) AS cost
    FROM usage_events
    WHERE org_id = {org:UUID}
        AND disposition = 'counted'
        AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
        AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
        AND ({model:String} = '' OR usage_events.model = {model:String})
        AND ({team:UUID} = toUUID('00000000-0000-0000-0000-000000000000') OR team_id = {team:UUID})
        AND ({key:UUID} = toUUID('00000000-0000-0000-0000-000000000000') OR key_id = {key:UUID})
    GROUP BY date, model, team, key, outcome, retried
)
GROUP BY date, model, team, key
ORDER BY date, model, team, key
LIMIT {limit:UInt64} OFFSET {offset:UInt64}
