package billing

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Admission lets in what the records on an org's budget subject allow. These are
// its types and shapes, as package admission reads them; what opens a balance is
// the first of either.
const (
	typeBalanceCredited = "balance.credited"
	typeCreditLimitSet  = "credit_limit.set"
	budgetPrefix        = "LEDGER.budget." // + org
)

// balanceCredited adds money to an org's balance at admission.
type balanceCredited struct {
	OrgID    uuid.UUID     `json:"org_id"`
	CreditID uuid.UUID     `json:"credit_id"` // counts once
	Amount   ledger.Amount `json:"amount"`
}

// balance is what admission was told of an org. Admission takes off it what usage
// since opened costs at list price when it happens; an invoice then has the real
// amount. So that the two agree,
//
//	credited = position + invoiced
//
// after each entry, where position is prepaid and promotional credit less what is
// owed. What admission has left is then
//
//	credited - usage since opened = position - usage since opened that is not invoiced
type balance struct {
	opened   time.Time     // since when usage is paid from it; zero: there is none
	credited ledger.Amount // Σ of the records
	credits  map[uuid.UUID]bool
	invoiced ledger.Amount // list price of usage since opened that was invoiced
	settled  bool          // billing has said something since it was opened
}

// applyBalance takes a record of a budget subject.
func (b *Book) applyBalance(r events.Record) error {
	id, err := uuid.Parse(strings.TrimPrefix(r.Subject, budgetPrefix))
	if err != nil || b.orgs[id] == nil {
		return nil // admission's business
	}
	a := b.orgs[id]
	if a.balance.opened.IsZero() {
		a.balance.opened = r.At.UTC().Truncate(time.Millisecond)
	}
	if r.Type != typeBalanceCredited {
		return nil
	}
	var c balanceCredited
	if err := r.Into(&c); err != nil {
		return err
	}
	if a.balance.credits[c.CreditID] {
		return nil
	}
	if a.balance.credits == nil {
		a.balance.credits = make(map[uuid.UUID]bool)
	}
	a.balance.credits[c.CreditID] = true
	a.balance.settled = true
	a.balance.credited, err = a.balance.credited.Add(c.Amount)
	return err
}

// positionOf is what an org has with the house by some journals: prepaid and
// promotional credit, less what it owes.
func positionOf(orgID uuid.UUID, journals ...ledger.Journal) (ledger.Amount, error) {
	var sum ledger.Amount
	for _, j := range journals {
		for _, p := range j.Postings() {
			switch p.Account {
			case ledger.Receivable(orgID), ledger.Prepaid(orgID), ledger.Promo(orgID):
				var err error
				if sum, err = sum.Sub(p.Amount); err != nil {
					return ledger.Amount{}, err
				}
			}
		}
	}
	return sum, nil
}

// position is the same by all of an org's journals.
func (a *account) position() (ledger.Amount, error) {
	credit, err := a.state.PrepaidBalance().Add(a.state.PromoBalance())
	if err != nil {
		return ledger.Amount{}, err
	}
	return credit.Sub(a.state.Owed())
}

// untold is what admission was told too little of as things stand: zero, but for a
// balance that was just opened by a credit limit.
func (a *account) untold() (ledger.Amount, error) {
	sum, err := a.position()
	if err == nil {
		sum, err = sum.Add(a.balance.invoiced)
	}
	if err == nil {
		sum, err = sum.Sub(a.balance.credited)
	}
	return sum, err
}

// addBalance adds what admission must be told of new entries, whose invoices count
// usage for spent that the balance has paid. A balance that is not open stays so
// unless opens. It counts once for each cause.
func (b *batch) addBalance(v view, cause uuid.UUID, opens bool, spent ledger.Amount, entries ...ledger.Entry) error {
	if v.balance.opened.IsZero() && !opens {
		return nil
	}
	journals := make([]ledger.Journal, len(entries))
	for i, e := range entries {
		journals[i] = e.Journal
	}
	change, err := positionOf(v.org.ID, journals...)
	if err != nil {
		return err
	}
	want, err := v.untold()
	for _, part := range []ledger.Amount{change, spent} {
		if err == nil {
			want, err = want.Add(part)
		}
	}
	if err != nil {
		return fmt.Errorf("balance of org %s: %w", v.org.ID, err)
	}
	if want.IsZero() && !v.balance.opened.IsZero() {
		return nil
	}
	b.addUnchecked(budgetPrefix+v.org.ID.String(), typeBalanceCredited,
		balanceCredited{OrgID: v.org.ID, CreditID: events.DeriveID("balance", cause[:]), Amount: want})
	return nil
}
