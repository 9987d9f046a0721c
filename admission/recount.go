package admission

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/events"
)

// recounts are the orgs with a segment whose usage so far is not known: a plan
// that blocks was given, or split a period, while usage was already counted
// otherwise. Until it is known their requests wait.
type recounts struct {
	mu   sync.Mutex
	orgs map[*org]bool
	wake chan struct{}
}

func (r *recounts) want(o *org) {
	r.mu.Lock()
	if r.orgs == nil {
		r.orgs = map[*org]bool{}
	}
	r.orgs[o] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *recounts) take() map[*org]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	orgs := r.orgs
	r.orgs = nil
	return orgs
}

// recountMax bounds one attempt.
const recountMax = time.Minute

// recountAll counts what is wanted until ctx ends.
func (l *Limiter) recountAll(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.recounts.wake:
		}
		var counting errgroup.Group
		counting.SetLimit(tendAtOnce)
		for o := range l.recounts.take() {
			counting.Go(func() error {
				within, cancel := context.WithTimeout(ctx, recountMax)
				defer cancel()
				err := l.recount(within, o)
				if err != nil && ctx.Err() == nil {
					l.logger.Warn("included usage cannot be counted now; requests of the org wait for it", "org", o.id, "error", err)
					time.AfterFunc(readPause, func() { l.recounts.want(o) })
				}
				return nil
			})
		}
		_ = counting.Wait() // none of them fails
	}
}

// openIncluded opens the segments around now of the orgs with a plan that blocks,
// for Restore to count.
func (l *Limiter) openIncluded() (err error) {
	l.eachOrg(func(o *org) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.included == nil || err != nil {
			return
		}
		if err = o.included.refresh(o); err == nil {
			for _, s := range o.blocking() {
				s.uncounted = false
			}
		}
	})
	return err
}

// blocking are the segments that count usage.
func (o *org) blocking() []*segment {
	if o.included == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(o.included.segments), func(s *segment) bool { return !s.limited })
}

// spend counts usage in the segment's unit.
func (s *segment) spend(cost amount, tokens uint64) {
	if s.scope == ScopeIncludedTokens {
		cost = tokenAmount(tokens)
	}
	s.now.spent = s.now.spent.plus(cost)
}

// countUnread counts usage that was settled here before a count began, and comes
// from the log after it.
func (o *org) countUnread(u *events.Usage, cost amount) {
	if o.included == nil {
		return
	}
	for _, s := range o.included.segments {
		if s.unread[u.ID] && s.covers(u) {
			s.spend(cost, u.Tokens.Total())
		}
		delete(s.unread, u.ID)
	}
}

func (s *segment) covers(u *events.Usage) bool {
	ms := u.OccurredAt.UnixMilli()
	return !u.Sandbox && s.fromMS <= ms && ms < s.toMS
}

// recount counts the usage so far of an org's segments, from the rows and then from
// the log up to where that has been read; what is read from then on counts by itself.
func (l *Limiter) recount(ctx context.Context, o *org) error {
	shard := l.past.log.Shard(o.id)
	if shard >= len(l.past.shards) {
		return ErrNotReady
	}
	segments, upTo := l.past.shards[shard].beginCount(o)
	if len(segments) == 0 {
		return nil
	}
	// The sums are kept apart until all is counted: an attempt that fails leaves nothing.
	sums := make([]segment, len(segments))
	var asked []SpendOf
	for i, s := range segments {
		sums[i].scope, sums[i].fromMS, sums[i].toMS = s.scope, s.fromMS, s.toMS
		asked = append(asked, SpendOf{o.id, time.UnixMilli(s.fromMS).UTC(), time.UnixMilli(s.toMS).UTC()})
	}
	rows := make([]uint64, len(l.past.shards))
	if spend := l.past.spend; spend != nil {
		counted, err := spend.Counted(ctx)
		if err != nil {
			return err
		}
		rows[shard] = min(counted[shard], upTo)
		if err := spend.EachSpend(ctx, asked, rows, func(r SpendRow) error {
			cost, err := amountOf(r.Cost)
			sums[r.Asked].spend(cost, r.Tokens)
			return err
		}); err != nil {
			return err
		}
	}
	rest := newTail(l, shard, rows[shard])
	rest.count = func(u *events.Usage) error {
		cost, err := amountOf(u.Cost)
		for i := range sums {
			if err == nil && u.OrgID == o.id && sums[i].covers(u) {
				sums[i].spend(cost, u.Tokens.Total())
			}
		}
		return err
	}
	if err := rest.follow(ctx, upTo); err != nil {
		return fmt.Errorf("from the usage log: %w", err)
	}
	// What is settled already has to be read, or it would look free.
	if err := l.readAll(ctx, shard); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, s := range segments {
		s.now.spent, s.uncounted = s.now.spent.plus(sums[i].now.spent), false
	}
	l.letIn(o)
	l.poke(o)
	return nil
}

// beginCount draws the line between what a count finds and what comes by itself:
// between two envelopes of the log.
func (t *tail) beginCount(o *org) (segments []*segment, upTo uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.blocking() {
		if !s.uncounted {
			continue
		}
		s.now.spent, s.unread = amount{}, map[uuid.UUID]bool{}
		for id := range o.unread {
			s.unread[id] = true
		}
		segments = append(segments, s)
	}
	return segments, t.read.Load()
}
