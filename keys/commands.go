package keys

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"aione/events"

	"github.com/google/uuid"
)

// Appender is where the commands write: events.Log. A nil error of Append means
// durable; events.ErrConflict means that another writer was first on the subject.
type Appender interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
	// LastOn is the last record on a subject; ok is false if there is none.
	LastOn(ctx context.Context, subject string) (r events.Record, ok bool, err error)
}

// CreateInput says what key to make.
type CreateInput struct {
	OrgID, TeamID uuid.UUID
	Name          string
	ModelsAllowed []string // standard model ids; empty means every model
	// Scopes of a management token (tk-nex-). Empty, or chat alone, makes a plain
	// API key (sk-nex-).
	Scopes     []Scope
	Sandbox    bool
	AllowedIPs []string  // addresses or CIDRs; empty means from anywhere
	RPMLimit   uint64    // requests a minute; 0 means no limit
	TPMLimit   uint64    // tokens a minute; 0 means no limit
	ExpiresAt  time.Time // zero means never

	Actor, Reason string // who and why, for the record
}

// ChangeInput says which key a command is about.
type ChangeInput struct {
	OrgID, ID     uuid.UUID
	Actor, Reason string
}

// UpdateInput changes what is given and keeps the rest: nil means as it is.
type UpdateInput struct {
	OrgID, ID     uuid.UUID
	Name          *string
	ModelsAllowed *[]string // to empty: every model
	AllowedIPs    *[]string // to empty: from anywhere
	RPMLimit      *uint64   // to 0: no limit
	TPMLimit      *uint64   // to 0: no limit

	Actor, Reason string
}

// Bounds of what a key may say.
const (
	nameBytesMax     = 256
	modelsAllowedMax = 256
	limitMax         = 1_000_000_000_000 // exact also where JSON numbers are floats
)

// Bounds of a command that finds its key changed by another writer.
const (
	attemptsMax = 16
	// rereadWithin is how long it waits for the other's record to come by Apply. A
	// reader that is further behind is not effective in time either.
	rereadWithin = 2 * time.Second
)

// Create mints a key, writes it to the ledger and adds it to the set. The secret
// is returned this once and kept nowhere. After an error no key can be used: if
// the append's outcome is unknown a key may exist whose secret nobody has.
// It returns a *FieldError if the input breaks a rule, ErrTooManyKeys if the org has
// as many as it may, or events.ErrConflict if others kept changing the org's keys.
func (s *Set) Create(ctx context.Context, log Appender, in CreateInput) (*Key, string, error) {
	now := s.now().UTC().Round(0)
	if len(in.Scopes) == 0 {
		in.Scopes = chatOnly
	}
	data, err := in.check(now)
	if err != nil {
		return nil, "", err
	}
	secret := mint(prefixFor(in.Scopes))
	data.secretData = s.hashers[0].conceal(secret)
	made, err := data.state(now) // as it is told: another may have changed it by then, or deleted it
	if err != nil {
		return nil, "", fmt.Errorf("create key: %w", err)
	}
	r, err := events.NewRecord(recordCreated, now, in.Actor, in.Reason, data)
	if err != nil {
		return nil, "", fmt.Errorf("create key: %w", err)
	}
	r.Subject = events.KeySubject(data.OrgID, data.ID)
	if err := s.add(ctx, log, r, data); err != nil {
		return nil, "", fmt.Errorf("create key: %w", err)
	}
	return &made.key, secret, nil
}

// conceal is what a record says of a secret.
func (h *hasher) conceal(secret string) secretData {
	d := h.digest(secret)
	return secretData{Prefix: display(secret), Hash: hex.EncodeToString(d[:]), PepperVersion: h.version}
}

