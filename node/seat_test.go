package node

import (
	"fmt"
	"slices"
	"testing"
)

// Names stay until their replica has given back what it had; a seat that is taken is
// nobody else's.
func TestSeatsRememberWhoDied(t *testing.T) {
	dir := t.TempDir()
	take := func(name string, before ...string) *seat {
		t.Helper()
		s, err := takeSeat(dir)
		if err == nil {
			err = s.sit(name)
		}
		if err != nil || !slices.Equal(s.before, before) {
			t.Fatalf("%s sits after %v (%v), want %v", name, s.before, err, before)
		}
		return s
	}
	leave := func(s *seat, gaveBack bool) {
		t.Helper()
		if err := s.leave(gaveBack); err != nil {
			t.Fatal(err)
		}
	}
	a, b := take("a"), take("b") // two seats
	a.file.Close()               // killed: the kernel does as much
	c := take("c", "a")
	leave(c, true)
	d := take("d", "a") // c has nothing, a may have
	leave(d, false)
	leave(b, true)
	e := take("e", "a", "d")
	f := take("f")
	e.file.Close()
	f.file.Close()
	var many []string
	for i := range 3 * seatNamesMax {
		s, err := takeSeat(dir)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("replica-", i)
		if err := s.sit(name); err != nil {
			t.Fatal(err)
		}
		many = append(many, name)
		s.file.Close()
	}
	last, err := takeSeat(dir)
	if err != nil || !slices.Equal(last.before, many[len(many)-seatNamesMax:]) {
		t.Errorf("%d names are kept, the last %v (%v)", len(last.before), last.before[len(last.before)-1], err)
	}
}
