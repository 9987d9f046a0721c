package ledger

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// ErrJournal is returned when a journal breaks a rule of double entry; it must
// not be written.
var ErrJournal = errors.New("invalid journal")

// Account names one account, "<kind>:<owner>".
type Account string

// Kinds of accounts.
const (
	KindReceivable = "receivable" // what an org owes
	KindRevenue    = "revenue"    // what was earned, by what for
)

// RevenueUsage is earned by metered usage.
const RevenueUsage Account = KindRevenue + ":usage"

// Receivable is what an org owes.
func Receivable(orgID uuid.UUID) Account { return Account(KindReceivable + ":" + orgID.String()) }

// Kind is the part of the name that decides which flows are allowed.
func (a Account) Kind() string {
	kind, _, _ := strings.Cut(string(a), ":")
	return kind
}

// Code says what a transfer is for.
type Code string

const (
	CodeUsage     Code = "usage"      // usage of the invoice's own period
	CodeLateUsage Code = "late_usage" // usage of an earlier period that arrived after it was closed
)

// flows are the allowed ways of money. A balanced journal can still be wrong; a
// transfer that is on no line here is.
var flows = map[Code]struct{ debit, credit string }{
	CodeUsage:     {KindReceivable, KindRevenue},
	CodeLateUsage: {KindReceivable, KindRevenue},
}

// Transfer moves a positive amount from the credited to the debited account. It
// is immutable.
type Transfer struct {
	ID       uuid.UUID `json:"id"` // derived from the cause and the transfer's place in it
	Debit    Account   `json:"debit"`
	Credit   Account   `json:"credit"`
	Amount   Amount    `json:"amount"`
	Currency string    `json:"currency"`
	Code     Code      `json:"code"`
	At       time.Time `json:"at"`
}

// Posting is one side of a transfer: debits are positive, credits negative.
type Posting struct {
	Account  Account
	Currency string
	Amount   Amount
}

// Journal is the transfers that are written together, for one cause.
type Journal struct {
	ID        uuid.UUID  `json:"id"`
	CauseID   uuid.UUID  `json:"cause_id"` // e.g. the invoice
	Transfers []Transfer `json:"transfers"`
}

// InvoiceJournal books an invoice: the org owes each line, and the line was
// earned. Lines that round to nothing move nothing.
func InvoiceJournal(inv Invoice) (Journal, error) {
	j := Journal{ID: events.DeriveID("journal", inv.ID[:]), CauseID: inv.ID}
	booked := Amount{}
	for i, l := range inv.Lines {
		if l.Amount.IsZero() {
			continue
		}
		code := CodeUsage
		if l.Late() {
			code = CodeLateUsage
		}
		j.Transfers = append(j.Transfers, Transfer{
			ID:    events.DeriveID("transfer", inv.ID[:], fmt.Append(nil, i)),
			Debit: Receivable(inv.OrgID), Credit: RevenueUsage,
			Amount: l.Amount, Currency: inv.Currency, Code: code, At: inv.CreatedAt,
		})
		var err error
		if booked, err = booked.Add(l.Amount); err != nil {
			return Journal{}, err
		}
	}
	// The pair of the sum in Bill: what is owed is what the paper says.
	if booked.Cmp(inv.Total) != 0 {
		return Journal{}, fmt.Errorf("%w: invoice %s says %s, its lines %s", ErrJournal, inv.Number, inv.Total, booked)
	}
	return j, j.Check()
}

// Check returns ErrJournal unless every transfer is sound, goes an allowed way
// and has an id of its own, and all postings sum to zero in each currency.
func (j Journal) Check() error {
	seen := make(map[uuid.UUID]bool, len(j.Transfers))
	for _, t := range j.Transfers {
		flow, known := flows[t.Code]
		_, isCurrency := MinorUnits(t.Currency)
		switch {
		case t.ID == uuid.Nil || seen[t.ID]:
			return fmt.Errorf("%w: transfer id %s is missing or repeated", ErrJournal, t.ID)
		case t.Amount.Sign() <= 0:
			return fmt.Errorf("%w: transfer %s moves %s", ErrJournal, t.ID, t.Amount)
		case !isCurrency:
			return fmt.Errorf("%w: transfer %s is in %q", ErrJournal, t.ID, t.Currency)
		case !known:
			return fmt.Errorf("%w: transfer %s has the unknown code %q", ErrJournal, t.ID, t.Code)
		case t.Debit.Kind() != flow.debit || t.Credit.Kind() != flow.credit:
			return fmt.Errorf("%w: transfer %s: %s may not go from %s to %s", ErrJournal, t.ID, t.Code, t.Credit, t.Debit)
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
