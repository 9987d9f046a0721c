package httpapi

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"aione/billing"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

type planDetailResponse struct {
	ID             uuid.UUID    `json:"id"`
	Name           string       `json:"name"`
	Code           string       `json:"code"`
	PlanVersion    *int         `json:"plan_version" doc:"In the catalog of plans; null for a plan that is not from there."`
	BillingCycle   string       `json:"billing_cycle" enum:"monthly"`
	MonthlyFee     string       `json:"monthly_fee" format:"decimal"`
	IncludedTokens uint64       `json:"included_tokens" doc:"A month, of tokens at list price."`
	IncludedAmount string       `json:"included_amount" format:"decimal" doc:"A month, of usage after the included tokens."`
	Charges        []planCharge `json:"charges" doc:"What is priced by tiers instead of at list price."`
	Commitment     string       `json:"commitment" format:"decimal" doc:"Usage of a month below it is billed up to it."`
	RPMLimit       *uint64      `json:"rpm_limit" doc:"Requests a minute of the whole organisation; null means no limit."`
	TPMLimit       *uint64      `json:"tpm_limit" doc:"Tokens a minute of the whole organisation; null means no limit."`
	ModelsAllowed  []string     `json:"models_allowed" doc:"Standard ids; empty means every model."`
	OveragePolicy  string       `json:"overage_policy" enum:"bill,block" doc:"bill: usage past what is included is billed; block: it is turned away."`
	DiscountPct    string       `json:"discount_pct" format:"percentage" doc:"Of usage and commitment, not of the fee."`
	DiscountAmount string       `json:"discount_amount" format:"decimal" doc:"A month, after the percentage."`
	Currency       string       `json:"currency" doc:"ISO 4217."`
	EffectiveFrom  string       `json:"effective_from" format:"date-time"`
	EffectiveTo    *string      `json:"effective_to" format:"date-time" doc:"When the next plan takes over; null while there is none."`
}

// planCharge is a charge of a plan, as it is shown.
type planCharge struct {
	Name         string     `json:"name"`
	Model        string     `json:"model" enum:"flat,graduated,volume,package"`
	Models       []string   `json:"models" doc:"Standard ids; empty covers every model."`
	Buckets      []string   `json:"buckets"`
	Tiers        []planTier `json:"tiers"`
	PackageSize  *uint64    `json:"package_size"`
	PackagePrice *string    `json:"package_price" format:"decimal"`
	FreeUnits    uint64     `json:"free_units"`
}

type planTier struct {
	UpTo      *uint64 `json:"up_to" doc:"Inclusive; null: no end."`
	UnitPrice string  `json:"unit_price" format:"decimal" doc:"Per 1,000,000 tokens, per image or request."`
	FlatFee   string  `json:"flat_fee" format:"decimal" doc:"Once, when the tier is reached."`
}

func newPlanDetail(p billing.Plan) planDetailResponse {
	d := planDetailResponse{
		ID: p.ID, Name: p.Name, Code: p.Code, PlanVersion: numberOrNull(p.Version), BillingCycle: string(p.BillingCycle),
		MonthlyFee: p.MonthlyFee.Format(p.Currency), IncludedTokens: p.IncludedTokens, IncludedAmount: p.IncludedAmount.Format(p.Currency),
		Charges: []planCharge{}, Commitment: p.Commitment.Format(p.Currency), RPMLimit: limitOrNull(p.RPMLimit), TPMLimit: limitOrNull(p.TPMLimit),
		ModelsAllowed: append([]string{}, p.ModelsAllowed...), OveragePolicy: string(p.OveragePolicy),
		DiscountPct: p.DiscountPct.StringFixed(places), DiscountAmount: p.DiscountAmount.Format(p.Currency), Currency: p.Currency,
		EffectiveFrom: instant(p.EffectiveFrom), EffectiveTo: instantOrNull(p.EffectiveTo),
	}
	for _, c := range p.Charges {
		charge := planCharge{Name: c.Name, Model: string(c.Model), Models: append([]string{}, c.Models...), Buckets: []string{}, Tiers: []planTier{},
			PackageSize: limitOrNull(c.PackageSize), FreeUnits: c.FreeUnits}
		for _, b := range c.Buckets {
			charge.Buckets = append(charge.Buckets, string(b))
		}
		for _, t := range c.Tiers {
			charge.Tiers = append(charge.Tiers, planTier{limitOrNull(t.UpTo), t.UnitPrice.String(), t.FlatFee.Format(p.Currency)})
		}
		if c.Model == ledger.ChargePackage {
			charge.PackagePrice = textOrNull(c.PackagePrice.Format(p.Currency))
		}
		d.Charges = append(d.Charges, charge)
	}
	return d
}

