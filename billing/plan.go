package billing

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/ledger"
)

// BillingCycle is how often a plan is invoiced. The names cross the wire.
type BillingCycle string

// CycleMonthly invoices by calendar months of the org's zone, the only cycle.
const CycleMonthly BillingCycle = "monthly"

// OveragePolicy says what happens past a plan's included usage.
type OveragePolicy = ledger.OveragePolicy

// OverageBill bills what is used past the included tokens at catalog prices;
// OverageBlock turns it away.
const (
	OverageBill  = ledger.OverageBill
	OverageBlock = ledger.OverageBlock
)

// Plan is what an org has agreed to, from an instant until its next plan takes
// over.
type Plan struct {
	ID             uuid.UUID       `json:"id"` // of the plan, the same for all orgs that have it
	Code           string          `json:"code"`
	Name           string          `json:"name"`
	BillingCycle   BillingCycle    `json:"billing_cycle"`
	MonthlyFee     ledger.Amount   `json:"monthly_fee"`
	IncludedTokens uint64          `json:"included_tokens"` // a month
	RPMLimit       uint64          `json:"rpm_limit"`       // requests a minute of the whole org; 0 means no limit
	TPMLimit       uint64          `json:"tpm_limit"`       // tokens a minute of the whole org; 0 means no limit
	ModelsAllowed  []string        `json:"models_allowed"`  // standard ids; empty means every model
	OveragePolicy  OveragePolicy   `json:"overage_policy"`
	DiscountPct    decimal.Decimal `json:"discount_pct"`
	Currency       string          `json:"currency"`       // the org's
	EffectiveFrom  time.Time       `json:"effective_from"` // UTC, whole milliseconds

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

// ErrNotBilledYet is returned when a plan promises what no invoice carries out
// yet: a fee, included usage, a discount, or blocking past the included usage.
// Such a plan is refused rather than stored and forgotten.
var ErrNotBilledYet = errors.New("is not billed yet, so no plan may have it")

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
		BillingCycle: CycleMonthly, OveragePolicy: OverageBill, Currency: org.Currency, EffectiveFrom: org.CreatedAt,
	}
}

// complete fills in defaults and checks the rest.
func (p *Plan) complete(org Org, now time.Time) error {
	if p.BillingCycle == "" {
		p.BillingCycle = CycleMonthly
	}
	if p.OveragePolicy == "" {
		p.OveragePolicy = OverageBill
	}
	if p.Currency == "" {
		p.Currency = org.Currency
	}
	if p.ID == uuid.Nil {
		p.ID = planID(p.Code)
	}
	if p.EffectiveFrom.IsZero() {
		p.EffectiveFrom = now
	}
	p.EffectiveFrom = p.EffectiveFrom.UTC()
	if err := checkName(p.Name); err != nil {
		return err
	}
	switch {
	case !planCodeForm.MatchString(p.Code):
		return fmt.Errorf("%w: plan code %.70q is not 1 to 64 of a-z, 0-9 and -", ErrInvalid, p.Code)
	case p.BillingCycle != CycleMonthly:
		return fmt.Errorf("%w: billing cycle %.20q is not %s", ErrInvalid, p.BillingCycle, CycleMonthly)
	case p.OveragePolicy != OverageBill && p.OveragePolicy != OverageBlock:
		return fmt.Errorf("%w: overage policy %.20q is not %s or %s", ErrInvalid, p.OveragePolicy, OverageBill, OverageBlock)
	case p.Currency != org.Currency:
		return fmt.Errorf("%w: the org is invoiced in %s, not %.10q", ErrInvalid, org.Currency, p.Currency)
	case !p.EffectiveFrom.Equal(p.EffectiveFrom.Truncate(time.Millisecond)):
		return fmt.Errorf("%w: effective_from has parts of a millisecond", ErrInvalid)
	case !p.EffectiveTo.IsZero():
		return fmt.Errorf("%w: effective_to follows from the next plan and cannot be set", ErrInvalid)
	}
	for _, id := range p.ModelsAllowed {
		if id == "" || len(id) > events.MaxTextBytes || !utf8.ValidString(id) {
			return fmt.Errorf("%w: models_allowed has %.50q", ErrInvalid, id)
		}
	}
	return p.promisesNothing()
}

