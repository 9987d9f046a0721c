package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// GrantKind is whose money a credit is. The names cross the wire.
type GrantKind string

const (
	GrantPromotional GrantKind = "promotional" // given; never refunded
	GrantPrepaid     GrantKind = "prepaid"     // the org's own money
)

// Grant is a credit that pays invoices until it is used up or expires.
type Grant struct {
	ID        uuid.UUID `json:"id"` // the caller's, or derived from what it came from
	Kind      GrantKind `json:"kind"`
	Amount    Amount    `json:"amount"` // positive, in whole minor units
	GrantedAt time.Time `json:"granted_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // exclusive; zero: never
	Priority  int       `json:"priority,omitempty"`  // lower goes first among those that expire together
	Source    string    `json:"source,omitempty"`    // for people: "top-up", "overpayment of …"
}

// Credit is a grant and what is left of it.
type Credit struct {
	Grant     Grant  `json:"grant"`
	Remaining Amount `json:"remaining"`
}

// usableAt reports whether the credit can pay something at an instant.
func (c Credit) usableAt(at time.Time) bool {
	return c.Remaining.Sign() > 0 && !at.Before(c.Grant.GrantedAt) && (c.Grant.ExpiresAt.IsZero() || at.Before(c.Grant.ExpiresAt))
}

// compareCredits is the order in which credits are used: first those that expire
// first, of these promotional ones before prepaid money, then by priority, then
// the oldest.
func compareCredits(a, b Credit) int {
	return cmp.Or(
		compareExpiry(a.Grant.ExpiresAt, b.Grant.ExpiresAt),
		cmp.Compare(grantRank(a.Grant.Kind), grantRank(b.Grant.Kind)),
		cmp.Compare(a.Grant.Priority, b.Grant.Priority),
		a.Grant.GrantedAt.Compare(b.Grant.GrantedAt),
		slices.Compare(a.Grant.ID[:], b.Grant.ID[:]),
	)
}

func compareExpiry(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

func grantRank(k GrantKind) int {
	if k == GrantPromotional {
		return 0
	}
	return 1
}

// GrantUse is a part of a grant that something used, or gave back.
type GrantUse struct {
	GrantID uuid.UUID `json:"grant_id"`
	Kind    GrantKind `json:"kind"`
	Amount  Amount    `json:"amount"`
}