// check gives the input a new id and the form it is kept in.
func (in CreateInput) check(now time.Time) (createdData, error) {
	d := createdData{
		identity: identity{ID: events.NewID(), OrgID: in.OrgID}, TeamID: in.TeamID, Name: in.Name,
		Scopes: in.Scopes, Sandbox: in.Sandbox, RPMLimit: in.RPMLimit, TPMLimit: in.TPMLimit,
	}
	if in.OrgID == uuid.Nil {
		return d, &FieldError{"org_id", "is missing"}
	}
	if !in.ExpiresAt.IsZero() {
		if !in.ExpiresAt.After(now) {
			return d, &FieldError{"expires_at", "is not in the future"}
		}
		if in.ExpiresAt.UTC().Year() > 9999 {
			return d, &FieldError{"expires_at", "is past the year 9999"}
		}
		d.ExpiresAt = in.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	for i, scope := range in.Scopes {
		if !slices.Contains(scopes, scope) {
			return d, &FieldError{"scopes", fmt.Sprintf("item %d is not a scope", i+1)}
		}
	}
	var err error
	if d.ModelsAllowed, err = checkModels(in.ModelsAllowed); err != nil {
		return d, err
	}
	if d.AllowedIPs, err = parseAllowedIPs(in.AllowedIPs); err != nil {
		return d, err
	}
	return d, cmp.Or(checkName(in.Name), checkLimit("rpm_limit", in.RPMLimit), checkLimit("tpm_limit", in.TPMLimit))
}

func checkName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return &FieldError{"name", "is empty"}
	case len(name) > nameBytesMax:
		return &FieldError{"name", fmt.Sprintf("has more than %d bytes", nameBytesMax)}
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return &FieldError{"name", "has control characters or is not UTF-8"}
	}
	return nil
}

// checkModels drops repetitions. Whether the models exist is the caller's to say.
func checkModels(ids []string) ([]string, error) {
	const field = "models_allowed"
	if len(ids) > modelsAllowedMax {
		return nil, &FieldError{field, fmt.Sprintf("has more than %d items", modelsAllowedMax)}
	}
	var list []string
	for i, id := range ids {
		if id == "" || len(id) > events.MaxTextBytes || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
			return nil, &FieldError{field, fmt.Sprintf("item %d is not a model id", i+1)}
		}
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list, nil
}

func checkLimit(field string, n uint64) error {
	if n > limitMax {
		return &FieldError{field, fmt.Sprintf("is more than %d", uint64(limitMax))}
	}
	return nil
}

// Update changes what the input gives; the same again writes nothing. It returns
// ErrUnknownKey, a *FieldError, or events.ErrConflict if others kept changing
// the key.
func (s *Set) Update(ctx context.Context, log Appender, in UpdateInput) (*Key, error) {
	want, err := in.check()
	if err != nil {
		return nil, err
	}
	return s.decide(ctx, log, ChangeInput{in.OrgID, in.ID, in.Actor, in.Reason}, func(st *state) (*change, error) {
		d := want.without(&st.key)
		if d == (updatedData{identity: want.identity}) {
			return nil, nil
		}
		return &change{recordUpdated, s.now(), d}, nil
	})
}

func (in UpdateInput) check() (updatedData, error) {
	d := updatedData{identity: identity{ID: in.ID, OrgID: in.OrgID}, Name: in.Name, RPMLimit: in.RPMLimit, TPMLimit: in.TPMLimit}
	// An empty list is written as one: null would read as absent.
	if in.ModelsAllowed != nil {
		list, err := checkModels(*in.ModelsAllowed)
		if err != nil {
			return d, err
		}
		list = append([]string{}, list...)
		d.ModelsAllowed = &list
	}
	if in.AllowedIPs != nil {
		list, err := parseAllowedIPs(*in.AllowedIPs)
		if err != nil {
			return d, err
		}
		list = append([]netip.Prefix{}, list...)
		d.AllowedIPs = &list
	}
	if in.Name != nil {
		if err := checkName(*in.Name); err != nil {
			return d, err
		}
	}
	return d, cmp.Or(checkLimit("rpm_limit", orZero(in.RPMLimit)), checkLimit("tpm_limit", orZero(in.TPMLimit)))
}

