package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/events"
)

// ReplicaLog is where replicas agree: events.Log.
type ReplicaLog interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
	TryLease(ctx context.Context, o events.LeaseOptions) (*events.Lease, error)
	Shard(org uuid.UUID) int
}

// ReplicaConfig makes a Limiter one of several.
type ReplicaConfig struct {
	// ID names this process among all there ever were: a new one each start. Should
	// the process lose its place it takes another, as ID_2 and so on.
	ID  string
	Log ReplicaLog
	// TTL is how long a replica that has died is counted among the living. Default 10 s.
	TTL time.Duration
	// SweptAfter is when everything a dead replica let in is settled for certain: the
	// deadline of its admissions and a sweep. Default 45 min.
	SweptAfter time.Duration
	// Now is the clock of the TTL; default Config.Now.
	Now func() time.Time
}

// replica keeps this process's place among the others, and its allowances.
type replica struct {
	limiter *Limiter
	config  ReplicaConfig
	// ownClock: the TTL runs on another clock than the limits.
	ownClock bool

	id       atomic.Pointer[string] // the present one, see again
	presence atomic.Pointer[events.Lease]
	gone     atomic.Bool // has left, or was declared dead
	leaving  atomic.Bool // in order, by Leave

	places int // how many this process has had, see again

	mu     sync.Mutex
	live   map[string]uint64    // replicas by the sequence at which they joined
	left   map[string]time.Time // and when they left
	ended  map[string]bool      // earlier ones of this process
	before map[string]bool      // processes that have ended for certain, see Succeed
	joined chan struct{}        // closed when the ledger shows this replica
	dirty  map[*org]bool        // orgs to look after
	wake   chan struct{}
}

func newReplica(l *Limiter, c ReplicaConfig) (*replica, error) {
	if c.Log == nil || !replicaForm.MatchString(c.ID) {
		return nil, errors.New("admission: a replica needs a log and an id of letters, digits and -")
	}
	if c.TTL <= 0 {
		c.TTL = 10 * time.Second
	}
	if c.SweptAfter <= 0 {
		c.SweptAfter = 45 * time.Minute
	}
	ownClock := c.Now != nil
	if !ownClock {
		c.Now = l.config.Now
	}
	r := &replica{limiter: l, ownClock: ownClock, config: c, places: 1, live: map[string]uint64{}, left: map[string]time.Time{}, ended: map[string]bool{}, before: map[string]bool{},
		dirty: map[*org]bool{}, wake: make(chan struct{}, 1)}
	r.id.Store(&c.ID)
	return r, nil
}

func (r *replica) me() string { return *r.id.Load() }

func (r *replica) valid() bool { return r.validAt(r.limiter.config.Now()) }

// validAt is valid at the limiter's now, which need not be the lease's.
func (r *replica) validAt(now time.Time) bool {
	if r.ownClock {
		now = r.config.Now()
	}
	p := r.presence.Load()
	return p != nil && !r.gone.Load() && p.ValidAt(now)
}

