package admission

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aione/keys"
)

func rated(k keys.Key, r Rates) keys.Key {
	k.RPMLimit, k.TPMLimit = r.RPM, r.TPM
	return k
}

func TestRequestsPerMinute(t *testing.T) {
	b := newBox(t)
	k := keyOf(1, 1)
	k.RPMLimit = 3
	for range 3 {
		b.reserve(claim(k, start, "0"))
	}
	r := b.refused(claim(k, start, "0"), RateRequests, "key")
	if r.RetryAfter != 20*time.Second || r.Header.Get("Retry-After") != "20" {
		t.Fatalf("retry after %s, %s", r.RetryAfter, r.Header.Get("Retry-After"))
	}
	for name, want := range map[string]string{"x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0s", "x-ratelimit-limit-tokens": ""} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	b.clock.add(20*time.Second - time.Microsecond)
	b.refused(claim(k, start, "0"), RateRequests, "key")
	b.clock.add(time.Microsecond)
	b.reserve(claim(k, start, "0"))
	b.clock.add(-time.Hour) // a clock that steps back gives nothing
	b.refused(claim(k, start, "0"), RateRequests, "key")
}

// A claim that brings the time is judged by it, not by the clock.
func TestClaimBringsTheTime(t *testing.T) {
	b := newBox(t)
	k := rated(keyOf(1, 1), Rates{RPM: 1})
	b.reserve(claim(k, start, "0"))
	later := claim(k, start, "0")
	later.Now = b.clock.now().Add(time.Minute - time.Microsecond)
	b.refused(later, RateRequests, "key")
	later.Now = later.Now.Add(time.Microsecond)
	b.reserve(later)
}

func TestTokensAreReservedAndCorrected(t *testing.T) {
	b := newBox(t)
	k := rated(keyOf(1, 1), Rates{TPM: 1000})
	big := claim(k, start, "0")
	big.Tokens = 1001
	if r := b.refused(big, RateTokens, "key"); r.RetryAfter != 0 || r.Header.Get("Retry-After") != "" {
		t.Errorf("a request larger than the limit never fits, but is told %s", r.RetryAfter)
	}
	left := func(want int) {
		t.Helper()
		h := http.Header{}
		b.key(k).headers(&b.org(k.OrgID).plan, h)
		if got := h.Get("x-ratelimit-remaining-tokens"); got != strconv.Itoa(want) {
			t.Fatalf("%s tokens remain, want %d", got, want)
		}
	}
	c := claim(k, start, "0")
	c.Tokens = 900
	h := b.reserve(c)
	left(100)
	h.Settle(200, dec("0"))
	left(800)
	over := claim(k, start, "0")
	over.Tokens = 100
	h = b.reserve(over)
	h.Settle(5000, dec("0")) // far above its bound
	left(0)
	r := b.refused(over, RateTokens, "key")
	if r.RetryAfter > time.Minute+6*time.Second {
		t.Errorf("one correction costs at most one full bucket, but the wait is %s", r.RetryAfter)
	}
}

func (b *box) key(k keys.Key) *member { return b.org(k.OrgID).key(k.ID) }

func TestPlanLimitsAllKeysTogether(t *testing.T) {
	b := newBox(t)
	if err := b.SetLimits(t.Context(), named("org", 1), Rates{RPM: 2, TPM: 250}, b.by); err != nil {
		t.Fatal(err)
	}
	h := b.reserve(claim(keyOf(1, 1), start, "0"))
	b.reserve(claim(keyOf(1, 2), start, "0"))
	b.refused(claim(keyOf(1, 3), start, "0"), RateRequests, "plan")
	b.reserve(claim(keyOf(2, 1), start, "0"))
	got := http.Header{}
	h.Headers(got)
	if got.Get("x-ratelimit-remaining-tokens") != "50" || got.Get("x-ratelimit-reset-tokens") != "48s" {
		t.Fatal(got)
	}
	if err := b.SetLimits(t.Context(), named("org", 1), Rates{}, b.by); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		b.reserve(claim(keyOf(1, 1), start, "0"))
	}
}

