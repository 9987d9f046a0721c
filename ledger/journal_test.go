package ledger

import (
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// Whatever is on an invoice: its journal sums to zero, goes allowed ways, leaves
// nothing accrued, and says what the paper says.
func TestInvoiceJournal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Bill(drawBillInput(t))
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
		sums := make(map[string]*big.Rat)
		total, rounding := new(big.Rat), new(big.Rat)
		for _, p := range j.Postings() {
			total = plus(total, rat(p.Amount.d))
			if sums[p.Account.Kind()] == nil {
				sums[p.Account.Kind()] = new(big.Rat)
			}
			sums[p.Account.Kind()] = plus(sums[p.Account.Kind()], rat(p.Amount.d))
		}
		for _, l := range inv.Lines {
			rounding = plus(rounding, minus(rat(l.Exact.d), rat(l.Amount.d)))
		}
		want := map[string]*big.Rat{
			KindReceivable: rat(inv.Total.d), KindAccrued: zero, KindRounding: rounding, KindDiscount: rat(inv.Discount.d),
			KindTax: minus(zero, plus(rat(inv.Tax.d), rat(inv.TaxIncluded.d))),
		}
		for kind, amount := range want {
			got := sums[kind]
			if got == nil {
				got = zero
			}
			if got.Cmp(amount) != 0 {
				t.Fatalf("%s is %s, want %s", kind, got, amount)
			}
		}
		if total.Sign() != 0 {
			t.Fatalf("the journal sums to %s", total)
		}
	})
}

