package gateway_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"aione/events"
	"aione/gateway"
)

// rows answers from the usage log itself: a projection that is always right
// about what it has read, and reads only when told to catch up.
type rows struct {
	b    *bench
	have map[events.UsageKey]bool
	asks int
}

func (r *rows) CaughtUp(context.Context) error {
	r.have = map[events.UsageKey]bool{}
	for _, u := range r.b.usages() {
		r.have[events.UsageKey{OrgID: u.OrgID, ID: u.ID}] = true
	}
	return nil
}

func (r *rows) Settled(_ context.Context, ks []events.UsageKey) (map[events.UsageKey]bool, error) {
	r.asks += len(ks)
	out := map[events.UsageKey]bool{}
	for _, k := range ks {
		out[k] = r.have[k]
	}
	return out, nil
}

func (b *bench) sweeper(now time.Time, checkpoint gateway.Checkpoint) (*gateway.Sweeper, *rows) {
	r := &rows{b: b}
	return &gateway.Sweeper{
		Admissions: b.log, Settled: r, Publisher: b.tap, Checkpoint: checkpoint,
		Now: func() time.Time { return now },
	}, r
}

// kill makes requests whose gateway dies after the admission: their usage is
// never published.
func (b *bench) kill(n int) {
	b.t.Helper()
	f := func(context.Context) error { return events.ErrClosed }
	b.tap.onPublish.Store(&f)
	for range n {
		b.admitted(b.ask(b.secret, body(false, counted)))
	}
	b.tap.onPublish.Store(nil)
}

func TestSweeperSettlesTheAbandoned(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for range 3 {
		b.admitted(b.ask(b.secret, body(false, counted)))
	}
	b.kill(2)
	b.ask(b.secret, body(true, counted))
	checkpoint := gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "sweeper")}
	as := b.admissions()
	deadline := as[0].Estimate.OccurredAt.Add(as[0].Deadline)

	early, _ := b.sweeper(deadline.Add(-time.Millisecond), checkpoint)
	if swept, err := early.Sweep(t.Context()); err != nil || swept.Admissions != 0 || swept.Next != 1 {
		t.Errorf("before the first deadline: %+v, %v", swept, err)
	}

	late, _ := b.sweeper(deadline.Add(time.Hour), checkpoint)
	swept, err := late.Sweep(t.Context())
	if err != nil || swept.Admissions != 6 || swept.Abandoned != 2 || swept.Undecodable != 0 {
		t.Fatalf("after all deadlines: %+v, %v", swept, err)
	}
	if len(b.usages()) != 6 {
		t.Errorf("%d usage events, want one for each of 6 requests", len(b.usages()))
	}
	for _, a := range as {
		u := b.usage(a.ID)
		if u.Outcome != events.OutcomeAbandoned {
			continue
		}
		if u.Digest() != a.Estimate.Digest() || u.Source != events.SourceEstimated || u.Tokens.Input != promptTokens || !u.Cost.IsPositive() || u.PriceVersion != "small@1" {
			t.Errorf("abandoned: %+v", u)
		}
	}

	again, r := b.sweeper(deadline.Add(2*time.Hour), checkpoint)
	if swept, err := again.Sweep(t.Context()); err != nil || swept.Admissions != 0 || r.asks != 0 {
		t.Errorf("with its position kept: %+v, %v", swept, err)
	}
	// A position that is lost costs work and nothing else.
	lost, r := b.sweeper(deadline.Add(2*time.Hour), gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "lost")})
	if swept, err := lost.Sweep(t.Context()); err != nil || swept.Admissions != 6 || swept.Abandoned != 0 || r.asks != 6 {
		t.Errorf("with its position lost: %+v, %v", swept, err)
	}
}

// TestTwoSweepers race on the same requests: what they publish is the same to the
// byte, so it counts once.
func TestTwoSweepers(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.kill(3)
	at := time.Now().Add(24 * time.Hour)
	one, r1 := b.sweeper(at, gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "one")})
	two, r2 := b.sweeper(at, gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "two")})
	var ready sync.WaitGroup // both ask before either publishes
	ready.Add(2)
	for _, s := range []struct {
		*gateway.Sweeper
		r *rows
	}{{one, r1}, {two, r2}} {
		s.Settled = together{s.r, &ready}
	}
	var wg sync.WaitGroup
	for _, s := range []*gateway.Sweeper{one, two} {
		wg.Go(func() {
			if swept, err := s.Sweep(t.Context()); err != nil || swept.Abandoned != 3 {
				t.Errorf("sweep: %+v, %v", swept, err)
			}
		})
	}
	wg.Wait()
	digests := map[events.UsageKey]uint64{}
	for _, u := range b.usages() {
		k := events.UsageKey{OrgID: u.OrgID, ID: u.ID}
		if d, ok := digests[k]; ok && d != u.Digest() {
			t.Errorf("two bodies for %s", u.ID)
		}
		digests[k] = u.Digest()
	}
	if len(digests) != 3 || len(b.usages()) != 6 {
		t.Errorf("%d requests in %d events, want 3 in 6", len(digests), len(b.usages()))
	}
}

