package demo

import (
	"context"
	"fmt"
	"math/big"
	"time"
)

// Check is one comparison of what the platform says with the recount.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // the first difference
}

// checks collects comparisons by name; a name is ok if all its comparisons are.
type checks struct {
	order  []string
	byName map[string]*Check
	counts map[string]int
}

func (c *checks) equal(name, what string, got, want any) {
	if c.byName == nil {
		c.byName, c.counts = map[string]*Check{}, map[string]int{}
	}
	one := c.byName[name]
	if one == nil {
		one = &Check{Name: name, OK: true}
		c.byName[name] = one
		c.order = append(c.order, name)
	}
	c.counts[name]++
	if fmt.Sprint(got) != fmt.Sprint(want) && one.OK {
		one.OK = false
		one.Detail = fmt.Sprintf("%s: the platform says %v, the recount %v", what, got, want)
	}
}

func (c *checks) list() []Check {
	var out []Check
	for _, name := range c.order {
		one := *c.byName[name]
		if one.OK {
			one.Detail = fmt.Sprintf("%d figures equal", c.counts[name])
		}
		out = append(out, one)
	}
	return out
}

// rat reads a decimal of the API.
func rat(s string) string {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "not a number: " + s
	}
	return r.RatString()
}

// The parts of API answers that are compared.
type (
	usageRow struct {
		Date             *string `json:"date"`
		Model            *string `json:"model"`
		Requests         uint64  `json:"requests"`
		PromptTokens     uint64  `json:"prompt_tokens"`
		CachedTokens     uint64  `json:"cached_tokens"`
		CompletionTokens uint64  `json:"completion_tokens"`
		ReasoningTokens  uint64  `json:"reasoning_tokens"`
		TotalTokens      uint64  `json:"total_tokens"`
		CostRMB          string  `json:"cost_rmb"`
	}
	dashboard struct {
		Tech *struct {
			TotalTokens       uint64 `json:"total_tokens"`
			PromptTokens      uint64 `json:"prompt_tokens"`
			CompletionTokens  uint64 `json:"completion_tokens"`
			TotalRequests     uint64 `json:"total_requests"`
			TotalCostRMB      string `json:"total_cost_rmb"`
			P50LatencyMS      uint64 `json:"p50_latency_ms"`
			P99LatencyMS      uint64 `json:"p99_latency_ms"`
			CacheHitRatePct   string `json:"cache_hit_rate_pct"`
			ErrorRatePct      string `json:"error_rate_pct"`
			ModelDistribution []struct {
				Model    string `json:"model"`
				Requests uint64 `json:"requests"`
				Tokens   uint64 `json:"tokens"`
			} `json:"model_distribution"`
			DailyTrend []struct {
				Date     string `json:"date"`
				Requests uint64 `json:"requests"`
				Tokens   uint64 `json:"tokens"`
				CostRMB  string `json:"cost_rmb"`
			} `json:"daily_trend"`
		} `json:"tech"`
		Business *struct {
			TotalCostRMB    string `json:"total_cost_rmb"`
			ServiceStatus   string `json:"service_status"`
			TeamCostRanking []struct {
				TeamName      string `json:"team_name"`
				CostRMB       string `json:"cost_rmb"`
				Conversations uint64 `json:"conversations"`
			} `json:"team_cost_ranking"`
		} `json:"business"`
	}
	invoice struct {
		ID             string        `json:"id"`
		InvoiceNo      string        `json:"invoice_no"`
		PeriodStart    string        `json:"period_start"`
		PeriodEnd      string        `json:"period_end"`
		Total          string        `json:"total"`
		Status         string        `json:"status"`
		DueDate        string        `json:"due_date"`
		Currency       string        `json:"currency"`
		Subtotal       string        `json:"subtotal"`
		Discount       string        `json:"discount"`
		Tax            string        `json:"tax"`
		CreditsApplied string        `json:"credits_applied"`
		AmountPaid     string        `json:"amount_paid"`
		AmountDue      string        `json:"amount_due"`
		Lines          []invoiceLine `json:"lines"`
		InputHash      string        `json:"input_hash"`
		Cut            uint64        `json:"cut"`
	}
	invoiceLine struct {
		Kind         string `json:"kind"`
		Name         string `json:"name"`
		Model        string `json:"model"`
		Bucket       string `json:"bucket"`
		PriceVersion string `json:"price_version"`
		UnitPrice    string `json:"unit_price"`
		Amount       string `json:"amount"`
		Quantity     uint64 `json:"quantity"`
	}
	account struct {
		Balance            string `json:"balance"`
		PrepaidBalance     string `json:"prepaid_balance"`
		PromotionalBalance string `json:"promotional_balance"`
		AmountOwed         string `json:"amount_owed"`
		Status             string `json:"status"`
		Currency           string `json:"currency"`
	}
)

