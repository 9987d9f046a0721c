package billing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Book is the read model of orgs, teams, runs and invoices. It is safe for
// concurrent use. What it returns is shared: do not change the slices inside.
type Book struct {
	mu      sync.RWMutex
	applied uint64
	changed chan struct{} // closed and replaced by every Apply
	orgs    map[uuid.UUID]*account
	order   []uuid.UUID // of orgs, oldest first
	series  map[seriesKey][]Numbered
	staged  []events.Record   // the beginning of a batch
	lastOn  map[string]uint64 // last sequence on each subject that commands write to
}

// account is all that is known of one org.
type account struct {
	org      Org
	zone     *time.Location
	teams    []Team
	runs     []Run  // oldest period first
	plans    []Plan // assigned ones, oldest first
	invoices []ledger.Invoice
	journals map[uuid.UUID]ledger.Journal // by invoice
}

type seriesKey struct {
	legalEntity string
	year        int
}

// NewBook is an empty book; feed it the ledger's records by Apply.
func NewBook() *Book {
	return &Book{
		changed: make(chan struct{}),
		orgs:    make(map[uuid.UUID]*account),
		series:  make(map[seriesKey][]Numbered),
		lastOn:  make(map[string]uint64),
	}
}

// Apply takes a record of the ledger, in the order of the log. Records of other
// packages only move AppliedSeq; records applied before are ignored. After an
// error the book must not be used: the log says something this build does not
// understand.
func (b *Book) Apply(r events.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Seq <= b.applied {
		return nil
	}
	if err := b.stageOrApply(r); err != nil {
		return fmt.Errorf("apply ledger sequence %d to the book: %w", r.Seq, err)
	}
	b.applied = r.Seq
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// stageOrApply lets the records of a closing take effect together: they are one
// batch in the log, whose last record is the one on the journal subject. Until it
// comes a reader sees none of them, a command expects the sequences from before
// the batch, and the log refuses it.
func (b *Book) stageOrApply(r events.Record) error {
	switch r.Type {
	case TypeInvoiced, TypeClosedEmpty, TypeNumbered:
		b.staged = append(b.staged, r)
		return nil
	case TypeInvoiceIssued, TypeNothingIssued:
		for _, s := range b.staged {
			if err := b.apply(s); err != nil {
				return err
			}
		}
		b.staged = nil
	}
	return b.apply(r)
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

func (b *Book) apply(r events.Record) error {
	// Every type counts here, also ones this build does not know: the log compares
	// with the last message on the subject, whatever it says.
	if hasAnyPrefix(r.Subject, "LEDGER.org.", planPrefix, "LEDGER.journal.", "LEDGER.series.") {
		b.lastOn[r.Subject] = r.Seq
	}
	switch r.Type {
	case TypeOrgCreated:
		return b.applyOrg(r)
	case TypeTeamCreated:
		return b.applyTeam(r)
	case TypePlanAssigned:
		return b.applyPlan(r)
	case TypeInvoiced, TypeClosedEmpty:
		return b.applyRun(r)
	case TypeNumbered:
		return b.applyNumber(r)
	case TypeInvoiceIssued:
		return b.applyInvoice(r)
	}
	return nil
}

func (b *Book) applyOrg(r events.Record) error {
	var org Org
	if err := r.Into(&org); err != nil {
		return err
	}
	if b.orgs[org.ID] != nil {
		return fmt.Errorf("%w: org %s is created twice", ErrCorrupt, org.ID)
	}
	zone, err := zoneOf(org.Timezone)
	if err != nil {
		return err
	}
	b.orgs[org.ID] = &account{org: org, zone: zone, journals: make(map[uuid.UUID]ledger.Journal)}
	b.order = append(b.order, org.ID)
	return nil
}

func (b *Book) applyTeam(r events.Record) error {
	var team Team
	if err := r.Into(&team); err != nil {
		return err
	}
	a, err := b.known(team.OrgID)
	if err != nil {
		return err
	}
	a.teams = append(a.teams, team)
	return nil
}

func (b *Book) applyRun(r events.Record) error {
	var run Run
	if err := r.Into(&run); err != nil {
		return err
	}
	run.RecordID = r.ID
	a, err := b.known(run.OrgID)
	if err != nil {
		return err
	}
	a.runs = append(a.runs, run)
	return nil
}

func (b *Book) applyNumber(r events.Record) error {
	var n Numbered
	if err := r.Into(&n); err != nil {
		return err
	}
	key := seriesKey{n.LegalEntity, n.Year}
	b.series[key] = append(b.series[key], n)
	return nil
}

func (b *Book) applyInvoice(r events.Record) error {
	var issued Issued
	if err := r.Into(&issued); err != nil {
		return err
	}
	a, err := b.known(issued.Invoice.OrgID)
	if err != nil {
		return err
	}
	a.invoices = append(a.invoices, issued.Invoice)
	a.journals[issued.Invoice.ID] = issued.Journal
	return nil
}

func (b *Book) known(orgID uuid.UUID) (*account, error) {
	if a := b.orgs[orgID]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("%w: org %s was never created", ErrCorrupt, orgID)
}

// AppliedSeq is the ledger sequence of the last record applied.
func (b *Book) AppliedSeq() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.applied
}

// WaitFor returns when the record of a ledger sequence has been applied, or with
// ctx's error.
func (b *Book) WaitFor(ctx context.Context, seq uint64) error {
	for {
		b.mu.RLock()
		applied, changed := b.applied, b.changed
		b.mu.RUnlock()
		if applied >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the book to reach ledger sequence %d, it is at %d: %w", seq, applied, ctx.Err())
		}
	}
}

