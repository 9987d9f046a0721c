package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"aione/catalog"
	"aione/events"
	"aione/ledger"
)

// Log is the part of the event log that the invoicer uses.
type Log interface {
	Ledger
	// UsageLast is the sequence up to which the org's usage stream holds events now.
	UsageLast(ctx context.Context, orgID uuid.UUID) (uint64, error)
}

// UsageSource is the projection that counts usage.
type UsageSource interface {
	// Counted is the sequence of the org's usage stream up to which the projection
	// has counted everything.
	Counted(ctx context.Context, orgID uuid.UUID) (uint64, error)
	// FirstUse is the earliest occurred_at among the org's usage counted so far that
	// can be invoiced; false when there is none.
	FirstUse(ctx context.Context, orgID uuid.UUID) (time.Time, bool, error)
	// Inputs counts the usage of a period.
	Inputs(ctx context.Context, q ledger.InputsQuery) (ledger.Inputs, error)
}

// Prices finds the price versions that usage was stamped with.
type Prices interface {
	Price(version string) (catalog.Price, bool)
	WaitFor(ctx context.Context, ledgerSeq uint64) error
}

// Hooks are for tests: an error from a hook ends the run there, as a crash would.
type Hooks struct {
	BeforeBatch func(orgID uuid.UUID, p ledger.Period) error // all is computed, nothing written
	AfterBatch  func(orgID uuid.UUID, p ledger.Period) error // all is written, nobody told
}

// Defaults of an Invoicer.
const (
	DefaultTermsDays    = 30
	DefaultMeteringWait = 30 * time.Second
)

// Invoicer closes the periods of orgs. Any number of them may run at once, in
// any number of processes: each period is closed once. Book and Prices must be
// fed from the same log.
type Invoicer struct {
	Log    Log
	Book   *Book
	Prices Prices
	Usage  UsageSource
	Clock  func() time.Time // stamps invoices; UTC is not required
	Logger *slog.Logger     // default slog.Default()

	// Grace is how long a period stays open for stragglers after its end. Usage that
	// comes later still is on the next invoice. Default 0.
	Grace     time.Duration
	TermsDays int // until payment is due; default DefaultTermsDays

	// MeteringWait bounds how long one run waits for the projection to catch up with
	// the log, for all orgs together. Default DefaultMeteringWait.
	MeteringWait time.Duration

	// LateAgeMax bounds how long before the start of a period usage may have occurred
	// to be on its invoice as late usage. What is older is not billed: the run that
	// closes the period says how many rows and how much it was. 0 is no bound.
	LateAgeMax time.Duration

	Auditor   Auditor   // nil: nobody is asked
	Standings Standings // nil: no thresholds of budgets and balances are announced

	GroupOrgs int    // orgs closed in one atomic batch at most; default DefaultGroupOrgs
	Actor     string // of the records written; default "invoicer"
	Hooks     Hooks
}

// DefaultGroupOrgs is how many orgs are closed in one atomic batch.
const DefaultGroupOrgs = 200

// Auditor says whether log, rows and invoices agree.
type Auditor interface {
	// Red returns why they do not, nil if they do as far as is known.
	Red(ctx context.Context) error
}

// ErrAuditorRed is returned when the auditor has found that log, rows and invoices
// disagree: nothing is invoiced until they agree again.
var ErrAuditorRed = errors.New("the auditor has found differences")

// Standings knows what admission counts.
type Standings interface {
	Standing(orgID uuid.UUID) Spending
}

// Spending is what an org has spent of its limits now. Zero limits are none.
type Spending struct {
	Budget, Spent ledger.Amount // of the calendar month
	Opened        bool          // there is a balance
	Balance       ledger.Amount // without the credit limit
}

var (
	// ErrMeteringBehind is returned when the projection has not counted all usage up
	// to the cut in time. The org's periods stay open; the next run tries again.
	ErrMeteringBehind = errors.New("metering is behind: usage in the log is not counted yet")
	// ErrLogWentBack is returned when the usage log ends before the cut of the
	// previous run: messages are lost, or it is another log.
	ErrLogWentBack = errors.New("usage log ends before what was invoiced already")
	// ErrFuture is returned by RunDue for an instant that has not come yet: a period
	// that is not over must not be closed.
	ErrFuture = errors.New("cannot close periods of the future")
)

