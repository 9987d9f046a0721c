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
		Date, Model                                  *string
		Requests                                     uint64
		PromptTokens, CachedTokens, CompletionTokens uint64
		ReasoningTokens, TotalTokens                 uint64
		CostRMB                                      string
	}
	dashboard struct {
		Tech *struct {
			TotalTokens, PromptTokens, CompletionTokens, TotalRequests uint64
			TotalCostRMB                                               string
			P50LatencyMS, P99LatencyMS                                 uint64
			CacheHitRatePct, ErrorRatePct                              string
			ModelDistribution                                          []struct {
				Model            string
				Requests, Tokens uint64
			}
			DailyTrend []struct {
				Date             string
				Requests, Tokens uint64
				CostRMB          string
			}
		}
		Business *struct {
			TotalCostRMB    string
			ServiceStatus   string
			TeamCostRanking []struct {
				TeamName      string
				CostRMB       string
				Conversations uint64
			}
		}
	}
	invoice struct {
		ID, InvoiceNo, PeriodStart, PeriodEnd, Total, Status, DueDate, Currency string
		Subtotal, Discount, Tax, CreditsApplied, AmountPaid, AmountDue          string
		Lines                                                                   []invoiceLine
		InputHash                                                               string
		Cut                                                                     uint64
	}
	invoiceLine struct {
		Kind, Name, Model, Bucket, PriceVersion, UnitPrice, Amount string
		Quantity                                                   uint64
	}
	account struct {
		Balance, PrepaidBalance, PromotionalBalance, AmountOwed, Status, Currency string
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
