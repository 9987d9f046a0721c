package billing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// Ledger is the part of the event log that commands use.
type Ledger interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
	LedgerEnd(ctx context.Context) (uint64, error)
}

// By says who commands, when and why.
type By struct {
	Actor  string // e.g. "cli:alice"
	Reason string
	At     time.Time // now

	// Key makes a command repeatable: the same request with the same key is carried
	// out once and answered the same for ever, another request with it is
	// ErrIdempotency. Keys are an org's own; those of commands without an org are
	// the house's. Empty: the command is carried out each time that it is asked for,
	// but for those that an id or their content makes repeatable.
	Key string
}

// Outcome is what a command did.
type Outcome[T any] struct {
	Result   T
	Replayed bool // a request with this key was carried out before; nothing was done now
}

// ErrIdempotency is returned when an idempotency key was used for another request.
var ErrIdempotency = errors.New("the idempotency key was used for another request")

// attemptsMax bounds how often a command decides anew because another writer was
// first. Each lost race means that somebody else got something done.
const attemptsMax = 64

// Commands write orgs, teams, plans, profiles, and money. A command returns when
// Book shows what it wrote, so something must be feeding Book's Apply.
type Commands struct {
	Log    Ledger
	Book   *Book
	Prices Prices // only ReRate and Correct need it
}

// CreateOrg creates an org under the caller's id; empty fields get the defaults,
// CreatedAt is by.At. The same again changes nothing; the same id with other
// content is ErrExists.
func (c Commands) CreateOrg(ctx context.Context, org Org, by By) (Org, error) {
	org.CreatedAt = time.Time{}
	out, err := carryOut(ctx, c, command{"create org", uuid.Nil, org}, by, func(b *batch) (Org, error) {
		wanted := org
		wanted.CreatedAt = b.by.At
		if err := wanted.complete(); err != nil {
			return Org{}, err
		}
		if old, err := c.Book.Org(org.ID); err == nil {
			same := wanted
			same.CreatedAt = old.CreatedAt
			if same != old {
				return Org{}, fmt.Errorf("org %s: %w", org.ID, ErrExists)
			}
			return old, nil
		}
		b.add(events.OrgSubject(org.ID), 0, TypeOrgCreated, wanted)
		return wanted, nil
	})
	return out.Result, err
}

// CreateTeam creates a team in an org, under the caller's id, as CreateOrg does.
// It returns ErrNotFound when there is no such org.
func (c Commands) CreateTeam(ctx context.Context, team Team, by By) (Team, error) {
	team.CreatedAt = time.Time{}
	out, err := carryOut(ctx, c, command{"create team", team.OrgID, team}, by, func(b *batch) (Team, error) {
		if team.ID == uuid.Nil {
			return Team{}, fmt.Errorf("%w: team id is missing", ErrInvalid)
		}
		if err := checkName(team.Name); err != nil {
			return Team{}, err
		}
		subject := events.OrgSubject(team.OrgID)
		last := c.Book.LastOn(subject) // before the look: what is decided on must not be newer
		if _, err := c.Book.Org(team.OrgID); err != nil {
			return Team{}, err
		}
		if old, err := c.Book.Team(team.OrgID, team.ID); err == nil {
			if old.Name != team.Name {
				return Team{}, fmt.Errorf("team %s: %w", team.ID, ErrExists)
			}
			return old, nil
		}
		wanted := team
		wanted.CreatedAt = b.by.At
		b.add(subject, last, TypeTeamCreated, wanted)
		return wanted, nil
	})
	return out.Result, err
}

// sameJSON compares two values of one type by what is written of them.
func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// catchUp waits until the book knows all that the ledger holds now.
func catchUp(ctx context.Context, log Ledger, book *Book) error {
	end, err := log.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	return book.WaitFor(ctx, end)
}
