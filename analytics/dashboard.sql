-- What a dashboard of one org over [from, to) adds up, by day in the org's zone,
-- model, team, outcome and whether another attempt followed, from the projection
-- attempts_by_quarter_hour.
SELECT
    toString(toDate(toStartOfFifteenMinutes(occurred_at), {zone:String})) AS date,
    model,
    team_id,
    toString(outcome),
    retried,
    count(),
    countIf(http_status >= 500),
    sum(latency_ms),
    sum(input_tokens),
    sum(cache_read_tokens),
    sum(cache_write_5m_tokens),
    sum(cache_write_1h_tokens),
    sum(output_tokens),
    sum(reasoning_tokens),
    sum(images),
    sum(cost)
FROM usage_events
WHERE org_id = {org:UUID}
    AND disposition = 'counted'
    AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
    AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
GROUP BY date, model, team_id, outcome, retried
ORDER BY date, model, team_id, outcome, retried
