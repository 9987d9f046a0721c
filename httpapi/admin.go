package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"aione/billing"
	"aione/catalog"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Tenants creates orgs and teams: billing.Commands.
type Tenants interface {
	CreateOrg(ctx context.Context, org billing.Org, by billing.By) (billing.Org, error)
	CreateTeam(ctx context.Context, team billing.Team, by billing.By) (billing.Team, error)
}

// PriceList publishes prices: catalog.Catalog.
type PriceList interface {
	PublishPrice(ctx context.Context, log catalog.Appender, pub catalog.Publication, by catalog.By) (catalog.Price, error)
}

// InvoiceRun closes the periods that are due: billing.Invoicer.
type InvoiceRun interface {
	RunDueBy(ctx context.Context, asOf time.Time, actor string) (billing.Report, error)
}

type orgRequest struct {
	Name        string `json:"name" minLength:"1" maxLength:"256"`
	Timezone    string `json:"timezone,omitempty" maxLength:"64" doc:"IANA; its calendar months are the billing periods." default:"Asia/Shanghai"`
	Currency    string `json:"currency,omitempty" pattern:"^[A-Z]{3}$" doc:"ISO 4217, of all its invoices." default:"CNY"`
	LegalEntity string `json:"legal_entity,omitempty" pattern:"^[A-Z0-9]{1,16}$" doc:"Who invoices it." default:"AIONE"`
	Reason      string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type orgResponse struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	Timezone    string    `json:"timezone"`
	Currency    string    `json:"currency"`
	LegalEntity string    `json:"legal_entity"`
	CreatedAt   string    `json:"created_at" format:"date-time"`
}

type teamRequest struct {
	Name   string `json:"name" minLength:"1" maxLength:"256"`
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type teamResponse struct {
	ID        uuid.UUID `json:"id"`
	OrgID     uuid.UUID `json:"org_id"`
	Name      string    `json:"name"`
	CreatedAt string    `json:"created_at" format:"date-time"`
}

// byCaller says who commands, and why.
func (s *Server) byCaller(caller *keys.Key, reason string) billing.By {
	return billing.By{Actor: actorOf(caller), Reason: reason, At: s.config.Now()}
}

// createOrg serves POST /admin/v1/orgs. The id follows from the idempotency key,
// so the ledger itself keeps the same request from making a second org.
func (s *Server) createOrg(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	var req orgRequest
	again, err := s.readCommand(w, r, caller, &req)
	if err != nil {
		return err
	}
	if err := checkOrg(req); err != nil {
		return err
	}
	org, err := s.config.Tenants.CreateOrg(r.Context(), billing.Org{
		ID: again.id("org"), Name: req.Name, Timezone: req.Timezone, Currency: req.Currency, LegalEntity: req.LegalEntity,
	}, s.byCaller(caller, req.Reason))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, newOrgResponse(org))
	return nil
}

