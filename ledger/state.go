package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Errors of decisions on a State.
var (
	// ErrState is returned when something does not fit the state: it was decided on
	// another one, or was changed.
	ErrState = errors.New("does not fit the state of the org's money")
	// ErrRequest is returned when what is asked for is senseless: a negative payment,
	// a line that does not exist, another org's invoice.
	ErrRequest = errors.New("invalid request")
	// ErrRepeated is returned when a document with this id is there already.
	ErrRepeated = errors.New("happened already")
	// ErrNotOpen is returned when an invoice is not there, is void, or has nothing
	// that could be paid, credited or written off.
	ErrNotOpen = errors.New("invoice is not open")
	// ErrTooMuch is returned when more is asked for than there is: a refund over the
	// prepaid balance, a credit over what a line has left.
	ErrTooMuch = errors.New("more than there is")
	// ErrNothingExpired is returned by Expire when no credit has expired.
	ErrNothingExpired = errors.New("no credit has expired")
)

// State is where an org's money stands: a fold of its entries. Decisions read it
// and change nothing; Apply moves it. Make one with NewState. It is not safe for
// concurrent use.
type State struct {
	OrgID    uuid.UUID
	Currency string

	balances Balances
	last     Journal // the end of the chain, without its transfers
	invoices map[uuid.UUID]*InvoiceState
	order    []uuid.UUID // of invoices, as issued
	credits  map[uuid.UUID]*Credit
	done     map[uuid.UUID]bool // documents
}

// NewState is where an org's money stands before anything has happened.
func NewState(orgID uuid.UUID, currency string) *State {
	return &State{OrgID: orgID, Currency: currency, invoices: make(map[uuid.UUID]*InvoiceState),
		credits: make(map[uuid.UUID]*Credit), done: make(map[uuid.UUID]bool)}
}

// InvoiceState is where an issued invoice stands.
type InvoiceState struct {
	Invoice    *Invoice `json:"-"`   // shared: not to be changed
	Due        Amount   `json:"due"` // still to be paid
	Paid       Amount   `json:"paid"`
	WrittenOff Amount   `json:"written_off"`
	Void       bool     `json:"void"`
	Notes      int      `json:"notes"` // credit notes so far

	base     Amount               // credited so far, without tax
	lines    map[int]Amount       // the same by line, from 1 on
	taxes    []Amount             // credited so far, by rate
	returned Amount               // of Paid, by credit notes
	restored map[uuid.UUID]Amount // of the credits that paid
}

// Status is where the invoice stands on a date of the org's calendar. An invoice
// of which nothing is due any more is paid, also when that was given up.
func (s *InvoiceState) Status(today Date) Status {
	switch {
	case s.Void:
		return StatusVoid
	case s.Due.IsZero():
		return StatusPaid
	case s.Invoice.DueDate.Before(today):
		return StatusOverdue
	}
	return StatusIssued
}

// Invoice is where an invoice of the org stands; false when there is none.
func (s *State) Invoice(id uuid.UUID) (InvoiceState, bool) {
	if inv := s.invoices[id]; inv != nil {
		return *inv, true
	}
	return InvoiceState{}, false
}

// Open are the invoices with something to be paid, the oldest due first, of equal
// ones the one issued first.
func (s *State) Open() []InvoiceState {
	var open []InvoiceState
	for _, id := range s.order {
		if inv := s.invoices[id]; !inv.Due.IsZero() {
			open = append(open, *inv)
		}
	}
	slices.SortStableFunc(open, func(a, b InvoiceState) int {
		x, y := a.Invoice.DueDate, b.Invoice.DueDate
		return cmp.Or(cmp.Compare(x.Year, y.Year), cmp.Compare(x.Month, y.Month), cmp.Compare(x.Day, y.Day))
	})
	return open
}

// Credits are those with something left, in the order of use, expired ones too
// until Expire ends them.
func (s *State) Credits() []Credit {
	var left []Credit
	for _, c := range s.credits {
		if c.Remaining.Sign() > 0 {
			left = append(left, *c)
		}
	}
	slices.SortFunc(left, compareCredits)
	return left
}

// Balance is debits less credits of one of the org's or the house's accounts, by
// this org's entries.
func (s *State) Balance(a Account) Amount { return s.balances.Balance(a, s.Currency) }

// Balances are all of them.
func (s *State) Balances() *Balances { return &s.balances }

