package ledger

import (
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

// An invoice credited by ever more notes: what they give back of each tax is always
// the rounded share of all that is credited by then, so never more than the tax, and
// all of it with the last.
func TestTaxOfPartialCreditNotes(t *testing.T) {
	several, whole := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		in := drawBillInput(t)
		in.Credits, in.Advance = nil, Amount{}
		if len(in.TaxRates) == 0 {
			in.TaxRates = []TaxRate{{Name: "VAT", Pct: decimal.New(6, 0)}}
		}
		draft, err := Bill(in)
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		s := NewState(in.OrgID, in.Currency)
		issued, err := s.IssueInvoice(draft, "INV-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(issued); err != nil {
			t.Fatal(err)
		}
		inv := *issued.Invoice
		places, _ := MinorUnits(in.Currency)
		base := minus(plus(rat(inv.Subtotal.d), rat(inv.Adjustments.d)), rat(inv.Discount.d))
		left, credited, back := make([]decimal.Decimal, len(inv.Lines)), new(big.Rat), make([]*big.Rat, len(inv.Taxes))
		for i := range inv.Lines {
			left[i] = inv.Lines[i].Amount.d
		}
		for i := range back {
			back[i] = new(big.Rat)
		}
		notes := 0
		for credited.Cmp(base) < 0 && notes < 30 {
			rest := decimalOf(t, minus(base, credited))
			line, amount := drawCreditLine(t, &inv, left, rest, places)
			if line == 0 {
				break
			}
			e, err := s.CreditNote(inv.ID, CreditRequest{Number: fmt.Sprint("CN-", notes), At: in.CreatedAt, On: in.CreatedOn, Reason: "because",
				Lines: []CreditLine{{Line: line, Amount: Amount{d: amount}}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Apply(e); err != nil {
				t.Fatal(err)
			}
			notes++
			left[line-1] = left[line-1].Sub(amount)
			credited = plus(credited, rat(amount))
			for i, tax := range e.CreditNote.Taxes {
				back[i] = plus(back[i], rat(tax.Amount.d))
				share := new(big.Rat).Quo(product(rat(inv.Taxes[i].Amount.d), credited), base)
				if want := modelRound(share, int64(places)); back[i].Cmp(want) != 0 {
					t.Fatalf("%s of %s credited: %s of %s %s are back, want %s", credited.FloatString(3), base.FloatString(3),
						back[i].FloatString(3), inv.Taxes[i].Amount, tax.Name, want.FloatString(3))
				}
			}
		}
		if notes > 1 {
			several++
		}
		if credited.Cmp(base) != 0 || notes == 0 {
			return
		}
		whole++
		for i, tax := range inv.Taxes {
			if back[i].Cmp(rat(tax.Amount.d)) != 0 {
				t.Fatalf("all is credited, and %s of %s %s are back", back[i].FloatString(3), tax.Amount, tax.Name)
			}
		}
		for _, l := range inv.Lines {
			if l.Kind == LineTax && s.Balance(TaxPayable(l.Name)).Sign() != 0 {
				t.Fatalf("all is credited, and %s of %s is to be paid", s.Balance(TaxPayable(l.Name)), l.Name)
			}
		}
	})
	if !testing.Short() && (several == 0 || whole == 0) {
		t.Errorf("%d invoices were credited by several notes, %d in full", several, whole)
	}
}

// drawCreditLine draws a part of a line that may still be credited, or all there is
// left of it; no line when there is none.
func drawCreditLine(t *rapid.T, inv *Invoice, left []decimal.Decimal, rest decimal.Decimal, places int32) (line int, amount decimal.Decimal) {
	var lines []int
	for i := range inv.Lines {
		if inv.Lines[i].taxable() && left[i].Sign() > 0 {
			lines = append(lines, i+1)
		}
	}
	if len(lines) == 0 {
		return 0, amount
	}
	line = rapid.SampledFrom(lines).Draw(t, "line")
	most := decimal.Min(left[line-1], rest)
	if rapid.IntRange(0, 2).Draw(t, "all of it") == 0 {
		return line, most
	}
	units := most.Shift(places).IntPart()
	return line, decimal.New(rapid.Int64Range(1, units).Draw(t, "units"), -places)
}
