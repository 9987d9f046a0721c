package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"aione/billing"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// Assigner gives orgs their plans: billing.Commands.
type Assigner interface {
	// AssignPlan returns billing.ErrInvalid for a plan that breaks a rule, and
	// billing.ErrNotEnforced too for one that promises what nothing carries out.
	AssignPlan(ctx context.Context, orgID uuid.UUID, plan billing.Plan, by billing.By) (billing.Outcome[billing.Plan], error)
}

func newOrgResponse(org billing.Org) orgResponse {
	return orgResponse{
		ID: org.ID, Name: org.Name, Timezone: org.Timezone, Currency: org.Currency, LegalEntity: org.LegalEntity, CreatedAt: instant(org.CreatedAt),
	}
}

func newTeamResponse(team billing.Team) teamResponse {
	return teamResponse{ID: team.ID, OrgID: team.OrgID, Name: team.Name, CreatedAt: instant(team.CreatedAt)}
}

var adminPageSize = pageSize(bounds{def: 100, min: 1, max: 1000})

// pageOf cuts a page out of a list.
func pageOf[T any](p page, all []T) []T {
	from := min(p.offset(), len(all))
	return all[from:min(from+p.size, len(all))]
}

// listOrgs serves GET /admin/v1/orgs, oldest first.
func (s *Server) listOrgs(w http.ResponseWriter, r *http.Request, _ keys.Key) error {
	p := queryOf(r)
	page := p.page(adminPageSize)
	if err := p.err(); err != nil {
		return err
	}
	all := s.config.Orgs.Orgs()
	list := []orgResponse{}
	for _, org := range pageOf(page, all) {
		list = append(list, newOrgResponse(org))
	}
	page.announce(w, r, len(all))
	writeJSON(w, http.StatusOK, list)
	return nil
}

// listTeams serves GET /admin/v1/orgs/{org_id}/teams, oldest first.
func (s *Server) listTeams(w http.ResponseWriter, r *http.Request, _ keys.Key) error {
	org, err := pathID(r, "org_id")
	if err != nil {
		return err
	}
	p := queryOf(r)
	page := p.page(adminPageSize)
	if err := p.err(); err != nil {
		return err
	}
	all, err := s.config.Orgs.Teams(org)
	if err != nil {
		return err
	}
	list := []teamResponse{}
	for _, team := range pageOf(page, all) {
		list = append(list, newTeamResponse(team))
	}
	page.announce(w, r, len(all))
	writeJSON(w, http.StatusOK, list)
	return nil
}

var priceModel = param{kind: textParam, name: "model", doc: "Only versions of this model, by its standard id. Default: of all."}

// listPrices serves GET /admin/v1/prices: every version, of a model the oldest first.
func (s *Server) listPrices(w http.ResponseWriter, r *http.Request, _ keys.Key) error {
	p := queryOf(r)
	model, page := p.text(priceModel), p.page(adminPageSize)
	if err := p.err(); err != nil {
		return err
	}
	ids := []string{model}
	if model == "" {
		ids = ids[:0]
		for _, m := range s.config.Catalog.ModelsAt(s.config.Now()) {
			ids = append(ids, m.ID)
		}
	}
	all := []priceResponse{}
	for _, id := range ids {
		for _, version := range s.config.Catalog.Prices(id) {
			all = append(all, newPriceResponse(version))
		}
	}
	page.announce(w, r, len(all))
	writeJSON(w, http.StatusOK, append([]priceResponse{}, pageOf(page, all)...))
	return nil
}

// planRequest is a plan for an org. What nothing carries out is refused.
type planRequest struct {
	Code           string     `json:"code" pattern:"^[a-z0-9][a-z0-9-]{0,63}$"`
	Name           string     `json:"name" minLength:"1" maxLength:"256"`
	MonthlyFee     price      `json:"monthly_fee,omitempty" format:"price" default:"0"`
	IncludedTokens uint64     `json:"included_tokens,omitempty" minimum:"0" maximum:"1000000000000000" doc:"A month."`
	RPMLimit       *uint64    `json:"rpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Requests a minute of the whole organisation."`
	TPMLimit       *uint64    `json:"tpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Tokens a minute of the whole organisation."`
	ModelsAllowed  []string   `json:"models_allowed,omitempty" nullable:"true" maxItems:"256" doc:"Ids or aliases; empty means every model."`
	OveragePolicy  string     `json:"overage_policy,omitempty" enum:"bill,block" default:"bill"`
	DiscountPct    price      `json:"discount_pct,omitempty" format:"price" default:"0"`
	EffectiveFrom  *time.Time `json:"effective_from,omitempty" nullable:"true" doc:"Not past, and later than that of the plan before. Default: now."`
}

