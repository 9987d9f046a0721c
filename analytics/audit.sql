-- The rows of a shard, envelope by envelope, for the audit to lay beside the log.
SELECT
    stream_seq,
    count(),
    uniqExact(idx),
    max(idx),
    countIf(disposition = 'undecodable'),
    groupBitXor(digest),
    sum(cost)
FROM usage_events
WHERE shard = {shard:UInt16} AND stream_seq <= {through:UInt64}
GROUP BY stream_seq
ORDER BY stream_seq
