package admission

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/ledger"
)

// Included is what a segment of an org's billing period includes, if its plan
// turns away what is used past it.
type Included struct {
	First    ledger.Date // its first local date
	From, To time.Time   // the segment is [From, To)
	Blocks   bool        // else the rest says nothing
	Plan     string      // its code
	Limit    decimal.Decimal
	Unit     string // of Limit: UnitTokens, or a currency
	Seq      uint64 // of the ledger, up to which this was known
}

// UnitTokens is the unit of included tokens.
const UnitTokens = string(ledger.UnitTokens)

// included are the segments of an org some plan of which blocks, as far as they
// matter now. Everything is under the org's lock.
type included struct {
	needs    uint64 // ledger sequence that answers must know
	knew     uint64 // and what they knew when last asked
	sinceMS  int64  // from then on all usage that comes is counted here
	segments []*segment
}

// segment is an account for its one period. Its limit is a number of tokens, as
// whole units, or money. If its plan does not block it is no account.
type segment struct {
	account
	fromMS, toMS int64
	plan, unit   string
	// unread are requests settled here before the count began, and not in it: they
	// count when the log brings them.
	unread map[uuid.UUID]bool
}

// A segment's periodIndex is its first date; months are far below.
const (
	segmentBits  = 5
	firstSegment = periodIndex(1) << 16
)

func segmentOf(d ledger.Date) periodIndex {
	return periodIndex(d.Year*12+int(d.Month))<<segmentBits | periodIndex(d.Day)
}

// month is the calendar month that a period begins in: a segment is over before
// the end of the next one.
func (p periodIndex) month() periodIndex {
	if p >= firstSegment {
		return p >> segmentBits
	}
	return p
}

func (s Scope) included() bool { return s == ScopeIncludedTokens || s == ScopeIncludedAmount }

// tokenAmount is a number of tokens in the unit of their accounts.
func tokenAmount(n uint64) amount {
	hi, lo := bits.Mul64(n, tenTo[events.CostScale])
	return amount{int64(hi), lo} // below 2^104
}

// TermsChanged says that a record of the ledger changes what Config.Included
// answers, once that knows the record's sequence; blocks is whether it brings a plan
// that blocks. Call it before the answers change.
func (l *Limiter) TermsChanged(org uuid.UUID, seq uint64, blocks bool) {
	if l.config.Included == nil {
		return
	}
	o := l.org(org)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.included == nil && blocks {
		o.included = &included{}
	}
	if i := o.included; i != nil {
		i.needs = max(i.needs, seq)
	}
}

// at is the account that usage at an instant counts on, nil where no plan blocks
// and for what is over for good.
func (i *included) at(o *org, atMS int64) (*account, error) {
	if i.knew < i.needs {
		if err := i.refresh(o); err != nil {
			return nil, err
		}
	}
	if s := i.covering(atMS); s != nil {
		return s.counted(), nil
	}
	if atMS < o.limiter.config.Now().Add(-straddle).UnixMilli() {
		return nil, nil
	}
	s, err := i.open(o, atMS, nil)
	if err != nil {
		return nil, err
	}
	i.prune(o)
	i.attach(o)
	return s.counted(), nil
}

func (i *included) covering(atMS int64) *segment {
	for _, s := range i.segments {
		if s.fromMS <= atMS && atMS < s.toMS {
			return s
		}
	}
	return nil
}

func (s *segment) counted() *account {
	if s.limited {
		return &s.account
	}
	return nil
}

// refresh asks anew for the segments around now. One that begins as before, in the
// same unit, and is not about to end keeps its count.
func (i *included) refresh(o *org) error {
	now := o.limiter.config.Now()
	old, oldSince, untilMS := i.segments, i.sinceMS, now.Add(straddle).UnixMilli()
	i.segments, i.sinceMS, i.knew = nil, now.UnixMilli(), math.MaxUint64
	for atMS := now.Add(-straddle).UnixMilli(); atMS <= untilMS; {
		s, err := i.open(o, atMS, old)
		if err != nil {
			i.segments, i.sinceMS, i.knew = old, oldSince, 0
			return err
		}
		atMS = s.toMS
	}
	i.attach(o)
	if len(o.waiting) > 0 {
		o.limiter.letIn(o)
		o.limiter.poke(o)
	}
	return nil
}

