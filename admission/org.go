package admission

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
)

// org is everything admission knows of one org, behind one lock: claims of one org
// compete for the same money, claims of different orgs never meet.
type org struct {
	mu      sync.Mutex
	id      uuid.UUID
	limiter *Limiter
	zone    *time.Location // nil until it is needed

	included *included // nil: none of its plans ever blocked

	periods      [periodsCached]period // those met last
	balance      account
	budget       account
	plan         rates
	rates        Rates // those of LimitsSet
	inForce      Rates // the plan's too, until ratesUntilUS
	ratesUntilUS int64
	teams        map[uuid.UUID]*account
	keys         map[uuid.UUID]*member
	holds        holds
	unread       map[uuid.UUID]int64 // settled here, not met in the log yet: when, in µs

	waiting []*waiter // in the order of their arrival
	turn    uint64    // raised by each look at waiting; marks accounts as blocked

	shared  bool // with other replicas: months have leases
	opened  bool // has a balance
	sinceMS int64
	credits map[uuid.UUID]amount // each credit once
	credit  amount               // their sum
	line    amount               // credit limit
	lastSeq uint64               // on the org's budget subject

	leases leaseBook
}

// member is a key: its budget and its rates. What each request of it touches stands
// together, in four cache lines.
type member struct {
	org  *org
	team *account // nil until it was looked up; a key has one team all its life
	rates
	account
}

func newOrg(id uuid.UUID, l *Limiter) *org {
	o := &org{id: id, limiter: l, turn: 1, ratesUntilUS: math.MinInt64, teams: map[uuid.UUID]*account{}, keys: map[uuid.UUID]*member{},
		unread: map[uuid.UUID]int64{}}
	o.balance.scope, o.balance.id = ScopeBalance, id
	o.budget.scope, o.budget.id = ScopeOrg, id
	return o
}

func (o *org) team(id uuid.UUID) *account {
	a := o.teams[id]
	if a == nil {
		a = &account{scope: ScopeTeam, id: id}
		o.teams[id] = a
	}
	return a
}

func (o *org) key(id uuid.UUID) *member {
	m := o.keys[id]
	if m == nil {
		m = &member{org: o, account: account{scope: ScopeKey, id: id}}
		o.keys[id] = m
	}
	return m
}

// open is account.open, with this replica's part if there are others.
func (o *org) open(a *account, p, oldest periodIndex) *month {
	m := a.open(p, oldest)
	if o.shared && m.lease == nil {
		m.lease = a.newLease()
	}
	return m
}

// find is the account of a scope, made if it is not there.
func (o *org) find(scope Scope, id uuid.UUID) (*account, error) {
	switch {
	case scope == ScopeBalance && id == o.id:
		return &o.balance, nil
	case scope == ScopeOrg && id == o.id:
		return &o.budget, nil
	case scope == ScopeTeam && id != uuid.Nil:
		return o.team(id), nil
	case scope == ScopeKey && id != uuid.Nil:
		return &o.key(id).account, nil
	}
	return nil, fmt.Errorf("org %s has no account %q %s", o.id, scope, id)
}

// accounts are those that a request at an instant takes from.
func (o *org) accounts(team, key uuid.UUID, atMS int64) (c claimed, err error) {
	if o.counts(atMS) {
		c[atBalance] = &o.balance
	}
	if o.included != nil {
		if c[atIncluded], err = o.included.at(o, atMS); err != nil {
			return c, err
		}
	}
	c[atOrg] = &o.budget
	if key != uuid.Nil {
		m := o.key(key)
		c[atKey], c[atTeam] = &m.account, o.teamOf(m, team)
	} else if team != uuid.Nil {
		c[atTeam] = o.team(team)
	}
	return c, nil
}

// teamOf is the account of a key's team, nil without one, mostly without a lookup.
func (o *org) teamOf(m *member, team uuid.UUID) *account {
	if team == uuid.Nil {
		return nil
	}
	if m.team == nil || m.team.id != team {
		m.team = o.team(team)
	}
	return m.team
}

// counts reports whether usage at an instant is paid from the balance.
func (o *org) counts(atMS int64) bool { return o.opened && atMS >= o.sinceMS }

