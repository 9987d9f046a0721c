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

// Appender is where commands write: events.Log. A nil error means durable;
// events.ErrConflict means that another writer was first on the subject.
type Appender interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
}

// By says who commands, when and why.
type By struct {
	Actor, Reason string
	At            time.Time
}

var (
	// ErrInvalid is returned when a command asks for something senseless; nothing
	// was written.
	ErrInvalid = errors.New("invalid")
	// ErrExists is returned when a credit id is taken by another amount.
	ErrExists = errors.New("exists already, with another amount")
)

// Commands write budgets, limits and credits. A command returns when the Limiter
// shows what it wrote. Something must be feeding the Limiter's Apply, or a command
// that meets another writer waits for ctx.
type Commands struct {
	Log     Appender
	Limiter *Limiter
}

// SetBudget sets the monthly budget of an org, team or key; nil takes it away.
func (c Commands) SetBudget(ctx context.Context, d BudgetSet, by By) error {
	if d.Amount != nil {
		if err := checkAmount(*d.Amount, false); err != nil {
			return fmt.Errorf("set the budget: %w", err)
		}
	}
	if d.Scope == ScopeOrg && d.ID == uuid.Nil {
		d.ID = d.OrgID
	}
	known := d.Scope == ScopeOrg && d.ID == d.OrgID || (d.Scope == ScopeTeam || d.Scope == ScopeKey) && d.ID != uuid.Nil
	if !known {
		return fmt.Errorf("set the budget: %w: no budget of %q %s", ErrInvalid, d.Scope, d.ID)
	}
	return c.write(ctx, d.OrgID, TypeBudgetSet, d, by, nil)
}

// SetLimits sets the rates of an org's plan; zero is no limit.
func (c Commands) SetLimits(ctx context.Context, org uuid.UUID, r Rates, by By) error {
	return c.write(ctx, org, TypeLimitsSet, LimitsSet{OrgID: org, Rates: r}, by, nil)
}

// SetCreditLimit says how far below zero an org's balance may go, and opens the
// balance if there is none.
func (c Commands) SetCreditLimit(ctx context.Context, org uuid.UUID, limit decimal.Decimal, by By) error {
	if err := checkAmount(limit, false); err != nil {
		return fmt.Errorf("set the credit limit: %w", err)
	}
	return c.write(ctx, org, TypeCreditLimitSet, CreditLimitSet{OrgID: org, Amount: limit}, by, nil)
}

// Credit adds money to an org's balance once for each CreditID, and opens the
// balance if there is none.
func (c Commands) Credit(ctx context.Context, d BalanceCredited, by By) error {
	if err := checkAmount(d.Amount, true); err != nil || d.CreditID == uuid.Nil {
		return fmt.Errorf("credit the balance: %w: an amount and a credit id are needed", ErrInvalid)
	}
	return c.write(ctx, d.OrgID, TypeBalanceCredited, d, by, func(o *org) (bool, error) {
		old, ok := o.credits[d.CreditID]
		if ok && !old.decimal().Equal(d.Amount) {
			return true, fmt.Errorf("credit %s: %w", d.CreditID, ErrExists)
		}
		return ok, nil
	})
}

func checkAmount(d decimal.Decimal, signed bool) error {
	a, err := amountOf(d)
	if err != nil {
		return fmt.Errorf("%w: amount: %w", ErrInvalid, err)
	}
	if a.negative() && !signed {
		return fmt.Errorf("%w: amount %s is negative", ErrInvalid, d)
	}
	return nil
}

// conflictPause is the time between looks for the record that was first.
const conflictPause = 5 * time.Millisecond

// write appends a record and applies it here. done, if any, says under the org's
// lock that there is nothing left to do.
func (c Commands) write(ctx context.Context, org uuid.UUID, typ string, data any, by By, done func(o *org) (bool, error)) error {
	if org == uuid.Nil {
		return fmt.Errorf("%s: %w: org id is missing", typ, ErrInvalid)
	}
	r, err := events.NewRecord(typ, by.At.Truncate(time.Millisecond), by.Actor, by.Reason, data)
	if err != nil {
		return err
	}
	r.Subject = BudgetSubject(org)
	o := c.Limiter.org(org)
	var last uint64
	for first := true; ; first = false {
		o.mu.Lock()
		seq, ready := o.lastSeq, false
		if done != nil {
			ready, err = done(o)
		}
		o.mu.Unlock()
		if ready || err != nil {
			return err
		}
		if first || seq != last {
			last = seq
			seqs, err := c.Log.Append(ctx, events.Append{Subject: r.Subject, Record: r, ExpectLast: seq})
			if err == nil {
				r.Seq = seqs[0]
				return c.Limiter.Apply(r)
			}
			if !errors.Is(err, events.ErrConflict) {
				return fmt.Errorf("%s of org %s: %w", typ, org, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of org %s: another writer was first: %w", typ, org, ctx.Err())
		case <-time.After(conflictPause):
		}
	}
}
