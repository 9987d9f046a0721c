package webhooks

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// Types of the records of this package.
const (
	recordCreated  = "webhook.created" // on endpointSubject, as the next seven
	recordUpdated  = "webhook.updated"
	recordDisabled = "webhook.disabled"
	recordEnabled  = "webhook.enabled"
	recordRotated  = "webhook.rotated"
	recordDeleted  = "webhook.deleted"
	recordTested   = "webhook.tested"
	recordReplayed = "webhook.replayed"

	recordAttempted = "webhook.attempted" // on deliverySubject
	recordAnnounced = "webhook.announced" // on announcedSubject

	recordPrefix = "webhook."
)

const (
	endpointPrefix   = "LEDGER.webhook."
	deliveryPrefix   = "LEDGER.delivery."
	announcedSubject = "LEDGER.webhooks"
)

// endpointSubject carries all endpoints of an org: they are few, and are counted.
func endpointSubject(org uuid.UUID) string { return endpointPrefix + org.String() }

// deliverySubject carries what became of an org's messages, apart from its
// endpoints: outcomes do not race with commands.
func deliverySubject(org uuid.UUID) string { return deliveryPrefix + org.String() }

// identity is part of the data of every record on endpointSubject. It is all of
// the data of webhook.disabled, webhook.enabled, webhook.deleted and webhook.tested.
type identity struct {
	ID    uuid.UUID `json:"id"`
	OrgID uuid.UUID `json:"org_id"`
}

type createdData struct {
	identity
	URL         string   `json:"url"`
	Description string   `json:"description,omitempty"`
	Events      []string `json:"events,omitempty"`
	Pepper      int      `json:"pepper_version"` // that the first secret is derived from
}

// updatedData says what changes: what is absent stays.
type updatedData struct {
	identity
	URL         *string   `json:"url,omitempty"`
	Description *string   `json:"description,omitempty"`
	Events      *[]string `json:"events,omitempty"`
}

type rotatedData struct {
	identity
	Version    int       `json:"secret_version"`
	Pepper     int       `json:"pepper_version"`
	GraceUntil time.Time `json:"grace_until"` // older secrets sign before this
}

