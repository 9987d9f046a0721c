package admission

import (
	"context"
	"time"
)

// waiter is a claim whose money is held by requests on their way.
type waiter struct {
	hold    *hold
	short   int           // the account it was short of when it came
	resets  time.Time     // when its month ends
	decided chan struct{} // closed when let in or refused
	refusal *Refusal      // nil: let in
}

// enqueue puts a claim behind those that wait. It keeps its place in the rates,
// so that a queue does not let a burst through when it moves.
func (l *Limiter) enqueue(h *hold, in *months, short int, resets time.Time) (*waiter, error) {
	o := h.org
	if len(o.waiting) >= l.config.WaitingMax {
		return nil, o.refuse(h.key, InFlight, ScopeOrg, time.Second)
	}
	w := &waiter{hold: h, short: short, resets: resets, decided: make(chan struct{})}
	if !h.behind() {
		h.block(in)
	}
	o.waiting = append(o.waiting, w)
	h.takeRates()
	l.poke(o)
	return w, nil
}

// letIn looks at the waiting claims, first come first, and decides those that can
// be decided. The caller holds the org's lock.
func (l *Limiter) letIn(o *org) {
	o.turn++ // nothing is blocked until it is found to be
	if len(o.waiting) == 0 {
		return
	}
	oldest := l.oldest(o)
	kept := o.waiting[:0]
	for i, w := range o.waiting {
		h := w.hold
		in := h.open(oldest)
		v, at := h.judge(&in)
		switch {
		case v == never:
			h.giveBackRates()
			w.refusal = o.poor(h, at, h.resets(at, w.resets).Sub(l.config.Now()))
			close(w.decided)
			continue
		case v == fits && !h.behind():
			h.take(&in)
			close(w.decided)
			continue
		}
		w.short = at
		kept = append(kept, w)
		if v != fits && !h.behind() && h.block(&in) {
			kept = append(kept, o.waiting[i+1:]...)
			break // everyone behind needs that account too
		}
	}
	clear(o.waiting[len(kept):])
	o.waiting = kept
}

func (h *hold) giveBackRates() {
	for _, r := range [...]*rates{&h.key.rates, &h.org.plan} {
		r.requests.give(1)
		r.tokens.give(h.tokens)
	}
}

// await waits until the claim is decided, its time is over, or ctx ends.
func (l *Limiter) await(ctx context.Context, w *waiter) (Hold, error) {
	timer := time.NewTimer(l.config.Wait)
	defer timer.Stop()
	select {
	case <-w.decided:
	case <-timer.C:
		if r := l.giveUp(w); r != nil {
			return nil, r
		}
	case <-ctx.Done():
		l.abandon(w)
		return nil, ctx.Err()
	}
	if w.refusal != nil {
		return nil, w.refusal
	}
	return w.hold, nil
}

// retryBusy is told to claims that have waited in vain: the money is held, not spent.
const retryBusy = time.Second

// giveUp ends a wait; nil means that it was decided meanwhile.
func (l *Limiter) giveUp(w *waiter) *Refusal {
	o := w.hold.org
	o.mu.Lock()
	defer o.mu.Unlock()
	if !l.leave(w) {
		return nil
	}
	r := o.poor(w.hold, w.short, retryBusy)
	if w.short == atBalance {
		r = o.refuse(w.hold.key, Balance, ScopeOrg, retryBusy)
	}
	l.letIn(o)
	return r
}

// abandon ends the wait of a client that has gone. What it was given is returned:
// nothing was called upstream, so there will be no usage event.
func (l *Limiter) abandon(w *waiter) {
	o := w.hold.org
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case l.leave(w):
		l.letIn(o)
	case w.refusal == nil && !w.hold.done:
		w.hold.giveBackRates()
		w.hold.settle(amount{}, 0)
	}
}

// leave takes a waiter out of the queue; false when it is no longer there.
func (l *Limiter) leave(w *waiter) bool {
	o := w.hold.org
	for i, other := range o.waiting {
		if other == w {
			o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			w.hold.giveBackRates()
			l.poke(o)
			return true
		}
	}
	return false
}
