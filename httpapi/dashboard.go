package httpapi

import (
	"context"
	"net/http"
	"time"

	"aione/analytics"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"
)

// Two looks at the same sums.
const (
	viewTech     = "tech"
	viewBusiness = "business"
)

var (
	rangeDays = param{kind: integerParam, name: "range_days", bounds: bounds{def: 7, min: 1, max: 90}, doc: "How many days, today included."}
	viewMode  = param{kind: choiceParam, name: "view_mode", words: []string{viewTech, viewBusiness}, doc: "Which of the two looks."}
)

type dashboardAnswer struct {
	ViewMode string             `json:"view_mode" enum:"tech,business"`
	Tech     *techDashboard     `json:"tech"`
	Business *businessDashboard `json:"business"`
}

type techDashboard struct {
	TotalTokens       uint64       `json:"total_tokens"`
	PromptTokens      uint64       `json:"prompt_tokens"`
	CompletionTokens  uint64       `json:"completion_tokens"`
	TotalRequests     uint64       `json:"total_requests" doc:"As their clients saw them: so are rates and latencies."`
	Retries           uint64       `json:"retries" doc:"Attempts at providers that failed and that another attempt followed; not part of any rate."`
	TotalCostRMB      string       `json:"total_cost_rmb" format:"decimal"`
	AvgLatencyMS      uint64       `json:"avg_latency_ms" doc:"This and the percentiles are of the requests whose latency is known: nobody timed one that was abandoned."`
	P50LatencyMS      uint32       `json:"p50_latency_ms"`
	P95LatencyMS      uint32       `json:"p95_latency_ms"`
	P99LatencyMS      uint32       `json:"p99_latency_ms"`
	TTFTP50MS         uint32       `json:"ttft_p50_ms"`
	TTFTP99MS         uint32       `json:"ttft_p99_ms"`
	ErrorRatePct      string       `json:"error_rate_pct" format:"percentage"`
	TimeoutRatePct    string       `json:"timeout_rate_pct" format:"percentage"`
	CacheHitRatePct   string       `json:"cache_hit_rate_pct" format:"percentage"`
	RPMUsagePct       string       `json:"rpm_usage_pct" format:"percentage"` // 0.00 without a limit
	ModelDistribution []modelShare `json:"model_distribution"`
	DailyTrend        []dailyTrend `json:"daily_trend"`
}

type modelShare struct {
	Model    string `json:"model"`
	Requests uint64 `json:"requests"`
	Tokens   uint64 `json:"tokens"`
}

type businessDashboard struct {
	TotalCharsWan      string       `json:"total_chars_wan" format:"decimal" doc:"In units of 10,000 characters; estimated from the tokens."`
	TotalConversations uint64       `json:"total_conversations"`
	TotalCostRMB       string       `json:"total_cost_rmb" format:"decimal"`
	BudgetProgressPct  string       `json:"budget_progress_pct" format:"percentage"` // 0.00 without a budget
	CapacityStatus     string       `json:"capacity_status" enum:"sufficient,tight,exhausted"`
	ServiceStatus      string       `json:"service_status" enum:"normal,degraded,down"`
	TeamCostRanking    []teamCost   `json:"team_cost_ranking"`
	DailyTrend         []dailyTrend `json:"daily_trend"`
}

type teamCost struct {
	TeamID        *string `json:"team_id" format:"uuid" doc:"Null for usage of no team."`
	TeamName      string  `json:"team_name"`
	CostRMB       string  `json:"cost_rmb" format:"decimal"`
	Conversations uint64  `json:"conversations"`
}

type dailyTrend struct {
	Date     string `json:"date" format:"date"`
	Requests uint64 `json:"requests"`
	Tokens   uint64 `json:"tokens"`
	CostRMB  string `json:"cost_rmb" format:"decimal"`
}

