package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/events"
)

//go:embed dashboard.sql
var selectDashboard string

//go:embed latency.sql
var selectLatency string

//go:embed ttft.sql
var selectTTFT string

// DashboardQuery asks for the dashboard of one org in [From, To).
type DashboardQuery struct {
	OrgID    uuid.UUID
	From, To time.Time // UTC, midnights of Zone
	Zone     string    // IANA zone in which days are meant
}

// Dashboard is what dashboards show of one org and range.
type Dashboard struct {
	Total  Health
	Days   []DayHealth // every day of the range, those without use too
	Models []ModelSums // most requests first
	Teams  []TeamSums  // highest cost first

	Timed                                    uint64 // requests of which the latency is known
	LatencyP50MS, LatencyP95MS, LatencyP99MS uint32 // of these, within 3.2 %
	TTFTP50MS, TTFTP99MS                     uint32 // of requests whose first byte was timed
}

// Health is how much was used and how well it went, as the clients saw it: outcomes,
// statuses and latencies are those of the attempts that were not retried.
type Health struct {
	Sums
	Completed, Cancelled, UpstreamErrors, Timeouts, Abandoned uint64
	Status5xx                                                 uint64
	LatencySumMS                                              uint64
}

func (h *Health) add(outcome events.Outcome, one Health) {
	h.Sums.Add(one.Sums)
	h.Status5xx += one.Status5xx
	h.LatencySumMS += one.LatencySumMS
	switch outcome {
	case events.OutcomeCompleted:
		h.Completed += one.Requests
	case events.OutcomeCancelled:
		h.Cancelled += one.Requests
	case events.OutcomeUpstreamError:
		h.UpstreamErrors += one.Requests
	case events.OutcomeTimeout:
		h.Timeouts += one.Requests
	case events.OutcomeAbandoned:
		h.Abandoned += one.Requests
	}
}

// DayHealth is one day of the org's zone.
type DayHealth struct {
	Date string // YYYY-MM-DD
	Health
}

// ModelSums is the usage of one model.
type ModelSums struct {
	Model string
	Sums
}

// TeamSums is the usage of one team.
type TeamSums struct {
	TeamID uuid.UUID
	Sums
}

// Dashboard answers q from the projections: its cost follows the number of
// quarter-hour groups of the org, not the number of its requests.
func (s *Store) Dashboard(ctx context.Context, q DashboardQuery) (Dashboard, error) {
	zone, err := time.LoadLocation(q.Zone)
	if err != nil {
		return Dashboard{}, fmt.Errorf("dashboard of org %s: %w", q.OrgID, err)
	}
	params := clickhouse.Parameters{
		"org": q.OrgID.String(), "from": instantParam(q.From), "to": instantParam(q.To), "zone": q.Zone,
	}
	var b dashboardBuilder
	b.init(q, zone)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.readDashboard(s.query(gctx, params), &b) })
	g.Go(func() error { return s.readHistogram(s.query(gctx, params), selectLatency, &b.latency) })
	g.Go(func() error { return s.readHistogram(s.query(gctx, params), selectTTFT, &b.ttft) })
	if err := g.Wait(); err != nil {
		return Dashboard{}, fmt.Errorf("dashboard of org %s: %w", q.OrgID, err)
	}
	return b.dashboard(), nil
}

func (s *Store) readDashboard(ctx context.Context, b *dashboardBuilder) error {
	found, err := s.conn.Query(ctx, selectDashboard)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var date, model, outcomeName string
		var team uuid.UUID
		var retried bool
		var h Health
		err := found.Scan(&date, &model, &team, &outcomeName, &retried, &h.Requests, &h.Status5xx, &h.LatencySumMS,
			&h.InputTokens, &h.CacheReadTokens, &h.CacheWrite5mTokens, &h.CacheWrite1hTokens,
			&h.OutputTokens, &h.ReasoningTokens, &h.Images, &h.Cost)
		if err != nil {
			return err
		}
		outcome, err := events.ParseOutcome(outcomeName)
		if err != nil {
			return err
		}
		switch {
		case retried:
			h.Retries, h.Requests, h.Status5xx, h.LatencySumMS = h.Requests, 0, 0, 0
		case outcome != events.OutcomeCompleted && outcome != events.OutcomeCancelled:
			h.Errors = h.Requests
		}
		b.add(date, model, team, outcome, h)
	}
	return found.Err()
}

func (s *Store) readHistogram(ctx context.Context, query string, h *histogram) error {
	found, err := s.conn.Query(ctx, query)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var class uint8
		var n uint64
		if err := found.Scan(&class, &n); err != nil {
			return err
		}
		h[class] += n
	}
	return found.Err()
}
