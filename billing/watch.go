package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

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

// DefaultWatchEvery is how often included usage is looked at: that asks the
// projection, which budgets and balances do not.
const DefaultWatchEvery = 5 * time.Minute

// ThresholdsPct are the parts of a budget and of included usage that are announced.
var ThresholdsPct = []int{50, 80, 100}

const (
	thresholdPrefix  = "LEDGER.threshold."
	thresholdReached = "the threshold is reached" // why it is announced
)

// thresholdSubject is where a threshold of a period is announced, once; a balance,
// each time that it falls. Another limit has thresholds of its own.
func thresholdSubject(orgID uuid.UUID, period, of string, threshold ...string) string {
	parts := append([]string{orgID.String(), period, of}, threshold...)
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], ".", "_")
	}
	return thresholdPrefix + strings.Join(parts, ".")
}

func (b *Book) applyCrossed(r events.Record) error {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.Subject, thresholdPrefix), ".")
	orgID, err := uuid.Parse(id)
	if err != nil {
		return fmt.Errorf("%w: %s names no org", ErrCorrupt, r.Subject)
	}
	a, err := b.known(orgID)
	if err != nil {
		return err
	}
	if a.crossed == nil {
		a.crossed = make(map[string]bool)
	}
	a.crossed[r.Subject] = r.Type != TypeBalanceRecovered
	return nil
}

// Announce announces the thresholds of budgets and balances that were reached, as
// far as Standings knows, and returns how many. Each is announced once in its
// period, whoever does: a second announcement is refused by the log. A low balance is
// announced again when it has fallen again, and a part of another limit is another.
func (v *Invoicer) Announce(ctx context.Context) (int, error) {
	b, now := batch{by: v.by(thresholdReached)}, v.Clock()
	for _, org := range v.Book.Orgs() {
		if v.Standings == nil {
			break
		}
		spending := v.Standings.Standing(org.ID)
		err := v.Book.decide(org.ID, func(of view) error { return b.addSpending(of, spending, now) })
		if err != nil {
			return 0, err
		}
	}
	return v.announce(ctx, b)
}

// watch announces what was reached, of included usage every now and then.
func (r *run) watch(ctx context.Context) error {
	n, err := r.Announce(ctx)
	r.report.Crossed += n
	every := r.WatchEvery
	if every == 0 {
		every = DefaultWatchEvery
	}
	last, now := r.watchedMS.Load(), r.Clock()
	if err == nil && now.UnixMilli()-last >= every.Milliseconds() && r.watchedMS.CompareAndSwap(last, now.UnixMilli()) {
		b := batch{by: r.by(thresholdReached)}
		if err = r.watchIncluded(ctx, &b, now); err == nil {
			n, err = r.announce(ctx, b)
			r.report.Crossed += n
		}
	}
	if err != nil {
		return fmt.Errorf("announce thresholds: %w", err)
	}
	return nil
}

// addSpending adds what an org's budget and balance have reached.
func (b *batch) addSpending(v view, s Spending, now time.Time) error {
	month := ledger.PeriodOf(now, v.zone).Label
	if err := b.addCrossed(v, BudgetCrossed{Period: month, Of: OfBudget, Used: s.Spent, Limit: s.Budget}); err != nil {
		return err
	}
	if !s.Opened {
		return nil
	}
	period, err := ledger.AnchoredPeriodOf(now, v.zone, v.anchor())
	if err != nil {
		return err
	}
	threshold := v.profileAt(now).LowBalance
	subject := thresholdSubject(v.org.ID, period.Label, "balance", threshold.String())
	low, last := s.Balance.Cmp(threshold) <= 0, v.book.lastOn[subject]
	standing := BalanceLow{OrgID: v.org.ID, Period: period.Label, Balance: s.Balance, Threshold: threshold, Currency: v.org.Currency, At: b.by.At}
	switch {
	case low && !v.crossed[subject]:
		b.add(subject, last, TypeBalanceLow, standing)
	case !low && v.crossed[subject] && v.journalSeq > last:
		// Only money lifts a balance: without any this process is behind the one that saw it fall.
		b.by.Reason = "the balance is above the threshold again"
		b.add(subject, last, TypeBalanceRecovered, standing)
		b.by.Reason = thresholdReached
	}
	return nil
}

