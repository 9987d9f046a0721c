package analytics

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aione/events"
)

// writer is a process of its own, as far as the log is concerned: it can die with
// its lease in its hands.
type writer struct {
	log *events.Log
	die func()
}

func (r *rig) writer() *writer {
	r.t.Helper()
	nc, err := r.engines.NATS.Conn()
	if err != nil {
		r.t.Fatal(err)
	}
	log, err := events.Open(r.ctx, nc, events.Options{Logger: quiet})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	return &writer{log: log, die: nc.Close}
}

// TTLs of leases: of a holder that dies, the others wait for its end; and of one
// that must not lose it however slow the machine is.
const (
	mortalTTL = 2 * time.Second
	heirTTL   = 20 * time.Second
)

func (r *rig) lease(w *writer, holder string, ttl time.Duration) *events.Lease {
	r.t.Helper()
	lease, err := w.log.WaitLease(r.ctx, events.LeaseOptions{Name: "ingest-0", Holder: holder, TTL: ttl, Now: time.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	return lease
}

// run runs an ingester until the function it returns is called.
func (r *rig) run(in *Ingester) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	return func() {
		r.t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			r.t.Fatal(err)
		}
	}
}

// eventually waits for a state of the world, not for a time.
func (r *rig) eventually(what string, ok func() error) {
	r.t.Helper()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("never: %s: %v", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// start runs an ingester of w, and gives its end.
func (r *rig) start(ctx context.Context, w *writer, lease Lease, change func(*Ingester)) <-chan error {
	in := r.ingester()
	in.Log, in.Lease, in.BatchRows = w.log, lease, 60
	change(in)
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	return ended
}

func TestTakeoverFromAHolderThatDied(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := crashLog(t, r, seedOf(t))
	a, b := r.writer(), r.writer()
	held := r.lease(a, "a", mortalTTL)
	ctx, kill := context.WithCancel(r.ctx)
	batches := 0
	ended := r.start(ctx, a, held, func(in *Ingester) {
		in.Failpoint = func(at string) error {
			if batches++; batches == 5 {
				a.die()
				kill()
				return errCrash
			}
			return nil
		}
	})
	if err := <-ended; err == nil {
		t.Fatal("the first ingester lived to the end")
	}
	lease := r.lease(b, "b", heirTTL) // nobody gave it back
	if lease.Fence() <= held.Fence() {
		t.Fatalf("fence %d after %d", lease.Fence(), held.Fence())
	}
	defer lease.Release(r.ctx)
	if err := <-r.start(r.ctx, b, lease, func(*Ingester) {}); err != nil {
		t.Fatal(err)
	}
	r.wantExactly(c)
}

// A holder is stopped for longer than its lease lasts, at each step, and wakes
// when another has written on.
func TestZombieDoesNotWrite(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"fetched", "before_insert"} {
		t.Run(step, func(t *testing.T) {
			r := newRig(t)
			c := crashLog(t, r, seedOf(t))
			a, b := r.writer(), r.writer()
			held := r.lease(a, "a", mortalTTL)
			asleep, wake := make(chan struct{}), make(chan struct{})
			var once sync.Once
			ended := r.start(r.ctx, a, held, func(in *Ingester) {
				in.Failpoint = func(at string) error {
					if at == step {
						once.Do(func() {
							close(asleep)
							<-wake
						})
					}
					return nil
				}
			})
			select {
			case <-asleep:
			case err := <-ended:
				t.Fatalf("the first holder ended with %v before it fell asleep", err)
			}
			a.die() // its lease is not renewed any more
			lease := r.lease(b, "b", heirTTL)
			defer lease.Release(r.ctx)
			if err := <-r.start(r.ctx, b, lease, func(*Ingester) {}); err != nil {
				t.Fatal(err)
			}
			close(wake)
			err := <-ended
			if step == "before_insert" && !errors.Is(err, ErrLeaseLost) {
				t.Fatalf("the zombie ended with %v, want ErrLeaseLost", err)
			}
			if err == nil {
				t.Fatal("the zombie thinks it did it")
			}
			r.wantExactly(c)
		})
	}
}

// deluded is a lease whose holder never learns that it is lost.
type deluded struct{}

func (deluded) Valid() bool   { return true }
func (deluded) Fence() uint64 { return 1 }

func (deluded) Until() time.Time { return forEver }

// A zombie whose clock stood still too is turned back by the rows themselves.
func TestZombieIsTurnedBackByTheRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := crashLog(t, r, seedOf(t))
	a := r.writer()
	asleep, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ended := r.start(r.ctx, a, deluded{}, func(in *Ingester) {
		in.Failpoint = func(at string) error {
			if at == "fetched" {
				once.Do(func() {
					close(asleep)
					<-wake
				})
			}
			return nil
		}
	})
	<-asleep
	r.ingest()
	close(wake)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.wantExactly(c)
}

// fleeting is a lease that is lost between the batch and its insert, of a holder
// whose clock would let the insert pass.
type fleeting struct {
	deluded
	lost atomic.Bool
}

func (l *fleeting) Valid() bool { return !l.lost.Load() }

// The lease is asked for last of all before an insert.
func TestNothingIsInsertedWithoutTheLease(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	crashLog(t, r, seedOf(t))
	lease := &fleeting{}
	err := <-r.start(r.ctx, r.writer(), lease, func(in *Ingester) {
		in.Failpoint = func(at string) error {
			lease.lost.Store(at == "before_insert")
			return nil
		}
	})
	if !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("it ended with %v, want ErrLeaseLost", err)
	}
	if at := r.checkpoint(); at.Rows != 0 {
		t.Fatalf("%d rows were inserted after the lease was lost", at.Rows)
	}
}