type together struct {
	*rows
	ready *sync.WaitGroup
}

func (s together) CaughtUp(ctx context.Context) error {
	err := s.rows.CaughtUp(ctx)
	s.ready.Done()
	s.ready.Wait()
	return err
}

// TestSweeperNeedsTheRows: if the rows are behind, nothing may be taken for
// abandoned, and the position stays.
func TestSweeperNeedsTheRows(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.admitted(b.ask(b.secret, body(false, counted)))
	behind := errors.New("the rows are behind")
	checkpoint := gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "sweeper")}
	s, r := b.sweeper(time.Now().Add(24*time.Hour), checkpoint)
	s.Settled = notCaughtUp{r, behind}
	if _, err := s.Sweep(t.Context()); !errors.Is(err, behind) {
		t.Fatalf("sweep: %v", err)
	}
	if next, err := checkpoint.Load(t.Context()); err != nil || next > 1 || len(b.usages()) != 1 {
		t.Errorf("position %d, %v, %d usage events", next, err, len(b.usages()))
	}
	s.Settled = r
	f := func(context.Context) error { return events.ErrFull }
	b.kill(1)
	b.tap.onPublish.Store(&f)
	if _, err := s.Sweep(t.Context()); !errors.Is(err, events.ErrFull) {
		t.Fatalf("sweep without a log: %v", err)
	}
	if next, _ := checkpoint.Load(t.Context()); next > 2 {
		t.Errorf("position %d passed a request that is not settled", next)
	}
	b.tap.onPublish.Store(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for end := time.Now().Add(5 * time.Second); len(b.usages()) != 2 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || len(b.usages()) != 2 {
		t.Errorf("run: %v, %d usage events", err, len(b.usages()))
	}
}

type notCaughtUp struct {
	*rows
	err error
}

func (n notCaughtUp) CaughtUp(context.Context) error { return n.err }

// TestSweeperPassesDamage: what cannot be read is reported, once, and does not
// hide those behind it.
func TestSweeperPassesDamage(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.kill(1)
	must(b.nc.Request("ADMITTED", []byte("damaged"), 5*time.Second))
	b.kill(1)
	checkpoint := gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "sweeper")}
	s, _ := b.sweeper(time.Now().Add(25*time.Hour), checkpoint)
	if swept, err := s.Sweep(t.Context()); err != nil || swept.Abandoned != 2 || swept.Undecodable != 1 || swept.Next != 4 {
		t.Errorf("sweep: %+v, %v", swept, err)
	}
	if swept, err := s.Sweep(t.Context()); err != nil || swept.Undecodable != 0 {
		t.Errorf("again: %+v, %v", swept, err)
	}
}

// TestSweeperIsNotHeldUpForEver: an admission from a clock far ahead is due a day
// after the log stored it.
func TestSweeperIsNotHeldUpForEver(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.admitted(b.ask(b.secret, body(false, counted)))
	a := b.admissions()[0]
	a.ID = events.NewID()
	a.Estimate.ID = a.ID
	a.Estimate.OccurredAt = a.Estimate.OccurredAt.AddDate(50, 0, 0)
	a.Deadline = 24 * time.Hour
	if err := b.log.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	checkpoint := gateway.FileCheckpoint{Path: filepath.Join(t.TempDir(), "sweeper")}
	soon, _ := b.sweeper(time.Now().Add(23*time.Hour), checkpoint)
	if swept, err := soon.Sweep(t.Context()); err != nil || swept.Abandoned != 0 {
		t.Errorf("soon: %+v, %v", swept, err)
	}
	late, _ := b.sweeper(time.Now().Add(25*time.Hour), checkpoint)
	if swept, err := late.Sweep(t.Context()); err != nil || swept.Abandoned != 1 {
		t.Errorf("late: %+v, %v", swept, err)
	}
}
