package webhooks

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"aione/embedded"
	"aione/events"
)

// modelEndpoint is an endpoint as the rules say, in the simplest way.
type modelEndpoint struct {
	org, id          uuid.UUID
	url, description string
	types            []string
	disabled         bool
	deleted          bool
	secrets          []modelSecret // the newest last
	messages         map[uint64]*modelDelivery
}

type modelSecret struct {
	text  string
	until time.Time // zero: the newest
}

type modelDelivery struct {
	id, typ  string
	round    uint64
	status   Status
	attempts int
}

type modelMessage struct {
	org uuid.UUID
	id  string
	seq uint64
	typ string
	at  time.Time
}

// machine drives two processes on one log; their books hear of each other late.
type machine struct {
	worlds   [2]*world
	clock    time.Time
	orgs     [2]uuid.UUID
	known    map[uuid.UUID]bool // orgs that have or had an endpoint
	model    []*modelEndpoint
	messages []modelMessage
}

func (m *machine) by() By                  { return By{Actor: "test", Reason: "because", At: m.clock} }
func (m *machine) world(t *rapid.T) *world { return m.worlds[rapid.IntRange(0, 1).Draw(t, "process")] }

// pick draws an endpoint; nil if there is none.
func (m *machine) pick(t *rapid.T) *modelEndpoint {
	if len(m.model) == 0 {
		m.create(t)
	}
	return rapid.SampledFrom(m.model).Draw(t, "endpoint")
}

// expect checks the answer of a command on an endpoint.
func (e *modelEndpoint) expect(t *rapid.T, what string, err error, refusal error) (ok bool) {
	if e.deleted {
		refusal = ErrNotFound
	}
	if !errors.Is(err, refusal) {
		t.Fatalf("%s: %v, want %v", what, err, refusal)
	}
	return err == nil
}

var (
	drawURL         = rapid.SampledFrom([]string{"https://a.example/", "https://b.example/"})
	drawDescription = rapid.SampledFrom([]string{"", "one", "drei äöü"})
	drawTypes       = rapid.SampledFrom([][]string{{}, {"thing.born"}, {"thing.grown"}, {"thing.born", "thing.grown"}})
)

func (m *machine) create(t *rapid.T) {
	e := &modelEndpoint{org: rapid.SampledFrom(m.orgs[:]).Draw(t, "org"), url: drawURL.Draw(t, "url"),
		description: drawDescription.Draw(t, "description"), types: drawTypes.Draw(t, "types"), messages: map[uint64]*modelDelivery{}}
	in := CreateInput{OrgID: e.org, ID: events.NewID(), URL: e.url, Description: e.description, Events: e.types}
	got, secret, err := m.world(t).commands.Create(context.Background(), in, m.by())
	alive := 0
	for _, other := range m.model {
		if other.org == e.org && !other.deleted {
			alive++
		}
	}
	if alive >= EndpointsMax {
		if !errors.Is(err, ErrTooMany) {
			t.Fatalf("one too many: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := m.world(t).commands.Create(context.Background(), in, m.by())
	if err != nil || same != secret || again.ID != got.ID {
		t.Fatalf("created again: %v, the same secret %t", err, same == secret)
	}
	in.Description += "x"
	if _, _, err := m.world(t).commands.Create(context.Background(), in, m.by()); !errors.Is(err, ErrExists) {
		t.Fatalf("created with other content: %v", err)
	}
	e.id, e.secrets = got.ID, []modelSecret{{text: secret}}
	m.model = append(m.model, e)
	m.known[e.org] = true
}

func (m *machine) update(t *rapid.T) {
	e := m.pick(t)
	next, in := *e, UpdateInput{}
	if rapid.Bool().Draw(t, "change url") {
		next.url = drawURL.Draw(t, "url")
		in.URL = &next.url
	}
	if rapid.Bool().Draw(t, "change description") {
		next.description = drawDescription.Draw(t, "description")
		in.Description = &next.description
	}
	if rapid.Bool().Draw(t, "change types") {
		next.types = drawTypes.Draw(t, "types")
		in.Events = &next.types
	}
	_, err := m.world(t).commands.Update(context.Background(), e.org, e.id, in, m.by())
	if e.expect(t, "update", err, nil) {
		*e = next
	}
}

func (m *machine) toggle(t *rapid.T) {
	e, c := m.pick(t), m.world(t).commands
	off, how := rapid.Bool().Draw(t, "off"), c.Enable
	if off {
		how = c.Disable
	}
	_, err := how(context.Background(), e.org, e.id, m.by())
	if e.expect(t, "switch", err, nil) {
		e.disabled = off
	}
}

func (m *machine) delete(t *rapid.T) {
	e := m.pick(t)
	if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		return
	}
	c := m.world(t).commands
	if e.expect(t, "delete", c.Delete(context.Background(), e.org, e.id, m.by()), nil) {
		e.deleted = true
	}
	// Never again: its secret would be the same.
	if _, _, err := c.Create(context.Background(), CreateInput{OrgID: e.org, ID: e.id, URL: e.url, Description: e.description, Events: e.types}, m.by()); !errors.Is(err, ErrExists) {
		t.Fatalf("a deleted endpoint made again: %v", err)
	}
}

func (m *machine) rotate(t *rapid.T) {
	e := m.pick(t)
	grace := rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour, MaxGrace}).Draw(t, "grace")
	next := []modelSecret{}
	for _, s := range e.secrets {
		if end := m.clock.Add(grace); s.until.IsZero() || s.until.After(end) {
			s.until = end
		}
		if s.until.After(m.clock) {
			next = append(next, s)
		}
	}
	var refusal error
	if len(next) > oldSecretsMax {
		refusal = ErrManySecrets
	}
	_, secret, err := m.world(t).commands.Rotate(context.Background(), e.org, e.id, grace, m.by())
	if e.expect(t, "rotate", err, refusal) {
		for _, other := range m.model {
			if slices.ContainsFunc(other.secrets, func(s modelSecret) bool { return s.text == secret }) {
				t.Fatal("not a new secret")
			}
		}
		e.secrets = append(next, modelSecret{text: secret})
	}
}