// Who goes on after another has written knows the ids that the other has counted.
func TestWhatAnotherHasCountedIsKnown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(8, 3, simStart)
	us := g.take(200)
	for i := 0; i < len(us); i += 10 {
		r.publish(us[i : i+10]...)
	}
	asleep, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ended := r.start(r.ctx, r.writer(), deluded{}, func(in *Ingester) {
		in.BatchRows = 10 // it reads a few batches ahead, and not to the end
		in.Until = r.end() + 1
		in.Failpoint = func(at string) error {
			if at == "fetched" {
				once.Do(func() {
					close(asleep)
					<-wake
				})
			}
			return nil
		}
	})
	<-asleep
	r.ingest()
	r.publish(us[len(us)-10:]...) // what the sleeper has not read
	close(wake)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.wantDispositions(map[string]uint64{"counted": 200, "duplicate": 10})
	r.wantAudit()
}

// The insert of a holder that lost its lease is ended before its successor reads
// the checkpoint.
func TestTakeoverEndsARunningInsert(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := crashLog(t, r, seedOf(t))
	store, proxy := newFaulty(t, r)
	a := r.writer()
	held := r.lease(a, "a", mortalTTL)
	proxy.next.Store(int32(stallBody))
	ended := r.start(r.ctx, a, held, func(in *Ingester) { in.Store = store })
	r.eventually("its insert runs", func() error {
		var n uint64
		err := r.store.conn.QueryRow(r.ctx, "SELECT count() FROM system.processes WHERE startsWith(query_id, '"+r.ingester().queryPrefix()+"')").Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	a.die()
	b := r.writer()
	lease := r.lease(b, "b", heirTTL)
	defer lease.Release(r.ctx)
	if err := <-r.start(r.ctx, b, lease, func(*Ingester) {}); err != nil {
		t.Fatal(err)
	}
	close(proxy.resume) // the rest of it arrives now
	if err := <-ended; !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("the first holder ended with %v, want ErrLeaseLost", err)
	}
	r.wantExactly(c)
}

// Several processes that take the lease from one another, as node does it: a
// release between batches, and only one writes at a time.
func TestOneWriterAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := newChaos(seedOf(t), 30)
	c.publish(r, rounds(20, 120))
	until := r.end()
	var wg sync.WaitGroup
	for i := range 3 {
		w := r.writer()
		wg.Go(func() {
			for r.ctx.Err() == nil {
				lease, err := w.log.WaitLease(r.ctx, events.LeaseOptions{Name: "ingest-0", Holder: fmt.Sprint(i), TTL: time.Second, Now: time.Now})
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(r.ctx)
				batches := 0
				err = <-r.start(ctx, w, lease, func(in *Ingester) {
					in.Until = until
					in.Failpoint = func(at string) error {
						if batches++; batches == 7 { // its turn is over
							cancel()
						}
						return nil
					}
				})
				cancel()
				lease.Release(r.ctx)
				if err == nil {
					return
				}
			}
		})
	}
	wg.Wait()
	r.wantExactly(c)
}

// Without leases two ingesters can write the same batch: the audit says so, and a
// rebuild mends it.
func TestTwoWritersWithoutLeasesAreReportedAndMended(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := crashLog(t, r, seedOf(t))
	var before, after sync.WaitGroup
	before.Add(2)
	after.Add(2)
	var ended []<-chan error
	// ClickHouse refuses to run two inserts of one name at once, so the batches must
	// differ: no envelope is large enough to fill both, and no clock ends one earlier.
	for _, rows := range []int{60, 90} {
		meet := map[string]func(){
			// Each has seen that the rows end where its batch begins, and has it in.
			"before_insert": sync.OnceFunc(func() { before.Done(); before.Wait() }),
			"after_insert":  sync.OnceFunc(func() { after.Done(); after.Wait() }),
		}
		ended = append(ended, r.start(r.ctx, r.writer(), nil, func(in *Ingester) {
			in.BatchRows, in.BatchAge = rows, rigTimeMax
			in.Failpoint = func(at string) error {
				if f := meet[at]; f != nil {
					f()
				}
				return nil
			}
		}))
	}
	for _, e := range ended {
		if err := <-e; err != nil && !errors.Is(err, ErrTorn) { // one may end the other's insert
			t.Fatal(err)
		}
	}
	r.ingest()
	if a := r.audit(); len(a.Differences) == 0 {
		t.Fatalf("the audit finds nothing: %+v", a)
	}
	if report := r.rebuild(false); report.Same || !report.Exchanged {
		t.Fatalf("rebuild = %+v, want a difference and an exchange", report)
	}
	r.wantExactly(c)
}

// An INSERT that reaches ClickHouse after its writer's lease is refused whole,
// whoever sent it and whatever has become of them; one in time is taken.
func TestLateInsertIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var batch rows
	for i, u := range newUsageGen(11, 1, simStart).take(100) {
		batch.add(place{seq: 1, idx: i, recordedAt: simStart}, &u)
	}
	if err := r.store.insert(r.ctx, "", &batch, time.Now().Add(-time.Millisecond)); err == nil {
		t.Fatal("a late insert was taken")
	}
	if c, err := r.store.Checkpoint(r.ctx, 0); err != nil || c.Rows != 0 {
		t.Fatalf("after a late insert: %+v, %v", c, err)
	}
	if err := r.store.insert(r.ctx, "", &batch, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if c, err := r.store.Checkpoint(r.ctx, 0); err != nil || c.Rows != 100 {
		t.Fatalf("after an insert in time: %+v, %v", c, err)
	}
}
