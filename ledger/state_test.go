package ledger

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/catalog"
)

func repriced(rs ...Repriced) *Correction {
	return &Correction{Replaces: uuid.UUID{1}, Number: "INV", N: 1, Reason: "because", Repriced: rs}
}

func catalogPrice(version, currency string) catalog.Price {
	return catalog.Price{Version: version, Model: version[:1], Currency: currency}
}

// What was decided on an older state is refused when it is to be issued or
// applied: the credits of a draft may be gone, a payment may have come in.
func TestDecisionsOnAnOldStateAreRefused(t *testing.T) {
	in := exampleInput(t)
	s := NewState(in.OrgID, in.Currency)
	grant := in.Credits[0].Grant
	e, err := s.GrantCredit(grant)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(e); err != nil {
		t.Fatal(err)
	}
	in.Credits = s.Credits()
	draft, err := Bill(in)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := s.IssueInvoice(draft, "INV-1")
	if err != nil {
		t.Fatal(err)
	}
	old := in
	old.Credits = []Credit{{Grant: grant, Remaining: AmountFromInt(1)}}
	other, err := Bill(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.IssueInvoice(other, "INV-1"); !errors.Is(err, ErrState) {
		t.Errorf("a draft that uses what is left otherwise: got %v, want ErrState", err)
	}
	if _, err := s.IssueInvoice(*issued.Invoice, "INV-1"); !errors.Is(err, ErrRequest) {
		t.Errorf("an issued invoice issued again: got %v, want ErrRequest", err)
	}
	foreign := NewState(uuid.UUID{9}, in.Currency)
	if _, err := foreign.IssueInvoice(draft, "INV-1"); !errors.Is(err, ErrRequest) {
		t.Errorf("another org's draft: got %v, want ErrRequest", err)
	}
	changed := draft
	changed.Total = AmountFromInt(1)
	if _, err := s.IssueInvoice(changed, "INV-1"); !errors.Is(err, ErrNotReproducible) {
		t.Errorf("a draft that was changed: got %v, want ErrNotReproducible", err)
	}
	// A document that is not what the state decides, under a journal that is sealed well.
	forged := issued
	inv := *issued.Invoice
	inv.Number = "INV-2"
	forged.Invoice = &inv
	if err := s.Apply(forged); !errors.Is(err, ErrState) {
		t.Errorf("an entry whose document was changed: got %v, want ErrState", err)
	}
	if err := s.Apply(Entry{Journal: issued.Journal}); !errors.Is(err, ErrState) {
		t.Errorf("an entry without a document: got %v, want ErrState", err)
	}
	two := issued
	two.Grant = &grant
	if err := s.Apply(two); !errors.Is(err, ErrState) {
		t.Errorf("an entry with two documents: got %v, want ErrState", err)
	}
	moved := issued
	moved.Journal.Transfers = slices.Clone(issued.Journal.Transfers)
	moved.Journal.Transfers[0].Amount = AmountFromInt(1)
	if err := s.Apply(moved); !errors.Is(err, ErrChain) {
		t.Errorf("an entry whose journal was changed under its hash: got %v, want ErrChain", err)
	}
	if err := s.Apply(issued); err != nil {
		t.Fatal(err)
	}
	if err := checkState(s); err != nil {
		t.Fatal(err)
	}
}

// Each bound of terms is a refusal, not a slow run.
func TestTermsAreBounded(t *testing.T) {
	charge := func() Charge {
		return Charge{Name: "x", Model: ChargeGraduated, Buckets: []Bucket{BucketInput}, Tiers: []Tier{{UnitPrice: one}}}
	}
	if err := (Terms{Charges: []Charge{charge()}}).Check(); err != nil {
		t.Fatal(err)
	}
	huge := decimal.New(1, 2_000_000_000)
	for name, change := range map[string]func(*Terms){
		"charges": func(x *Terms) {
			for i := range chargesMax + 1 {
				c := charge()
				c.Name, c.Models = fmt.Sprint(i), []string{fmt.Sprint(i)}
				x.Charges = append(x.Charges, c)
			}
		},
		"tiers": func(x *Terms) {
			c := charge()
			c.Tiers = nil
			for i := range tiersMax + 1 {
				c.Tiers = append(c.Tiers, Tier{UpTo: uint64(i) + 1})
			}
			c.Tiers[tiersMax].UpTo = 0
			x.Charges = []Charge{c}
		},
		"models": func(x *Terms) {
			c := charge()
			for i := range modelsChargeMax + 1 {
				c.Models = append(c.Models, fmt.Sprint(i))
			}
			x.Charges = []Charge{c}
		},
		"huge percentage":  func(x *Terms) { x.DiscountPct = huge },
		"tiny percentage":  func(x *Terms) { x.DiscountPct = decimal.New(1, -2_000_000_000) },
		"huge unit price":  func(x *Terms) { c := charge(); c.Tiers[0].UnitPrice = huge; x.Charges = []Charge{c} },
		"negative price":   func(x *Terms) { c := charge(); c.Tiers[0].UnitPrice = one.Neg(); x.Charges = []Charge{c} },
		"negative fee":     func(x *Terms) { c := charge(); c.Tiers[0].FlatFee = AmountFromInt(-1); x.Charges = []Charge{c} },
		"no bucket":        func(x *Terms) { c := charge(); c.Buckets = nil; x.Charges = []Charge{c} },
		"a bucket twice":   func(x *Terms) { c := charge(); c.Buckets = append(c.Buckets, BucketInput); x.Charges = []Charge{c} },
		"no such bucket":   func(x *Terms) { c := charge(); c.Buckets = []Bucket{"tea"}; x.Charges = []Charge{c} },
		"a model twice":    func(x *Terms) { c := charge(); c.Models = []string{"a", "a"}; x.Charges = []Charge{c} },
		"no name":          func(x *Terms) { c := charge(); c.Name = ""; x.Charges = []Charge{c} },
		"package of none":  func(x *Terms) { c := charge(); c.Model, c.Tiers = ChargePackage, nil; x.Charges = []Charge{c} },
		"tiers of package": func(x *Terms) { c := charge(); c.Model, c.PackageSize = ChargePackage, 1; x.Charges = []Charge{c} },
		"package of tiers": func(x *Terms) { c := charge(); c.PackageSize = 1; x.Charges = []Charge{c} },
		"two flat tiers": func(x *Terms) {
			c := charge()
			c.Model, c.Tiers = ChargeFlat, []Tier{{UpTo: 1}, {}}
			x.Charges = []Charge{c}
		},
		"overage policy":    func(x *Terms) { x.OveragePolicy = "shrug" },
		"blocks at nothing": func(x *Terms) { x.OveragePolicy = OverageBlock },
		"blocks in two units": func(x *Terms) {
			x.OveragePolicy, x.IncludedTokens, x.IncludedAmount = OverageBlock, 1, AmountFromInt(1)
		},
		"blocks before tiers": func(x *Terms) { x.OveragePolicy, x.IncludedTokens, x.Charges = OverageBlock, 1, []Charge{charge()} },
	} {
		var terms Terms
		change(&terms)
		if err := terms.Check(); !errors.Is(err, ErrTerms) {
			t.Errorf("%s: got %v, want ErrTerms", name, err)
		}
	}
	var rates []TaxRate
	for i := range taxRatesMax + 1 {
		rates = append(rates, TaxRate{Name: fmt.Sprint(i)})
	}
	if err := CheckTaxes(rates); !errors.Is(err, ErrTerms) {
		t.Errorf("too many taxes: got %v, want ErrTerms", err)
	}
}

// Bill refuses, each with its own error, whatever else is wrong with the input.
func TestBillRefusesWhatMakesNoSense(t *testing.T) {
	for name, change := range map[string]func(*BillInput){
		"no org":                    func(in *BillInput) { in.OrgID = uuid.Nil },
		"no entity":                 func(in *BillInput) { in.LegalEntity = "" },
		"no period":                 func(in *BillInput) { in.Period = Period{} },
		"anchor":                    func(in *BillInput) { in.Period.Anchor = 32 },
		"period backwards":          func(in *BillInput) { in.Period.End = in.Period.Start },
		"another month":             func(in *BillInput) { in.Period.Label = "2023-09" },
		"no date":                   func(in *BillInput) { in.CreatedOn = Date{} },
		"terms days":                func(in *BillInput) { in.TermsDays = -1 },
		"cut before the last":       func(in *BillInput) { in.Cut = in.PreviousCut - 1 },
		"currency":                  func(in *BillInput) { in.Currency = "XXX" },
		"negative advance":          func(in *BillInput) { in.Advance = AmountFromInt(-1) },
		"advance in part of a cent": func(in *BillInput) { in.Advance = mustAmount(t, "0.001") },
		"a segment is missing":      func(in *BillInput) { in.Segments = in.Segments[:1] },
		"segments swapped":          func(in *BillInput) { slices.Reverse(in.Segments) },
		"segment of another length": func(in *BillInput) { in.Segments[0].Days-- },
		"segment that starts later": func(in *BillInput) { in.Segments[0].Start = in.Segments[0].Start.Add(time.Hour) },
		"segment of nothing": func(in *BillInput) {
			in.Segments[0].Start, in.Segments[1].Start = in.Segments[0].End, in.Segments[0].End
			in.Segments[0].End = in.Period.Start
		},
		"segment that ends later":   func(in *BillInput) { in.Segments[1].End = in.Segments[1].End.Add(time.Hour) },
		"next period later":         func(in *BillInput) { in.Next.First = in.Next.First.AddDays(1) },
		"half of the next period":   func(in *BillInput) { in.Next.Days = 15 },
		"terms of the next period":  func(in *BillInput) { in.Next.Terms.MonthlyFee = AmountFromInt(-1) },
		"closed period after this":  func(in *BillInput) { in.Origins[0].Period.End = in.Period.End },
		"closed periods swapped":    func(in *BillInput) { in.Origins = append(in.Origins, in.Origins[0]) },
		"terms of a closed period":  func(in *BillInput) { in.Origins[0].Segments[0].Terms.DiscountPct = decimal.New(101, 0) },
		"a credit twice":            func(in *BillInput) { in.Credits = append(in.Credits, in.Credits[0]) },
		"more left than was given":  func(in *BillInput) { in.Credits[0].Remaining = AmountFromInt(26) },
		"credit of unknown kind":    func(in *BillInput) { in.Credits[0].Grant.Kind = "loan" },
		"credit in part of a cent":  func(in *BillInput) { in.Credits[0].Remaining = mustAmount(t, "0.001") },
		"credit that ends at start": func(in *BillInput) { in.Credits[0].Grant.ExpiresAt = in.Credits[0].Grant.GrantedAt },
		"correction without reason": func(in *BillInput) { in.Correction = &Correction{Replaces: uuid.UUID{1}, Number: "INV", N: 1} },
		"repriced by itself": func(in *BillInput) {
			in.Correction = repriced(Repriced{Version: "a@1", Price: catalogPrice("a@1", "CNY")})
		},
		"repriced in other currency": func(in *BillInput) {
			in.Correction = repriced(Repriced{Version: "a@1", Price: catalogPrice("a@2", "USD")})
		},
		"repriced twice": func(in *BillInput) {
			r := Repriced{Version: "a@1", Price: catalogPrice("a@2", "CNY")}
			in.Correction = repriced(r, r)
		},
	} {
		in := exampleInput(t)
		change(&in)
		in.Inputs.Rows++ // wrong as well, and looked at later
		if _, err := Bill(in); !errors.Is(err, ErrBillInput) {
			t.Errorf("%s: got %v, want ErrBillInput", name, err)
		}
	}
	for name, change := range map[string]func(*BillInput){
		"rows":             func(in *BillInput) { in.Inputs.Rows++ },
		"segment":          func(in *BillInput) { in.Inputs.Quantities[0].Segment = 2 },
		"negative segment": func(in *BillInput) { in.Inputs.Quantities[0].Segment = -1 },
		"late segment":     func(in *BillInput) { in.Inputs.Quantities[2].Segment = 1 },
		"unknown period":   func(in *BillInput) { in.Inputs.Quantities[2].Origin = "2023-08" },
		"late in time":     func(in *BillInput) { in.Inputs.Quantities[0].Late = true },
		"twice":            func(in *BillInput) { in.Inputs.Quantities = append(in.Inputs.Quantities, in.Inputs.Quantities[0]) },
		"no requests":      func(in *BillInput) { in.Inputs.Quantities[0].Requests = 0 },
		"all too empty":    func(in *BillInput) { in.Inputs.Quantities[0].Empty = in.Inputs.Quantities[0].Requests + 1 },
		"negative cost":    func(in *BillInput) { in.Inputs.Quantities[0].Cost = one.Neg() },
		"overflow": func(in *BillInput) {
			q := in.Inputs.Quantities[0]
			q.PriceVersion, q.Requests = "x", 1<<64-1
			in.Inputs.Quantities = append(in.Inputs.Quantities, q)
		},
		"overflow with what was billed": func(in *BillInput) { in.Origins[0].Billed[0].Tokens.Input = 1<<64 - 1 },
	} {
		in := exampleInput(t)
		change(&in)
		if _, err := Bill(in); !errors.Is(err, ErrInputs) {
			t.Errorf("%s: got %v, want ErrInputs", name, err)
		}
	}
}

func TestRepricedByAnotherModelsPrice(t *testing.T) {
	in := exampleInput(t)
	in.Correction = repriced(Repriced{Version: "gpt-4o@1", Price: catalogPrice("b@1", "CNY")})
	if _, err := Bill(in); !errors.Is(err, ErrUnknownPrice) {
		t.Errorf("got %v, want ErrUnknownPrice", err)
	}
}

// Credits may expire twice at one instant: given back by a credit note, say, after
// they have expired.
func TestCreditsExpireTwiceAtOneInstant(t *testing.T) {
	at := time.Date(2024, 1, 10, 0, 0, 0, 0, time.UTC)
	s := NewState(uuid.UUID{1}, "CNY")
	for i := range byte(2) {
		grant := Grant{ID: uuid.UUID{2, i}, Kind: GrantPromotional, Amount: AmountFromInt(5), GrantedAt: at.Add(-time.Hour), ExpiresAt: at}
		e, err := s.GrantCredit(grant)
		if err == nil {
			err = s.Apply(e)
		}
		if err == nil {
			e, err = s.Expire(at)
		}
		if err == nil {
			err = s.Apply(e)
		}
		if err != nil {
			t.Fatalf("credit %d: %v", i+1, err)
		}
		if err := s.Apply(e); !errors.Is(err, ErrRepeated) {
			t.Errorf("the same expiry again: got %v, want ErrRepeated", err)
		}
	}
	if left := s.PromoBalance(); !left.IsZero() {
		t.Errorf("%s are left", left)
	}
}
