package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/catalog"
	"aione/ledger"
)

// pricesOf are the price versions that usage was stamped with, as far as they are
// known: Bill refuses usage whose price is missing.
func (v *Invoicer) pricesOf(quantities []ledger.Quantity) map[string]catalog.Price {
	prices := make(map[string]catalog.Price)
	for _, q := range quantities {
		if _, ok := prices[q.PriceVersion]; ok {
			continue
		}
		if price, ok := v.Prices.Price(q.PriceVersion); ok {
			prices[price.Version] = price
		}
	}
	return prices
}

// draftsMax bounds how many periods that have ended are drafted.
const draftsMax = 12

// Drafts are the invoices of an org's open periods as they would be issued now,
// oldest first: of those that have ended and are in their grace, at most draftsMax,
// and of the current one as if it ended now. It counts what the projection has
// counted and waits for nothing; Cut says how far that is. Each draft supposes that
// those before it are issued. Periods with nothing to bill are left out.
func (v *Invoicer) Drafts(ctx context.Context, orgID uuid.UUID) ([]ledger.Invoice, error) {
	drafts, _, err := v.drafts(ctx, orgID)
	if err != nil {
		return nil, fmt.Errorf("drafts of org %s: %w", orgID, err)
	}
	return drafts, nil
}

// Upcoming is the last of Drafts, that of the current period. It returns
// ErrNotFound, or ledger.ErrNothingToBill when there is nothing yet.
func (v *Invoicer) Upcoming(ctx context.Context, orgID uuid.UUID) (ledger.Invoice, error) {
	drafts, current, err := v.drafts(ctx, orgID)
	if err == nil && (len(drafts) == 0 || drafts[len(drafts)-1].Period != current) {
		err = ledger.ErrNothingToBill
	}
	if err != nil {
		return ledger.Invoice{}, fmt.Errorf("upcoming invoice of org %s: %w", orgID, err)
	}
	return drafts[len(drafts)-1], nil
}

func (v *Invoicer) drafts(ctx context.Context, orgID uuid.UUID) (drafts []ledger.Invoice, current ledger.Period, err error) {
	cs, err := v.openClosings(ctx, orgID)
	if err != nil {
		return nil, current, err
	}
	var invoices []ledger.Invoice
	var credits []ledger.Credit
	for i, c := range cs {
		// A question each: those of one call are about different orgs.
		err := v.Usage.EachInputs(ctx, []ledger.InputsQuery{c.query}, func(_ int, in ledger.Inputs) error {
			c.inputs = in
			return nil
		})
		if err != nil {
			return nil, current, err
		}
		var in ledger.BillInput
		err = v.Book.decide(orgID, func(of view) (err error) {
			if i == 0 {
				invoices, credits = of.standingInvoices(), of.state.Credits()
			}
			in, err = v.billInput(of, c, invoices, credits)
			return err
		})
		if err != nil {
			return nil, current, err
		}
		current = c.period
		draft, err := ledger.Bill(in)
		if errors.Is(err, ledger.ErrNothingToBill) {
			continue
		}
		if err != nil {
			return nil, current, fmt.Errorf("period %s: %w", c.period.Label, err)
		}
		drafts, invoices = append(drafts, draft), append(invoices, draft)
		if credits, err = creditsAfter(credits, &draft); err != nil {
			return nil, current, err
		}
	}
	return drafts, current, nil
}

// openClosings are the periods of an org that have begun and are not closed: the
// last draftsMax that have ended, and the current one.
func (v *Invoicer) openClosings(ctx context.Context, orgID uuid.UUID) (cs []*closing, err error) {
	if _, err := v.Book.Org(orgID); err != nil {
		return nil, err
	}
	cut, err := v.Usage.CountedShard(ctx, v.Log.Shard(orgID))
	if err != nil {
		return nil, err
	}
	var firstUse map[uuid.UUID]time.Time
	if _, closed := v.Book.LastRun(orgID); !closed {
		if firstUse, err = v.Usage.FirstUse(ctx, []uuid.UUID{orgID}); err != nil {
			return nil, err
		}
	}
	now := v.Clock()
	err = v.Book.decide(orgID, func(of view) error {
		period, err := of.nextPeriod(firstUse[orgID])
		if err != nil {
			return err
		}
		// What is older than the oldest of them is late there; nothing is late twice.
		previousCut := min(of.lastRun().Cut, cut)
		for ; !period.Start.After(now); period = period.Next(of.zone) {
			cs = append(cs, v.newClosing(of, period, cut, previousCut))
			previousCut = cut
			if len(cs) > draftsMax+1 {
				cs = cs[1:]
			}
		}
		return nil
	})
	return cs, err
}

// creditsAfter are the credits once a draft has used what it uses.
func creditsAfter(credits []ledger.Credit, draft *ledger.Invoice) ([]ledger.Credit, error) {
	left := slices.Clone(credits)
	for i := range draft.Lines {
		l := &draft.Lines[i]
		if l.Kind != ledger.LineCredit {
			continue
		}
		for j := range left {
			if left[j].Grant.ID == l.GrantID {
				var err error
				if left[j].Remaining, err = left[j].Remaining.Add(l.Amount); err != nil { // a credit's line is below zero
					return nil, err
				}
			}
		}
	}
	return left, nil
}
