package billing

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// TopUp is money that an org pays in advance. It opens the org's balance at
// admission: usage from then on is paid from it.
type TopUp struct {
	ID        uuid.UUID     `json:"id,omitzero"` // zero: derived from By.Key, or new
	Amount    ledger.Amount `json:"amount"`      // positive, in whole minor units
	ExpiresAt time.Time     `json:"expires_at,omitzero"`
	Priority  int           `json:"priority,omitempty"`
	Reference string        `json:"reference,omitempty"`
}

// Promotion is a credit that is given away. It does not open the org's balance at
// admission, and is part of it once it is open.
type Promotion struct {
	ID        uuid.UUID     `json:"id,omitzero"` // zero: derived from By.Key, or new
	Amount    ledger.Amount `json:"amount"`      // positive, in whole minor units
	ExpiresAt time.Time     `json:"expires_at,omitzero"`
	Priority  int           `json:"priority,omitempty"` // lower goes first among those that expire together
	Source    string        `json:"source,omitempty"`   // for people
}

// Payment is money that came in for invoices.
type Payment struct {
	ID        uuid.UUID     `json:"id,omitzero"` // zero: derived from By.Key, or new
	Amount    ledger.Amount `json:"amount"`      // positive, in whole minor units
	At        time.Time     `json:"at,omitzero"` // when it came in; zero: By.At
	Reference string        `json:"reference,omitempty"`
	For       []uuid.UUID   `json:"for,omitempty"` // invoices, in this order; none: the oldest due first
}

// Refund is prepaid money that goes back to the org.
type Refund struct {
	ID        uuid.UUID     `json:"id,omitzero"` // zero: derived from By.Key, or new
	Amount    ledger.Amount `json:"amount"`
	Reference string        `json:"reference,omitempty"`
}

// Types of the records that move an org's money, on its journal subject; their
// data is a ledger.Entry, as that of TypeInvoiceIssued is.
const (
	TypeCreditGranted    = "credit.granted" // a top-up or a promotion
	TypeCreditsExpired   = "credits.expired"
	TypePaymentReceived  = "payment.received"
	TypeRefunded         = "payment.refunded"
	TypeWrittenOff       = "invoice.written_off"
	TypeCreditNoteIssued = "credit_note.issued"
	TypeCorrected        = "invoice.corrected" // Data: Corrected
)

// TopUp takes in money in advance. It returns ErrNotFound, ErrIdempotency, or an
// error of ledger.State.GrantCredit.
func (c Commands) TopUp(ctx context.Context, orgID uuid.UUID, t TopUp, by By) (Outcome[ledger.Grant], error) {
	return Outcome[ledger.Grant]{}, fmt.Errorf("top up: %w", errNotBuilt)
}

// GrantCredit gives an org a promotional credit. Errors are those of TopUp.
func (c Commands) GrantCredit(ctx context.Context, orgID uuid.UUID, p Promotion, by By) (Outcome[ledger.Grant], error) {
	return Outcome[ledger.Grant]{}, fmt.Errorf("grant: %w", errNotBuilt)
}

// ExpireCredits ends what has expired by by.At; ledger.ErrNothingExpired when
// nothing has. The invoicer does so by itself.
func (c Commands) ExpireCredits(ctx context.Context, orgID uuid.UUID, by By) (Outcome[ledger.Expiry], error) {
	return Outcome[ledger.Expiry]{}, fmt.Errorf("expire: %w", errNotBuilt)
}

// Pay allocates a payment to invoices; what is left over becomes prepaid. Errors
// are ErrNotFound, ErrIdempotency, and those of ledger.State.Pay.
func (c Commands) Pay(ctx context.Context, orgID uuid.UUID, p Payment, by By) (Outcome[ledger.Payment], error) {
	return Outcome[ledger.Payment]{}, fmt.Errorf("pay: %w", errNotBuilt)
}

// Refund gives prepaid money back. Errors are ErrNotFound, ErrIdempotency, and
// those of ledger.State.Refund.
func (c Commands) Refund(ctx context.Context, orgID uuid.UUID, r Refund, by By) (Outcome[ledger.Refund], error) {
	return Outcome[ledger.Refund]{}, fmt.Errorf("refund: %w", errNotBuilt)
}

// WriteOff gives up what is open of an invoice; by.Reason says why. Errors are
// ErrNotFound, ErrIdempotency, and those of ledger.State.WriteOff.
func (c Commands) WriteOff(ctx context.Context, orgID, invoiceID uuid.UUID, by By) (Outcome[ledger.WriteOff], error) {
	return Outcome[ledger.WriteOff]{}, fmt.Errorf("write off: %w", errNotBuilt)
}
