package webhooks

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/embedded"
)

// Two processes at once: no endpoint is one too many, no rotation is lost.
func TestRacingCommands(t *testing.T) {
	server := embedded.OpenNATS(t)
	worlds := [2]*world{newWorldOn(t, server), newWorldOn(t, server)}
	org := worlds[0].org
	var created, refused, rotated atomic.Int32
	var done sync.WaitGroup
	first, _, err := worlds[0].commands.Create(worlds[0].bounded(), CreateInput{OrgID: org, URL: "http://127.0.0.1:1/"}, by())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * EndpointsMax {
		w := worlds[i%2]
		done.Go(func() {
			_, _, err := w.commands.Create(w.bounded(), CreateInput{OrgID: org, URL: "http://127.0.0.1:1/"}, by())
			switch {
			case err == nil:
				created.Add(1)
			case errors.Is(err, ErrTooMany):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
		if i >= 8 {
			continue
		}
		done.Go(func() {
			_, _, err := w.commands.Rotate(w.bounded(), org, first.ID, 0, by())
			if err != nil {
				t.Error(err)
			}
			rotated.Add(1)
		})
	}
	done.Wait()
	if created.Load() != EndpointsMax-1 || refused.Load() != EndpointsMax+1 {
		t.Errorf("%d created, %d refused", created.Load(), refused.Load())
	}
	worlds[1].catchUp(worlds[1].book)
	last, err := worlds[1].book.Endpoint(org, first.ID)
	if err != nil || last.SecretVersion != 1+int(rotated.Load()) {
		t.Errorf("version %d after %d rotations, %v", last.SecretVersion, rotated.Load(), err)
	}
}

// A refusal rests on the newest record, too.
func TestSlowBookRefusesNothingFalsely(t *testing.T) {
	server := embedded.OpenNATS(t)
	a, b := newWorldOn(t, server), newWorldOn(t, server)
	b.lag.Store(int64(100 * time.Millisecond))
	e, _ := a.create("http://127.0.0.1:1/")
	if _, err := b.commands.Disable(b.bounded(), e.OrgID, e.ID, by()); err != nil {
		t.Error(err)
	}
	if _, err := a.commands.Test(a.bounded(), e.OrgID, e.ID, by()); !errors.Is(err, ErrDisabled) {
		t.Errorf("tested: %v", err)
	}
}

func TestCommandsRefuse(t *testing.T) {
	w := newWorld(t)
	e, _ := w.create("http://127.0.0.1:1/")
	bad := func(what string, err error, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	create := func(in CreateInput) error {
		in.OrgID = cmp.Or(in.OrgID, w.org)
		in.URL = cmp.Or(in.URL, "https://example.com/")
		_, _, err := w.commands.Create(w.bounded(), in, by())
		return err
	}
	bad("a bad URL", create(CreateInput{URL: "ftp://example.com"}), ErrInvalid)
	bad("an unknown type", create(CreateInput{Events: []string{"thing.unknown"}}), ErrInvalid)
	bad("too many types", create(CreateInput{Events: slices.Repeat([]string{"thing.born"}, eventsMax+1)}), ErrInvalid)
	bad("a long description", create(CreateInput{Description: strings.Repeat("x", DescriptionBytesMax+1)}), ErrInvalid)
	bad("a description of bytes", create(CreateInput{Description: "\xff"}), ErrInvalid)
	_, _, err := w.commands.Create(w.bounded(), CreateInput{URL: "https://example.com/"}, by())
	bad("no org", err, ErrInvalid)
	url, types := "https://10.0.0.1/", []string{"x"}
	_, err = w.commands.Update(w.bounded(), w.org, e.ID, UpdateInput{URL: &url}, by())
	bad("a URL inside", err, ErrInvalid)
	_, err = w.commands.Update(w.bounded(), w.org, e.ID, UpdateInput{Events: &types}, by())
	bad("a type that is none", err, ErrInvalid)
	for _, grace := range []time.Duration{-1, MaxGrace + 1} {
		_, _, err = w.commands.Rotate(w.bounded(), w.org, e.ID, grace, by())
		bad("a grace of "+grace.String(), err, ErrInvalid)
	}
	for _, since := range []time.Time{{}, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		_, err = w.commands.ReplaySince(w.bounded(), w.org, e.ID, since, by())
		bad("since "+since.String(), err, ErrInvalid)
	}
	other := uuid.New()
	_, err = w.commands.Test(w.bounded(), other, e.ID, by())
	bad("another org's test", err, ErrNotFound)
	bad("another org's delete", w.commands.Delete(w.bounded(), other, e.ID, by()), ErrNotFound)
	_, _, err = w.book.Deliveries(other, e.ID, "", 1, 10)
	bad("another org's list", err, ErrNotFound)
	for _, page := range [][2]int{{0, 10}, {1, 0}, {-1, 10}} {
		_, _, err = w.book.Deliveries(w.org, e.ID, "", page[0], page[1])
		bad(fmt.Sprint("page ", page), err, ErrInvalid)
	}
	for _, peppers := range [][]int{{}, {0}, {1, 1}} {
		if _, err := NewSecrets(peppersOf(peppers...)...); err == nil {
			t.Errorf("peppers %v", peppers)
		}
	}
}
