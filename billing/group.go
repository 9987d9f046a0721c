package billing

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/events"
	"aione/ledger"
)

// commit writes closings of different orgs in one atomic batch: all of them or
// none. Won are those that were written; again those at which another run of the
// same org came first, so that what was computed is void. Other failures are noted.
//
// A batch that the log refuses because anybody wrote to any of its subjects is
// split in two, so that one busy org or a racing invoicer costs the others little;
// a single closing is tried for as long as only its number or the org's money
// changed.
func (r *run) commit(ctx context.Context, cs []*closing) (won, again []*closing) {
	r.committing.Lock() // in this process, groups would only race for numbers
	defer r.committing.Unlock()
	return r.commitGroup(ctx, cs)
}

func (r *run) commitGroup(ctx context.Context, cs []*closing) (won, again []*closing) {
	for range attemptsMax {
		var lost []*closing
		cs, lost = r.prepare(cs)
		again = append(again, lost...)
		if len(cs) == 0 {
			return won, again
		}
		err := r.write(ctx, cs)
		switch {
		case err == nil:
			return append(won, cs...), again
		case !errors.Is(err, events.ErrConflict):
			for _, c := range cs {
				r.failed(c.orgID, fmt.Errorf("period %s: %w", c.period.Label, err))
			}
			return won, again
		case len(cs) > 1:
			for _, half := range [][]*closing{cs[:len(cs)/2], cs[len(cs)/2:]} {
				w, a := r.commitGroup(ctx, half)
				won, again = append(won, w...), append(again, a...)
			}
			return won, again
		}
	}
	r.failed(cs[0].orgID, fmt.Errorf("period %s: %w, %d times in a row", cs[0].period.Label, events.ErrConflict, attemptsMax))
	return won, again
}

// write appends the batch of a group. After any error the ledger itself is asked:
// an attempt that was not confirmed may be in it.
func (r *run) write(ctx context.Context, cs []*closing) error {
	if err := callHooks(r.Hooks.BeforeBatch, cs); err != nil {
		return err
	}
	appends, err := r.groupAppends(cs)
	if err != nil {
		return err
	}
	seqs, err := r.Log.Append(ctx, appends...)
	if err == nil {
		err = r.Book.WaitFor(ctx, slices.Max(seqs))
	} else if catchErr := catchUp(ctx, r.Log, r.Book); catchErr != nil {
		err = errors.Join(err, catchErr)
	} else if last, _ := r.Book.RunOf(cs[0].orgID, cs[0].period.Label); last.RecordID == cs[0].run.RecordID {
		err = nil
	}
	if err != nil {
		return err
	}
	if err := callHooks(r.Hooks.AfterBatch, cs); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range cs {
		r.report.TooLate += c.run.TooLateRows
		if c.empty {
			r.report.Empty++
			continue
		}
		r.report.Invoices++
		if len(r.report.Issued) < ReportIssuedMax {
			r.report.Issued = append(r.report.Issued, c.invoice)
		}
	}
	return nil
}

