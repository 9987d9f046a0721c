package demo

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"sync/atomic"
	"time"

	"aione/keys"
	"aione/node"
)

// Options of Run.
type Options struct {
	Engines   node.EngineConfig // a fresh data directory
	Rows      int               // of the trace to play, from its start; 0: all
	Documents string            // directory for the invoices as PDF
	Logger    *slog.Logger
	Step      func(what string)        // told what begins
	Progress  func(done, total uint64) // of the requests
}

// Report is what the demo did, measured and found.
type Report struct {
	OK bool `json:"ok"`

	Requests       int               `json:"requests"`
	RequestSeconds string            `json:"request_seconds"`
	RequestsPerS   int               `json:"requests_per_s"`
	CountedAfterMS int64             `json:"counted_after_ms"` // last answer to last row
	Orgs           []OrgReport       `json:"orgs"`
	IssuedAgain    int               `json:"issued_again"` // by a second run: 0
	Explained      []string          `json:"explained"`    // a line of the first invoice
	Checks         []Check           `json:"checks"`
	Verification   node.Verification `json:"verification"`
	RebuiltSame    bool              `json:"rebuilt_same"`
	RebuildMS      int64             `json:"rebuild_ms"`
}

// OrgReport is what one org sees.
type OrgReport struct {
	Name      string      `json:"name"`
	Zone      string      `json:"zone"`
	Usage     []UsageLine `json:"usage"`
	Dashboard dashboard   `json:"dashboard"`
	Invoice   invoice     `json:"invoice"`
	Account   account     `json:"account"`
	PDF       string      `json:"pdf"` // file
}

// UsageLine is one line of the usage answer, by day and model.
type UsageLine struct {
	Date       string `json:"date"`
	Model      string `json:"model"`
	Requests   uint64 `json:"requests"`
	Prompt     uint64 `json:"prompt"`
	Cached     uint64 `json:"cached"`
	Completion uint64 `json:"completion"`
	CostRMB    string `json:"cost_rmb"`
}

// start is where the platform's clock begins: orgs exist before their traffic.
var start = time.Date(2023, 11, 16, 17, 0, 0, 0, time.UTC)

// closing is when the month is over in every zone and its grace has passed.
var closing = time.Date(2023, 12, 2, 0, 0, 0, 0, time.UTC)

const sandboxRequests = 20

// Run plays the demo. An error means that it could not be played to its end; what
// it found wrong is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	var report Report
	trace, err := Trace()
	if err != nil {
		return report, err
	}
	if o.Rows > 0 {
		trace = trace[:min(o.Rows, len(trace))]
	}
	clock := NewClock(start)
	o.Step("start NATS, ClickHouse, gateway, ingest and API")
	n, err := node.Open(ctx, node.Config{Engines: o.Engines, Clock: clock.Now, Logger: o.Logger})
	if err != nil {
		return report, err
	}
	defer n.Close()
	api, err := n.Listen(node.ServeConfig{Addr: "127.0.0.1:0", SweepEvery: time.Minute})
	if err != nil {
		return report, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- n.Run(running, api.Run, func(ctx context.Context) error {
			return n.Ingest(ctx, node.IngestConfig{BatchRows: 100_000, BatchAge: 100 * time.Millisecond, LeaseTTL: 5 * time.Second})
		})
	}()
	s := &show{n: n, clock: clock, options: o, url: api.URL, report: &report}
	playErr := s.play(ctx, plays(trace))
	stop()
	if err := <-ended; err != nil && playErr == nil {
		playErr = err
	}
	return report, playErr
}

// show is a running demo.
type show struct {
	n       *node.Node
	clock   *Clock
	options Options
	url     string
	report  *Report

	cast   []actor
	driver *driver
	checks checks
}

func (s *show) play(ctx context.Context, all []play) error {
	var err error
	s.options.Step("create 3 orgs, 6 teams, 12 keys, 30 models and a price change")
	if s.cast, err = engage(ctx, s.n); err != nil {
		return err
	}
	root, err := mint(ctx, s.n, keys.CreateInput{OrgID: s.cast[0].org.ID, TeamID: s.cast[0].teams[0].ID, Name: "operator", Scopes: []keys.Scope{keys.ScopeAdmin}})
	if err != nil {
		return err
	}
	s.driver = newDriver(s.url, s.clock, s.cast, root)
	if err := s.agree(ctx); err != nil {
		return err
	}
	if err := s.traffic(ctx, all); err != nil {
		return err
	}
	zones := make([]*time.Location, len(s.cast))
	for i := range s.cast {
		zones[i] = s.cast[i].zone
	}
	wanted := recount(all, zones, priceAt)
	s.options.Step("ask the API for usage and dashboards, compare with the recount")
	for i := range s.cast {
		if err := s.see(ctx, &s.cast[i], &wanted[i], all); err != nil {
			return err
		}
	}
	if err := s.close(ctx, wanted); err != nil {
		return err
	}
	return s.prove(ctx)
}

