package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"

	"aione/bench"
	"aione/demo"
)

type benchCmd struct {
	Name       string `arg:"" optional:"" enum:",ingest,events_api,gateway,dashboard,rebuild,admission,ledger" default:"" help:"ingest, events_api, gateway, dashboard, rebuild, admission or ledger; default all."`
	Size       int    `help:"Events, requests, rows or keys of each measurement. Default: what fits a minute on two cores."`
	CPUProfile string `name:"cpuprofile" type:"path" help:"Write a CPU profile of this process (not of the ClickHouse child) to this file."`
}

// Run measures on engines and directories of its own, which it removes.
func (c *benchCmd) Run(ctx context.Context, g *globals, out *output) (err error) {
	trace, err := demo.Trace()
	if err != nil {
		return err
	}
	o := bench.Options{Size: c.Size, Logger: g.logger(out.stderr), Progress: out.progress,
		Step: func(what string) { out.say("· %s", what) }}
	for _, r := range trace {
		o.Trace = append(o.Trace, bench.Request{Prompt: r.Prompt, Completion: r.Completion})
	}
	if c.CPUProfile != "" {
		f, err := os.Create(c.CPUProfile)
		if err != nil {
			return fmt.Errorf("write the profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return errors.Join(fmt.Errorf("write the profile: %w", err), f.Close())
		}
		defer pprof.StopCPUProfile()
	}
	names := bench.Names
	if c.Name != "" {
		names = []string{c.Name}
	}
	report, err := bench.Run(ctx, o, names...)
	if err != nil {
		return err
	}
	return out.result(report, func() { out.bench(report) })
}

// bench prints each figure with what it is measured against.
func (o *output) bench(r bench.Report) {
	m := r.Machine
	o.say("\n%d cores (%s), %s, ClickHouse %s, fsync p50 %.0f µs, p99 %.0f µs, load %.1f at the start", m.Cores, m.CPU, m.Go, m.ClickHouse, m.FsyncP50US, m.FsyncP99US, m.Load1)
	if m.Load1 > float64(m.Cores)/2 {
		o.say("Others are using this machine: trust the ratios, not the rates.")
	}
	if r.Ingest != nil {
		o.benchIngest(r.Ingest)
	}
	if r.EventsAPI != nil {
		o.benchEventsAPI(r.EventsAPI)
	}
	if r.Gateway != nil {
		o.benchGateway(r.Gateway)
	}
	if r.Dashboard != nil {
		o.benchDashboard(r.Dashboard)
	}
	if r.Rebuild != nil {
		o.benchRebuild(r.Rebuild)
	}
	if r.Admission != nil {
		o.benchAdmission(r.Admission)
	}
	if r.Invoices != nil {
		o.benchLedger(r.Invoices, r.Ledger, r.Balance)
	}
}

func rate(perS float64) string { return thousands(uint64(perS)) }

func figure(v float64) string { return fmt.Sprintf("%.1f", v) }

func (o *output) benchIngest(in *bench.Ingest) {
	rows := [][]string{
		{"events a second", rate(in.EventsPerS), rate(in.CeilingPerS), fmt.Sprintf("ratio %.2f, of CPU %.2f", in.Ratio, in.CPURatio)},
		{"CPU of an event, Go, µs", figure(in.CPUGoUS), figure(in.CeilingCPUGoUS), "decoding and the duplicate filter make the difference"},
		{"CPU of an event, ClickHouse, µs", figure(in.CPUClickHouseUS), figure(in.CeilingCPUClickHouseUS), "the floor for any client"},
		{"heap at most, MB", figure(float64(in.HeapPeakBytes) / 1e6), "", "while it ran, over what there was"},
		{"duplicate filter, bytes an event", fmt.Sprintf("%.2f", in.FilterPerEvent), "", "ids of every event counted so far"},
		{"into the log, events a second", rate(in.PublishPerS), "", "fsynced, before the rounds"},
	}
	for _, v := range in.Visible {
		rows = append(rows, []string{fmt.Sprintf("publish to queryable at %s/s, ms", thousands(uint64(v.Load))),
			fmt.Sprintf("%.0f / %.0f / %.0f", v.P50MS, v.P99MS, v.MaxMS), "", fmt.Sprintf("p50 / p99 / max; fsynced after %.1f", v.DurableP50MS)})
	}
	o.table(fmt.Sprintf("Ingest: %s events from the log to rows, %d times; the ceiling inserts the same rows bare", thousands(uint64(in.Events)), len(in.Rounds)),
		[]string{"", "ours", "ceiling", ""}, rows)
}

func (o *output) benchEventsAPI(e *bench.EventsAPI) {
	o.table(fmt.Sprintf("Events API: batches of %d over HTTP from %d clients in this process; 202 means fsynced", e.Batch, e.Clients),
		[]string{"", "ours", "ceiling", ""}, [][]string{
			{"events a second", rate(e.EventsPerS), rate(e.CeilingPerS), "the ceiling reads the body and throws it away"},
			{"a batch, ms", fmt.Sprintf("%.0f / %.0f / %.0f", e.P50MS, e.P99MS, e.MaxMS), "", "p50 / p99 / max"},
			{"JSON, MB/s", figure(e.MBPerS), "", ""},
			{"CPU of an event, µs", figure(e.CPUUS), figure(e.CeilingCPUUS), fmt.Sprintf("clients and sockets are %.0f %% at most", 100*e.ClientShare)},
			{"events a second, ingest on", rate(e.WithIngestPerS), "", fmt.Sprintf("p99 %.0f ms; rows complete %.0f ms after the last answer", e.WithIngestP99MS, e.CatchUpMS)},
		})
}

func (o *output) benchGateway(g *bench.Gateway) {
	var rows [][]string
	for _, r := range []struct {
		connections string
		ratio       float64
		bench.GatewayRate
	}{{"8", g.Ratio8, g.PerS8}, {"256", g.Ratio256, g.PerS256}} {
		rows = append(rows,
			[]string{"requests a second, " + r.connections + " connections", rate(r.PerS), rate(r.CeilingPerS), fmt.Sprintf("ratio %.2f", r.ratio)},
			[]string{"  p50 / p99, ms", fmt.Sprintf("%.2f / %.2f", r.P50MS, r.P99MS), fmt.Sprintf("… / %.2f", r.CeilingP99), ""},
			[]string{"  CPU of a request, µs", figure(r.CPUUS), figure(r.CeilingCPUUS), "clients, provider and sockets in both"})
	}
	rows = append(rows,
		[]string{fmt.Sprintf("p50 / p99 at %s/s, ms", rate(g.Half.PerS)), fmt.Sprintf("%.2f / %.2f", g.Half.P50MS, g.Half.P99MS),
			fmt.Sprintf("%.2f / %.2f", g.Half.CeilingP50MS, g.Half.CeilingP99MS), fmt.Sprintf("added %.2f / %.2f", g.AddedP50MS, g.AddedP99MS)},
		[]string{"a chunk of a stream, added µs", figure(g.ChunkUS), "", fmt.Sprintf("p99 %.0f", g.ChunkP99US)})
	o.table(fmt.Sprintf("Gateway: %s chat requests of %s bytes, admission and usage of each fsynced; the ceiling is a bare reverse proxy", thousands(uint64(g.Requests)), thousands(uint64(g.PromptBytes))),
		[]string{"", "ours", "ceiling", ""}, rows)
}

func (o *output) benchDashboard(d *bench.Dashboard) {
	var rows [][]string
	for _, org := range []struct {
		name string
		l    bench.OrgLatency
	}{{"small", d.Small}, {"large", d.Large}} {
		rows = append(rows, []string{org.name, thousands(org.l.RawRows), thousands(org.l.Groups), thousands(org.l.LatencyGroups), thousands(org.l.RowsRead),
			figure(org.l.P50MS), figure(org.l.P99MS), figure(org.l.CPUMS)})
	}
	o.table(fmt.Sprintf("Dashboard of 30 days, %s rows of %d orgs in %d parts (made in %.0f s)", thousands(d.Rows), d.Orgs, d.Parts, d.FillSeconds),
		[]string{"org", "rows", "groups", "latency groups", "rows read", "p50 ms", "p99 ms", "CPU ms"}, rows)
	o.say("  One client: p50 %.0f ms, p99 %.0f ms, max %.0f ms of %d. %d clients: p50 %.0f ms, p99 %.0f ms, %.1f/s. The large org takes %.2f times the small one's time, at ten times its rows.",
		d.P50MS, d.P99MS, d.MaxMS, d.Calls, d.Clients, d.ClientsP50MS, d.ClientsP99MS, d.ClientsPerS, d.P50Ratio)
}

func (o *output) benchRebuild(b *bench.Rebuild) {
	var rows [][]string
	for i, r := range b.Rounds {
		rows = append(rows, []string{fmt.Sprint(i + 1), fmt.Sprintf("%.2f", r.IngestSeconds), fmt.Sprintf("%.2f", r.FillSeconds), fmt.Sprintf("%.2f", r.CompareSeconds),
			fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("%.2f", r.FillRatio), fmt.Sprintf("%.2f", r.CPURatio)})
	}
	o.table(fmt.Sprintf("Rebuild of %s events: %s events/s against %s for the first ingest, ratio %.2f", thousands(uint64(b.Events)), rate(b.EventsPerS), rate(b.IngestPerS), b.Ratio),
		[]string{"round", "ingest s", "rebuild: fill s", "compare, exchange s", "ratio", "of the fill alone", "of CPU"}, rows)
}

func (o *output) benchAdmission(a *bench.Admission) {
	o.table(fmt.Sprintf("Admission: %s keys of %s orgs loaded, requests of %s of them", thousands(uint64(a.Keys)), thousands(uint64(a.Orgs)), thousands(uint64(a.HotKeys))),
		[]string{"", "ours", ""}, [][]string{
			{"key check, limit check and reservation, µs", fmt.Sprintf("%.2f", a.US), fmt.Sprintf("key check %.2f, limits and reservation %.2f", a.VerifyUS, a.ReserveUS)},
			{"the same on every core at once, µs of a core", fmt.Sprintf("%.2f", a.ParallelUS), ""},
			{"settlement, µs", fmt.Sprintf("%.2f", a.SettleUS), fmt.Sprintf("%.1f allocations a request, all in all", a.AllocsEach)},
			{"state, MB", figure(float64(a.StateBytes) / 1e6), fmt.Sprintf("%.0f bytes a key; key check %.1f MB, limits %.1f MB", a.KeyBytes, float64(a.KeysBytes)/1e6, float64(a.LimitsBytes)/1e6)},
			{"start, s", fmt.Sprintf("%.2f", a.StartS), fmt.Sprintf("engines, and %s ledger records read; then %.2f s for spend and a place", thousands(a.Records), a.RestoreS)},
			{"first use of an org's accounts, ms", fmt.Sprintf("%.2f", a.FirstUseMS), "once: allowances from the log"},
		})
}

func (o *output) benchLedger(in *bench.Invoices, f *bench.Fold, b *bench.Balance) {
	o.table(fmt.Sprintf("Closing a month: %s rows, made in %.0f s", thousands(in.Rows), in.FillSeconds),
		[]string{"orgs", "rows", "seconds", "invoices a second", "heap at most, MB"}, [][]string{
			{"1", thousands(in.BigOrgRows), fmt.Sprintf("%.2f", in.SecondsOneBigOrg), "", ""},
			{thousands(uint64(in.Orgs)), thousands(in.Rows), fmt.Sprintf("%.2f", in.SecondsAllOrgs), rate(in.InvoicesPerS), figure(float64(in.HeapPeakBytes) / 1e6)},
		})
	o.say("  An invoice takes %.2f ms of CPU in Go and %.2f ms in ClickHouse, and leaves %s bytes in the books.", in.CPUGoMS, in.CPUClickHouseMS, rate(in.HeapPerOrgBytes))
	o.say("  Ledger: %s transfers a second into %d accounts; a snapshot of %d bytes is read in %.2f ms instead. Balance of the account that all %s passed through: p99 %.6f ms.",
		rate(f.TransfersPerS), f.Accounts, f.SnapshotBytes, f.SnapshotReadMS, thousands(b.Transfers), b.P99MS)
}