// Owed is what is open on all invoices together.
func (s *State) Owed() Amount { return s.Balance(Receivable(s.OrgID)) }

// PrepaidBalance is what is left of the org's own money, expired or not.
func (s *State) PrepaidBalance() Amount { return s.Balance(Prepaid(s.OrgID)).Neg() }

// PromoBalance is what is left of the org's promotional credits, expired or not.
func (s *State) PromoBalance() Amount { return s.Balance(Promo(s.OrgID)).Neg() }

// Last is the end of the org's journal chain, without its transfers; zero before
// the first.
func (s *State) Last() Journal { return s.last }

// Apply moves the state by an entry. It makes the same decision once more and
// returns ErrState unless it comes out the same, ErrRepeated for a document that
// is there already, and ErrChain for a journal that does not follow the last one.
// An invoice is not proved again: that is for whoever audits. After an error the
// state is as it was, save for ErrAmount, a balance out of range.
func (s *State) Apply(e Entry) error {
	doc, err := e.document()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if s.done[doc.id()] {
		return fmt.Errorf("apply %s: %w", doc.id(), ErrRepeated)
	}
	if err := e.Journal.follows(s.last); err != nil {
		return fmt.Errorf("apply %s: %w", doc.id(), err)
	}
	again, err := s.redo(&e)
	if err != nil {
		return fmt.Errorf("apply %s: %w: %w", doc.id(), ErrState, err)
	}
	// An invoice is not decided again but taken as it is: its journal has its hash.
	if e.Invoice == nil && hashOf(doc) != e.Journal.CauseHash {
		return fmt.Errorf("apply %s: %w: the document is not what its journal says", doc.id(), ErrState)
	}
	if again.Journal.Hash != e.Journal.Hash {
		return fmt.Errorf("apply %s: %w: it is decided otherwise here", doc.id(), ErrState)
	}
	if err := s.balances.Apply(&e.Journal); err != nil {
		return fmt.Errorf("apply %s: %w", doc.id(), err)
	}
	s.done[doc.id()] = true
	s.last = e.Journal
	s.last.Transfers = nil
	return s.move(&e)
}

// redo decides an entry's document again.
func (s *State) redo(e *Entry) (Entry, error) {
	switch {
	case e.Invoice != nil:
		return s.issue(*e.Invoice)
	case e.CreditNote != nil:
		n := e.CreditNote
		r := CreditRequest{Number: n.Number, At: n.CreatedAt, On: n.CreatedOn, Reason: n.Reason}
		if !n.Full {
			r.Lines = n.Lines
		}
		return s.CreditNote(n.InvoiceID, r)
	case e.Payment != nil:
		return s.Pay(*e.Payment)
	case e.Grant != nil:
		return s.GrantCredit(*e.Grant)
	case e.Refund != nil:
		return s.Refund(*e.Refund)
	case e.Expiry != nil:
		return s.Expire(e.Expiry.At)
	default:
		return s.WriteOff(*e.WriteOff)
	}
}

// seal makes an entry's journal follow the last one. It is checked here, once
// for all decisions.
func (s *State) seal(e Entry, j Journal) (Entry, error) {
	if s.done[j.CauseID] {
		return Entry{}, fmt.Errorf("%s: %w", j.CauseID, ErrRepeated)
	}
	if err := j.Check(); err != nil {
		return Entry{}, err
	}
	e.Journal = j.Seal(s.last)
	return e, nil
}

// spend lowers what is left of credits.
func (s *State) spend(uses []GrantUse, at func(Amount) Amount) error {
	for _, u := range uses {
		c := s.credits[u.GrantID]
		if c == nil {
			return fmt.Errorf("%w: there is no grant %s", ErrState, u.GrantID)
		}
		var err error
		if c.Remaining, err = c.Remaining.Sub(at(u.Amount)); err != nil {
			return err
		}
	}
	return nil
}

func asIs(a Amount) Amount    { return a }
func negated(a Amount) Amount { return a.Neg() }

// give adds a credit.
func (s *State) give(g Grant) { s.credits[g.ID] = &Credit{Grant: g, Remaining: g.Amount} }

// prepaid is a grant of the org's own money that something left over.
func prepaidGrant(id uuid.UUID, amount Amount, at time.Time, source string) Grant {
	return Grant{ID: id, Kind: GrantPrepaid, Amount: amount, GrantedAt: at.UTC(), Source: source}
}
