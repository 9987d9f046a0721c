package demo

import (
	"fmt"
	"math/big"
	"time"
)

// unitPrices are what the demo's models cost per 1,000,000 tokens, per version:
// written down here once more, not read from the catalog that is being checked.
type unitPrices struct{ input, cacheRead, output, reasoning *big.Rat }

// tally is what a group of requests adds up to.
type tally struct {
	requests, prompt, cached, completion, reasoning uint64
	cost                                            *big.Rat
}

func (t *tally) add(p play, cost *big.Rat) {
	t.requests++
	t.prompt += p.Prompt
	t.cached += p.cached
	t.completion += p.Completion
	t.reasoning += p.reasoning
	if t.cost == nil {
		t.cost = new(big.Rat)
	}
	t.cost.Add(t.cost, cost)
}

func (t *tally) total() uint64 { return t.prompt + t.completion }

// orgRecount is what the trace says an org has used and owes.
type orgRecount struct {
	all      tally
	byDay    map[[2]string]*tally // date in the org's zone, model
	byHour   map[string]*tally    // RFC 3339 UTC instant at which the hour starts in the org's zone
	byTeam   map[int]*tally
	quantity map[lineKey]uint64
}

// recount adds the trace up, org by org.
func recount(all []play, zones []*time.Location, price func(model string, at time.Time) (version string, p unitPrices)) []orgRecount {
	out := make([]orgRecount, len(zones))
	for i := range out {
		out[i] = orgRecount{byDay: map[[2]string]*tally{}, byHour: map[string]*tally{}, byTeam: map[int]*tally{}, quantity: map[lineKey]uint64{}}
	}
	for _, p := range all {
		o := &out[p.org]
		version, prices := price(p.model, p.At)
		buckets := []struct {
			name  string
			n     uint64
			price *big.Rat
		}{
			{"input", p.Prompt - p.cached, prices.input},
			{"cache_read", p.cached, prices.cacheRead},
			{"output", p.Completion - p.reasoning, prices.output},
			{"reasoning", p.reasoning, prices.reasoning},
		}
		cost := new(big.Rat)
		for _, b := range buckets {
			cost.Add(cost, amount(b.n, b.price))
			if b.n > 0 {
				o.quantity[lineKey{"usage", p.model, version, b.name}] += b.n
			}
		}
		local := p.At.In(zones[p.org])
		hour := local.Add(-time.Duration(local.Minute())*time.Minute - time.Duration(local.Second())*time.Second - time.Duration(local.Nanosecond()))
		o.all.add(p, cost)
		grow(o.byDay, [2]string{local.Format(time.DateOnly), p.model}).add(p, cost)
		grow(o.byHour, hour.UTC().Format(time.RFC3339)).add(p, cost)
		grow(o.byTeam, p.team).add(p, cost)
	}
	return out
}

func grow[K comparable](m map[K]*tally, k K) *tally {
	if m[k] == nil {
		m[k] = &tally{}
	}
	return m[k]
}

// amount is n tokens at a price per 1,000,000, exactly.
func amount(n uint64, price *big.Rat) *big.Rat {
	a := new(big.Rat).SetInt(new(big.Int).SetUint64(n))
	a.Mul(a, price)
	return a.Quo(a, big.NewRat(1_000_000, 1))
}

// fen rounds an amount to hundredths, half to even, and writes it with two places.
func fen(a *big.Rat) (hundredths *big.Int) {
	scaled := new(big.Rat).Mul(a, big.NewRat(100, 1))
	two := big.NewInt(2)
	quotient, rest := new(big.Int).QuoRem(scaled.Num(), scaled.Denom(), new(big.Int))
	switch new(big.Int).Mul(rest, two).Cmp(scaled.Denom()) {
	case 1:
		quotient.Add(quotient, big.NewInt(1))
	case 0:
		if quotient.Bit(0) == 1 {
			quotient.Add(quotient, big.NewInt(1))
		}
	}
	return quotient
}

func fenText(hundredths *big.Int) string {
	if hundredths.Sign() < 0 {
		return "-" + fenText(new(big.Int).Neg(hundredths))
	}
	q, r := new(big.Int).QuoRem(hundredths, big.NewInt(100), new(big.Int))
	return fmt.Sprintf("%d.%02d", q, r)
}
