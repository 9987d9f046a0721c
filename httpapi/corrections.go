package httpapi

import (
	"context"
	"net/http"

	"aione/billing"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// reasonRequest is a command that needs nothing but why.
type reasonRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why: for the audit trail, and on the credit note."`
}

// invoiceCommand reads a command about the invoice in the path.
func (s *Server) invoiceCommand(w http.ResponseWriter, r *http.Request, caller keys.Key, req any, reason *string) (ledger.Invoice, billing.By, given, error) {
	org, err := s.ofInvoice(r, caller)
	if err != nil {
		return ledger.Invoice{}, billing.By{}, nil, err
	}
	inv, err := s.invoiceOf(r, org)
	if err != nil {
		return ledger.Invoice{}, billing.By{}, nil, err
	}
	by, members, err := s.command(w, r, caller, req, reason)
	return inv, by, members, err
}

// voidInvoice serves POST /admin/v1/invoices/{invoice_id}/void.
func (s *Server) voidInvoice(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	var req reasonRequest
	inv, by, _, err := s.invoiceCommand(w, r, caller, &req, &req.Reason)
	if err != nil {
		return err
	}
	return s.answerCreditNote(r.Context(), w, &inv, nil, by)
}

type creditNoteRequest struct {
	Lines  []creditLineRequest `json:"lines" maxItems:"1000" doc:"At least one. To take back all of an invoice, void it."`
	Reason string              `json:"reason" minLength:"1" maxLength:"500" doc:"Why: for the audit trail, and on the credit note."`
}

type creditLineRequest struct {
	Line   int   `json:"line" minimum:"1" maximum:"1000000" doc:"Of the invoice."`
	Amount price `json:"amount" format:"price" doc:"Without tax on top, which follows from it."`
}

// addCreditNote serves POST /admin/v1/invoices/{invoice_id}/credit-notes.
func (s *Server) addCreditNote(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	var req creditNoteRequest
	inv, by, _, err := s.invoiceCommand(w, r, caller, &req, &req.Reason)
	if err != nil {
		return err
	}
	if len(req.Lines) == 0 {
		return invalid("too_short", "a credit note needs a line", "body", "lines")
	}
	var lines []ledger.CreditLine
	for _, l := range req.Lines {
		amount, err := money(l.Amount, "lines")
		if err != nil {
			return err
		}
		lines = append(lines, ledger.CreditLine{Line: l.Line, Amount: amount})
	}
	return s.answerCreditNote(r.Context(), w, &inv, lines, by)
}

func (s *Server) answerCreditNote(ctx context.Context, w http.ResponseWriter, inv *ledger.Invoice, lines []ledger.CreditLine, by billing.By) error {
	note, err := s.config.Finance.CreditNote(ctx, inv.OrgID, inv.ID, lines, by)
	if err != nil {
		return refused(err)
	}
	d, err := newCreditNoteDetail(&note.Result)
	if err != nil {
		return err
	}
	carriedOut(w, http.StatusCreated, note.Replayed, d)
	return nil
}

type writeOffItem struct {
	ID           uuid.UUID `json:"id"`
	InvoiceID    uuid.UUID `json:"invoice_id"`
	Amount       string    `json:"amount" format:"decimal" doc:"All that was open."`
	Currency     string    `json:"currency"`
	WrittenOffAt string    `json:"written_off_at" format:"date-time"`
	Reason       string    `json:"reason"`
}

// writeOff serves POST /admin/v1/invoices/{invoice_id}/write-off.
func (s *Server) writeOff(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	var req reasonRequest
	inv, by, _, err := s.invoiceCommand(w, r, caller, &req, &req.Reason)
	if err != nil {
		return err
	}
	off, err := s.config.Finance.WriteOff(r.Context(), inv.OrgID, inv.ID, by)
	if err != nil {
		return refused(err)
	}
	o := off.Result
	carriedOut(w, http.StatusCreated, off.Replayed, writeOffItem{ID: o.ID, InvoiceID: o.InvoiceID, Amount: o.Amount.Format(inv.Currency),
		Currency: inv.Currency, WrittenOffAt: instant(o.At), Reason: o.Reason})
	return nil
}

