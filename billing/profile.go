package billing

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Bounds of a Profile.
const (
	TermsDaysMax = 3650
	GraceMax     = 31 * 24 * time.Hour
)

// Profile says how an org is invoiced, from an instant on until its next one.
type Profile struct {
	EffectiveFrom time.Time `json:"effective_from"` // UTC, whole milliseconds; zero: now

	// TaxRates are those in force at the end of the last day of a period.
	TaxRates []ledger.TaxRate `json:"tax_rates,omitempty"`
	// TermsDays, Grace and BillTo are those in force when a period is closed; nil is
	// the invoicer's default.
	TermsDays *int           `json:"terms_days,omitempty"`
	Grace     *time.Duration `json:"grace,omitempty"` // in nanoseconds
	BillTo    *ledger.Party  `json:"bill_to,omitempty"`
	// Anchor is the day of the month that periods begin on; 0 is as it was, at first
	// 1. It is the org's as soon as it is set, and fixed once a period is closed.
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
	TypeProfileSet     = "profile.set"      // on JournalSubject, which orders it among the closings; Data: ProfileSet
	TypeLegalEntitySet = "legal_entity.set" // on the entity's subject; Data: LegalEntity
)

const entityPrefix = "LEDGER.legal_entity."

// ProfileSet is a profile given to an org.
type ProfileSet struct {
	OrgID   uuid.UUID `json:"org_id"`
	Profile Profile   `json:"profile"`
}

func (p *Profile) complete(now time.Time, currency string) error {
	if p.EffectiveFrom.IsZero() {
		p.EffectiveFrom = now
	}
	p.EffectiveFrom = p.EffectiveFrom.UTC()
	if err := ledger.CheckTaxes(p.TaxRates); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if p.BillTo != nil {
		if err := p.BillTo.Check(); err != nil {
			return fmt.Errorf("%w: bill_to: %w", ErrInvalid, err)
		}
	}
	switch {
	case !p.EffectiveFrom.Equal(p.EffectiveFrom.Truncate(time.Millisecond)):
		return fmt.Errorf("%w: effective_from has parts of a millisecond", ErrInvalid)
	case p.TermsDays != nil && (*p.TermsDays < 0 || *p.TermsDays > TermsDaysMax):
		return fmt.Errorf("%w: payment terms of %d days", ErrInvalid, *p.TermsDays)
	case p.Grace != nil && (*p.Grace < 0 || *p.Grace > GraceMax):
		return fmt.Errorf("%w: a grace of %s, at most %s", ErrInvalid, *p.Grace, GraceMax)
	case p.Anchor < 0 || p.Anchor > 31:
		return fmt.Errorf("%w: anchor day %d", ErrInvalid, p.Anchor)
	case p.LowBalance.Sign() < 0:
		return fmt.Errorf("%w: a low balance of %s", ErrInvalid, p.LowBalance.Format(currency))
	}
	return nil
}

// SetProfile gives an org a profile from an instant on, which must not be past,
// nor before the start of the profile set last: that is how history stays as it
// was. Of several with one start the last counts. It returns ErrNotFound,
// ErrInvalid or ErrIdempotency.
func (c Commands) SetProfile(ctx context.Context, orgID uuid.UUID, p Profile, by By) (Outcome[Profile], error) {
	return carryOut(ctx, c, command{"set profile", orgID, p}, by, func(b *batch) (result Profile, err error) {
		err = c.Book.decide(orgID, func(v view) error {
			result = p
			if err := result.complete(b.by.At, v.org.Currency); err != nil {
				return err
			}
			if n := len(v.profiles); n > 0 && result.EffectiveFrom.Before(v.profiles[n-1].EffectiveFrom) {
				return fmt.Errorf("%w: the profile set last starts at %s", ErrInvalid, v.profiles[n-1].EffectiveFrom)
			}
			anchor := v.anchor()
			if result.Anchor == 0 {
				result.Anchor = anchor
			}
			switch {
			case result.EffectiveFrom.Before(b.by.At):
				return fmt.Errorf("%w: effective_from %s is past", ErrInvalid, result.EffectiveFrom)
			case result.Anchor != anchor && len(v.runs) > 0:
				return fmt.Errorf("%w: periods begin on day %d; that is fixed now that one is closed", ErrInvalid, anchor)
			}
			b.add(events.JournalSubject(orgID), v.journalSeq, TypeProfileSet, ProfileSet{OrgID: orgID, Profile: result})
			return nil
		})
		return result, err
	})
}

