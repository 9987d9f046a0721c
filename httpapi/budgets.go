package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aione/admission"
	"aione/billing"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Budgets set what orgs, teams and keys may use: admission.Commands.
type Budgets interface {
	SetBudget(ctx context.Context, d admission.BudgetSet, by admission.By) error
	SetLimits(ctx context.Context, org uuid.UUID, r admission.Rates, by admission.By) error
	SetCreditLimit(ctx context.Context, org uuid.UUID, limit decimal.Decimal, by admission.By) error
}

// Standings know how accounts stand: admission.Limiter.
type Standings interface {
	// Standing returns admission.ErrNotReady while nobody knows.
	Standing(org uuid.UUID, scope admission.Scope, id uuid.UUID, at time.Time) (admission.Standing, error)
	OrgRates(org uuid.UUID, at time.Time) (inForce, set admission.Rates)
}

type budgetRequest struct {
	BudgetLimit *price `json:"budget_limit" format:"price" nullable:"true" doc:"Of a calendar month in the organisation's time zone; null takes the budget away."`
	Reason      string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type budgetResponse struct {
	OrgID        uuid.UUID `json:"org_id"`
	Scope        string    `json:"scope" enum:"org,team,key" doc:"Whose budget it is."`
	ID           uuid.UUID `json:"id" doc:"Of the organisation, team or key."`
	BudgetLimit  *string   `json:"budget_limit" format:"decimal" doc:"Of a month; null means none."`
	Spent        string    `json:"spent" format:"decimal" doc:"In this month, exact."`
	FrozenAmount string    `json:"frozen_amount" format:"decimal" doc:"Reserved for requests in flight in this process."`
	Currency     string    `json:"currency" doc:"ISO 4217."`
	PeriodStart  string    `json:"period_start" format:"date"`
	PeriodEnd    string    `json:"period_end" format:"date" doc:"The last day of the month."`
}

type orgLimitsRequest struct {
	RPMLimit *uint64 `json:"rpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Requests a minute of the whole organisation; null means no limit besides its plan's."`
	TPMLimit *uint64 `json:"tpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Tokens a minute of the whole organisation; null means no limit besides its plan's."`
	Reason   string  `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type orgLimitsResponse struct {
	OrgID             uuid.UUID `json:"org_id"`
	RPMLimit          *uint64   `json:"rpm_limit" doc:"Null means none was set."`
	TPMLimit          *uint64   `json:"tpm_limit" doc:"Null means none was set."`
	EffectiveRPMLimit *uint64   `json:"effective_rpm_limit" doc:"The lower of this limit and the plan's; null means no limit."`
	EffectiveTPMLimit *uint64   `json:"effective_tpm_limit" doc:"The lower of this limit and the plan's; null means no limit."`
}

type creditLimitRequest struct {
	CreditLimit price  `json:"credit_limit" format:"price" doc:"How far below zero the balance may go. The first one opens the balance: usage from then on is held against it."`
	Reason      string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type creditLimitResponse struct {
	OrgID        uuid.UUID `json:"org_id"`
	CreditLimit  *string   `json:"credit_limit" format:"decimal" doc:"Null while there is no balance: then usage is not held against one."`
	Balance      *string   `json:"balance" format:"decimal" doc:"Paid in, less what was used since the balance was opened; negative: owed."`
	FrozenAmount string    `json:"frozen_amount" format:"decimal" doc:"Reserved for requests in flight in this process."`
	Currency     string    `json:"currency" doc:"ISO 4217."`
}

// byLimiter is byCaller for what admission keeps.
func (s *Server) byLimiter(caller keys.Key, reason string) admission.By {
	by := s.byCaller(caller, reason)
	return admission.By{Actor: by.Actor, Reason: by.Reason, At: by.At}
}

// budgetOf is whose budget a request is about. It returns a not-found error for a
// team or key that is not the org's.
func (s *Server) budgetOf(r *http.Request, scope admission.Scope) (org billing.Org, id uuid.UUID, err error) {
	org, err = s.orgOf(r)
	if err != nil {
		return org, id, err
	}
	switch scope {
	case admission.ScopeTeam:
		if id, err = pathID(r, "team_id"); err == nil {
			err = s.ownTeam(org.ID, id)
		}
	case admission.ScopeKey:
		if id, err = pathID(r, "key_id"); err == nil {
			_, err = s.config.Keys.Lookup(org.ID, id)
		}
	default:
		id = org.ID
	}
	return org, id, err
}

// orgOf is the org in the path of an operator's route.
func (s *Server) orgOf(r *http.Request) (billing.Org, error) {
	id, err := pathID(r, "org_id")
	if err != nil {
		return billing.Org{}, err
	}
	return s.config.Orgs.Org(id)
}

// setBudget serves PUT …/budget of an org, team or key.
func (s *Server) setBudget(scope admission.Scope) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
		org, id, err := s.budgetOf(r, scope)
		if err != nil {
			return err
		}
		var req budgetRequest
		if _, err := s.readCommand(w, r, caller, &req); err != nil {
			return err
		}
		d := admission.BudgetSet{OrgID: org.ID, Scope: scope, ID: id}
		if req.BudgetLimit != nil {
			amount := req.BudgetLimit.decimal()
			d.Amount = &amount
		}
		if err := s.config.Budgets.SetBudget(r.Context(), d, s.byLimiter(caller, req.Reason)); err != nil {
			return err
		}
		return s.answerBudget(w, org, scope, id)
	}
}

// getBudget serves GET …/budget of an org, team or key.
func (s *Server) getBudget(scope admission.Scope) authorised {
	return func(w http.ResponseWriter, r *http.Request, _ keys.Key) error {
		org, id, err := s.budgetOf(r, scope)
		if err != nil {
			return err
		}
		return s.answerBudget(w, org, scope, id)
	}
}

func (s *Server) answerBudget(w http.ResponseWriter, org billing.Org, scope admission.Scope, id uuid.UUID) error {
	zone, err := s.config.Orgs.Zone(org.ID)
	if err != nil {
		return err
	}
	now := s.config.Now()
	at, err := s.config.Standings.Standing(org.ID, scope, id, now)
	if err != nil {
		return limitsUnavailable(err)
	}
	period := ledger.PeriodOf(now, zone)
	answer := budgetResponse{OrgID: org.ID, Scope: string(scope), ID: id, Spent: at.Spent.String(), FrozenAmount: at.Held.String(),
		Currency: org.Currency, PeriodStart: period.FirstDay().String(), PeriodEnd: period.LastDay().String()}
	if at.Limited {
		limit := at.Limit.String()
		answer.BudgetLimit = &limit
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// limitsUnavailable is a 503 while what has been spent is not known yet.
func limitsUnavailable(err error) error {
	if errors.Is(err, admission.ErrNotReady) {
		return &apiError{status: http.StatusServiceUnavailable, detail: "what has been spent is not known yet", retryAfter: 1, cause: err}
	}
	return err
}

// setOrgLimits serves PUT /admin/v1/orgs/{org_id}/limits.
func (s *Server) setOrgLimits(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	org, err := s.orgOf(r)
	if err != nil {
		return err
	}
	var req orgLimitsRequest
	if _, err := s.readCommand(w, r, caller, &req); err != nil {
		return err
	}
	var rates admission.Rates
	if req.RPMLimit != nil {
		rates.RPM = *req.RPMLimit
	}
	if req.TPMLimit != nil {
		rates.TPM = *req.TPMLimit
	}
	if err := s.config.Budgets.SetLimits(r.Context(), org.ID, rates, s.byLimiter(caller, req.Reason)); err != nil {
		return err
	}
	return s.answerOrgLimits(w, org)
}

// getOrgLimits serves GET /admin/v1/orgs/{org_id}/limits.
func (s *Server) getOrgLimits(w http.ResponseWriter, r *http.Request, _ keys.Key) error {
	org, err := s.orgOf(r)
	if err != nil {
		return err
	}
	return s.answerOrgLimits(w, org)
}

func (s *Server) answerOrgLimits(w http.ResponseWriter, org billing.Org) error {
	inForce, set := s.config.Standings.OrgRates(org.ID, s.config.Now())
	writeJSON(w, http.StatusOK, orgLimitsResponse{OrgID: org.ID, RPMLimit: limitOrNull(set.RPM), TPMLimit: limitOrNull(set.TPM),
		EffectiveRPMLimit: limitOrNull(inForce.RPM), EffectiveTPMLimit: limitOrNull(inForce.TPM)})
	return nil
}

// setCreditLimit serves PUT /admin/v1/orgs/{org_id}/credit-limit.
func (s *Server) setCreditLimit(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	org, err := s.orgOf(r)
	if err != nil {
		return err
	}
	var req creditLimitRequest
	if _, err := s.readCommand(w, r, caller, &req); err != nil {
		return err
	}
	if err := s.config.Budgets.SetCreditLimit(r.Context(), org.ID, req.CreditLimit.decimal(), s.byLimiter(caller, req.Reason)); err != nil {
		return err
	}
	return s.answerCreditLimit(w, org)
}

// getCreditLimit serves GET /admin/v1/orgs/{org_id}/credit-limit.
func (s *Server) getCreditLimit(w http.ResponseWriter, r *http.Request, _ keys.Key) error {
	org, err := s.orgOf(r)
	if err != nil {
		return err
	}
	return s.answerCreditLimit(w, org)
}

func (s *Server) answerCreditLimit(w http.ResponseWriter, org billing.Org) error {
	at, err := s.config.Standings.Standing(org.ID, admission.ScopeBalance, org.ID, s.config.Now())
	if err != nil {
		return limitsUnavailable(err)
	}
	answer := creditLimitResponse{OrgID: org.ID, FrozenAmount: at.Held.String(), Currency: org.Currency}
	if at.Limited {
		limit, balance := at.Limit.Sub(at.Credit).String(), at.Credit.Sub(at.Spent).String()
		answer.CreditLimit, answer.Balance = &limit, &balance
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// budgetRoutes set and show what orgs, teams and keys may use.
func (s *Server) budgetRoutes() []route {
	if s.config.Budgets == nil {
		return nil
	}
	conflict := []refusal{{status: http.StatusConflict, doc: "The Idempotency-Key was used for another request."}}
	var routes []route
	add := func(path, what, title string, get, set authorised, in body, out any) {
		routes = append(routes,
			route{method: http.MethodGet, path: path, id: "get" + what, summary: "Get " + title, serve: get, answer: success{of: out}},
			route{method: http.MethodPut, path: path, id: "set" + what, summary: "Set " + title, serve: set, params: []param{idempotencyKey},
				doc:  "In force in every process within a second. The same again changes nothing.",
				body: in, answer: success{of: out}, refusals: conflict})
	}
	const org = "/admin/v1/orgs/{org_id}"
	for _, b := range []struct {
		path, what, title string
		scope             admission.Scope
	}{
		{org + "/budget", "OrgBudget", "Budget of an Organisation", admission.ScopeOrg},
		{org + "/teams/{team_id}/budget", "TeamBudget", "Budget of a Team", admission.ScopeTeam},
		{org + "/keys/{key_id}/budget", "KeyBudget", "Budget of a Key", admission.ScopeKey},
	} {
		add(b.path, b.what, b.title, s.getBudget(b.scope), s.setBudget(b.scope), body{of: budgetRequest{}, example: `{"budget_limit":"1000.00"}`}, budgetResponse{})
	}
	add(org+"/limits", "OrgLimits", "Rate Limits of an Organisation", s.getOrgLimits, s.setOrgLimits,
		body{of: orgLimitsRequest{}, example: `{"rpm_limit":600,"tpm_limit":200000}`}, orgLimitsResponse{})
	add(org+"/credit-limit", "CreditLimit", "Credit Limit", s.getCreditLimit, s.setCreditLimit,
		body{of: creditLimitRequest{}, example: `{"credit_limit":"500.00"}`}, creditLimitResponse{})
	for i := range routes {
		routes[i].tag, routes[i].scope = tagOperators, keys.ScopeAdmin
	}
	return routes
}
