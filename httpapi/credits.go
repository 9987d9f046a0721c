package httpapi

import (
	"net/http"

	"aione/billing"
	"aione/documents"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// creditItem is a credit that an org has or had.
type creditItem struct {
	ID        uuid.UUID `json:"id"`
	Kind      string    `json:"kind" enum:"prepaid,promotional" doc:"Prepaid is the organisation's own money; promotional credits were given."`
	Amount    string    `json:"amount" format:"decimal"`
	Remaining string    `json:"remaining" format:"decimal" doc:"Neither used by an invoice nor expired or refunded."`
	Currency  string    `json:"currency"`
	GrantedAt string    `json:"granted_at" format:"date-time"`
	ExpiresAt *string   `json:"expires_at" format:"date-time" doc:"From then on it pays nothing; null means never."`
	Priority  int       `json:"priority" doc:"Lower goes first among credits that expire together."`
	Source    string    `json:"source" doc:"Where it came from, for people."`
}

func newCreditItem(c ledger.Credit, currency string) creditItem {
	g := c.Grant
	return creditItem{
		ID: g.ID, Kind: string(g.Kind), Amount: g.Amount.Format(currency), Remaining: c.Remaining.Format(currency), Currency: currency,
		GrantedAt: instant(g.GrantedAt), ExpiresAt: instantOrNull(g.ExpiresAt), Priority: g.Priority, Source: g.Source,
	}
}

// paymentItem is money that came in.
type paymentItem struct {
	ID          uuid.UUID        `json:"id"`
	Amount      string           `json:"amount" format:"decimal"`
	Currency    string           `json:"currency"`
	ReceivedAt  string           `json:"received_at" format:"date-time"`
	Reference   string           `json:"reference"`
	Allocations []allocationItem `json:"allocations" doc:"Which invoices it paid."`
	Overpaid    string           `json:"overpaid" format:"decimal" doc:"What was left over, and is prepaid now."`
}

type allocationItem struct {
	InvoiceID uuid.UUID `json:"invoice_id"`
	Amount    string    `json:"amount" format:"decimal"`
}

func newPaymentItem(p ledger.Payment, currency string) paymentItem {
	item := paymentItem{
		ID: p.ID, Amount: p.Amount.Format(currency), Currency: currency, ReceivedAt: instant(p.At), Reference: p.Reference,
		Allocations: []allocationItem{}, Overpaid: p.Overpaid.Format(currency),
	}
	for _, a := range p.Allocations {
		item.Allocations = append(item.Allocations, allocationItem{a.InvoiceID, a.Amount.Format(currency)})
	}
	return item
}

// creditNoteItem is a credit note in a list.
type creditNoteItem struct {
	ID           uuid.UUID `json:"id"`
	CreditNoteNo string    `json:"credit_note_no"`
	InvoiceID    uuid.UUID `json:"invoice_id"`
	InvoiceNo    string    `json:"invoice_no"`
	Full         bool      `json:"full" doc:"The invoice is void."`
	Total        string    `json:"total" format:"decimal"`
	Currency     string    `json:"currency"`
	Reason       string    `json:"reason"`
	CreatedOn    string    `json:"created_on" format:"date"`
	CreatedAt    string    `json:"created_at" format:"date-time"`
}

func newCreditNoteItem(n *ledger.CreditNote) creditNoteItem {
	return creditNoteItem{
		ID: n.ID, CreditNoteNo: n.Number, InvoiceID: n.InvoiceID, InvoiceNo: n.InvoiceNumber, Full: n.Full, Total: n.Total.Format(n.Currency),
		Currency: n.Currency, Reason: n.Reason, CreatedOn: n.CreatedOn.String(), CreatedAt: instant(n.CreatedAt),
	}
}

// creditNoteDetail is one credit note:
//
//	total = subtotal + tax = off_due + to_prepaid + restored_credits + taken_back
type creditNoteDetail struct {
	ID           uuid.UUID        `json:"id"`
	CreditNoteNo string           `json:"credit_note_no"`
	InvoiceID    uuid.UUID        `json:"invoice_id"`
	InvoiceNo    string           `json:"invoice_no"`
	Full         bool             `json:"full" doc:"The invoice is void."`
	Total        string           `json:"total" format:"decimal"`
	Currency     string           `json:"currency"`
	Reason       string           `json:"reason"`
	CreatedOn    string           `json:"created_on" format:"date"`
	CreatedAt    string           `json:"created_at" format:"date-time"`
	Lines        []creditNoteLine `json:"lines"`
	Subtotal     string           `json:"subtotal" format:"decimal"`
	Tax          string           `json:"tax" format:"decimal"`
	Taxes        []invoiceTax     `json:"taxes"`
	OffDue       string           `json:"off_due" format:"decimal" doc:"Taken off what the invoice leaves to pay."`
	ToPrepaid    string           `json:"to_prepaid" format:"decimal" doc:"Was paid already, and is prepaid now."`
	Restored     string           `json:"restored_credits" format:"decimal" doc:"Given back to the credits that paid."`
	TakenBack    string           `json:"taken_back" format:"decimal" doc:"What the invoice had carried to the prepaid balance."`
}

type creditNoteLine struct {
	Line   int    `json:"line" minimum:"1" doc:"Of the invoice."`
	Amount string `json:"amount" format:"decimal" doc:"Without tax on top."`
}

func newCreditNoteDetail(n *ledger.CreditNote) (creditNoteDetail, error) {
	money := func(a ledger.Amount) string { return a.Format(n.Currency) }
	at := newCreditNoteItem(n)
	var restored ledger.Amount
	for _, use := range n.Restored {
		var err error
		if restored, err = restored.Add(use.Amount); err != nil {
			return creditNoteDetail{}, err
		}
	}
	d := creditNoteDetail{
		ID: at.ID, CreditNoteNo: at.CreditNoteNo, InvoiceID: at.InvoiceID, InvoiceNo: at.InvoiceNo, Full: at.Full, Total: at.Total,
		Currency: at.Currency, Reason: at.Reason, CreatedOn: at.CreatedOn, CreatedAt: at.CreatedAt, Lines: []creditNoteLine{}, Taxes: []invoiceTax{},
		Subtotal: money(n.Subtotal), Tax: money(n.Tax), OffDue: money(n.OffDue), ToPrepaid: money(n.ToPrepaid), Restored: money(restored), TakenBack: money(n.TakenBack),
	}
	for _, l := range n.Lines {
		d.Lines = append(d.Lines, creditNoteLine{l.Line, money(l.Amount)})
	}
	for _, t := range n.Taxes {
		d.Taxes = append(d.Taxes, invoiceTax{Name: t.Name, Pct: t.Pct.String(), Inclusive: t.Inclusive, Base: money(t.Base), Amount: money(t.Amount)})
	}
	return d, nil
}

// changeItem is one thing that happened to an org.
type changeItem struct {
	Seq     uint64 `json:"seq" doc:"Of the record in the ledger."`
	At      string `json:"at" format:"date-time"`
	Type    string `json:"type"`
	Actor   string `json:"actor" doc:"Who did it."`
	Reason  string `json:"reason" doc:"Why, in the actor's words."`
	Subject string `json:"subject" doc:"Where the record is in the ledger."`
}

// listed serves a page of what is kept of an org, newest first.
func listed[T, Item any](s *Server, of subject, read func(org uuid.UUID, page, pageSize int) ([]T, int, error), item func(v T, currency string) Item) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		id, err := of(r, caller)
		if err != nil {
			return err
		}
		p := queryOf(r)
		page := p.page(invoicesPageSize)
		if err := p.err(); err != nil {
			return err
		}
		org, err := s.config.Orgs.Org(id)
		if err != nil {
			return err
		}
		found, total, err := read(id, page.number, page.size)
		if err != nil {
			return err
		}
		list := make([]Item, len(found))
		for i := range found {
			list[i] = item(found[i], org.Currency)
		}
		page.announce(w, r, total)
		writeJSON(w, http.StatusOK, list)
		return nil
	}
}

