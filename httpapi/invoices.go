package httpapi

import (
	"cmp"
	"errors"
	"net/http"

	"aione/billing"
	"aione/documents"
	"aione/keys"
	"aione/ledger"

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

func newInvoiceSummary(inv *ledger.Invoice, status ledger.Status) invoiceSummary {
	return invoiceSummary{
		ID: inv.ID, InvoiceNo: inv.Number, OrgID: inv.OrgID,
		PeriodStart: inv.Period.FirstDay().String(), PeriodEnd: inv.Period.LastDay().String(),
		Total: inv.Total.Format(inv.Currency), Status: string(status),
		DueDate: inv.DueDate.String(), CreatedAt: instant(inv.CreatedAt),
	}
}

// invoiceDetail is one invoice with its lines:
//
//	total = subtotal + adjustments - discount + tax - credits_applied + carried
//	amount_due = total - amount_paid - what credit notes took off it - amount_written_off
type invoiceDetail struct {
	ID             uuid.UUID        `json:"id"`
	InvoiceNo      string           `json:"invoice_no"` // empty in a draft
	OrgID          uuid.UUID        `json:"org_id"`
	PeriodStart    string           `json:"period_start" format:"date"`
	PeriodEnd      string           `json:"period_end" format:"date" doc:"The last day of the period."`
	Total          string           `json:"total" format:"decimal"`
	Status         string           `json:"status" enum:"draft,issued,paid,overdue,void"`
	DueDate        string           `json:"due_date" format:"date"`
	CreatedAt      string           `json:"created_at" format:"date-time"`
	Currency       string           `json:"currency" doc:"ISO 4217."`
	LegalEntity    string           `json:"legal_entity" doc:"Who issues it."`
	Lines          []invoiceLine    `json:"lines"`
	Subtotal       string           `json:"subtotal" format:"decimal"`    // of the lines in time
	Adjustments    string           `json:"adjustments" format:"decimal"` // of the lines for late usage of closed periods
	Discount       string           `json:"discount" format:"decimal"`
	Tax            string           `json:"tax" format:"decimal"`
	TaxIncluded    string           `json:"tax_included" format:"decimal" doc:"Inside the prices, not added."`
	Taxes          []invoiceTax     `json:"taxes"`
	CreditsApplied string           `json:"credits_applied" format:"decimal"`
	Carried        string           `json:"carried" format:"decimal" doc:"What was below zero, carried to the prepaid balance."`
	AmountPaid     string           `json:"amount_paid" format:"decimal"`
	AmountWritten  string           `json:"amount_written_off" format:"decimal" doc:"Given up: such an invoice is paid as far as nothing is due."`
	AmountDue      string           `json:"amount_due" format:"decimal" doc:"What is still to be paid."`
	Segments       []invoiceSegment `json:"segments" doc:"The plans in force in the period, oldest first."`
	Payments       []invoicePayment `json:"payments" doc:"Oldest first."`
	CreditNotes    []creditNoteItem `json:"credit_notes" doc:"Oldest first."`
	Replaces       *string          `json:"replaces" format:"uuid" doc:"The void invoice that this one corrects."`
	ReplacedBy     *string          `json:"replaced_by" format:"uuid" doc:"The invoice that corrects this void one."`
	Cut            uint64           `json:"cut"` // usage up to this sequence is counted
	PreviousCut    uint64           `json:"previous_cut"`
	InputHash      string           `json:"input_hash"`
}

type invoiceLine struct {
	N            int     `json:"n" minimum:"1"`
	Kind         string  `json:"kind" doc:"What the line is for: usage, tier, included, commitment, fee, discount, tax, credit …"`
	Name         string  `json:"name" doc:"Of the charge, plan, tax or credit; empty for usage at list price."`
	Model        string  `json:"model"`
	Bucket       string  `json:"bucket"`
	PriceVersion string  `json:"price_version"`
	Origin       *string `json:"origin" doc:"The closed period that late usage occurred in; null for usage in time."`
	Segment      int     `json:"segment" minimum:"0" doc:"Which of the period's segments it is of, from 0."`
	Tier         *int    `json:"tier" minimum:"1" doc:"Of the charge."`
	Days         *int    `json:"days" minimum:"0" doc:"base is for of_days, of which this line has days."`
	OfDays       *int    `json:"of_days" minimum:"1"`
	Pct          *string `json:"pct" format:"decimal" doc:"Of base."`
	Base         *string `json:"base" format:"decimal" doc:"What is prorated, or what pct is of."`
	Quantity     uint64  `json:"quantity"`
	Unit         string  `json:"unit"`
	UnitPrice    string  `json:"unit_price" format:"decimal" doc:"Per 1,000,000 tokens, per image, request or package."`
	FlatFee      *string `json:"flat_fee" format:"decimal" doc:"Of the tier."`
	Exact        string  `json:"exact" format:"decimal" doc:"Before it was rounded, once."`
	Amount       string  `json:"amount" format:"decimal"`
}

type invoiceTax struct {
	Name      string `json:"name"`
	Pct       string `json:"pct" format:"decimal"`
	Inclusive bool   `json:"inclusive"`
	Base      string `json:"base" format:"decimal"`
	Amount    string `json:"amount" format:"decimal"`
}

type invoiceSegment struct {
	PlanCode string `json:"plan_code" doc:"Empty for pay as you go without a plan."`
	FirstDay string `json:"first_day" format:"date"`
	Days     int    `json:"days" minimum:"1"`
}

type invoicePayment struct {
	PaymentID uuid.UUID `json:"payment_id"`
	At        string    `json:"at" format:"date-time"`
	Amount    string    `json:"amount" format:"decimal"`
	Reference string    `json:"reference"`
}

// newInvoiceDetail shows an invoice as it stands; a draft has the zero Standing.
func newInvoiceDetail(inv *ledger.Invoice, at billing.Standing, status ledger.Status) invoiceDetail {
	money := func(a ledger.Amount) string { return a.Format(inv.Currency) }
	sum := newInvoiceSummary(inv, status)
	d := invoiceDetail{
		ID: sum.ID, InvoiceNo: sum.InvoiceNo, OrgID: sum.OrgID, PeriodStart: sum.PeriodStart, PeriodEnd: sum.PeriodEnd,
		Total: sum.Total, Status: sum.Status, DueDate: sum.DueDate, CreatedAt: sum.CreatedAt,
		Currency: inv.Currency, LegalEntity: inv.LegalEntity, Lines: []invoiceLine{}, Taxes: []invoiceTax{},
		Subtotal: money(inv.Subtotal), Adjustments: money(inv.Adjustments), Discount: money(inv.Discount),
		Tax: money(inv.Tax), TaxIncluded: money(inv.TaxIncluded), CreditsApplied: money(inv.CreditsApplied), Carried: money(inv.Carried),
		AmountPaid: money(at.Paid), AmountWritten: money(at.WrittenOff), AmountDue: money(at.Due),
		Segments: []invoiceSegment{}, Payments: []invoicePayment{}, CreditNotes: []creditNoteItem{},
		ReplacedBy: idOrNull(at.ReplacedBy), Cut: inv.Cut, PreviousCut: inv.PreviousCut, InputHash: inv.InputHash.String(),
	}
	if status == ledger.StatusDraft {
		d.AmountDue = sum.Total
	}
	if inv.Correction != nil {
		d.Replaces = idOrNull(inv.Correction.Replaces)
	}
	for i := range inv.Lines {
		d.Lines = append(d.Lines, newInvoiceLine(i+1, &inv.Lines[i], inv.Currency))
	}
	for _, t := range inv.Taxes {
		d.Taxes = append(d.Taxes, invoiceTax{Name: t.Name, Pct: t.Pct.String(), Inclusive: t.Inclusive, Base: money(t.Base), Amount: money(t.Amount)})
	}
	for _, seg := range inv.Segments {
		d.Segments = append(d.Segments, invoiceSegment{PlanCode: seg.PlanCode, FirstDay: seg.First.String(), Days: seg.Days})
	}
	for _, p := range at.Payments {
		d.Payments = append(d.Payments, invoicePayment{PaymentID: p.PaymentID, At: instant(p.At), Amount: money(p.Amount), Reference: p.Reference})
	}
	for i := range at.CreditNotes {
		d.CreditNotes = append(d.CreditNotes, newCreditNoteItem(&at.CreditNotes[i]))
	}
	return d
}

func newInvoiceLine(n int, l *ledger.Line, currency string) invoiceLine {
	line := invoiceLine{
		N: n, Kind: string(l.Kind), Name: l.Name, Model: l.Model, Bucket: string(l.Bucket), PriceVersion: l.PriceVersion, Segment: l.Segment,
		Tier: numberOrNull(l.Tier), Quantity: l.Quantity, Unit: string(l.Unit), UnitPrice: l.UnitPrice.String(),
		Origin: textOrNull(l.Origin), Exact: l.Exact.String(), Amount: l.Amount.Format(currency),
	}
	if l.OfDays > 0 {
		line.Days, line.OfDays = &l.Days, &l.OfDays
	}
	if !l.Pct.IsZero() {
		line.Pct = textOrNull(l.Pct.String())
	}
	if l.OfDays > 0 || !l.Pct.IsZero() {
		line.Base = textOrNull(l.Base.Format(currency))
	}
	if !l.FlatFee.IsZero() {
		line.FlatFee = textOrNull(l.FlatFee.Format(currency))
	}
	return line
}

func numberOrNull(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

var invoicesPageSize = pageSize(bounds{def: 20, min: 1, max: 100})

// listInvoices serves GET …/invoices, newest first.
func (s *Server) listInvoices(of subject) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		org, err := of(r, caller)
		if err != nil {
			return err
		}
		p := queryOf(r)
		page := p.page(invoicesPageSize)
		if err := p.err(); err != nil {
			return err
		}
		invoices, total, err := s.config.Books.Invoices(org, page.number, page.size)
		if err != nil {
			return err
		}
		today, err := s.today(org)
		if err != nil {
			return err
		}
		list := make([]invoiceSummary, len(invoices))
		for i := range invoices {
			at, err := s.config.Accounts.Standing(org, invoices[i].ID)
			if err != nil {
				return err
			}
			list[i] = newInvoiceSummary(&invoices[i], at.Status(today))
		}
		s.vouchIfKnown(r.Context(), w, org)
		page.announce(w, r, total)
		writeJSON(w, http.StatusOK, list)
		return nil
	}
}

