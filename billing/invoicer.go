package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"aione/catalog"
	"aione/ledger"
)

// Log is the part of the event log that the invoicer uses.
type Log interface {
	Ledger
	Shard(orgID uuid.UUID) int
	// UsageEnd is the sequence up to which a usage shard holds events now.
	UsageEnd(ctx context.Context, shard int) (uint64, time.Time, error)
}

// UsageSource is the projection that counts usage.
type UsageSource interface {
	// CountedShard is the sequence of a usage shard up to which the projection has
	// counted everything.
	CountedShard(ctx context.Context, shard int) (uint64, error)
	// FirstUse is the earliest occurred_at among the usage counted so far that can be
	// invoiced, of each org that has any.
	FirstUse(ctx context.Context, orgIDs []uuid.UUID) (map[uuid.UUID]time.Time, error)
	// SortOrgs puts orgs in the order in which counting neighbours at once is cheapest.
	SortOrgs(orgIDs []uuid.UUID)
	// EachInputs counts the usage of a period of each of some orgs, which differ, and
	// calls each in the order of the questions.
	EachInputs(ctx context.Context, qs []ledger.InputsQuery, each func(i int, in ledger.Inputs) error) error
}

// Auditor says whether what is to be invoiced is proven.
type Auditor interface {
	// Sound returns what was found to be wrong, nil if nothing is. It may take the time
	// of an audit.
	Sound(ctx context.Context) error
}

// Prices finds the price versions that usage was stamped with.
type Prices interface {
	Price(version string) (catalog.Price, bool)
	WaitFor(ctx context.Context, ledgerSeq uint64) error
}

// Hooks are for tests: an error from a hook ends the run there, as a crash would.
// They are called for each org of an atomic batch, one after the other.
type Hooks struct {
	BeforeBatch func(orgID uuid.UUID, p ledger.Period) error // all is computed, nothing written
	AfterBatch  func(orgID uuid.UUID, p ledger.Period) error // all is written, nobody told
}

// Defaults of an Invoicer.
const (
	DefaultTermsDays    = 30
	DefaultMeteringWait = 30 * time.Second
	DefaultGroupOrgs    = 200 // with at most five records each: an atomic batch has 1000 at most
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

	Auditor   Auditor   // may keep the invoicer from running; nil: nobody does
	Standings Standings // nil: thresholds of budgets and balances are not announced

	// Grace is how long a period stays open for stragglers after its end, where the
	// org's profile does not say. Usage that comes later still is on the next invoice.
	// Default 0.
	Grace     time.Duration
	TermsDays int // until payment is due, where the profile does not say; default DefaultTermsDays

	// LateAgeMax bounds how long before the start of a period usage may have occurred
	// to be on its invoice as late usage. What is older is not billed: the run that
	// closes the period says how many rows and how much it was. 0 is no bound.
	LateAgeMax time.Duration

	// MeteringWait bounds how long one run waits for the projection to catch up with
	// the log, for all orgs together. Default DefaultMeteringWait.
	MeteringWait time.Duration

	// WatchEvery is how often included usage is looked at. Default DefaultWatchEvery.
	WatchEvery time.Duration

	GroupOrgs int    // orgs closed in one atomic batch at most; default and most DefaultGroupOrgs
	Actor     string // of the records written; default "invoicer"
	Hooks     Hooks

	committing sync.Mutex
	watchedMS  atomic.Int64 // when included usage was looked at last
}

var (
	// ErrMeteringBehind is returned when the projection has not counted all usage up
	// to the cut in time. The org's periods stay open; the next run tries again.
	ErrMeteringBehind = errors.New("metering is behind: usage in the log is not counted yet")
	// ErrLogWentBack is returned when the usage log ends before the cut of the
	// previous run: messages are lost, or it is another log.
	ErrLogWentBack = errors.New("usage log ends before what was invoiced already")
	// ErrUnproven is returned when the auditor has found that usage, log and ledger
	// differ. Nothing is invoiced until they agree again.
	ErrUnproven = errors.New("nothing is invoiced: log, rows and invoices do not agree")
	// ErrFuture is returned by RunDue for an instant that has not come yet: a period
	// that is not over must not be closed.
	ErrFuture = errors.New("cannot close periods of the future")
)

// ReportIssuedMax bounds the invoices in a Report.
const ReportIssuedMax = 1000

// Report is what a run did.
type Report struct {
	Invoices int              `json:"invoices"`      // issued by this run
	Issued   []ledger.Invoice `json:"issued"`        // the first ReportIssuedMax of them
	Empty    int              `json:"empty"`         // periods closed without an invoice
	Failed   int              `json:"failed"`        // orgs that could not be brought up to date
	Expired  int              `json:"expired"`       // orgs with credits that expired
	Overdue  int              `json:"overdue"`       // invoices that became overdue
	Crossed  int              `json:"crossed"`       // thresholds that were announced
	TooLate  uint64           `json:"too_late_rows"` // rows of late usage that were not billed: see Invoicer.LateAgeMax
}