func (s *Server) listCredits(of subject) authorised {
	return listed(s, of, s.config.Accounts.Grants, newCreditItem)
}

func (s *Server) listPayments(of subject) authorised {
	return listed(s, of, s.config.Accounts.Payments, newPaymentItem)
}

func (s *Server) listCreditNotes(of subject) authorised {
	return listed(s, of, s.config.Books.CreditNotes, func(n ledger.CreditNote, _ string) creditNoteItem { return newCreditNoteItem(&n) })
}

func (s *Server) listChanges(of subject) authorised {
	return listed(s, of, s.config.Accounts.Changes, func(c billing.Change, _ string) changeItem {
		return changeItem{Seq: c.Seq, At: instant(c.At), Type: c.Type, Actor: c.Actor, Reason: c.Reason, Subject: c.Subject}
	})
}

// getCreditNote serves GET …/credit-notes/{credit_note_id}, as JSON or PDF.
func (s *Server) getCreditNote(of subject) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		org, err := of(r, caller)
		if err != nil {
			return err
		}
		id, err := pathID(r, "credit_note_id")
		if err != nil {
			return err
		}
		p := queryOf(r)
		language := documents.Language(p.choice(documentLanguage))
		if err := p.err(); err != nil {
			return err
		}
		note, err := s.config.Accounts.CreditNote(org, id)
		if err != nil {
			return err
		}
		w.Header().Set("Vary", "Accept")
		if wanted(r, jsonType, pdfType) == pdfType {
			return s.answerPDF(w, org, note.Number, func() ([]byte, error) {
				inv, err := s.config.Books.Invoice(org, note.InvoiceID)
				if err != nil {
					return nil, err
				}
				parties, err := documents.PartiesOf(s.config.Books, inv)
				if err != nil {
					return nil, err
				}
				return documents.CreditNotePDF(note, inv, parties, language)
			})
		}
		d, err := newCreditNoteDetail(&note)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, d)
		return nil
	}
}