func (b *Book) applyProfile(p ProfileSet) error {
	a, err := b.known(p.OrgID)
	if err != nil {
		return err
	}
	a.profiles = append(a.profiles, p.Profile)
	return nil
}

// anchor is the day of the month that the org's periods begin on.
func (a *account) anchor() int {
	if n := len(a.profiles); n > 0 {
		return a.profiles[n-1].Anchor
	}
	return 1
}

// profileAt is the profile in force at an instant.
func (a *account) profileAt(at time.Time) Profile {
	for i := len(a.profiles) - 1; i >= 0; i-- {
		if !at.Before(a.profiles[i].EffectiveFrom) {
			return a.profiles[i]
		}
	}
	return Profile{Anchor: a.anchor()}
}

// ProfileAt is the profile of an org at an instant, or ErrNotFound when there is
// no such org. Before its first one an org has one that says nothing.
func (b *Book) ProfileAt(orgID uuid.UUID, at time.Time) (p Profile, err error) {
	err = b.decide(orgID, func(v view) error {
		p = v.profileAt(at)
		return nil
	})
	return p, err
}

// Anchor is the day of the month that an org's periods begin on, or ErrNotFound.
func (b *Book) Anchor(orgID uuid.UUID) (anchor int, err error) {
	err = b.decide(orgID, func(v view) error {
		anchor = v.anchor()
		return nil
	})
	return anchor, err
}

// SetLegalEntity says who a legal entity is, for the documents made from now on.
// It returns ErrInvalid or ErrIdempotency.
func (c Commands) SetLegalEntity(ctx context.Context, e LegalEntity, by By) (Outcome[LegalEntity], error) {
	return carryOut(ctx, c, command{"set legal entity", uuid.Nil, e}, by, func(b *batch) (LegalEntity, error) {
		if !legalEntityForm.MatchString(e.Code) {
			return e, fmt.Errorf("%w: legal entity %.20q is not 1 to 16 of A-Z and 0-9", ErrInvalid, e.Code)
		}
		if err := e.Issuer.Check(); err != nil {
			return e, fmt.Errorf("%w: issuer: %w", ErrInvalid, err)
		}
		last := c.Book.LastOn(entityPrefix + e.Code) // before the look: what is decided on must not be newer
		if old, err := c.Book.LegalEntity(e.Code); err == nil && sameJSON(old, e) {
			return old, nil
		}
		b.add(entityPrefix+e.Code, last, TypeLegalEntitySet, e)
		return e, nil
	})
}

// entityVersion is what was said of a legal entity at an instant.
type entityVersion struct {
	at time.Time
	LegalEntity
}

// LegalEntity is what is known of a legal entity; ErrNotFound when nothing is.
func (b *Book) LegalEntity(code string) (LegalEntity, error) {
	return b.legalEntity(code, func(entityVersion) bool { return true })
}

// LegalEntityAt is what was known of a legal entity at an instant; ErrNotFound
// when nothing was.
func (b *Book) LegalEntityAt(code string, at time.Time) (LegalEntity, error) {
	return b.legalEntity(code, func(v entityVersion) bool { return !v.at.After(at) })
}

// legalEntity is the last version of a legal entity that counts.
func (b *Book) legalEntity(code string, counts func(entityVersion) bool) (LegalEntity, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, v := range slices.Backward(b.entities[code]) {
		if counts(v) {
			return v.LegalEntity, nil
		}
	}
	return LegalEntity{}, fmt.Errorf("legal entity %.20q: %w", code, ErrNotFound)
}

// LegalEntities are all that are known, by code.
func (b *Book) LegalEntities() []LegalEntity {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var all []LegalEntity
	for _, code := range slices.Sorted(maps.Keys(b.entities)) {
		versions := b.entities[code]
		all = append(all, versions[len(versions)-1].LegalEntity)
	}
	return all
}