// promisesNothing refuses what the invoicer does not carry out.
func (p *Plan) promisesNothing() error {
	promise := ""
	switch {
	case !p.MonthlyFee.IsZero():
		promise = "monthly_fee"
	case p.IncludedTokens != 0:
		promise = "included_tokens"
	case !p.DiscountPct.IsZero():
		promise = "discount_pct"
	case p.OveragePolicy == OverageBlock:
		promise = "overage_policy block"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %w", ErrInvalid, promise, ErrNotBilledYet)
}

// sameTerms compares all but the dates.
func (p Plan) sameTerms(q Plan) bool {
	return p.ID == q.ID && p.Code == q.Code && p.Name == q.Name && p.BillingCycle == q.BillingCycle &&
		p.MonthlyFee.Cmp(q.MonthlyFee) == 0 && p.IncludedTokens == q.IncludedTokens && p.RPMLimit == q.RPMLimit &&
		p.TPMLimit == q.TPMLimit && slices.Equal(p.ModelsAllowed, q.ModelsAllowed) && p.OveragePolicy == q.OveragePolicy &&
		p.DiscountPct.Equal(q.DiscountPct) && p.Currency == q.Currency
}

// AssignPlan gives an org a plan from plan.EffectiveFrom on (zero: from now on),
// which must not be past and must be later than the start of each plan assigned
// before: history is not rewritten. Empty fields get the defaults of the default
// plan. The same again changes nothing. It returns ErrNotFound when there is no
// such org, ErrInvalid, and ErrNotBilledYet (also an ErrInvalid) for a plan with
// a fee, included tokens, a discount or blocking.
func (c Commands) AssignPlan(ctx context.Context, orgID uuid.UUID, plan Plan, by By) (Plan, error) {
	now, fromNow := by.At.UTC().Truncate(time.Millisecond), plan.EffectiveFrom.IsZero()
	var result Plan
	err := c.decide(ctx, func() (*events.Append, error) {
		last := c.Book.LastOn(planSubject(orgID)) // before the look: what is decided on must not be newer
		org, err := c.Book.Org(orgID)
		if err != nil {
			return nil, err
		}
		p := plan
		if err := p.complete(org, now); err != nil {
			return nil, err
		}
		plans := c.Book.plansOf(orgID)
		for i, old := range plans {
			again := p.EffectiveFrom.Equal(old.EffectiveFrom) || fromNow && i == len(plans)-1 && !now.Before(old.EffectiveFrom)
			if again && p.sameTerms(old) {
				result = old
				return nil, nil
			}
		}
		if p.EffectiveFrom.Before(now) {
			return nil, fmt.Errorf("%w: effective_from %s is past", ErrInvalid, p.EffectiveFrom)
		}
		if n := len(plans); n > 0 && !p.EffectiveFrom.After(plans[n-1].EffectiveFrom) {
			return nil, fmt.Errorf("%w: plan %s starts at %s, the next must start later", ErrInvalid, plans[n-1].Code, plans[n-1].EffectiveFrom)
		}
		result = p
		return appendTo(planSubject(orgID), last, TypePlanAssigned, Assigned{OrgID: orgID, Plan: p}, by)
	})
	if err != nil {
		return Plan{}, fmt.Errorf("assign plan %.70s to org %s: %w", plan.Code, orgID, err)
	}
	return result, nil
}

func (b *Book) applyPlan(r events.Record) error {
	var assigned Assigned
	if err := r.Into(&assigned); err != nil {
		return err
	}
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
