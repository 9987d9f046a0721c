package billing

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// BillingCycle is how often a plan is invoiced. The names cross the wire.
type BillingCycle string

// CycleMonthly invoices by months of the org's zone from its anchor day on, the
// only cycle.
const CycleMonthly BillingCycle = "monthly"

// OveragePolicy says what happens past a plan's included usage.
type OveragePolicy = ledger.OveragePolicy

// OverageBill bills what is used past the included usage; OverageBlock turns it
// away.
const (
	OverageBill  = ledger.OverageBill
	OverageBlock = ledger.OverageBlock
)

// Plan is what an org has agreed to, from an instant until its next plan takes
// over. Limits change at the instant; money changes at the start of its local date.
type Plan struct {
	ID            uuid.UUID    `json:"id"` // of the plan, the same for all orgs that have it
	Code          string       `json:"code"`
	Version       int          `json:"version,omitempty"` // in the catalog of plans; 0 for a plan that is not from there
	Name          string       `json:"name"`
	BillingCycle  BillingCycle `json:"billing_cycle"`
	ledger.Terms               // fee, included usage, charges, commitment, discounts, overage policy
	RPMLimit      uint64       `json:"rpm_limit"`      // requests a minute of the whole org; 0 means no limit
	TPMLimit      uint64       `json:"tpm_limit"`      // tokens a minute of the whole org; 0 means no limit
	ModelsAllowed []string     `json:"models_allowed"` // standard ids; empty means every model
	Currency      string       `json:"currency"`       // the org's
	EffectiveFrom time.Time    `json:"effective_from"` // UTC, whole milliseconds

	// EffectiveTo is when the org's next plan takes over; zero while there is none.
	// It is never written: it follows from that plan.
	EffectiveTo time.Time `json:"-"`
}

// TypePlanAssigned is the record of AssignPlan, on the org's plan subject; its
// data is an Assigned.
const TypePlanAssigned = "plan.assigned"

// Assigned is a plan given to an org.
type Assigned struct {
	OrgID uuid.UUID `json:"org_id"`
	Plan  Plan      `json:"plan"`
}

// DefaultPlanCode is the code of the plan of an org that was assigned none.
const DefaultPlanCode = "pay-as-you-go"

const planPrefix = "LEDGER.plan."

// planSubject carries an org's plans, apart from its teams: giving a plan does
// not race with creating a team.
func planSubject(org uuid.UUID) string { return planPrefix + org.String() }

var planCodeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// planID is the id of a plan that was given none: the same code, the same plan.
func planID(code string) uuid.UUID { return events.DeriveID("plan", []byte(code)) }

// defaultPlan is what an org has before it is assigned a plan: every model at
// catalog prices, no fee, no limit of its own.
func defaultPlan(org Org) Plan {
	return Plan{
		ID: planID(DefaultPlanCode), Code: DefaultPlanCode, Name: "Pay as you go",
		BillingCycle: CycleMonthly, Terms: ledger.Terms{OveragePolicy: OverageBill}, Currency: org.Currency, EffectiveFrom: org.CreatedAt,
	}
}

// complete fills in defaults and checks the rest, but for what depends on the org.
func (p *Plan) complete() error {
	if p.BillingCycle == "" {
		p.BillingCycle = CycleMonthly
	}
	if p.OveragePolicy == "" {
		p.OveragePolicy = OverageBill
	}
	if p.ID == uuid.Nil {
		p.ID = planID(p.Code)
	}
	if err := checkName(p.Name); err != nil {
		return err
	}
	if err := p.Terms.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case !planCodeForm.MatchString(p.Code):
		return fmt.Errorf("%w: plan code %.70q is not 1 to 64 of a-z, 0-9 and -", ErrInvalid, p.Code)
	case p.BillingCycle != CycleMonthly:
		return fmt.Errorf("%w: billing cycle %.20q is not %s", ErrInvalid, p.BillingCycle, CycleMonthly)
	case !p.EffectiveTo.IsZero():
		return fmt.Errorf("%w: effective_to follows from the next plan and cannot be set", ErrInvalid)
	}
	for _, id := range p.ModelsAllowed {
		if id == "" || len(id) > events.MaxTextBytes || !utf8.ValidString(id) {
			return fmt.Errorf("%w: models_allowed has %.50q", ErrInvalid, id)
		}
	}
	return nil
}

// completeFor fills in what depends on the org and checks it.
func (p *Plan) completeFor(org Org, now time.Time) error {
	if p.Currency == "" {
		p.Currency = org.Currency
	}
	if p.EffectiveFrom.IsZero() {
		p.EffectiveFrom = now
	}
	p.EffectiveFrom = p.EffectiveFrom.UTC()
	if err := p.complete(); err != nil {
		return err
	}
	switch {
	case p.Currency != org.Currency:
		return fmt.Errorf("%w: the org is invoiced in %s, not %.10q", ErrInvalid, org.Currency, p.Currency)
	case !p.EffectiveFrom.Equal(p.EffectiveFrom.Truncate(time.Millisecond)):
		return fmt.Errorf("%w: effective_from has parts of a millisecond", ErrInvalid)
	}
	return nil
}

