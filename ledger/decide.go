package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// IssueInvoice issues a draft of the org under a number. It returns ErrState when
// the credits that the draft uses have changed since it was computed, and
// ErrNotReproducible when it cannot be proved.
func (s *State) IssueInvoice(draft Invoice, number string) (Entry, error) {
	if number == "" || draft.Status != StatusDraft {
		return Entry{}, fmt.Errorf("%w: issue a %s invoice under number %q", ErrRequest, draft.Status, number)
	}
	inv := draft.Issue(number)
	// What cannot be proved now never will be: check before it is written for ever.
	if err := Prove(inv); err != nil {
		return Entry{}, err
	}
	return s.issue(inv)
}

func (s *State) issue(inv Invoice) (Entry, error) {
	if inv.OrgID != s.OrgID || inv.Currency != s.Currency {
		return Entry{}, fmt.Errorf("%w: invoice %s is another org's, or in %s", ErrRequest, inv.Number, inv.Currency)
	}
	for _, used := range inv.Credits {
		c := s.credits[used.Grant.ID]
		if c == nil || compareCredits(*c, used) != 0 || c.Remaining.Cmp(used.Remaining) != 0 {
			return Entry{}, fmt.Errorf("%w: invoice %s uses credit %s, which has changed", ErrState, inv.Number, used.Grant.ID)
		}
	}
	if k := inv.Correction; k != nil {
		if old := s.invoices[k.Replaces]; old == nil || !old.Void || old.Invoice.Period != inv.Period {
			return Entry{}, fmt.Errorf("%w: invoice %s replaces %s, which is no void invoice of its period", ErrRequest, inv.Number, k.Number)
		}
	}
	j, err := InvoiceJournal(inv)
	if err != nil {
		return Entry{}, err
	}
	return s.seal(Entry{Invoice: &inv}, j)
}

// Pay allocates a payment to the invoices that it names, or else to the oldest
// due; what is left becomes prepaid money. Allocations and Overpaid of p are
// decided here. It returns ErrRequest, ErrNotOpen for a named invoice, ErrRepeated.
func (s *State) Pay(p Payment) (Entry, error) {
	if err := s.checkMoney(p.ID, p.Amount, p.At); err != nil {
		return Entry{}, fmt.Errorf("payment %s: %w", p.ID, err)
	}
	targets := s.Open()
	if len(p.For) > 0 {
		targets = nil
		for i, id := range p.For {
			inv := s.invoices[id]
			if inv == nil || inv.Due.IsZero() || slices.Contains(p.For[:i], id) {
				return Entry{}, fmt.Errorf("payment %s for %s: %w", p.ID, id, ErrNotOpen)
			}
			targets = append(targets, *inv)
		}
	}
	p.At, p.Allocations, p.Overpaid = p.At.UTC(), nil, p.Amount
	for _, inv := range targets {
		if p.Overpaid.IsZero() {
			break
		}
		part := Amount{d: decimal.Min(inv.Due.d, p.Overpaid.d)}
		p.Allocations = append(p.Allocations, Allocation{InvoiceID: inv.Invoice.ID, Amount: part})
		p.Overpaid = Amount{d: p.Overpaid.d.Sub(part.d)}
	}
	j := newJournal(&p)
	for _, a := range p.Allocations {
		j.move(CodePayment, Cash, Receivable(s.OrgID), a.Amount, s.Currency, p.At)
	}
	j.move(CodeTopUp, Cash, Prepaid(s.OrgID), p.Overpaid, s.Currency, p.At)
	return s.seal(Entry{Payment: &p}, j)
}

// checkMoney checks what payments, refunds and the like have in common.
func (s *State) checkMoney(id uuid.UUID, amount Amount, at time.Time) error {
	if id == uuid.Nil || at.IsZero() || amount.Sign() <= 0 || !isMinor(amount, s.Currency) {
		return fmt.Errorf("%w: id or instant is missing, or %s is no positive number of minor units of %s", ErrRequest, amount, s.Currency)
	}
	return nil
}

// GrantCredit gives a promotional credit, or takes in a top-up. It returns
// ErrRequest or ErrRepeated.
func (s *State) GrantCredit(g Grant) (Entry, error) {
	if err := g.check(s.Currency); err != nil {
		return Entry{}, fmt.Errorf("%w: grant %s: %w", ErrRequest, g.ID, err)
	}
	g.GrantedAt = g.GrantedAt.UTC()
	if !g.ExpiresAt.IsZero() {
		g.ExpiresAt = g.ExpiresAt.UTC()
	}
	j := newJournal(&g)
	if g.Kind == GrantPromotional {
		j.move(CodeGrant, PromoExpense, Promo(s.OrgID), g.Amount, s.Currency, g.GrantedAt)
	} else {
		j.move(CodeTopUp, Cash, Prepaid(s.OrgID), g.Amount, s.Currency, g.GrantedAt)
	}
	return s.seal(Entry{Grant: &g}, j)
}

