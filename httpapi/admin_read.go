package httpapi

import (
	"context"
	"net/http"
	"slices"

	"aione/billing"
	"aione/keys"

	"github.com/google/uuid"
)

// Assigner gives orgs their plans: billing.Commands.
type Assigner interface {
	// AssignPlan returns billing.ErrInvalid for a plan that breaks a rule.
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
func (s *Server) listOrgs(w http.ResponseWriter, r *http.Request, _ *keys.Key) error {
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
func (s *Server) listTeams(w http.ResponseWriter, r *http.Request, _ *keys.Key) error {
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
func (s *Server) listPrices(w http.ResponseWriter, r *http.Request, _ *keys.Key) error {
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
	for i := range routes {
		routes[i].tag, routes[i].scope = tagOperators, keys.ScopeAdmin
	}
	return routes
}
