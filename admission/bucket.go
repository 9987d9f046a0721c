package admission

import (
	"net/http"
	"strconv"
	"time"
)

// Rates are limits per minute; zero is none.
type Rates struct {
	RPM uint64 `json:"rpm,omitempty"` // requests
	TPM uint64 `json:"tpm,omitempty"` // tokens
}

// rateMax keeps a bucket's arithmetic inside 63 bits; a higher limit is no limit
// that anyone can reach.
const rateMax = 50_000_000_000

// unitsPerToken makes a bucket exact: in one microsecond a limit of n a minute
// gives back n units.
const unitsPerToken = 60_000_000

// bucket is a token bucket: it holds a minute's worth at most and fills evenly.
// In any window of length T at most limit + limit·T/minute is taken, and besides
// what requests from before the window gave back at their settlement.
//
// Its level falls below zero only by a settlement above its bound, and never
// further than by one such correction or one full bucket.
type bucket struct {
	limit  int64 // per minute; 0: no limit
	share  int64 // what of it this replica may give
	level  int64 // in units
	lastUS int64 // when level was right
}

// pace brings the bucket to now and to its limit. A raised limit or share fills up
// at its own pace: what comes back from a replica that has gone may have been used
// there a moment ago. A bucket that was never used began to fill at fromUS.
func (b *bucket) pace(limit, share, nowUS, fromUS int64) {
	if b.limit == 0 && limit != 0 {
		*b = bucket{limit: limit, share: share, lastUS: fromUS}
	}
	if limit == 0 {
		*b = bucket{}
		return
	}
	b.fill(nowUS)
	if b.limit != limit || b.share != share {
		b.limit, b.share = limit, share
		b.level = min(b.level, share*unitsPerToken)
	}
}

func (b *bucket) fill(nowUS int64) {
	elapsed := nowUS - b.lastUS
	if elapsed <= 0 {
		return // a clock that steps back fills nothing twice
	}
	b.lastUS = nowUS
	if b.share == 0 {
		return
	}
	full := b.share * unitsPerToken
	if untilFull := (full - b.level + b.share - 1) / b.share; elapsed >= untilFull {
		b.level = full
		return
	}
	b.level += b.share * elapsed
}

// lacks reports whether n cannot be taken now, and when it can: 0 is never.
func (b *bucket) lacks(n uint64) (bool, time.Duration) {
	switch {
	case b.limit == 0:
		return false, 0
	case n > uint64(b.share):
		return true, 0
	}
	short := int64(n)*unitsPerToken - b.level
	if short <= 0 {
		return false, 0
	}
	return true, time.Duration((short+b.share-1)/b.share) * time.Microsecond
}

func (b *bucket) take(n uint64) {
	if b.limit != 0 {
		b.level -= int64(n) * unitsPerToken
	}
}

// give returns what was reserved and not used.
func (b *bucket) give(n uint64) {
	if b.limit != 0 {
		n = min(n, uint64(b.share)*2)
		b.level = min(b.level+int64(n)*unitsPerToken, b.share*unitsPerToken)
	}
}

// charge takes what was used above the reservation.
func (b *bucket) charge(n uint64) {
	if b.limit != 0 {
		extra := int64(min(n, uint64(b.share))) * unitsPerToken
		b.level = max(b.level-extra, min(b.level, -extra))
	}
}

func (b *bucket) remaining() int64 { return max(b.level, 0) / unitsPerToken }

// untilFull is when nothing of the bucket will be in use.
func (b *bucket) untilFull() time.Duration {
	if b.share == 0 {
		return 0
	}
	return time.Duration((b.share*unitsPerToken-b.level+b.share-1)/b.share) * time.Microsecond
}

// rates are the two buckets of a key or a plan.
type rates struct{ requests, tokens bucket }

func (r *rates) pace(limits Rates, nowUS int64, s *split, salt byte) {
	rpm, tpm := int64(min(limits.RPM, rateMax)), int64(min(limits.TPM, rateMax))
	r.requests.pace(rpm, s.of(rpm, salt), nowUS, s.fromUS)
	r.tokens.pace(tpm, s.of(tpm, salt), nowUS, s.fromUS)
}

// settle corrects tokens that were reserved to those used.
func (r *rates) settle(reserved, used uint64) {
	if used <= reserved {
		r.tokens.give(reserved - used)
	} else {
		r.tokens.charge(used - reserved)
	}
}

// split is this replica's part of every rate limit: an even share, the odd ones
// going to other replicas for other keys. The shares add up to the limit.
type split struct {
	replicas, rank int64
	fromUS         int64 // when this replica's buckets began to fill
}

func (s *split) of(limit int64, salt byte) int64 {
	if s.replicas == 1 {
		return limit
	}
	share := limit / s.replicas
	if (s.rank+int64(salt))%s.replicas < limit%s.replicas {
		share++
	}
	return share
}

// headers sets what is tighter, the key's limit or the plan's.
func (r *rates) headers(plan *rates, h http.Header) {
	setHeaders(h, "Requests", tighter(&r.requests, &plan.requests))
	setHeaders(h, "Tokens", tighter(&r.tokens, &plan.tokens))
}

func tighter(a, b *bucket) *bucket {
	if a.limit == 0 || b.limit != 0 && b.remaining() < a.remaining() {
		return b
	}
	return a
}

func setHeaders(h http.Header, what string, b *bucket) {
	if b.limit == 0 {
		return
	}
	h.Set("X-Ratelimit-Limit-"+what, strconv.FormatInt(b.limit, 10))
	h.Set("X-Ratelimit-Remaining-"+what, strconv.FormatInt(b.remaining(), 10))
	h.Set("X-Ratelimit-Reset-"+what, roundUp(b.untilFull(), time.Millisecond).String())
}

func roundUp(d, unit time.Duration) time.Duration {
	return (d + unit - 1).Truncate(unit)
}