// plan serves GET …/plan: the plan in force now.
func (s *Server) plan(of subject) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		org, err := of(r, caller)
		if err != nil {
			return err
		}
		p, err := s.config.Plans.PlanAt(org, s.config.Now())
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, newPlanDetail(p))
		return nil
	}
}

// PlanTerms are what a plan says.
type PlanTerms struct {
	MonthlyFee     price           `json:"monthly_fee,omitempty" format:"price" default:"0" doc:"In advance."`
	IncludedTokens uint64          `json:"included_tokens,omitempty" minimum:"0" maximum:"1000000000000000" doc:"A month."`
	IncludedAmount price           `json:"included_amount,omitempty" format:"price" default:"0"`
	Charges        []chargeRequest `json:"charges,omitempty" maxItems:"100" doc:"Priced by tiers instead of at list price."`
	Commitment     price           `json:"commitment,omitempty" format:"price" default:"0"`
	RPMLimit       *uint64         `json:"rpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Requests a minute of the whole organisation."`
	TPMLimit       *uint64         `json:"tpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Tokens a minute of the whole organisation."`
	ModelsAllowed  []string        `json:"models_allowed,omitempty" nullable:"true" maxItems:"256" doc:"Ids or aliases; empty means every model."`
	OveragePolicy  string          `json:"overage_policy,omitempty" enum:"bill,block" default:"bill" doc:"block turns requests away once what is included is used up, for whole local days like all money. It needs included_tokens or included_amount, one of them, and no charges."`
	DiscountPct    price           `json:"discount_pct,omitempty" format:"price" default:"0"`
	DiscountAmount price           `json:"discount_amount,omitempty" format:"price" default:"0"`
}

type chargeRequest struct {
	Name         string        `json:"name" minLength:"1" maxLength:"64"`
	Model        string        `json:"model" enum:"flat,graduated,volume,package"`
	Models       []string      `json:"models,omitempty" maxItems:"256" doc:"Ids or aliases; empty covers every model."`
	Buckets      []string      `json:"buckets" maxItems:"8" enum:"input,cache_read,cache_write_5m,cache_write_1h,output,reasoning,images,requests" doc:"At least one, all counted alike."`
	Tiers        []tierRequest `json:"tiers,omitempty" maxItems:"100" doc:"Ascending; none of a package."`
	PackageSize  uint64        `json:"package_size,omitempty" minimum:"1" maximum:"1000000000000000"`
	PackagePrice price         `json:"package_price,omitempty" format:"price"`
	FreeUnits    uint64        `json:"free_units,omitempty" minimum:"0" maximum:"1000000000000000" doc:"Of a package: before the first."`
}

type tierRequest struct {
	UpTo      *uint64 `json:"up_to,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000000" doc:"Inclusive; null, of the last only: no end."`
	UnitPrice price   `json:"unit_price" format:"price" doc:"Per 1,000,000 tokens, per image or request."`
	FlatFee   price   `json:"flat_fee,omitempty" format:"price" doc:"Once, when the tier is reached."`
}

// planOf makes the plan that a request describes.
func (s *Server) planOf(code, name string, t *PlanTerms) (billing.Plan, error) {
	plan := billing.Plan{Code: code, Name: name, Terms: ledger.Terms{IncludedTokens: t.IncludedTokens,
		OveragePolicy: billing.OveragePolicy(t.OveragePolicy), DiscountPct: t.DiscountPct.decimal()}}
	var err error
	for _, part := range []struct {
		to   *ledger.Amount
		from price
		name string
	}{{&plan.MonthlyFee, t.MonthlyFee, "monthly_fee"}, {&plan.IncludedAmount, t.IncludedAmount, "included_amount"},
		{&plan.Commitment, t.Commitment, "commitment"}, {&plan.DiscountAmount, t.DiscountAmount, "discount_amount"}} {
		if *part.to, err = money(part.from, part.name); err != nil {
			return plan, err
		}
	}
	if t.RPMLimit != nil {
		plan.RPMLimit = *t.RPMLimit
	}
	if t.TPMLimit != nil {
		plan.TPMLimit = *t.TPMLimit
	}
	if plan.ModelsAllowed, err = s.standardModels(t.ModelsAllowed); err != nil {
		return plan, err
	}
	for i := range t.Charges {
		c, err := s.chargeOf(&t.Charges[i])
		if err != nil {
			return plan, err
		}
		plan.Charges = append(plan.Charges, c)
	}
	return plan, nil
}