// open asks for the segment of an instant and keeps it, with the count of one of
// old if that is the same.
func (i *included) open(o *org, atMS int64, old []*segment) (*segment, error) {
	in, err := o.limiter.config.Included(o.id, time.UnixMilli(atMS).UTC())
	if err != nil {
		return nil, fmt.Errorf("find what the plan of org %s includes: %w", o.id, err)
	}
	i.knew = min(i.knew, in.Seq)
	limit, err := amountUp(in.Limit)
	if err != nil {
		return nil, fmt.Errorf("what the plan of org %s includes: %w", o.id, err)
	}
	s := &segment{fromMS: in.From.UnixMilli(), toMS: in.To.UnixMilli()}
	if atMS < s.fromMS || s.toMS <= atMS {
		return nil, fmt.Errorf("what the plan of org %s includes: %s to %s does not hold the instant asked for", o.id, in.From, in.To)
	}
	s.scope, s.id, s.now.period = ScopeIncludedAmount, o.id, segmentOf(in.First)
	if in.Unit == UnitTokens {
		s.scope = ScopeIncludedTokens
	}
	soonMS := i.sinceMS + straddle.Milliseconds()
	if at := slices.IndexFunc(old, func(was *segment) bool {
		return was.limited && in.Blocks && was.scope == s.scope && was.fromMS == s.fromMS && (was.toMS == s.toMS || min(was.toMS, s.toMS) > soonMS)
	}); at >= 0 {
		was := old[at]
		was.toMS, s = s.toMS, was
	} else if s.limited = in.Blocks; s.limited {
		o.open(&s.account, s.now.period, 0)
		if s.fromMS < soonMS && o.limiter.past.log != nil {
			s.uncounted = true
			o.limiter.recounts.want(o)
		}
	}
	s.limit, s.plan, s.unit = limit, in.Plan, in.Unit
	i.segments = append(i.segments, s)
	return s, nil
}

// prune lets go of segments that are over.
func (i *included) prune(o *org) {
	beforeMS := o.limiter.config.Now().Add(-straddle).UnixMilli()
	i.segments = slices.DeleteFunc(i.segments, func(s *segment) bool { return s.toMS < beforeMS && s.now.held.isZero() })
}

// attach gives the requests on their way, and those that wait, to the segments
// they belong to.
func (i *included) attach(o *org) {
	for h := range o.holds.all() {
		if a := i.move(h); a != nil {
			a.now.hold(h.bound(atIncluded), h.mine)
		}
	}
	for _, w := range o.waiting {
		i.move(w.hold)
	}
}

// move gives a request to its segment, and returns that if it is another one than
// before.
func (i *included) move(h *hold) *account {
	s := i.covering(h.atMS)
	if s == nil || h.accounts[atOrg] == nil || h.accounts[atIncluded] == s.counted() { // sandbox usage counts nowhere
		return nil
	}
	h.accounts[atIncluded] = s.counted()
	return s.counted()
}

// leased is the account of a statement, nil when it is that of a segment which is
// not there any more.
func (o *org) leased(k leaseKey) (*account, error) {
	if !k.scope.included() {
		return o.find(k.scope, k.id)
	}
	if o.included != nil && k.id == o.id {
		for _, s := range o.included.segments {
			if s.limited && s.scope == k.scope && s.now.period == k.period {
				return &s.account, nil
			}
		}
	}
	return nil, nil
}

// segment is that of a request, nil if its plan does not block or it is over.
func (h *hold) segment() *segment {
	for _, s := range h.org.included.segments {
		if &s.account == h.accounts[atIncluded] {
			return s
		}
	}
	return nil
}

// resets is when the i-th account of a hold begins anew.
func (h *hold) resets(i int, month time.Time) time.Time {
	if i == atIncluded {
		if s := h.segment(); s != nil {
			return time.UnixMilli(s.toMS)
		}
	}
	return month
}

// usedUp is the refusal by included usage.
func (o *org) usedUp(h *hold, after time.Duration) *Refusal {
	s := h.segment()
	if s == nil || s.uncounted {
		return o.refuse(h.key, InFlight, ScopeOrg, time.Second) // its plan is changing now
	}
	r := o.refuse(h.key, UsedUp, ScopePlan, after)
	r.Included = &Included{From: time.UnixMilli(s.fromMS).UTC(), To: time.UnixMilli(s.toMS).UTC(), Blocks: true, Plan: s.plan,
		Limit: s.limit.decimal(), Unit: s.unit}
	return r
}
