-- Time to first token of one org in [from, to), as counts by class, from the
-- projection attempt_ttft_by_quarter_hour. Class 0 is also "not timed", and left out.
SELECT ttft_class, count()
FROM usage_events
WHERE org_id = {org:UUID}
    AND disposition = 'counted'
    AND NOT retried
    AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
    AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
    AND ttft_class > 0
GROUP BY ttft_class
ORDER BY ttft_class
