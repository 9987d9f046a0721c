package keys_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// memoryLog is a ledger in memory with the conflicts of the real one. Readers get
// the records when they are told to, as if they were slow.
type memoryLog struct {
	mu      sync.Mutex
	records []events.Record
	deliver func() // called, without the lock, when a writer is shown to be behind
}

func (l *memoryLog) lastOn(subject string) (events.Record, bool) {
	prefix, many := strings.CutSuffix(subject, "*")
	for _, r := range slices.Backward(l.records) {
		if r.Subject == subject || many && strings.HasPrefix(r.Subject, prefix) {
			return r, true
		}
	}
	return events.Record{}, false
}

func (l *memoryLog) Append(_ context.Context, as ...events.Append) ([]uint64, error) {
	l.mu.Lock()
	last, _ := l.lastOn(cmp.Or(as[0].ExpectOn, as[0].Subject))
	if last.Seq != as[0].ExpectLast {
		l.mu.Unlock()
		l.deliver()
		return nil, events.ErrConflict
	}
	defer l.mu.Unlock()
	body, err := json.Marshal(as[0].Record)
	if err != nil {
		return nil, err
	}
	var r events.Record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, err
	}
	r.Seq, r.Subject = uint64(len(l.records)+1), as[0].Subject
	l.records = append(l.records, r)
	return []uint64{r.Seq}, nil
}

func (l *memoryLog) LastOn(_ context.Context, subject string) (events.Record, bool, error) {
	l.deliver()
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.lastOn(subject)
	return r, ok, nil
}

// modelKey is a key as the rules say, in the simplest way.
type modelKey struct {
	org, id     uuid.UUID
	name        string
	models, ips []string
	rpm, tpm    uint64
	token       bool
	expires     time.Time
	disabled    bool
	deleted     bool
	current     string
	previous    string
	until       time.Time
	lastRequest string
	lastGrace   time.Duration
	lastAt      time.Time
	earlier     []string
	everything  []string // all secrets it ever had
}

// verdict is what Verify should say of a secret.
func (k *modelKey) verdict(secret string, now time.Time) error {
	switch {
	case k.deleted, secret != k.current && (secret != k.previous || !now.Before(k.until)):
		return keys.ErrUnknownKey
	case k.disabled:
		return keys.ErrDisabledKey
	case !k.expires.IsZero() && !now.Before(k.expires):
		return keys.ErrExpiredKey
	}
	return nil
}

type machine struct {
	log      *memoryLog
	sets     [2]*keys.Set
	given    [2]int // records delivered to each
	clock    time.Time
	model    []*modelKey
	requests int
}

func (m *machine) catchUp(t *rapid.T, i int) {
	m.log.mu.Lock()
	todo := m.log.records[m.given[i]:]
	m.given[i] = len(m.log.records)
	m.log.mu.Unlock()
	for _, r := range todo {
		if err := m.sets[i].Apply(r); err != nil {
			t.Fatalf("apply: %v", err)
		}
	}
}

