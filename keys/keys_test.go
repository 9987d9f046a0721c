package keys_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aione/embedded"
	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }

var (
	now     = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	pepper1 = keys.Pepper{Version: 1, Secret: bytes.Repeat([]byte("one "), 8)}
	pepper2 = keys.Pepper{Version: 2, Secret: bytes.Repeat([]byte("two "), 8)}
)

func newSet(t *testing.T, peppers ...keys.Pepper) *keys.Set {
	t.Helper()
	s, err := keys.NewSet(keys.Config{Peppers: peppers, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openLog(t *testing.T) *events.Log {
	t.Helper()
	nc, err := embedded.OpenNATS(t).Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	log, err := events.Open(t.Context(), nc, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close(context.Background()) })
	return log
}

// replay feeds the whole ledger into a set.
func replay(t *testing.T, log *events.Log, s *keys.Set) (raw []byte) {
	t.Helper()
	end, err := log.LedgerEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if end == 0 {
		return nil
	}
	err = log.Follow(t.Context(), 1, func(r events.Record) error {
		b, _ := json.Marshal(r)
		raw = append(raw, b...)
		if err := s.Apply(r); err != nil {
			return err
		}
		if r.Seq >= end {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return raw
}

func create(t *testing.T, s *keys.Set, log keys.Appender, in keys.CreateInput) (*keys.Key, string) {
	t.Helper()
	if in.OrgID == uuid.Nil {
		in.OrgID = events.NewID()
	}
	if in.Name == "" {
		in.Name = "test"
	}
	in.Actor = "test"
	k, secret, err := s.Create(t.Context(), log, in)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// textOf is all that a key or keys show.
func textOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestLifeOfAKey(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	k, secret := create(t, s, log, keys.CreateInput{TeamID: events.NewID(), ModelsAllowed: []string{"gpt-4o"}, ExpiresAt: now.Add(time.Hour)})

	got, err := s.Verify(secret, now)
	if err != nil || got.ID != k.ID || got.TeamID != k.TeamID {
		t.Fatalf("verify: %+v, %v", got, err)
	}
	if !strings.HasPrefix(secret, "sk-nex-") || !strings.HasPrefix(secret, k.Prefix) || len(k.Prefix) != 11 {
		t.Errorf("secret and prefix %q do not fit", k.Prefix)
	}
	if !got.Has(keys.ScopeChat) || got.Has(keys.ScopeBillingRead) || !got.AllowsModel("gpt-4o") || got.AllowsModel("o1") {
		t.Errorf("a plain key may do the wrong things: %+v", got)
	}
	if _, err := s.Verify(secret, now.Add(time.Hour)); !errors.Is(err, keys.ErrExpiredKey) {
		t.Errorf("at its expiry: %v, want ErrExpiredKey", err)
	}

	change := keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}
	for range 2 { // the second changes nothing
		if off, err := s.Disable(t.Context(), log, change); err != nil || off.StatusAt(now) != keys.StatusDisabled {
			t.Fatalf("disable: %+v, %v", off, err)
		}
	}
	if _, err := s.Verify(secret, now); !errors.Is(err, keys.ErrDisabledKey) {
		t.Errorf("disabled: %v, want ErrDisabledKey", err)
	}
	if on, err := s.Enable(t.Context(), log, change); err != nil || on.StatusAt(now) != keys.StatusActive {
		t.Fatalf("enable: %+v, %v", on, err)
	}

	// Another process, and this one again, see the same from the ledger alone.
	fresh := newSet(t, pepper1)
	replay(t, log, fresh)
	replay(t, log, fresh)
	replay(t, log, s)
	for _, set := range []*keys.Set{s, fresh} {
		if got, err := set.Verify(secret, now); err != nil || got.ID != k.ID {
			t.Errorf("after a replay: %+v, %v", got, err)
		}
		if list := set.List(k.OrgID); len(list) != 1 || textOf(list[0]) != textOf(k) {
			t.Errorf("list after a replay: %+v, want %+v", list, k)
		}
	}
	if end, _ := log.LedgerEnd(t.Context()); end != 3 {
		t.Errorf("the ledger has %d records, want 3", end)
	}
}

func TestTenantsAreWalls(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	k, _ := create(t, s, log, keys.CreateInput{})
	other := events.NewID()
	if _, err := s.Get(other, k.ID); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("get of another org's key: %v", err)
	}
	if _, err := s.Disable(t.Context(), log, keys.ChangeInput{OrgID: other, ID: k.ID}); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("disable of another org's key: %v", err)
	}
	if l := s.List(other); len(l) != 0 {
		t.Errorf("another org lists %v", l)
	}
}

func TestStaleWriterConflicts(t *testing.T) {
	log, a, b := openLog(t), newSet(t, pepper1), newSet(t, pepper1)
	k, _ := create(t, a, log, keys.CreateInput{})
	replay(t, log, b)
	change := keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}
	if _, err := a.Disable(t.Context(), log, change); err != nil {
		t.Fatal(err)
	}
	// Nothing feeds b, so it gives up after a while; both when it wants to write and
	// when it believes that there is nothing to do.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Disable(ctx, log, change); !errors.Is(err, events.ErrConflict) {
		t.Errorf("a writer that has not seen the change: %v, want ErrConflict", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Enable(ctx, log, change); !errors.Is(err, events.ErrConflict) {
		t.Errorf("enabling what was disabled elsewhere: %v, want ErrConflict", err)
	}
}

func TestPepperIsReplaced(t *testing.T) {
	log := openLog(t)
	old := newSet(t, pepper1)
	_, oldSecret := create(t, old, log, keys.CreateInput{})
	both := newSet(t, pepper1, pepper2)
	replay(t, log, both)
	_, newSecret := create(t, both, log, keys.CreateInput{})
	for _, secret := range []string{oldSecret, newSecret} {
		if _, err := both.Verify(secret, now); err != nil {
			t.Errorf("with both peppers: %v", err)
		}
	}
	onlyNew := newSet(t, pepper2)
	replay(t, log, onlyNew)
	if _, err := onlyNew.Verify(newSecret, now); err != nil {
		t.Errorf("new key without the old pepper: %v", err)
	}
	if _, err := onlyNew.Verify(oldSecret, now); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("old key without its pepper: %v, want ErrUnknownKey", err)
	}
	// Same version, other secret: the pepper is what counts, not its number.
	stolen := newSet(t, keys.Pepper{Version: 1, Secret: pepper2.Secret})
	replay(t, log, stolen)
	if _, err := stolen.Verify(oldSecret, now); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("the log without the pepper lets one in: %v", err)
	}
}

func TestManagementToken(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	_, secret := create(t, s, log, keys.CreateInput{Scopes: []keys.Scope{keys.ScopeUsageRead, keys.ScopeBillingRead}})
	k, err := s.Verify(secret, now)
	if err != nil || !strings.HasPrefix(secret, "tk-nex-") || k.Has(keys.ScopeChat) || !k.Has(keys.ScopeBillingRead) {
		t.Errorf("management token: %+v, %v", k, err)
	}
	for _, in := range []keys.CreateInput{
		{OrgID: k.OrgID, Name: "x", Scopes: []keys.Scope{"root"}},
		{OrgID: k.OrgID},
		{Name: "x"},
		{OrgID: k.OrgID, Name: "x", ExpiresAt: now},
	} {
		if _, _, err := s.Create(t.Context(), log, in); !errors.Is(err, keys.ErrInvalidKey) {
			t.Errorf("create %+v: %v, want ErrInvalidKey", in, err)
		}
	}
}

// TestChecksumComesFirst changes one character of a good key in every way.
func TestChecksumComesFirst(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	_, secret := create(t, s, log, keys.CreateInput{})
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(secret)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "position")
		c := rapid.Byte().Draw(t, "byte")
		if b[i] == c {
			return
		}
		b[i] = c
		if _, err := s.Verify(string(b), now); !errors.Is(err, keys.ErrMalformedKey) {
			t.Fatalf("one wrong character: %v, want ErrMalformedKey", err)
		}
		_ = keys.Mask(string(b))
	})
	for _, wrong := range []string{"", "sk-nex-", secret + "0", secret[:len(secret)-1], "tk" + secret[2:]} {
		if _, err := s.Verify(wrong, now); !errors.Is(err, keys.ErrMalformedKey) {
			t.Errorf("a key of %d characters: %v, want ErrMalformedKey", len(wrong), err)
		}
	}
}