func callHooks(hook func(uuid.UUID, ledger.Period) error, cs []*closing) error {
	for _, c := range cs {
		if hook != nil {
			if err := hook(c.orgID, c.period); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare makes the records of a group, on the orgs' money as it is now. It leaves
// out what cannot be written: lost are closings that another run has overtaken.
func (r *run) prepare(cs []*closing) (ready, lost []*closing) {
	for len(cs) > 0 {
		fates := make([]error, len(cs))
		forEach(cs, func(i int, c *closing) { fates[i] = r.refresh(c) })
		cs, lost = r.sortOut(cs, fates, lost)
		r.giveNumbers(cs)
		fates = make([]error, len(cs))
		forEach(cs, func(i int, c *closing) { fates[i] = r.issue(c) })
		n := len(cs)
		if cs, lost = r.sortOut(cs, fates, lost); len(cs) == n && !slices.ContainsFunc(fates, isStale) {
			return cs, lost
		}
		// A number was given to one that is out, or money moved meanwhile: once more.
	}
	return nil, lost
}

var (
	errOvertaken = errors.New("another run was first")
	errStale     = errors.New("the org's money has moved")
)

func isStale(err error) bool { return errors.Is(err, errStale) }

// sortOut keeps what can go on.
func (r *run) sortOut(cs []*closing, fates []error, lost []*closing) ([]*closing, []*closing) {
	var on []*closing
	for i, c := range cs {
		switch err := fates[i]; {
		case err == nil || isStale(err):
			on = append(on, c)
		case errors.Is(err, errOvertaken):
			lost = append(lost, c)
		default:
			r.failed(c.orgID, fmt.Errorf("period %s: %w", c.period.Label, err))
		}
	}
	return on, lost
}

// forEach calls f for each closing, several at the same time.
func forEach(cs []*closing, f func(i int, c *closing)) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range cs {
		g.Go(func() error { f(i, c); return nil })
	}
	_ = g.Wait() // f returns nothing
}

// refresh bills again if the org's money has moved since.
func (r *run) refresh(c *closing) error {
	stale := false
	err := r.Book.money(c.orgID, func(v view) error {
		if v.lastRun().RecordID != c.last.RecordID {
			return errOvertaken
		}
		stale = v.journalSeq != c.journalSeq
		return nil
	})
	if err != nil || !stale {
		return err
	}
	return r.bill(c)
}

// giveNumbers gives the next numbers of their series to the invoices, in order.
func (r *run) giveNumbers(cs []*closing) {
	given := make(map[seriesKey]uint64)
	r.Book.mu.RLock()
	defer r.Book.mu.RUnlock()
	for _, c := range cs {
		if c.empty {
			continue
		}
		c.series = seriesKey{"", c.draft.LegalEntity, c.draft.CreatedOn.Year}
		n, seq := r.Book.numberAfter(c.series)
		c.number, c.seriesSeq = n+given[c.series], seq
		given[c.series]++
	}
}

// issue makes a closing's records, but for the series. What cannot be proved now
// never will be: the state checks that before anything is written for ever.
func (r *run) issue(c *closing) error {
	return r.Book.money(c.orgID, func(v view) error {
		if v.journalSeq != c.journalSeq {
			return errStale
		}
		paid, err := ledger.NewAmount(c.inputs.Paid)
		if err != nil {
			return err
		}
		tooLate, err := ledger.NewAmount(c.inputs.TooLateCost)
		if err != nil {
			return err
		}
		c.run = Run{OrgID: c.orgID, Period: c.period, Cut: c.query.Cut, PreviousCut: c.query.PreviousCut, BalanceSpent: paid,
			LateFrom: c.query.LateFrom, TooLateRows: c.inputs.TooLateRows, TooLateCost: tooLate}
		c.batch = batch{by: r.by("period " + c.period.Label + " has ended")}
		runSubject, journalSubject := events.RunSubject(c.orgID, c.period.Label), events.JournalSubject(c.orgID)
		if c.empty {
			if slices.ContainsFunc(c.segments, func(s ledger.Segment) bool { return !s.Terms.Plain() }) {
				c.run.Segments = c.segments
			}
			c.batch.add(runSubject, 0, TypeClosedEmpty, &c.run)
			if err := c.batch.addBalance(v, events.DeriveID("empty closing", c.orgID[:], []byte(c.period.Label)), false, paid); err != nil {
				return err
			}
			c.batch.add(journalSubject, v.journalSeq, TypeNothingIssued, &c.run)
		} else {
			e, err := v.state.IssueInvoice(c.draft, ledger.InvoiceNumber(c.series.legalEntity, c.series.year, c.number))
			if err != nil {
				return err
			}
			c.invoice = *e.Invoice
			c.run.InvoiceID, c.run.Number = c.invoice.ID, c.invoice.Number
			c.batch.add(runSubject, 0, TypeInvoiced, &c.run)
			c.batch.addStatuses(v, e)
			if err := c.batch.addBalance(v, e.Journal.ID, false, paid, e); err != nil {
				return err
			}
			c.batch.add(journalSubject, v.journalSeq, TypeInvoiceIssued, e)
		}
		if c.batch.err == nil {
			c.run.RecordID = c.batch.appends[0].Record.ID
		}
		return c.batch.err
	})
}

// groupAppends is one record for each series, and then those of the closings.
func (r *run) groupAppends(cs []*closing) ([]events.Append, error) {
	given := make(map[seriesKey]*Numbered)
	var firsts []*closing // of each series
	for _, c := range cs {
		if c.empty {
			continue
		}
		if n := given[c.series]; n != nil {
			n.More = append(n.More, Given{OrgID: c.orgID, InvoiceID: c.invoice.ID})
			continue
		}
		given[c.series] = &Numbered{LegalEntity: c.series.legalEntity, Year: c.series.year, N: c.number, OrgID: c.orgID, InvoiceID: c.invoice.ID}
		firsts = append(firsts, c)
	}
	b := batch{by: r.by("periods have ended")}
	for _, c := range firsts {
		b.add(c.series.subject(), c.seriesSeq, TypeNumbered, given[c.series])
	}
	for _, c := range cs {
		b.appends = append(b.appends, c.batch.appends...)
	}
	return b.appends, b.err
}