func (m *machine) newSet(t *rapid.T) *keys.Set {
	s, err := keys.NewSet(keys.Config{Peppers: []keys.Pepper{pepper1}, Now: func() time.Time { return m.clock }, Bounds: fewKeys})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pick draws a key and the replica that is told to change it.
func (m *machine) pick(t *rapid.T) (*modelKey, *keys.Set) {
	if len(m.model) == 0 {
		m.create(t)
	}
	return rapid.SampledFrom(m.model).Draw(t, "key"), m.sets[rapid.IntRange(0, 1).Draw(t, "replica")]
}

func (k *modelKey) change() keys.ChangeInput {
	return keys.ChangeInput{OrgID: k.org, ID: k.id, Actor: "test"}
}

// expect checks the answer of a command on a key.
func (k *modelKey) expect(t *rapid.T, what string, err error) (ok bool) {
	if k.deleted {
		if !errors.Is(err, keys.ErrUnknownKey) {
			t.Fatalf("%s of a deleted key: %v, want ErrUnknownKey", what, err)
		}
		return false
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return true
}

var (
	drawModels = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID[string])
	drawIPs    = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32"}), 0, 3, rapid.ID[string])
	drawLimit  = rapid.Uint64Range(0, 2)
	drawName   = rapid.SampledFrom([]string{"one", "two", "drei äöü"})
	drawGrace  = rapid.SampledFrom([]time.Duration{0, time.Hour, 24 * time.Hour, keys.MaxGrace})
)

// fewKeys are so few that many are refused.
var fewKeys = keys.Bounds{KeysPerOrgMax: 3, TokensPerOrgMax: 2}

func (m *machine) create(t *rapid.T) {
	k := &modelKey{org: uuid.UUID{byte(rapid.IntRange(1, 2).Draw(t, "org"))}, name: drawName.Draw(t, "name"),
		models: drawModels.Draw(t, "models"), ips: drawIPs.Draw(t, "ips"), rpm: drawLimit.Draw(t, "rpm"), tpm: drawLimit.Draw(t, "tpm")}
	if rapid.Bool().Draw(t, "expires") {
		k.expires = m.clock.Add(36 * time.Hour)
	}
	in := keys.CreateInput{OrgID: k.org, Name: k.name, ModelsAllowed: k.models, AllowedIPs: k.ips, RPMLimit: k.rpm, TPMLimit: k.tpm, ExpiresAt: k.expires, Actor: "test"}
	k.expires = k.expires.Truncate(time.Microsecond) // as it is kept
	most := fewKeys.KeysPerOrgMax
	if k.token = rapid.Bool().Draw(t, "management"); k.token {
		in.Scopes, most = []keys.Scope{keys.ScopeUsageRead}, fewKeys.TokensPerOrgMax
	}
	has := 0
	for _, other := range m.model {
		if other.org == k.org && other.token == k.token && !other.deleted {
			has++
		}
	}
	key, secret, err := m.sets[rapid.IntRange(0, 1).Draw(t, "replica")].Create(context.Background(), m.log, in)
	if full := has == most; full || err != nil {
		if !full || !errors.Is(err, keys.ErrTooManyKeys) || secret != "" {
			t.Fatalf("one more of %d, at most %d: %v", has, most, err)
		}
		return
	}
	k.id, k.current, k.everything = key.ID, secret, []string{secret}
	m.model = append(m.model, k)
}

func (m *machine) update(t *rapid.T) {
	k, s := m.pick(t)
	in := keys.UpdateInput{OrgID: k.org, ID: k.id, Actor: "test"}
	next := *k
	if rapid.Bool().Draw(t, "change name") {
		next.name = drawName.Draw(t, "name")
		in.Name = &next.name
	}
	if rapid.Bool().Draw(t, "change models") {
		next.models = drawModels.Draw(t, "models")
		in.ModelsAllowed = &next.models
	}
	if rapid.Bool().Draw(t, "change ips") {
		next.ips = drawIPs.Draw(t, "ips")
		in.AllowedIPs = &next.ips
	}
	if rapid.Bool().Draw(t, "change rpm") {
		next.rpm = drawLimit.Draw(t, "rpm")
		in.RPMLimit = &next.rpm
	}
	if rapid.Bool().Draw(t, "change tpm") {
		next.tpm = drawLimit.Draw(t, "tpm")
		in.TPMLimit = &next.tpm
	}
	got, err := s.Update(context.Background(), m.log, in)
	if k.expect(t, "update", err) {
		*k = next
		k.mustEqual(t, got)
	}
}

func (m *machine) setDisabled(t *rapid.T) {
	k, s := m.pick(t)
	off := rapid.Bool().Draw(t, "off")
	how := s.Enable
	if off {
		how = s.Disable
	}
	got, err := how(context.Background(), m.log, k.change())
	if k.expect(t, "switch", err) {
		k.disabled = off
		k.mustEqual(t, got)
	}
}

func (m *machine) delete(t *rapid.T) {
	k, s := m.pick(t)
	if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		return
	}
	if k.expect(t, "delete", s.Delete(context.Background(), m.log, k.change())) {
		k.deleted = true
	}
}

