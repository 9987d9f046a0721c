package admission

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"aione/events"
)

// replicaData is the data of replica.joined and replica.left.
type replicaData struct {
	Replica string `json:"replica"`
}

var replicaForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// baseOf is the name of the process that an incarnation of it is one of.
func baseOf(id string) string {
	base, _, _ := strings.Cut(id, "_")
	return base
}

func (r *replica) subject(id string) string { return subjectReplica + id }

// join takes this replica's place and waits until the ledger's reader shows it.
func (r *replica) join(ctx context.Context) error {
	me, joined := r.me(), make(chan struct{})
	r.mu.Lock()
	r.joined = joined
	r.mu.Unlock()
	lease, err := r.config.Log.TryLease(ctx, r.place(me))
	if err != nil {
		return fmt.Errorf("join the replicas: %w", err)
	}
	if err := r.announce(ctx, typeReplicaJoined, me, 0); err != nil {
		return errors.Join(fmt.Errorf("join the replicas: %w", err), lease.Release(context.WithoutCancel(ctx)))
	}
	select {
	case <-joined:
	case <-lease.Lost():
		return ErrFenced
	case <-ctx.Done():
		return ctx.Err()
	}
	r.presence.Store(lease)
	r.countOut(ctx)
	return nil
}

// countOut tells the others which replicas have ended for certain, so that they
// need not find out by themselves.
func (r *replica) countOut(ctx context.Context) {
	r.mu.Lock()
	ended := map[string]uint64{}
	for id, seq := range r.live {
		if r.hasEnded(id) {
			ended[id] = seq
		}
	}
	r.mu.Unlock()
	for id, joined := range ended {
		if err := r.announce(ctx, typeReplicaLeft, id, joined); err != nil && !errors.Is(err, events.ErrConflict) {
			r.limiter.logger.Warn("a replica that has ended cannot be counted out now", "replica", id, "error", err)
		}
	}
}

// again makes this replica another one that holds nothing. Requests on their way
// stay covered by what the old one has stated, until the new one inherits them.
func (r *replica) again() {
	r.presence.Store(nil) // first: nothing is let in until the next join
	old := r.me()
	r.places++
	next := fmt.Sprintf("%s_%d", r.config.ID, r.places)
	r.id.Store(&next) // before the orgs: a late statement of the old one must not be adopted
	r.gone.Store(false)
	r.limiter.eachOrg(func(o *org) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.disown()
	})
	r.mu.Lock()
	r.ended[old] = true
	r.mu.Unlock()
}

// ReplicaID is the first name of this replica; should it lose its place it takes
// others, as ID_2.
func (l *Limiter) ReplicaID() string {
	if l.replica == nil {
		return ""
	}
	return l.replica.config.ID
}

// hasEnded reports whether a replica certainly lets nothing in any more. The caller
// holds r.mu.
func (r *replica) hasEnded(id string) bool { return r.ended[id] || r.before[baseOf(id)] }

// Succeed says that the processes of earlier replicas have ended for certain, so
// that nothing of theirs is on its way but what is in the log: this process took
// their place on the machine, say. ids are those of their ReplicaConfig. What they were allowed is taken over at once; of
// others it is only when they count as swept. Call it before Run.
func (l *Limiter) Succeed(ids ...string) {
	if l.replica == nil {
		return
	}
	l.replica.mu.Lock()
	defer l.replica.mu.Unlock()
	for _, id := range ids {
		l.replica.before[id] = true
	}
}

func (r *replica) place(id string) events.LeaseOptions {
	return events.LeaseOptions{Name: "admission-" + id, Holder: r.me(), TTL: r.config.TTL, Now: r.config.Now}
}

func (r *replica) announce(ctx context.Context, typ, id string, last uint64) error {
	rec, err := events.NewRecord(typ, r.limiter.config.Now(), "admission:"+r.me(), "", replicaData{Replica: id})
	if err != nil {
		return err
	}
	_, err = r.config.Log.Append(ctx, events.Append{Subject: r.subject(id), Record: rec, ExpectLast: last})
	return err
}

