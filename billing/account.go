package billing

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// Account is where an org's money stands.
type Account struct {
	Prepaid ledger.Amount // what is left of its own money
	Promo   ledger.Amount // what is left of credits it was given
	Owed    ledger.Amount // open on invoices
	// Opened is since when usage is paid from a balance at admission; zero when the
	// org is billed afterwards only.
	Opened time.Time
}

// Standing is where an invoice stands. Its Status is issued, paid or void: whether
// it is overdue depends on the date, see StatusOn.
type Standing struct {
	ledger.InvoiceState
	Status      ledger.Status
	Open        ledger.Amount // what is still to be paid
	CreditNotes []ledger.CreditNote
	Payments    []PaidPart // oldest first
	ReplacedBy  uuid.UUID  // the corrected invoice; zero when there is none
}

// PaidPart is what a payment paid of an invoice.
type PaidPart struct {
	PaymentID uuid.UUID
	At        time.Time
	Amount    ledger.Amount
	Reference string
}

// StatusOn is Status, and overdue from the day after the due date on while
// something is open.
func (s Standing) StatusOn(today ledger.Date) ledger.Status {
	if s.Status == ledger.StatusIssued && s.Invoice.DueDate.Before(today) {
		return ledger.StatusOverdue
	}
	return s.Status
}

// Change is one thing that happened to an org: a record of the ledger.
type Change struct {
	Seq     uint64 // of the ledger
	At      time.Time
	Type    string // e.g. TypePaymentReceived
	Actor   string
	Reason  string
	Subject string
	About   uuid.UUID // the invoice, payment, credit, plan, team … it is about; zero for the org itself
}

// Account is where an org's money stands, or ErrNotFound.
func (b *Book) Account(orgID uuid.UUID) (Account, error) {
	return Account{}, fmt.Errorf("account: %w", errNotBuilt)
}

// Standing is where an invoice of an org stands; ErrNotFound also when it is
// another org's.
func (b *Book) Standing(orgID, invoiceID uuid.UUID) (Standing, error) {
	return Standing{}, fmt.Errorf("standing: %w", errNotBuilt)
}

// Credits are an org's credits with something left, in the order of use, or
// ErrNotFound.
func (b *Book) Credits(orgID uuid.UUID) ([]ledger.Credit, error) {
	return nil, fmt.Errorf("credits: %w", errNotBuilt)
}

// Grants is a page (the first is 1) of all credits that an org ever had, newest
// first, with what is left of each, and how many there are; or ErrNotFound.
func (b *Book) Grants(orgID uuid.UUID, page, pageSize int) ([]ledger.Credit, int, error) {
	return nil, 0, fmt.Errorf("grants: %w", errNotBuilt)
}

// Payments is a page of an org's payments, newest first, as Grants.
func (b *Book) Payments(orgID uuid.UUID, page, pageSize int) ([]ledger.Payment, int, error) {
	return nil, 0, fmt.Errorf("payments: %w", errNotBuilt)
}

// CreditNotes is a page of an org's credit notes, newest first, as Grants.
func (b *Book) CreditNotes(orgID uuid.UUID, page, pageSize int) ([]ledger.CreditNote, int, error) {
	return nil, 0, fmt.Errorf("credit notes: %w", errNotBuilt)
}

// CreditNote is a credit note of an org; ErrNotFound also when it is another org's.
func (b *Book) CreditNote(orgID, id uuid.UUID) (ledger.CreditNote, error) {
	return ledger.CreditNote{}, fmt.Errorf("credit note: %w", errNotBuilt)
}

// Journals is a page of the journals of an org, oldest first, as Grants.
func (b *Book) Journals(orgID uuid.UUID, page, pageSize int) ([]ledger.Journal, int, error) {
	return nil, 0, fmt.Errorf("journals: %w", errNotBuilt)
}

// Changes is a page of what happened to an org, newest first, as Grants: who did
// it, when and why.
func (b *Book) Changes(orgID uuid.UUID, page, pageSize int) ([]Change, int, error) {
	return nil, 0, fmt.Errorf("changes: %w", errNotBuilt)
}
