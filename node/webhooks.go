package node

import (
	"context"
	"fmt"
	"os"

	"github.com/google/uuid"

	"aione/billing"
	"aione/events"
	"aione/ledger"
	"aione/webhooks"
)

// WebhookConfig says where webhooks may go.
type WebhookConfig struct {
	Loopback bool `name:"webhook-loopback" env:"AIONE_WEBHOOK_LOOPBACK" help:"For development: webhooks may go to this machine, also by http. Else only to public addresses by https."`
}

func (c WebhookConfig) destinations() webhooks.Destinations {
	return webhooks.Destinations{AllowLoopback: c.Loopback}
}

// Types of events that orgs can be told of. What a type is made of may not be
// made of more records later: see webhooks.Translate.
const (
	eventInvoiceIssued  = "invoice.issued"
	eventInvoicePaid    = "invoice.paid"
	eventInvoiceVoided  = "invoice.voided"
	eventInvoiceOverdue = "invoice.overdue"
	eventCreditNote     = "credit_note.issued"
	eventBudgetCrossed  = "budget.threshold_crossed"
	eventBalanceLow     = "balance.low"
)

var eventTypes = []string{eventInvoiceIssued, eventInvoicePaid, eventInvoiceVoided, eventInvoiceOverdue, eventCreditNote, eventBudgetCrossed, eventBalanceLow}

// invoiceEvent is what an org is told of an invoice: as it stood when it happened.
type invoiceEvent struct {
	InvoiceID uuid.UUID `json:"invoice_id"`
	InvoiceNo string    `json:"invoice_no"`
	OrgID     uuid.UUID `json:"org_id"`
	Period    string    `json:"period"` // label
	Status    string    `json:"status"`
	Total     string    `json:"total"`
	AmountDue string    `json:"amount_due"`
	Currency  string    `json:"currency"`
	DueDate   string    `json:"due_date"`
}

// creditNoteEvent is what an org is told of a credit note.
type creditNoteEvent struct {
	CreditNoteID uuid.UUID `json:"credit_note_id"`
	CreditNoteNo string    `json:"credit_note_no"`
	InvoiceID    uuid.UUID `json:"invoice_id"`
	InvoiceNo    string    `json:"invoice_no"`
	OrgID        uuid.UUID `json:"org_id"`
	Full         bool      `json:"full"`
	Total        string    `json:"total"`
	Currency     string    `json:"currency"`
	Reason       string    `json:"reason"`
}

// budgetEvent says that a part of a budget, or of included usage, is used up.
type budgetEvent struct {
	OrgID    uuid.UUID `json:"org_id"`
	Period   string    `json:"period"`
	Of       string    `json:"of"` // budget, included_tokens or included_amount
	Pct      int       `json:"pct"`
	Used     string    `json:"used"`
	Limit    string    `json:"limit"`
	Currency string    `json:"currency"`
}

// balanceEvent says that a balance fell to a threshold or below.
type balanceEvent struct {
	OrgID     uuid.UUID `json:"org_id"`
	Period    string    `json:"period"`
	Balance   string    `json:"balance"`
	Threshold string    `json:"threshold"`
	Currency  string    `json:"currency"`
}

