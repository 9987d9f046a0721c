package admission

import (
	"time"

	"github.com/google/uuid"
)

// inheritance is what a reclaim takes over: requests that may still be on their
// way and that no allowance of this replica covers.
type inheritance struct {
	record uuid.UUID
	holds  []*hold
}

// reclaim makes the statement by which this replica takes over from one that has
// gone for good and is still counted with more than it is known to have spent.
// False: there is none, or what is on its way does not fit beside what the others
// are allowed, which will pass. The caller holds the org's lock and has caught up
// with the usage log.
//
// Whose requests the uncovered ones are nobody knows: some may be another's that
// is alive and covers them itself. Covering those too errs towards refusing, for
// as long as they take.
func (r *replica) reclaim(o *org, now time.Time) (d reclaimData, holds []*hold, ok bool) {
	dead := o.leases.reclaimable(func(id string) bool { return r.swept(id, now) })
	if dead == "" {
		return d, nil, false
	}
	d = reclaimData{Replica: dead, By: r.me()}
	inherited := map[leaseKey]amount{}
	for h := range o.holds.all() {
		if h.mine {
			continue
		}
		holds = append(holds, h)
		for i, a := range h.accounts {
			if a != nil && a.limited {
				k := leaseKey{a.scope, a.id, h.in(i)}
				inherited[k] = inherited[k].plus(h.bound(i))
			}
		}
	}
	for k, cost := range inherited {
		a, err := o.leased(k)
		if err != nil {
			return d, nil, false
		}
		if a == nil {
			continue
		}
		m := o.open(a, k.period, r.limiter.oldest(o))
		free := a.limit.minus(m.spent).minus(m.lease.allowance.minus(m.lease.spent))
		for replica, s := range o.leases.stated[k] {
			if replica != dead && replica != d.By {
				free = free.minus(s.allowance.minus(s.spent))
			}
		}
		if free.less(cost) {
			return d, nil, false
		}
		d.Accounts = append(d.Accounts, leaseState{Scope: k.scope, ID: k.id, Period: k.period,
			Allowance: m.lease.allowance.plus(cost).decimal(), Spent: m.lease.spent.decimal(), Want: o.leases.stated[k][d.By].want.decimal()})
	}
	return d, holds, true
}

// swept reports whether nothing of a replica can be on its way any more but what
// is in the log.
func (r *replica) swept(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, left := r.left[id]
	return r.hasEnded(id) || left && !now.Before(at.Add(r.config.SweptAfter))
}

// reclaimable finds a replica that is swept and not known to have spent all that it
// was allowed.
func (b *leaseBook) reclaimable(swept func(id string) bool) string {
	for _, by := range b.stated {
		for replica, s := range by {
			if s.spent.less(s.allowance) && swept(replica) {
				return replica
			}
		}
	}
	return ""
}

// inherit covers holds by this replica's allowances, which have been stated to be
// larger by as much. One that was settled since is spent here. The caller holds
// the org's lock.
func (o *org) inherit(holds []*hold) {
	for _, h := range holds {
		h.mine = true
		for i, a := range h.accounts {
			if a == nil {
				continue
			}
			m := a.month(h.in(i))
			switch {
			case m == nil || m.lease == nil:
			case h.done:
				m.lease.spent = m.lease.spent.plus(h.bound(i))
			default:
				m.lease.held = m.lease.held.plus(h.bound(i))
			}
		}
	}
}

// disown lets go of every allowance, and of the requests that they cover. The
// caller holds the org's lock.
func (o *org) disown() {
	forget := func(a *account) {
		a.now.lease.forget()
		for _, m := range a.others {
			m.lease.forget()
		}
	}
	forget(&o.balance)
	forget(&o.budget)
	for _, a := range o.teams {
		forget(a)
	}
	for _, k := range o.keys {
		forget(&k.account)
	}
	if o.included != nil {
		for _, s := range o.included.segments {
			forget(&s.account)
		}
	}
	for h := range o.holds.all() {
		h.mine = false
	}
	o.leases.low = nil
}

func (l *lease) forget() {
	if l != nil {
		*l = lease{}
	}
}
