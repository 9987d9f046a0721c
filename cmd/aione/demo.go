package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aione/demo"
)

type demoCmd struct {
	Keep bool `help:"Keep the data directory afterwards, and say where it is."`
}

// Run plays the demo on a fresh data directory.
func (c *demoCmd) Run(ctx context.Context, g *globals, out *output) error {
	dir, err := os.MkdirTemp("", "aione-demo-*")
	if err != nil {
		return fmt.Errorf("make a data directory: %w", err)
	}
	if c.Keep {
		fmt.Fprintln(out.stderr, "data directory:", dir) // also where the demo or a script does not get to its end
	} else {
		defer os.RemoveAll(dir)
	}
	engines := g.EngineConfig
	engines.DataDir = dir
	report, err := demo.Run(ctx, demo.Options{Engines: engines, Documents: filepath.Join(g.DataDir, "demo"), Logger: g.logger(out.stderr),
		Step: func(what string) { out.say("· %s", what) }, Progress: out.progress("requests")})
	if err != nil {
		return err
	}
	if err := out.result(report, func() { out.demo(report) }); err != nil {
		return err
	}
	if c.Keep {
		out.say("\nIt is all in %s: every command shows it, such as `aione --data %s admin org list`.", dir, dir)
	} else {
		out.say("\nTo look around in it afterwards: `aione demo --keep`.")
	}
	if !report.OK {
		return errFailed
	}
	return nil
}

// demo prints what an analyst and a finance person would look at.
func (o *output) demo(r demo.Report) {
	var usage, dash, invoices, accounts [][]string
	for _, org := range r.Orgs {
		for _, u := range org.Usage {
			usage = append(usage, []string{org.Name, u.Date, u.Model, thousands(u.Requests), thousands(u.Prompt), thousands(u.Cached), thousands(u.Completion), u.CostRMB})
		}
		t := org.Dashboard.Tech
		dash = append(dash, []string{org.Name, org.Zone, thousands(t.TotalRequests), thousands(t.TotalTokens), t.TotalCostRMB,
			fmt.Sprint(t.P50LatencyMS), fmt.Sprint(t.P99LatencyMS), t.CacheHitRatePct, t.ErrorRatePct, org.Dashboard.Business.ServiceStatus})
		i := org.Invoice
		invoices = append(invoices, []string{i.InvoiceNo, org.Name, i.PeriodStart + " … " + i.PeriodEnd, i.Subtotal, i.Discount, i.Tax, i.CreditsApplied, i.Total, i.AmountPaid, i.AmountDue, i.Currency, i.Status, i.DueDate})
		accounts = append(accounts, []string{org.Name, org.Account.PrepaidBalance, org.Account.PromotionalBalance, org.Account.AmountOwed, org.Account.Currency, org.Account.Status})
	}
	o.table("Usage by day (in each org's own time zone) and model", []string{"org", "date", "model", "requests", "prompt", "cached", "completion", "cost RMB"}, usage)
	o.table("Dashboards, 7 days", []string{"org", "zone", "requests", "tokens", "cost RMB", "p50 ms", "p99 ms", "cache hit %", "error %", "service"}, dash)
	for _, org := range r.Orgs {
		var lines [][]string
		for _, l := range org.Invoice.Lines {
			quantity, price := "", ""
			if l.Model != "" {
				quantity, price = thousands(l.Quantity), l.UnitPrice
			}
			lines = append(lines, []string{strings.ReplaceAll(l.Kind, "_", " "), l.Model + l.Name, l.Bucket, l.PriceVersion, quantity, price, l.Amount})
		}
		lines = append(lines, []string{"total", "", "", "", "", "", org.Invoice.Total})
		o.table(fmt.Sprintf("Invoice %s · %s · input hash %.16s…", org.Invoice.InvoiceNo, org.Name, org.Invoice.InputHash),
			[]string{"", "of", "bucket", "price version", "quantity", "per 1,000,000", "amount"}, lines)
	}
	o.table("Invoices", []string{"number", "org", "period", "subtotal", "discount", "tax", "credits", "total", "paid", "due", "currency", "status", "by"}, invoices)
	o.table("Accounts", []string{"org", "prepaid", "promotional", "owed", "currency", "status"}, accounts)
	o.say("\nHow a line comes about (aione explain):")
	for _, step := range r.Explained {
		o.say("  %s", step)
	}
	o.say("\nThe invoices as PDF:")
	for _, org := range r.Orgs {
		o.say("  %s", org.PDF)
	}
	o.verification(r.Verification)
	o.say("\nMeasured: %s requests in %s s (%s/s, usage durable before each answer ended); the last was queryable %d ms after its answer; rebuild from the log %d ms.",
		thousands(uint64(r.Requests)), r.RequestSeconds, thousands(uint64(r.RequestsPerS)), r.CountedAfterMS, r.RebuildMS)
	o.say("\nAgainst an independent recount of the trace:")
	for _, c := range r.Checks {
		mark := "✓"
		if !c.OK {
			mark = "✗"
		}
		o.say("  %s %-45s %s", mark, c.Name, c.Detail)
	}
	if r.OK {
		o.say("\nEvery figure equals the recount.")
	} else {
		o.say("\nSome figures differ from the recount.")
	}
}
