package billing

import (
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// Types of the records that say what became of an invoice, on its own subject and
// in the batch that made it so; their data is a StatusChange.
const (
	TypeInvoicePaid    = "invoice.paid"    // nothing is due any more; also at once, when credits paid all
	TypeInvoiceVoided  = "invoice.voided"  // by a credit note
	TypeInvoiceOverdue = "invoice.overdue" // written by the invoicer, once
)

// StatusChange is an invoice's new status.
type StatusChange struct {
	OrgID     uuid.UUID     `json:"org_id"`
	InvoiceID uuid.UUID     `json:"invoice_id"`
	Number    string        `json:"number"`
	Period    string        `json:"period"` // label
	Status    ledger.Status `json:"status"`
	Currency  string        `json:"currency"`
	Total     ledger.Amount `json:"total"`
	Due       ledger.Amount `json:"due"` // what is still to be paid
	DueDate   ledger.Date   `json:"due_date"`
	CauseID   uuid.UUID     `json:"cause_id,omitzero"` // the payment, credit note …
}

const invoicePrefix = "LEDGER.invoice."

// invoiceSubject carries what becomes of an invoice.
func invoiceSubject(orgID, invoiceID uuid.UUID) string {
	return invoicePrefix + orgID.String() + "." + invoiceID.String()
}

func newStatusChange(inv *ledger.Invoice, status ledger.Status, due ledger.Amount, cause uuid.UUID) StatusChange {
	return StatusChange{OrgID: inv.OrgID, InvoiceID: inv.ID, Number: inv.Number, Period: inv.Period.Label, Status: status,
		Currency: inv.Currency, Total: inv.Total, Due: due, DueDate: inv.DueDate, CauseID: cause}
}

// addStatuses says what an entry makes of invoices. The journal's record, in the
// same batch, orders these.
func (b *batch) addStatuses(v view, e ledger.Entry) {
	paid := func(inv *ledger.Invoice) {
		b.addUnchecked(invoiceSubject(inv.OrgID, inv.ID), TypeInvoicePaid, newStatusChange(inv, ledger.StatusPaid, ledger.Amount{}, e.Journal.CauseID))
	}
	switch {
	case e.Invoice != nil:
		if e.Invoice.Total.IsZero() {
			paid(e.Invoice)
		}
	case e.Payment != nil:
		for _, part := range e.Payment.Allocations {
			if s, ok := v.state.Invoice(part.InvoiceID); ok && s.Due.Cmp(part.Amount) == 0 {
				paid(s.Invoice)
			}
		}
	case e.CreditNote != nil:
		s, ok := v.state.Invoice(e.CreditNote.InvoiceID)
		switch {
		case !ok:
		case e.CreditNote.Full:
			b.addUnchecked(invoiceSubject(v.org.ID, s.Invoice.ID), TypeInvoiceVoided, newStatusChange(s.Invoice, ledger.StatusVoid, ledger.Amount{}, e.CreditNote.ID))
		case !s.Due.IsZero() && s.Due.Cmp(e.CreditNote.OffDue) == 0:
			paid(s.Invoice)
		}
	}
}

func (b *Book) applyOverdue(c StatusChange) error {
	a, err := b.known(c.OrgID)
	if err != nil {
		return err
	}
	if a.overdue == nil {
		a.overdue = make(map[uuid.UUID]bool)
	}
	a.overdue[c.InvoiceID] = true
	return nil
}

// Types of the records of thresholds, each threshold on a subject of its own.
const (
	TypeBudgetCrossed    = "budget.threshold_crossed" // Data: BudgetCrossed
	TypeBalanceLow       = "balance.low"              // Data: BalanceLow
	TypeBalanceRecovered = "balance.recovered"        // Data: BalanceLow, as it is above; after it the balance may be low again
)

// What a BudgetCrossed is of.
const (
	OfBudget         = "budget"
	OfIncludedTokens = "included_tokens"
	OfIncludedAmount = "included_amount"
)

// BudgetCrossed says that a percentage of something was reached in a period.
type BudgetCrossed struct {
	OrgID    uuid.UUID     `json:"org_id"`
	Period   string        `json:"period"` // label; of a budget the calendar month, else the billing period
	Of       string        `json:"of"`     // OfBudget …
	Pct      int           `json:"pct"`
	Used     ledger.Amount `json:"used"` // money, or tokens
	Limit    ledger.Amount `json:"limit"`
	Currency string        `json:"currency"`
	At       time.Time     `json:"at"`
}

// BalanceLow says that an org's balance fell to a threshold or below.
type BalanceLow struct {
	OrgID     uuid.UUID     `json:"org_id"`
	Period    string        `json:"period"` // label of the billing period
	Balance   ledger.Amount `json:"balance"`
	Threshold ledger.Amount `json:"threshold"`
	Currency  string        `json:"currency"`
	At        time.Time     `json:"at"`
}
