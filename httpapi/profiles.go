package httpapi

import (
	"context"
	"net/http"
	"time"

	"aione/billing"
	"aione/documents"
	"aione/keys"
	"aione/ledger"
)

// Party is one side of an invoice.
type Party struct {
	Name    string   `json:"name" minLength:"1" maxLength:"120"`
	Address []string `json:"address,omitempty" maxItems:"6" doc:"Lines, as they are written in its country, of at most 120 characters."`
	TaxID   string   `json:"tax_id,omitempty" maxLength:"120"`
	Email   string   `json:"email,omitempty" maxLength:"240"`
	Phone   string   `json:"phone,omitempty" maxLength:"120"`
}

func newParty(p ledger.Party) Party {
	return Party{Name: p.Name, Address: append([]string{}, p.Address...), TaxID: p.TaxID, Email: p.Email, Phone: p.Phone}
}

func (p Party) party() ledger.Party {
	return ledger.Party{Name: p.Name, Address: p.Address, TaxID: p.TaxID, Email: p.Email, Phone: p.Phone}
}

type bankDetails struct {
	AccountName   string `json:"account_name" minLength:"1" maxLength:"120" doc:"Holder of the account."`
	BankName      string `json:"bank_name" minLength:"1" maxLength:"120" doc:"With its branch."`
	AccountNumber string `json:"account_number" minLength:"1" maxLength:"120"`
	SWIFT         string `json:"swift,omitempty" maxLength:"120"`
}

type taxRateItem struct {
	Name      string `json:"name" minLength:"1" maxLength:"64"`
	Pct       price  `json:"pct" format:"price" doc:"0 to 100."`
	Inclusive bool   `json:"inclusive,omitempty" doc:"It is in the prices already: shown, not added." default:"false"`
}

func taxRatesOf(items []taxRateItem) ([]ledger.TaxRate, error) {
	rates := []ledger.TaxRate{}
	for i, item := range items {
		pct, err := pctOf(item.Pct, "body", "tax_rates", i, "pct")
		if err != nil {
			return nil, err
		}
		rates = append(rates, ledger.TaxRate{Name: item.Name, Pct: pct, Inclusive: item.Inclusive})
	}
	return rates, nil
}

