package admission

import (
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/keys"
)

// Standing is how one account stands.
type Standing struct {
	Limited bool            // without a limit it only counts; of included usage: the plan blocks
	Limit   decimal.Decimal // the budget; of a balance: credits and credit limit
	Spent   decimal.Decimal // settled
	Held    decimal.Decimal // bounds of requests on their way
	Credit  decimal.Decimal // of a balance: what was paid in; it stands at Credit - Spent
}

// Standing is how an account stands in the month of an instant; a balance has one
// for ever. Usage is counted up to where the usage log has been read. It returns
// ErrNotReady before Restore has succeeded.
func (l *Limiter) Standing(org uuid.UUID, scope Scope, id uuid.UUID, at time.Time) (Standing, error) {
	if !l.ready.Load() {
		return Standing{}, ErrNotReady
	}
	o := l.org(org)
	o.mu.Lock()
	defer o.mu.Unlock()
	if scope.included() {
		return o.includedStanding(scope, at)
	}
	a := o.look(scope, id)
	if a == nil {
		return Standing{}, nil // nothing was used and nothing limits it
	}
	in := forever
	if scope != ScopeBalance {
		p, err := o.period(at)
		if err != nil {
			return Standing{}, err
		}
		in = p.index
	}
	s := Standing{Limited: a.limited, Limit: a.limit.decimal()}
	if scope == ScopeBalance {
		s.Credit = o.credit.decimal()
	}
	if m := a.month(in); m != nil {
		s.Spent, s.Held = m.spent.decimal(), m.held.decimal()
	}
	return s, nil
}

// includedStanding is how the included usage of the segment of an instant stands:
// limited if its plan blocks, and counts in that unit.
func (o *org) includedStanding(scope Scope, at time.Time) (Standing, error) {
	if o.included == nil {
		return Standing{}, nil
	}
	a, err := o.included.at(o, at.UnixMilli())
	if err != nil || a == nil || a.scope != scope {
		return Standing{}, err
	}
	return Standing{Limited: true, Limit: a.limit.decimal(), Spent: a.now.spent.decimal(), Held: a.now.held.decimal()}, nil
}

// OrgRates are the rate limits that hold for all keys of an org together at an
// instant, and those of them that LimitsSet has set.
func (l *Limiter) OrgRates(org uuid.UUID, at time.Time) (inForce, set Rates) {
	o := l.org(org)
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.ratesOf(o, at), o.rates
}

// look is find without making anything.
func (o *org) look(scope Scope, id uuid.UUID) *account {
	switch scope {
	case ScopeTeam:
		return o.teams[id]
	case ScopeKey:
		if m := o.keys[id]; m != nil {
			return &m.account
		}
		return nil
	}
	a, err := o.find(scope, id)
	if err != nil {
		return nil
	}
	return a
}

// Room is the most that a request of a key may still cost if all requests on their
// way cost nothing; false when nothing limits it. A gateway may lower a request's
// max_tokens to it rather than have it refused.
func (l *Limiter) Room(k *keys.Key, at time.Time) (decimal.Decimal, bool, error) {
	o := l.org(k.OrgID)
	o.mu.Lock()
	defer o.mu.Unlock()
	p, err := o.period(at)
	if err != nil || k.Sandbox {
		return decimal.Decimal{}, false, err
	}
	accounts, err := o.accounts(k.TeamID, k.ID, at.UnixMilli())
	if err != nil {
		return decimal.Decimal{}, false, err
	}
	h := hold{accounts: accounts, period: p.index}
	room, limited := amountMost, false
	for i, a := range accounts {
		if a == nil || !a.limited || a.scope == ScopeIncludedTokens {
			continue
		}
		left := a.limit
		if m := a.month(h.in(i)); m != nil {
			left = left.minus(m.spent)
		}
		room, limited = lesser(room, greater(left, amount{})), true
	}
	if !limited {
		return decimal.Decimal{}, false, nil
	}
	return room.decimal(), true, nil
}
