package webhooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	Actor  string // e.g. "key:…"
	Reason string
	At     time.Time // now
}

// Commands change endpoints. A command returns when Book shows what it wrote, so
// something must be feeding Book's Apply. If others kept being first it returns
// events.ErrConflict.
type Commands struct {
	Log          Ledger
	Book         *Book
	Secrets      *Secrets
	Destinations Destinations
}

// CreateInput says what endpoint to make.
type CreateInput struct {
	OrgID uuid.UUID
	// ID makes the call repeatable: the same again writes nothing and gives the same
	// secret. Zero: a new one each time.
	ID          uuid.UUID
	URL         string
	Description string
	Events      []string // of Book.EventTypes; empty means all, also those to come
}

// UpdateInput changes what is given: nil means as it is.
type UpdateInput struct {
	URL         *string // also for what waits already
	Description *string
	Events      *[]string // to empty: all; for what happens from now on
}

// attemptsMax bounds how often a command decides anew because another writer was
// first. Each lost race means that somebody else got something done.
const attemptsMax = 64

// Create makes an endpoint that is told of what happens from now on, and returns
// its secret. It returns a *FieldError, ErrTooMany or ErrExists.
func (c Commands) Create(ctx context.Context, in CreateInput, by By) (Endpoint, string, error) {
	if in.OrgID == uuid.Nil {
		return Endpoint{}, "", &FieldError{"org_id", "is missing"}
	}
	if in.ID == uuid.Nil {
		in.ID = events.NewID()
	}
	types, err := checkEvents(in.Events, c.Book.types)
	if err := cmp.Or(err, checkDescription(in.Description), c.checkURL(in.URL)); err != nil {
		return Endpoint{}, "", err
	}
	_, err = c.decide(ctx, in.OrgID, by, func() (string, any, error) {
		if c.Book.wasDeleted(in.OrgID, in.ID) {
			return "", nil, ErrExists
		}
		all := c.Book.Endpoints(in.OrgID)
		if i := slices.IndexFunc(all, func(e Endpoint) bool { return e.ID == in.ID }); i >= 0 {
			old := all[i]
			if old.URL != in.URL || old.Description != in.Description || !slices.Equal(old.Events, types) || old.SecretVersion != 1 {
				return "", nil, ErrExists
			}
			return "", nil, nil
		}
		if len(all) >= EndpointsMax {
			return "", nil, ErrTooMany
		}
		return recordCreated, createdData{identity{in.ID, in.OrgID}, in.URL, in.Description, types, c.Secrets.newest()}, nil
	})
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("create a webhook endpoint: %w", err)
	}
	return c.withSecret(in.OrgID, in.ID)
}

func (c Commands) checkURL(url string) error {
	if why := c.Destinations.check(url); why != "" {
		return &FieldError{"url", why}
	}
	return nil
}

// withSecret is an endpoint and its newest secret.
func (c Commands) withSecret(org, id uuid.UUID) (Endpoint, string, error) {
	e, newest, err := c.Book.newestSecret(org, id)
	if err != nil {
		return Endpoint{}, "", err
	}
	secret, err := c.Secrets.show(id, newest)
	return e, secret, err
}

// Update changes what the input gives; the same again writes nothing. It returns
// ErrNotFound or a *FieldError.
func (c Commands) Update(ctx context.Context, org, id uuid.UUID, in UpdateInput, by By) (Endpoint, error) {
	d := updatedData{identity: identity{id, org}}
	var errs []error
	if in.URL != nil {
		errs = append(errs, c.checkURL(*in.URL))
	}
	if in.Description != nil {
		errs = append(errs, checkDescription(*in.Description))
	}
	var types []string
	if in.Events != nil {
		var err error
		types, err = checkEvents(*in.Events, c.Book.types)
		types = append([]string{}, types...) // null would read as absent
		errs = append(errs, err)
	}
	if err := cmp.Or(errs...); err != nil {
		return Endpoint{}, err
	}
	return c.change(ctx, org, id, by, "update", func(e Endpoint) (string, any, error) {
		d.URL, d.Description, d.Events = in.URL, in.Description, nil
		if d.URL != nil && *d.URL == e.URL {
			d.URL = nil
		}
		if d.Description != nil && *d.Description == e.Description {
			d.Description = nil
		}
		if in.Events != nil && !slices.Equal(types, e.Events) {
			d.Events = &types
		}
		if d.URL == nil && d.Description == nil && d.Events == nil {
			return "", nil, nil
		}
		return recordUpdated, d, nil
	})
}