// happen appends a record of another package, behind the processes' backs.
func (m *machine) happen(t *rapid.T) {
	org, typ := rapid.SampledFrom(m.orgs[:]).Draw(t, "org"), rapid.SampledFrom(append(thingTypes, "thing.unknown")).Draw(t, "type")
	r, err := events.NewRecord(typ, m.clock, "test", "", thing{OrgID: org})
	if err != nil {
		t.Fatal(err)
	}
	seqs, err := m.worlds[0].log.Append(context.Background(), events.Append{Subject: "LEDGER.thing." + uuid.NewString(), Record: r})
	if err != nil {
		t.Fatal(err)
	}
	if typ == "thing.unknown" || !m.known[org] {
		return
	}
	msg := modelMessage{org, formatMessageID(messageID(r.ID)), seqs[0], typ, m.clock}
	m.messages = append(m.messages, msg)
	for _, e := range m.model {
		if e.org == org && !e.deleted && !e.disabled && e.wants(typ) {
			e.messages[msg.seq] = &modelDelivery{id: msg.id, typ: typ, status: StatusWaiting}
		}
	}
}

func (e *modelEndpoint) wants(typ string) bool {
	return len(e.types) == 0 || slices.Contains(e.types, typ)
}

func (e *modelEndpoint) ifDisabled() error {
	if e.disabled {
		return ErrDisabled
	}
	return nil
}

func (m *machine) replay(t *rapid.T) {
	e, c := m.pick(t), m.world(t).commands
	var again []modelMessage
	if rapid.Bool().Draw(t, "one") {
		if len(m.messages) == 0 {
			return
		}
		msg := rapid.SampledFrom(m.messages).Draw(t, "message")
		refusal := e.ifDisabled()
		if refusal == nil && msg.org != e.org {
			refusal = ErrNotFound
		}
		if !e.expect(t, "replay", c.Replay(context.Background(), e.org, e.id, msg.id, m.by()), refusal) {
			return
		}
		again = []modelMessage{msg}
	} else {
		since := m.clock.Add(-rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour}).Draw(t, "since"))
		n, err := c.ReplaySince(context.Background(), e.org, e.id, since, m.by())
		if !e.expect(t, "replay since", err, e.ifDisabled()) {
			return
		}
		for _, msg := range m.messages {
			if msg.org == e.org && e.wants(msg.typ) && !msg.at.Before(since) {
				again = append(again, msg)
			}
		}
		if n != len(again) {
			t.Fatalf("%d messages are replayed, want %d", n, len(again))
		}
	}
	if len(again) == 0 {
		return
	}
	end, err := m.worlds[0].log.LedgerEnd(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range again {
		e.messages[msg.seq] = &modelDelivery{id: msg.id, typ: msg.typ, round: end, status: StatusWaiting}
	}
}

