package billing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Published is a version of a plan in the catalog of plans. It is immutable: a
// change is another version.
type Published struct {
	Version     int       `json:"version"` // 1 is the code's first
	PublishedAt time.Time `json:"published_at"`
	Plan        Plan      `json:"plan"` // without EffectiveFrom; without Currency it fits every org
}

// TypePlanPublished is the record of PublishPlan, on the code's subject; its data
// is a Published.
const TypePlanPublished = "plan.published"

const publishedPrefix = "LEDGER.published_plan."

// publishedSubject carries the versions of a plan. A code is one subject token.
func publishedSubject(code string) string { return publishedPrefix + code }

// PublishPlan adds a plan to the catalog of plans: the next version of its code.
// What the newest version says already is not published again. It returns
// ErrInvalid or ErrIdempotency.
func (c Commands) PublishPlan(ctx context.Context, plan Plan, by By) (Outcome[Published], error) {
	return carryOut(ctx, c, command{"publish plan", uuid.Nil, plan}, by, func(b *batch) (Published, error) {
		p := plan
		if err := p.complete(); err != nil {
			return Published{}, err
		}
		if !p.EffectiveFrom.IsZero() || p.Version != 0 {
			return Published{}, fmt.Errorf("%w: a published plan has no effective_from, and its version is given here", ErrInvalid)
		}
		last := c.Book.LastOn(publishedSubject(p.Code)) // before the look: what is decided on must not be newer
		newest, err := c.Book.PublishedPlan(p.Code, 0)
		p.Version = newest.Version
		if err == nil && sameJSON(newest.Plan, p) {
			return newest, nil
		}
		p.Version++
		published := Published{Version: p.Version, PublishedAt: b.by.At, Plan: p}
		b.add(publishedSubject(p.Code), last, TypePlanPublished, published)
		return published, nil
	})
}

// AssignPublished gives an org a plan of the catalog from an instant on (zero:
// now), as AssignPlan does. Version 0 is the newest. It returns ErrNotFound for a
// plan that is not published, too.
func (c Commands) AssignPublished(ctx context.Context, orgID uuid.UUID, code string, version int, from time.Time, by By) (Outcome[Plan], error) {
	type request struct {
		Code    string    `json:"code"`
		Version int       `json:"version"`
		From    time.Time `json:"from"`
	}
	return c.assign(ctx, command{"assign published plan", orgID, request{code, version, from}}, by, func() (Plan, error) {
		published, err := c.Book.PublishedPlan(code, version)
		published.Plan.EffectiveFrom = from
		return published.Plan, err
	})
}

func (b *Book) applyPublished(p Published) error {
	versions := b.published[p.Plan.Code]
	if p.Version != len(versions)+1 {
		return fmt.Errorf("%w: version %d of plan %s follows %d", ErrCorrupt, p.Version, p.Plan.Code, len(versions))
	}
	b.published[p.Plan.Code] = append(versions, p)
	return nil
}

// PublishedPlans are the newest version of each plan of the catalog, by code.
func (b *Book) PublishedPlans() []Published {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var newest []Published
	for _, versions := range b.published {
		newest = append(newest, versions[len(versions)-1])
	}
	slices.SortFunc(newest, func(x, y Published) int { return cmp.Compare(x.Plan.Code, y.Plan.Code) })
	return newest
}

// PublishedPlan is a version of a plan of the catalog, 0 the newest; ErrNotFound
// when there is none.
func (b *Book) PublishedPlan(code string, version int) (Published, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	versions := b.published[code]
	if version == 0 {
		if version = len(versions); version == 0 {
			return Published{}, fmt.Errorf("plan %.70q: %w", code, ErrNotFound)
		}
	}
	if version < 1 || version > len(versions) {
		return Published{}, fmt.Errorf("plan %.70s version %d: %w", code, version, ErrNotFound)
	}
	return versions[version-1], nil
}
