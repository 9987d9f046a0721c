package keys_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
)

// bounded is a replica that follows the ledger, with bounds.
func bounded(t *testing.T, log *events.Log, b keys.Bounds) *keys.Set {
	t.Helper()
	s, err := keys.NewSet(keys.Config{Peppers: []keys.Pepper{pepper1}, Now: time.Now, Bounds: b})
	if err != nil {
		t.Fatal(err)
	}
	follow(t, log, s)
	return s
}

// TestKeysPerOrgUnderRaces: three replicas make, change, rotate and delete keys of two
// orgs at once. At no record of the ledger has an org more than it may, a refusal is
// right, and in the end it is full.
func TestKeysPerOrgUnderRaces(t *testing.T) {
	const most, workers, rounds = 7, 8, 12
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	log := openLog(t)
	orgs := []uuid.UUID{events.NewID(), events.NewID()}
	var replicas []*keys.Set
	for range 3 {
		replicas = append(replicas, bounded(t, log, keys.Bounds{KeysPerOrgMax: most, TokensPerOrgMax: most}))
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for range rounds {
				s, org := replicas[random.IntN(len(replicas))], orgs[random.IntN(len(orgs))]
				in := keys.CreateInput{OrgID: org, Name: "raced", Actor: "test"}
				if w%4 == 3 {
					in.Scopes = []keys.Scope{keys.ScopeUsageRead}
				}
				_, _, err := s.Create(t.Context(), log, in)
				if err != nil && !errors.Is(err, keys.ErrTooManyKeys) && !errors.Is(err, events.ErrConflict) {
					t.Error(err)
				}
				list := s.List(org)
				if len(list) == 0 {
					continue
				}
				k := list[random.IntN(len(list))]
				change := keys.ChangeInput{OrgID: org, ID: k.ID, Actor: "test"}
				switch random.IntN(4) {
				case 0:
					err = s.Delete(t.Context(), log, change)
				case 1:
					_, _, err = s.Rotate(t.Context(), log, keys.RotateInput{OrgID: org, ID: k.ID, Actor: "test"})
				case 2:
					_, err = s.Disable(t.Context(), log, change)
				default:
					err = nil
				}
				if err != nil && !errors.Is(err, keys.ErrUnknownKey) && !errors.Is(err, events.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := 0; ; i++ { // whatever was deleted, there is room for so many
		_, _, err := replicas[i%3].Create(t.Context(), log, keys.CreateInput{OrgID: orgs[0], Name: "last", Actor: "test"})
		if errors.Is(err, keys.ErrTooManyKeys) {
			break
		}
		if err != nil || i > most {
			t.Fatalf("after %d: %v", i, err)
		}
	}
	checkNeverMore(t, log, orgs, most)
}

// checkNeverMore counts after each record of the ledger.
func checkNeverMore(t *testing.T, log *events.Log, orgs []uuid.UUID, most int) {
	t.Helper()
	end, err := log.LedgerEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, pepper1)
	full, enough := 0, errors.New("enough")
	err = log.Follow(t.Context(), 1, func(r events.Record) error {
		if err := s.Apply(r); err != nil {
			return err
		}
		for _, org := range orgs {
			_, n := s.APIKeys(org, 0, 0)
			if tokens := len(s.List(org)) - n; n > most || tokens > most {
				return fmt.Errorf("at %d the org has %d keys and %d tokens", r.Seq, n, tokens)
			}
			if n == most {
				full++
			}
		}
		if r.Seq == end {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || full == 0 {
		t.Fatalf("%v; full %d times", err, full)
	}
}

// TestFullOrgGoesOn: at the bound keys can be changed, and a deleted one makes room,
// also on the other replica; the other kind and other orgs have bounds of their own.
func TestFullOrgGoesOn(t *testing.T) {
	log := openLog(t)
	b := keys.Bounds{KeysPerOrgMax: 2, TokensPerOrgMax: 1}
	one, two := bounded(t, log, b), bounded(t, log, b)
	k, _ := create(t, one, log, keys.CreateInput{})
	org := k.OrgID
	create(t, two, log, keys.CreateInput{OrgID: org})
	full := func(s *keys.Set, scopes ...keys.Scope) {
		t.Helper()
		_, secret, err := s.Create(t.Context(), log, keys.CreateInput{OrgID: org, Name: "more", Scopes: scopes, Actor: "test"})
		if !errors.Is(err, keys.ErrTooManyKeys) || secret != "" {
			t.Fatalf("one more: %v", err)
		}
	}
	full(one)
	full(two)
	create(t, one, log, keys.CreateInput{OrgID: org, Scopes: []keys.Scope{keys.ScopeIngest}})
	full(two, keys.ScopeUsageRead)
	create(t, two, log, keys.CreateInput{})
	name := "another"
	if _, err := one.Update(t.Context(), log, keys.UpdateInput{OrgID: org, ID: k.ID, Name: &name, Actor: "test"}); err != nil {
		t.Error(err)
	}
	if _, _, err := two.Rotate(t.Context(), log, keys.RotateInput{OrgID: org, ID: k.ID, Actor: "test"}); err != nil {
		t.Error(err)
	}
	if _, err := one.Disable(t.Context(), log, keys.ChangeInput{OrgID: org, ID: k.ID, Actor: "test"}); err != nil {
		t.Error(err)
	}
	full(two) // one that is off is one all the same
	if err := one.Delete(t.Context(), log, keys.ChangeInput{OrgID: org, ID: k.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	create(t, two, log, keys.CreateInput{OrgID: org})
	full(one)
	// A set that starts now knows it too, and one with a lower bound takes nothing away.
	fresh := bounded(t, log, keys.Bounds{KeysPerOrgMax: 1, TokensPerOrgMax: 1})
	full(fresh)
	if list, n := fresh.APIKeys(org, 0, 10); n != 2 || len(list) != 2 {
		t.Errorf("%d of %d", len(list), n)
	}
}

// TestPagesOfKeys: pages of any size are the list, in its order.
func TestPagesOfKeys(t *testing.T) {
	log, s := openLog(t), newSet(t, pepper1)
	org := events.NewID()
	var want []uuid.UUID
	for i := range 23 {
		in := keys.CreateInput{OrgID: org}
		if i%5 == 4 {
			in.Scopes = []keys.Scope{keys.ScopeIngest}
		}
		if k, _ := create(t, s, log, in); k.IsAPIKey() {
			want = append(want, k.ID)
		}
	}
	slices.SortFunc(want, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) // all of one age
	for size := 1; size <= 25; size++ {
		var got []uuid.UUID
		for {
			part, total := s.APIKeys(org, len(got), size)
			if total != len(want) || len(part) > size {
				t.Fatalf("%d of %d in pages of %d", len(part), total, size)
			}
			if len(part) == 0 {
				break
			}
			for _, k := range part {
				got = append(got, k.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	for _, c := range [][2]int{{-1, 3}, {1 << 40, 3}, {0, -1}} {
		if part, total := s.APIKeys(org, c[0], c[1]); total != len(want) || len(part) > 3 {
			t.Errorf("%v: %d of %d", c, len(part), total)
		}
	}
}
