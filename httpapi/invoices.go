package httpapi

import (
	"errors"
	"net/http"
	"strconv"

	"aione/keys"
	"aione/ledger"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// invoiceSummary is an invoice in the list, exactly as published.
type invoiceSummary struct {
	ID          uuid.UUID `json:"id"`
	InvoiceNo   string    `json:"invoice_no"`
	OrgID       uuid.UUID `json:"org_id"`
	PeriodStart string    `json:"period_start" format:"date"`
	PeriodEnd   string    `json:"period_end" format:"date" doc:"The last day of the period."`
	Total       string    `json:"total" format:"decimal"`
	Status      string    `json:"status" enum:"draft,issued,paid,overdue,void"`
	DueDate     string    `json:"due_date" format:"date"`
	CreatedAt   string    `json:"created_at" format:"date-time"`
}

func newInvoiceSummary(inv *ledger.Invoice) invoiceSummary {
	return invoiceSummary{
		ID: inv.ID, InvoiceNo: inv.Number, OrgID: inv.OrgID,
		PeriodStart: inv.Period.FirstDay().String(), PeriodEnd: inv.Period.LastDay().String(),
		Total: inv.Total.Format(inv.Currency), Status: string(inv.Status),
		DueDate: inv.DueDate.String(), CreatedAt: instant(inv.CreatedAt),
	}
}

// invoiceDetail is one invoice with its lines:
//
//	total = subtotal + adjustments - discount + tax - credits_applied + carried
type invoiceDetail struct {
	ID             uuid.UUID     `json:"id"`
	InvoiceNo      string        `json:"invoice_no"` // empty in a draft
	OrgID          uuid.UUID     `json:"org_id"`
	PeriodStart    string        `json:"period_start" format:"date"`
	PeriodEnd      string        `json:"period_end" format:"date" doc:"The last day of the period."`
	Total          string        `json:"total" format:"decimal"`
	Status         string        `json:"status" enum:"draft,issued,paid,overdue,void"`
	DueDate        string        `json:"due_date" format:"date"`
	CreatedAt      string        `json:"created_at" format:"date-time"`
	Currency       string        `json:"currency" doc:"ISO 4217."`
	Lines          []invoiceLine `json:"lines"`
	Subtotal       string        `json:"subtotal" format:"decimal"`    // of the lines in time
	Adjustments    string        `json:"adjustments" format:"decimal"` // of the lines for late usage of closed periods
	Discount       string        `json:"discount" format:"decimal"`
	Tax            string        `json:"tax" format:"decimal"`
	CreditsApplied string        `json:"credits_applied" format:"decimal"`
	Carried        string        `json:"carried" format:"decimal" doc:"What was below zero, carried to the prepaid balance."`
	Cut            uint64        `json:"cut"` // usage up to this sequence is counted
	PreviousCut    uint64        `json:"previous_cut"`
	InputHash      string        `json:"input_hash"`
}

type invoiceLine struct {
	N            int     `json:"n" minimum:"1"`
	Kind         string  `json:"kind" doc:"What the line is for: usage, tier, included, commitment, fee, discount, tax, credit …"`
	Name         string  `json:"name" doc:"Of the charge, plan, tax or credit; empty for usage at list price."`
	Model        string  `json:"model"`
	Bucket       string  `json:"bucket"`
	PriceVersion string  `json:"price_version"`
	Origin       *string `json:"origin" doc:"The closed period that late usage occurred in; null for usage in time."`
	Quantity     uint64  `json:"quantity"`
	Unit         string  `json:"unit"`
	UnitPrice    string  `json:"unit_price" format:"decimal" doc:"Per 1,000,000 tokens, per image, request or package."`
	Amount       string  `json:"amount" format:"decimal"`
}

func newInvoiceDetail(inv *ledger.Invoice) invoiceDetail {
	money := func(a ledger.Amount) string { return a.Format(inv.Currency) }
	sum := newInvoiceSummary(inv)
	d := invoiceDetail{
		ID: sum.ID, InvoiceNo: sum.InvoiceNo, OrgID: sum.OrgID, PeriodStart: sum.PeriodStart, PeriodEnd: sum.PeriodEnd,
		Total: sum.Total, Status: sum.Status, DueDate: sum.DueDate, CreatedAt: sum.CreatedAt,
		Currency: inv.Currency, Lines: []invoiceLine{},
		Subtotal: money(inv.Subtotal), Adjustments: money(inv.Adjustments), Discount: money(inv.Discount), Tax: money(inv.Tax),
		CreditsApplied: money(inv.CreditsApplied), Carried: money(inv.Carried),
		Cut: inv.Cut, PreviousCut: inv.PreviousCut, InputHash: inv.InputHash.String(),
	}
	for i, l := range inv.Lines {
		line := invoiceLine{
			N: i + 1, Kind: string(l.Kind), Name: l.Name, Model: l.Model, Bucket: string(l.Bucket), PriceVersion: l.PriceVersion,
			Quantity: l.Quantity, Unit: string(l.Unit), UnitPrice: l.UnitPrice.String(), Amount: money(l.Amount),
		}
		if l.Late() {
			line.Origin = &inv.Lines[i].Origin
		}
		d.Lines = append(d.Lines, line)
	}
	return d
}

var invoicesPageSize = pageSize(bounds{def: 20, min: 1, max: 100})

// listInvoices serves GET /api/v1/billing/invoices, newest first.
func (s *Server) listInvoices(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	p := queryOf(r)
	page := p.page(invoicesPageSize)
	if err := p.err(); err != nil {
		return err
	}
	invoices, total, err := s.config.Invoices.Invoices(caller.OrgID, page.number, page.size)
	if err != nil {
		return err
	}
	s.vouchIfKnown(r.Context(), w, caller.OrgID)
	list := make([]invoiceSummary, len(invoices))
	for i := range invoices {
		list[i] = newInvoiceSummary(&invoices[i])
	}
	page.announce(w, r, total)
	writeJSON(w, http.StatusOK, list)
	return nil
}

// getInvoice serves GET /api/v1/billing/invoices/{invoice_id}.
func (s *Server) getInvoice(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	id, err := parseID(chi.URLParam(r, "invoice_id"))
	if err != nil {
		return invalid("uuid_parsing", "the value is not a UUID", "path", "invoice_id")
	}
	inv, err := s.config.Invoices.Invoice(caller.OrgID, id)
	if err != nil {
		return err
	}
	s.vouchIfKnown(r.Context(), w, caller.OrgID)
	return answerInvoice(w, r, &inv)
}

// upcomingInvoice serves GET /api/v1/billing/invoices/upcoming: the current
// period as if it ended now. A period without usage so far is a draft of zero.
func (s *Server) upcomingInvoice(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
	mark, err := s.vouch(r.Context(), w, caller.OrgID)
	if err != nil {
		return err
	}
	inv, err := s.config.Upcoming.Upcoming(r.Context(), caller.OrgID)
	if errors.Is(err, ledger.ErrNothingToBill) {
		inv, err = s.emptyDraft(caller.OrgID, mark.Seq)
	}
	if err != nil {
		return err
	}
	return answerInvoice(w, r, &inv)
}

func (s *Server) emptyDraft(orgID uuid.UUID, cut uint64) (ledger.Invoice, error) {
	org, err := s.config.Orgs.Org(orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	zone, err := s.config.Orgs.Zone(orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	now := s.config.Now()
	period := ledger.PeriodOf(now, zone)
	return ledger.Invoice{
		ID: ledger.InvoiceID(orgID, period.Label), OrgID: orgID, Currency: org.Currency, Period: period,
		CreatedAt: now, DueDate: period.LastDay(), Status: ledger.StatusDraft, Cut: cut,
	}, nil
}

var invoiceColumns = []string{
	"invoice_no", "line", "model", "bucket", "price_version", "origin", "quantity", "unit", "unit_price", "amount", "currency", "kind", "name",
}

// answerInvoice writes an invoice as JSON, or its lines as CSV if asked.
func answerInvoice(w http.ResponseWriter, r *http.Request, inv *ledger.Invoice) error {
	d := newInvoiceDetail(inv)
	w.Header().Set("Vary", "Accept")
	if !wantsCSV(r) {
		writeJSON(w, http.StatusOK, d)
		return nil
	}
	out := csvAnswer{w: w, name: inv.Number + ".csv", columns: invoiceColumns}
	for _, l := range d.Lines {
		err := out.row(d.InvoiceNo, strconv.Itoa(l.N), l.Model, l.Bucket, l.PriceVersion, text(l.Origin),
			count(l.Quantity), l.Unit, l.UnitPrice, l.Amount, d.Currency, l.Kind, l.Name)
		if err != nil {
			return nil // the client left in the middle: there is nobody to tell
		}
	}
	return out.end()
}
