package billing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Book is the read model of orgs, their plans, profiles and money, and of legal
// entities and published plans. It is safe for concurrent use. What it returns is
// shared: do not change the slices inside.
type Book struct {
	mu        sync.RWMutex
	applied   uint64
	changed   chan struct{} // closed and replaced by every Apply
	orgs      map[uuid.UUID]*account
	order     []uuid.UUID // of orgs, oldest first
	series    map[seriesKey][]Numbered
	published map[string][]Published     // by code, oldest first
	entities  map[string][]entityVersion // by code, oldest first
	requests  map[requestKey]Request
	staged    []events.Record   // the beginning of a batch
	lastOn    map[string]uint64 // last sequence on each subject that commands write to
}

// account is all that is known of one org.
type account struct {
	org      Org
	zone     *time.Location
	teams    []Team
	plans    []Plan    // assigned ones, oldest first
	profiles []Profile // oldest first
	runs     []Run     // oldest period first

	state    *ledger.State
	broken   error              // why state stands still: the entries contradict it
	entries  []ledger.Entry     // all that moved its money, in order
	legacy   map[uuid.UUID]bool // invoices from before journals were chained
	invoices []*ledger.Invoice  // as issued: of entries
	balance  balance
	crossed  map[string]bool // thresholds announced, by subject
	overdue  map[uuid.UUID]bool
	changes  []Change
}

// seriesKey names a series of numbers. Kind is empty for invoices.
type seriesKey struct {
	kind        string
	legalEntity string
	year        int
}

// NewBook is an empty book; feed it the ledger's records by Apply.
func NewBook() *Book {
	return &Book{
		changed:   make(chan struct{}),
		orgs:      make(map[uuid.UUID]*account),
		series:    make(map[seriesKey][]Numbered),
		published: make(map[string][]Published),
		entities:  make(map[string][]entityVersion),
		requests:  make(map[requestKey]Request),
		lastOn:    make(map[string]uint64),
	}
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

// Invoices is a page (the first is 1) of an org's invoices, the last issued first,
// and how many there are in all. Status is issued, paid or void; whether an issued
// one is overdue depends on the date. ErrNotFound when there is no such org.
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
	for i := total - 1 - (page-1)*pageSize; i >= 0 && len(invoices) < pageSize; i-- {
		invoices = append(invoices, a.standingInvoice(a.invoices[i]))
	}
	return invoices, total, nil
}

// Invoice is an invoice of an org; ErrNotFound also when it is another org's.
func (b *Book) Invoice(orgID, id uuid.UUID) (ledger.Invoice, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		if inv := a.invoice(id); inv != nil {
			return a.standingInvoice(inv), nil
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
	return a.standingInvoice(a.invoices[len(a.invoices)-1]), nil
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

// RunsOf are the closed periods of an org, oldest first.
func (b *Book) RunsOf(orgID uuid.UUID) []Run {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		return slices.Clone(a.runs)
	}
	return nil
}

// RunOf is the closing of an org's period; false while it is open.
func (b *Book) RunOf(orgID uuid.UUID, label string) (Run, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		for _, run := range slices.Backward(a.runs) {
			if run.Period.Label == label {
				return run, true
			}
		}
	}
	return Run{}, false
}

// money calls f with the view of an org as decide does, if its money can be moved:
// the error is ErrCorrupt when the log contradicts itself about it.
func (b *Book) money(orgID uuid.UUID, f func(v view) error) error {
	return b.decide(orgID, func(v view) error {
		if v.broken != nil {
			return v.broken
		}
		return f(v)
	})
}

// view is an org's account at one moment: what a decision rests on.
type view struct {
	*account
	book       *Book
	journalSeq uint64 // last on the org's journal subject
}

// numberAfter is the number that follows the given ones of a series, and the last
// sequence on its subject. The caller holds the lock.
func (b *Book) numberAfter(key seriesKey) (n, seq uint64) {
	if given := b.series[key]; len(given) > 0 {
		n = given[len(given)-1].N
	}
	return n + 1, b.lastOn[key.subject()]
}

// decide calls f with the view of an org, or returns ErrNotFound. f must not keep it.
func (b *Book) decide(orgID uuid.UUID, f func(v view) error) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(orgID)
	if err != nil {
		return err
	}
	return f(view{account: a, book: b, journalSeq: b.lastOn[events.JournalSubject(orgID)]})
}

// keysOf are the series in a fixed order. The caller holds the lock.
func (b *Book) keysOf() []seriesKey {
	var keys []seriesKey
	for key := range b.series {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y seriesKey) int {
		return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.legalEntity, y.legalEntity), cmp.Compare(x.year, y.year))
	})
	return keys
}