// attempted records outcomes as a deliverer does, some of them of an earlier round
// or of a message that the endpoint does not have.
func (m *machine) attempted(t *rapid.T) {
	e := m.pick(t)
	seqs := []uint64{1}
	for seq := range e.messages {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	seq := rapid.SampledFrom(seqs).Draw(t, "seq")
	d := e.messages[seq]
	if d == nil {
		d = &modelDelivery{}
	}
	o := outcome{Endpoint: e.id, Seq: seq, Round: d.round, Attempts: d.attempts + 1, At: m.clock, Error: "why", Code: 500,
		Status: rapid.SampledFrom([]Status{StatusWaiting, StatusDelivered, StatusDead}).Draw(t, "status")}
	if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
		o.Round++
	}
	subject := deliverySubject(e.org)
	last, _, err := m.worlds[0].log.LastOn(context.Background(), subject)
	if err != nil {
		t.Fatal(err)
	}
	r, err := events.NewRecord(recordAttempted, m.clock, actor, "", attemptedData{e.org, []outcome{o}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.worlds[0].log.Append(context.Background(), events.Append{Subject: subject, Record: r, ExpectLast: last.Seq}); err != nil {
		t.Fatal(err)
	}
	if !e.deleted && o.Round == d.round && d.status == StatusWaiting {
		d.status, d.attempts = o.Status, o.Attempts
	}
}

// check compares everything in both books and in one made from the log's beginning.
func (m *machine) check(t *rapid.T, w *world) {
	end, err := w.log.LedgerEnd(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	fresh := newBook(w.t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go w.log.Follow(ctx, 1, fresh.Apply)
	for name, b := range map[string]*Book{"first": m.worlds[0].book, "second": m.worlds[1].book, "fresh": fresh} {
		if err := b.WaitFor(w.bounded(), end); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range m.model {
			got, err := b.Endpoint(e.org, e.id)
			if e.expect(t, name, err, nil) {
				n++
				e.compare(t, b, got, m.clock)
			}
			for _, org := range m.orgs {
				if _, err := b.Endpoint(org, e.id); org != e.org && !errors.Is(err, ErrNotFound) {
					t.Fatalf("another org sees it: %v", err)
				}
			}
		}
		if got := len(b.Endpoints(m.orgs[0])) + len(b.Endpoints(m.orgs[1])); got != n {
			t.Fatalf("%d endpoints, want %d", got, n)
		}
	}
}

func (e *modelEndpoint) compare(t *rapid.T, b *Book, got Endpoint, now time.Time) {
	if got.URL != e.url || got.Description != e.description || !slices.Equal(got.Events, e.types) || got.Disabled != e.disabled || (got.DisabledReason != "") != e.disabled {
		t.Fatalf("the endpoint is %+v, the model %+v", got, e)
	}
	list, total, err := b.Deliveries(e.org, e.id, "", 1, 1000)
	if err != nil || total != len(e.messages) || len(list) != total {
		t.Fatalf("%d deliveries of %d, %v; want %d", len(list), total, err, len(e.messages))
	}
	waiting := 0
	for seq, want := range e.messages {
		i := slices.IndexFunc(list, func(d Delivery) bool { return d.MessageID == want.id })
		if i < 0 || list[i].Status != want.status || list[i].Attempts != want.attempts || list[i].Type != want.typ {
			t.Fatalf("message %d: %v of %+v, want %+v", seq, i, list, want)
		}
		_, due := b.due(key{e.org, e.id, seq, want.round}, now)
		if due != (want.status == StatusWaiting && !e.disabled) {
			t.Fatalf("message %d is to be attempted: %t", seq, due)
		}
		if want.status == StatusWaiting {
			waiting++
		}
	}
	b.mu.RLock()
	inside := b.orgs[e.org].endpoints[e.id]
	if inside.waiting != waiting {
		t.Fatalf("%d wait, want %d", inside.waiting, waiting)
	}
	secrets := slices.Clone(inside.secrets)
	b.mu.RUnlock()
	for i, v := range secrets {
		text, err := theSecrets.show(e.id, v)
		want := e.secrets[len(e.secrets)-1-i]
		if err != nil || text != want.text || !v.Until.Equal(want.until) {
			t.Fatalf("secret %d ends %s, want %s; the same text: %t", i, v.Until, want.until, text == want.text)
		}
	}
	if len(secrets) != len(e.secrets) {
		t.Fatalf("%d secrets, want %d", len(secrets), len(e.secrets))
	}
}

var theSecrets = func() *Secrets {
	s, err := NewSecrets(pepper1, pepper2)
	if err != nil {
		panic(err)
	}
	return s
}()

// TestEndpointsLikeTheModel runs commands, events and outcomes on a real log.
func TestEndpointsLikeTheModel(t *testing.T) {
	server := embedded.OpenNATS(t)
	worlds := [2]*world{newWorldOn(t, server), newWorldOn(t, server)}
	for i := range worlds {
		worlds[i].commands.Destinations = Destinations{}
	}
	d, err := NewDeliverer(worlds[0].config)
	if err == nil {
		err = d.announce(worlds[0].bounded())
	}
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{worlds: worlds, clock: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), orgs: [2]uuid.UUID{uuid.New(), uuid.New()}, known: map[uuid.UUID]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "update": m.update, "switch": m.toggle, "delete": m.delete, "rotate": m.rotate,
			"happen": m.happen, "happen more": m.happen, "replay": m.replay, "attempted": m.attempted, "attempted more": m.attempted,
			"wait": func(t *rapid.T) {
				m.clock = m.clock.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, MaxGrace}).Draw(t, "for"))
			},
		})
		m.check(t, worlds[0])
	})
}
