package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

//go:embed usage.sql
var selectUsage string

// Group says what a usage question is broken down by. Hour wins over Day.
type Group struct{ Day, Hour, Model, Team, Key bool }

// UsageQuery asks for the counted usage of one org in [From, To).
type UsageQuery struct {
	OrgID    uuid.UUID
	From, To time.Time // UTC, multiples of 15 minutes (midnights of any zone are)
	Zone     string    // IANA zone in which days and hours are meant
	By       Group

	// Filters; the zero value takes all.
	Model         string
	TeamID, KeyID uuid.UUID

	Limit, Offset int // rows of the answer
}

// Sums are what usage adds up to. Buckets are disjoint; see events.Tokens.
type Sums struct {
	Requests           uint64 // as their clients saw them, however many attempts one took
	Retries            uint64 // attempts that another one followed
	InputTokens        uint64
	CacheReadTokens    uint64
	CacheWrite5mTokens uint64
	CacheWrite1hTokens uint64
	OutputTokens       uint64
	ReasoningTokens    uint64
	Images             uint64
	Cost               decimal.Decimal // exact
	Errors             uint64          // requests that the provider or the platform failed in the end
}

// PromptTokens is what was sent, cached or not.
func (s Sums) PromptTokens() uint64 {
	return s.InputTokens + s.CacheReadTokens + s.CacheWrite5mTokens + s.CacheWrite1hTokens
}

// CompletionTokens is what the models wrote, reasoning included.
func (s Sums) CompletionTokens() uint64 { return s.OutputTokens + s.ReasoningTokens }

// TotalTokens is the sum of all buckets.
func (s Sums) TotalTokens() uint64 { return s.PromptTokens() + s.CompletionTokens() }

// Add adds t to s.
func (s *Sums) Add(t Sums) {
	s.Requests += t.Requests
	s.Retries += t.Retries
	s.InputTokens += t.InputTokens
	s.CacheReadTokens += t.CacheReadTokens
	s.CacheWrite5mTokens += t.CacheWrite5mTokens
	s.CacheWrite1hTokens += t.CacheWrite1hTokens
	s.OutputTokens += t.OutputTokens
	s.ReasoningTokens += t.ReasoningTokens
	s.Images += t.Images
	s.Cost = s.Cost.Add(t.Cost)
	s.Errors += t.Errors
}

// UsageRow is one group. What it was not grouped by is empty.
type UsageRow struct {
	Date          string // YYYY-MM-DD in the zone; by hour the RFC 3339 UTC instant at which it starts
	Model         string
	TeamID, KeyID uuid.UUID
	Sums
}

// Usage answers q, ordered by date, model, team, key, and says how many rows the
// answer has without Limit and Offset (0 when Offset is past the end).
func (s *Store) Usage(ctx context.Context, q UsageQuery) ([]UsageRow, int, error) {
	var out []UsageRow
	var total uint64
	err := s.EachUsage(ctx, q, func(r UsageRow, n uint64) error {
		out, total = append(out, r), n
		return nil
	})
	return out, int(total), err
}

// EachUsage is Usage for answers too large to hold: it calls each with every row
// and the number of all rows, and stops at its first error.
func (s *Store) EachUsage(ctx context.Context, q UsageQuery, each func(r UsageRow, total uint64) error) error {
	found, err := s.conn.Query(s.query(ctx, clickhouse.Parameters{
		"org": q.OrgID.String(), "from": instantParam(q.From), "to": instantParam(q.To), "zone": q.Zone,
		"by_day": boolParam(q.By.Day), "by_hour": boolParam(q.By.Hour), "by_model": boolParam(q.By.Model),
		"by_team": boolParam(q.By.Team), "by_key": boolParam(q.By.Key),
		"model": q.Model, "team": q.TeamID.String(), "key": q.KeyID.String(),
		"limit": strconv.Itoa(q.Limit), "offset": strconv.Itoa(q.Offset),
	}), selectUsage)
	if err != nil {
		return fmt.Errorf("query usage of org %s: %w", q.OrgID, err)
	}
	defer found.Close()
	for found.Next() {
		var r UsageRow
		var total uint64
		err := found.Scan(&r.Date, &r.Model, &r.TeamID, &r.KeyID, &r.Requests, &r.Retries,
			&r.InputTokens, &r.CacheReadTokens, &r.CacheWrite5mTokens, &r.CacheWrite1hTokens,
			&r.OutputTokens, &r.ReasoningTokens, &r.Images, &r.Cost, &r.Errors, &total)
		if err != nil {
			return fmt.Errorf("query usage of org %s: %w", q.OrgID, err)
		}
		if err := each(r, total); err != nil {
			return err
		}
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("query usage of org %s: %w", q.OrgID, err)
	}
	return nil
}

func instantParam(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func milliParam(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

func boolParam(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