func TestJournalCheck(t *testing.T) {
	changes := map[string]func(*Journal){
		"negative amount":   func(j *Journal) { j.Transfers[0].Amount = j.Transfers[0].Amount.Neg() },
		"nothing moved":     func(j *Journal) { j.Transfers[0].Amount = Amount{} },
		"wrong way":         func(j *Journal) { t := &j.Transfers[0]; t.Debit, t.Credit = t.Credit, t.Debit },
		"a false reversal":  func(j *Journal) { j.Transfers[0].Reversal = !j.Transfers[0].Reversal },
		"same id":           func(j *Journal) { j.Transfers[1].ID = j.Transfers[0].ID },
		"no id":             func(j *Journal) { j.Transfers[0].ID = uuid.Nil },
		"unknown code":      func(j *Journal) { j.Transfers[0].Code = "gift" },
		"no currency":       func(j *Journal) { j.Transfers[0].Currency = "XXX" },
		"revenue into cash": func(j *Journal) { j.Transfers[0].Debit = Cash },
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

// Every way of money is between two kinds of accounts that exist, and there is
// none between an org's money and revenue that skips the receivable.
func TestFlowsAreSound(t *testing.T) {
	kinds := []string{KindReceivable, KindAccrued, KindPrepaid, KindPromo, KindRevenue, KindDiscount, KindTax, KindCash,
		KindRounding, KindWriteOff, KindPromoExpense, KindBreakage}
	used := make(map[string]bool)
	for code, f := range flows {
		if !slices.Contains(kinds, f.debit) || !slices.Contains(kinds, f.credit) || f.debit == f.credit {
			t.Errorf("%s goes from %s to %s", code, f.credit, f.debit)
		}
		used[f.debit], used[f.credit] = true, true
		for _, own := range []string{KindPrepaid, KindPromo, KindCash} {
			if f.debit == own && f.credit == KindRevenue || f.credit == own && f.debit == KindRevenue {
				t.Errorf("%s takes %s straight to revenue", code, own)
			}
		}
	}
	for _, kind := range kinds {
		if !used[kind] {
			t.Errorf("no money goes to or from %s", kind)
		}
	}
}

func exampleChain(t testing.TB, n int) []Journal {
	t.Helper()
	s := NewState(uuid.UUID{1}, "CNY")
	var chain []Journal
	for i := range n {
		e, err := s.GrantCredit(Grant{ID: uuid.UUID{2, byte(i)}, Kind: GrantPrepaid, Amount: AmountFromInt(int64(i) + 1), GrantedAt: exampleInvoice(t).CreatedAt})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(e); err != nil {
			t.Fatal(err)
		}
		chain = append(chain, e.Journal)
	}
	return chain
}

// Any change, removal, insertion or swap of a journal is found.
func TestChain(t *testing.T) {
	chain := exampleChain(t, 6)
	if err := VerifyChain(chain); err != nil {
		t.Fatal(err)
	}
	if err := VerifyChain(nil); err != nil {
		t.Fatalf("no journals at all: %v", err)
	}
	copied := func() []Journal {
		c := slices.Clone(chain)
		for i := range c {
			c[i].Transfers = slices.Clone(c[i].Transfers)
		}
		return c
	}
	changes := map[string]func(c []Journal, at int) []Journal{
		"amount":      func(c []Journal, at int) []Journal { c[at].Transfers[0].Amount = AmountFromInt(99); return c },
		"account":     func(c []Journal, at int) []Journal { c[at].Transfers[0].Debit += "x"; return c },
		"code":        func(c []Journal, at int) []Journal { c[at].Transfers[0].Code = CodePayment; return c },
		"instant":     func(c []Journal, at int) []Journal { c[at].Transfers[0].At = c[at].Transfers[0].At.Add(1); return c },
		"reversal":    func(c []Journal, at int) []Journal { c[at].Transfers[0].Reversal = true; return c },
		"no transfer": func(c []Journal, at int) []Journal { c[at].Transfers = nil; return c },
		"two": func(c []Journal, at int) []Journal {
			c[at].Transfers = append(c[at].Transfers, c[at].Transfers[0])
			return c
		},
		"document": func(c []Journal, at int) []Journal { c[at].CauseHash[0] ^= 1; return c },
		"cause":    func(c []Journal, at int) []Journal { c[at].CauseID[0] ^= 1; return c },
		"previous": func(c []Journal, at int) []Journal { c[at].Previous[0] ^= 1; return c },
		"hash":     func(c []Journal, at int) []Journal { c[at].Hash[0] ^= 1; return c },
		"seq":      func(c []Journal, at int) []Journal { c[at].Seq++; return c },
		"twice":    func(c []Journal, at int) []Journal { return slices.Insert(c, at, c[at]) },
		"swapped": func(c []Journal, at int) []Journal {
			other := (at + 1) % len(c)
			c[at], c[other] = c[other], c[at]
			return c
		},
		"removed": func(c []Journal, at int) []Journal {
			if at == len(c)-1 {
				at-- // a missing end is found by whoever knows the last hash
			}
			return slices.Delete(c, at, at+1)
		},
		"relinked": func(c []Journal, at int) []Journal { // … and the link of the one after it
			c[at].Transfers[0].Amount = AmountFromInt(99)
			if c[at].Hash = c[at].chainHash(); at == len(c)-1 {
				c[at].Hash[0] ^= 1
			} else {
				c[at+1].Previous = c[at].Hash
			}
			return c
		},
		"resealed": func(c []Journal, at int) []Journal { // the forger fixes the hash of what was changed
			c[at].Transfers[0].Amount = AmountFromInt(99)
			c[at].Hash = c[at].chainHash()
			if at == len(c)-1 {
				c[at].Hash[0] ^= 1 // the last one could be: its hash must be kept elsewhere
			}
			return c
		},
	}
	for name, change := range changes {
		for at := range chain {
			if err := VerifyChain(change(copied(), at)); !errors.Is(err, ErrChain) {
				t.Errorf("%s of journal %d: got %v, want ErrChain", name, at+1, err)
			}
		}
	}
}

// No two journals share canonical bytes because fields run into each other.
func TestCanonicalFieldsDoNotRunTogether(t *testing.T) {
	a := Journal{Transfers: []Transfer{{Debit: "ab", Credit: "c"}}}
	b := Journal{Transfers: []Transfer{{Debit: "a", Credit: "bc"}}}
	if a.chainHash() == b.chainHash() {
		t.Error("ab+c and a+bc are the same")
	}
}
