package admission

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/keys"
)

// Zones says in which time zone an org's months are: billing.Book.
type Zones interface {
	Zone(org uuid.UUID) (*time.Location, error)
}

// Config of a Limiter. Zones and Now are required.
type Config struct {
	Zones Zones
	// PlanRates are those of an org's plan at an instant; nil is none. Of these and
	// those of LimitsSet the lower one counts.
	PlanRates func(org uuid.UUID, at time.Time) Rates
	// Included is the segment of an org's billing period at an instant; nil: no plan
	// blocks. It is asked after TermsChanged has said that there is something to ask.
	Included func(org uuid.UUID, at time.Time) (Included, error)
	// Now is the gateway's clock. Rates follow it by its monotonic reading.
	Now func() time.Time

	// Wait bounds how long a claim waits for running requests to settle below their
	// bounds. Default 30 s.
	Wait time.Duration
	// WaitingMax bounds the claims of one org that wait at once. Default 4096.
	WaitingMax int

	// Replica shares the accounts with other processes; nil means that this process
	// is the only one that lets requests in.
	Replica *ReplicaConfig

	Logger *slog.Logger // default slog.Default()
}

// stripes is how many locks stand before the orgs.
const stripes = 64

// Limiter decides whether requests may be let in. It is safe for concurrent use.
type Limiter struct {
	config Config
	logger *slog.Logger
	epoch  time.Time

	stripes [stripes]struct {
		mu   sync.RWMutex
		orgs map[uuid.UUID]*org
	}

	ready     atomic.Bool // Restore has succeeded
	following atomic.Bool // the usage log is read, so settlements come back
	split     atomic.Pointer[split]
	replica   *replica // nil when alone
	past      past
	recounts  recounts
}