// Refund gives prepaid money back that has not expired, in the order in which
// invoices would use it. It returns ErrRequest, ErrRepeated, or ErrTooMuch.
// Promotional credits are not refunded.
func (s *State) Refund(r Refund) (Entry, error) {
	if err := s.checkMoney(r.ID, r.Amount, r.At); err != nil {
		return Entry{}, fmt.Errorf("refund %s: %w", r.ID, err)
	}
	r.At, r.Uses = r.At.UTC(), nil
	left := r.Amount.d
	for _, c := range s.Credits() {
		if left.IsZero() {
			break
		}
		if c.Grant.Kind != GrantPrepaid || !c.usableAt(r.At) {
			continue
		}
		part := decimal.Min(left, c.Remaining.d)
		r.Uses = append(r.Uses, GrantUse{GrantID: c.Grant.ID, Kind: c.Grant.Kind, Amount: Amount{d: part}})
		left = left.Sub(part)
	}
	if left.Sign() > 0 {
		return Entry{}, fmt.Errorf("refund %s of %s: %w: %s are missing", r.ID, r.Amount, ErrTooMuch, left)
	}
	j := newJournal(&r)
	j.move(CodeRefund, Prepaid(s.OrgID), Cash, r.Amount, s.Currency, r.At)
	return s.seal(Entry{Refund: &r}, j)
}

// Expire ends the credits that have expired by an instant. It returns
// ErrNothingExpired when there are none.
func (s *State) Expire(at time.Time) (Entry, error) {
	at = at.UTC()
	// The place in the chain makes the id: at one instant a credit may expire, be given
	// back by a credit note, and expire again.
	x := Expiry{ID: events.DeriveID("expiry", s.OrgID[:], fmt.Append(nil, s.last.Seq+1)), At: at}
	for _, c := range s.Credits() {
		if !c.Grant.ExpiresAt.IsZero() && !at.Before(c.Grant.ExpiresAt) {
			x.Uses = append(x.Uses, GrantUse{GrantID: c.Grant.ID, Kind: c.Grant.Kind, Amount: c.Remaining})
		}
	}
	if len(x.Uses) == 0 {
		return Entry{}, ErrNothingExpired
	}
	j := newJournal(&x)
	for _, u := range x.Uses {
		if u.Kind == GrantPromotional {
			j.move(CodePromoExpiry, Promo(s.OrgID), Breakage, u.Amount, s.Currency, at)
		} else {
			j.move(CodeExpiry, Prepaid(s.OrgID), Breakage, u.Amount, s.Currency, at)
		}
	}
	return s.seal(Entry{Expiry: &x}, j)
}

// WriteOff gives up what is open of an invoice; Amount of w is decided here. It
// returns ErrRequest, ErrNotOpen or ErrRepeated.
func (s *State) WriteOff(w WriteOff) (Entry, error) {
	if w.ID == uuid.Nil || w.At.IsZero() || w.Reason == "" {
		return Entry{}, fmt.Errorf("%w: a write-off needs an id, an instant and a reason", ErrRequest)
	}
	inv := s.invoices[w.InvoiceID]
	if inv == nil {
		return Entry{}, fmt.Errorf("write off %s: %w", w.InvoiceID, ErrNotOpen)
	}
	if inv.Due.IsZero() {
		return Entry{}, fmt.Errorf("write off %s: %w: nothing of it is due", inv.Invoice.Number, ErrNotOpen)
	}
	w.At, w.Amount = w.At.UTC(), inv.Due
	j := newJournal(&w)
	j.move(CodeWriteOff, WriteOffs, Receivable(s.OrgID), w.Amount, s.Currency, w.At)
	return s.seal(Entry{WriteOff: &w}, j)
}

// move carries an applied entry's document into the state. Amounts cannot go out
// of range here: the balances, which hold their sums, did not.
func (s *State) move(e *Entry) error {
	switch {
	case e.Invoice != nil:
		return s.moveInvoice(e.Invoice)
	case e.CreditNote != nil:
		return s.moveCreditNote(e.CreditNote)
	case e.Payment != nil:
		for _, a := range e.Payment.Allocations {
			inv := s.invoices[a.InvoiceID]
			inv.Due, inv.Paid = Amount{d: inv.Due.d.Sub(a.Amount.d)}, Amount{d: inv.Paid.d.Add(a.Amount.d)}
		}
		if !e.Payment.Overpaid.IsZero() {
			s.give(prepaidGrant(e.Payment.ID, e.Payment.Overpaid, e.Payment.At, "payment "+e.Payment.Reference))
		}
		return nil
	case e.Grant != nil:
		s.give(*e.Grant)
		return nil
	case e.Refund != nil:
		return s.spend(e.Refund.Uses, asIs)
	case e.Expiry != nil:
		return s.spend(e.Expiry.Uses, asIs)
	default:
		inv := s.invoices[e.WriteOff.InvoiceID]
		inv.Due, inv.WrittenOff = Amount{}, e.WriteOff.Amount
		return nil
	}
}

// carriedID names the grant of what an invoice carried.
func carriedID(invoiceID uuid.UUID) uuid.UUID { return events.DeriveID("carried", invoiceID[:]) }

func (s *State) moveInvoice(inv *Invoice) error {
	s.invoices[inv.ID] = &InvoiceState{Invoice: inv, Due: inv.Total, lines: make(map[int]Amount),
		taxes: make([]Amount, len(inv.Taxes)), restored: make(map[uuid.UUID]Amount)}
	s.order = append(s.order, inv.ID)
	if !inv.Carried.IsZero() {
		s.give(prepaidGrant(carriedID(inv.ID), inv.Carried, inv.CreatedAt, "carried from "+inv.Number))
	}
	return s.spend(inv.creditUses(), asIs)
}

// creditUses are the credits that the invoice uses, in the order of use.
func (inv *Invoice) creditUses() []GrantUse {
	var uses []GrantUse
	for _, l := range inv.Lines {
		if l.Kind == LineCredit {
			kind, _ := inv.creditKind(l.GrantID)
			uses = append(uses, GrantUse{GrantID: l.GrantID, Kind: kind, Amount: l.Amount.Neg()})
		}
	}
	return uses
}