// checkOrg checks what a schema cannot.
func checkOrg(req orgRequest) error {
	problems := checkName(req.Name)
	if req.Timezone != "" {
		if _, err := time.LoadLocation(req.Timezone); err != nil || req.Timezone == "Local" {
			problems = append(problems, problem{Loc: []any{"body", "timezone"}, Msg: "the value is not an IANA time zone", Type: "timezone"})
		}
	}
	if _, ok := ledger.MinorUnits(req.Currency); req.Currency != "" && !ok {
		problems = append(problems, problem{Loc: []any{"body", "currency"}, Msg: "the value is no ISO 4217 currency in use", Type: "currency"})
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

func checkName(name string) validationErrors {
	if strings.TrimSpace(name) != name || len(name) > nameBytesMax {
		return invalid("value_error", "the name has blanks around it or more than 256 bytes", "body", "name")
	}
	return nil
}

const nameBytesMax = 256

// createTeam serves POST /admin/v1/orgs/{org_id}/teams.
func (s *Server) createTeam(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	org, err := pathID(r, "org_id")
	if err != nil {
		return err
	}
	var req teamRequest
	again, err := s.readCommand(w, r, caller, &req)
	if err != nil {
		return err
	}
	if problems := checkName(req.Name); problems != nil {
		return problems
	}
	team, err := s.config.Tenants.CreateTeam(r.Context(), billing.Team{ID: again.id("team"), OrgID: org, Name: req.Name}, s.byCaller(caller, req.Reason))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, newTeamResponse(team))
	return nil
}

// priceRequest is a price version to publish. What is not named costs nothing.
type priceRequest struct {
	Model         string    `json:"model" minLength:"1" maxLength:"512" doc:"Standard id."`
	EffectiveFrom time.Time `json:"effective_from" doc:"Not past, and later than that of the version before."`
	Currency      string    `json:"currency" pattern:"^[A-Z]{3}$"`
	Input         price     `json:"input" format:"price" doc:"Per 1,000,000 tokens, as are the others."`
	CacheRead     price     `json:"cache_read,omitempty" format:"price"`
	CacheWrite5m  price     `json:"cache_write_5m,omitempty" format:"price"`
	CacheWrite1h  price     `json:"cache_write_1h,omitempty" format:"price"`
	Output        price     `json:"output" format:"price"`
	Reasoning     price     `json:"reasoning,omitempty" format:"price"`
	Image         price     `json:"image,omitempty" format:"price" doc:"Per image."`
	Request       price     `json:"request,omitempty" format:"price" doc:"Per request."`
	Reason        string    `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

// price is a decimal that its pattern has checked.
type price string

func (p price) decimal() decimal.Decimal {
	if p == "" {
		return decimal.Zero
	}
	return decimal.RequireFromString(string(p))
}

type priceResponse struct {
	Version       string `json:"version"`
	Model         string `json:"model"`
	EffectiveFrom string `json:"effective_from" format:"date-time"`
	Currency      string `json:"currency"`
	Input         string `json:"input" format:"decimal"`
	CacheRead     string `json:"cache_read" format:"decimal"`
	CacheWrite5m  string `json:"cache_write_5m" format:"decimal"`
	CacheWrite1h  string `json:"cache_write_1h" format:"decimal"`
	Output        string `json:"output" format:"decimal"`
	Reasoning     string `json:"reasoning" format:"decimal"`
	Image         string `json:"image" format:"decimal"`
	Request       string `json:"request" format:"decimal"`
}

func newPriceResponse(p catalog.Price) priceResponse {
	return priceResponse{
		Version: p.Version, Model: p.Model, EffectiveFrom: instant(p.EffectiveFrom), Currency: p.Currency,
		Input: p.Input.String(), CacheRead: p.CacheRead.String(), CacheWrite5m: p.CacheWrite5m.String(), CacheWrite1h: p.CacheWrite1h.String(),
		Output: p.Output.String(), Reasoning: p.Reasoning.String(), Image: p.Image.String(), Request: p.Request.String(),
	}
}

// publishPrice serves POST /admin/v1/prices. A version is known by its model and
// start: the same again is the version that there is.
func (s *Server) publishPrice(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	var req priceRequest
	if _, err := s.readCommand(w, r, caller, &req); err != nil {
		return err
	}
	want := catalog.Price{
		Model: req.Model, EffectiveFrom: req.EffectiveFrom.UTC(), Currency: req.Currency,
		Input: req.Input.decimal(), CacheRead: req.CacheRead.decimal(), CacheWrite5m: req.CacheWrite5m.decimal(), CacheWrite1h: req.CacheWrite1h.decimal(),
		Output: req.Output.decimal(), Reasoning: req.Reasoning.decimal(), Image: req.Image.decimal(), Request: req.Request.decimal(),
	}
	for _, old := range s.config.Catalog.Prices(want.Model) {
		same := newPriceResponse(want)
		same.Version = old.Version
		if old.EffectiveFrom.Equal(want.EffectiveFrom) && newPriceResponse(old) == same {
			writeJSON(w, http.StatusCreated, newPriceResponse(old))
			return nil
		}
	}
	by := s.byCaller(caller, req.Reason)
	p, err := s.config.PriceList.PublishPrice(r.Context(), s.config.Ledger, catalog.Publication{Price: want}, catalog.By{Actor: by.Actor, Reason: by.Reason, At: by.At})
	switch {
	case errors.Is(err, catalog.ErrUnknownModel):
		return invalid("model_unknown", "there is no such model", "body", "model")
	case errors.Is(err, catalog.ErrRepricesHistory):
		return invalid("value_error", "the price must start now or later, and after the version before", "body", "effective_from")
	case errors.Is(err, catalog.ErrInvalidPrice):
		return invalid("value_error", "the price breaks a rule: one currency for a model, whole milliseconds", "body")
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusCreated, newPriceResponse(p))
	return nil
}

var asOf = param{kind: instantParam, name: "as_of", doc: "Periods that are due at this moment are closed. Default: now."}

type invoiceRunResponse struct {
	Issued  []invoiceSummary `json:"issued" doc:"By this run, in order; of very many the first."`
	Count   int              `json:"issued_count" minimum:"0" doc:"How many there are."`
	Empty   int              `json:"empty_periods" minimum:"0" doc:"Closed with nothing to bill."`
	Failed  int              `json:"failed_orgs" minimum:"0" doc:"Could not be brought up to date; run it again."`
	TooLate uint64           `json:"too_late_events" doc:"Late usage that is too old to be billed."`
}

// runInvoices serves POST /admin/v1/invoices/run. A run closes each period once,
// however often it is asked for.
func (s *Server) runInvoices(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	p := queryOf(r)
	at, ok := p.instant(asOf)
	key := p.idempotencyKey(r)
	if err := p.err(); err != nil {
		return err
	}
	now := s.config.Now()
	if !ok {
		at = now
	}
	if err := s.claims.claim(claimOf(r, caller, key), fingerprint(r, nil)); err != nil {
		return err
	}
	if at.After(now) {
		return invalid("datetime_range", "the moment has not come yet", "query", asOf.name)
	}
	report, err := s.config.InvoiceRun.RunDueBy(r.Context(), at, actorOf(caller))
	if err != nil && report.Failed == 0 {
		return err
	}
	if err != nil {
		s.logger.Error("invoice run is incomplete", "request_id", w.Header().Get(requestIDHeader), "failed_orgs", report.Failed, "error", err)
	}
	answer := invoiceRunResponse{Issued: []invoiceSummary{}, Count: report.Invoices, Empty: report.Empty, Failed: report.Failed, TooLate: report.TooLate}
	for i := range report.Issued {
		_, status, err := s.standingOf(&report.Issued[i])
		if err != nil {
			return err
		}
		answer.Issued = append(answer.Issued, newInvoiceSummary(&report.Issued[i], status))
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) adminRoutes() []route {
	routes := s.adminReadRoutes()
	add := func(at route) {
		at.tag, at.scope, at.params = tagOperators, keys.ScopeAdmin, append(at.params, idempotencyKey)
		at.refusals = []refusal{{status: http.StatusConflict, doc: "The Idempotency-Key was used for another request, or somebody else was first."}}
		routes = append(routes, at)
	}
	if s.config.Tenants != nil {
		add(route{
			method: http.MethodPost, path: "/admin/v1/orgs", id: "createOrg", summary: "Create Organisation", serve: s.createOrg,
			body: body{of: orgRequest{}, example: `{"name":"acme"}`}, answer: success{status: http.StatusCreated, of: orgResponse{}},
		})
		add(route{
			method: http.MethodPost, path: "/admin/v1/orgs/{org_id}/teams", id: "createTeam", summary: "Create Team", serve: s.createTeam,
			body: body{of: teamRequest{}, example: `{"name":"research"}`}, answer: success{status: http.StatusCreated, of: teamResponse{}},
		})
	}
	if s.config.PriceList != nil {
		add(route{
			method: http.MethodPost, path: "/admin/v1/prices", id: "publishPrice", summary: "Publish Price", serve: s.publishPrice,
			doc:    "The next price version of a model. History is never repriced.",
			body:   body{of: priceRequest{}, example: `{"model":"gpt-4o","effective_from":"2027-01-01T00:00:00Z","currency":"CNY","input":"18","output":"72"}`},
			answer: success{status: http.StatusCreated, of: priceResponse{}},
		})
	}
	if s.config.InvoiceRun != nil {
		add(route{
			method: http.MethodPost, path: "/admin/v1/invoices/run", id: "runInvoices", summary: "Run Invoices", serve: s.runInvoices,
			doc:    "Closes every period that is due, each once. What could not be closed is counted in failed_orgs.",
			params: []param{asOf}, answer: success{of: invoiceRunResponse{}},
		})
	}
	return routes
}

// deriveID is the id of what an idempotent request makes.
func deriveID(kind string, parts ...string) uuid.UUID {
	raw := make([][]byte, len(parts))
	for i, p := range parts {
		raw[i] = []byte(p)
	}
	return events.DeriveID(kind, raw...)
}