// Disable switches an endpoint off, for by.Reason: it is not told of what happens
// while it is, and what waits for it waits on. It returns ErrNotFound.
func (c Commands) Disable(ctx context.Context, org, id uuid.UUID, by By) (Endpoint, error) {
	return c.change(ctx, org, id, by, "disable", func(e Endpoint) (string, any, error) {
		if e.Disabled {
			return "", nil, nil
		}
		return recordDisabled, identity{id, org}, nil
	})
}

// Enable undoes Disable; what happened meanwhile can be replayed. It returns
// ErrNotFound.
func (c Commands) Enable(ctx context.Context, org, id uuid.UUID, by By) (Endpoint, error) {
	return c.change(ctx, org, id, by, "enable", func(e Endpoint) (string, any, error) {
		if !e.Disabled {
			return "", nil, nil
		}
		return recordEnabled, identity{id, org}, nil
	})
}

// Delete takes an endpoint away for good, with what waits for it. It returns
// ErrNotFound, also the second time.
func (c Commands) Delete(ctx context.Context, org, id uuid.UUID, by By) error {
	_, err := c.decide(ctx, org, by, func() (string, any, error) {
		_, err := c.Book.Endpoint(org, id)
		return recordDeleted, identity{id, org}, err
	})
	if err != nil {
		return fmt.Errorf("delete a webhook endpoint: %w", err)
	}
	return nil
}

// Rotate gives an endpoint a new secret and returns it. For the grace (0 to
// MaxGrace) the older ones sign beside it, so that the call may be repeated if its
// answer was lost. It returns ErrNotFound, a *FieldError or ErrManySecrets.
func (c Commands) Rotate(ctx context.Context, org, id uuid.UUID, grace time.Duration, by By) (Endpoint, string, error) {
	if grace < 0 || grace > MaxGrace {
		return Endpoint{}, "", &FieldError{"grace_hours", fmt.Sprintf("is not between 0 and %d", MaxGrace/time.Hour)}
	}
	at := by.At.UTC().Round(0)
	_, err := c.change(ctx, org, id, by, "rotate", func(e Endpoint) (string, any, error) {
		d := rotatedData{identity{id, org}, e.SecretVersion + 1, c.Secrets.newest(), at.Add(grace)}
		if c.Book.oldSecretsAfter(d, at) > oldSecretsMax {
			return "", nil, ErrManySecrets
		}
		return recordRotated, d, nil
	})
	if err != nil {
		return Endpoint{}, "", err
	}
	return c.withSecret(org, id)
}

// Test has a message of TypeTest sent to an endpoint, as any other, and returns its
// id. It returns ErrNotFound or ErrDisabled.
func (c Commands) Test(ctx context.Context, org, id uuid.UUID, by By) (message string, err error) {
	r, err := c.decide(ctx, org, by, func() (string, any, error) {
		return recordTested, identity{id, org}, c.enabled(org, id)
	})
	if err != nil {
		return "", fmt.Errorf("test a webhook endpoint: %w", err)
	}
	return formatMessageID(messageID(r.ID)), nil
}

// Replay has a message sent to an endpoint again, whatever became of it and
// whatever types the endpoint wants. It returns ErrNotFound, also for a message so
// old that it is not remembered, or ErrDisabled.
func (c Commands) Replay(ctx context.Context, org, id uuid.UUID, message string, by By) error {
	n := 0
	_, ok := parseMessageID(message)
	if ok {
		var err error
		if n, err = c.replay(ctx, replayedData{identity: identity{id, org}, Message: message}, by); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("replay: message %.50q: %w", message, ErrNotFound)
	}
	return nil
}

