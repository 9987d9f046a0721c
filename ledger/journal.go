package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// ErrJournal is returned when a journal breaks a rule of double entry; it must
// not be written.
var ErrJournal = errors.New("invalid journal")

// ErrChain is returned when a journal does not follow the one before it: one of
// them was changed, removed, added or moved.
var ErrChain = errors.New("journal chain is broken")

// Transfer moves a positive amount from the credited to the debited account. It
// is immutable.
type Transfer struct {
	ID       uuid.UUID `json:"id"` // derived from the cause and the transfer's place in it
	Debit    Account   `json:"debit"`
	Credit   Account   `json:"credit"`
	Amount   Amount    `json:"amount"`
	Currency string    `json:"currency"`
	Code     Code      `json:"code"`
	Reversal bool      `json:"reversal,omitempty"` // it goes against the way of its Code
	At       time.Time `json:"at"`
}

// Posting is one side of a transfer: debits are positive, credits negative.
type Posting struct {
	Account  Account
	Currency string
	Amount   Amount
}

// Journal is the transfers that are written together, for one cause. The sealed
// journals of an org are a chain: each holds the hash of the one before.
type Journal struct {
	ID        uuid.UUID  `json:"id"`
	CauseID   uuid.UUID  `json:"cause_id"`   // the document: invoice, credit note, payment …
	CauseHash Hash       `json:"cause_hash"` // of the document's canonical bytes
	Transfers []Transfer `json:"transfers"`

	Seq      uint64 `json:"seq"`      // 1 is the org's first; 0 when not sealed
	Previous Hash   `json:"previous"` // Hash of the org's journal before, zero for the first
	Hash     Hash   `json:"hash"`     // of all the other fields, in canonical bytes
}

// newJournal begins a journal. Its id and those of its transfers follow from the
// document: the same document gives the same journal.
func newJournal(cause document) Journal {
	id := cause.id()
	return Journal{ID: events.DeriveID("journal", id[:]), CauseID: id, CauseHash: hashOf(cause)}
}

func hashOf(d document) Hash { return sha256.Sum256(d.canonicalBytes()) }

// move adds a transfer of code, whose debit and credit are as in flows. A
// negative amount goes the other way; nothing moves nothing.
func (j *Journal) move(code Code, debit, credit Account, amount Amount, currency string, at time.Time) {
	if amount.IsZero() {
		return
	}
	reversal := amount.Sign() < 0
	if reversal {
		debit, credit, amount = credit, debit, amount.Neg()
	}
	j.Transfers = append(j.Transfers, Transfer{
		ID:    events.DeriveID("transfer", j.CauseID[:], fmt.Append(nil, len(j.Transfers))),
		Debit: debit, Credit: credit, Amount: amount, Currency: currency, Code: code, Reversal: reversal, At: at.UTC(),
	})
}

// Check returns ErrJournal unless every transfer is sound, goes an allowed way
// and has an id of its own, and all postings sum to zero in each currency.
func (j Journal) Check() error {
	seen := make(map[uuid.UUID]bool, len(j.Transfers))
	for i := range j.Transfers {
		t := &j.Transfers[i]
		if t.ID == uuid.Nil || seen[t.ID] {
			return fmt.Errorf("%w: transfer id %s is missing or repeated", ErrJournal, t.ID)
		}
		if err := t.check(); err != nil {
			return err
		}
		seen[t.ID] = true
	}
	sums := make(map[string]Amount)
	for _, p := range j.Postings() {
		sum, err := sums[p.Currency].Add(p.Amount)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrJournal, err)
		}
		sums[p.Currency] = sum
	}
	for currency, sum := range sums {
		if !sum.IsZero() {
			return fmt.Errorf("%w: %s sums to %s", ErrJournal, currency, sum)
		}
	}
	return nil
}

func (t *Transfer) check() error {
	flow, known := flows[t.Code]
	if t.Reversal {
		flow.debit, flow.credit = flow.credit, flow.debit
	}
	_, isCurrency := MinorUnits(t.Currency)
	switch {
	case t.Amount.Sign() <= 0:
		return fmt.Errorf("%w: transfer %s moves %s", ErrJournal, t.ID, t.Amount)
	case !isCurrency:
		return fmt.Errorf("%w: transfer %s is in %q", ErrJournal, t.ID, t.Currency)
	case !known:
		return fmt.Errorf("%w: transfer %s has the unknown code %q", ErrJournal, t.ID, t.Code)
	case t.Debit.Kind() != flow.debit || t.Credit.Kind() != flow.credit:
		return fmt.Errorf("%w: transfer %s: %s may not go from %s to %s", ErrJournal, t.ID, t.Code, t.Credit, t.Debit)
	}
	return nil
}

// Postings are the two sides of every transfer.
func (j Journal) Postings() []Posting {
	ps := make([]Posting, 0, 2*len(j.Transfers))
	for _, t := range j.Transfers {
		ps = append(ps,
			Posting{Account: t.Debit, Currency: t.Currency, Amount: t.Amount},
			Posting{Account: t.Credit, Currency: t.Currency, Amount: t.Amount.Neg()})
	}
	return ps
}

// Seal returns the journal as the one that follows previous in its org's chain;
// the zero Journal is before the first.
func (j Journal) Seal(previous Journal) Journal {
	j.Seq, j.Previous = previous.Seq+1, previous.Hash
	j.Hash = j.chainHash()
	return j
}

// VerifyChain returns ErrChain unless the journals are an org's whole chain, from
// the first on.
func VerifyChain(journals []Journal) error {
	var previous Journal
	for i := range journals {
		if err := journals[i].follows(previous); err != nil {
			return err
		}
		previous = journals[i]
	}
	return nil
}

func (j *Journal) follows(previous Journal) error {
	switch {
	case j.Seq != previous.Seq+1:
		return fmt.Errorf("%w: journal %s is number %d after %d", ErrChain, j.ID, j.Seq, previous.Seq)
	case j.Previous != previous.Hash:
		return fmt.Errorf("%w: journal %d follows %s, the one before is %s", ErrChain, j.Seq, j.Previous, previous.Hash)
	case j.Hash != j.chainHash():
		return fmt.Errorf("%w: journal %d is not what its hash says", ErrChain, j.Seq)
	}
	return nil
}