// replayedData names one message, or all of the endpoint's types since an instant.
type replayedData struct {
	identity
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// attemptedData says how attempts ended; one record carries many.
type attemptedData struct {
	OrgID    uuid.UUID `json:"org_id"`
	Outcomes []outcome `json:"outcomes"`
}

// outcome is how an attempt ended, and what follows from it.
type outcome struct {
	Endpoint uuid.UUID `json:"endpoint"`
	Seq      uint64    `json:"seq"` // of the message
	Round    uint64    `json:"round,omitempty"`
	Status   Status    `json:"status"`
	Attempts int       `json:"attempts"`
	Code     int       `json:"http_status,omitempty"`
	Error    string    `json:"error,omitempty"`
	At       time.Time `json:"at"`
	Next     time.Time `json:"next,omitzero"`
}

// announcedData lists types of events that messages are made of from here on.
type announcedData struct {
	Types []string `json:"types"`
}

// Apply takes a record of the ledger, in the order of the log. Records applied
// before are ignored; those of other packages are translated. A record of this
// package that this build does not know is events.ErrNewerRecord. After an error
// the book must not be used.
func (b *Book) Apply(r events.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Seq <= b.applied {
		return nil
	}
	if err := b.apply(r); err != nil {
		return fmt.Errorf("apply %s at ledger sequence %d to the webhooks: %w", r.Type, r.Seq, err)
	}
	b.applied = r.Seq
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

func (b *Book) apply(r events.Record) error {
	// Every type counts here: the log compares with the last message on the subject,
	// whatever it says.
	if strings.HasPrefix(r.Subject, endpointPrefix) || strings.HasPrefix(r.Subject, deliveryPrefix) || r.Subject == announcedSubject {
		b.lastOn[r.Subject] = r.Seq
	}
	switch r.Type {
	case recordCreated:
		return b.applyCreated(r)
	case recordUpdated:
		return b.applyUpdated(r)
	case recordDisabled, recordEnabled, recordDeleted, recordTested:
		return b.applyPlain(r)
	case recordRotated:
		return b.applyRotated(r)
	case recordReplayed:
		return b.applyReplayed(r)
	case recordAttempted:
		return b.applyAttempted(r)
	case recordAnnounced:
		var d announcedData
		if err := r.Into(&d); err != nil {
			return err
		}
		for _, typ := range d.Types {
			b.announced[typ] = true
		}
		return nil
	}
	if strings.HasPrefix(r.Type, recordPrefix) {
		return fmt.Errorf("unknown record of a webhook: %w", events.ErrNewerRecord)
	}
	b.applyEvent(r)
	return nil
}

// applyEvent makes a message of another package's record, if it is one.
func (b *Book) applyEvent(r events.Record) {
	e, ok := b.translate(r)
	t := b.orgs[e.OrgID]
	if !ok || t == nil || !b.announced[e.Type] {
		return
	}
	m := &message{id: messageID(r.ID), seq: r.Seq, typ: e.Type, at: r.At.UTC()}
	t.messages = append(t.messages, m)
	t.byID[m.id] = m
	if len(t.messages) > messagesMax {
		delete(t.byID, t.messages[0].id)
		t.messages = t.messages[1:]
	}
	for _, ep := range t.endpoints {
		if !ep.Disabled && ep.wants(m.typ) {
			b.enqueue(ep, &delivery{message: m, next: m.at})
		}
	}
}

// enqueue has a message delivered, instead of an earlier delivery of it if there
// was one.
func (b *Book) enqueue(e *endpoint, d *delivery) {
	if old := e.deliveries[d.seq]; old != nil && old.status == StatusWaiting {
		e.waiting--
	}
	e.deliveries[d.seq] = d
	if e.waiting >= waitingMax {
		d.err = fmt.Sprintf("not attempted: %d messages were waiting", waitingMax)
		e.end(d, StatusDead)
		return
	}
	d.status = StatusWaiting
	e.waiting++
	if b.watched {
		b.fresh = append(b.fresh, key{e.OrgID, e.ID, d.seq, d.round})
	}
}

// end takes note of a delivery's end and forgets the oldest ones.
func (e *endpoint) end(d *delivery, status Status) {
	d.status, d.next = status, time.Time{}
	ended := append(e.ended[status], d)
	if len(ended) > endedMax {
		if oldest := ended[0]; e.deliveries[oldest.seq] == oldest {
			delete(e.deliveries, oldest.seq)
		}
		ended = ended[1:]
	}
	e.ended[status] = ended
}

func (b *Book) applyCreated(r events.Record) error {
	var d createdData
	if err := b.into(r, &d, &d.identity); err != nil {
		return err
	}
	t := b.orgs[d.OrgID]
	if t == nil {
		t = &tenant{endpoints: map[uuid.UUID]*endpoint{}, deleted: map[uuid.UUID]bool{}, byID: map[uuid.UUID]*message{}}
		b.orgs[d.OrgID] = t
	}
	if t.endpoints[d.ID] != nil || t.deleted[d.ID] {
		return fmt.Errorf("%w: endpoint %s is created twice", ErrCorrupt, d.ID)
	}
	t.endpoints[d.ID] = &endpoint{
		Endpoint: Endpoint{ID: d.ID, OrgID: d.OrgID, URL: d.URL, Description: d.Description, Events: d.Events,
			SecretVersion: 1, CreatedAt: r.At.UTC(), UpdatedAt: r.At.UTC()},
		secrets:    []secretVersion{{Version: 1, Pepper: d.Pepper}},
		deliveries: map[uint64]*delivery{}, ended: map[Status][]*delivery{},
	}
	return nil
}

func (b *Book) applyUpdated(r events.Record) error {
	var d updatedData
	e, err := b.onEndpoint(r, &d, &d.identity)
	if err != nil {
		return err
	}
	if d.URL != nil {
		e.URL = *d.URL
	}
	if d.Description != nil {
		e.Description = *d.Description
	}
	if d.Events != nil {
		e.Events = *d.Events
	}
	e.UpdatedAt = r.At.UTC()
	return nil
}

func (b *Book) applyPlain(r events.Record) error {
	var d identity
	e, err := b.onEndpoint(r, &d, &d)
	if err != nil {
		return err
	}
	switch r.Type {
	case recordDeleted:
		t := b.orgs[d.OrgID]
		delete(t.endpoints, d.ID)
		t.deleted[d.ID] = true
	case recordTested:
		m := &message{id: messageID(r.ID), seq: r.Seq, typ: TypeTest, at: r.At.UTC()}
		b.enqueue(e, &delivery{message: m, next: m.at})
	case recordDisabled:
		e.Disabled, e.DisabledReason, e.UpdatedAt = true, r.Reason, r.At.UTC()
	case recordEnabled:
		e.Disabled, e.DisabledReason, e.UpdatedAt = false, "", r.At.UTC()
		if b.watched {
			b.refresh(d.OrgID, e)
		}
	}
	return nil
}

// refresh makes all that waits for an endpoint fresh.
func (b *Book) refresh(org uuid.UUID, e *endpoint) {
	if e.Disabled {
		return
	}
	for _, d := range e.deliveries {
		if d.status == StatusWaiting {
			b.fresh = append(b.fresh, key{org, e.ID, d.seq, d.round})
		}
	}
}

func (b *Book) applyRotated(r events.Record) error {
	var d rotatedData
	e, err := b.onEndpoint(r, &d, &d.identity)
	if err != nil {
		return err
	}
	secrets := []secretVersion{{Version: d.Version, Pepper: d.Pepper}}
	until := time.Time{}
	for _, old := range e.oldSecrets(r.At, d.GraceUntil) {
		secrets = append(secrets, old)
		if old.Until.After(until) {
			until = old.Until
		}
	}
	e.secrets, e.SecretVersion, e.OldSecretsUntil, e.UpdatedAt = secrets, d.Version, until, r.At.UTC()
	return nil
}

// oldSecrets are those that still sign after a rotation, none of them longer than
// its grace: whoever rotates without grace has nothing but the new secret.
func (e *endpoint) oldSecrets(at, graceUntil time.Time) []secretVersion {
	var old []secretVersion
	for _, v := range e.secrets {
		if v.Until.IsZero() || v.Until.After(graceUntil) {
			v.Until = graceUntil
		}
		if v.signsAt(at) {
			old = append(old, v)
		}
	}
	return old
}

func (b *Book) applyReplayed(r events.Record) error {
	var d replayedData
	e, err := b.onEndpoint(r, &d, &d.identity)
	if err != nil {
		return err
	}
	for _, m := range b.replayed(e, d) {
		b.enqueue(e, &delivery{message: m, round: r.Seq, next: r.At.UTC()})
	}
	return nil
}

// replayed are the messages that a replay is about; the caller holds the lock.
func (b *Book) replayed(e *endpoint, d replayedData) (list []*message) {
	t := b.orgs[e.OrgID]
	if d.Message != "" {
		id, _ := parseMessageID(d.Message)
		if m := t.byID[id]; m != nil {
			return []*message{m}
		}
		return nil
	}
	for _, m := range t.messages {
		if !m.at.Before(d.Since) && e.wants(m.typ) {
			list = append(list, m)
		}
	}
	return list
}

func (b *Book) applyAttempted(r events.Record) error {
	var d attemptedData
	if err := r.Into(&d); err != nil {
		return err
	}
	if want := deliverySubject(d.OrgID); r.Subject != want {
		return fmt.Errorf("%w: it is on subject %s, not %s", ErrCorrupt, r.Subject, want)
	}
	for _, o := range d.Outcomes {
		e, err := b.find(d.OrgID, o.Endpoint)
		if err != nil {
			continue // deleted meanwhile
		}
		at := e.deliveries[o.Seq]
		if at == nil || at.round != o.Round || at.status != StatusWaiting {
			continue // replayed meanwhile; or a build knew a type that this one does not
		}
		at.attempts, at.code, at.err, at.last, at.next = o.Attempts, o.Code, o.Error, o.At, o.Next
		if o.Status != StatusWaiting {
			e.waiting--
			e.end(at, o.Status)
		}
	}
	return nil
}

// onEndpoint decodes a record's data and finds the endpoint that it is about.
func (b *Book) onEndpoint(r events.Record, data any, id *identity) (*endpoint, error) {
	if err := b.into(r, data, id); err != nil {
		return nil, err
	}
	e, err := b.find(id.OrgID, id.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return e, nil
}

// into decodes a record's data. It refuses a record that names another org than
// its subject: two writers on two subjects would not conflict.
func (b *Book) into(r events.Record, data any, id *identity) error {
	if err := r.Into(data); err != nil {
		return err
	}
	if want := endpointSubject(id.OrgID); r.Subject != want {
		return fmt.Errorf("%w: it is on subject %s, not %s", ErrCorrupt, r.Subject, want)
	}
	return nil
}

// eventOf makes the event of a record again, for an attempt.
func (b *Book) eventOf(r events.Record) (Event, bool) {
	if r.Type != recordTested {
		return b.translate(r)
	}
	var d identity
	if err := r.Into(&d); err != nil {
		return Event{}, false
	}
	return Event{OrgID: d.OrgID, Type: TypeTest, Data: map[string]any{"endpoint_id": d.ID, "message": "This is a test."}}, true
}
