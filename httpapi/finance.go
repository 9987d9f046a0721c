package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"aione/billing"
	"aione/keys"
	"aione/ledger"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// Accounts are where the money of orgs stands, and how it came there:
// billing.Book. All return billing.ErrNotFound when there is no such org, and also
// for what is another org's. Pages begin at 1; beside a page comes the number of
// all.
type Accounts interface {
	Account(orgID uuid.UUID) (billing.Account, error)
	Standing(orgID, invoiceID uuid.UUID) (billing.Standing, error)
	// OwnerOf is the org that an invoice is of.
	OwnerOf(invoiceID uuid.UUID) (uuid.UUID, error)

	Grants(orgID uuid.UUID, page, pageSize int) ([]ledger.Credit, int, error)
	Payments(orgID uuid.UUID, page, pageSize int) ([]ledger.Payment, int, error)
	CreditNote(orgID, id uuid.UUID) (ledger.CreditNote, error)
	// InputsQueryOf asks again for the usage that an invoice counted.
	InputsQueryOf(inv ledger.Invoice) ledger.InputsQuery

	Changes(orgID uuid.UUID, page, pageSize int) ([]billing.Change, int, error)
}

// Profiles say how orgs are invoiced and by whom: billing.Book.
type Profiles interface {
	ProfileAt(orgID uuid.UUID, at time.Time) (billing.Profile, error)
	Anchor(orgID uuid.UUID) (int, error)
	LegalEntityAt(code string, at time.Time) (billing.LegalEntity, error)
	LegalEntities() []billing.LegalEntity
}

// PlanCatalog are the published plans: billing.Book.
type PlanCatalog interface {
	PublishedPlans() []billing.Published
	PublishedPlan(code string, version int) (billing.Published, error)
}

// Finance moves money and puts it right: billing.Commands. Repeated with the same
// By.Key, a command answers as it did, and says so; with the key of another
// request it returns billing.ErrIdempotency.
type Finance interface {
	TopUp(ctx context.Context, orgID uuid.UUID, t billing.TopUp, by billing.By) (billing.Outcome[ledger.Grant], error)
	GrantCredit(ctx context.Context, orgID uuid.UUID, p billing.Promotion, by billing.By) (billing.Outcome[ledger.Grant], error)
	Pay(ctx context.Context, orgID uuid.UUID, p billing.Payment, by billing.By) (billing.Outcome[ledger.Payment], error)
	Refund(ctx context.Context, orgID uuid.UUID, r billing.Refund, by billing.By) (billing.Outcome[ledger.Refund], error)
	WriteOff(ctx context.Context, orgID, invoiceID uuid.UUID, by billing.By) (billing.Outcome[ledger.WriteOff], error)
	CreditNote(ctx context.Context, orgID, invoiceID uuid.UUID, lines []ledger.CreditLine, by billing.By) (billing.Outcome[ledger.CreditNote], error)
	ReRate(ctx context.Context, orgID uuid.UUID, r billing.ReRate, by billing.By) (billing.ReRated, error)
	Correct(ctx context.Context, orgID uuid.UUID, r billing.ReRate, hash ledger.Hash, by billing.By) (billing.Outcome[billing.Corrected], error)

	PublishPlan(ctx context.Context, plan billing.Plan, by billing.By) (billing.Outcome[billing.Published], error)
	AssignPublished(ctx context.Context, orgID uuid.UUID, code string, version int, from time.Time, by billing.By) (billing.Outcome[billing.Plan], error)
	SetProfile(ctx context.Context, orgID uuid.UUID, p billing.Profile, by billing.By) (billing.Outcome[billing.Profile], error)
	SetLegalEntity(ctx context.Context, e billing.LegalEntity, by billing.By) (billing.Outcome[billing.LegalEntity], error)
}

// subject says which org a request is about.
type subject func(r *http.Request, caller keys.Key) (uuid.UUID, error)

// ofCaller is the org of the token: that of every route that is not the operator's.
func ofCaller(_ *http.Request, caller keys.Key) (uuid.UUID, error) { return caller.OrgID, nil }