// A refusal by money gives the rates back.
func TestRefusedByMoneyTakesNoRate(t *testing.T) {
	b := newBox(t, func(c *Config) { c.Wait = time.Millisecond })
	k := rated(keyOf(1, 1), Rates{RPM: 10, TPM: 1000})
	b.budget(1, ScopeKey, k.ID, "1")
	b.reserve(claim(k, start, "1"))
	for range 50 {
		b.refused(claim(k, start, "0.5"), Budget, "key") // after a wait
		b.refused(claim(k, start, "2"), Budget, "key")   // at once
	}
	h := http.Header{}
	b.key(k).headers(&b.org(k.OrgID).plan, h)
	if h.Get("x-ratelimit-remaining-requests") != "9" || h.Get("x-ratelimit-remaining-tokens") != "900" {
		t.Fatal(h)
	}
}

// The bucket is what its comment says: never more in any window than a full bucket
// and what flows in, and what is refused fits exactly when it was said to.
func TestBucketProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 1000).Draw(t, "limit")
		var b bucket
		nowUS := int64(0)
		b.pace(limit, limit, nowUS, -2*60_000_000)
		type taken struct {
			atUS int64
			n    uint64
		}
		var all []taken
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			nowUS += rapid.Int64Range(0, 90_000_000).Draw(t, "pass")
			b.pace(limit, limit, nowUS, 0)
			n := rapid.Uint64Range(0, uint64(limit)+1).Draw(t, "n")
			lacks, after := b.lacks(n)
			switch {
			case lacks && after == 0:
				if n <= uint64(limit) {
					t.Fatalf("%d of %d is said never to fit", n, limit)
				}
			case lacks:
				later := b
				later.fill(nowUS + after.Microseconds())
				if short, _ := later.lacks(n); short {
					t.Fatalf("%d does not fit after %s as promised", n, after)
				}
				sooner := b
				sooner.fill(nowUS + after.Microseconds() - 1)
				if short, _ := sooner.lacks(n); !short {
					t.Fatalf("%d fits before %s already", n, after)
				}
			default:
				b.take(n)
				all = append(all, taken{nowUS, n})
			}
			if b.level < 0 || b.level > limit*unitsPerToken {
				t.Fatalf("level %d", b.level)
			}
			full := b
			full.fill(nowUS + b.untilFull().Microseconds())
			if full.remaining() != limit {
				t.Fatalf("not full after %s", b.untilFull())
			}
		}
		for i := range all {
			sum := int64(0)
			for _, x := range all[i:] {
				sum += int64(x.n)
				if sum*unitsPerToken > limit*unitsPerToken+limit*(x.atUS-all[i].atUS) {
					t.Fatalf("%d taken in %d µs with a limit of %d", sum, x.atUS-all[i].atUS, limit)
				}
			}
		}
	})
}

// Corrections keep the level between one bucket of debt and full.
func TestCorrectionsStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int64{1, 7, 60_000, rateMax}).Draw(t, "limit")
		r := rates{}
		nowUS := int64(0)
		s := &split{replicas: 1, fromUS: -60_000_000}
		worst := int64(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			nowUS += rapid.Int64Range(0, 600_000_000).Draw(t, "pass")
			r.pace(Rates{TPM: uint64(limit)}, nowUS, s, 0)
			reserved := rapid.Uint64Range(0, uint64(limit)).Draw(t, "reserved")
			if lacks, _ := r.tokens.lacks(reserved); lacks {
				continue
			}
			r.tokens.take(reserved)
			used := rapid.Uint64().Draw(t, "used")
			if used > reserved {
				worst = max(worst, int64(min(used-reserved, uint64(limit))))
			}
			r.settle(reserved, used)
			if r.tokens.level > limit*unitsPerToken || r.tokens.level < -worst*unitsPerToken {
				t.Fatalf("level %d of %d, the largest correction was %d", r.tokens.level, limit*unitsPerToken, worst)
			}
		}
	})
}

// The shares of replicas add up to the limit, whatever their number.
func TestSharesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, n := rapid.Int64Range(0, 1e6).Draw(t, "limit"), rapid.Int64Range(1, 9).Draw(t, "replicas")
		salt := rapid.Byte().Draw(t, "salt")
		sum := int64(0)
		for rank := range n {
			s := split{replicas: n, rank: rank}
			sum += s.of(limit, salt)
		}
		if sum != limit {
			t.Fatalf("%d replicas share %d as %d", n, limit, sum)
		}
	})
}
