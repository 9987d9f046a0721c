package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"math"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"aione/events"
	"aione/ledger"
)

//go:embed invoice_rows.sql
var fromInvoiceRows string

//go:embed line_events.sql
var whereLineEvents string

var (
	fromLineEvents = fromInvoiceRows + whereLineEvents

	selectLineEvents = `
SELECT
    event_id, operation_id, org_id, team_id, key_id, model, provider, price_version, currency, occurred_at,
    input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, images, cost,
    toInt8(outcome), toInt8(usage_source), http_status, latency_ms, ttft_ms, stream, producer, external_id, retried
` + fromLineEvents + `
ORDER BY stream_seq, idx
LIMIT {limit:UInt64} OFFSET {offset:UInt64}`

	selectLineTotal = "SELECT count() " + fromLineEvents
)

// LineEvents are the events that in counts and that line is the sum of, in the
// order of the log: those of its model, price version, origin and segment with
// something in its bucket. It returns the events from offset on, at most limit, and the
// number of all. They are rows, each with what its event said.
func (s *Store) LineEvents(ctx context.Context, in ledger.InputsQuery, line ledger.Line, limit, offset int) ([]events.Usage, int, error) {
	starts, spans := spansOf(in, line)
	params := invoiceRowsParams(&in, starts)
	maps.Copy(params, clickhouse.Parameters{
		"spans_ms": arrayParam(spans), "model": line.Model, "price_version": line.PriceVersion, "bucket": string(line.Bucket),
		"limit": strconv.Itoa(limit), "offset": strconv.Itoa(offset),
	})
	ctx = s.query(ctx, params)
	var total uint64
	if err := s.conn.QueryRow(ctx, selectLineTotal).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the events of a line of org %s: %w", in.OrgID, err)
	}
	if total <= uint64(offset) {
		return nil, int(total), nil
	}
	found, err := s.conn.Query(ctx, selectLineEvents)
	if err != nil {
		return nil, 0, fmt.Errorf("events of a line of org %s: %w", in.OrgID, err)
	}
	defer found.Close()
	var out []events.Usage
	for found.Next() {
		var u events.Usage
		var outcome, source int8
		err := found.Scan(&u.ID, &u.OperationID, &u.OrgID, &u.TeamID, &u.KeyID, &u.Model, &u.Provider, &u.PriceVersion, &u.Currency, &u.OccurredAt,
			&u.Tokens.Input, &u.Tokens.CacheRead, &u.Tokens.CacheWrite5m, &u.Tokens.CacheWrite1h, &u.Tokens.Output, &u.Tokens.Reasoning, &u.Images, &u.Cost,
			&outcome, &source, &u.HTTPStatus, &u.LatencyMS, &u.TTFTMS, &u.Stream, &u.Producer, &u.ExternalID, &u.Retried)
		if err != nil {
			return nil, 0, fmt.Errorf("events of a line of org %s: %w", in.OrgID, err)
		}
		u.Outcome, u.Source, u.OccurredAt = events.Outcome(outcome), events.Source(source), u.OccurredAt.UTC()
		out = append(out, u)
	}
	if err := found.Err(); err != nil {
		return nil, 0, fmt.Errorf("events of a line of org %s: %w", in.OrgID, err)
	}
	return out, int(total), nil
}

// invoiceRowsParams are those of invoice_rows.sql, with the starts of spans.
func invoiceRowsParams(in *ledger.InputsQuery, starts []int64) clickhouse.Parameters {
	return clickhouse.Parameters{
		"org": in.OrgID.String(), "start": milliParam(in.Start), "end": milliParam(in.End), "late_from_ms": fmt.Sprint(lateFromMS(in)),
		"cut": fmt.Sprint(in.Cut), "previous_cut": fmt.Sprint(in.PreviousCut), "starts_ms": arrayParam(starts),
	}
}

// spansOf are the starts of all spans of a question, after the lowest number there
// is, and of those that a line is about.
func spansOf(in ledger.InputsQuery, line ledger.Line) (starts, spans []int64) {
	starts = startsOf(&in)
	for begun, start := range starts {
		if span := in.SpanOf(begun); span.Origin == line.Origin && span.Segment == line.Segment {
			spans = append(spans, start)
		}
	}
	return starts, spans
}

func startsOf(in *ledger.InputsQuery) []int64 {
	starts := []int64{math.MinInt64}
	for _, span := range in.Spans {
		starts = append(starts, span.Start.UnixMilli())
	}
	return starts
}
