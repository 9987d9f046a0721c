package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/big"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
)

func TestBillEqualsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawBill(t)
		inv, err := Bill(in)
		if len(in.Inputs.Quantities) == 0 {
			if !errors.Is(err, ErrNothingToBill) {
				t.Fatalf("got %v, want ErrNothingToBill", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		places, _ := MinorUnits(in.Currency)
		exact, total := new(big.Rat), new(big.Rat)
		for _, l := range inv.Lines {
			want := product(rat(l.UnitPrice), natural(l.Quantity))
			if l.Unit == UnitTokens {
				want.Quo(want, big.NewRat(1_000_000, 1))
			}
			rounded := modelRound(want, int64(places))
			if rat(l.Exact.d).Cmp(want) != 0 || rat(l.Amount.d).Cmp(rounded) != 0 {
				t.Fatalf("line %+v: want exact %s, rounded %s", l, want, rounded)
			}
			exact.Add(exact, want)
			total.Add(total, rounded)
		}
		usage := new(big.Rat)
		for _, q := range in.Inputs.Quantities {
			usage.Add(usage, modelCost(in.Prices[q.PriceVersion], q.Tokens, q.Images, q.Requests))
		}
		if rat(inv.Exact.d).Cmp(usage) != 0 || exact.Cmp(usage) != 0 {
			t.Fatalf("exact total %s, lines %s, usage %s", inv.Exact, exact, usage)
		}
		if rat(inv.Total.d).Cmp(total) != 0 {
			t.Fatalf("total %s, lines sum to %s", inv.Total, total)
		}
	})
}

func TestInvoiceIsReproducible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawBill(t)
		inv, err := Bill(in)
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		inv = inv.Issue(InvoiceNumber("AIONE", 2023, 7))
		if err := Prove(inv); err != nil {
			t.Fatal(err)
		}
		// In another order, and with prices around that nobody used.
		again := in
		again.Inputs.Quantities = shuffled(t, in.Inputs.Quantities)
		again.Prices = map[string]catalog.Price{"z@1": {Version: "z@1", Model: "z"}}
		for v, p := range in.Prices {
			again.Prices[v] = p
		}
		other, err := Bill(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(other.Issue(inv.Number).CanonicalBytes(), inv.CanonicalBytes()) || other.InputHash != inv.InputHash {
			t.Fatal("the order of the inputs shows in the invoice")
		}
		// Through the event log.
		raw, err := json.Marshal(inv)
		if err != nil {
			t.Fatal(err)
		}
		var stored Invoice
		if err := json.Unmarshal(raw, &stored); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored.CanonicalBytes(), inv.CanonicalBytes()) {
			t.Fatal("JSON changes the invoice")
		}
		if err := Prove(stored); err != nil {
			t.Fatal(err)
		}
	})
}

func TestProveFindsEveryChange(t *testing.T) {
	one := decimal.New(1, -12)
	changes := map[string]func(*Invoice){
		"total":        func(inv *Invoice) { inv.Total.d = inv.Total.d.Add(one) },
		"line amount":  func(inv *Invoice) { inv.Lines[0].Amount.d = inv.Lines[0].Amount.d.Add(one) },
		"line dropped": func(inv *Invoice) { inv.Lines = inv.Lines[1:] },
		"price":        func(inv *Invoice) { inv.Prices[0].Output = inv.Prices[0].Output.Add(decimal.New(1, -6)) },
		"stamped cost": func(inv *Invoice) { inv.Inputs.Quantities[0].Cost = inv.Inputs.Quantities[0].Cost.Add(one) },
		"rows":         func(inv *Invoice) { inv.Inputs.Rows++ },
		"rows digest":  func(inv *Invoice) { inv.Inputs.RowsDigest = "other" },
		"cut":          func(inv *Invoice) { inv.Cut++ },
		"due date":     func(inv *Invoice) { inv.DueDate = inv.DueDate.AddDays(1) },
		"period":       func(inv *Invoice) { inv.Period.End = inv.Period.End.Add(1) },
		"hash":         func(inv *Invoice) { inv.InputHash[0] ^= 1 },
		"entity":       func(inv *Invoice) { inv.LegalEntity = "OTHER" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inv := exampleInvoice(t)
			if err := Prove(inv); err != nil {
				t.Fatal(err)
			}
			change(&inv)
			if err := Prove(inv); !errors.Is(err, ErrNotReproducible) {
				t.Errorf("got %v, want ErrNotReproducible", err)
			}
		})
	}
}

