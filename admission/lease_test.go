package admission

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/events"
	"aione/keys"
)

// leaseSim is several replicas on a ledger and a usage log in memory, each of which
// has read its own part of both. Nothing runs by itself: a test says who does what.
type leaseSim struct {
	t      failer
	ledger *memory
	usage  []events.Usage
	limits map[uuid.UUID]decimal.Decimal
	all    []*simReplica
	keys   []keys.Key
	clock  *clock
}

type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

type simReplica struct {
	*Limiter
	id     string
	dead   bool
	ledger int // records read
	usage  int // events read
	holds  []*hold
	waits  []*waiter
	orphan []*hold // on their way when it died
}

func newLeaseSim(t failer) *leaseSim {
	return &leaseSim{t: t, ledger: &memory{}, clock: newClock(), limits: map[uuid.UUID]decimal.Decimal{},
		keys: []keys.Key{keyOf(1, 1), keyOf(1, 2), keyOf(1, 3)}}
}

// budget sets a budget before any replica starts.
func (s *leaseSim) budget(scope Scope, id uuid.UUID, n int64) {
	d := decimal.NewFromInt(n)
	s.limits[id] = d
	org := s.keys[0].OrgID
	rec, _ := events.NewRecord(TypeBudgetSet, s.clock.now(), "test", "", BudgetSet{OrgID: org, Scope: scope, ID: id, Amount: &d})
	if _, err := s.ledger.Append(context.TODO(), events.Append{Subject: BudgetSubject(org), Record: rec, ExpectLast: uint64(len(s.ledger.records))}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *leaseSim) start(id string) *simReplica {
	l, err := New(Config{Zones: shanghai, Now: s.clock.now, Replica: &ReplicaConfig{ID: id, Log: struct{ ReplicaLog }{}, SweptAfter: time.Minute}})
	if err != nil {
		s.t.Fatal(err)
	}
	r := &simReplica{Limiter: l, id: id}
	l.ready.Store(true)
	l.following.Store(true)
	s.announce(typeReplicaJoined, id)
	s.read(r, len(s.ledger.records), len(s.usage))
	s.all = append(s.all, r)
	return r
}

func (s *leaseSim) announce(typ, id string) {
	last := uint64(0)
	for _, r := range s.ledger.records {
		if r.Subject == subjectReplica+id {
			last = r.Seq
		}
	}
	rec, _ := events.NewRecord(typ, s.clock.now(), "test", "", replicaData{id})
	if _, err := s.ledger.Append(context.TODO(), events.Append{Subject: subjectReplica + id, Record: rec, ExpectLast: last}); err != nil {
		s.t.Fatal(err)
	}
}

// read brings a replica so far in the two logs.
func (s *leaseSim) read(r *simReplica, ledger, usage int) {
	for ; r.ledger < ledger; r.ledger++ {
		if err := r.Apply(s.ledger.records[r.ledger]); err != nil {
			s.t.Fatal(err)
		}
	}
	for ; r.usage < usage; r.usage++ {
		if err := r.count(&s.usage[r.usage]); err != nil {
			s.t.Fatal(err)
		}
	}
	s.sort(r)
}

// sort looks which of the waiting have been decided.
func (s *leaseSim) sort(r *simReplica) {
	left := r.waits[:0]
	for _, w := range r.waits {
		select {
		case <-w.decided:
			if w.refusal == nil {
				r.holds = append(r.holds, w.hold)
			}
		default:
			left = append(left, w)
		}
	}
	r.waits = left
}

func (s *leaseSim) claim(r *simReplica, k keys.Key, cost decimal.Decimal) {
	c := claim(k, s.clock.now(), "0")
	amount, _ := amountOf(cost)
	o := r.org(k.OrgID)
	o.mu.Lock()
	defer o.mu.Unlock()
	h, w, err := r.reserve(o.key(c.Key.ID), &c, amount, s.clock.now())
	switch {
	case h != nil:
		r.holds = append(r.holds, h)
	case w != nil:
		r.waits = append(r.waits, w)
	case err == nil:
		s.t.Fatal("neither held nor waiting nor refused")
	}
}

func (s *leaseSim) publish(h *hold, cost decimal.Decimal) {
	k := keys.Key{OrgID: h.org.id, TeamID: h.accounts[atTeam].id, ID: h.accounts[atKey].id}
	s.usage = append(s.usage, usageOf(h.id, k, time.UnixMilli(h.atMS), cost))
}

// tend does what replica.tend does; between the decision and the record something
// else may happen.
func (s *leaseSim) tend(r *simReplica, between func()) (changed bool) {
	o := r.org(s.keys[0].OrgID)
	seq := o.leases.lastSeq
	s.read(r, r.ledger, len(s.usage))
	rec, err := r.replica.decide(o, seq)
	if err != nil {
		s.t.Fatal(err)
	}
	if rec.Type == "" || rec.Type == retry {
		return false
	}
	between()
	seqs, err := s.ledger.Append(context.TODO(), events.Append{Subject: rec.Subject, Record: rec, ExpectLast: seq})
	if err == nil {
		rec.Seq = seqs[0]
		if err := r.replica.applyLease(rec); err != nil {
			s.t.Fatal(err)
		}
	}
	s.sort(r)
	return true
}

// check adds up what all replicas hold and what the log says was spent.
func (s *leaseSim) check() {
	taken := map[uuid.UUID]amount{}
	add := func(a *account, cost amount) {
		if a != nil {
			taken[a.id] = taken[a.id].plus(cost)
		}
	}
	logged := map[uuid.UUID]bool{}
	for _, u := range s.usage {
		logged[u.ID] = true
		cost, _ := amountOf(u.Cost)
		for _, id := range []uuid.UUID{u.OrgID, u.TeamID, u.KeyID} {
			taken[id] = taken[id].plus(cost)
		}
	}
	for _, r := range s.all {
		for _, h := range append(append([]*hold{}, r.holds...), r.orphan...) {
			if !logged[h.id] {
				for _, a := range h.accounts[atOrg:] {
					add(a, h.cost)
				}
			}
		}
	}
	for id, limit := range s.limits {
		if taken[id].decimal().GreaterThan(limit) {
			s.t.Fatalf("%s taken of %s", taken[id].decimal(), limit)
		}
	}
}

// Replicas that read late, race, die and start again never let in more than the
// budgets allow together, and when all have read everything, what still waits
// cannot be let in.
func TestLeasesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newLeaseSim(t)
		org, budget := s.keys[0].OrgID, s.budget
		budget(ScopeOrg, org, rapid.Int64Range(5, 40).Draw(t, "org"))
		if rapid.Bool().Draw(t, "teams too") {
			budget(ScopeTeam, s.keys[0].TeamID, rapid.Int64Range(3, 20).Draw(t, "team"))
			budget(ScopeKey, s.keys[1].ID, rapid.Int64Range(3, 20).Draw(t, "key"))
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "replicas") {
			s.start(fmt.Sprint("r", i))
		}
		live := func() []*simReplica {
			var rs []*simReplica
			for _, r := range s.all {
				if !r.dead {
					rs = append(rs, r)
				}
			}
			return rs
		}
		settle := func(t *rapid.T, r *simReplica) {
			if len(r.holds) == 0 {
				return
			}
			i := rapid.IntRange(0, len(r.holds)-1).Draw(t, "hold")
			h := r.holds[i]
			r.holds = append(r.holds[:i:i], r.holds[i+1:]...)
			cost := decimal.New(rapid.Int64Range(0, h.cost.decimal().Shift(1).IntPart()).Draw(t, "cost"), -1)
			s.publish(h, cost)
			h.Settle(1, cost)
			s.sort(r)
		}
		act := func(t *rapid.T) {
			r := rapid.SampledFrom(live()).Draw(t, "replica")
			switch rapid.IntRange(0, 4).Draw(t, "act") {
			case 0, 1:
				s.claim(r, rapid.SampledFrom(s.keys).Draw(t, "key"), decimal.NewFromInt(rapid.Int64Range(0, 4).Draw(t, "bound")))
			case 2:
				settle(t, r)
			case 3:
				s.read(r, rapid.IntRange(r.ledger, len(s.ledger.records)).Draw(t, "ledger"), r.usage)
			case 4:
				s.read(r, r.ledger, rapid.IntRange(r.usage, len(s.usage)).Draw(t, "usage"))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"act":  act,
			"act2": act,
			"tend": func(t *rapid.T) {
				r := rapid.SampledFrom(live()).Draw(t, "replica")
				s.tend(r, func() {
					for range rapid.IntRange(0, 2).Draw(t, "meanwhile") {
						act(t)
						if other := rapid.SampledFrom(live()).Draw(t, "other"); other != r {
							s.tend(other, func() {})
						}
					}
				})
			},
			"die": func(t *rapid.T) {
				if len(s.all) < 6 && rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					r := rapid.SampledFrom(live()).Draw(t, "replica")
					r.dead, r.orphan, r.holds, r.waits = true, r.holds, nil, nil
					s.start(fmt.Sprint("r", len(s.all)))
					s.announce(typeReplicaLeft, r.id)
				}
			},
			"sweep": func(t *rapid.T) {
				for _, r := range s.all {
					for _, h := range r.orphan {
						s.publish(h, h.cost.decimal())
					}
					r.orphan = nil
				}
				s.clock.add(time.Minute) // more than SweptAfter: all that died before is settled
			},
			"": func(*rapid.T) { s.check() },
		})
		s.comesToRest()
	})
}

