package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"aione/billing"
	"aione/keys"
	"aione/ledger"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// order is an operator's command about money, as it was sent.
type order[Req any] struct {
	req  Req
	sent given      // the body's members
	by   billing.By // Key is that of the header, Reason the member "reason"
}

// ordered makes the route of such a command. It reads what the path is about, then
// the order, carries it out and shows what came of it; the document has the types of
// request and answer from here. What carryOut returns is for refused; what show
// returns is our own fault.
func ordered[About, Req, Result, Answer any](
	s *Server, at route,
	about func(*http.Request, *keys.Key) (About, error),
	carryOut func(context.Context, About, *order[Req]) (billing.Outcome[Result], error),
	show func(About, *Result) (Answer, error),
) route {
	var req Req
	var answer Answer
	at.body.of, at.answer.of = req, answer
	at.serve = func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		of, err := about(r, caller)
		if err != nil {
			return err
		}
		o, err := readOrder[Req](s, w, r, caller)
		if err != nil {
			return err
		}
		done, err := carryOut(r.Context(), of, o)
		if err != nil {
			return refused(err)
		}
		answer, err := show(of, &done.Result)
		if err != nil {
			return err
		}
		if done.Replayed {
			w.Header().Set(replayedHeader, "true")
		}
		writeJSON(w, at.answer.code(), answer)
		return nil
	}
	return at
}

func readOrder[Req any](s *Server, w http.ResponseWriter, r *http.Request, caller *keys.Key) (*order[Req], error) {
	p := queryOf(r)
	o, key := &order[Req]{}, p.idempotencyKey(r)
	if err := p.err(); err != nil {
		return nil, err
	}
	var err error
	if o.sent, err = s.readBody(w, r, &o.req); err != nil {
		return nil, err
	}
	reason, err := o.sent.reason()
	o.by = s.byCaller(caller, reason)
	o.by.Key = key
	return o, err
}

// reason is the member of that name: a string, the schema says.
func (g given) reason() (text string, err error) {
	if raw, ok := g["reason"]; ok {
		err = json.Unmarshal(raw, &text)
	}
	return text, err
}

// replayedHeader says that a command was carried out before, and nothing was done now.
const replayedHeader = "Idempotency-Replayed"

// subject says which org a request is about.
type subject func(r *http.Request, caller *keys.Key) (uuid.UUID, error)

// ofCaller is the org of the token: that of every route that is not the operator's.
func ofCaller(_ *http.Request, caller *keys.Key) (uuid.UUID, error) { return caller.OrgID, nil }

// ofPath is the org in the path of an operator's route.
func ofPath(r *http.Request, _ *keys.Key) (uuid.UUID, error) { return pathID(r, "org_id") }

// ofInvoice is the org of the invoice in the path of an operator's route.
func (s *Server) ofInvoice(r *http.Request, _ *keys.Key) (uuid.UUID, error) {
	id, err := pathID(r, "invoice_id")
	if err != nil {
		return uuid.Nil, err
	}
	return s.config.Accounts.OwnerOf(id)
}

// orgOfPath is the org in the path of an operator's route.
func (s *Server) orgOfPath(r *http.Request, _ *keys.Key) (billing.Org, error) {
	id, err := pathID(r, "org_id")
	if err != nil {
		return billing.Org{}, err
	}
	return s.config.Orgs.Org(id)
}

// invoiceOfPath is the invoice in the path of an operator's route.
func (s *Server) invoiceOfPath(r *http.Request, caller *keys.Key) (*ledger.Invoice, error) {
	org, err := s.ofInvoice(r, caller)
	if err != nil {
		return nil, err
	}
	inv, err := s.invoiceOf(r, org)
	return &inv, err
}

// ofNothing is for commands whose path names nothing.
func ofNothing(*http.Request, *keys.Key) (struct{}, error) { return struct{}{}, nil }

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