// run is one run of an Invoicer.
type run struct {
	*Invoicer
	actor    string // who asked for it; empty: nobody, it is the invoicer's own
	asOf     time.Time
	patience context.Context // ends when the projection has been waited for long enough

	mu     sync.Mutex // of what follows
	report Report
	errs   []error
}

// RunDue closes every period that is due at asOf, of each org the oldest first. It
// is a catch-up: it does not matter when it ran last, or whether it was killed. A
// failing org does not keep the others waiting; the error joins those of all
// orgs, and the report says what was done regardless. It also ends credits that
// have expired, and says which invoices are overdue and which thresholds were
// crossed. It does nothing while
// the auditor finds a difference.
//
// A period is due Grace after its end. The first period of an org is that of its
// creation or of its earliest usage, whichever is older, and periods from before
// the org's creation are due Grace after the creation: whoever imports history
// has that long before it is invoiced.
//
// Orgs are taken in parts of a bounded number: one question to the projection, and
// few atomic batches, for each.
func (v *Invoicer) RunDue(ctx context.Context, asOf time.Time) (Report, error) {
	return v.RunDueBy(ctx, asOf, "")
}

// RunDueBy is RunDue for somebody who asks for it: what it closes, expires and marks
// names them, not Actor.
func (v *Invoicer) RunDueBy(ctx context.Context, asOf time.Time, actor string) (Report, error) {
	if now := v.Clock(); asOf.After(now) {
		return Report{}, fmt.Errorf("%w: %s is after %s", ErrFuture, asOf, now)
	}
	if v.Auditor != nil {
		if err := v.Auditor.Sound(ctx); err != nil {
			return Report{}, fmt.Errorf("%w: %w", ErrUnproven, err)
		}
	}
	if err := catchUp(ctx, v.Log, v.Book); err != nil {
		return Report{}, fmt.Errorf("invoice run: %w", err)
	}
	wait := v.MeteringWait
	if wait == 0 {
		wait = DefaultMeteringWait
	}
	r := &run{Invoicer: v, actor: actor, asOf: asOf}
	var cancel context.CancelFunc
	r.patience, cancel = context.WithTimeout(ctx, wait)
	defer cancel()
	r.closeAll(ctx)
	for _, step := range []func(context.Context) error{r.expireCredits, r.markOverdue, r.settleBalances, r.watch} {
		if ctx.Err() != nil {
			break // the other steps would only say the same
		}
		if err := step(ctx); err != nil {
			r.errs = append(r.errs, err)
		}
	}
	return r.report, errors.Join(r.errs...)
}

// failed notes that an org could not be brought up to date.
func (r *run) failed(orgID uuid.UUID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Failed++
	r.errs = append(r.errs, fmt.Errorf("invoice org %s: %w", orgID, err))
}

// by is who the records of the invoicer name.
func (v *Invoicer) by(reason string) By {
	by := By{Actor: v.Actor, Reason: reason, At: v.Clock().UTC().Truncate(time.Millisecond)}
	if by.Actor == "" {
		by.Actor = "invoicer"
	}
	return by
}

// by is who the records of the run name.
func (r *run) by(reason string) By {
	by := r.Invoicer.by(reason)
	if r.actor != "" {
		by.Actor = r.actor
	}
	return by
}

// graceOf is how long an org's periods stay open after their end.
func (v *Invoicer) graceOf(a *account, at time.Time) time.Duration {
	if grace := a.profileAt(at).Grace; grace != nil {
		return *grace
	}
	return v.Grace
}

// due reports whether a period of an org may be closed.
func (v *Invoicer) due(a *account, p ledger.Period, asOf time.Time) bool {
	open := p.End
	if open.Before(a.org.CreatedAt) {
		open = a.org.CreatedAt
	}
	// Whatever the grace: a period that is not over is never due.
	return !asOf.Before(p.End) && !asOf.Before(open.Add(v.graceOf(a, asOf)))
}

// nextPeriod is the oldest period of an org that is not closed. Of an org without
// closed periods firstUse is the earliest usage, zero for none.
func (a *account) nextPeriod(firstUse time.Time) (ledger.Period, error) {
	if n := len(a.runs); n > 0 {
		return a.runs[n-1].Period.Next(a.zone), nil
	}
	first := a.org.CreatedAt
	if !firstUse.IsZero() && firstUse.Before(first) {
		first = firstUse
	}
	return ledger.AnchoredPeriodOf(first, a.zone, a.anchor())
}

func (a *account) lastRun() Run {
	if n := len(a.runs); n > 0 {
		return a.runs[n-1]
	}
	return Run{}
}
