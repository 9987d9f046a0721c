package billing

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Published is a version of a plan in the catalog of plans. It is immutable: a
// change is another version.
type Published struct {
	Version     int       `json:"version"` // 1 is the code's first
	PublishedAt time.Time `json:"published_at"`
	Plan        Plan      `json:"plan"` // without EffectiveFrom
}

// TypePlanPublished is the record of PublishPlan, on the code's subject; its data
// is a Published.
const TypePlanPublished = "plan.published"

// PublishPlan adds a plan to the catalog of plans: the next version of its code.
// What the newest version says already is not published again. It returns
// ErrInvalid or ErrIdempotency.
func (c Commands) PublishPlan(ctx context.Context, plan Plan, by By) (Outcome[Published], error) {
	return Outcome[Published]{}, fmt.Errorf("publish plan: %w", errNotBuilt)
}

// AssignPublished gives an org a plan of the catalog from an instant on (zero:
// now), as AssignPlan does. Version 0 is the newest. It returns ErrNotFound for a
// plan that is not published, too.
func (c Commands) AssignPublished(ctx context.Context, orgID uuid.UUID, code string, version int, from time.Time, by By) (Outcome[Plan], error) {
	return Outcome[Plan]{}, fmt.Errorf("assign plan: %w", errNotBuilt)
}

// PublishedPlans are the newest version of each plan of the catalog, by code.
func (b *Book) PublishedPlans() []Published { return nil }

// PublishedPlan is a version of a plan of the catalog, 0 the newest; ErrNotFound
// when there is none.
func (b *Book) PublishedPlan(code string, version int) (Published, error) {
	return Published{}, fmt.Errorf("published plan: %w", errNotBuilt)
}