// profileRequest is how an org is invoiced from an instant on, as a whole: what is
// left out is the default.
type profileRequest struct {
	TaxRates      []taxRateItem `json:"tax_rates,omitempty" maxItems:"20" doc:"In force on the last day of a period. Either all inclusive or none."`
	TermsDays     *int          `json:"terms_days,omitempty" nullable:"true" minimum:"0" maximum:"3650" doc:"Payment is due so many days after the invoice. Default: the platform's."`
	GraceHours    *int          `json:"grace_hours,omitempty" nullable:"true" minimum:"0" maximum:"744" doc:"How long an ended period stays open for late usage. Default: the platform's."`
	BillTo        *Party        `json:"bill_to,omitempty" doc:"Who is invoiced. Default: the organisation's name."`
	AnchorDay     int           `json:"anchor_day,omitempty" minimum:"1" maximum:"31" doc:"Day of the month that periods begin on; fixed once a period is closed. Default: as it is."`
	LowBalance    price         `json:"low_balance,omitempty" format:"price" default:"0" doc:"At or below it, balance.low is announced."`
	EffectiveFrom *time.Time    `json:"effective_from,omitempty" nullable:"true" doc:"Not past, nor before that of the profile before. Default: now."`
	Reason        string        `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type profileResponse struct {
	TaxRates      []taxRateShown `json:"tax_rates"`
	TermsDays     *int           `json:"terms_days" doc:"Null: the platform's."`
	GraceHours    *int           `json:"grace_hours" doc:"Null: the platform's."`
	BillTo        *Party         `json:"bill_to,omitempty"`
	AnchorDay     int            `json:"anchor_day" minimum:"1" maximum:"31"`
	LowBalance    string         `json:"low_balance" format:"decimal"`
	EffectiveFrom *string        `json:"effective_from" format:"date-time" doc:"Null before the first profile."`
}

type taxRateShown struct {
	Name      string `json:"name"`
	Pct       string `json:"pct" format:"decimal"`
	Inclusive bool   `json:"inclusive"`
}

func newProfileResponse(p billing.Profile, anchor int, currency string) profileResponse {
	answer := profileResponse{TaxRates: []taxRateShown{}, TermsDays: p.TermsDays, AnchorDay: anchor, LowBalance: p.LowBalance.Format(currency),
		EffectiveFrom: instantOrNull(p.EffectiveFrom)}
	for _, t := range p.TaxRates {
		answer.TaxRates = append(answer.TaxRates, taxRateShown{t.Name, t.Pct.String(), t.Inclusive})
	}
	if p.Grace != nil {
		hours := int(*p.Grace / time.Hour)
		answer.GraceHours = &hours
	}
	if p.BillTo != nil {
		billTo := newParty(*p.BillTo)
		answer.BillTo = &billTo
	}
	return answer
}

// setProfile serves PUT /admin/v1/orgs/{org_id}/billing-profile.
func (s *Server) setProfile(ctx context.Context, org billing.Org, o *order[profileRequest]) (none billing.Outcome[billing.Profile], err error) {
	req := &o.req
	p := billing.Profile{TermsDays: req.TermsDays, Anchor: req.AnchorDay}
	if p.TaxRates, err = taxRatesOf(req.TaxRates); err != nil {
		return none, err
	}
	if p.LowBalance, err = money(req.LowBalance, "low_balance"); err != nil {
		return none, err
	}
	if req.GraceHours != nil {
		grace := time.Duration(*req.GraceHours) * time.Hour
		p.Grace = &grace
	}
	if req.EffectiveFrom != nil {
		p.EffectiveFrom = req.EffectiveFrom.UTC()
	}
	if req.BillTo != nil {
		party := req.BillTo.party()
		if err := documents.CheckParty(party); err != nil {
			return none, invalid("value_error", why(err, documents.ErrParty), "body", "bill_to")
		}
		p.BillTo = &party
	}
	return s.config.Finance.SetProfile(ctx, org.ID, p, o.by)
}

func (s *Server) profileOf(org billing.Org, p *billing.Profile) (profileResponse, error) {
	anchor, err := s.config.Profiles.Anchor(org.ID)
	if err != nil {
		return profileResponse{}, err
	}
	return newProfileResponse(*p, anchor, org.Currency), nil
}

// getProfile serves GET /admin/v1/orgs/{org_id}/billing-profile: the one in force now.
func (s *Server) getProfile(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	org, err := s.orgOfPath(r, caller)
	if err != nil {
		return err
	}
	p, err := s.config.Profiles.ProfileAt(org.ID, s.config.Now())
	if err != nil {
		return err
	}
	answer, err := s.profileOf(org, &p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

type legalEntityRequest struct {
	Party
	Bank   *bankDetails `json:"bank,omitempty" doc:"Where invoices are paid to."`
	Note   string       `json:"note,omitempty" maxLength:"600" doc:"Said at the end of every invoice, such as how to ask for a fapiao."`
	Reason string       `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

type legalEntityResponse struct {
	Code string `json:"code"`
	Party
	Bank *bankDetails `json:"bank,omitempty"`
	Note string       `json:"note"`
}

func newLegalEntity(e billing.LegalEntity) legalEntityResponse {
	answer := legalEntityResponse{Code: e.Code, Party: newParty(e.Issuer.Party), Note: e.Issuer.Note}
	if b := e.Issuer.Bank; b != (ledger.Bank{}) {
		answer.Bank = &bankDetails{AccountName: b.AccountName, BankName: b.BankName, AccountNumber: b.AccountNumber, SWIFT: b.SWIFT}
	}
	return answer
}

// setLegalEntity serves PUT /admin/v1/legal-entities/{code}.
func (s *Server) setLegalEntity(ctx context.Context, code string, o *order[legalEntityRequest]) (none billing.Outcome[billing.LegalEntity], err error) {
	e := billing.LegalEntity{Code: code, Issuer: ledger.Issuer{Party: o.req.party(), Note: o.req.Note}}
	if b := o.req.Bank; b != nil {
		e.Issuer.Bank = ledger.Bank{AccountName: b.AccountName, BankName: b.BankName, AccountNumber: b.AccountNumber, SWIFT: b.SWIFT}
	}
	if err := documents.CheckIssuer(e.Issuer); err != nil {
		return none, invalid("value_error", why(err, documents.ErrParty), "body")
	}
	return s.config.Finance.SetLegalEntity(ctx, e, o.by)
}

// entityOfPath is the code of a legal entity in the path.
func entityOfPath(r *http.Request, _ *keys.Key) (string, error) {
	return pathCode(r, "code", legalEntityForm)
}

func newEntitySet(_ string, e *billing.LegalEntity) (legalEntityResponse, error) {
	return newLegalEntity(*e), nil
}

// getLegalEntity serves GET /admin/v1/legal-entities/{code}.
func (s *Server) getLegalEntity(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	code, err := entityOfPath(r, caller)
	if err != nil {
		return err
	}
	e, err := s.config.Profiles.LegalEntityAt(code, s.config.Now())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newLegalEntity(e))
	return nil
}

// listLegalEntities serves GET /admin/v1/legal-entities.
func (s *Server) listLegalEntities(w http.ResponseWriter, _ *http.Request, _ *keys.Key) error {
	list := []legalEntityResponse{}
	for _, e := range s.config.Profiles.LegalEntities() {
		list = append(list, newLegalEntity(e))
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}