// What is about to be given back cannot be used between the decision and its record.
func TestWhatIsGivenBackIsNotUsed(t *testing.T) {
	s := newLeaseSim(t)
	s.budget(ScopeOrg, s.keys[0].OrgID, 10)
	one, two := s.start("one"), s.start("two")
	s.read(one, len(s.ledger.records), 0)
	idle := func() {}
	s.claim(one, s.keys[0], decimal.NewFromInt(2))
	s.tend(one, idle) // takes some in advance
	s.claim(two, s.keys[0], decimal.NewFromInt(8))
	s.read(two, len(s.ledger.records), 0)
	s.tend(two, idle) // misses some of it
	s.read(one, len(s.ledger.records), 0)
	s.tend(one, func() { s.claim(one, s.keys[0], decimal.New(5, -1)) })
	s.read(two, len(s.ledger.records), 0)
	s.tend(two, idle)
	s.check()
	if len(one.holds) != 1 || len(two.holds) != 1 {
		t.Fatalf("%d and %d are let in, want one each", len(one.holds), len(two.holds))
	}
	s.settleAll(one)
	s.comesToRest()
}

func (s *leaseSim) settleAll(r *simReplica) {
	for len(r.holds) > 0 {
		h := r.holds[0]
		r.holds = r.holds[1:]
		s.publish(h, h.cost.decimal())
		h.Settle(1, h.cost.decimal())
		s.sort(r)
	}
}

// comesToRest lets every replica do all it can, then looks at what is left.
func (s *leaseSim) comesToRest() {
	for _, r := range s.all {
		for _, h := range r.orphan {
			s.publish(h, h.cost.decimal())
		}
		r.orphan = nil
	}
	s.clock.add(time.Hour)
	for round := 0; ; round++ {
		if round > 500 {
			s.t.Fatal("the replicas never agree")
		}
		busy := false
		for _, r := range s.all {
			if r.dead {
				continue
			}
			s.read(r, len(s.ledger.records), len(s.usage))
			busy = s.tend(r, func() {}) || busy
			for len(r.holds) > 0 {
				busy = true
				h := r.holds[0]
				r.holds = r.holds[1:]
				cost := h.cost.part(2).decimal()
				s.publish(h, cost)
				h.Settle(1, cost)
				s.sort(r)
			}
			s.check()
		}
		if !busy {
			break
		}
	}
	for _, r := range s.all {
		if len(r.waits) > 0 {
			s.t.Fatalf("%d claims wait at %s though nothing is on its way; the first for %s", len(r.waits), r.id, r.waits[0].hold.cost.decimal())
		}
	}
}