// Report is what a run did.
type Report struct {
	Invoices int              // issued by this run
	Issued   []ledger.Invoice // the first ReportIssuedMax of them
	Empty    int              // periods closed without an invoice
	Failed   int              // orgs that could not be brought up to date
	Expired  int              // orgs with credits that expired
	TooLate  uint64           // rows of late usage that were not billed: see Invoicer.LateAgeMax
}

// ReportIssuedMax bounds the invoices in a Report.
const ReportIssuedMax = 1000

// RunDue closes every period that is due at asOf, org by org, oldest first. It is
// a catch-up: it does not matter when it ran last, or whether it was killed. A
// failing org does not keep the others waiting; the error joins those of all
// orgs, and the report says what was done regardless.
//
// A period is due Grace after its end. The first period of an org is that of its
// creation or of its earliest usage, whichever is older, and periods from before
// the org's creation are due Grace after the creation: whoever imports history
// has that long before it is invoiced.
func (v *Invoicer) RunDue(ctx context.Context, asOf time.Time) (Report, error) {
	var report Report
	if now := v.Clock(); asOf.After(now) {
		return report, fmt.Errorf("%w: %s is after %s", ErrFuture, asOf, now)
	}
	if err := catchUp(ctx, v.Log, v.Book); err != nil {
		return report, fmt.Errorf("invoice run: %w", err)
	}
	wait := v.MeteringWait
	if wait == 0 {
		wait = DefaultMeteringWait
	}
	patience, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var errs []error
	for _, org := range v.Book.Orgs() {
		if err := v.runOrg(ctx, patience, job{org: org, asOf: asOf, report: &report}); err != nil {
			report.Failed++
			errs = append(errs, fmt.Errorf("invoice org %s: %w", org.ID, err))
		}
		if ctx.Err() != nil {
			break // the other orgs would only say the same
		}
	}
	return report, errors.Join(errs...)
}

// job is one org in one run.
type job struct {
	org    Org
	zone   *time.Location
	asOf   time.Time
	report *Report
}

// runOrg closes the due periods of one org. Whenever another invoicer was at the
// same org it looks again from the start, with a new cut.
func (v *Invoicer) runOrg(ctx, patience context.Context, j job) error {
	var err error
	if j.zone, err = v.Book.Zone(j.org.ID); err != nil {
		return err
	}
	for range attemptsMax {
		if last, ok := v.Book.LastRun(j.org.ID); ok && !v.due(j, last.Period.Next(j.zone)) {
			return nil // the usual case, without asking anybody
		}
		again, err := v.closeDue(ctx, patience, j)
		if err != nil || !again {
			return err
		}
	}
	return fmt.Errorf("%w, %d times in a row", events.ErrConflict, attemptsMax)
}

// closeDue takes a cut and closes all periods that are due at it. Again is true
// when another invoicer got in between.
func (v *Invoicer) closeDue(ctx, patience context.Context, j job) (again bool, err error) {
	cut, err := v.takeCut(ctx, patience, j.org.ID)
	if err != nil {
		return false, err
	}
	for {
		// What is computed below follows this run; commit voids it, or the log
		// refuses it, if another run of this org comes between.
		last, _ := v.Book.LastRun(j.org.ID)
		period, err := v.nextPeriod(ctx, j, last)
		if err != nil || !v.due(j, period) {
			return false, err
		}
		if cut < last.Cut {
			// Either another invoicer went past our cut, which a new cut shows …
			if end, err := v.Log.UsageLast(ctx, j.org.ID); err != nil || end >= last.Cut {
				return true, err
			}
			// … or the log has lost what was counted.
			return false, fmt.Errorf("%w: it ends at %d, period %s was cut at %d", ErrLogWentBack, cut, last.Period.Label, last.Cut)
		}
		c := closing{job: j, period: period, cut: cut, previousCut: last.Cut, after: last.RecordID}
		if err := v.compute(ctx, &c); err != nil {
			return false, fmt.Errorf("period %s: %w", period.Label, err)
		}
		again, err := v.commit(ctx, &c)
		if err != nil {
			return false, fmt.Errorf("period %s: %w", period.Label, err)
		}
		if again {
			return true, nil
		}
	}
}