func (m *machine) rotate(t *rapid.T) {
	k, s := m.pick(t)
	in := keys.RotateInput{OrgID: k.org, ID: k.id, Grace: drawGrace.Draw(t, "grace"), Actor: "test"}
	switch rapid.IntRange(0, 2).Draw(t, "idempotency") {
	case 1:
		m.requests++
		in.IdempotencyKey = fmt.Sprint("request-", m.requests)
	case 2: // one that may have been used, for this key or another
		m.requests = max(m.requests, 1)
		in.IdempotencyKey = fmt.Sprint("request-", rapid.IntRange(1, m.requests).Draw(t, "request"))
		if in.IdempotencyKey == k.lastRequest && rapid.Bool().Draw(t, "same grace") {
			in.Grace = k.lastGrace
		}
	}
	before := len(m.log.records)
	got, secret, err := s.Rotate(context.Background(), m.log, in)
	if !k.deleted && in.IdempotencyKey != "" && (slices.Contains(k.earlier, in.IdempotencyKey) || in.IdempotencyKey == k.lastRequest) {
		again := in.IdempotencyKey == k.lastRequest && in.Grace == k.lastGrace && m.clock.Before(k.lastAt.Add(keys.RecoverWithin))
		switch {
		case len(m.log.records) != before:
			t.Fatal("a repeated rotation wrote")
		case again && (err != nil || secret != k.current):
			t.Fatalf("repeated: %v; the same secret: %t", err, secret == k.current)
		case !again && (!errors.Is(err, keys.ErrIdempotencyKeyUsed) || secret != ""):
			t.Fatalf("repeated wrongly: %v, want ErrIdempotencyKeyUsed", err)
		}
		return
	}
	if !k.expect(t, "rotate", err) {
		return
	}
	if slices.Contains(k.everything, secret) || secret[:7] != k.current[:7] {
		t.Fatal("not a new secret of the same kind")
	}
	if k.lastRequest != "" {
		k.earlier = append(k.earlier, k.lastRequest)
	}
	k.lastRequest, k.lastGrace, k.lastAt = in.IdempotencyKey, in.Grace, m.clock
	k.previous, k.until, k.current = k.current, m.clock.Add(in.Grace), secret
	if in.Grace == 0 {
		k.previous, k.until = "", time.Time{}
	}
	k.everything = append(k.everything, secret)
	k.mustEqual(t, got)
}

func (k *modelKey) mustEqual(t *rapid.T, got *keys.Key) {
	same := got.ID == k.id && got.OrgID == k.org && got.Name == k.name && slices.Equal(got.ModelsAllowed, k.models) &&
		slices.Equal(got.AllowedIPStrings(), k.ips) && got.RPMLimit == k.rpm && got.TPMLimit == k.tpm && got.ExpiresAt.Equal(k.expires) &&
		got.Disabled == k.disabled && !got.Deleted && strings.HasPrefix(k.current, got.Prefix) && got.RotateGraceUntil().Equal(k.until)
	if !same {
		t.Fatalf("the key is %+v, the model %+v", got, k)
	}
}

// check compares every secret there ever was, and every list, in both replicas
// and in one that starts now.
func (m *machine) check(t *rapid.T) {
	fresh := m.newSet(t)
	for i, r := range m.log.records {
		if err := fresh.Apply(r); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 { // again what it knows
			if err := fresh.Apply(m.log.records[i/2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range m.sets {
		m.catchUp(t, i)
	}
	for name, s := range map[string]*keys.Set{"first": m.sets[0], "second": m.sets[1], "fresh": fresh} {
		for org := range 2 {
			id := uuid.UUID{byte(org + 1)}
			if got, want := textOf(s.List(id)), textOf(fresh.List(id)); got != want {
				t.Fatalf("%s lists %s, fresh %s", name, got, want)
			}
		}
		for _, k := range m.model {
			for n, secret := range k.everything {
				got, err := s.Verify(secret, m.clock)
				if want := k.verdict(secret, m.clock); !errors.Is(err, want) {
					t.Fatalf("%s set, secret %d of %d: %v, want %v", name, n+1, len(k.everything), err, want)
				}
				if err == nil {
					k.mustEqual(t, got)
				}
			}
			got, err := s.Get(k.org, k.id)
			if k.expect(t, "get", err) {
				k.mustEqual(t, got)
			}
			if got, err := s.Lookup(k.org, k.id); err != nil || got.Deleted != k.deleted || got.Name != k.name {
				t.Fatalf("lookup: %+v, %v", got, err)
			}
		}
	}
}

// TestKeysLikeTheModel drives two replicas that hear of each other late.
func TestKeysLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{log: &memoryLog{}, clock: now}
		m.log.deliver = func() {
			for i := range m.sets {
				m.catchUp(t, i)
			}
		}
		for i := range m.sets {
			m.sets[i] = m.newSet(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "update": m.update, "switch": m.setDisabled, "delete": m.delete, "rotate": m.rotate, "rotate more": m.rotate,
			"wait": func(t *rapid.T) {
				m.clock = m.clock.Add(rapid.SampledFrom([]time.Duration{1, time.Hour - 1, time.Hour, 12 * time.Hour}).Draw(t, "for"))
			},
			"deliver": func(t *rapid.T) { m.catchUp(t, rapid.IntRange(0, 1).Draw(t, "replica")) },
			"restart": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "replica")
				m.sets[i], m.given[i] = m.newSet(t), 0
			},
		})
		m.check(t)
		m.check(t) // it changed nothing
	})
}
