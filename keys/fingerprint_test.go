package keys_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"aione/keys"
)

// Processes with another secret of the same version are turned away, whoever comes
// first; versions are apart.
func TestOnePepperOfAVersion(t *testing.T) {
	log := openLog(t)
	other := keys.Pepper{Version: 1, Secret: bytes.Repeat([]byte("eins"), 8)}
	var started sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		pepper := pepper1
		if i%2 == 1 {
			pepper = other
		}
		started.Go(func() { errs[i] = newSet(t, pepper).UsePeppers(t.Context(), log) })
	}
	started.Wait()
	for i, err := range errs {
		if first := errs[i%2]; err != nil && !errors.Is(err, keys.ErrOtherPepper) || (err == nil) != (first == nil) {
			t.Errorf("process %d: %v, and one like it: %v", i, err, first)
		}
	}
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("one: %v, the other: %v; want one of them refused", errs[0], errs[1])
	}
	right, wrong := pepper1, other
	if errs[0] != nil {
		right, wrong = other, pepper1
	}
	for _, c := range []struct {
		peppers []keys.Pepper
		want    error
	}{{[]keys.Pepper{right}, nil}, {[]keys.Pepper{right, pepper2}, nil}, {[]keys.Pepper{pepper2}, nil}, {[]keys.Pepper{wrong, pepper2}, keys.ErrOtherPepper}} {
		s := newSet(t, c.peppers...)
		replay(t, log, s)
		if err := s.UsePeppers(t.Context(), log); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.peppers, err, c.want)
		}
	}
	if end, err := log.LedgerEnd(t.Context()); err != nil || end != 2 {
		t.Errorf("the log has %d records, %v; want one for each version", end, err)
	}
}

// A log from before has keys, and nothing that says under which pepper: nobody may
// claim it.
func TestPepperOfALogFromBefore(t *testing.T) {
	log := openLog(t)
	create(t, newSet(t, pepper1), log, keys.CreateInput{})
	other := newSet(t, keys.Pepper{Version: 1, Secret: bytes.Repeat([]byte("eins"), 8)})
	replay(t, log, other)
	right := newSet(t, pepper1)
	replay(t, log, right)
	for _, s := range []*keys.Set{other, right} {
		if err := s.UsePeppers(t.Context(), log); err != nil {
			t.Error(err)
		}
	}
	if end, err := log.LedgerEnd(t.Context()); err != nil || end != 1 {
		t.Errorf("the log has %d records, %v", end, err)
	}
}
