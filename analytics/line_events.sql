-- Which of invoice_rows.sql are behind one line: what the line tells apart; spans_ms
-- are the starts of the spans that it is about.
    AND model = {model:String}
    AND price_version = {price_version:String}
    AND roundDown(toUnixTimestamp64Milli(occurred_at), {starts_ms:Array(Int64)}) IN {spans_ms:Array(Int64)}
    AND multiIf(
        {bucket:String} = 'input', input_tokens,
        {bucket:String} = 'cache_read', cache_read_tokens,
        {bucket:String} = 'cache_write_5m', cache_write_5m_tokens,
        {bucket:String} = 'cache_write_1h', cache_write_1h_tokens,
        {bucket:String} = 'output', output_tokens,
        {bucket:String} = 'reasoning', reasoning_tokens,
        {bucket:String} = 'images', images,
        {bucket:String} = 'requests',
            toUInt64(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens + reasoning_tokens + images > 0 OR cost > 0),
        0) > 0
