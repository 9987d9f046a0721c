package httpapi

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"aione/analytics"
	"aione/embedded"
	"aione/events"
)

func rat(t *testing.T, s string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return r
}

// Whatever the zone, the days of a month that was invoiced add up to the month and
// to the invoice: quantity by quantity, and in money before a line is rounded. The
// events behind each line add up to it.
func TestDaysAddUpToTheInvoice(t *testing.T) {
	r := newRig(t, embedded.Open(t), func(c *Config) { c.Lines = c.Usage.(analytics.Projection) })
	random := rand.New(rand.NewPCG(7, 7))
	r.clock.set(time.Date(2026, 10, 2, 0, 0, 0, 0, time.UTC))
	zones := []string{"Asia/Shanghai", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Pacific/Kiritimati", "Europe/Berlin"}
	var tenants []tenant
	for _, zone := range zones {
		x := r.tenant("org in "+zone, zone)
		tenants = append(tenants, x)
		var us []events.Usage
		for i := range 60 {
			at := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(random.Int64N(int64(31 * day))))
			if i%2 == 0 { // at the ends of the month, in any zone
				at = time.Date(2026, time.Month(10+random.IntN(2)), 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(random.Int64N(int64(28*time.Hour))) - 14*time.Hour)
			}
			model := []string{"gpt-4o", "gpt-4o-mini", "claude-haiku-4-5"}[random.IntN(3)]
			us = append(us, r.usageOf(x, model, at, events.Tokens{Input: random.Uint64N(5000), CacheRead: random.Uint64N(900), Output: random.Uint64N(700), Reasoning: random.Uint64N(50)}))
		}
		r.publish(us...)
	}
	r.ingest()
	r.clock.set(testNow)
	if _, err := r.invoicer.RunDue(r.ctx, testNow); err != nil {
		t.Fatal(err)
	}
	for i, x := range tenants {
		var list []invoiceSummary
		r.get("/api/v1/billing/invoices?page_size=100", x.token).into(t, &list)
		checked := false
		for _, inv := range list {
			if inv.PeriodStart == "2026-10-01" {
				checked = true
				r.daysAreTheInvoice(x, inv)
			}
		}
		if !checked {
			t.Errorf("%s: there is no invoice of October: %+v", zones[i], list)
		}
	}
}

func (r *rig) daysAreTheInvoice(x tenant, inv invoiceSummary) {
	t := r.t.(*testing.T)
	t.Helper()
	month := "/api/v1/obs/usage?page_size=1000&start_date=" + inv.PeriodStart + "&end_date=" + inv.PeriodEnd
	var totals []usageRow
	for _, by := range []string{"", "&group_by=day", "&group_by=hour", "&group_by=day,model,team,key"} {
		var rows []usageRow
		r.get(month+by, x.token).into(t, &rows)
		sum, cost := usageRow{}, new(big.Rat)
		for _, row := range rows {
			sum.Requests, sum.PromptTokens, sum.CachedTokens = sum.Requests+row.Requests, sum.PromptTokens+row.PromptTokens, sum.CachedTokens+row.CachedTokens
			sum.CompletionTokens, sum.ReasoningTokens = sum.CompletionTokens+row.CompletionTokens, sum.ReasoningTokens+row.ReasoningTokens
			cost.Add(cost, rat(t, row.CostRMB))
		}
		sum.CostRMB = cost.RatString()
		totals = append(totals, sum)
	}
	var detail invoiceDetail
	r.get("/api/v1/billing/invoices/"+inv.ID.String(), x.token).into(t, &detail)
	exact, rounded, quantities := new(big.Rat), new(big.Rat), map[string]uint64{}
	for _, l := range detail.Lines {
		if l.Origin != nil {
			continue // of another month
		}
		per := new(big.Rat).SetFrac64(1, 1)
		if l.Unit == "tokens" {
			per.SetFrac64(1, 1_000_000)
		}
		quantity := new(big.Rat).SetUint64(l.Quantity)
		exact.Add(exact, quantity.Mul(quantity, per.Mul(per, rat(t, l.UnitPrice))))
		rounded.Add(rounded, rat(t, l.Amount))
		quantities[l.Bucket] += l.Quantity
		var behind []lineEvent
		r.get(fmt.Sprintf("/api/v1/billing/invoices/%s/lines/%d/events?page_size=1000", inv.ID, l.N), x.token).into(t, &behind)
		sum := uint64(0)
		for _, e := range behind {
			if sum += e.Quantity; e.Model != l.Model || e.PriceVersion != l.PriceVersion {
				t.Errorf("%+v is behind line %+v", e, l)
			}
		}
		if sum != l.Quantity {
			t.Errorf("the %d events behind line %+v add up to %d", len(behind), l, sum)
		}
	}
	invoice := usageRow{Requests: totals[0].Requests, PromptTokens: quantities["input"] + quantities["cache_read"], CachedTokens: quantities["cache_read"],
		CompletionTokens: quantities["output"] + quantities["reasoning"], ReasoningTokens: quantities["reasoning"], CostRMB: exact.RatString()}
	for _, sum := range append(totals, invoice) {
		if sum != totals[0] || sum.Requests == 0 {
			t.Errorf("%s: %+v, the month %+v", x.org.Timezone, sum, totals[0])
		}
	}
	if rat(t, detail.Subtotal).Cmp(rounded) != 0 {
		t.Errorf("%s: the lines add up to %s, the subtotal is %s", x.org.Timezone, rounded.FloatString(2), detail.Subtotal)
	}
}