// ofPath is the org in the path of an operator's route.
func ofPath(r *http.Request, _ keys.Key) (uuid.UUID, error) { return pathID(r, "org_id") }

// ofInvoice is the org of the invoice in the path of an operator's route.
func (s *Server) ofInvoice(r *http.Request, _ keys.Key) (uuid.UUID, error) {
	id, err := pathID(r, "invoice_id")
	if err != nil {
		return uuid.Nil, err
	}
	return s.config.Accounts.OwnerOf(id)
}

// replayedHeader says that a command was carried out before, and nothing was done now.
const replayedHeader = "Idempotency-Replayed"

// command reads the body of an operator's command about money, and says who
// commands, why, and under which key: reason is the body's member of that name.
func (s *Server) command(w http.ResponseWriter, r *http.Request, caller keys.Key, req any, reason *string) (billing.By, given, error) {
	p := queryOf(r)
	key := p.idempotencyKey(r)
	if err := p.err(); err != nil {
		return billing.By{}, nil, err
	}
	members, err := s.readBody(w, r, req)
	if err != nil {
		return billing.By{}, nil, err
	}
	by := s.byCaller(caller, *reason)
	by.Key = key
	return by, members, nil
}

// carriedOut answers a command, and says whether it was carried out just now.
func carriedOut(w http.ResponseWriter, status int, replayed bool, answer any) {
	if replayed {
		w.Header().Set(replayedHeader, "true")
	}
	writeJSON(w, status, answer)
}

// refused says which rule of the ledger a command breaks.
func refused(err error) error {
	no := func(status int, detail string) error { return &apiError{status: status, detail: detail, cause: err} }
	switch {
	case errors.Is(err, billing.ErrIdempotency):
		return no(http.StatusConflict, "the Idempotency-Key was used for another request")
	case errors.Is(err, billing.ErrChanged):
		return no(http.StatusConflict, "the correction is no longer what the dry run said; look at it again")
	case errors.Is(err, ledger.ErrRepeated):
		return no(http.StatusConflict, "it happened already")
	case errors.Is(err, ledger.ErrNotOpen):
		return no(http.StatusConflict, "the invoice is void, or has nothing left of what is asked")
	case errors.Is(err, ledger.ErrTooMuch):
		return no(http.StatusConflict, "it is more than there is")
	}
	for _, rule := range []error{ledger.ErrTerms, ledger.ErrParty, ledger.ErrRequest, ledger.ErrBillInput, ledger.ErrUnknownPrice, ledger.ErrAmount, billing.ErrInvalid} {
		if errors.Is(err, rule) {
			return invalid("value_error", why(err, rule), "body")
		}
	}
	return err
}

// why is what an error says behind its sentinel: in these it is about what the
// operator sent. It never repeats a token that was sent by mistake.
func why(err, sentinel error) string {
	text := err.Error()
	i := strings.LastIndex(text, sentinel.Error()+": ")
	if i < 0 || strings.Contains(text, "-nex-") {
		return sentinel.Error()
	}
	return strings.ToValidUTF8(text[i+len(sentinel.Error())+2:], "")
}

// money reads an amount of the body that its pattern has checked.
func money(p price, name string) (ledger.Amount, error) {
	a, err := ledger.NewAmount(p.decimal())
	if err != nil {
		return a, invalid("value_error", "the amount is too large", "body", name)
	}
	return a, nil
}

// invoiceOf is the invoice in the path, of the org that the request is about.
func (s *Server) invoiceOf(r *http.Request, orgID uuid.UUID) (ledger.Invoice, error) {
	id, err := pathID(r, "invoice_id")
	if err != nil {
		return ledger.Invoice{}, err
	}
	return s.config.Books.Invoice(orgID, id)
}

// today is the date where an org is.
func (s *Server) today(orgID uuid.UUID) (ledger.Date, error) {
	zone, err := s.config.Orgs.Zone(orgID)
	if err != nil {
		return ledger.Date{}, err
	}
	return ledger.DateOf(s.config.Now(), zone), nil
}

// pathText is a text of the path that names something.
func pathText(r *http.Request, name string) string { return chi.URLParam(r, name) }
