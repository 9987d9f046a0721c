package billing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/robfig/cron/v3"
)

// DefaultSchedule looks for due periods once a minute. A look that finds nothing
// due costs no query for orgs that have had a run.
const DefaultSchedule = "@every 1m"

// Schedule runs RunDue at once and then by a cron spec, read in UTC ("" is
// DefaultSchedule), until ctx ends; it returns after the run in progress has. No
// two runs of one Schedule overlap. A failed run is logged, and the next one
// takes up what it left: nothing depends on the time at which a run happens.
func (v *Invoicer) Schedule(ctx context.Context, spec string) error {
	if spec == "" {
		spec = DefaultSchedule
	}
	schedule, err := cron.ParseStandard(spec)
	if err != nil {
		return fmt.Errorf("invoice schedule %q: %w", spec, err)
	}
	logger := cronLogger{v.logger()}
	run := cron.NewChain(cron.Recover(logger), cron.SkipIfStillRunning(logger)).Then(cron.FuncJob(func() { v.runLogged(ctx) }))
	run.Run()
	c := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(logger))
	c.Schedule(schedule, run)
	c.Start()
	<-ctx.Done()
	<-c.Stop().Done()
	return nil
}

func (v *Invoicer) runLogged(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	report, err := v.RunDue(ctx, v.Clock())
	for _, inv := range report.Issued {
		v.logger().Info("invoice issued", "number", inv.Number, "org", inv.OrgID, "period", inv.Period.Label,
			"total", inv.Total.Format(inv.Currency), "currency", inv.Currency, "cut", inv.Cut)
	}
	if report.TooLate > 0 {
		v.logger().Warn("late usage was too old to be billed; the runs of its orgs say how much it was", "rows", report.TooLate, "older_than", v.LateAgeMax)
	}
	if report.Invoices+report.Empty+report.Expired+report.Overdue+report.Crossed > 0 {
		v.logger().Info("invoice run", "invoices", report.Invoices, "empty_periods", report.Empty, "credits_expired", report.Expired,
			"invoices_overdue", report.Overdue, "thresholds_crossed", report.Crossed)
	}
	if err != nil && ctx.Err() == nil {
		v.logger().Error("invoice run is incomplete", "failed_orgs", report.Failed, "error", err)
	}
}

func (v *Invoicer) logger() *slog.Logger {
	if v.Logger == nil {
		return slog.Default()
	}
	return v.Logger
}

// cronLogger makes cron's routine chatter debug messages.
type cronLogger struct{ *slog.Logger }

func (l cronLogger) Info(msg string, kv ...any) { l.Logger.Debug("cron: "+msg, kv...) }

func (l cronLogger) Error(err error, msg string, kv ...any) {
	l.Logger.Error("cron: "+msg, append([]any{"error", err}, kv...)...)
}