func (s *Server) chargeOf(r *chargeRequest) (ledger.Charge, error) {
	c := ledger.Charge{Name: r.Name, Model: ledger.ChargeModel(r.Model), PackageSize: r.PackageSize, FreeUnits: r.FreeUnits}
	for _, name := range r.Models {
		m, ok := s.config.Catalog.Resolve(name)
		if !ok {
			return c, invalid("model_unknown", "there is no such model", "body", "charges")
		}
		c.Models = append(c.Models, m.ID)
	}
	for _, b := range r.Buckets {
		c.Buckets = append(c.Buckets, ledger.Bucket(b))
	}
	var err error
	if c.PackagePrice, err = money(r.PackagePrice, "charges"); err != nil {
		return c, err
	}
	for _, t := range r.Tiers {
		tier := ledger.Tier{UnitPrice: t.UnitPrice.decimal()}
		if t.UpTo != nil {
			tier.UpTo = *t.UpTo
		}
		if tier.FlatFee, err = money(t.FlatFee, "charges"); err != nil {
			return c, err
		}
		c.Tiers = append(c.Tiers, tier)
	}
	return c, nil
}

// planRefused says which member of a plan is wrong, where that is known; the rest
// is for refused.
func planRefused(err error) error {
	switch {
	case errors.Is(err, ledger.ErrTerms):
		if strings.Contains(err.Error(), "a plan that blocks") {
			return invalid("value_error", why(err, ledger.ErrTerms), "body", "overage_policy")
		}
	case errors.Is(err, billing.ErrInvalid):
		text := why(err, billing.ErrInvalid)
		if strings.Contains(text, "effective_from") || strings.Contains(text, "must start later") {
			return invalid("value_error", text, "body", "effective_from")
		}
	}
	return err
}

