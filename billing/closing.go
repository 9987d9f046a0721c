package billing

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/ledger"
)

// closing is one period of an org on its way to being closed.
type closing struct {
	orgID    uuid.UUID
	period   ledger.Period
	last     Run // that it was computed to follow
	segments []ledger.Segment
	origins  []ledger.Origin // closed periods that late usage may be of
	query    ledger.InputsQuery
	inputs   ledger.Inputs

	// Of one attempt to write it:
	journalSeq uint64 // of the org's money that it was billed on
	draft      ledger.Invoice
	empty      bool // there is nothing to bill: no invoice is made
	series     seriesKey
	seriesSeq  uint64 // the last on its subject
	number     uint64
	invoice    ledger.Invoice
	run        Run
	batch      batch
}

const (
	// partOrgs bounds how many orgs a part has: their inputs and drafts are in memory.
	partOrgs = 500
	// partsAtOnce lets the projection count one part while another is billed.
	partsAtOnce = 2
)

// closeAll closes what is due, part by part.
func (r *run) closeAll(ctx context.Context) {
	var parts errgroup.Group
	parts.SetLimit(partsAtOnce)
	for part := range slices.Chunk(r.candidates(), partOrgs) {
		if ctx.Err() != nil {
			break // the other orgs would only say the same
		}
		parts.Go(func() error {
			r.closePart(ctx, part)
			return nil
		})
	}
	_ = parts.Wait() // parts note their errors
}

// candidates are the orgs that may have a period to close, without asking anybody
// about those that have closed one.
func (r *run) candidates() []uuid.UUID {
	r.Book.mu.RLock()
	defer r.Book.mu.RUnlock()
	var ids []uuid.UUID
	for _, id := range r.Book.order {
		a := r.Book.orgs[id]
		if last := a.lastRun(); last.RecordID == uuid.Nil || r.due(a, last.Period.Next(a.zone), r.asOf) {
			ids = append(ids, id)
		}
	}
	return ids
}

// closePart closes all due periods of some orgs, the next of each in every round.
// An org at which another invoicer was first is looked at again, with a new cut.
func (r *run) closePart(ctx context.Context, ids []uuid.UUID) {
	lost := make(map[uuid.UUID]int) // rounds in a row
	for len(ids) > 0 && ctx.Err() == nil {
		cs, overtaken := r.open(ctx, ids)
		cs = r.count(ctx, cs)
		ids = nil
		for group := range slices.Chunk(cs, r.groupOrgs()) {
			won, again := r.commit(ctx, group)
			for _, c := range won {
				delete(lost, c.orgID)
				ids = append(ids, c.orgID)
			}
			for _, c := range again {
				overtaken = append(overtaken, c.orgID)
			}
		}
		for _, id := range overtaken {
			if lost[id]++; lost[id] == attemptsMax {
				r.failed(id, fmt.Errorf("%w, %d times in a row", errOvertaken, attemptsMax))
				continue
			}
			ids = append(ids, id)
		}
	}
}

func (v *Invoicer) groupOrgs() int {
	if v.GroupOrgs <= 0 || v.GroupOrgs > DefaultGroupOrgs {
		return DefaultGroupOrgs
	}
	return v.GroupOrgs
}

// open takes a cut and finds the next period of each org that is due. Overtaken are
// the orgs at which another invoicer has gone past this cut.
func (r *run) open(ctx context.Context, ids []uuid.UUID) (cs []*closing, overtaken []uuid.UUID) {
	cuts := r.takeCuts(ctx, ids)
	var fresh []uuid.UUID // orgs without a closed period
	for _, id := range ids {
		if _, ok := r.Book.LastRun(id); !ok && cuts[r.Log.Shard(id)].err == nil {
			fresh = append(fresh, id)
		}
	}
	firstUse := map[uuid.UUID]time.Time{}
	if len(fresh) > 0 {
		// After the cut, so that the earliest usage is one that has been counted.
		var err error
		if firstUse, err = r.Usage.FirstUse(ctx, fresh); err != nil {
			for _, id := range ids {
				r.failed(id, err)
			}
			return nil, nil
		}
	}
	for _, id := range ids {
		cut := cuts[r.Log.Shard(id)]
		switch c, err := r.openNext(ctx, id, cut, firstUse[id]); {
		case errors.Is(err, errOvertaken):
			overtaken = append(overtaken, id)
		case err != nil:
			r.failed(id, err)
		case c != nil:
			cs = append(cs, c)
		}
	}
	return cs, overtaken
}

// openNext begins the closing of an org's next period; nil when none is due.
func (r *run) openNext(ctx context.Context, id uuid.UUID, cut cut, firstUse time.Time) (c *closing, err error) {
	if cut.err != nil {
		return nil, cut.err
	}
	err = r.Book.decide(id, func(v view) error {
		period, err := v.nextPeriod(firstUse)
		if err == nil && r.due(v.account, period, r.asOf) {
			c = r.newClosing(v, period, cut.seq, v.lastRun().Cut)
		}
		return err
	})
	if err != nil || c == nil || cut.seq >= c.last.Cut {
		return c, err
	}
	// Either another invoicer went past our cut, which a new cut shows …
	end, _, err := r.Log.UsageEnd(ctx, r.Log.Shard(id))
	if err != nil {
		return nil, err
	}
	if end >= c.last.Cut {
		return nil, errOvertaken
	}
	// … or the log has lost what was counted.
	return nil, fmt.Errorf("%w: it ends at %d, period %s was cut at %d", ErrLogWentBack, cut.seq, c.last.Period.Label, c.last.Cut)
}