// The encoding of an invoice is a promise to those that exist: if this hash
// changes, every invoice ever issued can no longer be proved.
func TestCanonicalBytesNeverChange(t *testing.T) {
	inv := exampleInvoice(t)
	const want = "6ff00627d5e3dfd079c8e5b1a933cfa335af4faa0aa26e9164d41bdcc3a515c6"
	if got := inv.InputHash.String(); got != want {
		t.Errorf("input hash %s, want %s", got, want)
	}
	const wantWhole = "94e2fab5afbf468264e1e7dfc7bd9a93b3a6577bd4a84e36bc91bf839881a13c"
	if got := Hash(sha256.Sum256(inv.CanonicalBytes())).String(); got != wantWhole {
		t.Errorf("hash of the whole %s, want %s", got, wantWhole)
	}
}

func TestStatusOn(t *testing.T) {
	inv := exampleInvoice(t)
	for _, c := range []struct {
		days int
		want Status
	}{{-1, StatusIssued}, {0, StatusIssued}, {1, StatusOverdue}, {400, StatusOverdue}} {
		if got := inv.StatusOn(inv.DueDate.AddDays(c.days)); got != c.want {
			t.Errorf("%d days after the due date: %s, want %s", c.days, got, c.want)
		}
	}
	inv.Status = StatusPaid
	if got := inv.StatusOn(inv.DueDate.AddDays(1)); got != StatusPaid {
		t.Errorf("paid, then %s", got)
	}
}

func TestInvoiceJournal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Bill(drawBill(t))
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		j, err := InvoiceJournal(inv)
		if err != nil {
			t.Fatal(err)
		}
		sum, owed := new(big.Rat), new(big.Rat)
		for _, p := range j.Postings() {
			sum.Add(sum, rat(p.Amount.d))
			if p.Account == Receivable(inv.OrgID) {
				owed.Add(owed, rat(p.Amount.d))
			}
		}
		if sum.Sign() != 0 {
			t.Fatalf("the journal sums to %s", sum)
		}
		if owed.Cmp(rat(inv.Total.d)) != 0 {
			t.Fatalf("the org owes %s, the invoice says %s", owed, inv.Total)
		}
	})
}

func TestJournalCheck(t *testing.T) {
	changes := map[string]func(*Journal){
		"negative amount": func(j *Journal) { j.Transfers[0].Amount = j.Transfers[0].Amount.Neg() },
		"nothing moved":   func(j *Journal) { j.Transfers[0].Amount = Amount{} },
		"wrong way":       func(j *Journal) { t := &j.Transfers[0]; t.Debit, t.Credit = t.Credit, t.Debit },
		"same id":         func(j *Journal) { j.Transfers[1].ID = j.Transfers[0].ID },
		"unknown code":    func(j *Journal) { j.Transfers[0].Code = "gift" },
		"no currency":     func(j *Journal) { j.Transfers[0].Currency = "XXX" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			j, err := InvoiceJournal(exampleInvoice(t))
			if err != nil {
				t.Fatal(err)
			}
			change(&j)
			if err := j.Check(); !errors.Is(err, ErrJournal) {
				t.Errorf("got %v, want ErrJournal", err)
			}
		})
	}
	inv := exampleInvoice(t)
	inv.Total = mustAmount(t, "1")
	if _, err := InvoiceJournal(inv); !errors.Is(err, ErrJournal) {
		t.Errorf("total that is not the sum: got %v, want ErrJournal", err)
	}
}
