package keys

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"aione/events"

	"github.com/google/uuid"
)

// Types of the records of this package, all on events.KeySubject.
const (
	recordCreated  = "key.created"
	recordUpdated  = "key.updated"
	recordRotated  = "key.rotated"
	recordDisabled = "key.disabled"
	recordEnabled  = "key.enabled"
	recordDeleted  = "key.deleted"

	recordPrefix  = "key."
	subjectPrefix = "LEDGER.key." // of events.KeySubject
)

// identity is part of the data of every record. It is all of the data of
// key.disabled, key.enabled and key.deleted.
type identity struct {
	ID    uuid.UUID `json:"id"`
	OrgID uuid.UUID `json:"org_id"`
}

// secretData is what a record says of a secret: nothing that lets anyone in.
type secretData struct {
	Prefix        string `json:"prefix"`
	Hash          string `json:"hash"` // hex HMAC-SHA256 of the secret
	PepperVersion int32  `json:"pepper_version"`
}

// createdData is the data of key.created.
type createdData struct {
	identity
	TeamID uuid.UUID `json:"team_id"`
	Name   string    `json:"name"`
	secretData
	ModelsAllowed []string       `json:"models_allowed,omitempty"`
	Scopes        []Scope        `json:"scopes"`
	Sandbox       bool           `json:"sandbox,omitempty"`
	AllowedIPs    []netip.Prefix `json:"allowed_ips,omitempty"`
	RPMLimit      uint64         `json:"rpm_limit,omitempty"`
	TPMLimit      uint64         `json:"tpm_limit,omitempty"`
	ExpiresAt     time.Time      `json:"expires_at,omitzero"`
}

// updatedData is the data of key.updated: what is absent stays.
type updatedData struct {
	identity
	Name          *string         `json:"name,omitempty"`
	ModelsAllowed *[]string       `json:"models_allowed,omitempty"`
	AllowedIPs    *[]netip.Prefix `json:"allowed_ips,omitempty"`
	RPMLimit      *uint64         `json:"rpm_limit,omitempty"`
	TPMLimit      *uint64         `json:"tpm_limit,omitempty"`
}

// rotatedData is the data of key.rotated. The record's At is when it was.
type rotatedData struct {
	identity
	secretData
	GraceUntil time.Time `json:"grace_until"`      // the secret before works before this
	Salt       string    `json:"salt,omitempty"`   // hex, of the derivation; absent if the secret was minted
	Request    uuid.UUID `json:"request,omitzero"` // stands for the idempotency key
}

// Apply folds one record of the ledger into the set; they come in their order.
// Records of other packages are ignored, and so is a record that was applied before:
// a set is fed by its own commands too. A record of a key that this build does not
// know is events.ErrNewerRecord and not ignored, since it may take the key away.
func (s *Set) Apply(r events.Record) error {
	err := s.apply(r)
	if org, _, ok := keyOf(r.Subject); ok && err == nil {
		s.readTo(org, r.Seq)
	}
	return err
}

// apply is Apply for what comes by itself, maybe before older records of the org.
func (s *Set) apply(r events.Record) error {
	var err error
	switch r.Type {
	case recordCreated:
		err = s.applyCreated(r)
	case recordUpdated:
		var d updatedData
		if err = r.Into(&d); err == nil {
			err = s.change(r, d.identity, d.apply)
		}
	case recordRotated:
		var d rotatedData
		if err = r.Into(&d); err == nil {
			err = s.change(r, d.identity, func(next *state) error { return d.apply(r.At, next) })
		}
	case recordDisabled, recordEnabled, recordDeleted:
		var d identity
		if err = r.Into(&d); err == nil {
			err = s.change(r, d, applyStatus(r.Type))
		}
	case recordPepper:
		err = s.applyPepper(r)
	default:
		if strings.HasPrefix(r.Type, recordPrefix) {
			err = fmt.Errorf("unknown record of a key: %w", events.ErrNewerRecord)
		}
		s.pass(r)
	}
	if err != nil {
		return fmt.Errorf("apply %s at ledger sequence %d: %w", r.Type, r.Seq, err)
	}
	return nil
}

// pass notes that another package wrote on a key's subject: the log compares with
// the last record there, whatever it says.
func (s *Set) pass(r events.Record) {
	org, id, ok := keyOf(r.Subject)
	if !ok || s.stateOf(org, id) == nil {
		return
	}
	_ = s.change(r, identity{ID: id, OrgID: org}, func(*state) error { return nil }) // it is on its subject, and the key exists
}

// keyOf says which key a subject is of.
func keyOf(subject string) (org, id uuid.UUID, ok bool) {
	ids, ok := strings.CutPrefix(subject, subjectPrefix)
	if !ok || len(ids) != 2*uuidLen+1 || org.UnmarshalText([]byte(ids[:uuidLen])) != nil || id.UnmarshalText([]byte(ids[uuidLen+1:])) != nil {
		return org, id, false
	}
	return org, id, true
}

const uuidLen = 36

func (s *Set) applyCreated(r events.Record) error {
	var d createdData
	if err := r.Into(&d); err != nil {
		return err
	}
	if err := onItsSubject(r, d.identity); err != nil {
		return err
	}
	st, err := d.state(r.At)
	if err != nil {
		return err
	}
	st.seq = r.Seq
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held(d.OrgID, d.ID) != nil {
		return nil
	}
	return s.put(st)
}

