package analytics

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/analytics/idset"
	"aione/events"
	"aione/ledger"
)

//go:embed inputs.sql
var selectInputs string

// inputsOrgsMax bounds the orgs of one query: their ids travel in the URL.
const inputsOrgsMax = 500

// inputsSettings bound the memory of one query: what it sums up by is kept in
// memory, and there are at most as many groups as lines of the invoices.
var inputsSettings = clickhouse.Settings{
	"optimize_use_projections": 0, // rows, not rollups
	"max_execution_time":       0, // only the caller's context bounds an invoice run
}

// SortOrgs puts orgs in the order of the table, in which neighbours are read
// together: ClickHouse compares the second half of a UUID first.
func (s *Store) SortOrgs(ids []uuid.UUID) {
	slices.SortFunc(ids, func(a, b uuid.UUID) int {
		return cmp.Or(bytes.Compare(a[8:], b[8:]), bytes.Compare(a[:8], b[:8]))
	})
}

// Inputs answers what one invoice has to count, from rows.
func (s *Store) Inputs(ctx context.Context, q ledger.InputsQuery) (in ledger.Inputs, err error) {
	err = s.EachInputs(ctx, []ledger.InputsQuery{q}, func(_ int, found ledger.Inputs) error {
		in = found
		return nil
	})
	return in, err
}

// EachInputs calls each with the answer to every question, in order: what the
// invoices have to count, from rows. At most inputsOrgsMax answers are in memory.
// The orgs must differ.
func (s *Store) EachInputs(ctx context.Context, qs []ledger.InputsQuery, each func(i int, in ledger.Inputs) error) error {
	for from := 0; from < len(qs); from += inputsOrgsMax {
		part := qs[from:min(from+inputsOrgsMax, len(qs))]
		err := s.eachInputs(ctx, part, func(i int, in ledger.Inputs) error { return each(from+i, in) })
		if err != nil {
			return fmt.Errorf("invoice inputs of %d orgs from %s on: %w", len(part), part[0].OrgID, err)
		}
	}
	return nil
}

func (s *Store) eachInputs(ctx context.Context, qs []ledger.InputsQuery, each func(int, ledger.Inputs) error) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(inputsSettings), clickhouse.WithParameters(inputsParams(qs)))
	found, err := s.conn.Query(ctx, selectInputs)
	if err != nil {
		return err
	}
	defer found.Close()
	sum := inputsSum{}
	next := 0 // the question that is being answered
	for found.Next() {
		var r inputsRow
		if err := r.scan(found); err != nil {
			return err
		}
		for ; next < r.place; next++ { // this one's rows are all there
			if err := each(next, sum.take()); err != nil {
				return err
			}
		}
		sum.add(&qs[next], &r)
	}
	if err := found.Err(); err != nil {
		return err
	}
	for ; next < len(qs); next++ {
		if err := each(next, sum.take()); err != nil {
			return err
		}
	}
	return nil
}

// inputsRow is one group of rows.
type inputsRow struct {
	ledger.Quantity
	place    int // from 0 on
	startMS  int64
	tooLate  bool
	paid     decimal.Decimal
	xor, sum uint64
}

func (r *inputsRow) scan(rows driver.Rows) error {
	var place uint32
	err := rows.Scan(&place, &r.Model, &r.PriceVersion, &r.startMS, &r.tooLate, &r.Requests, &r.Empty,
		&r.Tokens.Input, &r.Tokens.CacheRead, &r.Tokens.CacheWrite5m, &r.Tokens.CacheWrite1h,
		&r.Tokens.Output, &r.Tokens.Reasoning, &r.Images, &r.Cost, &r.paid, &r.xor, &r.sum)
	r.place = int(place) - 1
	return err
}

// inputsSum adds up the groups of one org.
type inputsSum struct {
	in       ledger.Inputs
	at       map[inputsKey]int // in in.Quantities
	xor, sum uint64
}

type inputsKey struct {
	model, version string
	span           ledger.Span
}

