package httpapi

import (
	"net/http"
	"testing"

	"aione/analytics"
	"aione/embedded"
	"aione/events"
)

func TestDashboard(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	var us []events.Usage
	for i := range 8 {
		u := r.usageOf(x, "gpt-4o", testNow.AddDate(0, 0, -i%3), events.Tokens{Input: 750, CacheRead: 250, Output: 500})
		if i == 0 {
			u.Outcome, u.HTTPStatus = events.OutcomeTimeout, 504
		}
		if i == 1 {
			u.Outcome = events.OutcomeCancelled
			u.LatencyMS = 0 // nobody timed it: no latency of the below changes
		}
		us = append(us, u)
	}
	small := r.usageOf(x, "gpt-4o-mini", testNow, events.Tokens{Input: 5})
	small.TeamID = events.NewID() // of no team that the book knows
	us = append(us, small, r.usageOf(x, "gpt-4o", testNow.AddDate(0, 0, -7), events.Tokens{Input: 1 << 20}), r.usageOf(other, "gpt-4o", testNow, events.Tokens{Input: 1 << 20}))
	for range 50 { // attempts that failed and were retried are no requests: nothing of the below changes
		u := r.usageOf(x, "gpt-4o", testNow, events.Tokens{})
		u.OperationID, u.Retried = us[1].ID, true
		u.Outcome, u.HTTPStatus, u.LatencyMS, u.TTFTMS = events.OutcomeTimeout, 504, 60_000, 50_000
		us = append(us, u)
	}
	r.publish(us...)
	r.ingest()

	a := r.get("/api/v1/obs/dashboard", x.token)
	var d dashboardAnswer
	a.into(t, &d)
	if a.status != http.StatusOK || d.ViewMode != "tech" || d.Business != nil || a.header.Get("X-Metering-Behind") != "0" {
		t.Fatalf("dashboard = %d %s", a.status, a.body)
	}
	tech := d.Tech
	// 8 × (750×18 + 250×9 + 500×72) + 5×1.08, per million
	if tech.TotalRequests != 9 || tech.TotalTokens != 12005 || tech.PromptTokens != 8005 || tech.CompletionTokens != 4000 || tech.TotalCostRMB != "0.4140054" {
		t.Errorf("sums = %+v", tech)
	}
	if tech.Retries != 50 {
		t.Errorf("%d retries", tech.Retries)
	}
	if tech.AvgLatencyMS != 400 || tech.ErrorRatePct != "11.11" || tech.TimeoutRatePct != "11.11" || tech.CacheHitRatePct != "24.98" || tech.RPMUsagePct != "0.00" {
		t.Errorf("rates = %+v", tech)
	}
	if tech.P99LatencyMS < 387 || tech.P99LatencyMS > 413 || tech.TTFTP50MS < 96 || tech.TTFTP50MS > 104 {
		t.Errorf("percentiles = %+v", tech)
	}
	if len(tech.ModelDistribution) != 2 || tech.ModelDistribution[0] != (modelShare{"gpt-4o", 8, 12000}) {
		t.Errorf("models = %+v", tech.ModelDistribution)
	}
	if n := len(tech.DailyTrend); n != 7 || tech.DailyTrend[0] != (dailyTrend{"2026-11-09", 0, 0, "0"}) || tech.DailyTrend[6].Date != "2026-11-15" || tech.DailyTrend[6].Requests != 4 {
		t.Errorf("trend = %+v", tech.DailyTrend)
	}

	d = dashboardAnswer{}
	a = r.get("/api/v1/obs/dashboard?view_mode=business&range_days=90", x.token)
	a.into(t, &d)
	b := d.Business
	if d.ViewMode != "business" || d.Tech != nil || len(b.DailyTrend) != 90 {
		t.Fatalf("business view = %s", a.body)
	}
	// 1060581 tokens × 1.5 ÷ 10,000 = 159.08715
	if b.TotalCharsWan != "159.09" || b.TotalConversations != 10 || b.BudgetProgressPct != "0.00" || b.CapacityStatus != "sufficient" || b.ServiceStatus != "degraded" {
		t.Errorf("business = %+v", b)
	}
	if len(b.TeamCostRanking) != 2 || b.TeamCostRanking[0].TeamName != "acme research" || b.TeamCostRanking[0].Conversations != 9 ||
		*b.TeamCostRanking[0].TeamID != x.team.ID.String() || b.TeamCostRanking[1].TeamName != "" {
		t.Errorf("teams = %+v", b.TeamCostRanking)
	}

	calm := r.tenant("calm", "") // every request succeeds, at the second attempt
	var twice []events.Usage
	for range 20 {
		u := r.usageOf(calm, "gpt-4o", testNow, events.Tokens{Output: 1})
		first := r.usageOf(calm, "gpt-4o", testNow, events.Tokens{})
		first.OperationID, first.Retried, first.Outcome, first.HTTPStatus, first.LatencyMS = u.ID, true, events.OutcomeUpstreamError, 503, 9000
		twice = append(twice, first, u)
	}
	r.publish(twice...)
	r.publish(r.usageOf(calm, "gpt-4o", testNow.AddDate(0, 0, -7), events.Tokens{Output: 1})) // the baseline
	r.ingest()
	d = dashboardAnswer{}
	r.get("/api/v1/obs/dashboard?view_mode=business", calm.token).into(t, &d)
	if b := d.Business; b.ServiceStatus != "normal" || b.TotalConversations != 20 || b.TeamCostRanking[0].Conversations != 20 {
		t.Errorf("every request succeeded: %+v", b)
	}

	none := r.tenant("nobody", "")
	a = r.get("/api/v1/obs/dashboard?view_mode=business&range_days=1", none.token)
	want := `{"view_mode":"business","tech":null,"business":{"total_chars_wan":"0.00","total_conversations":0,"total_cost_rmb":"0","budget_progress_pct":"0.00","capacity_status":"sufficient","service_status":"normal","team_cost_ranking":[],"daily_trend":[{"date":"2026-11-15","requests":0,"tokens":0,"cost_rmb":"0"}]}}`
	if a.body != want {
		t.Errorf("dashboard without use = %s\nwant %s", a.body, want)
	}
}