// hold is an admitted request, in two cache lines.
type hold struct {
	id       uuid.UUID
	next     *hold // in the same chain of org.holds
	org      *org
	key      *member // nil for one restored from the log
	mine     bool    // this replica's allowances cover it
	done     bool
	period   periodIndex
	accounts claimed
	cost     amount // the bound; once done: what it cost
	tokens   uint64 // the same
	atMS     int64
	sinceUS  int64
}

// in is the period that counts for the i-th account.
func (h *hold) in(i int) periodIndex {
	switch i {
	case atBalance:
		return forever
	case atIncluded:
		return h.accounts[i].now.period // its only one
	}
	return h.period
}

// measure is a cost and tokens in the unit of the i-th account.
func (h *hold) measure(i int, cost amount, tokens uint64) amount {
	if i == atIncluded && h.accounts[i].scope == ScopeIncludedTokens {
		return tokenAmount(tokens)
	}
	return cost
}

// bound is what the i-th account holds for it; once done, what that has spent on it.
func (h *hold) bound(i int) amount { return h.measure(i, h.cost, h.tokens) }

// open finds the months that count. oldest is the first one that is kept.
func (h *hold) open(oldest periodIndex) (in months) {
	for i, a := range h.accounts {
		if a != nil {
			in[i] = h.org.open(a, h.in(i), oldest)
		}
	}
	return in
}

// judge is the worst that any account says, and which one said it.
func (h *hold) judge(in *months) (verdict, int) {
	worst, at := fits, 0
	for i, m := range in {
		if m == nil {
			continue
		}
		if v := h.accounts[i].judge(m, h.bound(i)); v > worst {
			worst, at = v, i
		}
	}
	return worst, at
}

// behind reports whether an earlier claim waits for an account of this one.
func (h *hold) behind() bool {
	for _, a := range h.accounts {
		if a != nil && a.blocked == h.org.turn {
			return true
		}
	}
	return false
}

// block keeps later claims off the accounts this one is short of. It reports
// whether one of them is every claim's.
func (h *hold) block(in *months) (everyones bool) {
	for i, m := range in {
		if m == nil || h.accounts[i].judge(m, h.bound(i)) == fits {
			continue
		}
		h.accounts[i].blocked = h.org.turn
		everyones = everyones || i == atOrg || i == atBalance || i == atIncluded
	}
	return everyones
}

// take moves the bound into held.
func (h *hold) take(in *months) {
	for i, m := range in {
		if m != nil {
			m.hold(h.bound(i), h.mine)
		}
	}
	h.org.holds.put(h)
}

// settle replaces the bound by what was used and lets in who can go now.
func (h *hold) settle(cost amount, tokens uint64) {
	o := h.org
	h.done = true
	o.holds.remove(h.id)
	look := false
	for i, a := range h.accounts {
		if a == nil {
			continue
		}
		look = look || a.blocked == o.turn
		m := a.month(h.in(i))
		if m == nil {
			continue // its month is over for good
		}
		bound, spent := h.bound(i), h.measure(i, cost, tokens)
		m.held = m.held.minus(bound)
		m.spent = m.spent.plus(spent)
		if m.lease != nil && h.mine {
			m.lease.held = m.lease.held.minus(bound)
			m.lease.spent = m.lease.spent.plus(spent)
		}
	}
	h.cost, h.tokens = cost, tokens
	if look {
		o.limiter.letIn(o)
	}
	if o.leases.asked {
		o.limiter.poke(o)
	}
}

// spend counts usage that no hold of ours stands for.
func (o *org) spend(l *Limiter, team, key uuid.UUID, at time.Time, cost amount, tokens uint64) error {
	p, err := o.period(at)
	if err != nil {
		return err
	}
	accounts, err := o.accounts(team, key, at.UnixMilli())
	if err != nil {
		return err
	}
	h := hold{accounts: accounts, period: p.index}
	oldest := l.oldest(o)
	look := false
	for i, a := range accounts {
		if a == nil {
			continue
		}
		in := h.in(i)
		if in != forever && in.month() < oldest {
			continue
		}
		m := o.open(a, in, oldest)
		m.spent = m.spent.plus(h.measure(i, cost, tokens))
		look = look || a.blocked == o.turn
	}
	if look {
		l.letIn(o)
	}
	return nil
}
