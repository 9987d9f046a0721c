package admission

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// leaseBook is what an org's lease subject says: every replica's statement about
// every account that it has used. The caller of its methods holds the org's lock.
type leaseBook struct {
	lastSeq uint64
	stated  map[leaseKey]map[string]statement // by replica
	asked   bool                              // another replica misses something
	low     []*hold                           // whose accounts run low here

	inheriting *inheritance // on its way to the log
}

type leaseKey struct {
	scope  Scope
	id     uuid.UUID
	period periodIndex
}

// statement is what a replica says of itself; the next one replaces it.
type statement struct {
	allowance amount // it lets its spent + held reach this
	spent     amount // and of that so much is in the usage log already
	want      amount // it misses so much more; 0 nothing
	wantSeq   uint64 // since when
}

// leaseData is the data of lease.granted, lease.returned and lease.wanted.
type leaseData struct {
	Replica  string       `json:"replica"`
	Accounts []leaseState `json:"accounts"`
}

type leaseState struct {
	Scope     Scope           `json:"scope"`
	ID        uuid.UUID       `json:"id"`
	Period    periodIndex     `json:"period"` // year × 12 + month; -1 for a balance; of included usage that × 32 + day
	Allowance decimal.Decimal `json:"allowance"`
	Spent     decimal.Decimal `json:"spent"`
	Want      decimal.Decimal `json:"want"`
}

// reclaimData is the data of lease.reclaimed: what a replica that has gone really
// spent is in the usage log, and its statements no longer count. What may still
// be on its way is covered by new statements of the one who reclaims.
type reclaimData struct {
	Replica  string       `json:"replica"`
	By       string       `json:"by"`
	Accounts []leaseState `json:"accounts,omitempty"` // of By
}

func (b *leaseBook) apply(r events.Record, oldest periodIndex) (data leaseData, err error) {
	switch r.Type {
	case typeLeaseReclaimed:
		var d reclaimData
		if err := r.Into(&d); err != nil {
			return data, err
		}
		for _, by := range b.stated {
			delete(by, d.Replica)
		}
		data = leaseData{Replica: d.By, Accounts: d.Accounts}
		return data, b.state(data, r.Seq, oldest)
	case typeLeaseGranted, typeLeaseReturned, typeLeaseWanted:
	default:
		return data, nil
	}
	if err := r.Into(&data); err != nil {
		return data, err
	}
	return data, b.state(data, r.Seq, oldest)
}

// state takes note of what a replica states at a sequence.
func (b *leaseBook) state(data leaseData, seq uint64, oldest periodIndex) error {
	if b.stated == nil {
		b.stated = map[leaseKey]map[string]statement{}
	}
	for _, s := range data.Accounts {
		st, err := s.statement()
		if err != nil {
			return err
		}
		k := leaseKey{s.Scope, s.ID, s.Period}
		if b.stated[k] == nil {
			b.stated[k] = map[string]statement{}
		}
		if !st.want.isZero() {
			st.wantSeq = seq
			if old := b.stated[k][data.Replica]; !old.want.isZero() {
				st.wantSeq = old.wantSeq
			}
		}
		b.stated[k][data.Replica] = st
	}
	for k := range b.stated {
		if k.period != forever && k.period.month() < oldest {
			delete(b.stated, k)
		}
	}
	return nil
}

func (s leaseState) statement() (st statement, err error) {
	for _, f := range []struct {
		to   *amount
		from decimal.Decimal
	}{{&st.allowance, s.Allowance}, {&st.spent, s.Spent}, {&st.want, s.Want}} {
		if *f.to, err = amountOf(f.from); err != nil {
			return st, fmt.Errorf("account %s %s: %w", s.Scope, s.ID, err)
		}
	}
	return st, nil
}

// needed is what the waiting claims of an org miss of one account.
type needed struct {
	first amount // to let in the one that came first
	all   amount // to let in all
}

// change is a statement to be made, and where.
type change struct {
	key    leaseKey
	lease  *lease
	before amount // the allowance
	after  statement
}

// leasePlan works out what this replica has to say about one org's accounts.
type leasePlan struct {
	org     *org
	limiter *Limiter
	me      string
	live    map[string]bool
	since   map[string]uint64 // the oldest want of each replica on any account: who is first
	changes []change
}

// planLeases decides under the org's lock. Allowances that are lowered are lowered
// at once: nobody may use what is about to be given away. If the record does not
// make it, they stay so until the next one, which starts from there.
//
// The spend of the org must be known up to everything that the statements include,
// or what they have spent would look free.
func (l *Limiter) planLeases(o *org, me string, live map[string]bool) *leasePlan {
	p := &leasePlan{org: o, limiter: l, me: me, live: live, since: map[string]uint64{}}
	for _, by := range o.leases.stated {
		for replica, s := range by {
			if seq, ok := p.since[replica]; !s.want.isZero() && (!ok || s.wantSeq < seq) {
				p.since[replica] = s.wantSeq
			}
		}
	}
	needs := p.needs()
	keys := map[leaseKey]bool{}
	for k := range needs {
		keys[k] = true
	}
	for k, by := range o.leases.stated {
		for replica, s := range by {
			if !s.want.isZero() && (replica == me || live[replica]) {
				keys[k] = true
			}
		}
	}
	for k := range keys {
		p.consider(k, needs[k])
	}
	for _, c := range p.changes {
		c.lease.allowance = lesser(c.before, c.after.allowance)
	}
	return p
}

