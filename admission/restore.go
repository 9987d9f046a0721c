package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// UsageLog is the usage streams: events.Log.
type UsageLog interface {
	Shards() int
	UsageEnd(ctx context.Context, shard int) (uint64, time.Time, error)
	ReadUsage(ctx context.Context, shard int, from uint64) (*events.Reader, error)
	Shard(org uuid.UUID) int
}

// AdmissionLog is the stream of admissions: events.Log.
type AdmissionLog interface {
	ReadAdmissions(ctx context.Context, from uint64) (*events.AdmissionReader, error)
	AdmissionsEnd(ctx context.Context) (uint64, error)
}

// Spend is the usage that is counted already: the rows of ClickHouse.
type Spend interface {
	// Counted is the last sequence of each shard that is in the rows.
	Counted(ctx context.Context) ([]uint64, error)
	// EachSpend calls each with the cost and tokens, by team and key, of what is
	// asked for, counting rows up to sequence upTo of their shard and no further.
	EachSpend(ctx context.Context, asked []SpendOf, upTo []uint64, each func(SpendRow) error) error
	// Settled says which requests have a usage event in the rows.
	Settled(ctx context.Context, keys []events.UsageKey) (map[events.UsageKey]bool, error)
}

// SpendOf asks for the usage of an org that occurred in [From, To).
type SpendOf struct {
	OrgID    uuid.UUID
	From, To time.Time
}

// SpendRow is a part of the answer to the question with index Asked.
type SpendRow struct {
	Asked         int
	TeamID, KeyID uuid.UUID
	Cost          decimal.Decimal
	Tokens        uint64 // of all buckets
}

// History is what Restore reads.
type History struct {
	Usage      UsageLog     // nil: there is no past and none will come (tests)
	Admissions AdmissionLog // nil: none are outstanding
	Spend      Spend        // nil: everything is read from the usage log
	Orgs       []uuid.UUID  // all there are

	// AdmissionsFrom is the first admission that is not swept: the sweeper's position.
	AdmissionsFrom uint64
	// Bound is what an outstanding request may still cost; nil means its estimate,
	// which is what the sweeper bills.
	Bound func(events.Admission) decimal.Decimal
}

// past is what is left to do with the history.
type past struct {
	log    UsageLog
	spend  Spend // nil: everything is in the log
	shards []*tail
}

// Restore learns what has been spent and what is outstanding, and makes the Limiter
// ready. The ledger must have been applied before, Run must be called after.
//
// Spend up to the rows' checkpoint comes from Spend, what follows from the log; an
// admission without usage is held at its bound until its usage comes. Call it once.
func (l *Limiter) Restore(ctx context.Context, h History) error {
	if h.Usage == nil {
		l.ready.Store(true)
		return nil
	}
	l.past.log, l.past.spend = h.Usage, h.Spend
	if err := l.openIncluded(); err != nil {
		return fmt.Errorf("restore included usage: %w", err)
	}
	upTo := make([]uint64, h.Usage.Shards())
	if h.Spend != nil {
		counted, err := h.Spend.Counted(ctx)
		if err != nil {
			return fmt.Errorf("restore spend: %w", err)
		}
		copy(upTo, counted)
		if err := l.restoreSpend(ctx, h, upTo); err != nil {
			return fmt.Errorf("restore spend: %w", err)
		}
	}
	if h.Admissions != nil {
		if err := l.restoreAdmissions(ctx, h); err != nil {
			return fmt.Errorf("restore outstanding requests: %w", err)
		}
	}
	for shard, seq := range upTo {
		end, _, err := h.Usage.UsageEnd(ctx, shard)
		if err != nil {
			return fmt.Errorf("restore spend: %w", err)
		}
		t := newTail(l, shard, seq)
		l.past.shards = append(l.past.shards, t)
		if err := t.follow(ctx, end); err != nil {
			return fmt.Errorf("restore spend from the usage log: %w", err)
		}
	}
	l.following.Store(true)
	l.ready.Store(true)
	return nil
}

