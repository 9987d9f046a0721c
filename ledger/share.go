package ledger

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Apportion splits an amount in proportion to weights. The first parts together are
// their share of the amount, rounded, so that no part is a minor unit or more away
// from its own share; the last one with a weight takes the rest. The parts add up to
// the amount, to its last digit, and none is on the other side of zero. ErrAmount
// when no weight is above zero.
func Apportion(a Amount, weights []uint64, currency string) ([]Amount, error) {
	var whole, begun decimal.Decimal
	last := -1
	for i, w := range weights {
		if w > 0 {
			whole, last = whole.Add(decimal.NewFromUint64(w)), i
		}
	}
	if last < 0 {
		return nil, fmt.Errorf("%w: %s is to be split by no weight", ErrAmount, a)
	}
	parts := make([]Amount, len(weights))
	var given Amount
	for i, w := range weights[:last] {
		begun = begun.Add(decimal.NewFromUint64(w))
		until, err := roundRatio(a.d, begun, whole, currency)
		if err != nil {
			return nil, err
		}
		if until.d.Abs().Cmp(a.d.Abs()) > 0 { // an amount between minor units
			until = a
		}
		parts[i], given = Amount{d: until.d.Sub(given.d)}, until
	}
	parts[last] = Amount{d: a.d.Sub(given.d)}
	return parts, nil
}

// TeamQuantity is what one team used of a Quantity.
type TeamQuantity struct {
	TeamID uuid.UUID // zero: of no team
	Quantity
}

// TeamShare is what one team used of what a line bills.
type TeamShare struct {
	TeamID   uuid.UUID // zero: of no team
	Quantity uint64
}

// TeamSplit says which teams used what the lines of an invoice bill.
type TeamSplit struct {
	inv  Invoice
	used map[quantityKey][]TeamQuantity
}

// quantityKey is what tells the quantities of an invoice apart.
type quantityKey struct {
	model, version, origin string
	segment                int
}

func (q *Quantity) key() quantityKey {
	return quantityKey{q.Model, q.PriceVersion, q.Origin, q.Segment}
}

// SplitByTeam splits the lines of an invoice by what each team used of each of its
// quantities. It returns ErrInputs unless that adds up to what the invoice counted,
// in every bucket and in the costs stamped on it.
func (inv Invoice) SplitByTeam(used []TeamQuantity) (*TeamSplit, error) {
	s := &TeamSplit{inv: inv, used: make(map[quantityKey][]TeamQuantity)}
	sums := make(map[quantityKey]Quantity)
	for _, u := range used {
		at := u.key()
		s.used[at] = append(s.used[at], u)
		sum := sums[at]
		if err := sum.add(u.Quantity); err != nil {
			return nil, err
		}
		sums[at] = sum
	}
	for i := range inv.Inputs.Quantities {
		q := &inv.Inputs.Quantities[i]
		sum := sums[q.key()]
		delete(sums, q.key())
		if sum.Tokens != q.Tokens || sum.Images != q.Images || sum.Requests != q.Requests ||
			q.Empty > 0 && sum.Empty != q.Empty || sum.Cost.Cmp(q.Cost) != 0 {
			return nil, fmt.Errorf("%w: teams used %d requests for %s of %s at %s, the invoice counted %d for %s",
				ErrInputs, sum.Requests, sum.Cost, q.Model, q.PriceVersion, q.Requests, q.Cost)
		}
	}
	for at := range sums {
		return nil, fmt.Errorf("%w: teams used %s at %s, which the invoice did not count", ErrInputs, at.model, at.version)
	}
	return s, nil
}

// Shares are what the teams used of what a line (the first is 1) bills, by team id,
// none of them zero; nothing for a line that no usage is behind. The shares of a line
// of usage are its quantity. Those of a tier are too: which usage fell into which tier
// nothing says, so each tier takes of each team in proportion to what the tiers
// before it have left, and the tiers of a charge together take what each team used.
// Packages do not belong to anybody: their shares are of the usage that filled them.
func (s *TeamSplit) Shares(line int) ([]TeamShare, error) {
	parts := s.inv.UsageOf(line)
	if len(parts) == 0 {
		return nil, nil
	}
	shares, l := s.usedOf(parts), &s.inv.Lines[line-1]
	if l.Kind != LineTier || l.Unit == UnitPackages {
		return shares, nil
	}
	left := make([]uint64, len(shares))
	for i := range shares {
		left[i] = shares[i].Quantity
	}
	for i := range s.inv.Lines[:line] {
		tier := &s.inv.Lines[i]
		if tier.Kind != LineTier || tier.Name != l.Name || tier.Origin != l.Origin || tier.Segment != l.Segment {
			continue
		}
		taken, err := largestRemainder(left, tier.Quantity)
		if err != nil {
			return nil, err
		}
		for j := range taken {
			left[j] -= taken[j]
			shares[j].Quantity = taken[j]
		}
	}
	return slices.DeleteFunc(shares, func(s TeamShare) bool { return s.Quantity == 0 }), nil
}

// usedOf are the quantities of parts, added up by team.
func (s *TeamSplit) usedOf(parts []Line) []TeamShare {
	sums := make(map[uuid.UUID]uint64)
	for i := range parts {
		p := &parts[i]
		for _, u := range s.used[quantityKey{p.Model, p.PriceVersion, p.Origin, p.Segment}] {
			sums[u.TeamID] += p.Bucket.sumOf(&u.Quantity) // no overflow: Bill added up all of it
		}
	}
	var shares []TeamShare
	for team, quantity := range sums {
		if quantity > 0 {
			shares = append(shares, TeamShare{team, quantity})
		}
	}
	slices.SortFunc(shares, func(a, b TeamShare) int { return bytes.Compare(a.TeamID[:], b.TeamID[:]) })
	return shares
}