// New makes a Limiter. Feed it the ledger's records by Apply, then call Restore.
func New(c Config) (*Limiter, error) {
	if c.Zones == nil || c.Now == nil {
		return nil, errors.New("admission: Zones and Now are required")
	}
	if c.Wait <= 0 {
		c.Wait = 30 * time.Second
	}
	if c.WaitingMax <= 0 {
		c.WaitingMax = 4096
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	l := &Limiter{config: c, logger: c.Logger, epoch: c.Now()}
	for i := range l.stripes {
		l.stripes[i].orgs = map[uuid.UUID]*org{}
	}
	l.recounts.wake = make(chan struct{}, 1)
	l.split.Store(&split{replicas: 1, fromUS: -int64(time.Hour / time.Microsecond)})
	if c.Replica != nil {
		r, err := newReplica(l, *c.Replica)
		if err != nil {
			return nil, err
		}
		l.replica = r
	}
	return l, nil
}

// Ready is nil while requests may be let in, else ErrNotReady or ErrFenced.
func (l *Limiter) Ready() error { return l.readyAt(l.config.Now()) }

func (l *Limiter) readyAt(now time.Time) error {
	switch {
	case !l.ready.Load():
		return ErrNotReady
	case l.replica != nil && !l.replica.validAt(now):
		return ErrFenced
	}
	return nil
}

func (l *Limiter) nowUS() int64 { return l.config.Now().Sub(l.epoch).Microseconds() }

func (l *Limiter) org(id uuid.UUID) *org {
	s := &l.stripes[binary.LittleEndian.Uint64(id[8:])%stripes]
	s.mu.RLock()
	o := s.orgs[id]
	s.mu.RUnlock()
	if o != nil {
		return o
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o = s.orgs[id]; o == nil {
		o = newOrg(id, l)
		o.shared = l.replica != nil
		s.orgs[id] = o
	}
	return o
}

func (l *Limiter) eachOrg(f func(o *org)) {
	for i := range l.stripes {
		s := &l.stripes[i]
		s.mu.RLock()
		orgs := make([]*org, 0, len(s.orgs))
		for _, o := range s.orgs {
			orgs = append(orgs, o)
		}
		s.mu.RUnlock()
		for _, o := range orgs {
			f(o)
		}
	}
}

// oldest is the first month of an org that can still matter: the one before now's.
func (l *Limiter) oldest(o *org) periodIndex {
	p, err := o.period(l.config.Now())
	if err != nil {
		return 0
	}
	return p.index - 1
}

// Reserve takes the claim's bound from every limit and account that applies, all
// or none. A refusal is a *Refusal; another error is ErrInvalidClaim, ErrNotReady,
// ErrFenced, or ctx's.
//
// A claim that does not fit beside the requests on their way, but would fit if
// they cost nothing, waits for them up to Config.Wait, in turn.
func (l *Limiter) Reserve(ctx context.Context, c Claim) (Hold, error) {
	cost, err := c.check()
	if err != nil {
		return nil, err
	}
	now := c.Now
	if now.IsZero() {
		now = l.config.Now()
	}
	if err := l.readyAt(now); err != nil {
		return nil, err
	}
	m := l.memberOf(c.Key)
	m.org.mu.Lock()
	h, w, err := l.reserve(m, &c, cost, now)
	m.org.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if w != nil {
		return l.await(ctx, w)
	}
	return h, nil
}

// memberOf is the member that a key is, mostly without a lookup: the key remembers
// it. A member is never replaced.
func (l *Limiter) memberOf(k *keys.Key) *member {
	if k.Memo != nil {
		if m, ok := k.Memo.Load().(*member); ok && m.org.limiter == l {
			return m
		}
	}
	o := l.org(k.OrgID)
	o.mu.Lock()
	m := o.key(k.ID)
	o.mu.Unlock()
	if k.Memo != nil {
		k.Memo.Store(m)
	}
	return m
}

// reserve decides under the org's lock: a hold, a waiter, or an error.
func (l *Limiter) reserve(key *member, c *Claim, cost amount, now time.Time) (*hold, *waiter, error) {
	o, atMS := key.org, c.At.UnixMilli()
	p, err := o.period(c.At)
	if err != nil {
		return nil, nil, err
	}
	current, err := o.period(now)
	if err != nil {
		return nil, nil, err
	}
	if p.index < current.index-1 || p.index > current.index+1 {
		return nil, nil, fmt.Errorf("%w: its time %s is not this month's", ErrInvalidClaim, c.At)
	}
	if o.holds.get(c.RequestID) != nil {
		return nil, nil, fmt.Errorf("%w: request %s is in flight", ErrInvalidClaim, c.RequestID)
	}
	nowUS := now.Sub(l.epoch).Microseconds()
	l.pace(o, key, Rates{RPM: c.Key.RPMLimit, TPM: c.Key.TPMLimit}, now)
	if r := o.overRate(key, c.Tokens); r != nil {
		return nil, nil, r
	}
	h := &hold{org: o, key: key, mine: true, id: c.RequestID, period: p.index, cost: cost, tokens: c.Tokens, atMS: atMS, sinceUS: nowUS}
	if !c.Key.Sandbox {
		h.accounts = claimed{atOrg: &o.budget, atTeam: o.teamOf(key, c.Key.TeamID), atKey: &key.account}
		if o.counts(atMS) {
			h.accounts[atBalance] = &o.balance
		}
		if o.included != nil {
			if h.accounts[atIncluded], err = o.included.at(o, atMS); err != nil {
				return nil, nil, err
			}
		}
	}
	in := h.open(current.index - 1)
	v, at := h.judge(&in)
	switch {
	case v == never:
		return nil, nil, o.poor(h, at, h.resets(at, time.UnixMilli(p.toMS)).Sub(now))
	case v != fits || h.behind():
		w, err := l.enqueue(h, &in, at, time.UnixMilli(p.toMS))
		return nil, w, err
	}
	h.take(&in)
	h.takeRates()
	if r := l.replica; r != nil {
		r.refillAhead(h, &in)
	}
	return h, nil, nil
}

// pace brings the buckets that a request meets to now.
func (l *Limiter) pace(o *org, m *member, own Rates, now time.Time) {
	s, nowUS := l.split.Load(), now.Sub(l.epoch).Microseconds()
	m.rates.pace(own, nowUS, s, m.id[15])
	if o.ratesUntilUS <= nowUS {
		o.inForce, o.ratesUntilUS = l.ratesOf(o, now), nowUS+ratesGoodUS
	}
	o.plan.pace(o.inForce, nowUS, s, o.id[15])
}

// ratesGoodUS is how long an org's limits are taken to be as they were.
const ratesGoodUS = 200_000

// ratesOf are the limits of an org at an instant: its plan's and its own, of each
// the lower. The caller holds the org's lock.
func (l *Limiter) ratesOf(o *org, at time.Time) Rates {
	if l.config.PlanRates == nil {
		return o.rates
	}
	plan := l.config.PlanRates(o.id, at)
	return Rates{RPM: lowerLimit(plan.RPM, o.rates.RPM), TPM: lowerLimit(plan.TPM, o.rates.TPM)}
}

// lowerLimit is the lower of two limits, of which 0 is none.
func lowerLimit(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// overRate is the refusal by a rate limit, if any.
func (o *org) overRate(key *member, tokens uint64) *Refusal {
	for _, try := range [...]struct {
		b     *bucket
		n     uint64
		kind  RefusalKind
		scope Scope
	}{
		{&key.requests, 1, RateRequests, ScopeKey}, {&o.plan.requests, 1, RateRequests, ScopePlan},
		{&key.tokens, tokens, RateTokens, ScopeKey}, {&o.plan.tokens, tokens, RateTokens, ScopePlan},
	} {
		if lacks, after := try.b.lacks(try.n); lacks {
			return o.refuse(key, try.kind, try.scope, after)
		}
	}
	return nil
}

func (h *hold) takeRates() {
	for _, r := range [...]*rates{&h.key.rates, &h.org.plan} {
		r.requests.take(1)
		r.tokens.take(h.tokens)
	}
}

// poor is the refusal by the i-th account of a hold.
func (o *org) poor(h *hold, i int, untilReset time.Duration) *Refusal {
	switch untilReset = max(untilReset, time.Millisecond); i {
	case atBalance:
		return o.refuse(h.key, Balance, ScopeOrg, 0) // only a payment helps
	case atIncluded:
		return o.usedUp(h, untilReset)
	}
	return o.refuse(h.key, Budget, h.accounts[i].scope, untilReset)
}

func (o *org) refuse(key *member, kind RefusalKind, scope Scope, after time.Duration) *Refusal {
	r := &Refusal{Kind: kind, RetryAfter: after, Scope: string(scope), Header: http.Header{}}
	key.rates.headers(&o.plan, r.Header)
	if after > 0 {
		r.Header.Set("Retry-After", fmt.Sprint(int64(roundUp(after, time.Second)/time.Second)))
	}
	return r
}

// Settle implements Hold.
func (h *hold) Settle(tokens uint64, cost decimal.Decimal) {
	exact, err := amountUp(cost)
	if err != nil || exact.negative() {
		// The events package lets no such cost into the log. The bound stays: the usage
		// log will settle it.
		h.org.limiter.logger.Error("a request is settled at a cost without measure", "request_id", h.id, "cost", cost)
		return
	}
	h.org.mu.Lock()
	defer h.org.mu.Unlock()
	if h.done {
		return // the usage log was faster
	}
	if h.org.limiter.following.Load() {
		h.org.unread[h.id] = h.org.limiter.nowUS()
	}
	h.correct(tokens)
	h.settle(exact, tokens)
}

// correct settles the rates. The buckets are as of the last request, which is
// enough to give back or to charge.
func (h *hold) correct(tokens uint64) {
	if h.key != nil {
		nowUS := h.org.limiter.nowUS()
		for _, r := range [...]*rates{&h.key.rates, &h.org.plan} {
			r.tokens.fill(nowUS)
			r.settle(h.tokens, tokens)
		}
	}
}

// Headers implements Hold.
func (h *hold) Headers(header http.Header) {
	h.org.mu.Lock()
	defer h.org.mu.Unlock()
	if h.key == nil {
		return
	}
	nowUS := h.org.limiter.nowUS()
	for _, r := range [...]*rates{&h.key.rates, &h.org.plan} {
		r.requests.fill(nowUS)
		r.tokens.fill(nowUS)
	}
	h.key.rates.headers(&h.org.plan, header)
}