// newClosing is what is asked of the projection for a period.
func (v *Invoicer) newClosing(of view, period ledger.Period, cut, previousCut uint64) *closing {
	c := &closing{orgID: of.org.ID, period: period, last: of.lastRun(), segments: ledger.SegmentsOf(period, of.zone, of.moneyPlans())}
	c.query = ledger.InputsQuery{OrgID: c.orgID, Start: period.Start, End: period.End, Cut: cut, PreviousCut: previousCut, PaidFrom: of.balance.opened}
	if v.LateAgeMax > 0 {
		c.query.LateFrom = period.Start.Add(-v.LateAgeMax)
	}
	c.origins = of.origins(c.query.LateFrom)
	c.query.Spans = ledger.SpansOf(c.origins, c.segments)
	return c
}

// origins are the closed periods that end after an instant, with the terms that
// they were billed by.
func (a *account) origins(after time.Time) []ledger.Origin {
	segments := make(map[string][]ledger.Segment)
	for _, inv := range a.invoices { // a corrected one comes after the one it replaces
		segments[inv.Period.Label] = inv.Segments
	}
	var origins []ledger.Origin
	for _, run := range a.runs {
		if !run.Period.End.After(after) {
			continue
		}
		o := ledger.Origin{Period: run.Period, Segments: run.Segments}
		if billed, ok := segments[run.Period.Label]; ok {
			o.Segments = billed
		}
		origins = append(origins, o)
	}
	return origins
}

// count asks the projection, and bills as the answers come.
func (r *run) count(ctx context.Context, cs []*closing) []*closing {
	if len(cs) == 0 {
		return nil
	}
	var billing errgroup.Group
	billing.SetLimit(runtime.GOMAXPROCS(0))
	failed := make([]error, len(cs))
	qs := make([]ledger.InputsQuery, len(cs))
	for i, c := range cs {
		qs[i] = c.query
	}
	err := r.Usage.EachInputs(ctx, qs, func(i int, in ledger.Inputs) error {
		cs[i].inputs = in
		billing.Go(func() error {
			failed[i] = r.bill(cs[i])
			return nil
		})
		return nil
	})
	_ = billing.Wait() // their errors are in failed
	counted := cs[:0]
	for i, c := range cs {
		if err := errors.Join(err, failed[i]); err != nil {
			r.failed(c.orgID, fmt.Errorf("period %s: %w", c.period.Label, err))
			continue
		}
		counted = append(counted, c)
	}
	return counted
}

// bill works the draft out on the org's money as it is now. It writes nothing.
func (v *Invoicer) bill(c *closing) error {
	var in ledger.BillInput
	err := v.Book.money(c.orgID, func(of view) (err error) {
		c.journalSeq = of.journalSeq
		in, err = v.billInput(of, c, of.standingInvoices(), of.state.Credits())
		return err
	})
	if err != nil {
		return err
	}
	c.empty = false
	c.draft, err = ledger.Bill(in)
	if errors.Is(err, ledger.ErrNothingToBill) {
		c.empty, err = true, nil
	}
	return err
}

// billInput is all that the invoice of a period depends on, given the invoices
// before it and the credits there are.
func (v *Invoicer) billInput(of view, c *closing, invoices []ledger.Invoice, credits []ledger.Credit) (in ledger.BillInput, err error) {
	now, plans := v.Clock().UTC().Truncate(time.Millisecond), of.moneyPlans()
	in = ledger.BillInput{
		OrgID: c.orgID, LegalEntity: of.org.LegalEntity, Currency: of.org.Currency, Period: c.period,
		CreatedAt: now, CreatedOn: ledger.DateOf(now, of.zone), TermsDays: v.termsDays(of.account, now),
		Segments: c.segments, Next: ledger.NextSegment(c.period, of.zone, plans),
		TaxRates: of.profileAt(c.period.End.Add(-time.Millisecond)).TaxRates, Credits: credits,
		Cut: c.query.Cut, PreviousCut: c.query.PreviousCut, Inputs: c.inputs, Origins: slices.Clone(c.origins),
	}
	if in.Advance, err = ledger.AdvanceOf(c.period, invoices); err != nil {
		return in, err
	}
	late := make(map[string]bool)
	for _, q := range c.inputs.Quantities {
		late[q.Origin] = true
	}
	counted := slices.Clone(c.inputs.Quantities)
	for i := range in.Origins {
		if o := &in.Origins[i]; late[o.Period.Label] {
			if o.Billed, err = ledger.BilledOf(o.Period.Label, invoices); err != nil {
				return in, err
			}
			counted = append(counted, o.Billed...)
		}
	}
	in.Prices = v.pricesOf(counted)
	return in, nil
}

func (v *Invoicer) termsDays(a *account, now time.Time) int {
	switch days := a.profileAt(now).TermsDays; {
	case days != nil:
		return *days
	case v.TermsDays != 0:
		return v.TermsDays
	}
	return DefaultTermsDays
}
