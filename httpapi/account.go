package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aione/billing"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Plans knows what orgs have agreed to: billing.Book.
type Plans interface {
	// PlanAt returns billing.ErrNotFound when there is no such org.
	PlanAt(orgID uuid.UUID, at time.Time) (billing.Plan, error)
}

// Allowance is what an org may use, and has used of it now.
type Allowance struct {
	Budget *ledger.Amount // of the current period; nil is none
	Spent  ledger.Amount  // of it, what is reserved included

	Prepaid     bool          // usage is held against the balance
	Balance     ledger.Amount // paid in advance, or owed if negative
	CreditLimit ledger.Amount // how far below zero it may go
	Frozen      ledger.Amount // reserved for requests in flight

	// Included is what the plan includes in this part of the period, in tokens or
	// money, if it blocks; nil: it does not. IncludedUsed is of it, with what is reserved.
	Included     *decimal.Decimal
	IncludedUsed decimal.Decimal

	RPMLimit uint64 // requests a minute; 0 is no limit
	RPMUsed  uint64 // in the last minute
}

// Allowances knows the limits of orgs.
type Allowances interface {
	Allowance(ctx context.Context, orgID uuid.UUID) (Allowance, error)
}

// allowance is that of an org; without a source nothing is limited.
func (s *Server) allowance(ctx context.Context, org uuid.UUID) (Allowance, error) {
	if s.config.Allowances == nil {
		return Allowance{}, nil
	}
	a, err := s.config.Allowances.Allowance(ctx, org)
	return a, unavailable(limitsUnavailable(err))
}

type billingAccountResponse struct {
	ID                 uuid.UUID `json:"id"`
	OrgID              uuid.UUID `json:"org_id"`
	Balance            string    `json:"balance" format:"decimal" doc:"Prepaid and promotional credit. Once usage is held against it: less what is owed and what was used since; negative: owed."`
	PrepaidBalance     string    `json:"prepaid_balance" format:"decimal" doc:"The organisation's own money that no invoice has used yet."`
	PromotionalBalance string    `json:"promotional_balance" format:"decimal" doc:"The same of what it was given."`
	AmountOwed         string    `json:"amount_owed" format:"decimal" doc:"Still to be paid on issued invoices."`
	CreditLimit        string    `json:"credit_limit" format:"decimal"`
	FrozenAmount       string    `json:"frozen_amount" format:"decimal" doc:"Reserved for requests in flight."`
	Currency           string    `json:"currency" doc:"ISO 4217."`
	Status             string    `json:"status" enum:"active,overdue" doc:"overdue: an invoice is past its due date."`
	Timezone           string    `json:"timezone" doc:"IANA; its dates begin and end the billing periods."`
	CurrentPeriodStart string    `json:"current_period_start" format:"date"`
	CurrentPeriodEnd   string    `json:"current_period_end" format:"date" doc:"The last day of the period."`
	CurrentPeriodCost  string    `json:"current_period_cost" format:"decimal" doc:"What the upcoming invoice comes to, with tax, before credits pay it."`
	BudgetLimit        *string   `json:"budget_limit" format:"decimal" doc:"Of a period; null means none."`
	UpdatedAt          string    `json:"updated_at" format:"date-time" doc:"Up to when usage is counted; without any, when the account was made."`
}

