package ledger

import (
	"errors"
	"math/big"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

// A ratio is rounded once, from its exact value: prorated by days, taken out of a
// price, it is what rationals give.
func TestRoundRatioEqualsTheModel(t *testing.T) {
	number := func(t *rapid.T, name string) decimal.Decimal {
		return decimal.New(rapid.Int64().Draw(t, name), rapid.Int32Range(-12, 3).Draw(t, name+" exponent"))
	}
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]string{"JPY", "CNY", "KWD", "CLF"}).Draw(t, "currency")
		d, num := number(t, "d"), number(t, "num")
		den := decimal.New(rapid.Int64Range(1, 1e9).Draw(t, "den"), rapid.Int32Range(-6, 3).Draw(t, "den exponent"))
		if rapid.Bool().Draw(t, "a half") {
			num, den = decimal.New(1, 0), decimal.New(2, 0) // ties are rare among others
		}
		got, err := roundRatio(d, num, den, currency)
		exact := quotient(product(rat(d), rat(num)), rat(den))
		places, _ := MinorUnits(currency)
		want := modelRound(exact, int64(places))
		if want.Cmp(rat(amountLimit)) >= 0 || want.Cmp(minus(zero, rat(amountLimit))) <= 0 {
			if !errors.Is(err, ErrAmount) {
				t.Fatalf("%s: got %s, %v; want ErrAmount", want, got, err)
			}
			return
		}
		if err != nil || rat(got.d).Cmp(want) != 0 {
			t.Fatalf("%s × %s ÷ %s: got %s, %v; want %s", d, num, den, got, err, want.FloatString(6))
		}
	})
	if _, err := roundRatio(one, one, decimal.Decimal{}, "CNY"); !errors.Is(err, ErrAmount) {
		t.Errorf("divided by nothing: got %v, want ErrAmount", err)
	}
}

// Largest remainder: nobody gets more than there is, all that is given is given,
// and nobody is more than one from the exact share.
func TestLargestRemainder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quantities := rapid.SliceOfN(rapid.Uint64Range(0, 1<<rapid.IntRange(1, 60).Draw(t, "bits")), 0, 8).Draw(t, "quantities")
		total := rapid.Uint64Range(0, 1<<rapid.IntRange(1, 63).Draw(t, "total bits")).Draw(t, "total")
		shares, err := largestRemainder(quantities, total)
		if err != nil {
			t.Fatal(err)
		}
		sum, given := new(big.Rat), new(big.Rat)
		for _, q := range quantities {
			sum = plus(sum, natural(q))
		}
		give := least(sum, natural(total))
		for i, share := range shares {
			given = plus(given, natural(share))
			if share > quantities[i] {
				t.Fatalf("%d of %d", share, quantities[i])
			}
			if sum.Sign() > 0 {
				off := minus(natural(share), quotient(product(give, natural(quantities[i])), sum))
				if off.Abs(off).Cmp(big.NewRat(1, 1)) >= 0 {
					t.Fatalf("share %d of %v, %d in all, is %s off", i, quantities, total, off.FloatString(3))
				}
			}
		}
		if given.Cmp(give) != 0 {
			t.Fatalf("gave %s of %s", given, give)
		}
	})
	if _, err := largestRemainder([]uint64{1 << 63, 1 << 63}, 1); !errors.Is(err, ErrInputs) {
		t.Errorf("overflow: got %v, want ErrInputs", err)
	}
}