// dashboard serves GET /api/v1/obs/dashboard: the last range_days days of the
// org's time zone, today included.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	p := queryOf(r)
	days, view := p.integer(rangeDays), p.choice(viewMode)
	if err := p.err(); err != nil {
		return err
	}
	zone, err := s.config.Orgs.Zone(caller.OrgID)
	if err != nil {
		return err
	}
	teams, err := s.teamNames(caller.OrgID)
	if err != nil {
		return err
	}
	if _, err := s.vouch(r.Context(), w, caller.OrgID); err != nil {
		return err
	}
	d, baseline, err := s.lookBack(r.Context(), look{org: caller.OrgID, zone: zone, days: days, baseline: view == viewBusiness})
	if err != nil {
		return err
	}
	allowed, err := s.allowance(r.Context(), caller.OrgID)
	if err != nil {
		return err
	}
	answer := dashboardAnswer{ViewMode: view}
	if view == viewTech {
		answer.Tech = newTechDashboard(&d)
		answer.Tech.RPMUsagePct = percent(allowed.RPMUsed, allowed.RPMLimit)
	} else {
		answer.Business = newBusinessDashboard(&d, &baseline, teams)
		answer.Business.BudgetProgressPct, answer.Business.CapacityStatus = allowed.budgetProgress(), allowed.capacity()
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// look is what lookBack reads.
type look struct {
	org      uuid.UUID
	zone     *time.Location
	days     int
	baseline bool
}

// lookBack reads the last days and, as the baseline, as many before them.
func (s *Server) lookBack(ctx context.Context, l look) (d, baseline analytics.Dashboard, err error) {
	today := ledger.DateOf(s.config.Now(), l.zone)
	g, ctx := errgroup.WithContext(ctx)
	read := func(d *analytics.Dashboard, last ledger.Date) {
		in := daysOf(last.AddDays(1-l.days), last, l.zone)
		g.Go(func() (err error) {
			*d, err = s.config.Usage.Dashboard(ctx, analytics.DashboardQuery{OrgID: l.org, From: in.from, To: in.to, Zone: l.zone.String()})
			return err
		})
	}
	read(&d, today)
	if l.baseline {
		read(&baseline, today.AddDays(-l.days))
	}
	return d, baseline, unavailable(g.Wait())
}

func (s *Server) teamNames(org uuid.UUID) (map[uuid.UUID]string, error) {
	teams, err := s.config.Orgs.Teams(org)
	names := make(map[uuid.UUID]string, len(teams))
	for _, team := range teams {
		names[team.ID] = team.Name
	}
	return names, err
}

func newTechDashboard(d *analytics.Dashboard) *techDashboard {
	t := &techDashboard{
		TotalTokens: d.Total.TotalTokens(), PromptTokens: d.Total.PromptTokens(), CompletionTokens: d.Total.CompletionTokens(),
		TotalRequests: d.Total.Requests, Retries: d.Total.Retries, TotalCostRMB: d.Total.Cost.String(),
		P50LatencyMS: d.LatencyP50MS, P95LatencyMS: d.LatencyP95MS, P99LatencyMS: d.LatencyP99MS,
		TTFTP50MS: d.TTFTP50MS, TTFTP99MS: d.TTFTP99MS,
		ErrorRatePct:    percent(d.Total.Errors, d.Total.Requests),
		TimeoutRatePct:  percent(d.Total.Timeouts, d.Total.Requests),
		CacheHitRatePct: percent(d.Total.CacheReadTokens, d.Total.PromptTokens()),
		DailyTrend:      newDailyTrend(d.Days), ModelDistribution: []modelShare{},
	}
	if d.Timed > 0 {
		t.AvgLatencyMS = (d.Total.LatencySumMS + d.Timed/2) / d.Timed
	}
	for _, m := range d.Models {
		t.ModelDistribution = append(t.ModelDistribution, modelShare{Model: m.Model, Requests: m.Requests, Tokens: m.TotalTokens()})
	}
	return t
}

func newBusinessDashboard(d, baseline *analytics.Dashboard, teams map[uuid.UUID]string) *businessDashboard {
	b := &businessDashboard{
		TotalCharsWan: charsWan(d.Total.TotalTokens()), TotalConversations: d.Total.Requests, TotalCostRMB: d.Total.Cost.String(),
		ServiceStatus: serviceStatus(d, baseline),
		DailyTrend:    newDailyTrend(d.Days), TeamCostRanking: []teamCost{},
	}
	for _, t := range d.Teams {
		b.TeamCostRanking = append(b.TeamCostRanking, teamCost{
			TeamID: idOrNull(t.TeamID), TeamName: teams[t.TeamID], CostRMB: t.Cost.String(), Conversations: t.Requests,
		})
	}
	return b
}

func newDailyTrend(days []analytics.DayHealth) []dailyTrend {
	trend := make([]dailyTrend, len(days))
	for i := range days {
		trend[i] = dailyTrend{Date: days[i].Date, Requests: days[i].Requests, Tokens: days[i].TotalTokens(), CostRMB: days[i].Cost.String()}
	}
	return trend
}

// serviceStatus applies the published thresholds to requests as their clients saw
// them, so an attempt that was retried is none: degraded when under 99 % of them
// succeed, over 1 % end in a 5xx, over 0.5 % time out, or the 99th percentile of
// latency is over three times that of the range before. It is down when not even
// half of them succeed. A client that left is no failure; without traffic nothing is
// wrong, and without traffic before there is no baseline.
func serviceStatus(d, baseline *analytics.Dashboard) string {
	requests := d.Total.Requests
	switch {
	case requests == 0:
		return "normal"
	case d.Total.Errors*2 > requests:
		return "down"
	case d.Total.Errors*100 > requests,
		d.Total.Status5xx*100 > requests,
		d.Total.Timeouts*200 > requests,
		baseline.LatencyP99MS > 0 && uint64(d.LatencyP99MS) > 3*uint64(baseline.LatencyP99MS):
		return "degraded"
	}
	return "normal"
}

// places of every percentage and of total_chars_wan.
const places = 2

// percent is 100 × part ÷ whole, a half rounded up; 0.00 of nothing.
func percent(part, whole uint64) string {
	if whole == 0 {
		return decimal.Zero.StringFixed(places)
	}
	return decimal.NewFromUint64(part).Shift(2).DivRound(decimal.NewFromUint64(whole), places).StringFixed(places)
}

// charsWan estimates the characters of all tokens, in units of 10,000: a token is
// taken for 1.5 characters, which is what Chinese text comes to. The characters
// themselves are never kept, so nothing better is known.
func charsWan(tokens uint64) string {
	return decimal.NewFromUint64(tokens).Mul(decimal.New(15, -1)).Shift(-4).Round(places).StringFixed(places)
}
