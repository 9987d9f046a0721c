-- Latency of one org in [from, to), as counts by class, from the projection
-- latency_by_quarter_hour.
SELECT latency_class, count()
FROM usage_events
WHERE org_id = {org:UUID}
    AND disposition = 'counted'
    AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
    AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
GROUP BY latency_class
ORDER BY latency_class
