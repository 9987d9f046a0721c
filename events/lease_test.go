package events

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// leaseTTL is the shortest there is.
const leaseTTL = time.Second

func leaseOf(name string, change ...func(*LeaseOptions)) LeaseOptions {
	o := LeaseOptions{Name: name, Holder: "test", TTL: leaseTTL, Now: time.Now}
	for _, c := range change {
		c(&o)
	}
	return o
}

func take(t *testing.T, l *Log, o LeaseOptions) *Lease {
	t.Helper()
	lease, err := l.WaitLease(bounded(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lease.Release(context.Background()) })
	return lease
}

func isLost(l *Lease) func() bool {
	return func() bool { return l.lost.Err() != nil }
}

func TestLeaseHasOneHolderAndAGrowingFence(t *testing.T) {
	l := startBox(t).open(Options{})
	long := func(o *LeaseOptions) { o.TTL = time.Minute } // none ends by itself
	first := take(t, l, leaseOf("a", long))
	if _, err := l.TryLease(bounded(t), leaseOf("a")); !errors.Is(err, ErrLeaseHeld) {
		t.Fatalf("a second holder got %v, want ErrLeaseHeld", err)
	}
	other := take(t, l, leaseOf("b", long))
	if !first.Valid() || !other.Valid() {
		t.Fatal("a lease just taken is not valid")
	}
	fence := first.Fence()
	for range 3 {
		if err := first.Release(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if first.Valid() || first.lost.Err() == nil {
			t.Fatal("a released lease is valid")
		}
		first = take(t, l, leaseOf("a", long))
		if first.Fence() <= fence {
			t.Fatalf("fence %d after %d", first.Fence(), fence)
		}
		fence = first.Fence()
	}
}

func TestLeaseIsRenewedBeyondItsTTL(t *testing.T) {
	l := startBox(t).open(Options{})
	lease := take(t, l, leaseOf("a"))
	// Three renewals at a third of a TTL each, and then some: by their number, so
	// that a slow machine needs longer and no more.
	revision := func() uint64 { lease.mu.Lock(); defer lease.mu.Unlock(); return lease.revision }
	last, renewals := revision(), 0
	eventually(t, "the lease is renewed seven times", func() bool {
		if n := revision(); n != last {
			last, renewals = n, renewals+1
		}
		return renewals >= 7
	})
	if lease.lost.Err() != nil {
		t.Fatal("it was lost meanwhile")
	}
	if _, err := l.TryLease(bounded(t), leaseOf("a")); !errors.Is(err, ErrLeaseHeld) {
		t.Fatalf("another holder got %v, want ErrLeaseHeld", err)
	}
}

func TestLeaseOfADeadHolderExpires(t *testing.T) {
	l := startBox(t).open(Options{})
	dead := take(t, l, leaseOf("a"))
	dead.stop() // it is never renewed nor released
	next := take(t, l, leaseOf("a"))
	if next.Fence() <= dead.Fence() {
		t.Fatalf("fence %d after %d", next.Fence(), dead.Fence())
	}
	if dead.Valid() {
		t.Fatal("the dead holder's lease is valid beside its successor's")
	}
	if err := dead.Release(bounded(t)); err != nil { // must not take the successor's away
		t.Fatal(err)
	}
	if _, err := l.TryLease(bounded(t), leaseOf("a")); !errors.Is(err, ErrLeaseHeld) {
		t.Fatalf("after the dead one's release a third got %v, want ErrLeaseHeld", err)
	}
}

// A TTL that the server would cut to whole seconds must not end there before it
// ends here.
func TestLeaseOfAFractionOfASecond(t *testing.T) {
	l := startBox(t).open(Options{})
	dead := take(t, l, leaseOf("a", func(o *LeaseOptions) { o.TTL = 1900 * time.Millisecond }))
	dead.stop()
	take(t, l, leaseOf("a"))
	if !time.Now().After(dead.deadline()) {
		t.Fatal("another process holds the lease while the first thinks it does")
	}
}

func TestLeaseIsGivenUpToAnOperator(t *testing.T) {
	l := startBox(t).open(Options{})
	holder := take(t, l, leaseOf("a"))
	operator := take(t, l, leaseOf("a", func(o *LeaseOptions) { o.Urgent = true }))
	if !isLost(holder)() || holder.Valid() {
		t.Fatal("the holder thinks it holds the lease beside the operator")
	}
	if operator.Fence() <= holder.Fence() {
		t.Fatalf("fence %d after %d", operator.Fence(), holder.Fence())
	}
	if _, err := l.TryLease(bounded(t), leaseOf("a")); !errors.Is(err, ErrLeaseHeld) {
		t.Fatalf("beside the operator another got %v, want ErrLeaseHeld", err)
	}
	if err := operator.Release(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := operator.Release(bounded(t)); err != nil {
		t.Fatalf("released twice: %v", err)
	}
	if _, err := l.TryLease(bounded(t), leaseOf("a")); err != nil { // at once: nobody wants it any more
		t.Fatal(err)
	}
}

// An operator who waits longer than a TTL still comes before others.
func TestLeaseStaysWantedWhileAnOperatorWaits(t *testing.T) {
	l := startBox(t).open(Options{})
	take(t, l, leaseOf("a", func(o *LeaseOptions) { o.Urgent = true })) // does not give way to another operator
	waiting, cancel := context.WithCancel(bounded(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.WaitLease(waiting, leaseOf("a", func(o *LeaseOptions) { o.Urgent = true }))
	}()
	kv, err := l.leases(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is wanted", func() bool { _, err := kv.Get(bounded(t), wanted("a")); return err == nil })
	for end := time.Now().Add(2 * leaseTTL); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := kv.Get(bounded(t), wanted("a")); err != nil {
			t.Fatalf("it stopped being wanted: %v", err)
		}
	}
	cancel()
	<-done
}

// A renewal that was stored but whose answer was lost is recognised as one's own.
func TestLeaseSurvivesALostAnswer(t *testing.T) {
	l := startBox(t).open(Options{})
	lease := take(t, l, leaseOf("a", func(o *LeaseOptions) { o.TTL = 3 * time.Second }))
	lease.stop()
	<-lease.stopped
	lease.lost, lease.markLost = context.WithCancel(context.Background())
	mine := lease.revision
	if !lease.renewOnce(bounded(t)) {
		t.Fatal("it cannot be renewed")
	}
	lease.revision = mine // as if the answer had not come
	if !lease.renewOnce(bounded(t)) || lease.revision <= mine {
		t.Fatal("its own renewal was taken for another holder's")
	}
}

// Lost is closed in time although the log is out of reach.
func TestLeaseIsLostWhileTheLogIsOutOfReach(t *testing.T) {
	box := startBox(t)
	l := box.open(Options{})
	lease := take(t, l, leaseOf("a"))
	box.deafen()
	eventually(t, "the lease is lost", isLost(lease))
	if lease.Valid() {
		t.Fatal("a lost lease is valid")
	}
	box.cut()
}

func TestLeaseIsValidForHalfOfItsTTL(t *testing.T) {
	l := startBox(t).open(Options{})
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	lease := take(t, l, leaseOf("a", func(o *LeaseOptions) { o.TTL, o.Now = time.Minute, now }))
	if !lease.Valid() {
		t.Fatal("a lease just taken is not valid")
	}
	later.Store(int64(31 * time.Second))
	if lease.Valid() {
		t.Fatal("it is valid with less than half of its TTL left")
	}
}