// planRequest is a plan for an org: one of the catalog, by its code alone, or one
// of its own, with a name and terms.
type planRequest struct {
	Code        string `json:"code" pattern:"^[a-z0-9][a-z0-9-]{0,63}$"`
	PlanVersion int    `json:"plan_version,omitempty" minimum:"1" maximum:"1000000" doc:"Of a published plan. Default: the newest."`
	Name        string `json:"name,omitempty" minLength:"1" maxLength:"256" doc:"Of a plan of its own. Without a name the plan is the published one."`
	PlanTerms
	EffectiveFrom *time.Time `json:"effective_from,omitempty" nullable:"true" doc:"Not past, and later than that of the plan before. Money changes at the start of that local date. Default: now."`
	Reason        string     `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

// assignPlan serves PUT /admin/v1/orgs/{org_id}/plan.
func (s *Server) assignPlan(ctx context.Context, org uuid.UUID, o *order[planRequest]) (none billing.Outcome[billing.Plan], err error) {
	req := &o.req
	var from time.Time
	if req.EffectiveFrom != nil {
		from = req.EffectiveFrom.UTC()
	}
	if req.Name == "" {
		for name := range o.sent {
			switch name {
			case "code", "plan_version", "effective_from", "reason":
			default:
				return none, invalid("value_error", "a published plan has its own terms: leave this out, or name a plan of its own", "body", name)
			}
		}
		assigned, err := s.config.Finance.AssignPublished(ctx, org, req.Code, req.PlanVersion, from, o.by)
		return assigned, planRefused(err)
	}
	if problems := checkName(req.Name); problems != nil {
		return none, problems
	}
	if req.PlanVersion != 0 {
		return none, invalid("value_error", "only a published plan has versions", "body", "plan_version")
	}
	plan, err := s.planOf(req.Code, req.Name, &req.PlanTerms)
	if err != nil {
		return none, err
	}
	plan.EffectiveFrom = from
	assigned, err := s.config.Assigner.AssignPlan(ctx, org, plan, o.by)
	return assigned, planRefused(err)
}

func newAssigned(_ uuid.UUID, p *billing.Plan) (planDetailResponse, error) {
	return newPlanDetail(*p), nil
}

// publishRequest is the next version of a plan of the catalog.
type publishRequest struct {
	Code     string `json:"code" pattern:"^[a-z0-9][a-z0-9-]{0,63}$"`
	Name     string `json:"name" minLength:"1" maxLength:"256"`
	Currency string `json:"currency,omitempty" pattern:"^[A-Z]{3}$" doc:"ISO 4217: only organisations invoiced in it can have the plan." default:"CNY"`
	PlanTerms
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

// publishedPlan is a version of a plan of the catalog.
type publishedPlan struct {
	Code        string             `json:"code"`
	PlanVersion int                `json:"plan_version" minimum:"1"`
	PublishedAt string             `json:"published_at" format:"date-time"`
	Plan        publishedPlanTerms `json:"plan"`
}

// publishedPlanTerms are a plan without the dates that an organisation gives it.
type publishedPlanTerms struct {
	ID             uuid.UUID    `json:"id"`
	Name           string       `json:"name"`
	BillingCycle   string       `json:"billing_cycle" enum:"monthly"`
	MonthlyFee     string       `json:"monthly_fee" format:"decimal"`
	IncludedTokens uint64       `json:"included_tokens"`
	IncludedAmount string       `json:"included_amount" format:"decimal"`
	Charges        []planCharge `json:"charges"`
	Commitment     string       `json:"commitment" format:"decimal"`
	RPMLimit       *uint64      `json:"rpm_limit"`
	TPMLimit       *uint64      `json:"tpm_limit"`
	ModelsAllowed  []string     `json:"models_allowed"`
	OveragePolicy  string       `json:"overage_policy" enum:"bill,block"`
	DiscountPct    string       `json:"discount_pct" format:"percentage"`
	DiscountAmount string       `json:"discount_amount" format:"decimal"`
	Currency       string       `json:"currency"`
}

func newPublishedPlan(p billing.Published) publishedPlan {
	d := newPlanDetail(p.Plan)
	return publishedPlan{Code: d.Code, PlanVersion: p.Version, PublishedAt: instant(p.PublishedAt), Plan: publishedPlanTerms{
		ID: d.ID, Name: d.Name, BillingCycle: d.BillingCycle, MonthlyFee: d.MonthlyFee, IncludedTokens: d.IncludedTokens, IncludedAmount: d.IncludedAmount,
		Charges: d.Charges, Commitment: d.Commitment, RPMLimit: d.RPMLimit, TPMLimit: d.TPMLimit, ModelsAllowed: d.ModelsAllowed,
		OveragePolicy: d.OveragePolicy, DiscountPct: d.DiscountPct, DiscountAmount: d.DiscountAmount, Currency: d.Currency,
	}}
}

// publishPlan serves POST /admin/v1/plans.
func (s *Server) publishPlan(ctx context.Context, _ struct{}, o *order[publishRequest]) (none billing.Outcome[billing.Published], err error) {
	req := &o.req
	if problems := checkName(req.Name); problems != nil {
		return none, problems
	}
	plan, err := s.planOf(req.Code, req.Name, &req.PlanTerms)
	if err != nil {
		return none, err
	}
	if plan.Currency = req.Currency; plan.Currency == "" {
		plan.Currency = billing.DefaultCurrency
	}
	if _, ok := ledger.MinorUnits(plan.Currency); !ok {
		return none, invalid("currency", "the value is no ISO 4217 currency in use", "body", "currency")
	}
	published, err := s.config.Finance.PublishPlan(ctx, plan, o.by)
	return published, planRefused(err)
}

func newPlanPublished(_ struct{}, p *billing.Published) (publishedPlan, error) {
	return newPublishedPlan(*p), nil
}

// listPlans serves GET /admin/v1/plans: the newest version of each, by code.
func (s *Server) listPlans(w http.ResponseWriter, r *http.Request, _ *keys.Key) error {
	p := queryOf(r)
	page := p.page(adminPageSize)
	if err := p.err(); err != nil {
		return err
	}
	all := s.config.PlanCatalog.PublishedPlans()
	list := []publishedPlan{}
	for _, plan := range pageOf(page, all) {
		list = append(list, newPublishedPlan(plan))
	}
	page.announce(w, r, len(all))
	writeJSON(w, http.StatusOK, list)
	return nil
}

var planVersion = param{kind: integerParam, name: "plan_version", bounds: bounds{def: 0, min: 0, max: 1_000_000}, doc: "Default: 0, the newest."}

// getPlan serves GET /admin/v1/plans/{code}.
func (s *Server) getPlan(w http.ResponseWriter, r *http.Request, _ *keys.Key) error {
	code, err := pathCode(r, "code", planCodeForm)
	if err != nil {
		return err
	}
	p := queryOf(r)
	version := p.integer(planVersion)
	if err := p.err(); err != nil {
		return err
	}
	plan, err := s.config.PlanCatalog.PublishedPlan(code, version)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newPublishedPlan(plan))
	return nil
}

var (
	planCodeForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	legalEntityForm = regexp.MustCompile(`^[A-Z0-9]{1,16}$`)
)

// pathCode reads a code of the path.
func pathCode(r *http.Request, name string, form *regexp.Regexp) (string, error) {
	code := pathText(r, name)
	if !form.MatchString(code) {
		return "", invalid("string_pattern_mismatch", "the value must match "+form.String(), "path", name)
	}
	return code, nil
}

var hundred = decimal.New(100, 0)

// pctOf reads a percentage that its pattern has checked.
func pctOf(p price, loc ...any) (decimal.Decimal, error) {
	pct := p.decimal()
	if pct.Cmp(hundred) > 0 {
		return pct, invalid("less_than_equal", "a percentage is at most 100", loc...)
	}
	return pct, nil
}