// needs adds up what the waiting claims miss, and what runs low.
func (p *leasePlan) needs() map[leaseKey]needed {
	needs := map[leaseKey]needed{}
	costs := map[leaseKey]amount{}
	look := func(h *hold, waits bool) {
		for i, a := range h.accounts {
			if a == nil || !a.limited {
				continue
			}
			m := a.month(h.in(i))
			if m == nil || m.lease == nil {
				continue
			}
			k := leaseKey{a.scope, a.id, h.in(i)}
			if !waits {
				if _, known := needs[k]; m.lease.asked && !known {
					needs[k] = needed{}
				}
				continue
			}
			costs[k] = costs[k].plus(h.bound(i))
			unused := m.lease.unused()
			if !unused.less(costs[k]) {
				continue
			}
			n, known := needs[k]
			if n.all = costs[k].minus(unused); !known || n.first.isZero() {
				n.first = n.all
			}
			needs[k] = n
		}
	}
	oldest := p.limiter.oldest(p.org)
	for _, w := range p.org.waiting {
		in := w.hold.open(oldest)
		if v, _ := w.hold.judge(&in); v != never {
			look(w.hold, true)
		}
	}
	for _, h := range p.org.leases.low {
		look(h, false)
	}
	p.org.leases.low = nil
	return needs
}

func (p *leasePlan) consider(k leaseKey, need needed) {
	a, err := p.org.leased(k)
	if err != nil || a == nil || !a.limited || a.uncounted {
		return
	}
	m := p.org.open(a, k.period, p.limiter.oldest(p.org))
	old, mine := p.org.leases.stated[k][p.me], m.lease
	low := mine.asked
	mine.asked = false
	free, ahead, next := p.survey(k, a, m)
	after := statement{allowance: mine.allowance, spent: mine.spent}
	available := free.minus(ahead)
	switch {
	case !need.first.isZero() && !available.less(need.first):
		after.allowance = mine.allowance.plus(p.chunk(available, need))
	case !need.first.isZero():
		after.want = need.first
	case low && (amount{}).less(available):
		after.allowance = mine.allowance.plus(p.chunk(available, need))
	}
	missing, asked := next.want.minus(free), !next.want.isZero()
	gives := asked && (amount{}).less(missing)
	if unused := mine.unused(); gives && (amount{}).less(unused) && !mine.allowance.less(after.allowance) {
		give := missing
		if need.first.isZero() {
			give = greater(give, unused.part(2))
		}
		after.allowance = mine.allowance.minus(lesser(give, unused))
	}
	// What is spent here, and not stated yet, is not free in the eyes of others.
	stale := asked && old.spent != after.spent && free.minus(after.spent.minus(old.spent)).less(next.want)
	if after.allowance != mine.allowance || after.allowance != old.allowance || after.want != old.want || stale {
		p.changes = append(p.changes, change{key: k, lease: mine, before: mine.allowance, after: after})
	}
}

// survey says what of an account nobody has spent or may spend, how much of it
// those before this replica miss, and what the first of them has stated.
//
// Who has missed anything of the org for longest goes before on every account: if
// each account had an order of its own, two could wait for each other.
func (p *leasePlan) survey(k leaseKey, a *account, m *month) (free, ahead amount, next statement) {
	free = a.limit.minus(m.spent).minus(m.lease.allowance.minus(m.lease.spent))
	mine, first := p.turnOf(p.me), uint64(math.MaxUint64)
	for replica, s := range p.org.leases.stated[k] {
		if replica == p.me {
			continue
		}
		free = free.minus(s.allowance.minus(s.spent))
		turn := p.turnOf(replica)
		if s.want.isZero() || !p.live[replica] || turn >= mine {
			continue
		}
		ahead = ahead.plus(s.want)
		if turn < first {
			next, first = s, turn
		}
	}
	return free, ahead, next
}

// turnOf is a replica's place in the line; who misses nothing comes last.
func (p *leasePlan) turnOf(replica string) uint64 {
	if seq, ok := p.since[replica]; ok {
		return seq
	}
	return math.MaxUint64
}

// chunk is how much to take of what is available: everything when alone, else what
// the waiting claims miss, up to an even part, and some in advance.
func (p *leasePlan) chunk(available amount, need needed) amount {
	n := len(p.live)
	if n <= 1 {
		return available
	}
	some := greater(lesser(need.all, available.part(n)), available.part(2*n))
	return lesser(greater(some, need.first), available)
}

// record is the plan as a type and data; the type says what mattered most.
func (p *leasePlan) record() (typ string, data leaseData) {
	typ, data.Replica = typeLeaseWanted, p.me
	slices.SortFunc(p.changes, func(x, y change) int { return strings.Compare(x.key.text(), y.key.text()) })
	for _, c := range p.changes {
		if c.before.less(c.after.allowance) {
			typ = typeLeaseGranted
		} else if c.after.allowance.less(c.before) && typ == typeLeaseWanted {
			typ = typeLeaseReturned
		}
		data.Accounts = append(data.Accounts, leaseState{Scope: c.key.scope, ID: c.key.id, Period: c.key.period,
			Allowance: c.after.allowance.decimal(), Spent: c.after.spent.decimal(), Want: c.after.want.decimal()})
	}
	return typ, data
}

func (k leaseKey) text() string { return fmt.Sprint(k.scope, k.id, k.period) }