// traffic sends the trace, and some sandbox requests that nobody must be billed for.
func (s *show) traffic(ctx context.Context, all []play) error {
	s.options.Step(fmt.Sprintf("send %d requests of the trace over HTTP, usage fsynced before each answer ends", len(all)))
	for i := range sandboxRequests {
		p := all[i]
		if err := s.driver.chat(ctx, s.cast[p.org].sandbox, p); err != nil {
			return fmt.Errorf("sandbox request: %w", err)
		}
	}
	var done atomic.Uint64
	began := time.Now()
	err := s.driver.drive(ctx, all, func(n int) { s.options.Progress(done.Add(uint64(n)), uint64(len(all))) })
	if err != nil {
		return err
	}
	took := time.Since(began)
	s.report.Requests = len(all)
	s.report.RequestSeconds = fmt.Sprintf("%.1f", took.Seconds())
	s.report.RequestsPerS = int(int64(len(all)) * int64(time.Second) / int64(took))
	began = time.Now()
	if err := s.n.Projection.CaughtUp(ctx); err != nil {
		return err
	}
	s.report.CountedAfterMS = time.Since(began).Milliseconds()
	return nil
}

func (s *show) see(ctx context.Context, a *actor, want *orgRecount, all []play) error {
	rows, err := s.driver.checkUsage(ctx, &s.checks, a, want, all[0].At, all[len(all)-1].At)
	if err != nil {
		return err
	}
	seen := OrgReport{Name: a.org.Name, Zone: a.org.Timezone}
	for _, r := range rows {
		seen.Usage = append(seen.Usage, UsageLine{Date: text(r.Date), Model: text(r.Model), Requests: r.Requests,
			Prompt: r.PromptTokens, Cached: r.CachedTokens, Completion: r.CompletionTokens, CostRMB: r.CostRMB})
	}
	if seen.Dashboard, err = s.driver.checkDashboards(ctx, &s.checks, a, want); err != nil {
		return err
	}
	s.report.Orgs = append(s.report.Orgs, seen)
	return nil
}

// close ends the month, issues the invoices, and tries to issue them again.
func (s *show) close(ctx context.Context, wanted []orgRecount) error {
	s.options.Step("close November 2023 and issue the invoices")
	s.clock.MoveTo(closing)
	invoicer := s.n.Invoicer(node.InvoiceConfig{Grace: time.Hour, TermsDays: 30})
	if _, err := invoicer.RunDue(ctx, s.clock.Now()); err != nil {
		return fmt.Errorf("issue the invoices: %w", err)
	}
	again, err := invoicer.RunDue(ctx, s.clock.Now())
	if err != nil {
		return fmt.Errorf("issue the invoices again: %w", err)
	}
	s.report.IssuedAgain = len(again.Issued)
	s.checks.equal("a second run issues nothing", "invoices", len(again.Issued), 0)
	bills := make([]expectedInvoice, len(s.cast))
	for i := range s.cast {
		bills[i] = contracts[i].bill(wanted[i].quantity, priceOf)
		if s.report.Orgs[i].Invoice, err = s.driver.checkInvoices(ctx, &s.checks, &s.cast[i], bills[i]); err != nil {
			return err
		}
	}
	return s.settle(ctx, bills)
}

// prove audits the whole chain, rebuilds the rows from the log and audits again.
func (s *show) prove(ctx context.Context) error {
	s.options.Step("verify: log = rows = usage = invoices")
	var err error
	if s.report.Verification, err = s.n.Verify(ctx, time.Minute, nil); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	v := s.report.Verification
	s.checks.equal("verify", "problems", len(v.Problems), 0)
	s.checks.equal("sandbox requests are not billed", "rows", v.Shards[0].Dispositions["sandbox"], sandboxRequests)
	s.checks.equal("every answered request is counted once", "rows", v.Shards[0].Dispositions["counted"], s.report.Requests)
	s.options.Step("rebuild ClickHouse from the log and compare")
	began := time.Now()
	rebuilt, err := s.n.Rebuild(ctx, false, nil)
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	s.report.RebuildMS = time.Since(began).Milliseconds()
	s.report.RebuiltSame = rebuilt.Same
	s.checks.equal("a rebuild from the log gives the same rows", "same", rebuilt.Same, true)
	s.report.Checks = s.checks.list()
	s.report.OK = v.OK
	for _, c := range s.report.Checks {
		s.report.OK = s.report.OK && c.OK
	}
	return nil
}

// What the demo's models cost, as published: see unitPrices.
func priceOf(version string) unitPrices {
	r := func(s string) *big.Rat {
		v, _ := new(big.Rat).SetString(s)
		return v
	}
	return map[string]unitPrices{
		"gpt-4o@1":            {r("18"), r("9"), r("72"), r("72")},
		"claude-sonnet-4-6@1": {r("21.6"), r("2.16"), r("108"), r("108")},
		"deepseek-chat@1":     {r("2"), r("0.2"), r("3"), r("3")},
		"deepseek-chat@2":     {r("2.25"), r("0.2"), r("4.5"), r("3")},
		"qwen-max@1":          {r("2.4"), r("0.96"), r("9.6"), r("9.6")},
	}[version]
}

func priceAt(model string, at time.Time) (string, unitPrices) {
	version := model + "@1"
	if model == repricedModel && !at.Before(repricedAt) {
		version = model + "@2"
	}
	return version, priceOf(version)
}