// account serves GET /api/v1/billing/account.
func (s *Server) account(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	org, err := s.config.Orgs.Org(caller.OrgID)
	if err != nil {
		return err
	}
	mark, err := s.vouch(r.Context(), w, org.ID)
	if err != nil {
		return err
	}
	upcoming, err := s.config.Upcoming.Upcoming(r.Context(), org.ID)
	if errors.Is(err, ledger.ErrNothingToBill) {
		upcoming, err = s.emptyDraft(org.ID, mark.Seq)
	}
	if err != nil {
		return err
	}
	a, err := s.allowance(r.Context(), org.ID)
	if err != nil {
		return err
	}
	at, err := s.config.Accounts.Account(org.ID)
	if err != nil {
		return err
	}
	balance, err := at.Prepaid.Add(at.Promo)
	if err != nil {
		return err
	}
	if a.Prepaid { // usage is paid from it as it happens, long before the invoice
		balance = a.Balance
	}
	today, err := s.today(org.ID)
	if err != nil {
		return err
	}
	status := "active"
	if !at.Owed.IsZero() && at.OwedBy.Before(today) {
		status = "overdue"
	}
	cost, err := upcoming.BeforeCredits()
	if err != nil {
		return err
	}
	answer := billingAccountResponse{
		ID: events.DeriveID("billing-account", org.ID[:]), OrgID: org.ID, Balance: balance.Format(org.Currency),
		PrepaidBalance: at.Prepaid.Format(org.Currency), PromotionalBalance: at.Promo.Format(org.Currency), AmountOwed: at.Owed.Format(org.Currency),
		CreditLimit: a.CreditLimit.Format(org.Currency), FrozenAmount: a.Frozen.Format(org.Currency),
		Currency: org.Currency, Status: status, Timezone: org.Timezone,
		CurrentPeriodStart: upcoming.Period.FirstDay().String(), CurrentPeriodEnd: upcoming.Period.LastDay().String(),
		CurrentPeriodCost: cost.Format(org.Currency), UpdatedAt: instant(org.CreatedAt),
	}
	if !mark.CountedThrough.IsZero() {
		answer.UpdatedAt = instant(mark.CountedThrough)
	}
	if a.Budget != nil {
		limit := a.Budget.Format(org.Currency)
		answer.BudgetLimit = &limit
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// budgetProgress is how much of the budget is spent; 0.00 without one, and all of
// a budget of nothing.
func (a Allowance) budgetProgress() string {
	switch {
	case a.Budget == nil || a.Budget.Sign() > 0 && a.Spent.Sign() <= 0:
		return percent(0, 0)
	case a.Budget.Sign() <= 0:
		return percent(1, 1)
	}
	return a.Spent.Decimal().Shift(2).DivRound(a.Budget.Decimal(), places).StringFixed(places)
}

// Capacity is tight from this part of the budget on, in percent.
const tightFromPct = 80

// capacity is how much room the budget, what the plan includes if it blocks, and the
// balance leave: the least of them.
func (a Allowance) capacity() string {
	room := a.Balance.Decimal().Add(a.CreditLimit.Decimal()).Sub(a.Frozen.Decimal())
	if a.Prepaid && !room.IsPositive() {
		return "exhausted"
	}
	tight := false
	for _, of := range []struct {
		limit *decimal.Decimal
		used  decimal.Decimal
	}{{amountOrNone(a.Budget), a.Spent.Decimal()}, {a.Included, a.IncludedUsed}} {
		switch {
		case of.limit == nil:
		case of.used.Cmp(*of.limit) >= 0:
			return "exhausted"
		case of.used.Shift(2).Cmp(of.limit.Mul(decimal.NewFromInt(tightFromPct))) >= 0:
			tight = true
		}
	}
	if tight {
		return "tight"
	}
	return "sufficient"
}

func amountOrNone(a *ledger.Amount) *decimal.Decimal {
	if a == nil {
		return nil
	}
	d := a.Decimal()
	return &d
}

// accountRoutes are those of the plan and the account.
func (s *Server) accountRoutes() []route {
	var routes []route
	if s.config.Plans != nil {
		routes = append(routes, route{
			method: http.MethodGet, path: "/api/v1/billing/plan", id: "getCurrentPlan", tag: tagBilling, summary: "Get Current Plan",
			scope: keys.ScopeBillingRead, serve: s.plan(ofCaller), answer: success{of: planDetailResponse{}},
		})
	}
	if s.config.Upcoming != nil {
		routes = append(routes, route{
			method: http.MethodGet, path: "/api/v1/billing/account", id: "getBillingAccount", tag: tagBilling, summary: "Get Billing Account",
			scope: keys.ScopeBillingRead, heavy: true, serve: s.account, answer: success{of: billingAccountResponse{}, counted: true},
		})
	}
	return routes
}