// TestRedact: a secret in a wrong place is not repeated, wherever it stands.
func TestRedact(t *testing.T) {
	_, secret := create(t, newSet(t, pepper1), openLog(t), keys.CreateInput{})
	for _, text := range []string{secret, "/v1/models/" + secret + ":generateContent", "model " + secret + ", " + secret, secret[:30] + "…"} {
		got := keys.Redact(text)
		if strings.Contains(got, secret[:12]) || !strings.Contains(got, "...") {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	if got := keys.Redact("gpt-4o, task-nexus"); got != "gpt-4o, task-nexus" {
		t.Errorf("nothing secret becomes %s", got)
	}
}

// TestNoSecretLeaves looks for the secret, and for most of it, in everything that
// goes out.
func TestNoSecretLeaves(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	var out bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&out, nil))
	k, secret := create(t, s, log, keys.CreateInput{})
	if _, err := s.Disable(t.Context(), log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	out.Write(replay(t, log, newSet(t, pepper1)))
	_, disabled := s.Verify(secret, now)
	_, unknown := newSet(t, pepper1).Verify(secret, now)
	_, malformed := s.Verify(secret+"x", now)
	logger.Error("x", "key", k, "pepper", pepper1, "mask", keys.Mask(secret), "disabled", disabled, "unknown", unknown, "malformed", malformed)
	fmt.Fprintf(&out, "%v %+v %#v %s %x %q", pepper1, pepper1, pepper1, pepper1, pepper1, []keys.Pepper{pepper1})
	for _, part := range []string{secret, secret[7:47], secret[12:20], string(pepper1.Secret), fmt.Sprintf("%x", pepper1.Secret)} {
		if strings.Contains(out.String(), part) {
			t.Errorf("%d characters of a secret went out", len(part))
		}
	}
	if got, want := keys.Mask(secret), secret[:10]+"..."+secret[len(secret)-3:]; got != want {
		t.Errorf("mask %q, want %q", got, want)
	}
	for _, foreign := range []string{"", "hunter2", "sk-proj-0123456789012345678901234567890123456789", "sk-nex-short", "sk-nex-\xff\xfe" + secret[9:]} {
		if got := keys.Mask(foreign); got != "sk-nex-xxx...xxx" {
			t.Errorf("mask of %q is %q", foreign, got)
		}
	}
}

func TestApplyRefusesForeignSubject(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	create(t, s, log, keys.CreateInput{})
	var r events.Record
	stop := errors.New("stop")
	_ = log.Follow(t.Context(), 1, func(got events.Record) error { r = got; return stop })
	r.Subject = events.KeySubject(events.NewID(), events.NewID())
	if err := newSet(t, pepper1).Apply(r); err == nil {
		t.Error("a record on another key's subject was applied")
	}
	r.Type = "price.published"
	if err := s.Apply(r); err != nil {
		t.Errorf("a record of another package: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	org := events.NewID()
	_, secret := create(t, s, log, keys.CreateInput{OrgID: org})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				create(t, s, log, keys.CreateInput{OrgID: org})
				if _, err := s.Verify(secret, now); err != nil {
					t.Error(err)
				}
				_ = s.List(org)
			}
		})
	}
	wg.Wait()
	list := s.List(org)
	if len(list) != 21 || !slices.IsSortedFunc(list, func(a, b *keys.Key) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		t.Errorf("%d keys, or not in order", len(list))
	}
}