// Org is an org by its id, or ErrNotFound.
func (b *Book) Org(id uuid.UUID) (Org, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(id)
	if err != nil {
		return Org{}, err
	}
	return a.org, nil
}

// Zone is the time zone of an org, or ErrNotFound.
func (b *Book) Zone(id uuid.UUID) (*time.Location, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(id)
	if err != nil {
		return nil, err
	}
	return a.zone, nil
}

// Orgs are all orgs, oldest first.
func (b *Book) Orgs() []Org {
	b.mu.RLock()
	defer b.mu.RUnlock()
	orgs := make([]Org, 0, len(b.order))
	for _, id := range b.order {
		orgs = append(orgs, b.orgs[id].org)
	}
	return orgs
}

// Teams are the teams of an org, oldest first, or ErrNotFound when there is no
// such org.
func (b *Book) Teams(orgID uuid.UUID) ([]Team, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(orgID)
	if err != nil {
		return nil, err
	}
	return slices.Clone(a.teams), nil
}

// Team is a team of an org; ErrNotFound also when it is another org's.
func (b *Book) Team(orgID, id uuid.UUID) (Team, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		for _, t := range a.teams {
			if t.ID == id {
				return t, nil
			}
		}
	}
	return Team{}, fmt.Errorf("team %s: %w", id, ErrNotFound)
}

// Invoices is a page (the first is 1) of an org's invoices, newest period first,
// and how many there are in all. ErrNotFound when there is no such org.
func (b *Book) Invoices(orgID uuid.UUID, page, pageSize int) (invoices []ledger.Invoice, total int, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(orgID)
	if err != nil {
		return nil, 0, err
	}
	if page < 1 || pageSize < 1 {
		return nil, 0, fmt.Errorf("%w: page %d of %d invoices each", ErrInvalid, page, pageSize)
	}
	total = len(a.invoices)
	if page > total/pageSize+1 { // also keeps the product below from overflowing
		return nil, total, nil
	}
	// Periods are closed oldest first: the reverse of the log's order.
	for i := total - 1 - (page-1)*pageSize; i >= 0 && len(invoices) < pageSize; i-- {
		invoices = append(invoices, a.invoices[i])
	}
	return invoices, total, nil
}

// Invoice is an invoice of an org; ErrNotFound also when it is another org's.
func (b *Book) Invoice(orgID, id uuid.UUID) (ledger.Invoice, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		for _, inv := range a.invoices {
			if inv.ID == id {
				return inv, nil
			}
		}
	}
	return ledger.Invoice{}, fmt.Errorf("invoice %s: %w", id, ErrNotFound)
}

// LastInvoice is the newest invoice of an org; ErrNotFound when there is none.
func (b *Book) LastInvoice(orgID uuid.UUID) (ledger.Invoice, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	if len(a.invoices) == 0 {
		return ledger.Invoice{}, fmt.Errorf("invoice of org %s: %w", orgID, ErrNotFound)
	}
	return a.invoices[len(a.invoices)-1], nil
}

// LastRun is the newest closed period of an org; false when none is closed yet.
func (b *Book) LastRun(orgID uuid.UUID) (Run, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil && len(a.runs) > 0 {
		return a.runs[len(a.runs)-1], true
	}
	return Run{}, false
}

func (b *Book) find(orgID uuid.UUID) (*account, error) {
	if a := b.orgs[orgID]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("org %s: %w", orgID, ErrNotFound)
}

// LastOn is the last sequence on a subject, 0 when there is none: what an append
// decided on this book expects there.
func (b *Book) LastOn(subject string) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.lastOn[subject]
}

// runs are the closed periods of an org, oldest first.
func (b *Book) runs(orgID uuid.UUID) []Run {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		return slices.Clone(a.runs)
	}
	return nil
}

// head is where an org's runs and a series of numbers end, at one moment.
type head struct {
	lastRun    Run // zero before the first
	journalSeq uint64
	seriesSeq  uint64
	number     uint64 // the last one given
}

func (b *Book) head(orgID uuid.UUID, key seriesKey) head {
	b.mu.RLock()
	defer b.mu.RUnlock()
	h := head{
		journalSeq: b.lastOn[events.JournalSubject(orgID)],
		seriesSeq:  b.lastOn[events.SeriesSubject(key.legalEntity, key.year)],
	}
	if a := b.orgs[orgID]; a != nil && len(a.runs) > 0 {
		h.lastRun = a.runs[len(a.runs)-1]
	}
	if numbers := b.series[key]; len(numbers) > 0 {
		h.number = numbers[len(numbers)-1].N
	}
	return h
}

// keysOf are the series in a fixed order. The caller holds the lock.
func (b *Book) keysOf() []seriesKey {
	var keys []seriesKey
	for key := range b.series {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y seriesKey) int {
		return cmp.Or(cmp.Compare(x.legalEntity, y.legalEntity), cmp.Compare(x.year, y.year))
	})
	return keys
}