// checkUsage compares what analysts see.
func (d *driver) checkUsage(ctx context.Context, c *checks, a *actor, want *orgRecount, from, to time.Time) ([]usageRow, error) {
	span := fmt.Sprintf("start_date=%s&end_date=%s&page_size=100", from.In(a.zone).Format(time.DateOnly), to.In(a.zone).Format(time.DateOnly))
	var byDay, byHour []usageRow
	if err := d.get(ctx, a.token, "/api/v1/obs/usage?group_by=day,model&"+span, &byDay); err != nil {
		return nil, err
	}
	c.equal("usage by day and model", a.org.Name+" rows", len(byDay), len(want.byDay))
	for _, row := range byDay {
		key := [2]string{text(row.Date), text(row.Model)}
		t := want.byDay[key]
		if t == nil {
			c.equal("usage by day and model", fmt.Sprint(a.org.Name, key), "a row", "none")
			continue
		}
		compareUsage(c, "usage by day and model", fmt.Sprint(a.org.Name, key), row, t)
	}
	if err := d.get(ctx, a.token, "/api/v1/obs/usage?group_by=hour&"+span, &byHour); err != nil {
		return nil, err
	}
	c.equal("usage by hour", a.org.Name+" rows", len(byHour), len(want.byHour))
	for _, row := range byHour {
		if t := want.byHour[text(row.Date)]; t != nil {
			compareUsage(c, "usage by hour", a.org.Name+" "+text(row.Date), row, t)
		} else {
			c.equal("usage by hour", a.org.Name+" "+text(row.Date), "a row", "none")
		}
	}
	return byDay, nil
}

func compareUsage(c *checks, name, what string, row usageRow, t *tally) {
	c.equal(name, what+" requests", row.Requests, t.requests)
	c.equal(name, what+" prompt_tokens", row.PromptTokens, t.prompt)
	c.equal(name, what+" cached_tokens", row.CachedTokens, t.cached)
	c.equal(name, what+" completion_tokens", row.CompletionTokens, t.completion)
	c.equal(name, what+" reasoning_tokens", row.ReasoningTokens, t.reasoning)
	c.equal(name, what+" total_tokens", row.TotalTokens, t.total())
	c.equal(name, what+" cost_rmb", rat(row.CostRMB), t.cost.RatString())
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// checkDashboards compares both views.
func (d *driver) checkDashboards(ctx context.Context, c *checks, a *actor, want *orgRecount) (dashboard, error) {
	var tech, business dashboard
	if err := d.get(ctx, a.token, "/api/v1/obs/dashboard?range_days=7&view_mode=tech", &tech); err != nil {
		return tech, err
	}
	if err := d.get(ctx, a.token, "/api/v1/obs/dashboard?range_days=7&view_mode=business", &business); err != nil {
		return tech, err
	}
	if tech.Tech == nil || business.Business == nil {
		return tech, fmt.Errorf("a dashboard lacks its view")
	}
	const name = "dashboards"
	c.equal(name, a.org.Name+" total_requests", tech.Tech.TotalRequests, want.all.requests)
	c.equal(name, a.org.Name+" prompt_tokens", tech.Tech.PromptTokens, want.all.prompt)
	c.equal(name, a.org.Name+" completion_tokens", tech.Tech.CompletionTokens, want.all.completion)
	c.equal(name, a.org.Name+" total_tokens", tech.Tech.TotalTokens, want.all.total())
	c.equal(name, a.org.Name+" total_cost_rmb", rat(tech.Tech.TotalCostRMB), want.all.cost.RatString())
	c.equal(name, a.org.Name+" days in the trend", len(tech.Tech.DailyTrend), 7)
	var requests uint64
	for _, day := range tech.Tech.DailyTrend {
		requests += day.Requests
	}
	c.equal(name, a.org.Name+" sum of the days", requests, want.all.requests)
	for i, team := range a.teams {
		for _, rank := range business.Business.TeamCostRanking {
			if rank.TeamName == team.Name {
				c.equal(name, a.org.Name+" cost of "+team.Name, rat(rank.CostRMB), want.byTeam[i].cost.RatString())
			}
		}
	}
	c.equal(name, a.org.Name+" teams", len(business.Business.TeamCostRanking), len(want.byTeam))
	tech.Business = business.Business
	return tech, nil
}

// checkInvoices compares what finance gets.
func (d *driver) checkInvoices(ctx context.Context, c *checks, a *actor, want expectedInvoice) (invoice, error) {
	var list []invoice
	if err := d.get(ctx, a.token, "/api/v1/billing/invoices", &list); err != nil {
		return invoice{}, err
	}
	c.equal("one invoice an org", a.org.Name, len(list), 1)
	if len(list) == 0 {
		return invoice{}, nil
	}
	var inv invoice
	if err := d.get(ctx, a.token, "/api/v1/billing/invoices/"+list[0].ID, &inv); err != nil {
		return invoice{}, err
	}
	const name = "invoice lines"
	c.equal(name, a.org.Name+" lines", len(inv.Lines), len(want.lines))
	for _, l := range inv.Lines {
		key := lineKey{l.Kind, l.Model, l.PriceVersion, l.Bucket}
		e, ok := want.lines[key]
		c.equal(name, fmt.Sprint(a.org.Name, key, " is expected"), true, ok)
		if ok {
			c.equal(name, fmt.Sprint(a.org.Name, key, " quantity"), l.Quantity, e.quantity)
			c.equal(name, fmt.Sprint(a.org.Name, key, " amount"), l.Amount, fenText(e.fen))
		}
	}
	for _, part := range []struct {
		what, got string
		want      *big.Int
	}{{"subtotal", inv.Subtotal, want.subtotal}, {"discount", inv.Discount, want.discount}, {"tax", inv.Tax, want.tax},
		{"credits applied", inv.CreditsApplied, want.creditsApplied}, {"total", inv.Total, want.total}} {
		c.equal("invoice totals", a.org.Name+" "+part.what, part.got, fenText(part.want))
	}
	c.equal("invoice totals", a.org.Name+" period", inv.PeriodStart+" "+inv.PeriodEnd, "2023-11-01 2023-11-30")
	return inv, nil
}