// AllowsModel reports whether the plan has a model, by its standard id.
func (p Plan) AllowsModel(id string) bool {
	return len(p.ModelsAllowed) == 0 || slices.Contains(p.ModelsAllowed, id)
}

// sameTerms compares all but the dates.
func (p Plan) sameTerms(q Plan) bool {
	p.EffectiveFrom, p.EffectiveTo = q.EffectiveFrom, q.EffectiveTo
	return sameJSON(p, q)
}

// AssignPlan gives an org a plan from plan.EffectiveFrom on (zero: from now on),
// which must not be past and must be later than the start of each plan assigned
// before: history is not rewritten. Money changes at the start of that local date;
// a period is split there. Empty fields get the defaults of the default plan. The
// same again changes nothing, with or without a key. It returns ErrNotFound when
// there is no such org, ErrInvalid or ErrIdempotency.
func (c Commands) AssignPlan(ctx context.Context, orgID uuid.UUID, plan Plan, by By) (Outcome[Plan], error) {
	return c.assign(ctx, command{"assign plan", orgID, plan}, by, func() (Plan, error) { return plan, nil })
}

// assign gives an org the plan that choose comes up with.
func (c Commands) assign(ctx context.Context, q command, by By, choose func() (Plan, error)) (Outcome[Plan], error) {
	return carryOut(ctx, c, q, by, func(b *batch) (Plan, error) {
		subject := planSubject(q.OrgID)
		last := c.Book.LastOn(subject) // before the look: what is decided on must not be newer
		org, err := c.Book.Org(q.OrgID)
		if err != nil {
			return Plan{}, err
		}
		p, err := choose()
		if err != nil {
			return Plan{}, err
		}
		fromNow := p.EffectiveFrom.IsZero()
		if err := p.completeFor(org, b.by.At); err != nil {
			return Plan{}, err
		}
		plans := c.Book.plansOf(q.OrgID)
		for i, old := range plans {
			again := p.EffectiveFrom.Equal(old.EffectiveFrom) || fromNow && i == len(plans)-1 && !b.by.At.Before(old.EffectiveFrom)
			if again && p.sameTerms(old) {
				return old, nil
			}
		}
		if p.EffectiveFrom.Before(b.by.At) {
			return Plan{}, fmt.Errorf("%w: effective_from %s is past", ErrInvalid, p.EffectiveFrom)
		}
		if n := len(plans); n > 0 && !p.EffectiveFrom.After(plans[n-1].EffectiveFrom) {
			return Plan{}, fmt.Errorf("%w: plan %s starts at %s, the next must start later", ErrInvalid, plans[n-1].Code, plans[n-1].EffectiveFrom)
		}
		b.add(subject, last, TypePlanAssigned, Assigned{OrgID: q.OrgID, Plan: p})
		return p, nil
	})
}

func (b *Book) applyPlan(assigned Assigned) error {
	a, err := b.known(assigned.OrgID)
	if err != nil {
		return err
	}
	p := assigned.Plan
	if n := len(a.plans); n > 0 && !p.EffectiveFrom.After(a.plans[n-1].EffectiveFrom) {
		return fmt.Errorf("%w: plan %s of org %s starts no later than the one before", ErrCorrupt, p.Code, assigned.OrgID)
	}
	a.plans = append(a.plans, p)
	return nil
}

// moneyPlans are the plans as far as money goes.
func (a *account) moneyPlans() []ledger.Plan {
	plans := make([]ledger.Plan, len(a.plans))
	for i, p := range a.plans {
		plans[i] = ledger.Plan{Code: p.Code, Terms: p.Terms, From: p.EffectiveFrom}
	}
	return plans
}

// PlanAt is the plan of an org at an instant, or ErrNotFound when there is no
// such org. Before its first assigned plan an org has the default plan, which is
// pay-as-you-go: every model at catalog prices, no fee, no limits of the org.
func (b *Book) PlanAt(orgID uuid.UUID, at time.Time) (Plan, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, err := b.find(orgID)
	if err != nil {
		return Plan{}, err
	}
	plan := defaultPlan(a.org)
	for _, next := range a.plans {
		if at.Before(next.EffectiveFrom) {
			plan.EffectiveTo = next.EffectiveFrom
			break
		}
		plan = next
	}
	return plan, nil
}

// plansOf are the assigned plans of an org, oldest first.
func (b *Book) plansOf(orgID uuid.UUID) []Plan {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if a := b.orgs[orgID]; a != nil {
		return slices.Clone(a.plans)
	}
	return nil
}
