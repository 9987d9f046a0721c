package httpapi

import (
	"context"

	"aione/billing"
	"aione/ledger"

	"github.com/google/uuid"
)

// reasonRequest is a command that needs nothing but why.
type reasonRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why: for the audit trail, and on the credit note."`
}

// voidInvoice serves POST /admin/v1/invoices/{invoice_id}/void.
func (s *Server) voidInvoice(ctx context.Context, inv *ledger.Invoice, o *order[reasonRequest]) (billing.Outcome[ledger.CreditNote], error) {
	return s.config.Finance.CreditNote(ctx, inv.OrgID, inv.ID, nil, o.by)
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
func (s *Server) addCreditNote(ctx context.Context, inv *ledger.Invoice, o *order[creditNoteRequest]) (none billing.Outcome[ledger.CreditNote], err error) {
	if len(o.req.Lines) == 0 {
		return none, invalid("too_short", "a credit note needs a line", "body", "lines")
	}
	var lines []ledger.CreditLine
	for _, l := range o.req.Lines {
		amount, err := money(l.Amount, "lines")
		if err != nil {
			return none, err
		}
		lines = append(lines, ledger.CreditLine{Line: l.Line, Amount: amount})
	}
	return s.config.Finance.CreditNote(ctx, inv.OrgID, inv.ID, lines, o.by)
}

func newNoted(_ *ledger.Invoice, n *ledger.CreditNote) (creditNoteDetail, error) {
	return newCreditNoteDetail(n)
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
func (s *Server) writeOff(ctx context.Context, inv *ledger.Invoice, o *order[reasonRequest]) (billing.Outcome[ledger.WriteOff], error) {
	return s.config.Finance.WriteOff(ctx, inv.OrgID, inv.ID, o.by)
}

func newWriteOffItem(inv *ledger.Invoice, o *ledger.WriteOff) (writeOffItem, error) {
	return writeOffItem{ID: o.ID, InvoiceID: o.InvoiceID, Amount: o.Amount.Format(inv.Currency),
		Currency: inv.Currency, WrittenOffAt: instant(o.At), Reason: o.Reason}, nil
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
	if t := m.Terms; t != nil && (t.RPMLimit != nil || t.TPMLimit != nil || len(t.ModelsAllowed) > 0) {
		return r, invalid("value_error", "limits and allowed models change no invoice", "body", "terms")
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
func (s *Server) reRate(ctx context.Context, inv *ledger.Invoice, o *order[reRateRequest]) (dry billing.Outcome[billing.ReRated], err error) {
	remedy, err := s.remedyOf(inv, &o.req.Remedy, o.sent)
	if err != nil {
		return dry, err
	}
	dry.Result, err = s.config.Finance.ReRate(ctx, inv.OrgID, remedy, o.by)
	return dry, err
}

func newReRateResponse(inv *ledger.Invoice, again *billing.ReRated) (reRateResponse, error) {
	return reRateResponse{
		Invoice:    newInvoiceDetail(&again.Invoice, billing.Standing{}, ledger.StatusDraft),
		Difference: again.Difference.Format(inv.Currency), Hash: again.Hash.String(),
	}, nil
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
func (s *Server) correct(ctx context.Context, inv *ledger.Invoice, o *order[correctRequest]) (none billing.Outcome[billing.Corrected], err error) {
	remedy, err := s.remedyOf(inv, &o.req.Remedy, o.sent)
	if err != nil {
		return none, err
	}
	var agreed ledger.Hash
	if err := agreed.UnmarshalText([]byte(o.req.Agreed)); err != nil {
		return none, invalid("value_error", "the value is not a hash", "body", "agreed")
	}
	return s.config.Finance.Correct(ctx, inv.OrgID, remedy, agreed, o.by)
}

func (s *Server) newCorrectResponse(_ *ledger.Invoice, c *billing.Corrected) (answer correctResponse, err error) {
	if e := c.CreditNote; e != nil && e.CreditNote != nil {
		item := newCreditNoteItem(e.CreditNote)
		answer.CreditNote = &item
	}
	if issued := c.Invoice.Invoice; issued != nil {
		_, status, err := s.standingOf(issued)
		if err != nil {
			return answer, err
		}
		answer.Invoice = newInvoiceSummary(issued, status)
	}
	return answer, nil
}
