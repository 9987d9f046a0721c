package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/catalog"
	"aione/events"
	"aione/ledger"
)

// closing is one period on its way to being closed.
type closing struct {
	job
	period      ledger.Period
	cut         uint64
	previousCut uint64
	after       uuid.UUID // record of the run that this one was computed to follow

	draft ledger.Invoice
	empty bool // there is no usage: no invoice is made
}

// compute counts and bills the period. It writes nothing.
func (v *Invoicer) compute(ctx context.Context, c *closing) error {
	closed := originsOf(v.Book.runs(c.org.ID))
	segments := ledger.SegmentsOf(c.period, c.zone, nil)
	inputs, err := v.Usage.Inputs(ctx, ledger.InputsQuery{
		OrgID: c.org.ID, Start: c.period.Start, End: c.period.End,
		Cut: c.cut, PreviousCut: c.previousCut, Spans: ledger.SpansOf(closed, segments),
	})
	if err != nil {
		return err
	}
	prices := make(map[string]catalog.Price)
	for _, q := range inputs.Quantities {
		if price, ok := v.Prices.Price(q.PriceVersion); ok {
			prices[price.Version] = price // Bill refuses usage whose price is missing
		}
	}
	terms := v.TermsDays
	if terms == 0 {
		terms = DefaultTermsDays
	}
	now := v.Clock().UTC().Truncate(time.Millisecond)
	c.draft, err = ledger.Bill(ledger.BillInput{
		OrgID: c.org.ID, LegalEntity: c.org.LegalEntity, Currency: c.org.Currency, Period: c.period,
		CreatedAt: now, CreatedOn: ledger.DateOf(now, c.zone), TermsDays: terms,
		Cut: c.cut, PreviousCut: c.previousCut, Segments: segments, Inputs: inputs, Origins: closed, Prices: prices,
	})
	if errors.Is(err, ledger.ErrNothingToBill) {
		c.empty = true
		return nil
	}
	return err
}

// originsOf are the closed periods that late usage may belong to.
func originsOf(runs []Run) []ledger.Origin {
	origins := make([]ledger.Origin, len(runs))
	for i, run := range runs {
		origins[i] = ledger.Origin{Period: run.Period}
	}
	return origins
}

// commit writes the closing in one atomic batch, with a new number for as long
// as only the number was taken by another invoicer. Again is true when another
// run of the same org came first: then all that was computed is void.
func (v *Invoicer) commit(ctx context.Context, c *closing) (again bool, err error) {
	for range attemptsMax {
		h := v.Book.head(c.org.ID, seriesKey{c.org.LegalEntity, c.draft.CreatedOn.Year})
		if h.lastRun.RecordID != c.after {
			return true, nil
		}
		invoice, batch, err := v.batch(c, h)
		if err != nil {
			return false, err
		}
		if hook := v.Hooks.BeforeBatch; hook != nil {
			if err := hook(c.org.ID, c.period); err != nil {
				return false, err
			}
		}
		won, err := v.write(ctx, c, batch)
		if err != nil {
			return false, err
		}
		if !won {
			continue
		}
		if hook := v.Hooks.AfterBatch; hook != nil {
			if err := hook(c.org.ID, c.period); err != nil {
				return false, err
			}
		}
		if c.empty {
			c.report.Empty++
		} else {
			c.report.Issued = append(c.report.Issued, invoice)
		}
		return false, nil
	}
	return false, fmt.Errorf("%w, %d times in a row", events.ErrConflict, attemptsMax)
}

// write appends the batch and finds out whether it won. After any error the
// ledger itself is asked: an attempt that was not confirmed may be in it.
func (v *Invoicer) write(ctx context.Context, c *closing, batch []events.Append) (won bool, err error) {
	seqs, appendErr := v.Log.Append(ctx, batch...)
	if appendErr == nil {
		return true, v.Book.WaitFor(ctx, slices.Max(seqs))
	}
	if err := catchUp(ctx, v.Log, v.Book); err != nil {
		return false, errors.Join(appendErr, err)
	}
	for _, run := range v.Book.runs(c.org.ID) {
		if run.RecordID == batch[0].Record.ID {
			return true, nil
		}
	}
	if errors.Is(appendErr, events.ErrConflict) {
		return false, nil
	}
	return false, appendErr
}

// batch makes the records of a closing. The one on the journal subject comes
// last: it is what makes a Book show the others.
func (v *Invoicer) batch(c *closing, h head) (ledger.Invoice, []events.Append, error) {
	run := Run{OrgID: c.org.ID, Period: c.period, Cut: c.cut, PreviousCut: c.previousCut}
	b := batchBuilder{actor: v.Actor, at: v.Clock()}
	if b.actor == "" {
		b.actor = "invoicer"
	}
	runSubject := events.RunSubject(c.org.ID, c.period.Label)
	journalSubject := events.JournalSubject(c.org.ID)
	if c.empty {
		b.add(runSubject, 0, TypeClosedEmpty, run)
		b.add(journalSubject, h.journalSeq, TypeNothingIssued, run)
		return ledger.Invoice{}, b.appends, b.err
	}
	year, n := c.draft.CreatedOn.Year, h.number+1
	invoice := c.draft.Issue(ledger.InvoiceNumber(c.org.LegalEntity, year, n))
	// What cannot be proved now never will be: check before it is written for ever.
	if err := ledger.Prove(invoice); err != nil {
		return ledger.Invoice{}, nil, err
	}
	journal, err := ledger.InvoiceJournal(invoice)
	if err != nil {
		return ledger.Invoice{}, nil, err
	}
	run.InvoiceID, run.Number = invoice.ID, invoice.Number
	b.add(runSubject, 0, TypeInvoiced, run)
	b.add(events.SeriesSubject(c.org.LegalEntity, year), h.seriesSeq, TypeNumbered,
		Numbered{LegalEntity: c.org.LegalEntity, Year: year, N: n, OrgID: c.org.ID, InvoiceID: invoice.ID})
	b.add(journalSubject, h.journalSeq, TypeInvoiceIssued, Issued{Invoice: invoice, Journal: journal})
	return invoice, b.appends, b.err
}

type batchBuilder struct {
	actor   string
	at      time.Time
	appends []events.Append
	err     error
}

func (b *batchBuilder) add(subject string, expectLast uint64, typ string, data any) {
	rec, err := events.NewRecord(typ, b.at, b.actor, "", data)
	b.err = errors.Join(b.err, err)
	b.appends = append(b.appends, events.Append{Subject: subject, Record: rec, ExpectLast: expectLast})
}