// Remedy is what to put right about an invoice. What is not named stays as it was.
type Remedy struct {
	Prices   []repriceRequest `json:"prices,omitempty" maxItems:"1000"`
	TaxRates []taxRateItem    `json:"tax_rates,omitempty" maxItems:"20" doc:"Instead of the invoice's; an empty array takes all away."`
	Terms    *PlanTerms       `json:"terms,omitempty" doc:"For the whole period, instead of the plan's."`
}

type repriceRequest struct {
	From string `json:"from" minLength:"1" maxLength:"512" doc:"The price version that was stamped."`
	To   string `json:"to" minLength:"1" maxLength:"512" doc:"The one to bill at, of the same model."`
}

// remedyOf reads what to put right.
func (s *Server) remedyOf(inv *ledger.Invoice, m *Remedy, members given) (billing.ReRate, error) {
	r := billing.ReRate{InvoiceID: inv.ID}
	if len(m.Prices) > 0 {
		r.Prices = map[string]string{}
	}
	for _, p := range m.Prices {
		if r.Prices[p.From] != "" {
			return r, invalid("value_error", "a version is priced twice", "body", "prices")
		}
		r.Prices[p.From] = p.To
	}
	if members.has("tax_rates") {
		rates, err := taxRatesOf(m.TaxRates)
		if err != nil {
			return r, err
		}
		r.TaxRates = &rates
	}
	if m.Terms != nil {
		plan, err := s.planOf("", "", m.Terms)
		if err != nil {
			return r, err
		}
		r.Terms = &plan.Terms
	}
	return r, nil
}

type reRateRequest struct {
	Remedy
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why: it will be on the documents, and so is part of what is agreed to."`
}

type reRateResponse struct {
	Invoice    invoiceDetail `json:"invoice" doc:"A draft: the invoice that would replace it."`
	Difference string        `json:"difference" format:"decimal" doc:"Before credits, with tax: what it comes to, less what the invoice did."`
	Hash       string        `json:"hash" doc:"What to agree to: of request, invoice and draft."`
}

// reRate serves POST /admin/v1/invoices/{invoice_id}/re-rate. It writes nothing.
func (s *Server) reRate(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	var req reRateRequest
	inv, by, members, err := s.invoiceCommand(w, r, caller, &req, &req.Reason)
	if err != nil {
		return err
	}
	remedy, err := s.remedyOf(&inv, &req.Remedy, members)
	if err != nil {
		return err
	}
	again, err := s.config.Finance.ReRate(r.Context(), inv.OrgID, remedy, by)
	if err != nil {
		return refused(err)
	}
	writeJSON(w, http.StatusOK, reRateResponse{
		Invoice:    newInvoiceDetail(&again.Invoice, billing.Standing{}, ledger.StatusDraft),
		Difference: again.Difference.Format(inv.Currency), Hash: again.Hash.String(),
	})
	return nil
}

type correctRequest struct {
	Remedy
	Agreed string `json:"agreed" pattern:"^[0-9a-f]{64}$" doc:"The hash of the dry run."`
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"That of the dry run."`
}

type correctResponse struct {
	CreditNote *creditNoteItem `json:"credit_note,omitempty" doc:"That made the invoice void, unless it was void already."`
	Invoice    invoiceSummary  `json:"invoice" doc:"That replaces it."`
}

// correct serves POST /admin/v1/invoices/{invoice_id}/correct.
func (s *Server) correct(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	var req correctRequest
	inv, by, members, err := s.invoiceCommand(w, r, caller, &req, &req.Reason)
	if err != nil {
		return err
	}
	remedy, err := s.remedyOf(&inv, &req.Remedy, members)
	if err != nil {
		return err
	}
	var agreed ledger.Hash
	if err := agreed.UnmarshalText([]byte(req.Agreed)); err != nil {
		return invalid("value_error", "the value is not a hash", "body", "agreed")
	}
	corrected, err := s.config.Finance.Correct(r.Context(), inv.OrgID, remedy, agreed, by)
	if err != nil {
		return refused(err)
	}
	var answer correctResponse
	if e := corrected.Result.CreditNote; e != nil && e.CreditNote != nil {
		item := newCreditNoteItem(e.CreditNote)
		answer.CreditNote = &item
	}
	if issued := corrected.Result.Invoice.Invoice; issued != nil {
		_, status, err := s.standingOf(issued)
		if err != nil {
			return err
		}
		answer.Invoice = newInvoiceSummary(issued, status)
	}
	carriedOut(w, http.StatusCreated, corrected.Replayed, answer)
	return nil
}
