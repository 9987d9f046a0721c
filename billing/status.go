package billing

import (
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// Types of the records that say what became of an invoice, on its own subject and
// in the batch that made it so; their data is a StatusChange.
const (
	TypeInvoicePaid    = "invoice.paid"    // nothing is open any more; also at once, when credits paid all
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
	Open      ledger.Amount `json:"open"` // what is still to be paid
	DueDate   ledger.Date   `json:"due_date"`
	CauseID   uuid.UUID     `json:"cause_id,omitzero"` // the payment, credit note …
}

// Types of the records of thresholds, each on a subject that is written once.
const (
	TypeBudgetCrossed = "budget.threshold_crossed" // Data: BudgetCrossed
	TypeBalanceLow    = "balance.low"              // Data: BalanceLow
)

// BudgetCrossed says that a percentage of something was reached in a period.
type BudgetCrossed struct {
	OrgID    uuid.UUID     `json:"org_id"`
	Period   string        `json:"period"` // label; the budget's calendar month, or the billing period
	Of       string        `json:"of"`     // "budget", "included_tokens" or "included_amount"
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
