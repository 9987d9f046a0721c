// Package bench measures the platform the way it runs in production, side by side
// with a ceiling that is taken in the same run on the same machine: a figure alone
// says more about the machine than about the program.
//
// Seven measurements: ingest (log to queryable rows, against a bare insert loop),
// events_api (HTTP to fsynced, against a server that only reads), gateway (against
// a bare reverse proxy), dashboard (latency over many rows), rebuild (against
// ingest), admission (a key's check, its limits and a reservation, beside many
// keys), ledger (closing a month of many orgs, folding transfers, reading a
// balance).
//
// Invariants: every measurement has engines and a directory of its own and removes
// them; what is compared runs alternately, several times, and the median counts;
// whatever must be equal for a comparison to mean anything (the rows inserted, the
// events accepted) is checked, and an error if it is not. Figures are ratios and
// latencies, so floats are fine here; money is only ever passed on.
//
// It judges nothing: what a figure should be is written beside it for the reader,
// never enforced, because machines differ.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

// Request is what a request of a real trace weighed.
type Request struct{ Prompt, Completion uint64 }

// Options of Run.
type Options struct {
	Trace []Request // token counts are drawn from it; required
	Size  int       // events or rows of each measurement; 0: its default
	Dir   string    // where temporary directories go; default the system's

	Logger   *slog.Logger                               // default: says nothing
	Step     func(what string)                          // told what happens next; may be nil
	Progress func(what string) func(done, total uint64) // makes a bar for one step; may be nil
}

// Report holds what was measured; what was not is nil.
type Report struct {
	Machine   Machine    `json:"machine"`
	Ingest    *Ingest    `json:"ingest,omitempty"`
	EventsAPI *EventsAPI `json:"events_api,omitempty"`
	Gateway   *Gateway   `json:"gateway,omitempty"`
	Dashboard *Dashboard `json:"dashboard,omitempty"`
	Rebuild   *Rebuild   `json:"rebuild,omitempty"`
	Admission *Admission `json:"admission,omitempty"`

	// The three of "ledger".
	Invoices *Invoices `json:"invoices,omitempty"`
	Ledger   *Fold     `json:"ledger,omitempty"`
	Balance  *Balance  `json:"balance,omitempty"`
}

// Names of the measurements, in the order in which all of them run.
var Names = []string{"ingest", "events_api", "gateway", "dashboard", "rebuild", "admission", "ledger"}

// Run takes the named measurements; no name means all.
func Run(ctx context.Context, o Options, names ...string) (Report, error) {
	var report Report
	if len(o.Trace) == 0 {
		return report, fmt.Errorf("bench: a trace to draw from is required")
	}
	if len(names) == 0 {
		names = Names
	}
	o.complete()
	var err error
	if report.Machine, err = inspect(o.Dir); err != nil {
		return report, err
	}
	for _, name := range names {
		if !slices.Contains(Names, name) {
			return report, fmt.Errorf("bench: there is no measurement %q, only %v", name, Names)
		}
		if err := measure(ctx, o, name, &report); err != nil {
			return report, fmt.Errorf("bench %s: %w", name, err)
		}
	}
	return report, nil
}

func measure(ctx context.Context, o Options, name string, r *Report) (err error) {
	switch name {
	case "ingest":
		r.Ingest, err = measureIngest(ctx, o, &r.Machine)
	case "events_api":
		r.EventsAPI, err = measureEventsAPI(ctx, o, &r.Machine)
	case "gateway":
		r.Gateway, err = measureGateway(ctx, o, &r.Machine)
	case "dashboard":
		r.Dashboard, err = measureDashboard(ctx, o, &r.Machine)
	case "rebuild":
		r.Rebuild, err = measureRebuild(ctx, o, &r.Machine)
	case "admission":
		r.Admission, err = measureAdmission(ctx, o, &r.Machine)
	case "ledger":
		if r.Ledger, r.Balance, err = measureFold(ctx, o); err == nil {
			r.Invoices, err = measureInvoices(ctx, o, &r.Machine)
		}
	}
	return err
}

func (o *Options) complete() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	if o.Progress == nil {
		o.Progress = func(string) func(done, total uint64) { return func(done, total uint64) {} }
	}
}

// size is the size asked for, or the measurement's own.
func (o *Options) size(byDefault int) int {
	if o.Size > 0 {
		return o.Size
	}
	return byDefault
}
