package ledger

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// Errors of decisions on a State.
var (
	// ErrState is returned by Apply when an entry does not fit the state: it was
	// decided on another one, or was changed.
	ErrState = errors.New("entry does not fit the org's state")
	// ErrRequest is returned when what is asked for is senseless: a negative payment,
	// a line that does not exist, another org's invoice.
	ErrRequest = errors.New("invalid request")
	// ErrRepeated is returned when something with this id happened already.
	ErrRepeated = errors.New("happened already")
	// ErrNotOpen is returned when an invoice is not there, is void, or has nothing to
	// be paid, so that it cannot be what is asked.
	ErrNotOpen = errors.New("invoice is not open")
	// ErrTooMuch is returned when more is asked for than there is: a refund over the
	// prepaid balance, a credit over what a line has left.
	ErrTooMuch = errors.New("more than there is")
	// ErrNothingExpired is returned by Expire when no credit has expired.
	ErrNothingExpired = errors.New("no credit has expired")
)

// State is where an org's money stands: a fold of its entries. Decisions read it
// and change nothing; Apply moves it. It is not safe for concurrent use.
type State struct {
	OrgID    uuid.UUID
	Currency string

	Balances Balances
	Last     Journal // the newest one, without its transfers: the end of the chain

	invoices map[uuid.UUID]*InvoiceState
	order    []uuid.UUID // of invoices, as issued
	credits  map[uuid.UUID]*Credit
	done     map[uuid.UUID]bool // documents applied
}

// InvoiceState is where an issued invoice stands.
type InvoiceState struct {
	ID         uuid.UUID
	Number     string
	Period     string // label
	DueDate    Date
	Total      Amount
	Paid       Amount
	Credited   Amount // by credit notes
	WrittenOff Amount
	Void       bool
	Notes      int            // credit notes so far
	Lines      map[int]Amount // credited so far, by line from 1 on, net of tax
	Taxes      []Amount       // credited so far, by rate
}

// Entry is one thing that happened to an org's money, with its journal: exactly
// one of the documents is there. It is what billing stores.
type Entry struct {
	Invoice    *Invoice    `json:"invoice,omitempty"`
	CreditNote *CreditNote `json:"credit_note,omitempty"`
	Payment    *Payment    `json:"payment,omitempty"`
	Grant      *Grant      `json:"grant,omitempty"` // a top-up or a promotion
	Refund     *Refund     `json:"refund,omitempty"`
	Expiry     *Expiry     `json:"expiry,omitempty"`
	WriteOff   *WriteOff   `json:"write_off,omitempty"`
	Journal    Journal     `json:"journal"`
}

// Payment is money that came in.
type Payment struct {
	ID        uuid.UUID   `json:"id"` // the payer's reference or the caller's; the same id is the same payment
	Amount    Amount      `json:"amount"`
	At        time.Time   `json:"at"`
	Reference string      `json:"reference,omitempty"`
	For       []uuid.UUID `json:"for,omitempty"` // invoices named by the payer, in this order; none: the oldest due first

	Allocations []Allocation `json:"allocations,omitempty"` // decided
	Overpaid    Amount       `json:"overpaid,omitzero"`     // decided: becomes prepaid, as a grant with the payment's id
}

// Allocation is the part of a payment that an invoice gets.
type Allocation struct {
	InvoiceID uuid.UUID `json:"invoice_id"`
	Amount    Amount    `json:"amount"`
}

// Refund is prepaid money that goes back to the org.
type Refund struct {
	ID        uuid.UUID  `json:"id"`
	Amount    Amount     `json:"amount"`
	At        time.Time  `json:"at"`
	Reference string     `json:"reference,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Uses      []GrantUse `json:"uses,omitempty"` // decided
}

// Expiry ends the credits that have expired at an instant.
type Expiry struct {
	ID   uuid.UUID  `json:"id"` // derived from org and instant
	At   time.Time  `json:"at"`
	Uses []GrantUse `json:"uses"`
}

// WriteOff gives up what is open of an invoice.
type WriteOff struct {
	ID        uuid.UUID `json:"id"`
	InvoiceID uuid.UUID `json:"invoice_id"`
	At        time.Time `json:"at"`
	Reason    string    `json:"reason"`
	Amount    Amount    `json:"amount"` // decided: all that is open
}

// CreditNote takes back an invoice, or parts of it. Amounts are positive.
type CreditNote struct {
	ID            uuid.UUID    `json:"id"`     // derived from the invoice and N
	Number        string       `json:"number"` // of a series of its own
	OrgID         uuid.UUID    `json:"org_id"`
	LegalEntity   string       `json:"legal_entity"`
	Currency      string       `json:"currency"`
	InvoiceID     uuid.UUID    `json:"invoice_id"`
	InvoiceNumber string       `json:"invoice_number"`
	N             int          `json:"n"` // of the invoice's credit notes, from 1 on
	CreatedAt     time.Time    `json:"created_at"`
	CreatedOn     Date         `json:"created_on"` // in the org's time zone
	Reason        string       `json:"reason"`
	Full          bool         `json:"full"` // the invoice is void
	Lines         []CreditLine `json:"lines"`
	Subtotal      Amount       `json:"subtotal"` // Σ Amount of the lines
	Taxes         []TaxAmount  `json:"taxes,omitempty"`
	Tax           Amount       `json:"tax"`
	Total         Amount       `json:"total"` // Subtotal + Tax (exclusive)

	OffDue    Amount     `json:"off_due"`            // taken off what the invoice leaves to pay
	ToPrepaid Amount     `json:"to_prepaid"`         // paid already: becomes prepaid, as a grant with the note's id
	Restored  []GrantUse `json:"restored,omitempty"` // given back to the credits that paid
	TakenBack Amount     `json:"taken_back"`         // what the invoice had carried to the prepaid balance
}

// CreditLine credits a line of the invoice.
type CreditLine struct {
	Line   int    `json:"line"`   // from 1 on
	Amount Amount `json:"amount"` // net of exclusive tax
}

// CreditRequest asks for a credit note.
type CreditRequest struct {
	Number string // given by billing's series: CreditNoteNumber
	At     time.Time
	On     Date // of At in the org's time zone
	Reason string
	Lines  []CreditLine // none: all of the invoice, which becomes void
}
