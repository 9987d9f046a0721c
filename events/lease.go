package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// leaseBucket is the key-value bucket of leases. Its keys expire by themselves.
const leaseBucket = "LEASES"

// leasePoll is how often a wait for a lease looks again.
const leasePoll = 200 * time.Millisecond

// ErrLeaseHeld is returned by TryLease while another process holds the lease.
var ErrLeaseHeld = errors.New("the lease is held by another process")

// Lease is the right of one process to do something alone for a while, renewed
// in the background until Release. It saves work and keeps writers apart, but
// nothing is correct only because of it: a holder can be stopped for longer than
// its lease lasts, so what it guards checks Valid and is audited.
type Lease struct {
	js       jetstream.JetStream
	kv       jetstream.KeyValue
	key      string
	entry    []byte // what the key holds while it is ours: the holder and a number of its own
	ttl      time.Duration
	now      func() time.Time
	urgent   bool
	lost     context.Context
	markLost context.CancelFunc
	stop     context.CancelFunc
	stopped  chan struct{}
	fence    uint64

	release  sync.Once
	mu       sync.Mutex
	revision uint64
	until    time.Time // by this process's clocks, from before the server heard of it
}

// LeaseOptions name a lease.
type LeaseOptions struct {
	Name   string        // e.g. "ingest-0"
	Holder string        // who holds it, for people to read
	TTL    time.Duration // how long it outlives its holder; in seconds, rounded up, at least 1 s
	Now    func() time.Time

	// Urgent asks the holder to give the lease up, and keeps others from taking it
	// until it is released: for operators' work such as a rebuild.
	Urgent bool
}

// wanted is the key by which an urgent taker asks for a lease.
func wanted(name string) string { return name + ".wanted" }

// TryLease takes the lease if it is free. The error wraps ErrLeaseHeld if it is not.
func (l *Log) TryLease(ctx context.Context, o LeaseOptions) (*Lease, error) {
	// The server counts whole seconds and would drop a fraction: the key would
	// then end before its holder thinks so.
	o.TTL = max(time.Second, (o.TTL + time.Second - 1).Truncate(time.Second))
	kv, err := l.leases(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the leases: %w", err)
	}
	if o.Urgent {
		// Anew at every try, so that it lasts for as long as its taker waits.
		_, err = l.js.PublishMsg(ctx, leaseMessage(wanted(o.Name), []byte(o.Holder)), jetstream.WithMsgTTL(o.TTL))
		if err != nil {
			return nil, fmt.Errorf("ask for lease %s: %w", o.Name, err)
		}
	} else if _, err := kv.Get(ctx, wanted(o.Name)); err == nil {
		return nil, fmt.Errorf("lease %s is wanted by an operator: %w", o.Name, ErrLeaseHeld)
	}
	entry := []byte(o.Holder + "\n" + NewID().String())
	asked := o.Now()
	revision, err := kv.Create(ctx, o.Name, entry, jetstream.KeyTTL(o.TTL))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("lease %s: %w", o.Name, ErrLeaseHeld)
	}
	if err != nil {
		return nil, fmt.Errorf("take lease %s: %w", o.Name, err)
	}
	lease := &Lease{js: l.js, kv: kv, key: o.Name, entry: entry, ttl: o.TTL, now: o.Now, urgent: o.Urgent,
		revision: revision, fence: revision, until: asked.Add(o.TTL), stopped: make(chan struct{})}
	lease.lost, lease.markLost = context.WithCancel(context.Background())
	var renewing context.Context
	renewing, lease.stop = context.WithCancel(context.Background())
	go lease.renew(renewing)
	return lease, nil
}

// leases opens the bucket, and makes it with as many replicas as the log has if
// it is not there. One that is there is left as its operator has set it up.
func (l *Log) leases(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := l.js.KeyValue(ctx, leaseBucket)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	s, err := l.js.Stream(ctx, usageStream(0))
	if err != nil {
		return nil, err
	}
	return l.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: leaseBucket, Storage: jetstream.FileStorage, LimitMarkerTTL: time.Second, Replicas: s.CachedInfo().Config.Replicas,
	})
}

