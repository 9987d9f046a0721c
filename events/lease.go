package events

import (
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
	holder   string
	ttl      time.Duration
	now      func() time.Time
	urgent   bool
	lost     context.Context
	markLost context.CancelFunc
	stop     context.CancelFunc
	stopped  chan struct{}

	mu       sync.Mutex
	revision uint64
	fence    uint64
	until    time.Time // on this process's monotonic clock
}

// LeaseOptions name a lease.
type LeaseOptions struct {
	Name   string        // e.g. "ingest-0"
	Holder string        // who holds it, for people to read
	TTL    time.Duration // how long it outlives its holder; at least 1 s
	Now    func() time.Time

	// Urgent asks the holder to give the lease up, and keeps others from taking it
	// until it is released: for operators' work such as a rebuild.
	Urgent bool
}

// wanted is the key by which an urgent taker asks for a lease.
func wanted(name string) string { return name + ".wanted" }

// TryLease takes the lease if it is free. The error wraps ErrLeaseHeld if it is not.
func (l *Log) TryLease(ctx context.Context, o LeaseOptions) (*Lease, error) {
	kv, err := l.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: leaseBucket, Storage: jetstream.FileStorage, LimitMarkerTTL: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("open the leases: %w", err)
	}
	if o.Urgent {
		_, err = kv.Create(ctx, wanted(o.Name), []byte(o.Holder), jetstream.KeyTTL(o.TTL))
		if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return nil, fmt.Errorf("ask for lease %s: %w", o.Name, err)
		}
	} else if _, err := kv.Get(ctx, wanted(o.Name)); err == nil {
		return nil, fmt.Errorf("lease %s is wanted by an operator: %w", o.Name, ErrLeaseHeld)
	}
	asked := o.Now()
	revision, err := kv.Create(ctx, o.Name, []byte(o.Holder), jetstream.KeyTTL(o.TTL))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("lease %s: %w", o.Name, ErrLeaseHeld)
	}
	if err != nil {
		return nil, fmt.Errorf("take lease %s: %w", o.Name, err)
	}
	lease := &Lease{js: l.js, kv: kv, key: o.Name, holder: o.Holder, ttl: o.TTL, now: o.Now, urgent: o.Urgent,

		revision: revision, fence: revision, until: asked.Add(o.TTL), stopped: make(chan struct{})}
	lease.lost, lease.markLost = context.WithCancel(context.Background())
	var renewing context.Context
	renewing, lease.stop = context.WithCancel(context.Background())
	go lease.renew(renewing)
	return lease, nil
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

// renew extends the lease three times a TTL. A key-value update would drop the
// key's TTL, so it publishes the entry itself, with TTL and expected revision.
func (l *Lease) renew(ctx context.Context) {
	defer close(l.stopped)
	defer l.markLost()
	ticker := time.NewTicker(l.ttl / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !l.urgent {
			if _, err := l.kv.Get(ctx, wanted(l.key)); err == nil {
				return // an operator asks for it
			}
		}
		asked := l.now()
		attempt, cancel := context.WithTimeout(ctx, l.ttl/3)
		m := nats.NewMsg("$KV." + leaseBucket + "." + l.key)
		m.Data = []byte(l.holder)
		ack, err := l.js.PublishMsg(attempt, m,
			jetstream.WithExpectLastSequencePerSubject(l.revision), jetstream.WithMsgTTL(l.ttl))
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			l.mu.Lock()
			l.revision, l.until = ack.Sequence, asked.Add(l.ttl)
			l.mu.Unlock()
		case errors.As(err, &api): // expired, and perhaps taken by another
			return
		case l.now().After(l.deadline()):
			return
		}
	}
}

func (l *Lease) deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Valid is true while at least half of the TTL is left: whatever starts now and
// takes less than that ends before another process can hold the lease.
func (l *Lease) Valid() bool {
	return l.lost.Err() == nil && l.now().Add(l.ttl/2).Before(l.deadline())
}

// Fence is larger for each holder than for all before it.
func (l *Lease) Fence() uint64 { return l.fence }

// Lost is closed when the lease has ended, for whatever reason.
func (l *Lease) Lost() <-chan struct{} { return l.lost.Done() }

// Release gives the lease up. It is idempotent.
func (l *Lease) Release(ctx context.Context) error {
	l.stop()
	<-l.stopped
	if l.urgent {
		if err := l.kv.Delete(ctx, wanted(l.key)); err != nil {
			return fmt.Errorf("release lease %s: %w", l.key, err)
		}
	}
	err := l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
	var api *jetstream.APIError
	if err != nil && !errors.As(err, &api) {
		return fmt.Errorf("release lease %s: %w", l.key, err)
	}
	return nil
}