// takeCut decides up to where usage is counted: the end of the org's log now. It
// returns when the projection has counted that far.
func (v *Invoicer) takeCut(ctx, patience context.Context, orgID uuid.UUID) (uint64, error) {
	cut, err := v.Log.UsageLast(ctx, orgID)
	if err != nil {
		return 0, err
	}
	// Each price that usage before the cut was stamped with is in the ledger by now.
	end, err := v.Log.LedgerEnd(ctx)
	if err != nil {
		return 0, err
	}
	if err := v.Book.WaitFor(ctx, end); err != nil {
		return 0, err
	}
	if err := v.Prices.WaitFor(ctx, end); err != nil {
		return 0, err
	}
	for {
		counted, err := v.Usage.Counted(ctx, orgID)
		if err != nil {
			return 0, err
		}
		if counted >= cut {
			return cut, nil
		}
		select {
		case <-patience.Done():
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, fmt.Errorf("%w: counted up to %d of %d", ErrMeteringBehind, counted, cut)
		case <-time.After(countedPollInterval):
		}
	}
}

const countedPollInterval = 50 * time.Millisecond

// nextPeriod is the oldest period that is not closed. Call it after takeCut, so
// that the earliest usage is one that has been counted.
func (v *Invoicer) nextPeriod(ctx context.Context, j job, last Run) (ledger.Period, error) {
	if last.RecordID != uuid.Nil {
		return last.Period.Next(j.zone), nil
	}
	first := j.org.CreatedAt
	used, ok, err := v.Usage.FirstUse(ctx, j.org.ID)
	if err != nil {
		return ledger.Period{}, err
	}
	if ok && used.Before(first) {
		first = used
	}
	return ledger.PeriodOf(first, j.zone), nil
}

func (v *Invoicer) due(j job, p ledger.Period) bool {
	open := p.End
	if open.Before(j.org.CreatedAt) {
		open = j.org.CreatedAt
	}
	// Whatever the grace: a period that is not over is never due.
	return !j.asOf.Before(p.End) && !j.asOf.Before(open.Add(v.Grace))
}

// Drafts are the invoices of an org's open periods as they would be issued now,
// oldest first: of those that have ended and are in their grace, and the current
// one last. Periods without anything to bill are left out.
func (v *Invoicer) Drafts(ctx context.Context, orgID uuid.UUID) ([]ledger.Invoice, error) {
	return nil, fmt.Errorf("drafts: %w", errNotBuilt)
}

// Upcoming is the invoice of the org's current period as if the period ended
// now: a draft, without number. It counts what the projection has counted and
// waits for nothing; Cut says how far that is. It returns ErrNotFound, or
// ledger.ErrNothingToBill when there is no usage yet.
func (v *Invoicer) Upcoming(ctx context.Context, orgID uuid.UUID) (ledger.Invoice, error) {
	org, err := v.Book.Org(orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	zone, err := v.Book.Zone(orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	cut, err := v.Usage.Counted(ctx, orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	c := closing{job: job{org: org, zone: zone}, period: ledger.PeriodOf(v.Clock(), zone), cut: cut, previousCut: cut}
	last, _ := v.Book.LastRun(orgID)
	if last.Period.End.Equal(c.period.Start) && last.Cut <= cut {
		c.previousCut = last.Cut
	}
	// Else the period before is still open: what is older than this one belongs to
	// that, and none of it is late.
	if err := v.compute(ctx, &c); err != nil {
		return ledger.Invoice{}, err
	}
	if c.empty {
		return ledger.Invoice{}, fmt.Errorf("upcoming invoice of org %s: %w", orgID, ledger.ErrNothingToBill)
	}
	return c.draft, nil
}