// hastyLog lets somebody delete a key before who made it is told.
type hastyLog struct {
	keys.Appender
	end func(ctx context.Context, made events.Record) error
}

func (l *hastyLog) Append(ctx context.Context, as ...events.Append) ([]uint64, error) {
	seqs, err := l.Appender.Append(ctx, as...)
	if err == nil && as[0].Record.Type == "key.created" {
		made := as[0].Record
		made.Seq = seqs[0]
		err = l.end(ctx, made)
	}
	return seqs, err
}

// A key that others delete at once was made all the same: its secret, which nobody
// gets again, comes with it.
func TestCreateAndDeletedAtOnce(t *testing.T) {
	log, s, org := openLog(t), newSet(t, pepper1), events.NewID()
	hasty := &hastyLog{Appender: log, end: func(ctx context.Context, made events.Record) error {
		if err := s.Apply(made); err != nil {
			return err
		}
		for _, k := range s.List(org) {
			if err := s.Delete(ctx, log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "another"}); err != nil {
				return err
			}
		}
		return nil
	}}
	k, secret, err := s.Create(t.Context(), hasty, keys.CreateInput{OrgID: org, Name: "short-lived", Actor: "test"})
	if err != nil || k.Deleted || !strings.HasPrefix(secret, k.Prefix) {
		t.Fatalf("made %+v, %v", k, err)
	}
	if _, err := s.Verify(secret, now); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("the deleted key: %v", err)
	}
}

// When a key was made is told in whole microseconds, from the first answer on.
func TestCreatedAtInMicroseconds(t *testing.T) {
	log := openLog(t)
	s, err := keys.NewSet(keys.Config{Peppers: []keys.Pepper{pepper1}, Now: func() time.Time { return now.Add(1999 * time.Nanosecond) }})
	if err != nil {
		t.Fatal(err)
	}
	made, _ := create(t, s, log, keys.CreateInput{})
	listed := s.List(made.OrgID)
	if want := now.Add(time.Microsecond); len(listed) != 1 || !made.CreatedAt.Equal(want) || !listed[0].CreatedAt.Equal(want) {
		t.Errorf("made at %s, listed %s", made.CreatedAt, textOf(listed))
	}
}