// translate tells of records of billing. A record that it cannot read is none: the
// book has refused it by then.
func translate(r events.Record) (webhooks.Event, bool) {
	switch r.Type {
	case billing.TypeInvoiceIssued:
		return told(r, func(e ledger.Entry) webhooks.Event { return issued(e.Invoice) })
	case billing.TypeCorrected:
		// Its credit note has a record of its own, see billing.TypeCorrectionNote.
		return told(r, func(c billing.Corrected) webhooks.Event { return issued(c.Invoice.Invoice) })
	case billing.TypeInvoicePaid:
		return told(r, func(c billing.StatusChange) webhooks.Event { return changed(eventInvoicePaid, c) })
	case billing.TypeInvoiceVoided:
		return told(r, func(c billing.StatusChange) webhooks.Event { return changed(eventInvoiceVoided, c) })
	case billing.TypeInvoiceOverdue:
		return told(r, func(c billing.StatusChange) webhooks.Event { return changed(eventInvoiceOverdue, c) })
	case billing.TypeCreditNoteIssued:
		return told(r, func(e ledger.Entry) webhooks.Event { return credited(e.CreditNote) })
	case billing.TypeCorrectionNote:
		return told(r, func(n ledger.CreditNote) webhooks.Event { return credited(&n) })
	case billing.TypeBudgetCrossed:
		return told(r, func(c billing.BudgetCrossed) webhooks.Event {
			return webhooks.Event{OrgID: c.OrgID, Type: eventBudgetCrossed, Data: budgetEvent{OrgID: c.OrgID, Period: c.Period, Of: c.Of, Pct: c.Pct,
				Used: c.Used.String(), Limit: c.Limit.String(), Currency: c.Currency}}
		})
	case billing.TypeBalanceLow:
		return told(r, func(b billing.BalanceLow) webhooks.Event {
			return webhooks.Event{OrgID: b.OrgID, Type: eventBalanceLow, Data: balanceEvent{OrgID: b.OrgID, Period: b.Period,
				Balance: b.Balance.Format(b.Currency), Threshold: b.Threshold.Format(b.Currency), Currency: b.Currency}}
		})
	}
	return webhooks.Event{}, false
}

// told makes an event of a record's data; the zero event is none.
func told[T any](r events.Record, event func(T) webhooks.Event) (webhooks.Event, bool) {
	var data T
	if err := r.Into(&data); err != nil {
		return webhooks.Event{}, false
	}
	e := event(data)
	return e, e.Type != ""
}

func issued(inv *ledger.Invoice) webhooks.Event {
	if inv == nil {
		return webhooks.Event{}
	}
	total := inv.Total.Format(inv.Currency)
	return webhooks.Event{OrgID: inv.OrgID, Type: eventInvoiceIssued, Data: invoiceEvent{InvoiceID: inv.ID, InvoiceNo: inv.Number, OrgID: inv.OrgID,
		Period: inv.Period.Label, Status: string(ledger.StatusIssued), Total: total, AmountDue: total, Currency: inv.Currency, DueDate: inv.DueDate.String()}}
}

func changed(typ string, c billing.StatusChange) webhooks.Event {
	return webhooks.Event{OrgID: c.OrgID, Type: typ, Data: invoiceEvent{InvoiceID: c.InvoiceID, InvoiceNo: c.Number, OrgID: c.OrgID, Period: c.Period,
		Status: string(c.Status), Total: c.Total.Format(c.Currency), AmountDue: c.Due.Format(c.Currency), Currency: c.Currency, DueDate: c.DueDate.String()}}
}

func credited(n *ledger.CreditNote) webhooks.Event {
	if n == nil {
		return webhooks.Event{}
	}
	return webhooks.Event{OrgID: n.OrgID, Type: eventCreditNote, Data: creditNoteEvent{CreditNoteID: n.ID, CreditNoteNo: n.Number, InvoiceID: n.InvoiceID,
		InvoiceNo: n.InvoiceNumber, OrgID: n.OrgID, Full: n.Full, Total: n.Total.Format(n.Currency), Currency: n.Currency, Reason: n.Reason}}
}

// WebhookCommands change the endpoints of orgs.
func (n *Node) WebhookCommands(c WebhookConfig) webhooks.Commands {
	return webhooks.Commands{Log: n.Log, Book: n.Webhooks, Secrets: n.secrets, Destinations: c.destinations()}
}

// Deliver tells orgs what happens until ctx ends. Of several processes one does.
func (n *Node) Deliver(ctx context.Context, c WebhookConfig) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	d, err := webhooks.NewDeliverer(webhooks.Config{Log: n.Log, Book: n.Webhooks, Secrets: n.secrets, Now: n.Clock, Logger: n.Logger,
		Holder: fmt.Sprintf("%s/%d", host, os.Getpid()), Destinations: c.destinations()})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}