// ReplaySince has all messages since an instant sent to an endpoint again, of the
// types that it wants, and returns how many there are: those that happened before
// it was made or while it was disabled too. It returns ErrNotFound, ErrDisabled, or
// a *FieldError.
func (c Commands) ReplaySince(ctx context.Context, org, id uuid.UUID, since time.Time, by By) (messages int, err error) {
	if since.IsZero() || since.Year() < 1 || since.Year() > 9999 {
		return 0, &FieldError{"since", "is missing, or past the year 9999"}
	}
	return c.replay(ctx, replayedData{identity: identity{id, org}, Since: since.UTC().Round(0)}, by)
}

func (c Commands) replay(ctx context.Context, d replayedData, by By) (n int, err error) {
	_, err = c.decide(ctx, d.OrgID, by, func() (string, any, error) {
		if err := c.enabled(d.OrgID, d.ID); err != nil {
			return "", nil, err
		}
		if n = c.Book.countReplayed(d); n == 0 {
			return "", nil, nil
		}
		return recordReplayed, d, nil
	})
	if err != nil {
		return 0, fmt.Errorf("replay to a webhook endpoint: %w", err)
	}
	return n, nil
}

func (c Commands) enabled(org, id uuid.UUID) error {
	e, err := c.Book.Endpoint(org, id)
	if err == nil && e.Disabled {
		err = ErrDisabled
	}
	return err
}

// change decides on an endpoint that exists and returns what it is then.
func (c Commands) change(ctx context.Context, org, id uuid.UUID, by By, what string, decision func(Endpoint) (string, any, error)) (Endpoint, error) {
	_, err := c.decide(ctx, org, by, func() (string, any, error) {
		e, err := c.Book.Endpoint(org, id)
		if err != nil {
			return "", nil, err
		}
		return decision(e)
	})
	if err != nil {
		return Endpoint{}, fmt.Errorf("%s a webhook endpoint: %w", what, err)
	}
	return c.Book.Endpoint(org, id)
}

// decide appends the record that the decision names, if any, and decides anew on a
// fresh book whenever another writer was first. It returns the record, or a zero
// one.
func (c Commands) decide(ctx context.Context, org uuid.UUID, by By, decision func() (typ string, data any, err error)) (events.Record, error) {
	subject := endpointSubject(org)
	var conflict error
	for range attemptsMax {
		// A refusal, too, must not rest on old knowledge.
		end, err := c.Log.LedgerEnd(ctx)
		if err == nil {
			err = c.Book.WaitFor(ctx, end)
		}
		if err != nil {
			return events.Record{}, err
		}
		last := c.Book.last(subject) // before the look: what is decided on must not be newer
		typ, data, err := decision()
		if err != nil || typ == "" {
			return events.Record{}, err
		}
		r, err := events.NewRecord(typ, by.At.Round(0), by.Actor, by.Reason, data)
		if err != nil {
			return events.Record{}, err
		}
		seqs, err := c.Log.Append(ctx, events.Append{Subject: subject, Record: r, ExpectLast: last})
		if err == nil {
			return r, c.Book.WaitFor(ctx, seqs[0])
		}
		if !errors.Is(err, events.ErrConflict) {
			return events.Record{}, err
		}
		conflict = err
	}
	return events.Record{}, conflict
}

// What commands ask of the book beside what it shows.

func (b *Book) wasDeleted(org, id uuid.UUID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	t := b.orgs[org]
	return t != nil && t.deleted[id]
}

func (b *Book) newestSecret(org, id uuid.UUID) (Endpoint, secretVersion, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, err := b.find(org, id)
	if err != nil {
		return Endpoint{}, secretVersion{}, err
	}
	return e.public(), e.secrets[0], nil
}

// oldSecretsAfter counts the old secrets that would sign after a rotation.
func (b *Book) oldSecretsAfter(d rotatedData, at time.Time) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, err := b.find(d.OrgID, d.ID)
	if err != nil {
		return 0
	}
	return len(e.oldSecrets(at, d.GraceUntil))
}

func (b *Book) countReplayed(d replayedData) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, err := b.find(d.OrgID, d.ID)
	if err != nil {
		return 0
	}
	return len(b.replayed(e, d))
}