func (s *inputsSum) add(q *ledger.InputsQuery, r *inputsRow) {
	s.in.Paid = s.in.Paid.Add(r.paid)
	if r.tooLate {
		s.in.TooLateRows += r.Requests
		s.in.TooLateCost = s.in.TooLateCost.Add(r.Cost)
		return
	}
	s.in.Rows += r.Requests
	s.xor, s.sum = s.xor^r.xor, s.sum+r.sum
	begun := sort.Search(len(q.Spans), func(i int) bool { return q.Spans[i].Start.UnixMilli() > r.startMS })
	span := q.SpanOf(begun)
	r.Origin, r.Segment, r.Late = span.Origin, span.Segment, span.Origin != ""
	key := inputsKey{r.Model, r.PriceVersion, ledger.Span{Origin: span.Origin, Segment: span.Segment}}
	at, ok := s.at[key]
	if !ok {
		if s.at == nil {
			s.at = make(map[inputsKey]int)
		}
		s.at[key] = len(s.in.Quantities)
		s.in.Quantities = append(s.in.Quantities, r.Quantity)
		return
	}
	sum := &s.in.Quantities[at]
	sum.Tokens.Input += r.Tokens.Input
	sum.Tokens.CacheRead += r.Tokens.CacheRead
	sum.Tokens.CacheWrite5m += r.Tokens.CacheWrite5m
	sum.Tokens.CacheWrite1h += r.Tokens.CacheWrite1h
	sum.Tokens.Output += r.Tokens.Output
	sum.Tokens.Reasoning += r.Tokens.Reasoning
	sum.Images += r.Images
	sum.Requests += r.Requests
	sum.Empty += r.Empty
	sum.Cost = sum.Cost.Add(r.Cost)
}

// take gives the sum and begins anew.
func (s *inputsSum) take() ledger.Inputs {
	in := s.in
	if in.Rows > 0 {
		in.RowsDigest = fmt.Sprintf("%016x%016x", s.xor, s.sum) // does not depend on the order of rows
	}
	*s = inputsSum{}
	return in
}

func inputsParams(qs []ledger.InputsQuery) clickhouse.Parameters {
	n := len(qs)
	orgs, places := make([]uuid.UUID, n), make([]uint64, n)
	start, end, lateFrom, paidFrom := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	cuts, previousCuts := make([]uint64, n), make([]uint64, n)
	// The first is before everything: roundDown gives it for what comes before all spans.
	starts := []int64{math.MinInt64}
	var lastEnd time.Time
	for i := range qs {
		q := &qs[i]
		orgs[i], places[i] = q.OrgID, uint64(i)+1
		start[i], end[i], cuts[i], previousCuts[i] = q.Start.UnixMilli(), q.End.UnixMilli(), q.Cut, q.PreviousCut
		lateFrom[i], paidFrom[i] = lateFromMS(q), math.MaxInt64
		if !q.PaidFrom.IsZero() {
			paidFrom[i] = q.PaidFrom.UnixMilli()
		}
		for _, span := range q.Spans {
			starts = append(starts, span.Start.UnixMilli())
		}
		if q.End.After(lastEnd) {
			lastEnd = q.End
		}
	}
	slices.Sort(starts)
	return clickhouse.Parameters{
		"orgs": uuidsParam(orgs), "places": arrayParam(places), "last_end": milliParam(lastEnd),
		"start_ms": arrayParam(start), "end_ms": arrayParam(end), "cuts": arrayParam(cuts), "previous_cuts": arrayParam(previousCuts),
		"late_from_ms": arrayParam(lateFrom), "paid_from_ms": arrayParam(paidFrom), "starts_ms": arrayParam(slices.Compact(starts)),
	}
}

func lateFromMS(q *ledger.InputsQuery) int64 {
	if q.LateFrom.IsZero() {
		return math.MinInt64
	}
	return q.LateFrom.UnixMilli()
}

const selectFirstUse = `
SELECT org_id, min(occurred_at)
FROM usage_events
WHERE org_id IN {orgs:Array(UUID)} AND disposition = 'counted'
GROUP BY org_id`

// FirstUse is when the earliest counted usage of each org occurred that has any.
func (s *Store) FirstUse(ctx context.Context, orgs []uuid.UUID) (map[uuid.UUID]time.Time, error) {
	first := make(map[uuid.UUID]time.Time)
	for part := range slices.Chunk(orgs, inputsOrgsMax) {
		if err := s.firstUse(ctx, part, first); err != nil {
			return nil, fmt.Errorf("first use of %d orgs: %w", len(part), err)
		}
	}
	return first, nil
}

func (s *Store) firstUse(ctx context.Context, orgs []uuid.UUID, first map[uuid.UUID]time.Time) error {
	found, err := s.conn.Query(s.query(ctx, clickhouse.Parameters{"orgs": uuidsParam(orgs)}), selectFirstUse)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var id uuid.UUID
		var at time.Time
		if err := found.Scan(&id, &at); err != nil {
			return err
		}
		first[id] = at.UTC()
	}
	return found.Err()
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