// applyReplica folds a replica's coming or going.
func (r *replica) applyReplica(rec events.Record) error {
	var d replicaData
	if err := rec.Into(&d); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	me := d.Replica == r.me()
	fromUS := r.limiter.split.Load().fromUS
	switch rec.Type {
	case typeReplicaJoined:
		if r.live[d.Replica] != 0 {
			return nil
		}
		if me && len(r.live) > 0 {
			// The others give as before until they have read this record: begin with
			// empty buckets, a little later.
			fromUS = r.limiter.nowUS() + time.Second.Microseconds()
		}
		r.live[d.Replica] = rec.Seq
		if me && r.joined != nil {
			defer close(r.joined)
		}
	case typeReplicaLeft:
		delete(r.live, d.Replica)
		r.left[d.Replica] = rec.At
		if me {
			r.gone.Store(true)
		}
	}
	ids := make([]string, 0, len(r.live))
	for id := range r.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	rank := slices.Index(ids, r.me())
	if rank >= 0 {
		r.limiter.split.Store(&split{replicas: int64(len(ids)), rank: int64(rank), fromUS: fromUS})
	}
	return nil
}

// probe declares replicas dead whose place is free: holding it, they cannot renew
// it any more.
func (r *replica) probe(ctx context.Context) {
	r.mu.Lock()
	others := map[string]uint64{}
	for id, seq := range r.live {
		if id != r.me() {
			others[id] = seq
		}
	}
	r.mu.Unlock()
	for id, joined := range others {
		lease, err := r.config.Log.TryLease(ctx, r.place(id))
		if err != nil {
			continue // alive, or nobody knows
		}
		err = r.announce(ctx, typeReplicaLeft, id, joined)
		if err != nil && !errors.Is(err, events.ErrConflict) {
			r.limiter.logger.Warn("a dead replica cannot be counted out", "replica", id, "error", err)
		}
		if err := lease.Release(ctx); err != nil {
			r.limiter.logger.Warn("the place of a dead replica stays taken", "replica", id, "error", err)
		}
	}
}

// Leave gives back what this replica holds and its place. Call it when no request
// is on its way any more and before Run is stopped; without it the others wait
// until the replica counts as dead and its requests as swept. It is idempotent.
func (l *Limiter) Leave(ctx context.Context) error {
	r := l.replica
	if r == nil || r.leaving.Swap(true) || r.presence.Load() == nil || r.gone.Swap(true) {
		return nil
	}
	var errs []error
	l.eachOrg(func(o *org) { errs = append(errs, r.giveAll(ctx, o)) })
	r.mu.Lock()
	joined := r.live[r.me()]
	r.mu.Unlock()
	errs = append(errs, r.announce(ctx, typeReplicaLeft, r.me(), joined), r.presence.Load().Release(ctx))
	return errors.Join(errs...)
}

// giveAll lowers every allowance on an org's accounts to what is used.
func (r *replica) giveAll(ctx context.Context, o *org) error {
	for {
		o.mu.Lock()
		seq, plan := o.leases.lastSeq, &leasePlan{org: o, limiter: r.limiter, me: r.me()}
		for k, by := range o.leases.stated {
			old, ok := by[r.me()]
			a, err := o.leased(k)
			if !ok || err != nil || a == nil {
				continue
			}
			if m := a.month(k.period); m != nil && m.lease != nil {
				now := statement{allowance: m.lease.spent.plus(m.lease.held), spent: m.lease.spent}
				if old.allowance != now.allowance || old.spent != now.spent || !old.want.isZero() {
					plan.changes = append(plan.changes, change{key: k, lease: m.lease, before: m.lease.allowance, after: now})
					m.lease.allowance = now.allowance
				}
			}
		}
		o.mu.Unlock()
		if len(plan.changes) == 0 {
			return nil
		}
		typ, data := plan.record()
		rec, err := events.NewRecord(typ, r.limiter.config.Now(), "admission:"+r.me(), "leaves", data)
		if err != nil {
			return err
		}
		_, err = r.config.Log.Append(ctx, events.Append{Subject: LeaseSubject(o.id), Record: rec, ExpectLast: seq})
		if !errors.Is(err, events.ErrConflict) {
			return err
		}
		if err := r.applied(ctx, o, seq); err != nil {
			return err
		}
	}
}
