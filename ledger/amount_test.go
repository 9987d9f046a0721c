package ledger

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func TestParseAmount(t *testing.T) {
	nines := strings.Repeat("9", 26) + "." + strings.Repeat("9", 12)
	for _, good := range []string{"0", "-0.5", "12.50", "0.000000000001", nines, "-" + nines} {
		a, err := ParseAmount(good)
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if back := mustAmount(t, a.String()); back.Cmp(a) != 0 {
			t.Errorf("%s reads back as %s", good, back)
		}
	}
	bad := []string{"", " 1", "1e3", "1E-3", "0x10", "1,000", "+1", "NaN", "Inf", "1.2.3", "--1", "-", ".",
		"0.0000000000001", "1" + strings.Repeat("0", 26), strings.Repeat("0", 50)}
	for _, s := range bad {
		if a, err := ParseAmount(s); !errors.Is(err, ErrAmount) {
			t.Errorf("%q: got %s, %v; want ErrAmount", s, a, err)
		}
	}
	for _, exponent := range []int32{2_000_000_000, -2_000_000_000} {
		if _, err := NewAmount(decimal.New(1, exponent)); !errors.Is(err, ErrAmount) {
			t.Errorf("1e%d: got %v, want ErrAmount", exponent, err)
		}
	}
}

func TestAmountJSONIsAString(t *testing.T) {
	raw, err := json.Marshal(mustAmount(t, "12.50"))
	if err != nil || string(raw) != `"12.5"` {
		t.Errorf("got %s, %v", raw, err)
	}
	var a Amount
	for _, bad := range []string{`12.5`, `null`, `"1e3"`, `""`, `{}`} {
		if err := json.Unmarshal([]byte(bad), &a); !errors.Is(err, ErrAmount) {
			t.Errorf("%s: got %v, want ErrAmount", bad, err)
		}
	}
}

func TestAmountRangeHolds(t *testing.T) {
	most := mustAmount(t, strings.Repeat("9", 26))
	if _, err := most.Add(AmountFromInt(1)); !errors.Is(err, ErrAmount) {
		t.Errorf("got %v, want ErrAmount", err)
	}
	if _, err := most.Neg().Sub(AmountFromInt(1)); !errors.Is(err, ErrAmount) {
		t.Errorf("got %v, want ErrAmount", err)
	}
}

func TestRoundHalfEvenToMinor(t *testing.T) {
	for _, c := range []struct{ amount, currency, want string }{
		{"0.005", "CNY", "0"}, {"0.015", "CNY", "0.02"}, {"0.025", "CNY", "0.02"}, {"0.025000000001", "CNY", "0.03"},
		{"-0.005", "CNY", "0"}, {"-0.015", "CNY", "-0.02"},
		{"0.5", "JPY", "0"}, {"1.5", "JPY", "2"}, {"2.5", "JPY", "2"},
		{"0.0005", "KWD", "0"}, {"0.0015", "KWD", "0.002"}, {"1.2345", "BHD", "1.234"},
	} {
		got, err := RoundHalfEvenToMinor(mustAmount(t, c.amount), c.currency)
		if err != nil || got.Cmp(mustAmount(t, c.want)) != 0 {
			t.Errorf("%s %s: got %s, %v; want %s", c.amount, c.currency, got, err, c.want)
		}
	}
	if _, err := RoundHalfEvenToMinor(Amount{}, "XXX"); !errors.Is(err, ErrUnknownCurrency) {
		t.Errorf("got %v, want ErrUnknownCurrency", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]string{"JPY", "CNY", "KWD", "CLF"}).Draw(t, "currency")
		d := decimal.NewFromBigInt(big.NewInt(rapid.Int64().Draw(t, "n")), -rapid.Int32Range(0, 12).Draw(t, "places"))
		a, err := NewAmount(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := RoundHalfEvenToMinor(a, currency)
		if err != nil {
			t.Fatal(err)
		}
		places, _ := MinorUnits(currency)
		if want := modelRound(rat(d), int64(places)); rat(got.d).Cmp(want) != 0 {
			t.Fatalf("%s %s: got %s, want %s", d, currency, got, want)
		}
	})
}

func TestFormatNeverRounds(t *testing.T) {
	for _, c := range []struct{ amount, currency, want string }{
		{"12.5", "CNY", "12.50"}, {"12", "JPY", "12"}, {"0.1", "KWD", "0.100"}, {"12.505", "CNY", "12.505"}, {"-3", "USD", "-3.00"},
	} {
		if got := mustAmount(t, c.amount).Format(c.currency); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.amount, c.currency, got, c.want)
		}
	}
}
