package admission

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// Scope says whose money or limit is meant. The names are in records: append only.
type Scope string

// The scopes of accounts. ScopePlan is only met in refusals, by a plan's rates or what it includes.
const (
	ScopeBalance Scope = "balance" // prepaid balance and credit of an org
	ScopeOrg     Scope = "org"
	ScopeTeam    Scope = "team"
	ScopeKey     Scope = "key"
	ScopePlan    Scope = "plan"

	// The included usage of an org's plan, if that blocks: see Included.
	ScopeIncludedTokens Scope = "included_tokens"
	ScopeIncludedAmount Scope = "included_amount"
)

// account is money with an optional limit: an org's balance, which counts for
// ever, or a budget, which begins anew each month. Spend is counted with or without
// a limit, because a limit may be set in the middle of a month.
type account struct {
	limited bool
	// uncounted: what was spent before is not known yet, so nothing fits.
	uncounted bool
	limit     amount
	blocked   uint64 // equal to org.turn while a waiting claim is short here
	now       month  // the newest
	near      lease  // of one of the months, beside it: a lease elsewhere is one more miss of the cache
	isNear    bool   // near is in use

	// What a request does not touch stands behind: a million accounts do not fit a cache.
	scope  Scope
	id     uuid.UUID // of the org, team or key
	others []month   // with usage still to come, or from clocks that are ahead
}

// month is what an account has seen in one period.
type month struct {
	period periodIndex
	spent  amount // settled, exact
	held   amount // bounds of requests on their way
	lease  *lease // this replica's part; nil when it is the only one
}

// lease is what this replica may take of an account's month, see lease.go.
type lease struct {
	allowance amount // what spent + held may reach here
	spent     amount // settled here
	held      amount // held here
	low       amount // ask for more when less than this is unused
	asked     bool   // has been asked for
}

// hold adds a bound; mine is whether this replica's allowance covers it.
func (m *month) hold(bound amount, mine bool) {
	m.held = m.held.plus(bound)
	if m.lease != nil && mine {
		m.lease.held = m.lease.held.plus(bound)
	}
}

// periodIndex counts calendar months: year × 12 + month. Segments of billing periods
// are among them, see segmentOf.
type periodIndex int32

// forever is the one period of a balance.
const forever periodIndex = -1

// month finds a period's sums, nil when nothing was seen of it. The pointer is
// good until the next open.
func (a *account) month(p periodIndex) *month {
	if a.now.period == p {
		return &a.now
	}
	for i := range a.others {
		if a.others[i].period == p {
			return &a.others[i]
		}
	}
	return nil
}

// open is month, made if it is not there. Months before oldest are let go.
func (a *account) open(p, oldest periodIndex) *month {
	if m := a.month(p); m != nil {
		return m
	}
	a.others = slices.DeleteFunc(a.others, func(m month) bool { return m.period < oldest && a.drop(m) })
	switch {
	case a.now.period == 0 || a.now.period != forever && a.now.period < oldest:
		a.drop(a.now)
		a.now = month{period: p}
		return &a.now
	case p > a.now.period:
		a.others = append(a.others, a.now)
		a.now = month{period: p}
		return &a.now
	}
	a.others = append(a.others, month{period: p})
	return &a.others[len(a.others)-1]
}

// drop frees what a month that is let go of had beside the account.
func (a *account) drop(m month) bool {
	if m.lease == &a.near {
		a.near, a.isNear = lease{}, false
	}
	return true
}

// newLease is a lease of nothing, the one beside the account if it is free.
func (a *account) newLease() *lease {
	if a.isNear {
		return &lease{}
	}
	a.isNear = true
	return &a.near
}

// verdict says whether a bound fits an account.
type verdict uint8

const (
	fits verdict = iota
	// short: not now, but it would if what is held were settled at nothing.
	short
	// unleased: it fits the account, but not what this replica may take of it.
	unleased
	// never: not even then.
	never
)

// judge says whether a bound fits one of the account's months.
func (a *account) judge(m *month, cost amount) verdict {
	if !a.limited {
		return fits
	}
	left := a.limit.minus(m.spent)
	switch {
	case a.uncounted:
		return short
	case left.less(cost):
		return never
	case left.less(cost.plus(m.held)):
		return short
	case m.lease != nil && m.lease.unused().less(cost):
		return unleased
	}
	return fits
}

func (l *lease) unused() amount { return l.allowance.minus(l.spent).minus(l.held) }

// claimed are the accounts one request takes from; a nil entry does not apply.
type claimed [5]*account

// months are those of claimed accounts, good until the next open.
type months [len(claimed{})]*month

const (
	atBalance = iota
	atOrg
	atTeam
	atKey
	atIncluded
)

// period is one calendar month in an org's zone, cached: finding it is slow.
type period struct {
	index        periodIndex
	fromMS, toMS int64
}

func periodOf(at time.Time, zone *time.Location) period {
	p := ledger.PeriodOf(at, zone)
	first := p.FirstDay()
	return period{index: periodIndex(first.Year*12 + int(first.Month)), fromMS: p.Start.UnixMilli(), toMS: p.End.UnixMilli()}
}

// period finds the month of an instant. The caller holds the org's lock.
func (o *org) period(at time.Time) (period, error) {
	ms := at.UnixMilli()
	for i := range o.periods {
		if p := &o.periods[i]; p.fromMS <= ms && ms < p.toMS {
			return *p, nil
		}
	}
	if o.zone == nil {
		zone, err := o.limiter.config.Zones.Zone(o.id)
		if err != nil {
			return period{}, fmt.Errorf("find the time zone of org %s: %w", o.id, err)
		}
		o.zone = zone
	}
	p := periodOf(at, o.zone)
	copy(o.periods[1:], o.periods[:])
	o.periods[0] = p
	return p, nil
}

// periodsCached bounds the cache; usage of many months comes only in a replay.
const periodsCached = 3