// addCrossed adds the parts of a limit that are reached and not announced yet.
func (b *batch) addCrossed(v view, c BudgetCrossed) error {
	for _, pct := range ledger.BudgetCrossings(ledger.AmountFromInt(-1), c.Used, c.Limit, ThresholdsPct) {
		subject := thresholdSubject(v.org.ID, c.Period, c.Of, strconv.Itoa(pct), c.Limit.String())
		if v.crossed[subject] {
			continue
		}
		c.OrgID, c.Currency, c.Pct, c.At = v.org.ID, v.org.Currency, pct, b.by.At
		b.add(subject, 0, TypeBudgetCrossed, c)
	}
	return nil
}

// watchIncluded adds what is reached of the included usage of the current periods,
// as far as the projection has counted: part by part, a question each.
func (r *run) watchIncluded(ctx context.Context, b *batch, now time.Time) error {
	var ids []uuid.UUID
	for _, org := range r.Book.Orgs() {
		plan, err := r.Book.PlanAt(org.ID, now)
		if err != nil {
			return err
		}
		if plan.IncludedTokens != 0 || !plan.IncludedAmount.IsZero() {
			ids = append(ids, org.ID)
		}
	}
	r.Usage.SortOrgs(ids)
	cuts := make(map[int]uint64)
	for part := range slices.Chunk(ids, partOrgs) {
		var cs []*closing
		var qs []ledger.InputsQuery
		for _, id := range part {
			shard := r.Log.Shard(id)
			if _, ok := cuts[shard]; !ok {
				counted, err := r.Usage.CountedShard(ctx, shard)
				if err != nil {
					return err
				}
				cuts[shard] = counted
			}
			err := r.Book.decide(id, func(v view) error {
				period, err := ledger.AnchoredPeriodOf(now, v.zone, v.anchor())
				if err == nil && !v.lastRun().Period.End.After(period.Start) { // else the clock was turned back
					c := r.newClosing(v, period, cuts[shard], cuts[shard])
					cs, qs = append(cs, c), append(qs, c.query)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		err := r.Usage.EachInputs(ctx, qs, func(i int, in ledger.Inputs) error {
			cs[i].inputs = in
			return r.Book.decide(cs[i].orgID, func(v view) error { return r.addIncluded(v, b, cs[i], now) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addIncluded adds what is reached of the included usage of the segment that is in
// force now.
func (r *run) addIncluded(v view, b *batch, c *closing, now time.Time) error {
	in, err := r.billInput(v, c, nil, nil)
	if err != nil {
		return err
	}
	draft, err := ledger.Bill(in)
	if errors.Is(err, ledger.ErrNothingToBill) {
		return nil
	}
	if err != nil {
		return err
	}
	days, at := 0, 0
	for i, s := range c.segments {
		days += s.Days
		if !now.Before(s.Start) {
			at = i
		}
	}
	limit, limitAmount, err := c.segments[at].Included(days, draft.Currency)
	if err != nil {
		return err
	}
	var tokens, amount ledger.Amount
	for _, l := range draft.Lines {
		if l.Kind != ledger.LineIncluded || l.Segment != at || l.Late() {
			continue
		}
		if l.Quantity > 0 {
			tokens, err = tokens.Add(ledger.AmountFromInt(int64(l.Quantity)))
		} else {
			amount, err = amount.Sub(l.Amount)
		}
		if err != nil {
			return err
		}
	}
	period := draft.Period.Label
	return errors.Join(
		b.addCrossed(v, BudgetCrossed{Period: period, Of: OfIncludedTokens, Used: tokens, Limit: ledger.AmountFromInt(int64(limit))}),
		b.addCrossed(v, BudgetCrossed{Period: period, Of: OfIncludedAmount, Used: amount, Limit: limitAmount}))
}
