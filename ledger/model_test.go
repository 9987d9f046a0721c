package ledger

import (
	"math/big"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
	"aione/events"
)

// This file is the model that the package is tested against: rationals and
// nothing clever.

func rat(d decimal.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic("not a number: " + d.String())
	}
	return r
}

func natural(n uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(n)) }

func product(a, b *big.Rat) *big.Rat { return new(big.Rat).Mul(a, b) }

// modelCost is the cost of some usage, bucket by bucket as a price list reads.
func modelCost(p catalog.Price, t events.Tokens, images, requests uint64) *big.Rat {
	million := big.NewRat(1_000_000, 1)
	tokens := new(big.Rat)
	tokens.Add(tokens, product(rat(p.Input), natural(t.Input)))
	tokens.Add(tokens, product(rat(p.CacheRead), natural(t.CacheRead)))
	tokens.Add(tokens, product(rat(p.CacheWrite5m), natural(t.CacheWrite5m)))
	tokens.Add(tokens, product(rat(p.CacheWrite1h), natural(t.CacheWrite1h)))
	tokens.Add(tokens, product(rat(p.Output), natural(t.Output)))
	tokens.Add(tokens, product(rat(p.Reasoning), natural(t.Reasoning)))
	cost := tokens.Quo(tokens, million)
	cost.Add(cost, product(rat(p.Image), natural(images)))
	return cost.Add(cost, product(rat(p.Request), natural(requests)))
}

// modelRound rounds to places, a half to the even neighbour.
func modelRound(r *big.Rat, places int64) *big.Rat {
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(places), nil))
	scaled := product(r, scale)
	floor, _ := new(big.Int).DivMod(scaled.Num(), scaled.Denom(), new(big.Int)) // Euclidean: rounds down, as Denom > 0
	rest := new(big.Rat).Sub(scaled, new(big.Rat).SetInt(floor))
	switch rest.Cmp(big.NewRat(1, 2)) {
	case 1:
		floor.Add(floor, big.NewInt(1))
	case 0:
		if floor.Bit(0) == 1 {
			floor.Add(floor, big.NewInt(1))
		}
	}
	return new(big.Rat).Quo(new(big.Rat).SetInt(floor), scale)
}

// decimalOf is exact for rationals of at most 12 decimal places.
func decimalOf(t *rapid.T, r *big.Rat) decimal.Decimal {
	s := r.FloatString(AmountScale)
	d := decimal.RequireFromString(s)
	if rat(d).Cmp(r) != 0 {
		t.Fatalf("%s has more than %d decimal places", r, AmountScale)
	}
	return d
}

func drawPriceField(t *rapid.T, name string) decimal.Decimal {
	switch rapid.IntRange(0, 9).Draw(t, name+" form") {
	case 0:
		return decimal.Decimal{}
	case 1: // more digits than 64 bits hold
		digits := new(big.Int).Exp(big.NewInt(10), big.NewInt(19), nil)
		return decimal.NewFromBigInt(digits, -rapid.Int32Range(0, 6).Draw(t, name+" places"))
	case 2: // zeros behind the sixth place, as a careless writer leaves them
		return decimal.New(rapid.Int64Range(0, 1e9).Draw(t, name)*1000, -9)
	case 3:
		return decimal.New(rapid.Int64Range(0, 99).Draw(t, name), rapid.Int32Range(0, 8).Draw(t, name+" zeros"))
	}
	return decimal.New(rapid.Int64Range(0, 1e9).Draw(t, name), -rapid.Int32Range(0, 6).Draw(t, name+" places"))
}

func drawPrice(t *rapid.T, model, version, currency string) catalog.Price {
	return catalog.Price{
		Version: version, Model: model, Currency: currency,
		EffectiveFrom: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC),
		Input:         drawPriceField(t, "input"), CacheRead: drawPriceField(t, "cache_read"),
		CacheWrite5m: drawPriceField(t, "cache_write_5m"), CacheWrite1h: drawPriceField(t, "cache_write_1h"),
		Output: drawPriceField(t, "output"), Reasoning: drawPriceField(t, "reasoning"),
		Image: drawPriceField(t, "image"), Request: drawPriceField(t, "request"),
	}
}

func drawTokens(t *rapid.T, most uint64) events.Tokens {
	n := func(name string) uint64 {
		if rapid.Bool().Draw(t, name+" is small") {
			return rapid.Uint64Range(0, 5000).Draw(t, name)
		}
		return rapid.Uint64Range(0, most).Draw(t, name)
	}
	return events.Tokens{Input: n("in"), CacheRead: n("cr"), CacheWrite5m: n("c5"), CacheWrite1h: n("c1"), Output: n("out"), Reasoning: n("rea")}
}

func mustAmount(t testing.TB, s string) Amount {
	t.Helper()
	a, err := ParseAmount(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
