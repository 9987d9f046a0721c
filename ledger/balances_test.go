package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func drawTransfer(t *rapid.T) Transfer {
	accounts := []Account{Cash, Rounding, RevenueUsage, "receivable:a", "receivable:b", "prepaid:a"}
	places := rapid.Int32Range(0, 12).Draw(t, "places")
	digits := rapid.Int64Range(0, int64(places)+23).Draw(t, "digits") // so that the sum of all stays in range
	coefficient := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	coefficient.Mul(coefficient, big.NewInt(rapid.Int64Range(1, 9).Draw(t, "first digit")))
	coefficient.Add(coefficient, new(big.Int).SetUint64(rapid.Uint64().Draw(t, "last digits")))
	amount, err := NewAmount(decimal.NewFromBigInt(coefficient, -places))
	if err != nil {
		t.Fatal(err)
	}
	if rapid.IntRange(0, 3).Draw(t, "negative") == 0 {
		amount = amount.Neg() // no transfer is: the fold must not care
	}
	return Transfer{Debit: rapid.SampledFrom(accounts).Draw(t, "debit"), Credit: rapid.SampledFrom(accounts).Draw(t, "credit"),
		Amount: amount, Currency: rapid.SampledFrom([]string{"CNY", "JPY"}).Draw(t, "currency")}
}

func TestBalancesEqualTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b, continued Balances
		want := make(map[balanceKey]*big.Rat)
		for i := range rapid.IntRange(0, 50).Draw(t, "transfers") {
			transfer := drawTransfer(t)
			if err := b.Add(&transfer); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "snapshot") == 0 {
				// Thrown away and read back: what follows must not notice.
				raw, err := continued.AppendBinary(nil)
				if err != nil {
					t.Fatal(err)
				}
				continued = Balances{}
				if err := continued.UnmarshalBinary(raw); err != nil {
					t.Fatal(err)
				}
			}
			if err := continued.Add(&transfer); err != nil {
				t.Fatal(err)
			}
			for _, side := range []struct {
				account Account
				amount  decimal.Decimal
			}{{transfer.Debit, transfer.Amount.d}, {transfer.Credit, transfer.Amount.d.Neg()}} {
				key := balanceKey{side.account, transfer.Currency}
				if want[key] == nil {
					want[key] = new(big.Rat)
				}
				want[key] = plus(want[key], rat(side.amount))
			}
			if b.Count() != uint64(i)+1 || continued.Count() != b.Count() {
				t.Fatalf("%d transfers, counted %d and %d", i+1, b.Count(), continued.Count())
			}
		}
		sum, accounts := new(big.Rat), 0
		b.All(func(account Account, currency string, balance Amount) {
			accounts++
			sum = plus(sum, rat(balance.d))
			if rat(balance.d).Cmp(want[balanceKey{account, currency}]) != 0 || b.Balance(account, currency).Cmp(balance) != 0 {
				t.Fatalf("%s %s is %s, want %s", account, currency, balance, want[balanceKey{account, currency}])
			}
		})
		if accounts != len(want) || sum.Sign() != 0 || !b.Balance("nobody:x", "CNY").IsZero() {
			t.Fatalf("%d accounts that sum to %s, want %d and nothing", accounts, sum, len(want))
		}
		one, _ := b.AppendBinary(nil)
		two, _ := continued.AppendBinary(nil)
		if !bytes.Equal(one, two) {
			t.Fatal("a fold that went on from snapshots differs from the fold of everything")
		}
	})
}

func TestBalancesRefuseOverflow(t *testing.T) {
	var b Balances
	most := Transfer{Debit: Cash, Credit: Rounding, Currency: "CNY", Amount: mustAmount(t, strings.Repeat("9", 26))}
	if err := b.Add(&most); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(&most); !errors.Is(err, ErrAmount) {
		t.Errorf("a balance past 128 bits: got %v, want ErrAmount", err)
	}
}

func TestSnapshotIsReadOrRefused(t *testing.T) {
	var b Balances
	for i := range 3 {
		transfer := Transfer{Debit: Cash, Credit: Receivable(uuid.UUID{byte(i)}), Currency: "CNY", Amount: AmountFromInt(int64(i) + 1)}
		if err := b.Add(&transfer); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := b.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(raw) {
		if err := new(Balances).UnmarshalBinary(raw[:cut]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut at %d: got %v, want ErrSnapshot", cut, err)
		}
	}
	if err := new(Balances).UnmarshalBinary(append(bytes.Clone(raw), 0)); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a byte too many: got %v, want ErrSnapshot", err)
	}
	for i := range len(raw) { // whatever a byte is: no panic
		damaged := bytes.Clone(raw)
		damaged[i] ^= 0xff
		if err := new(Balances).UnmarshalBinary(damaged); err != nil && !errors.Is(err, ErrSnapshot) {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
	}
}

// manyTransfers are transfers of 1000 orgs, as the ledger has them.
func manyTransfers(n int) []Transfer {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ts := make([]Transfer, n)
	for i := range ts {
		org := uuid.UUID{byte(i % 1000), byte(i % 1000 >> 8)}
		ts[i] = Transfer{Debit: Receivable(org), Credit: Accrued(org), Amount: Amount{d: decimal.New(int64(i)*7919, -12)}, Currency: "CNY", Code: CodeInvoiced, At: at}
	}
	return ts
}

func BenchmarkBalances(b *testing.B) {
	ts := manyTransfers(1_000_000)
	for b.Loop() {
		var balances Balances
		for i := range ts {
			if err := balances.Add(&ts[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(ts))/b.Elapsed().Seconds(), "transfers/s")
}

func BenchmarkBalance(b *testing.B) {
	var balances Balances
	for _, t := range manyTransfers(1_000_000) {
		if err := balances.Add(&t); err != nil {
			b.Fatal(err)
		}
	}
	org := Receivable(uuid.UUID{7})
	for b.Loop() {
		if balances.Balance(org, "CNY").IsZero() {
			b.Fatal(fmt.Sprint("nothing on ", org))
		}
	}
}
