package keys_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"aione/embedded"
	"aione/events"
	"aione/keys"
)

// openAt opens a ledger in a directory; close it to let another take over.
func openAt(t *testing.T, dir string) (log *events.Log, closeAll func()) {
	t.Helper()
	server, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	log, err = events.Open(t.Context(), nc, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAll = sync.OnceFunc(func() {
		_ = log.Close(context.Background())
		nc.Close()
		server.Close()
	})
	t.Cleanup(closeAll)
	return log, closeAll
}

// replica is a set that follows the ledger until the test ends.
func replica(t *testing.T, log *events.Log, clock func() time.Time) *keys.Set {
	t.Helper()
	s, err := keys.NewSet(keys.Config{Peppers: []keys.Pepper{pepper1}, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	follow(t, log, s)
	return s
}

// follow feeds a set until the test ends.
func follow(t *testing.T, log *events.Log, s *keys.Set) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := log.Follow(ctx, 1, s.Apply); ctx.Err() == nil {
			t.Errorf("the follower ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

func atNow() time.Time { return now }

// TestChangesAreEffectiveEverywhere measures how long another replica takes to
// act on each command.
func TestChangesAreEffectiveEverywhere(t *testing.T) {
	log := openLog(t)
	a, b := replica(t, log, atNow), replica(t, log, atNow)
	k, secret := create(t, a, log, keys.CreateInput{})
	change := keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}
	var longest time.Duration
	effective := func(what string, is func() bool) {
		t.Helper()
		began := time.Now()
		for !is() {
			if time.Since(began) > time.Second {
				t.Fatalf("%s is not effective in the other replica within a second", what)
			}
			time.Sleep(100 * time.Microsecond)
		}
		longest = max(longest, time.Since(began))
	}
	says := func(secret string, want error) func() bool {
		return func() bool { _, err := b.Verify(secret, now); return errors.Is(err, want) }
	}
	must := func(_ *keys.Key, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	effective("create", says(secret, nil))
	must(a.Disable(t.Context(), log, change))
	effective("disable", says(secret, keys.ErrDisabledKey))
	must(a.Enable(t.Context(), log, change))
	effective("enable", says(secret, nil))
	ips := []string{"192.0.2.0/24"}
	must(a.Update(t.Context(), log, keys.UpdateInput{OrgID: k.OrgID, ID: k.ID, AllowedIPs: &ips, Actor: "test"}))
	effective("allowed_ips", func() bool { got, _ := b.Verify(secret, now); return !got.AllowsIP(addr("198.51.100.1")) })
	_, next, err := a.Rotate(t.Context(), log, keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, Actor: "test"})
	must(k, err)
	effective("rotate", says(next, nil))
	if _, err := b.Verify(secret, now); err != nil {
		t.Errorf("the old secret in its grace: %v", err)
	}
	_, last, err := a.Rotate(t.Context(), log, keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"})
	must(k, err)
	effective("rotate without grace", says(next, keys.ErrUnknownKey))
	if err := a.Delete(t.Context(), log, change); err != nil {
		t.Fatal(err)
	}
	effective("delete", says(last, keys.ErrUnknownKey))
	t.Logf("the slowest change was effective after %s", longest)
}

func TestRestartInTheMiddleOfAGrace(t *testing.T) {
	dir := t.TempDir()
	log, closeAll := openAt(t, dir)
	s := newSet(t, pepper1)
	k, first := create(t, s, log, keys.CreateInput{})
	in := keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: 24 * time.Hour, IdempotencyKey: "again", Actor: "test"}
	rotated, second, err := s.Rotate(t.Context(), log, in)
	if err != nil || rotated.ID != k.ID || !rotated.RotateGraceUntil().Equal(now.Add(24*time.Hour)) {
		t.Fatalf("%+v, %v", rotated, err)
	}
	closeAll()

	clock := now.Add(12 * time.Hour)
	log, _ = openAt(t, dir)
	s = newSet(t, pepper1)
	replay(t, log, s)
	for at, want := range map[time.Duration]error{12 * time.Hour: nil, 24*time.Hour - 1: nil, 24 * time.Hour: keys.ErrUnknownKey} {
		if _, err := s.Verify(first, now.Add(at)); !errors.Is(err, want) {
			t.Errorf("old secret after %s and a restart: %v, want %v", at, err, want)
		}
		if _, err := s.Verify(second, now.Add(at)); err != nil {
			t.Errorf("new secret after %s and a restart: %v", at, err)
		}
	}
	again := replica(t, log, func() time.Time { return clock })
	if key, secret, err := again.Rotate(t.Context(), log, in); err != nil || secret != second || key.RotateGraceUntil() != rotated.RotateGraceUntil() {
		t.Errorf("the answer asked for again after a restart: %+v, %v, the same secret: %t", key, err, secret == second)
	}
	// Rotating again within the grace ends the oldest at once.
	in.IdempotencyKey = "next"
	_, third, err := again.Rotate(t.Context(), log, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range []struct {
		secret string
		want   error
	}{{first, keys.ErrUnknownKey}, {second, nil}, {third, nil}} {
		if _, err := again.Verify(x.secret, clock); !errors.Is(err, x.want) {
			t.Errorf("secret %d: %v, want %v", i+1, err, x.want)
		}
	}
}

// TestRotateOnceFromManyPlaces is a client that retries everywhere at once.
func TestRotateOnceFromManyPlaces(t *testing.T) {
	log := openLog(t)
	sets := []*keys.Set{replica(t, log, atNow), replica(t, log, atNow), replica(t, log, atNow)}
	k, old := create(t, sets[0], log, keys.CreateInput{})
	before, _ := log.LedgerEnd(t.Context())
	rotate := func(idempotencyKey func(i int) string) []string {
		secrets := make([]string, 12)
		var done sync.WaitGroup
		for i := range secrets {
			done.Go(func() {
				var err error
				_, secrets[i], err = sets[i%len(sets)].Rotate(t.Context(), log, keys.RotateInput{
					OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, IdempotencyKey: idempotencyKey(i), Actor: "test"})
				if err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		slices.Sort(secrets)
		return slices.Compact(secrets)
	}
	secrets := rotate(func(int) string { return "2f1c" })
	if end, _ := log.LedgerEnd(t.Context()); len(secrets) != 1 || end != before+1 {
		t.Fatalf("%d secrets, %d records, want one of each", len(secrets), end-before)
	}
	for _, secret := range []string{old, secrets[0]} {
		if _, err := sets[1].Verify(secret, now); err != nil {
			t.Error(err)
		}
	}
	secrets = append(rotate(func(int) string { return "" }), secrets[0], old)
	end, _ := log.LedgerEnd(t.Context())
	fresh := newSet(t, pepper1)
	replay(t, log, fresh)
	live := 0
	for _, secret := range secrets {
		if _, err := fresh.Verify(secret, now); err == nil {
			live++
		}
	}
	if len(secrets) != 14 || end != before+13 || live != 2 {
		t.Errorf("%d secrets, %d records, %d live; want 14, 13, 2", len(secrets), end-before, live)
	}
}

func TestAnswerIsRecoverableForADay(t *testing.T) {
	log, clock := openLog(t), now
	s := replica(t, log, func() time.Time { return clock })
	k, _ := create(t, s, log, keys.CreateInput{})
	in := keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, IdempotencyKey: "once", Actor: "test"}
	_, secret, err := s.Rotate(t.Context(), log, in)
	if err != nil {
		t.Fatal(err)
	}
	clock = now.Add(keys.RecoverWithin - 1)
	if _, again, err := s.Rotate(t.Context(), log, in); err != nil || again != secret {
		t.Errorf("within a day: %v, the same secret: %t", err, again == secret)
	}
	clock = now.Add(keys.RecoverWithin)
	if _, again, err := s.Rotate(t.Context(), log, in); !errors.Is(err, keys.ErrIdempotencyKeyUsed) || again != "" {
		t.Errorf("after a day: %v, want ErrIdempotencyKeyUsed", err)
	}
	if end, _ := log.LedgerEnd(t.Context()); end != 2 {
		t.Errorf("%d records, want 2", end)
	}
}

// TestNothingWakesADeletedKey applies what a writer with no manners might append
// after a key's end.
func TestNothingWakesADeletedKey(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	k, secret := create(t, s, log, keys.CreateInput{})
	_, next, err := s.Rotate(t.Context(), log, keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var written []events.Record
	stop := errors.New("stop")
	_ = log.Follow(t.Context(), 1, func(r events.Record) error {
		if written = append(written, r); len(written) == 2 {
			return stop
		}
		return nil
	})
	if err := s.Delete(t.Context(), log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	for i, r := range slices.Backward(written) {
		r.Seq = uint64(10 - i)
		if err := s.Apply(r); err != nil {
			t.Error(err)
		}
	}
	for _, secret := range []string{secret, next} {
		if _, err := s.Verify(secret, now); !errors.Is(err, keys.ErrUnknownKey) {
			t.Errorf("%v, want ErrUnknownKey", err)
		}
	}
	if got, err := s.Lookup(k.OrgID, k.ID); err != nil || !got.Deleted || got.StatusAt(now) != keys.StatusDeleted {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestManyWritersOneKey races all commands on one key, while it is in use.
func TestManyWritersOneKey(t *testing.T) {
	log := openLog(t)
	a, b := replica(t, log, atNow), replica(t, log, atNow)
	k, secret := create(t, a, log, keys.CreateInput{})
	stop := make(chan struct{})
	var using, writing sync.WaitGroup
	for _, s := range []*keys.Set{a, b} {
		using.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// It may not have come to b yet; but once it is there it stays.
				if _, err := s.Verify(secret, now); err != nil && s == a {
					t.Errorf("a good secret was refused: %v", err)
				}
				_ = s.List(k.OrgID)
			}
		})
	}
	for i := range 4 {
		writing.Go(func() {
			s := []*keys.Set{a, b}[i%2]
			for n := range 6 {
				limit := uint64(10*i + n + 1)
				if _, err := s.Update(t.Context(), log, keys.UpdateInput{OrgID: k.OrgID, ID: k.ID, RPMLimit: &limit, Actor: "test"}); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	writing.Wait()
	if _, _, err := a.Rotate(t.Context(), log, keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, Actor: "test"}); err != nil {
		t.Error(err)
	}
	close(stop)
	using.Wait()
	fresh := newSet(t, pepper1)
	replay(t, log, fresh)
	end, _ := log.LedgerEnd(t.Context())
	got, _ := a.Get(k.OrgID, k.ID)
	want, _ := fresh.Get(k.OrgID, k.ID)
	if end != 26 || got.RPMLimit != want.RPMLimit || got.RotateGraceUntil() != want.RotateGraceUntil() {
		t.Errorf("%d records, want 26; %+v here, %+v from the ledger", end, got, want)
	}
}

// TestDisableBelievesOnlyTheNewest has a replica that is behind told to disable
// a key which it believes to be off.
func TestDisableBelievesOnlyTheNewest(t *testing.T) {
	log := openLog(t)
	a, b := newSet(t, pepper1), newSet(t, pepper1)
	k, secret := create(t, a, log, keys.CreateInput{})
	change := keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}
	if _, err := a.Disable(t.Context(), log, change); err != nil {
		t.Fatal(err)
	}
	replay(t, log, b) // and hears no more for now
	if _, err := a.Enable(t.Context(), log, change); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if _, err := b.Disable(t.Context(), log, change); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(20 * time.Millisecond)
	replay(t, log, b)
	done.Wait()
	replay(t, log, a)
	if _, err := a.Verify(secret, now); !errors.Is(err, keys.ErrDisabledKey) {
		t.Errorf("%v, want ErrDisabledKey", err)
	}
}

// TestNoSecretOnDisk looks for secrets in the bytes that NATS stores.
func TestNoSecretOnDisk(t *testing.T) {
	dir := t.TempDir()
	log, closeAll := openAt(t, dir)
	s := newSet(t, pepper1)
	k, first := create(t, s, log, keys.CreateInput{Name: "a name to be found", AllowedIPs: []string{"192.0.2.1"}})
	_, token := create(t, s, log, keys.CreateInput{Scopes: []keys.Scope{keys.ScopeAdmin}})
	secrets := []string{first, token}
	const idempotencyKey = "an-idempotency-key-nobody-else-knows"
	for _, key := range []string{"", idempotencyKey} {
		_, secret, err := s.Rotate(t.Context(), log, keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, IdempotencyKey: key, Actor: "test", Reason: "leaked"})
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	if err := s.Delete(t.Context(), log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	closeAll()
	var raw []byte
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		raw = append(raw, body...)
		return err
	})
	if err != nil || !bytes.Contains(raw, []byte("a name to be found")) || !bytes.Contains(raw, []byte(first[:11])) {
		t.Fatalf("the records are not in these %d bytes: %v", len(raw), err)
	}
	for i, secret := range secrets {
		// Not even a piece past the displayed prefix.
		for at := 12; at+8 <= len(secret); at++ {
			if bytes.Contains(raw, []byte(secret[at:at+8])) {
				t.Fatalf("8 characters of secret %d are on disk", i)
			}
		}
	}
	if bytes.Contains(raw, []byte(idempotencyKey)) || bytes.Contains(raw, pepper1.Secret) {
		t.Error("the idempotency key or the pepper is on disk")
	}
}

func TestRotationOutlivesItsPepper(t *testing.T) {
	log, old := openLog(t), newSet(t, pepper1)
	k, _ := create(t, old, log, keys.CreateInput{})
	in := keys.RotateInput{OrgID: k.OrgID, ID: k.ID, Grace: time.Hour, IdempotencyKey: "once", Actor: "test"}
	_, secret, err := old.Rotate(t.Context(), log, in)
	if err != nil {
		t.Fatal(err)
	}
	both := newSet(t, pepper1, pepper2)
	replay(t, log, both)
	if _, again, err := both.Rotate(t.Context(), log, in); err != nil || again != secret {
		t.Errorf("under the pepper before: %v, the same secret: %t", err, again == secret)
	}
	for name, s := range map[string]*keys.Set{"another pepper": newSet(t, pepper2), "the same number": newSet(t, keys.Pepper{Version: 1, Secret: pepper2.Secret})} {
		replay(t, log, s)
		if _, again, err := s.Rotate(t.Context(), log, in); !errors.Is(err, keys.ErrIdempotencyKeyUsed) || again != "" {
			t.Errorf("%s: %v, want ErrIdempotencyKeyUsed", name, err)
		}
	}
	if end, _ := log.LedgerEnd(t.Context()); end != 2 {
		t.Errorf("%d records, want 2", end)
	}
}