// poke asks for an org to be looked after. Alone there is nothing to look after.
func (l *Limiter) poke(o *org) {
	if r := l.replica; r != nil {
		r.mu.Lock()
		r.dirty[o] = true
		r.mu.Unlock()
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// refillAhead asks for more before the allowance is used up. The caller holds the
// org's lock.
func (r *replica) refillAhead(h *hold, in *months) {
	for i, m := range in {
		if m == nil || !h.accounts[i].limited {
			continue
		}
		if !m.lease.asked && m.lease.unused().less(m.lease.low) {
			m.lease.asked = true
			h.org.leases.low = append(h.org.leases.low, h)
			r.limiter.poke(h.org)
		}
	}
}

// applyLease folds a statement, our own or another's.
func (r *replica) applyLease(rec events.Record) error {
	id, err := uuid.Parse(strings.TrimPrefix(rec.Subject, subjectLease))
	if err != nil {
		return fmt.Errorf("its subject %s names no org", rec.Subject)
	}
	o := r.limiter.org(id)
	o.mu.Lock()
	defer o.mu.Unlock()
	if rec.Seq <= o.leases.lastSeq {
		return nil
	}
	oldest := r.limiter.oldest(o)
	d, err := o.leases.apply(rec, oldest)
	if err != nil {
		return err
	}
	o.leases.lastSeq = rec.Seq
	if i := o.leases.inheriting; i != nil && i.record == rec.ID && d.Replica == r.me() {
		o.inherit(i.holds)
	}
	o.leases.inheriting = nil // its record would have been this one
	if d.Replica == r.me() {
		if err := r.adopt(o, d, oldest); err != nil {
			return err
		}
	}
	o.leases.asked = false
	for _, by := range o.leases.stated {
		for replica, s := range by {
			o.leases.asked = o.leases.asked || replica != r.me() && !s.want.isZero()
		}
	}
	r.limiter.letIn(o)
	if len(o.waiting) > 0 || o.leases.asked {
		r.limiter.poke(o)
	}
	return nil
}

// adopt puts this replica's own statement into force.
func (r *replica) adopt(o *org, d leaseData, oldest periodIndex) error {
	for _, s := range d.Accounts {
		a, err := o.leased(leaseKey{s.Scope, s.ID, s.Period})
		if err != nil {
			return err
		}
		if a == nil || s.Period != forever && s.Period.month() < oldest {
			continue
		}
		st, err := s.statement()
		if err != nil {
			return err
		}
		m := o.open(a, s.Period, oldest)
		m.lease.allowance = st.allowance
		m.lease.low = amount{}
		if unused := m.lease.unused(); (amount{}).less(unused) && r.replicas() > 1 {
			m.lease.low = unused.part(4)
		}
	}
	return nil
}

func (r *replica) replicas() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// lookAgain is how often orgs with waiting claims are looked after without being
// asked to.
const lookAgain = 100 * time.Millisecond

// joinPause is the time between attempts to take a place.
const joinPause = 500 * time.Millisecond

// run takes a place among the replicas and looks after the orgs until ctx ends. A
// place that is lost, because the log was out of reach or this process stood still
// for too long, is followed by another one.
func (r *replica) run(ctx context.Context) error {
	for {
		err := r.join(ctx)
		if err == nil {
			err = r.tendAll(ctx)
		}
		if r.leaving.Load() {
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.limiter.logger.Warn("this replica has no place among the others; it takes another", "replica", r.me(), "error", err)
		r.again()
		if err := pause(ctx, joinPause); err != nil {
			return err
		}
	}
}

// tendAll looks after the orgs until ctx ends or the place is lost.
func (r *replica) tendAll(ctx context.Context) error {
	again, probe := time.NewTicker(lookAgain), time.NewTicker(r.config.TTL)
	defer again.Stop()
	defer probe.Stop()
	parked := map[*org]bool{}
	for {
		r.mu.Lock()
		todo := r.dirty
		r.dirty = map[*org]bool{}
		r.mu.Unlock()
		r.tendEach(ctx, todo, parked)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.presence.Load().Lost():
			return ErrFenced
		case <-r.wake:
		case <-again.C:
			for o := range parked {
				r.limiter.poke(o)
			}
		case <-probe.C:
			r.probe(ctx)
		}
	}
}

// tendAtOnce is how many orgs are looked after at once: each takes round trips to
// the log, and after a start every org with a budget comes for the first time.
const tendAtOnce = 16

// tendEach looks after orgs and notes in parked which are to be looked at again.
func (r *replica) tendEach(ctx context.Context, orgs, parked map[*org]bool) {
	var mu sync.Mutex
	var tending errgroup.Group
	tending.SetLimit(tendAtOnce)
	for o := range orgs {
		tending.Go(func() error {
			open, err := r.tend(ctx, o)
			if err != nil && ctx.Err() == nil {
				r.limiter.logger.Warn("allowances cannot be settled now", "org", o.id, "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if delete(parked, o); open || err != nil {
				parked[o] = true
			}
			return nil
		})
	}
	_ = tending.Wait() // none of them fails
}

// tendMax bounds the attempts at one org when others keep being first.
const tendMax = 32

// tend says what has to be said about an org's accounts. open is whether something
// is still missing.
func (r *replica) tend(ctx context.Context, o *org) (open bool, err error) {
	for range tendMax {
		o.mu.Lock()
		seq := o.leases.lastSeq
		o.mu.Unlock()
		if err := r.catchUp(ctx, o); err != nil {
			return true, err
		}
		rec, err := r.decide(o, seq)
		if err != nil {
			return true, err
		}
		if rec.Type == "" {
			o.mu.Lock()
			open = len(o.waiting) > 0 || o.leases.asked
			o.mu.Unlock()
			return open, nil
		}
		if rec.Type == retry {
			continue
		}
		seqs, err := r.config.Log.Append(ctx, events.Append{Subject: rec.Subject, Record: rec, ExpectLast: seq})
		if err == nil {
			rec.Seq = seqs[0]
			if err := r.applyLease(rec); err != nil {
				return true, err
			}
			continue
		}
		if !errors.Is(err, events.ErrConflict) {
			return true, err // it may be in the log: the ledger's reader will bring it
		}
		if err := r.applied(ctx, o, seq); err != nil {
			return true, err
		}
	}
	return true, nil
}

// retry marks a decision that was overtaken.
const retry = "retry"

// decide makes the record to write, if any, on the state of the lease subject at seq.
func (r *replica) decide(o *org, seq uint64) (rec events.Record, err error) {
	now := r.limiter.config.Now()
	r.mu.Lock()
	live := map[string]bool{}
	for id := range r.live {
		live[id] = true
	}
	r.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leases.lastSeq != seq {
		return events.Record{Type: retry}, nil
	}
	if len(o.waiting) > 0 {
		if data, holds, ok := r.reclaim(o, now); ok {
			rec, err = events.NewRecord(typeLeaseReclaimed, now, "admission:"+r.me(), "", data)
			rec.Subject = LeaseSubject(o.id)
			o.leases.inheriting = &inheritance{record: rec.ID, holds: holds}
			return rec, err
		}
	}
	plan := r.limiter.planLeases(o, r.me(), live)
	if len(plan.changes) == 0 {
		return rec, nil
	}
	typ, data := plan.record()
	rec, err = events.NewRecord(typ, now, "admission:"+r.me(), "", data)
	rec.Subject = LeaseSubject(o.id)
	return rec, err
}

// catchPause is how often a wait for a reader looks again.
const catchPause = time.Millisecond

// catchUp waits until the usage that is in the log now is counted here.
func (r *replica) catchUp(ctx context.Context, o *org) error {
	shard := r.config.Log.Shard(o.id)
	if shard >= len(r.limiter.past.shards) {
		return ErrNotReady
	}
	return r.limiter.readAll(ctx, shard)
}

// readAll waits until what is in a shard now has been read.
func (l *Limiter) readAll(ctx context.Context, shard int) error {
	end, _, err := l.past.log.UsageEnd(ctx, shard)
	if err != nil {
		return err
	}
	for l.past.shards[shard].read.Load() < end {
		if err := pause(ctx, catchPause); err != nil {
			return err
		}
	}
	return nil
}

// appliedMax is how long the record that was first may take to come from the log.
const appliedMax = 5 * time.Second

func (r *replica) applied(ctx context.Context, o *org, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, appliedMax)
	defer cancel()
	for {
		o.mu.Lock()
		last := o.leases.lastSeq
		o.mu.Unlock()
		if last != seq {
			return nil
		}
		if err := pause(ctx, catchPause); err != nil {
			return fmt.Errorf("wait for the ledger's reader: %w", err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
