package ledger

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var errNotBuilt = errors.New("is not built yet")

// NewState is where an org's money stands before anything has happened.
func NewState(orgID uuid.UUID, currency string) *State {
	return &State{OrgID: orgID, Currency: currency, invoices: make(map[uuid.UUID]*InvoiceState), credits: make(map[uuid.UUID]*Credit), done: make(map[uuid.UUID]bool)}
}

// Apply moves the state by an entry that was decided on it. It returns
// ErrRepeated, ErrChain, ErrJournal, or ErrState when the document and its
// journal disagree; the state must then not be used.
func (s *State) Apply(e Entry) error { return fmt.Errorf("apply: %w", errNotBuilt) }

// Credits are those with something left, in the order of use.
func (s *State) Credits() []Credit { return nil }

// PrepaidBalance is what is left of the org's own money.
func (s *State) PrepaidBalance() Amount { return Amount{} }

// Owed is what is open on all invoices together.
func (s *State) Owed() Amount { return Amount{} }

// Invoice is where an invoice of the org stands; false when there is none.
func (s *State) Invoice(id uuid.UUID) (InvoiceState, bool) { return InvoiceState{}, false }

// Open are the invoices with something to be paid, the oldest due first.
func (s *State) Open() []InvoiceState { return nil }

// IssueInvoice issues a draft of the org under a number: it checks that the
// credits that the draft uses are still there, and that it can be proved.
func (s *State) IssueInvoice(draft Invoice, number string) (Entry, error) {
	return Entry{}, fmt.Errorf("issue: %w", errNotBuilt)
}

// CreditNote takes back an invoice of the org in full, or by line.
func (s *State) CreditNote(inv Invoice, r CreditRequest) (Entry, error) {
	return Entry{}, fmt.Errorf("credit note: %w", errNotBuilt)
}

// Pay allocates a payment.
func (s *State) Pay(p Payment) (Entry, error) { return Entry{}, fmt.Errorf("pay: %w", errNotBuilt) }

// GrantCredit gives a credit: a promotion, or a top-up that was paid for.
func (s *State) GrantCredit(g Grant) (Entry, error) {
	return Entry{}, fmt.Errorf("grant: %w", errNotBuilt)
}

// Refund gives prepaid money back.
func (s *State) Refund(r Refund) (Entry, error) {
	return Entry{}, fmt.Errorf("refund: %w", errNotBuilt)
}

// Expire ends the credits that have expired by an instant; ErrNothingExpired
// when there are none.
func (s *State) Expire(at time.Time) (Entry, error) {
	return Entry{}, fmt.Errorf("expire: %w", errNotBuilt)
}

// WriteOff gives up what is open of an invoice.
func (s *State) WriteOff(w WriteOff) (Entry, error) {
	return Entry{}, fmt.Errorf("write off: %w", errNotBuilt)
}

// BilledOf is what the invoices have counted of a period: its own, and the late
// usage on others. Void invoices that a correction replaced are left out by the
// caller.
func BilledOf(label string, invoices []Invoice) []Quantity { return nil }

// Rebilled is a correction worked out and not yet written.
type Rebilled struct {
	Draft      Invoice // replaces the void one
	Difference Amount  // what it comes to before credits, less what the void one did
}

// Correct bills an invoice again with what was wrong put right. It is a dry run:
// nothing happens until the invoice is voided by a credit note and the draft is
// issued.
func Correct(old Invoice, c Correction, change func(*BillInput)) (Rebilled, error) {
	return Rebilled{}, fmt.Errorf("correct: %w", errNotBuilt)
}

// Explain is the arithmetic of a line (the first is 1) in words, a step a line.
func Explain(inv Invoice, line int) ([]string, error) {
	return nil, fmt.Errorf("explain: %w", errNotBuilt)
}

// CreditNoteNumber is the n-th credit note of a legal entity's series of a year.
func CreditNoteNumber(legalEntity string, year int, n uint64) string {
	return fmt.Sprintf("CN-%s-%04d-%06d", legalEntity, year, n)
}
