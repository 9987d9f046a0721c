package billing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

var errNotBuilt = errors.New("is not built yet")

// Bounds of a Profile.
const (
	TermsDaysMax = 3650
	GraceMax     = 31 * 24 * time.Hour
)

// Profile says how an org is invoiced, from an instant on.
type Profile struct {
	EffectiveFrom time.Time `json:"effective_from"` // UTC, whole milliseconds; zero: now

	// TaxRates are those in force on the last day of a period.
	TaxRates []ledger.TaxRate `json:"tax_rates,omitempty"`
	// TermsDays, Grace and BillTo are those in force when a period is closed; nil is
	// the invoicer's default.
	TermsDays *int           `json:"terms_days,omitempty"`
	Grace     *time.Duration `json:"grace,omitempty"` // in nanoseconds
	BillTo    *ledger.Party  `json:"bill_to,omitempty"`
	// Anchor is the day of the month that periods begin on; 0 is as it was, at first 1.
	// It is fixed once the org's first period is closed.
	Anchor int `json:"anchor,omitempty"`
	// LowBalance is the balance at or below which balance.low is announced.
	LowBalance ledger.Amount `json:"low_balance,omitzero"`
}

// LegalEntity is a company that issues invoices.
type LegalEntity struct {
	Code   string        `json:"code"`
	Issuer ledger.Issuer `json:"issuer"`
}

// Types of the records of profiles.
const (
	TypeProfileSet     = "profile.set"      // on the org's profile subject; Data: ProfileSet
	TypeLegalEntitySet = "legal_entity.set" // on the entity's subject; Data: LegalEntity
)

// ProfileSet is a profile given to an org.
type ProfileSet struct {
	OrgID   uuid.UUID `json:"org_id"`
	Profile Profile   `json:"profile"`
}

// SetProfile gives an org a profile from an instant on, which must not be past,
// nor before the start of a profile set earlier; of several with one start the
// last counts. It returns ErrNotFound, ErrInvalid or ErrIdempotency.
func (c Commands) SetProfile(ctx context.Context, orgID uuid.UUID, p Profile, by By) (Outcome[Profile], error) {
	return Outcome[Profile]{}, fmt.Errorf("set profile: %w", errNotBuilt)
}

// SetLegalEntity says who a legal entity is, for the documents made from now on.
// It returns ErrInvalid or ErrIdempotency.
func (c Commands) SetLegalEntity(ctx context.Context, e LegalEntity, by By) (Outcome[LegalEntity], error) {
	return Outcome[LegalEntity]{}, fmt.Errorf("set legal entity: %w", errNotBuilt)
}

// ProfileAt is the profile of an org at an instant, or ErrNotFound when there is
// no such org. Before its first one an org has the zero Profile with Anchor 1.
func (b *Book) ProfileAt(orgID uuid.UUID, at time.Time) (Profile, error) {
	return Profile{}, fmt.Errorf("profile: %w", errNotBuilt)
}

// Anchor is the day of the month that an org's periods begin on, or ErrNotFound.
func (b *Book) Anchor(orgID uuid.UUID) (int, error) {
	return 0, fmt.Errorf("anchor: %w", errNotBuilt)
}

// LegalEntity is what is known of a legal entity; ErrNotFound when nothing is.
func (b *Book) LegalEntity(code string) (LegalEntity, error) {
	return LegalEntity{}, fmt.Errorf("legal entity: %w", errNotBuilt)
}

// LegalEntities are all that are known, by code.
func (b *Book) LegalEntities() []LegalEntity { return nil }