func orZero(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

// without leaves out what the key says already.
func (d updatedData) without(k *Key) updatedData {
	if d.Name != nil && *d.Name == k.Name {
		d.Name = nil
	}
	if d.ModelsAllowed != nil && slices.Equal(*d.ModelsAllowed, k.ModelsAllowed) {
		d.ModelsAllowed = nil
	}
	if d.AllowedIPs != nil && slices.Equal(*d.AllowedIPs, k.AllowedIPs) {
		d.AllowedIPs = nil
	}
	if d.RPMLimit != nil && *d.RPMLimit == k.RPMLimit {
		d.RPMLimit = nil
	}
	if d.TPMLimit != nil && *d.TPMLimit == k.TPMLimit {
		d.TPMLimit = nil
	}
	return d
}

// Disable switches a key off from now on. It returns ErrUnknownKey, or
// events.ErrConflict if others kept changing the key. A key that is off stays off
// without a further record.
func (s *Set) Disable(ctx context.Context, log Appender, in ChangeInput) (*Key, error) {
	return s.setDisabled(ctx, log, in, true)
}

// Enable undoes Disable; the errors are the same. It does not prolong a key.
func (s *Set) Enable(ctx context.Context, log Appender, in ChangeInput) (*Key, error) {
	return s.setDisabled(ctx, log, in, false)
}

func (s *Set) setDisabled(ctx context.Context, log Appender, in ChangeInput, disabled bool) (*Key, error) {
	typ := recordEnabled
	if disabled {
		typ = recordDisabled
	}
	return s.decide(ctx, log, in, func(st *state) (*change, error) {
		if st.key.Disabled == disabled {
			return nil, nil
		}
		return &change{typ, s.now(), identity{ID: in.ID, OrgID: in.OrgID}}, nil
	})
}

// Delete takes a key away for good: its secrets stop at once, and Get and List
// do not know it any more. The errors are those of Disable; the second time the
// key is unknown.
func (s *Set) Delete(ctx context.Context, log Appender, in ChangeInput) error {
	_, err := s.decide(ctx, log, in, func(*state) (*change, error) {
		return &change{recordDeleted, s.now(), identity{ID: in.ID, OrgID: in.OrgID}}, nil
	})
	return err
}

// change is what a command decided to write.
type change struct {
	typ  string
	at   time.Time
	data any
}

// decide changes a key as the decision says, and decides anew whenever another
// writer was first. A decision to write nothing, or a refusal, counts only if it
// was made on the newest record: who disables a key that another replica has just
// enabled must not be told that it is off already.
func (s *Set) decide(ctx context.Context, log Appender, in ChangeInput, decision func(*state) (*change, error)) (*Key, error) {
	subject := events.KeySubject(in.OrgID, in.ID)
	for range attemptsMax {
		var seq uint64
		var c *change
		st, err := s.stateOf(in.OrgID, in.ID), unknown(in.ID)
		if st != nil {
			seq = st.seq
			if !st.key.Deleted {
				c, err = decision(st)
			}
		}
		if err == nil && c != nil {
			err = s.write(ctx, log, in, seq, c)
			if err == nil {
				return s.Lookup(in.OrgID, in.ID)
			}
			if !errors.Is(err, events.ErrConflict) {
				return nil, err
			}
		} else {
			last, _, lookErr := log.LastOn(ctx, subject)
			if lookErr != nil {
				return nil, fmt.Errorf("look at key %s: %w", in.ID, lookErr)
			}
			if last.Seq <= seq && err != nil {
				return nil, err
			}
			if last.Seq <= seq {
				return &st.key, nil
			}
		}
		if err := s.reread(ctx, func() bool { st := s.held(in.OrgID, in.ID); return st != nil && st.seq > seq }); err != nil {
			return nil, fmt.Errorf("change key %s: %w", in.ID, err)
		}
	}
	return nil, fmt.Errorf("change key %s: others were first %d times: %w", in.ID, attemptsMax, events.ErrConflict)
}

// reread waits for the record that another writer was first with.
func (s *Set) reread(ctx context.Context, came func() bool) error {
	waiting, cancel := context.WithTimeout(ctx, rereadWithin)
	defer cancel()
	if err := s.await(waiting, came); err != nil {
		return fmt.Errorf("another's record has not come from the ledger within %s: %w: %w", rereadWithin, events.ErrConflict, err)
	}
	return nil
}

func (s *Set) write(ctx context.Context, log Appender, in ChangeInput, expectLast uint64, c *change) error {
	r, err := events.NewRecord(c.typ, c.at.Round(0), in.Actor, in.Reason, c.data)
	if err == nil {
		r.Subject = events.KeySubject(in.OrgID, in.ID)
		err = s.append(ctx, log, events.Append{Subject: r.Subject, Record: r, ExpectLast: expectLast})
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.typ, in.ID, err)
	}
	return nil
}

// append writes the record and applies it here at once, so that the caller can
// use what it was told; the ledger's reader brings it again later.
func (s *Set) append(ctx context.Context, log Appender, a events.Append) error {
	seqs, err := log.Append(ctx, a)
	if err != nil {
		return err
	}
	r := a.Record
	r.Seq = seqs[0]
	if err := s.apply(r); err != nil || a.ExpectOn == "" {
		return err
	}
	// The log took it as the next after those that are applied.
	org, _, _ := keyOf(r.Subject)
	s.readTo(org, r.Seq)
	return nil
}
