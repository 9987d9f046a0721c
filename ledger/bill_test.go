package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
)

func TestInvoiceIsReproducible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawBillInput(t)
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
		again.Credits = shuffled(t, in.Credits)
		again.Origins = slices.Clone(in.Origins)
		for i := range again.Origins {
			again.Origins[i].Billed = shuffled(t, in.Origins[i].Billed)
		}
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
	inv.Status, inv.Total = StatusIssued, Amount{}
	if got := inv.StatusOn(inv.DueDate.AddDays(1)); got != StatusPaid {
		t.Errorf("nothing to pay, and %s", got)
	}
}

func BenchmarkBill(b *testing.B) {
	in := exampleInput(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Bill(in); err != nil {
			b.Fatal(err)
		}
	}
}

// Everything that issuing an invoice takes: bill, prove, book, seal, apply.
func BenchmarkIssue(b *testing.B) {
	in := exampleInput(b)
	in.Credits = nil
	b.ReportAllocs()
	for b.Loop() {
		draft, err := Bill(in)
		if err != nil {
			b.Fatal(err)
		}
		s := NewState(in.OrgID, in.Currency)
		e, err := s.IssueInvoice(draft, "INV-1")
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Apply(e); err != nil {
			b.Fatal(err)
		}
	}
}
