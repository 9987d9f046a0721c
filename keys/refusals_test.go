package keys_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
)

// TestFieldErrors says which field, and repeats nothing of what was sent.
func TestFieldErrors(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	k, secret := create(t, s, log, keys.CreateInput{})
	p := func(x uint64) *uint64 { return &x }
	for _, x := range []struct {
		field  string
		create keys.CreateInput
		update keys.UpdateInput
	}{
		{"name", keys.CreateInput{Name: " "}, keys.UpdateInput{Name: new(string)}},
		{"name", keys.CreateInput{Name: secret + "\x00"}, keys.UpdateInput{Name: ptr("\xff")}},
		{"name", keys.CreateInput{Name: strings.Repeat("x", 257)}, keys.UpdateInput{Name: ptr(strings.Repeat("x", 257))}},
		{"models_allowed", keys.CreateInput{Name: "x", ModelsAllowed: []string{""}}, keys.UpdateInput{ModelsAllowed: &[]string{"a", "\n"}}},
		{"models_allowed", keys.CreateInput{Name: "x", ModelsAllowed: make([]string, 257)}, keys.UpdateInput{ModelsAllowed: ptr(make([]string, 257))}},
		{"allowed_ips", keys.CreateInput{Name: "x", AllowedIPs: []string{"1.2.3.4", secret}}, keys.UpdateInput{AllowedIPs: &[]string{secret}}},
		{"allowed_ips", keys.CreateInput{Name: "x", AllowedIPs: make([]string, 257)}, keys.UpdateInput{AllowedIPs: &[]string{"10.0.0.1/8"}}},
		{"rpm_limit", keys.CreateInput{Name: "x", RPMLimit: 1e13}, keys.UpdateInput{RPMLimit: p(1e13)}},
		{"tpm_limit", keys.CreateInput{Name: "x", TPMLimit: 1e13}, keys.UpdateInput{TPMLimit: p(1e13)}},
		{"scopes", keys.CreateInput{Name: "x", Scopes: []keys.Scope{keys.Scope(secret)}}, keys.UpdateInput{TPMLimit: p(1e13)}},
		{"expires_at", keys.CreateInput{Name: "x", ExpiresAt: now}, keys.UpdateInput{TPMLimit: p(1e13)}},
	} {
		x.create.OrgID, x.update.OrgID, x.update.ID = k.OrgID, k.OrgID, k.ID
		_, _, createErr := s.Create(t.Context(), log, x.create)
		_, updateErr := s.Update(t.Context(), log, x.update)
		for _, err := range []error{createErr, updateErr} {
			field, ok := errors.AsType[*keys.FieldError](err)
			if !ok || !errors.Is(err, keys.ErrInvalidKey) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", x.field, err)
			} else if field.Field != x.field && (err == createErr || field.Field != "tpm_limit") {
				t.Errorf("%s: the field is %s", x.field, field.Field)
			}
		}
	}
	for field, in := range map[string]keys.RotateInput{
		"grace_hours":     {Grace: keys.MaxGrace + 1},
		"idempotency_key": {IdempotencyKey: "a\nb"},
	} {
		in.OrgID, in.ID = k.OrgID, k.ID
		_, _, err := s.Rotate(t.Context(), log, in)
		if f, ok := errors.AsType[*keys.FieldError](err); !ok || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, in := range []keys.RotateInput{{Grace: -1}, {IdempotencyKey: strings.Repeat("x", 256)}, {IdempotencyKey: "\xff"}} {
		in.OrgID, in.ID = k.OrgID, k.ID
		if _, _, err := s.Rotate(t.Context(), log, in); !errors.Is(err, keys.ErrInvalidKey) {
			t.Errorf("%+v: %v", in, err)
		}
	}
	if end, _ := log.LedgerEnd(t.Context()); end != 1 {
		t.Errorf("%d records were written", end-1)
	}
}

func ptr[T any](v T) *T { return &v }

func TestApplyStopsAtWhatItDoesNotKnow(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	k, _ := create(t, s, log, keys.CreateInput{})
	subject := events.KeySubject(k.OrgID, k.ID)
	for typ, want := range map[string]error{"key.quarantined": events.ErrNewerRecord, "budget.set": nil} {
		if err := newSet(t, pepper1).Apply(events.Record{Type: typ, Version: 1, Seq: 2, Subject: subject}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", typ, err, want)
		}
	}
	// What another package writes on the subject does not stand in the way.
	r, err := events.NewRecord("budget.set", now, "test", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), events.Append{Subject: subject, Record: r, ExpectLast: 1}); err != nil {
		t.Fatal(err)
	}
	replay(t, log, s)
	if _, err := s.Disable(t.Context(), log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}); err != nil {
		t.Errorf("disable: %v", err)
	}
	// A second key with the same secret is a forgery.
	var created events.Record
	stop := errors.New("stop")
	_ = log.Follow(t.Context(), 1, func(r events.Record) error { created = r; return stop })
	other := uuid.UUID{1}
	created.Subject = events.KeySubject(k.OrgID, other)
	created.Data = bytes.Replace(created.Data, []byte(k.ID.String()), []byte(other.String()), 1)
	if err := s.Apply(created); err == nil {
		t.Error("two keys have one secret")
	}
}
