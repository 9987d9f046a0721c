package billing

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/events"
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

// TypeCorrectionNote is the record that says that a correction took an invoice back,
// on a subject of the credit note's own and in the batch of TypeCorrected, which is
// what moves the money. Its data is the ledger.CreditNote. It is there for whoever
// tells of one thing by one record.
const TypeCorrectionNote = "correction.credit_note"

// moveMoney carries a command on an org's money out: the entry that is decided on
// the org's state, with what follows from it for its invoices and for its balance at
// admission, in one atomic batch.
func moveMoney[T any](ctx context.Context, c Commands, q command, by By, typ string, opens bool,
	decide func(*batch, view) (ledger.Entry, error), answer func(ledger.Entry) T,
) (Outcome[T], error) {
	return carryOut(ctx, c, q, by, func(b *batch) (result T, err error) {
		err = c.Book.money(q.OrgID, func(v view) error {
			e, err := decide(b, v)
			if err != nil {
				return err
			}
			result = answer(e)
			b.addStatuses(v, e)
			if err := b.addBalance(v, e.Journal.ID, opens, ledger.Amount{}, e); err != nil {
				return err
			}
			b.add(events.JournalSubject(q.OrgID), v.journalSeq, typ, e)
			return nil
		})
		return result, err
	})
}

// TopUp takes in money in advance. It returns ErrNotFound, ErrIdempotency, or an
// error of ledger.State.GrantCredit.
func (c Commands) TopUp(ctx context.Context, orgID uuid.UUID, t TopUp, by By) (Outcome[ledger.Grant], error) {
	q := command{"top up", orgID, t}
	g := ledger.Grant{ID: q.id(t.ID, by), Kind: ledger.GrantPrepaid, Amount: t.Amount, ExpiresAt: t.ExpiresAt, Priority: t.Priority, Source: t.Reference}
	if g.Source == "" {
		g.Source = "top-up"
	}
	return c.grant(ctx, q, g, true, by)
}

// GrantCredit gives an org a promotional credit. Errors are those of TopUp.
func (c Commands) GrantCredit(ctx context.Context, orgID uuid.UUID, p Promotion, by By) (Outcome[ledger.Grant], error) {
	q := command{"grant credit", orgID, p}
	g := ledger.Grant{ID: q.id(p.ID, by), Kind: ledger.GrantPromotional, Amount: p.Amount, ExpiresAt: p.ExpiresAt, Priority: p.Priority, Source: p.Source}
	if g.Source == "" {
		g.Source = "promotion"
	}
	return c.grant(ctx, q, g, false, by)
}

func (c Commands) grant(ctx context.Context, q command, g ledger.Grant, opens bool, by By) (Outcome[ledger.Grant], error) {
	g.GrantedAt = by.At.UTC().Truncate(time.Millisecond)
	g.ExpiresAt = g.ExpiresAt.UTC()
	return moveMoney(ctx, c, q, by, TypeCreditGranted, opens,
		func(_ *batch, v view) (ledger.Entry, error) { return v.state.GrantCredit(g) },
		func(e ledger.Entry) ledger.Grant { return *e.Grant })
}

// ExpireCredits ends what has expired by by.At; ledger.ErrNothingExpired when
// nothing has. The invoicer does so by itself.
func (c Commands) ExpireCredits(ctx context.Context, orgID uuid.UUID, by By) (Outcome[ledger.Expiry], error) {
	at := by.At.UTC().Truncate(time.Millisecond)
	return moveMoney(ctx, c, command{"expire credits", orgID, nil}, by, TypeCreditsExpired, false,
		func(_ *batch, v view) (ledger.Entry, error) { return v.state.Expire(at) },
		func(e ledger.Entry) ledger.Expiry { return *e.Expiry })
}

// Pay allocates a payment to invoices; what is left over becomes prepaid. Errors
// are ErrNotFound, ErrIdempotency, and those of ledger.State.Pay.
func (c Commands) Pay(ctx context.Context, orgID uuid.UUID, p Payment, by By) (Outcome[ledger.Payment], error) {
	q := command{"pay", orgID, p}
	paid := ledger.Payment{ID: q.id(p.ID, by), Amount: p.Amount, At: p.At.UTC(), Reference: p.Reference, For: p.For}
	if p.At.IsZero() {
		paid.At = by.At.UTC().Truncate(time.Millisecond)
	}
	if paid.At.After(by.At) {
		return Outcome[ledger.Payment]{}, fmt.Errorf("%w: a payment of the future, %s", ErrInvalid, paid.At)
	}
	return moveMoney(ctx, c, q, by, TypePaymentReceived, false,
		func(_ *batch, v view) (ledger.Entry, error) { return v.state.Pay(paid) },
		func(e ledger.Entry) ledger.Payment { return *e.Payment })
}

// Refund gives prepaid money back. Errors are ErrNotFound, ErrIdempotency, and
// those of ledger.State.Refund.
func (c Commands) Refund(ctx context.Context, orgID uuid.UUID, r Refund, by By) (Outcome[ledger.Refund], error) {
	q := command{"refund", orgID, r}
	back := ledger.Refund{ID: q.id(r.ID, by), Amount: r.Amount, At: by.At.UTC().Truncate(time.Millisecond), Reference: r.Reference, Reason: by.Reason}
	return moveMoney(ctx, c, q, by, TypeRefunded, false,
		func(_ *batch, v view) (ledger.Entry, error) { return v.state.Refund(back) },
		func(e ledger.Entry) ledger.Refund { return *e.Refund })
}

// WriteOff gives up what is open of an invoice; by.Reason says why. Errors are
// ErrNotFound, ErrIdempotency, and those of ledger.State.WriteOff.
func (c Commands) WriteOff(ctx context.Context, orgID, invoiceID uuid.UUID, by By) (Outcome[ledger.WriteOff], error) {
	q := command{"write off", orgID, invoiceID}
	w := ledger.WriteOff{ID: q.id(uuid.Nil, by), InvoiceID: invoiceID, At: by.At.UTC().Truncate(time.Millisecond), Reason: by.Reason}
	return moveMoney(ctx, c, q, by, TypeWrittenOff, false,
		func(_ *batch, v view) (ledger.Entry, error) {
			if v.invoice(invoiceID) == nil {
				return ledger.Entry{}, fmt.Errorf("invoice %s: %w", invoiceID, ErrNotFound)
			}
			return v.state.WriteOff(w)
		},
		func(e ledger.Entry) ledger.WriteOff { return *e.WriteOff })
}
