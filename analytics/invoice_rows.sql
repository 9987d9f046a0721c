-- The rows that one invoice counts. The conditions are those of inputs.sql, for one
-- org.
FROM usage_events
WHERE org_id = {org:UUID}
    AND disposition = 'counted'
    AND occurred_at < {end:DateTime64(3, 'UTC')}
    AND stream_seq <= {cut:UInt64}
    AND NOT (occurred_at < {start:DateTime64(3, 'UTC')} AND stream_seq <= {previous_cut:UInt64})
    AND toUnixTimestamp64Milli(occurred_at) >= {late_from_ms:Int64}
