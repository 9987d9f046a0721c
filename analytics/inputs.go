package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"aione/analytics/idset"
	"aione/events"
	"aione/ledger"
)

//go:embed inputs.sql
var selectInputs string

// Inputs answers what an invoice has to count, from rows.
func (s *Store) Inputs(ctx context.Context, q ledger.InputsQuery) (ledger.Inputs, error) {
	found, err := s.conn.Query(s.query(ctx, inputsParams(q)), selectInputs)
	if err != nil {
		return ledger.Inputs{}, fmt.Errorf("invoice inputs of org %s: %w", q.OrgID, err)
	}
	defer found.Close()
	var in ledger.Inputs
	var xor, sum uint64
	for found.Next() {
		var g ledger.Quantity
		var groupXor, groupSum uint64
		var begun int64
		err := found.Scan(&g.Model, &g.PriceVersion, &begun, &g.Requests,
			&g.Tokens.Input, &g.Tokens.CacheRead, &g.Tokens.CacheWrite5m, &g.Tokens.CacheWrite1h,
			&g.Tokens.Output, &g.Tokens.Reasoning, &g.Images, &g.Cost, &groupXor, &groupSum)
		if err != nil {
			return ledger.Inputs{}, fmt.Errorf("invoice inputs of org %s: %w", q.OrgID, err)
		}
		span := q.SpanOf(int(begun))
		g.Origin, g.Segment, g.Late = span.Origin, span.Segment, span.Origin != ""
		in.Quantities = append(in.Quantities, g)
		in.Rows += g.Requests
		xor, sum = xor^groupXor, sum+groupSum
	}
	if err := found.Err(); err != nil {
		return ledger.Inputs{}, fmt.Errorf("invoice inputs of org %s: %w", q.OrgID, err)
	}
	if in.Rows > 0 {
		in.RowsDigest = fmt.Sprintf("%016x%016x", xor, sum) // does not depend on the order of rows
	}
	return in, nil
}

func inputsParams(q ledger.InputsQuery) clickhouse.Parameters {
	// The first is before everything: roundDown gives it for what comes before all spans.
	starts := []string{fmt.Sprint(math.MinInt64)}
	for _, span := range q.Spans {
		starts = append(starts, fmt.Sprint(span.Start.UnixMilli()))
	}
	return clickhouse.Parameters{
		"org": q.OrgID.String(), "start": milliParam(q.Start), "end": milliParam(q.End),
		"cut": fmt.Sprint(q.Cut), "previous_cut": fmt.Sprint(q.PreviousCut),
		"starts_ms": "[" + strings.Join(starts, ",") + "]",
	}
}

const selectFirstUse = `
SELECT min(occurred_at), count()
FROM usage_events
WHERE org_id = {org:UUID} AND disposition = 'counted'`

// FirstUse is when the org's earliest counted usage occurred; false when there is none.
func (s *Store) FirstUse(ctx context.Context, org uuid.UUID) (time.Time, bool, error) {
	var at time.Time
	var n uint64
	ctx = s.query(ctx, clickhouse.Parameters{"org": org.String()})
	if err := s.conn.QueryRow(ctx, selectFirstUse).Scan(&at, &n); err != nil {
		return time.Time{}, false, fmt.Errorf("first use of org %s: %w", org, err)
	}
	return at.UTC(), n > 0, nil
}

// Settled says which of the ids are counted, or are sandbox.
func (s *Store) Settled(ctx context.Context, keys []events.UsageKey) (map[events.UsageKey]bool, error) {
	hashes := make([]uint64, len(keys))
	for i, k := range keys {
		hashes[i] = idset.Hash(k.OrgID, k.ID)
	}
	known, err := s.digests(ctx, hashes)
	if err != nil {
		return nil, err
	}
	settled := make(map[events.UsageKey]bool, len(keys))
	for _, k := range keys {
		_, settled[k] = known[k]
	}
	return settled, nil
}
