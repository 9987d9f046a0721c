-- Latency of the requests of one org in [from, to), as counts by class, from the
-- projection attempt_latency_by_quarter_hour. An attempt that was retried is part of
-- the latency of the one that followed. Class 0 is "not timed", and left out.
SELECT latency_class, count()
FROM usage_events
WHERE org_id = {org:UUID}
    AND disposition = 'counted'
    AND NOT retried
    AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
    AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
    AND latency_class > 0
GROUP BY latency_class
ORDER BY latency_class