// getInvoice serves GET …/invoices/{invoice_id}.
func (s *Server) getInvoice(of subject) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		org, err := of(r, caller)
		if err != nil {
			return err
		}
		inv, err := s.invoiceOf(r, org)
		if err != nil {
			return err
		}
		s.vouchIfKnown(r.Context(), w, org)
		return s.answerInvoice(w, r, &inv)
	}
}

// upcomingInvoice serves GET /api/v1/billing/invoices/upcoming: the current
// period as if it ended now. A period with nothing to bill so far is a draft of zero.
func (s *Server) upcomingInvoice(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
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
	return s.answerInvoice(w, r, &inv)
}

// listDrafts serves GET /api/v1/billing/invoices/drafts.
func (s *Server) listDrafts(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	if _, err := s.vouch(r.Context(), w, caller.OrgID); err != nil {
		return err
	}
	drafts, err := s.config.Upcoming.Drafts(r.Context(), caller.OrgID)
	if err != nil {
		return err
	}
	list := make([]invoiceDetail, len(drafts))
	for i := range drafts {
		list[i] = newInvoiceDetail(&drafts[i], billing.Standing{}, ledger.StatusDraft)
	}
	writeJSON(w, http.StatusOK, list)
	return nil
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
	anchor, err := s.config.Profiles.Anchor(orgID)
	if err != nil {
		return ledger.Invoice{}, err
	}
	now := s.config.Now()
	period, err := ledger.AnchoredPeriodOf(now, zone, anchor)
	if err != nil {
		return ledger.Invoice{}, err
	}
	return ledger.Invoice{
		ID: ledger.InvoiceID(orgID, period.Label), OrgID: orgID, LegalEntity: org.LegalEntity, Currency: org.Currency, Period: period,
		CreatedAt: now, CreatedOn: ledger.DateOf(now, zone), DueDate: period.LastDay(), Status: ledger.StatusDraft, Cut: cut,
	}, nil
}