// restoreSpend asks for this month of every org, for the month before if it has
// only just ended, and for each balance since it was opened.
func (l *Limiter) restoreSpend(ctx context.Context, h History, upTo []uint64) error {
	var asked []SpendOf
	var periods []periodIndex
	var segments []*segment // of what was asked, where it is one
	for _, id := range h.Orgs {
		o := l.org(id)
		o.mu.Lock()
		now := l.config.Now()
		p, err := o.period(now)
		ask := func(index periodIndex, fromMS, toMS int64) {
			asked = append(asked, SpendOf{id, time.UnixMilli(fromMS).UTC(), time.UnixMilli(toMS).UTC()})
			periods, segments = append(periods, index), append(segments, nil)
		}
		if err == nil {
			ask(p.index, p.fromMS, p.toMS)
			if start := time.UnixMilli(p.fromMS); now.Sub(start) < straddle {
				var before period
				if before, err = o.period(start.Add(-time.Millisecond)); err == nil {
					ask(before.index, before.fromMS, before.toMS)
				}
			}
		}
		if o.opened {
			ask(forever, o.sinceMS, latest.UnixMilli())
		}
		for _, s := range o.blocking() {
			ask(s.now.period, s.fromMS, s.toMS)
			segments[len(segments)-1] = s
		}
		o.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return h.Spend.EachSpend(ctx, asked, upTo, func(r SpendRow) error {
		cost, err := amountOf(r.Cost)
		if err != nil {
			return fmt.Errorf("spend of org %s: %w", asked[r.Asked].OrgID, err)
		}
		o := l.org(asked[r.Asked].OrgID)
		o.mu.Lock()
		defer o.mu.Unlock()
		if s := segments[r.Asked]; s != nil {
			s.spend(cost, r.Tokens)
			return nil
		}
		accounts := claimed{atBalance: &o.balance}
		if p := periods[r.Asked]; p != forever {
			if accounts, err = o.accounts(r.TeamID, r.KeyID, asked[r.Asked].From.UnixMilli()); err != nil {
				return err
			}
			accounts[atBalance], accounts[atIncluded] = nil, nil
		}
		for _, a := range accounts {
			if a != nil {
				m := o.open(a, periods[r.Asked], 0)
				m.spent = m.spent.plus(cost)
			}
		}
		return nil
	})
}

// straddle is how long after a month's end its budgets may still be asked for: by
// clocks that are behind.
const straddle = time.Hour

// restoreAdmissions holds what was admitted and is not settled in the rows. What
// is settled in the log only will be found there.
func (l *Limiter) restoreAdmissions(ctx context.Context, h History) error {
	end, err := h.Admissions.AdmissionsEnd(ctx)
	if err != nil {
		return err
	}
	from := max(h.AdmissionsFrom, 1)
	if from > end {
		return nil
	}
	reader, err := h.Admissions.ReadAdmissions(ctx, from)
	if err != nil {
		return err
	}
	defer reader.Stop()
	var batch []events.Admission
	for seq := uint64(0); seq < end; {
		b, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if b.Err != nil {
			l.logger.Error("an admission cannot be read; what it may cost is not held", "sequence", b.Seq, "error", b.Err)
		}
		seq = b.Seq
		batch = append(batch, b.Admissions...)
		if len(batch) < settledBatch && seq < end {
			continue
		}
		if err := l.holdUnsettled(ctx, h, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return nil
}

// settledBatch bounds one question to the rows.
const settledBatch = 2000

func (l *Limiter) holdUnsettled(ctx context.Context, h History, batch []events.Admission) error {
	settled := map[events.UsageKey]bool{}
	if h.Spend != nil {
		asked := make([]events.UsageKey, len(batch))
		for i, a := range batch {
			asked[i] = events.UsageKey{OrgID: a.Estimate.OrgID, ID: a.ID}
		}
		var err error
		if settled, err = h.Spend.Settled(ctx, asked); err != nil {
			return err
		}
	}
	for _, a := range batch {
		if a.Estimate.Sandbox || settled[events.UsageKey{OrgID: a.Estimate.OrgID, ID: a.ID}] {
			continue
		}
		bound := a.Estimate.Cost
		if h.Bound != nil {
			bound = h.Bound(a)
		}
		if err := l.holdAdmission(a, bound); err != nil {
			return err
		}
	}
	return nil
}

func (l *Limiter) holdAdmission(a events.Admission, bound decimal.Decimal) error {
	cost, err := amountUp(bound)
	if err != nil {
		return fmt.Errorf("the bound %s of request %s: %w", bound, a.ID, err)
	}
	u := &a.Estimate
	o := l.org(u.OrgID)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holds.get(a.ID) != nil {
		return nil // admitted twice over in the log: a retry
	}
	p, err := o.period(u.OccurredAt)
	if err != nil {
		return err
	}
	h := &hold{org: o, id: a.ID, period: p.index, cost: cost, tokens: u.Tokens.Total(), atMS: u.OccurredAt.UnixMilli(), sinceUS: l.nowUS()}
	if h.accounts, err = o.accounts(u.TeamID, u.KeyID, h.atMS); err != nil {
		return err
	}
	in := h.open(l.oldest(o))
	h.take(&in)
	return nil
}

// Run follows the usage log until ctx ends, so that usage of other replicas and
// producers counts here too, and shares accounts with other replicas if there are
// any. It returns an error that reading again will not cure, or ctx's.
func (l *Limiter) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(l.past.shards)+3)
	for _, t := range l.past.shards {
		go func() { ended <- t.run(ctx) }()
	}
	go func() { ended <- l.tidy(ctx) }()
	go func() { ended <- l.recountAll(ctx) }()
	started := len(l.past.shards) + 2
	if l.replica != nil {
		started++
		go func() { ended <- l.replica.run(ctx) }()
	}
	first := <-ended
	cancel()
	for range started - 1 {
		if err := <-ended; errors.Is(first, context.Canceled) && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	return first
}

// unreadMax is how long a settlement of ours may take to come back from the log. A
// hold that was settled although no usage event was ever written is forgotten then.
const unreadMax = time.Hour

// tidy forgets what the log will never bring.
func (l *Limiter) tidy(ctx context.Context) error {
	ticker := time.NewTicker(unreadMax / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		before := l.nowUS() - unreadMax.Microseconds()
		l.eachOrg(func(o *org) {
			o.mu.Lock()
			defer o.mu.Unlock()
			for id, sinceUS := range o.unread {
				if sinceUS < before {
					delete(o.unread, id)
				}
			}
		})
	}
}
