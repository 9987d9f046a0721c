package billing

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"aione/ledger"
)

// VoidInvoice takes an invoice back in full by a credit note; by.Reason says why.
// Errors are ErrNotFound, ErrInvalid without a reason, ErrIdempotency, and those of
// ledger.State.CreditNote.
func (c Commands) VoidInvoice(ctx context.Context, orgID, invoiceID uuid.UUID, by By) (Outcome[ledger.CreditNote], error) {
	return c.CreditNote(ctx, orgID, invoiceID, nil, by)
}

// CreditNote takes back parts of an invoice by line; without lines all of it. Its
// number is the next of the legal entity's own series of credit notes.
func (c Commands) CreditNote(ctx context.Context, orgID, invoiceID uuid.UUID, lines []ledger.CreditLine, by By) (Outcome[ledger.CreditNote], error) {
	return Outcome[ledger.CreditNote]{}, fmt.Errorf("credit note: %w", errNotBuilt)
}

// ReRate says what of an invoice is put right.
type ReRate struct {
	InvoiceID uuid.UUID         `json:"invoice_id"`
	Prices    map[string]string `json:"prices,omitempty"`    // by the version that was stamped: the one to bill at
	TaxRates  []ledger.TaxRate  `json:"tax_rates,omitempty"` // instead of the invoice's; nil: as they are
	Terms     *ledger.Terms     `json:"terms,omitempty"`     // for the whole period; nil: as they are
}

// ReRated is a correction worked out and not written.
type ReRated struct {
	Invoice    ledger.Invoice `json:"invoice"`    // the draft that would replace it
	Difference ledger.Amount  `json:"difference"` // before credits: what the draft comes to, less what the invoice did
	Hash       ledger.Hash    `json:"hash"`       // of request, invoice and draft: what Correct is told
}

// Corrected is a correction as it is written: the credit note that makes the
// invoice void, unless it was void already, and the invoice that replaces it.
type Corrected struct {
	CreditNote *ledger.Entry `json:"credit_note,omitempty"`
	Invoice    ledger.Entry  `json:"invoice"`
}

// ErrChanged is returned by Correct when the dry run would now come out
// differently from what was agreed to.
var ErrChanged = errors.New("the correction is no longer what the dry run said")

// ReRate works out what an invoice would be with something put right. It writes
// nothing.
func (c Commands) ReRate(ctx context.Context, orgID uuid.UUID, r ReRate, by By) (ReRated, error) {
	return ReRated{}, fmt.Errorf("re-rate: %w", errNotBuilt)
}

// Correct carries out what ReRate worked out, if it still comes to hash: the
// invoice is void by a credit note and the draft is issued in its place, in one
// atomic batch; by.Reason says why. It returns ErrNotFound, ErrInvalid,
// ErrIdempotency or ErrChanged.
func (c Commands) Correct(ctx context.Context, orgID uuid.UUID, r ReRate, hash ledger.Hash, by By) (Outcome[Corrected], error) {
	return Outcome[Corrected]{}, fmt.Errorf("correct: %w", errNotBuilt)
}
