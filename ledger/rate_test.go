package ledger

import (
	"errors"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
	"aione/events"
)

func TestRateEqualsTheModel(t *testing.T) {
	fast, slow, refused := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t, "m", "m@1", "CNY")
		most := rapid.SampledFrom([]uint64{1000, 1e6, 1 << 32, events.MaxTokensPerBucket, 1<<64 - 1}).Draw(t, "most")
		tokens := drawTokens(t, most)
		images := rapid.Uint64Range(0, events.MaxImages).Draw(t, "images")
		if rapid.Bool().Draw(t, "as on a price list") {
			// What is drawn above costs too much more often than not. This never does, and
			// takes the fast path or, written with zeros to the ninth place, the slow one.
			price := decimal.New(rapid.Int64Range(1, 1e8).Draw(t, "list price"), -6)
			if rapid.Bool().Draw(t, "nine places") {
				price = decimal.New(price.CoefficientInt64()*1000, -9)
			}
			p = catalog.Price{Version: p.Version, Model: p.Model, Currency: p.Currency, Input: price}
			tokens, images = events.Tokens{Input: rapid.Uint64Range(1, 1e6).Draw(t, "list tokens")}, 0
		}
		want := modelCost(p, tokens, images, 1)

		got, err := Rate(p, tokens, images)
		if want.Cmp(rat(events.MaxCost)) >= 0 {
			refused++
			if !errors.Is(err, ErrCostRange) {
				t.Fatalf("cost %s: got %s, %v; want ErrCostRange", want.FloatString(12), got, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if rat(got).Cmp(want) != 0 {
			t.Fatalf("got %s, want %s", got, want.FloatString(15))
		}
		if got.Exponent() < -events.CostScale {
			t.Fatalf("%s has more than %d places", got, events.CostScale)
		}
		exact, err := rateDecimal(p, tokens, images)
		if err != nil || !exact.Equal(got) {
			t.Fatalf("slow path: got %s, %v; want %s", exact, err, got)
		}
		if _, ok, _ := rateUnits(&p, &tokens, images); ok {
			fast++
		} else {
			slow++
		}
	})
	t.Logf("fast path %d, slow path %d, over the limit %d", fast, slow, refused)
	const enough = 100 // draws to expect each path at least once; -short draws fewer
	if fast+slow+refused >= enough && (fast == 0 || slow == 0 || refused == 0) {
		t.Error("a path was never taken: the generator is too narrow")
	}
}

func TestRateAtTheLimit(t *testing.T) {
	p := catalog.Price{Version: "m@1", Request: decimal.New(1_000_000, 0)}
	if _, err := Rate(p, events.Tokens{}, 0); !errors.Is(err, ErrCostRange) {
		t.Errorf("1,000,000: %v, want ErrCostRange", err)
	}
	// 2^20 micros × 2^44 tokens is 2^64: the low word alone would make it free.
	p.Request, p.Input = decimal.Decimal{}, decimal.New(1_048_576, -6)
	if got, err := Rate(p, events.Tokens{Input: 1 << 44}, 0); !errors.Is(err, ErrCostRange) {
		t.Errorf("2^64 units: got %s, %v; want ErrCostRange", got, err)
	}
	// Each term fits 64 bits, their sum does not.
	p.Input, p.Output = decimal.New(1<<33, -6), decimal.New(1<<33, -6)
	if got, err := Rate(p, events.Tokens{Input: 1 << 30, Output: 1 << 30}, 0); !errors.Is(err, ErrCostRange) {
		t.Errorf("2^63 units twice: got %s, %v; want ErrCostRange", got, err)
	}
	p.Output = decimal.Decimal{}
	p.Request = decimal.RequireFromString("999999.999999")
	p.Input = decimal.RequireFromString("0.999999")
	got, err := Rate(p, events.Tokens{Input: 1}, 0)
	if err != nil || got.String() != "999999.999999999999" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestRateRefusesInexactPrices(t *testing.T) {
	p := catalog.Price{Version: "m@1", Input: decimal.RequireFromString("0.0000001")}
	if _, err := Rate(p, events.Tokens{Input: 1_000_000}, 0); !errors.Is(err, ErrPriceScale) {
		t.Errorf("got %v, want ErrPriceScale", err)
	}
	p.Input = decimal.New(1, 2_000_000_000)
	if _, err := Rate(p, events.Tokens{Input: 1}, 0); !errors.Is(err, ErrPriceScale) {
		t.Errorf("huge exponent: got %v, want ErrPriceScale", err)
	}
	p.Input = decimal.New(-1, 0)
	if _, err := Rate(p, events.Tokens{Input: 1}, 0); !errors.Is(err, ErrCostRange) {
		t.Errorf("negative: got %v, want ErrCostRange", err)
	}
}

func benchPrice() catalog.Price {
	d := decimal.RequireFromString
	return catalog.Price{Version: "m@1", Input: d("21.6"), CacheRead: d("2.16"), CacheWrite5m: d("27"), CacheWrite1h: d("43.2"),
		Output: d("108"), Reasoning: d("108"), Image: d("0.28"), Request: d("0")}
}

func BenchmarkRate(b *testing.B) {
	p := benchPrice()
	tokens := events.Tokens{Input: 1234, CacheRead: 20000, CacheWrite5m: 512, Output: 777, Reasoning: 2048}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Rate(p, tokens, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRateDecimal(b *testing.B) {
	p := benchPrice()
	tokens := events.Tokens{Input: 1234, CacheRead: 20000, CacheWrite5m: 512, Output: 777, Reasoning: 2048}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rateDecimal(p, tokens, 1); err != nil {
			b.Fatal(err)
		}
	}
}