func TestServiceStatus(t *testing.T) {
	health := func(requests, errors, fives, timeouts uint64) analytics.Health {
		return analytics.Health{Sums: analytics.Sums{Requests: requests, Errors: errors}, Status5xx: fives, Timeouts: timeouts}
	}
	for _, c := range []struct {
		name          string
		total         analytics.Health
		p99, baseline uint32
		want          string
	}{
		{"no traffic", health(0, 0, 0, 0), 0, 100, "normal"},
		{"all well", health(1000, 0, 0, 0), 300, 100, "normal"},
		{"99 % succeed", health(1000, 10, 10, 5), 0, 0, "normal"},
		{"under 99 %", health(1000, 11, 0, 0), 0, 0, "degraded"},
		{"over 1 % 5xx", health(1000, 0, 11, 0), 0, 0, "degraded"},
		{"over 0.5 % timeouts", health(1000, 6, 0, 6), 0, 0, "degraded"},
		{"slow", health(1000, 0, 0, 0), 301, 100, "degraded"},
		{"no baseline", health(1000, 0, 0, 0), 9000, 0, "normal"},
		{"half succeed", health(1000, 500, 500, 0), 0, 0, "degraded"},
		{"less than half", health(1000, 501, 0, 0), 0, 0, "down"},
		{"the only one failed", health(1, 1, 0, 0), 0, 0, "down"},
	} {
		now, before := analytics.Dashboard{Total: c.total, LatencyP99MS: c.p99}, analytics.Dashboard{LatencyP99MS: c.baseline}
		if got := serviceStatus(&now, &before); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPercentAndChars(t *testing.T) {
	for _, c := range []struct {
		part, whole uint64
		want        string
	}{{0, 0, "0.00"}, {1, 0, "0.00"}, {1, 3, "33.33"}, {2, 3, "66.67"}, {1, 1, "100.00"}, {1, 20000, "0.01"}, {1, 20001, "0.00"}, {1<<64 - 1, 1<<64 - 1, "100.00"}} {
		if got := percent(c.part, c.whole); got != c.want {
			t.Errorf("percent(%d, %d) = %s, want %s", c.part, c.whole, got, c.want)
		}
	}
	for tokens, want := range map[uint64]string{0: "0.00", 33: "0.00", 34: "0.01", 1_000_000: "150.00"} {
		if got := charsWan(tokens); got != want {
			t.Errorf("charsWan(%d) = %s, want %s", tokens, got, want)
		}
	}
}
