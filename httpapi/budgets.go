package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
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

// byLimiter is byCaller for what admission keeps; the request says why.
func (s *Server) byLimiter(caller *keys.Key) admission.By {
	by := s.byCaller(caller, "")
	return admission.By{Actor: by.Actor, At: by.At}
}

// account is what a budget is of.
type account struct {
	org   billing.Org
	scope admission.Scope
	id    uuid.UUID // of the org, team or key
}

// accountOfPath is the account in the path. It returns a not-found error for a team
// or key that is not the org's.
func (s *Server) accountOfPath(scope admission.Scope) func(*http.Request, *keys.Key) (account, error) {
	return func(r *http.Request, caller *keys.Key) (account, error) {
		org, err := s.orgOfPath(r, caller)
		if err != nil {
			return account{}, err
		}
		a := account{org, scope, org.ID}
		switch scope {
		case admission.ScopeTeam:
			if a.id, err = pathID(r, "team_id"); err == nil {
				err = s.ownTeam(org.ID, a.id)
			}
		case admission.ScopeKey:
			if a.id, err = pathID(r, "key_id"); err == nil {
				_, err = s.config.Keys.Lookup(org.ID, a.id)
			}
		}
		return a, err
	}
}

// setBudget serves PUT …/budget of an org, team or key.
func (s *Server) setBudget(ctx context.Context, a account, req *budgetRequest, by admission.By) error {
	by.Reason = req.Reason
	d := admission.BudgetSet{OrgID: a.org.ID, Scope: a.scope, ID: a.id}
	if req.BudgetLimit != nil {
		amount := req.BudgetLimit.decimal()
		d.Amount = &amount
	}
	return s.config.Budgets.SetBudget(ctx, d, by)
}

func (s *Server) budget(a account) (answer budgetResponse, err error) {
	zone, err := s.config.Orgs.Zone(a.org.ID)
	if err != nil {
		return answer, err
	}
	now := s.config.Now()
	at, err := s.config.Standings.Standing(a.org.ID, a.scope, a.id, now)
	if err != nil {
		return answer, limitsUnavailable(err)
	}
	period := ledger.PeriodOf(now, zone)
	answer = budgetResponse{OrgID: a.org.ID, Scope: string(a.scope), ID: a.id, Spent: at.Spent.String(), FrozenAmount: at.Held.String(),
		Currency: a.org.Currency, PeriodStart: period.FirstDay().String(), PeriodEnd: period.LastDay().String()}
	if at.Limited {
		limit := at.Limit.String()
		answer.BudgetLimit = &limit
	}
	return answer, nil
}

// limitsUnavailable is a 503 while what has been spent is not known yet.
func limitsUnavailable(err error) error {
	if errors.Is(err, admission.ErrNotReady) {
		return &apiError{status: http.StatusServiceUnavailable, detail: "what has been spent is not known yet", retryAfter: 1, cause: err}
	}
	return err
}

// setOrgLimits serves PUT /admin/v1/orgs/{org_id}/limits.
func (s *Server) setOrgLimits(ctx context.Context, org billing.Org, req *orgLimitsRequest, by admission.By) error {
	var rates admission.Rates
	if req.RPMLimit != nil {
		rates.RPM = *req.RPMLimit
	}
	if req.TPMLimit != nil {
		rates.TPM = *req.TPMLimit
	}
	by.Reason = req.Reason
	return s.config.Budgets.SetLimits(ctx, org.ID, rates, by)
}

func (s *Server) orgLimits(org billing.Org) (orgLimitsResponse, error) {
	inForce, set := s.config.Standings.OrgRates(org.ID, s.config.Now())
	return orgLimitsResponse{OrgID: org.ID, RPMLimit: limitOrNull(set.RPM), TPMLimit: limitOrNull(set.TPM),
		EffectiveRPMLimit: limitOrNull(inForce.RPM), EffectiveTPMLimit: limitOrNull(inForce.TPM)}, nil
}

