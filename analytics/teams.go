package analytics

import (
	"context"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"

	"aione/ledger"
)

// teamGroupsMax bounds what TeamQuantities keeps in memory.
const teamGroupsMax = 1_000_000

var (
	teamSettings = clickhouse.Settings{
		"optimize_use_projections": 0, // rows, not rollups
		"max_execution_time":       0, // an export has its own end
		"max_rows_to_group_by":     teamGroupsMax,
		"group_by_overflow_mode":   "throw",
	}

	selectTeamQuantities = `
SELECT
    team_id, model, price_version, roundDown(toUnixTimestamp64Milli(occurred_at), {starts_ms:Array(Int64)}) AS start_ms,
    count(),
    countIf(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens + reasoning_tokens + images = 0 AND cost = 0),
    sum(input_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens), sum(cache_write_1h_tokens),
    sum(output_tokens), sum(reasoning_tokens), sum(images), sum(cost)
` + fromInvoiceRows + `
GROUP BY team_id, model, price_version, start_ms`
)

// TeamQuantities is what in counts, from rows, by team: the quantities of Inputs,
// each split by who used it, in no order. More than a million of them are an error.
func (s *Store) TeamQuantities(ctx context.Context, in ledger.InputsQuery) ([]ledger.TeamQuantity, error) {
	starts := startsOf(&in)
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(teamSettings), clickhouse.WithParameters(invoiceRowsParams(&in, starts)))
	found, err := s.conn.Query(ctx, selectTeamQuantities)
	if err != nil {
		return nil, fmt.Errorf("usage of org %s by team: %w", in.OrgID, err)
	}
	defer found.Close()
	var out []ledger.TeamQuantity
	for found.Next() {
		var u ledger.TeamQuantity
		var startMS int64
		err := found.Scan(&u.TeamID, &u.Model, &u.PriceVersion, &startMS, &u.Requests, &u.Empty,
			&u.Tokens.Input, &u.Tokens.CacheRead, &u.Tokens.CacheWrite5m, &u.Tokens.CacheWrite1h,
			&u.Tokens.Output, &u.Tokens.Reasoning, &u.Images, &u.Cost)
		if err != nil {
			return nil, fmt.Errorf("usage of org %s by team: %w", in.OrgID, err)
		}
		span := in.SpanOf(slices.Index(starts, startMS))
		u.Origin, u.Segment, u.Late = span.Origin, span.Segment, span.Origin != ""
		out = append(out, u)
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("usage of org %s by team: %w", in.OrgID, err)
	}
	return out, nil
}
