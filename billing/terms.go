package billing

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// TermsAt are the terms that an org's usage at an instant is billed under.
type TermsAt struct {
	ledger.Segment
	OfDays   int    // of its period
	Currency string // the org's
	Seq      uint64 // of the ledger, up to which plans and profiles are known here
}

// TermsAt are the terms of an org at an instant as an invoice would split the
// period now, or ErrNotFound.
func (b *Book) TermsAt(orgID uuid.UUID, at time.Time) (t TermsAt, err error) {
	err = b.decide(orgID, func(v view) error {
		period, err := ledger.AnchoredPeriodOf(at, v.zone, v.anchor())
		if err != nil {
			return err
		}
		t.Currency, t.Seq = v.org.Currency, b.applied
		if len(b.staged) > 0 {
			t.Seq = b.staged[0].Seq - 1 // the beginning of a batch is not in force
		}
		for _, s := range ledger.SegmentsOf(period, v.zone, v.moneyPlans()) {
			t.OfDays += s.Days
			if !at.Before(s.Start) {
				t.Segment = s
			}
		}
		return nil
	})
	return t, err
}

// ChangesTerms reports whether a record of the ledger may change TermsAt, whose,
// and whether it brings a plan that blocks.
func ChangesTerms(r events.Record) (orgID uuid.UUID, blocks, ok bool, err error) {
	switch {
	case r.Type == TypePlanAssigned && strings.HasPrefix(r.Subject, planPrefix):
		var d Assigned
		err = r.Into(&d)
		orgID, blocks, ok = d.OrgID, d.Plan.Blocks(), true
	case r.Type == TypeProfileSet && strings.HasPrefix(r.Subject, journalPrefix):
		var d ProfileSet
		err = r.Into(&d)
		orgID, ok = d.OrgID, true
	}
	if err != nil {
		return uuid.Nil, false, false, fmt.Errorf("read %s at ledger sequence %d: %w", r.Type, r.Seq, err)
	}
	return orgID, blocks, ok, nil
}
