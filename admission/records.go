package admission

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// Types of the records of this package, on BudgetSubject.
const (
	TypeBudgetSet       = "budget.set"       // Data: BudgetSet
	TypeLimitsSet       = "limits.set"       // Data: LimitsSet
	TypeCreditLimitSet  = "credit_limit.set" // Data: CreditLimitSet
	TypeBalanceCredited = "balance.credited" // Data: BalanceCredited
	subjectBudget       = "LEDGER.budget."   // + org
	subjectLease        = "LEDGER.lease."    // + org
	subjectReplica      = "LEDGER.replica."  // + replica
	typeLeaseGranted    = "lease.granted"    // Data: leaseData
	typeLeaseReturned   = "lease.returned"   // Data: leaseData
	typeLeaseWanted     = "lease.wanted"     // Data: leaseData
	typeLeaseReclaimed  = "lease.reclaimed"  // Data: reclaimData
	typeReplicaJoined   = "replica.joined"   // Data: replicaData
	typeReplicaLeft     = "replica.left"     // Data: replicaData
)

// BudgetSubject carries an org's budgets, limits and credits.
func BudgetSubject(org uuid.UUID) string { return subjectBudget + org.String() }

// LeaseSubject carries the allowances of the replicas on an org's accounts.
func LeaseSubject(org uuid.UUID) string { return subjectLease + org.String() }

// BudgetSet sets the monthly budget of an org, team or key from now on.
type BudgetSet struct {
	OrgID  uuid.UUID        `json:"org_id"`
	Scope  Scope            `json:"scope"`  // org, team or key
	ID     uuid.UUID        `json:"id"`     // of the org, team or key
	Amount *decimal.Decimal `json:"amount"` // null is no budget
}

// LimitsSet sets the rates of an org's plan, all its keys together.
type LimitsSet struct {
	OrgID uuid.UUID `json:"org_id"`
	Rates
}

// CreditLimitSet says how far below zero an org's balance may go. The first record
// about a balance opens it: usage from then on is paid from it.
type CreditLimitSet struct {
	OrgID  uuid.UUID       `json:"org_id"`
	Amount decimal.Decimal `json:"amount"`
}

// BalanceCredited adds money to an org's balance, or takes some if it is negative.
type BalanceCredited struct {
	OrgID    uuid.UUID       `json:"org_id"`
	CreditID uuid.UUID       `json:"credit_id"` // counts once
	Amount   decimal.Decimal `json:"amount"`
}

// Apply folds one record of the ledger, in the order of the log. Records of other
// packages and records applied before are ignored. After an error the Limiter must
// not be used.
func (l *Limiter) Apply(r events.Record) error {
	var err error
	switch {
	case strings.HasPrefix(r.Subject, subjectBudget):
		err = l.applyBudget(r)
	case l.replica == nil:
	case strings.HasPrefix(r.Subject, subjectLease):
		err = l.replica.applyLease(r)
	case strings.HasPrefix(r.Subject, subjectReplica):
		err = l.replica.applyReplica(r)
	}
	if err != nil {
		return fmt.Errorf("apply %s at ledger sequence %d to admission: %w", r.Type, r.Seq, err)
	}
	return nil
}

func (l *Limiter) applyBudget(r events.Record) error {
	id, err := uuid.Parse(strings.TrimPrefix(r.Subject, subjectBudget))
	if err != nil {
		return fmt.Errorf("its subject %s names no org", r.Subject)
	}
	o := l.org(id)
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Seq <= o.lastSeq {
		return nil
	}
	if err := o.apply(r); err != nil {
		return err
	}
	o.lastSeq = r.Seq
	l.letIn(o)
	l.poke(o)
	return nil
}

// apply folds a record of the org's budget subject. A type that this build does
// not know is ignored, but counts for the subject's sequence.
func (o *org) apply(r events.Record) error {
	switch r.Type {
	case TypeBudgetSet:
		var d BudgetSet
		if err := o.read(r, &d, &d.OrgID); err != nil {
			return err
		}
		return o.setBudget(d)
	case TypeLimitsSet:
		var d LimitsSet
		if err := o.read(r, &d, &d.OrgID); err != nil {
			return err
		}
		o.rates, o.ratesUntilUS = d.Rates, math.MinInt64
	case TypeCreditLimitSet:
		var d CreditLimitSet
		if err := o.read(r, &d, &d.OrgID); err != nil {
			return err
		}
		line, err := amountOf(d.Amount)
		if err != nil {
			return err
		}
		o.line = line
		o.openBalance(r.At)
	case TypeBalanceCredited:
		var d BalanceCredited
		if err := o.read(r, &d, &d.OrgID); err != nil {
			return err
		}
		return o.addCredit(d, r.At)
	}
	return nil
}

// read decodes a record and refuses one that names another org than its subject.
func (o *org) read(r events.Record, d any, named *uuid.UUID) error {
	if err := r.Into(d); err != nil {
		return err
	}
	if *named != o.id {
		return fmt.Errorf("it is about org %s, on the subject of %s", *named, o.id)
	}
	return nil
}

func (o *org) setBudget(d BudgetSet) error {
	if d.Scope == ScopeBalance {
		return fmt.Errorf("a balance has no monthly budget")
	}
	a, err := o.find(d.Scope, d.ID)
	if err != nil {
		return err
	}
	if d.Amount == nil {
		a.limited, a.limit = false, amount{}
		return nil
	}
	limit, err := amountOf(*d.Amount)
	if err != nil {
		return err
	}
	a.limited, a.limit = true, limit
	return nil
}

func (o *org) addCredit(d BalanceCredited, at time.Time) error {
	if _, ok := o.credits[d.CreditID]; ok {
		return nil
	}
	credit, err := amountOf(d.Amount)
	if err != nil {
		return err
	}
	if o.credits == nil {
		o.credits = map[uuid.UUID]amount{}
	}
	o.credits[d.CreditID] = credit
	o.credit = o.credit.plus(credit)
	o.openBalance(at)
	return nil
}

// openBalance brings the balance's limit up to date. Opening it takes in the
// requests on their way that it is to pay for.
func (o *org) openBalance(at time.Time) {
	o.balance.limited, o.balance.limit = true, o.credit.plus(o.line)
	if o.opened {
		return
	}
	o.opened, o.sinceMS = true, at.UnixMilli()
	m := o.open(&o.balance, forever, 0)
	for h := range o.holds.all() {
		if !o.counts(h.atMS) {
			continue
		}
		h.accounts[atBalance] = &o.balance
		m.hold(h.cost, h.mine)
	}
}