// state is that of the new key.
func (d *createdData) state(at time.Time) (*state, error) {
	current, err := d.secretData.hashed()
	if err != nil {
		return nil, err
	}
	return newState(Key{
		ID: d.ID, OrgID: d.OrgID, TeamID: d.TeamID, Name: d.Name, Prefix: d.Prefix, Sandbox: d.Sandbox,
		Grants:   shared(Grants{ModelsAllowed: d.ModelsAllowed, Scopes: d.Scopes, AllowedIPs: d.AllowedIPs}),
		RPMLimit: d.RPMLimit, TPMLimit: d.TPMLimit, ExpiresAt: d.ExpiresAt, CreatedAt: at.Truncate(time.Microsecond),
	}, current), nil
}

// shared is g, or what is the same and there already.
func shared(g Grants) *Grants {
	if isAPIKey(g.Scopes) && len(g.ModelsAllowed) == 0 && len(g.AllowedIPs) == 0 {
		return plain
	}
	return &g
}

// change applies a record to a key that exists: f edits a copy of its state.
func (s *Set) change(r events.Record, id identity, f func(next *state) error) error {
	if err := onItsSubject(r, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.held(id.OrgID, id.ID)
	if old == nil {
		return unknown(id.ID)
	}
	if r.Seq <= old.seq {
		return nil
	}
	next := newState(old.key, old.current)
	next.seq = r.Seq
	if !old.key.Deleted {
		if err := f(next); err != nil {
			return err
		}
	}
	// What replaces comes before what ends: at no moment is a secret refused that is
	// good before and after.
	if err := s.put(next); err != nil {
		return err
	}
	for _, h := range old.secrets() {
		if h != next.current && h != next.previous() {
			s.index.remove(&h, old)
		}
	}
	return nil
}

// wake tells those who wait for a change. The caller holds the lock.
func (s *Set) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (st *state) previous() hashed {
	if st.key.rotated == nil {
		return hashed{}
	}
	return st.key.rotated.previous
}

// secrets are those listed in the index.
func (st *state) secrets() []hashed {
	var list []hashed
	for _, h := range []hashed{st.current, st.previous()} {
		if h != (hashed{}) {
			list = append(list, h)
		}
	}
	return list
}

// put puts a state in place and makes the key findable by its live secrets. The
// caller holds the lock.
func (s *Set) put(st *state) error {
	for _, h := range st.secrets() {
		if err := s.index.put(&h, st); err != nil {
			return err
		}
		s.madeUnder[h.pepperVersion] = true
	}
	s.tenant(st.key.OrgID).put(st)
	s.wake()
	return nil
}

func (d updatedData) apply(next *state) error {
	k := &next.key
	if d.Name != nil {
		k.Name = *d.Name
	}
	granted := *k.Grants
	if d.ModelsAllowed != nil {
		granted.ModelsAllowed = *d.ModelsAllowed
	}
	if d.AllowedIPs != nil {
		granted.AllowedIPs = *d.AllowedIPs
	}
	k.Grants = shared(granted)
	if d.RPMLimit != nil {
		k.RPMLimit = *d.RPMLimit
	}
	if d.TPMLimit != nil {
		k.TPMLimit = *d.TPMLimit
	}
	return nil
}

// apply makes the secret so far the previous one, and ends the one before that.
func (d rotatedData) apply(at time.Time, next *state) error {
	current, err := d.secretData.hashed()
	if err != nil {
		return err
	}
	salt, err := hex.DecodeString(d.Salt)
	if err != nil {
		return fmt.Errorf("its salt is not hexadecimal")
	}
	r := &rotated{at: at, grace: d.GraceUntil.Sub(at), salt: salt, request: d.Request}
	if old := next.key.rotated; old != nil {
		r.earlier = old.earlier
		if old.request != uuid.Nil {
			r.earlier = append(r.earlier[:len(r.earlier):len(r.earlier)], old.request)
		}
	}
	if r.grace > 0 {
		r.previous, r.graceUntil = next.current, d.GraceUntil
	}
	next.key.Prefix, next.key.rotated, next.current = d.Prefix, r, current
	return nil
}

func applyStatus(typ string) func(next *state) error {
	return func(next *state) error {
		if typ != recordDeleted {
			next.key.Disabled = typ == recordDisabled
			return nil
		}
		k := &next.key
		next.current = hashed{}
		k.Deleted, k.Disabled, k.rotated, k.Grants, k.RPMLimit, k.TPMLimit = true, false, nil, nothing, 0, 0
		return nil
	}
}

func (d secretData) hashed() (hashed, error) {
	h := hashed{pepperVersion: d.PepperVersion}
	raw, err := hex.DecodeString(d.Hash)
	if err != nil || len(raw) != len(h.digest) {
		return h, fmt.Errorf("its hash is not %d hexadecimal bytes", len(h.digest))
	}
	copy(h.digest[:], raw)
	return h, nil
}

// onItsSubject refuses a record that names another key than its subject: two
// writers on two subjects would not conflict, and concurrency control is gone.
func onItsSubject(r events.Record, id identity) error {
	if want := events.KeySubject(id.OrgID, id.ID); r.Subject != want {
		return fmt.Errorf("it is on subject %s, not %s", r.Subject, want)
	}
	return nil
}