// standingOf is where an invoice stands today; the zero Standing for a draft.
func (s *Server) standingOf(inv *ledger.Invoice) (billing.Standing, ledger.Status, error) {
	if inv.Status == ledger.StatusDraft {
		return billing.Standing{}, inv.Status, nil
	}
	today, err := s.today(inv.OrgID)
	if err != nil {
		return billing.Standing{}, "", err
	}
	at, err := s.config.Accounts.Standing(inv.OrgID, inv.ID)
	if err != nil {
		return at, "", err
	}
	return at, at.Status(today), nil
}

// Forms that an invoice can be had in, besides JSON.
const (
	csvType = "text/csv"
	pdfType = "application/pdf"
)

var documentLanguage = param{kind: choiceParam, name: "lang", words: []string{"zh-en", "zh", "en"}, doc: "Of a PDF."}

// answerInvoice writes an invoice as JSON, as a PDF, or its lines as CSV.
func (s *Server) answerInvoice(w http.ResponseWriter, r *http.Request, inv *ledger.Invoice) error {
	p := queryOf(r)
	language, bom := documents.Language(p.choice(documentLanguage)), p.choice(byteOrderMark) == "true"
	if err := p.err(); err != nil {
		return err
	}
	at, status, err := s.standingOf(inv)
	if err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept")
	switch wanted(r, jsonType, pdfType, csvType) {
	case pdfType:
		return s.answerPDF(w, inv.OrgID, inv.Number, func() ([]byte, error) {
			parties, err := documents.PartiesOf(s.config.Books, *inv)
			if err != nil {
				return nil, err
			}
			shown := *inv
			shown.Status = status
			settled, err := documents.SettledOf(at.InvoiceState)
			if err != nil {
				return nil, err
			}
			return documents.InvoicePDF(shown, settled, parties, language)
		})
	case csvType:
		csvHeaders(w, cmp.Or(inv.Number, "draft")+".csv")
		// An error is the client's, who left in the middle: there is nobody to tell.
		_ = documents.InvoiceCSV(marked(w, bom), *inv)
		return nil
	}
	writeJSON(w, http.StatusOK, newInvoiceDetail(inv, at, status))
	return nil
}