// setCreditLimit serves PUT /admin/v1/orgs/{org_id}/credit-limit.
func (s *Server) setCreditLimit(ctx context.Context, org billing.Org, req *creditLimitRequest, by admission.By) error {
	by.Reason = req.Reason
	return s.config.Budgets.SetCreditLimit(ctx, org.ID, req.CreditLimit.decimal(), by)
}

func (s *Server) creditLimit(org billing.Org) (answer creditLimitResponse, err error) {
	at, err := s.config.Standings.Standing(org.ID, admission.ScopeBalance, org.ID, s.config.Now())
	if err != nil {
		return answer, limitsUnavailable(err)
	}
	answer = creditLimitResponse{OrgID: org.ID, FrozenAmount: at.Held.String(), Currency: org.Currency}
	if at.Limited {
		limit, balance := at.Limit.Sub(at.Credit).String(), at.Credit.Sub(at.Spent).String()
		answer.CreditLimit, answer.Balance = &limit, &balance
	}
	return answer, nil
}

// shownAndSet makes the two routes of something that operators look at and set: PUT
// answers as GET does.
func shownAndSet[About, Req, Answer any](
	s *Server, path, what, title, example string,
	about func(*http.Request, *keys.Key) (About, error),
	set func(context.Context, About, *Req, admission.By) error,
	show func(About) (Answer, error),
) []route {
	var req Req
	var answer Answer
	at := route{path: path, tag: tagOperators, scope: keys.ScopeAdmin, answer: success{of: answer}}
	get, put := at, at
	get.method, get.id, get.summary = http.MethodGet, "get"+what, "Get "+title
	put.method, put.id, put.summary = http.MethodPut, "set"+what, "Set "+title
	put.doc = "In force in every process within a second. The same again changes nothing."
	put.params, put.body = []param{idempotencyKey}, body{of: req, example: example}
	put.refusals = []refusal{{status: http.StatusConflict, doc: "The Idempotency-Key was used for another request."}}
	shown := func(w http.ResponseWriter, of About) error {
		answer, err := show(of)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, answer)
		return nil
	}
	get.serve = func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		of, err := about(r, caller)
		if err != nil {
			return err
		}
		return shown(w, of)
	}
	put.serve = func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		of, err := about(r, caller)
		if err != nil {
			return err
		}
		var req Req
		if _, err := s.readCommand(w, r, caller, &req); err != nil {
			return err
		}
		if err := set(r.Context(), of, &req, s.byLimiter(caller)); err != nil {
			return err
		}
		return shown(w, of)
	}
	return []route{get, put}
}

// budgetRoutes set and show what orgs, teams and keys may use.
func (s *Server) budgetRoutes() []route {
	if s.config.Budgets == nil {
		return nil
	}
	const org = "/admin/v1/orgs/{org_id}"
	var routes []route
	for _, b := range []struct {
		path, what, title string
		scope             admission.Scope
	}{
		{org + "/budget", "OrgBudget", "Budget of an Organisation", admission.ScopeOrg},
		{org + "/teams/{team_id}/budget", "TeamBudget", "Budget of a Team", admission.ScopeTeam},
		{org + "/keys/{key_id}/budget", "KeyBudget", "Budget of a Key", admission.ScopeKey},
	} {
		routes = append(routes, shownAndSet(s, b.path, b.what, b.title, `{"budget_limit":"1000.00"}`,
			s.accountOfPath(b.scope), s.setBudget, s.budget)...)
	}
	return slices.Concat(routes,
		shownAndSet(s, org+"/limits", "OrgLimits", "Rate Limits of an Organisation", `{"rpm_limit":600,"tpm_limit":200000}`,
			s.orgOfPath, s.setOrgLimits, s.orgLimits),
		shownAndSet(s, org+"/credit-limit", "CreditLimit", "Credit Limit", `{"credit_limit":"500.00"}`,
			s.orgOfPath, s.setCreditLimit, s.creditLimit))
}