// assignPlan serves PUT /admin/v1/orgs/{org_id}/plan.
func (s *Server) assignPlan(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	org, err := pathID(r, "org_id")
	if err != nil {
		return err
	}
	var req planRequest
	if _, err := s.readCommand(w, r, caller, &req); err != nil {
		return err
	}
	if problems := checkName(req.Name); problems != nil {
		return problems
	}
	fee, err := ledger.NewAmount(req.MonthlyFee.decimal())
	if err != nil {
		return invalid("value_error", "the fee is too large", "body", "monthly_fee")
	}
	plan := billing.Plan{
		Code: req.Code, Name: req.Name, Terms: ledger.Terms{MonthlyFee: fee, IncludedTokens: req.IncludedTokens,
			OveragePolicy: billing.OveragePolicy(req.OveragePolicy), DiscountPct: req.DiscountPct.decimal()},
	}
	if req.RPMLimit != nil {
		plan.RPMLimit = *req.RPMLimit
	}
	if req.TPMLimit != nil {
		plan.TPMLimit = *req.TPMLimit
	}
	if req.EffectiveFrom != nil {
		plan.EffectiveFrom = req.EffectiveFrom.UTC()
	}
	if plan.ModelsAllowed, err = s.standardModels(req.ModelsAllowed); err != nil {
		return err
	}
	assigned, err := s.config.Assigner.AssignPlan(r.Context(), org, plan, s.byCaller(caller))
	switch {
	case errors.Is(err, billing.ErrNotEnforced):
		return invalid("not_enforced", "blocking past the included usage cannot be enforced, so no plan may have it", "body", "overage_policy")
	case errors.Is(err, billing.ErrInvalid):
		return invalid("value_error", "the plan must start now or later, at a whole millisecond, and after the plan before", "body", "effective_from")
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusOK, newPlanDetail(assigned.Result))
	return nil
}

// adminReadRoutes are what operators look at, and the plan.
func (s *Server) adminReadRoutes() []route {
	paged := []param{pageNumber, adminPageSize}
	var routes []route
	if s.config.Tenants != nil {
		routes = append(routes, route{
			method: http.MethodGet, path: "/admin/v1/orgs", id: "listOrgs", summary: "List Organisations", serve: s.listOrgs,
			params: paged, answer: success{of: []orgResponse{}, paged: true},
		}, route{
			method: http.MethodGet, path: "/admin/v1/orgs/{org_id}/teams", id: "listTeams", summary: "List Teams", serve: s.listTeams,
			params: paged, answer: success{of: []teamResponse{}, paged: true},
		})
	}
	if s.config.PriceList != nil {
		routes = append(routes, route{
			method: http.MethodGet, path: "/admin/v1/prices", id: "listPrices", summary: "List Prices", serve: s.listPrices,
			params: append(slices.Clone(paged), priceModel), answer: success{of: []priceResponse{}, paged: true},
		})
	}
	if s.config.Assigner != nil {
		routes = append(routes, route{
			method: http.MethodPut, path: "/admin/v1/orgs/{org_id}/plan", id: "assignPlan", summary: "Assign Plan", serve: s.assignPlan,
			doc:    "Gives an organisation a plan from an instant on. The same again changes nothing.",
			params: []param{idempotencyKey}, body: body{of: planRequest{}, example: `{"code":"team","name":"Team","rpm_limit":600}`},
			answer:   success{of: planDetailResponse{}},
			refusals: []refusal{{status: http.StatusConflict, doc: "The Idempotency-Key was used for another request, or somebody else was first."}},
		})
	}
	for i := range routes {
		routes[i].tag, routes[i].scope = tagOperators, keys.ScopeAdmin
	}
	return routes
}