// leaseMessage is a key-value put that can carry what kv.Put and kv.Update
// cannot: a TTL.
func leaseMessage(key string, value []byte) *nats.Msg {
	m := nats.NewMsg("$KV." + leaseBucket + "." + key)
	m.Data = value
	return m
}

// WaitLease takes the lease as soon as it is free.
func (l *Log) WaitLease(ctx context.Context, o LeaseOptions) (*Lease, error) {
	for {
		lease, err := l.TryLease(ctx, o)
		if !errors.Is(err, ErrLeaseHeld) {
			return lease, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(leasePoll):
		}
	}
}

// renew extends the lease three times a TTL, until it is released, wanted by an
// operator or at its end.
func (l *Lease) renew(ctx context.Context) {
	defer close(l.stopped)
	defer l.markLost()
	ticker := time.NewTicker(l.ttl / 3)
	defer ticker.Stop()
	for {
		end := time.NewTimer(l.deadline().Sub(l.now()))
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-end.C: // also while the log is out of reach: lost means lost in time
			end.Stop()
			return
		}
		end.Stop()
		if ctx.Err() != nil || !l.renewOnce(ctx) {
			return
		}
	}
}

// renewOnce returns false when the lease is at an end. Out of reach is not.
func (l *Lease) renewOnce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, min(l.ttl/3, l.deadline().Sub(l.now())))
	defer cancel()
	if !l.urgent {
		if _, err := l.kv.Get(ctx, wanted(l.key)); err == nil {
			return false
		}
	}
	asked := l.now()
	ack, err := l.js.PublishMsg(ctx, leaseMessage(l.key, l.entry),
		jetstream.WithExpectLastSequencePerSubject(l.revision), jetstream.WithMsgTTL(l.ttl))
	switch judge(err) {
	case answerStored:
		l.extend(ack.Sequence, asked)
	case answerConflict:
		// It expired, or an earlier attempt of ours was stored and its answer lost.
		e, err := l.kv.Get(ctx, l.key)
		if err == nil && bytes.Equal(e.Value(), l.entry) {
			l.extend(e.Revision(), time.Time{})
			return true
		}
		return err != nil && !errors.Is(err, jetstream.ErrKeyNotFound)
	case answerRefused:
		return false
	}
	return true
}

// extend takes note of a renewal; asked is zero when nobody knows when it was.
func (l *Lease) extend(revision uint64, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision = revision
	if !asked.IsZero() {
		l.until = asked.Add(l.ttl)
	}
}

func (l *Lease) deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Valid is true while at least half of the TTL is left: whatever starts now and
// takes less than that ends before another process can hold the lease. Both of
// the machine's clocks must say so: the monotonic one stands still while a
// machine is suspended, and the wall clock can be set back.
func (l *Lease) Valid() bool { return l.ValidAt(l.now()) }

// ValidAt is Valid for who has just read the lease's clock.
func (l *Lease) ValidAt(now time.Time) bool {
	latest, until := now.Add(l.ttl/2), l.deadline()
	return l.lost.Err() == nil && latest.Before(until) && latest.Round(0).Before(until.Round(0))
}

// Until is the instant by which what the lease guards must have begun, a quarter
// of the TTL before another process can hold it. It is for servers that refuse what
// comes late, whose clocks must agree with this one's to well within that quarter.
func (l *Lease) Until() time.Time { return l.deadline().Add(-l.ttl / 4) }

// Fence is larger for each holder than for all before it.
func (l *Lease) Fence() uint64 { return l.fence }

// Lost is closed when the lease has ended, for whatever reason.
func (l *Lease) Lost() <-chan struct{} { return l.lost.Done() }

// Release gives the lease up. It is idempotent.
func (l *Lease) Release(ctx context.Context) (err error) {
	l.stop()
	<-l.stopped
	l.release.Do(func() {
		if l.urgent { // first: the lease itself still keeps others out
			err = l.kv.Delete(ctx, wanted(l.key))
		}
		gone := l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
		if judge(gone) != answerConflict { // a conflict: it expired, and may be another's
			err = errors.Join(err, gone)
		}
	})
	if err != nil {
		return fmt.Errorf("release lease %s: %w", l.key, err)
	}
	return nil
}
