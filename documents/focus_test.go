package documents

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
	"aione/events"
	"aione/ledger"
)

func focusCSV(t rapid.TB, invoices ...FocusInvoice) (columns []string, rows []map[string]string) {
	t.Helper()
	var out bytes.Buffer
	x := must(NewFocusExport(&out))
	for _, f := range invoices {
		if err := x.AddInvoice(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return parseCSV(t, out.String())
}

// billedOf is Σ BilledCost of an InvoiceId.
func billedOf(rows []map[string]string, number string) (sum decimal.Decimal) {
	for _, row := range rows {
		if row["InvoiceId"] == number {
			sum = sum.Add(decimal.RequireFromString(row["BilledCost"]))
		}
	}
	return sum
}

func TestFocusOfEveryKindOfLine(t *testing.T) {
	inv := wholeInvoice(t)
	columns, rows := focusCSV(t, FocusInvoice{Invoice: inv, Parties: exampleParties(), Publishers: map[string]string{"gpt-4o": "OpenAI"}})
	for _, p := range focusProblems(columns, rows) {
		t.Error(p)
	}
	if got := billedOf(rows, inv.Number); !got.Equal(inv.Total.Decimal()) {
		t.Errorf("Σ BilledCost = %s, the invoice bills %s", got, inv.Total)
	}
	byLine := make(map[string][]map[string]string)
	for _, row := range rows {
		byLine[row["x_InvoiceLine"]] = append(byLine[row["x_InvoiceLine"]], row)
	}
	for n, want := range map[string]map[string]string{
		"1": {"ChargeCategory": "Usage", "ChargeClass": "", "BilledCost": "2222.22", "ContractedCost": "2222.222202", "ConsumedQuantity": "123456789", "ConsumedUnit": "Tokens",
			"PricingQuantity": "123.456789", "PricingUnit": "1000000 Tokens", "ListUnitPrice": "18", "SkuId": "gpt-4o/input", "SkuMeter": "Input Tokens", "SkuPriceId": "gpt-4o@1/input",
			"SkuPriceDetails": `{"x_Model":"gpt-4o","x_TokenClass":"input"}`, "PublisherName": "OpenAI", "x_TokenClass": "input",
			"BillingPeriodStart": "2023-10-31T16:00:00Z", "BillingPeriodEnd": "2023-11-30T16:00:00Z", "ChargePeriodStart": "2023-10-31T16:00:00Z", "ChargePeriodEnd": "2023-11-09T16:00:00Z"},
		"2":  {"SkuMeter": "Reasoning Tokens", "BilledCost": "0", "ContractedCost": "0.000792"},
		"3":  {"ConsumedUnit": "Images", "PricingQuantity": "7", "PricingUnit": "Images", "SkuMeter": "Images", "x_TokenClass": "", "PublisherName": exampleParties().Issuer.Name, "ChargePeriodStart": "2023-11-09T16:00:00Z"},
		"4":  {"ChargeCategory": "Usage", "SkuId": "charge/output", "SkuPriceId": "charge/output/tier/1", "SkuMeter": "Output Tokens"},
		"6":  {"ChargeCategory": "Usage", "ConsumedQuantity": "120", "PricingQuantity": "1", "PricingUnit": "Units", "ListUnitPrice": "19.8", "BilledCost": "19.8"},
		"7":  {"ChargeCategory": "Credit", "BilledCost": "-9", "ConsumedQuantity": ""},
		"8":  {"ChargeCategory": "Adjustment", "BilledCost": "683.35"},
		"9":  {"ChargeCategory": "Purchase", "ChargeFrequency": "Recurring", "BilledCost": "210", "PricingQuantity": "1", "SkuMeter": "Monthly Fees"},
		"10": {"ChargeCategory": "Purchase", "BilledCost": "-70", "PricingQuantity": "-1", "ListUnitPrice": "70"},
		"11": {"ChargeCategory": "Purchase", "ChargePeriodStart": "2023-11-30T16:00:00Z", "ChargePeriodEnd": "2023-12-31T16:00:00Z"},
		"12": {"ChargeCategory": "Usage", "ChargeClass": "Correction", "SkuMeter": "Cache Read Tokens", "ChargePeriodStart": "2023-09-30T16:00:00Z", "ChargePeriodEnd": "2023-10-31T16:00:00Z"},
		"13": {"ChargeClass": "Correction"},
		"14": {"ChargeCategory": "Adjustment", "ChargeClass": "Correction", "BilledCost": "-0.9"},
		"15": {"ChargeCategory": "Adjustment", "ChargeClass": "", "BilledCost": "-77.78", "ChargeFrequency": "One-Time"},
		"16": {"ChargeCategory": "Tax", "BilledCost": "202.22", "SkuId": ""},
		"17": {"ChargeCategory": "Credit", "BilledCost": "-50"},
		"18": {"ChargeCategory": "Adjustment", "BilledCost": "1.25"},
	} {
		for column, value := range want {
			if got := byLine[n][0][column]; got != value {
				t.Errorf("line %s: %s = %q, want %q", n, column, got, value)
			}
		}
	}
	if fee := byLine["5"]; len(fee) != 2 || fee[0]["BilledCost"] != "16.67" || fee[1]["BilledCost"] != "5" || fee[1]["ChargeCategory"] != "Purchase" {
		t.Errorf("a tier with a flat fee = %v", fee)
	}
}

// Every rule can be broken, and is then found.
func TestFocusRulesFail(t *testing.T) {
	columns, rows := focusCSV(t, FocusInvoice{Invoice: wholeInvoice(t), Parties: exampleParties()})
	row := func(category string) map[string]string {
		for _, r := range rows {
			if r["ChargeCategory"] == category && r["ChargeClass"] == "" {
				return r
			}
		}
		t.Fatalf("no %s", category)
		return nil
	}
	for _, rule := range focusRules {
		without := strings.Split(strings.Replace(","+strings.Join(columns, ",")+",", ","+rule.name+",", ",", 1), ",")
		if len(focusProblems(without[1:len(without)-1], rows)) == 0 {
			t.Errorf("nobody misses %s", rule.name)
		}
		if !rule.nullable {
			broken := maps.Clone(row("Usage"))
			broken[rule.name] = ""
			if len(focusProblems(columns, []map[string]string{broken})) == 0 {
				t.Errorf("%s may be null", rule.name)
			}
		}
	}
	for _, c := range []struct{ of, column, value string }{
		{"Usage", "BilledCost", "1,000"}, {"Usage", "BilledCost", "+1"}, {"Usage", "BilledCost", "¥1"}, {"Usage", "BillingCurrency", "rmb"},
		{"Usage", "BillingPeriodStart", "2023-11-01"}, {"Usage", "BillingPeriodStart", "2023-11-01T00:00:00+08:00"}, {"Usage", "BillingPeriodEnd", "2000-01-01T00:00:00Z"},
		{"Usage", "ChargePeriodEnd", "2000-01-01T00:00:00Z"}, {"Usage", "ChargeCategory", "usage"}, {"Usage", "ChargeClass", "Refund"}, {"Usage", "ChargeFrequency", "Monthly"},
		{"Purchase", "ChargeFrequency", "Usage-Based"}, {"Usage", "ConsumedQuantity", ""}, {"Usage", "ConsumedUnit", ""}, {"Usage", "ConsumedUnit", "tokens"},
		{"Tax", "ConsumedQuantity", "1"}, {"Credit", "ContractedCost", "7"}, {"Credit", "ListCost", "7"}, {"Credit", "EffectiveCost", "7"}, {"Adjustment", "EffectiveCost", "7"},
		{"Usage", "ContractedCost", "7"}, {"Usage", "ListCost", "7"}, {"Usage", "ContractedUnitPrice", ""}, {"Usage", "ContractedUnitPrice", "-18"}, {"Usage", "ListUnitPrice", "19"},
		{"Tax", "ListUnitPrice", "1"}, {"Tax", "SkuId", "x"}, {"Tax", "SkuPriceId", "x"}, {"Tax", "PricingCategory", "Standard"}, {"Usage", "PricingCategory", "List"},
		{"Usage", "PricingQuantity", ""}, {"Usage", "PricingUnit", ""}, {"Usage", "ServiceCategory", "AI"}, {"Usage", "ServiceSubcategory", "LLM"},
		{"Usage", "SkuMeter", ""}, {"Usage", "SkuPriceDetails", "{"}, {"Usage", "SkuPriceDetails", `{"x_A":[1]}`}, {"Usage", "SkuPriceDetails", `{"Model":"a"}`},
		{"Usage", "SkuPriceId", ""}, {"Usage", "SubAccountId", "a"}, {"Usage", "SubAccountName", "a"}, {"Usage", "ProviderName", " "},
	} {
		broken := maps.Clone(row(c.of))
		broken[c.column] = c.value
		if len(focusProblems(columns, []map[string]string{broken})) == 0 {
			t.Errorf("%s of a %s may be %q", c.column, c.of, c.value)
		}
	}
	if len(focusProblems(append(columns, "Team"), rows)) == 0 || len(focusProblems(append(columns, "x_team"), rows)) == 0 {
		t.Error("a column of no name in FOCUS is taken")
	}
}

// drawInvoice draws lines of all kinds, with sums that they give.
func drawInvoice(t *rapid.T, whole ledger.Invoice) ledger.Invoice {
	prices := rapid.Custom(func(t *rapid.T) decimal.Decimal { return decimal.New(rapid.Int64Range(0, 1e9).Draw(t, "price"), -6) })
	money := rapid.Custom(func(t *rapid.T) ledger.Amount {
		return must(ledger.NewAmount(decimal.New(rapid.Int64Range(-1e9, 1e9).Draw(t, "money"), -2)))
	})
	names := rapid.SampledFrom([]string{"", "gpt-4o", "模型", "=cmd()", `a"b,c`, "😀"})
	buckets := rapid.SampledFrom([]ledger.Bucket{"", ledger.BucketInput, ledger.BucketReasoning, ledger.BucketImages, "new"})
	kinds := []ledger.LineKind{""}
	for k := range lineKindLabels {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	line := rapid.Custom(func(t *rapid.T) ledger.Line {
		l := ledger.Line{
			Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Model: names.Draw(t, "model"), Name: names.Draw(t, "name"), Bucket: buckets.Draw(t, "bucket"),
			Origin: rapid.SampledFrom([]string{"", "", "2023-10", "2023-09", ledger.OriginEarlier}).Draw(t, "origin"), Segment: rapid.IntRange(0, 2).Draw(t, "segment"),
			Quantity: rapid.Uint64Max(1e15).Draw(t, "quantity"), UnitPrice: prices.Draw(t, "unit price"), Tier: rapid.IntRange(0, 3).Draw(t, "tier"),
			Unit: rapid.SampledFrom([]ledger.Unit{ledger.UnitTokens, ledger.UnitImages, ledger.UnitRequests, "packages", ""}).Draw(t, "unit"),
		}
		l.PriceVersion = l.Model + "@1"
		exact := money.Draw(t, "exact").Decimal()
		if rapid.Bool().Draw(t, "metered") {
			exact = l.UnitPrice.Mul(decimal.NewFromUint64(l.Quantity)).Shift(focusUnits[l.Unit].shift)
			if rapid.Bool().Draw(t, "with fee") {
				l.FlatFee = amount("5")
				exact = exact.Add(l.FlatFee.Decimal())
			}
		}
		l.Exact = must(ledger.NewAmount(exact))
		l.Amount = must(ledger.RoundHalfEvenToMinor(l.Exact, "CNY"))
		return l
	})
	inv := compose(whole, rapid.SliceOfN(line, 0, 12).Draw(t, "lines"))
	if !inv.Tax.IsZero() {
		inv.Taxes = []ledger.TaxAmount{{TaxRate: ledger.TaxRate{Name: "VAT", Pct: decimal.NewFromInt(6)}, Amount: inv.Tax}}
	}
	return inv
}

func TestFocusOfAnyInvoice(t *testing.T) {
	whole := wholeInvoice(t)
	rapid.Check(t, func(t *rapid.T) {
		inv := drawInvoice(t, whole)
		if rapid.Bool().Draw(t, "corrected") {
			inv.Correction = &ledger.Correction{Number: "INV-1"}
		}
		columns, rows := focusCSV(t, FocusInvoice{Invoice: inv, Parties: exampleParties()})
		for _, p := range focusProblems(columns, rows) {
			if !strings.Contains(p, "two SkuPriceDetails") { // drawn lines share versions that real ones do not
				t.Fatal(p)
			}
		}
		if got := billedOf(rows, inv.Number); !got.Equal(inv.Total.Decimal()) {
			t.Fatalf("Σ BilledCost = %s, the invoice bills %s", got, inv.Total)
		}
	})
}

var teamA, teamB = uuid.MustParse("0000000a-d889-42e9-94ea-b9b33585fc6b"), uuid.MustParse("0000000b-d889-42e9-94ea-b9b33585fc6b")

// sharesOf splits one line, and no other.
func sharesOf(line int, shares ...ledger.TeamShare) func(int) ([]ledger.TeamShare, error) {
	return func(n int) ([]ledger.TeamShare, error) {
		if n != line {
			return nil, nil
		}
		return shares, nil
	}
}

func TestFocusSplitsLinesByTeam(t *testing.T) {
	inv := wholeInvoice(t)
	f := FocusInvoice{Invoice: inv, Parties: exampleParties(), TeamNames: map[uuid.UUID]string{teamA: "研发"},
		Shares: sharesOf(1, ledger.TeamShare{Quantity: 1}, ledger.TeamShare{TeamID: teamA, Quantity: 100_000_000}, ledger.TeamShare{TeamID: teamB, Quantity: 23_456_788})}
	columns, rows := focusCSV(t, f)
	for _, p := range focusProblems(columns, rows) {
		t.Error(p)
	}
	if got := billedOf(rows, inv.Number); !got.Equal(inv.Total.Decimal()) {
		t.Errorf("Σ BilledCost = %s, the invoice bills %s", got, inv.Total)
	}
	for i, want := range []string{
		"  1 0.000018 0",
		teamA.String() + " 研发 100000000 1800 1800",
		teamB.String() + " " + teamB.String() + " 23456788 422.222184 422.22", // nobody knows its name any more
	} {
		r := rows[i]
		if got := fmt.Sprint(r["SubAccountId"], " ", r["SubAccountName"], " ", r["ConsumedQuantity"], " ", r["ContractedCost"], " ", r["BilledCost"]); got != want {
			t.Errorf("share %d = %s, want %s", i, got, want)
		}
	}
	for name, n := range map[string]uint64{"too little": 123_456_788, "too much": 123_456_790} {
		f.Shares = sharesOf(1, ledger.TeamShare{TeamID: teamA, Quantity: n})
		if err := must(NewFocusExport(io.Discard)).AddInvoice(f); !errors.Is(err, ErrSums) {
			t.Errorf("%s: %v, want %v", name, err, ErrSums)
		}
	}
	broken := errors.New("the rows are away")
	f.Shares = func(int) ([]ledger.TeamShare, error) { return nil, broken }
	if err := must(NewFocusExport(io.Discard)).AddInvoice(f); !errors.Is(err, broken) {
		t.Errorf("without an answer: %v", err)
	}
}

// drawTeamInvoice draws an issued invoice with usage at list price, in tiers and in
// packages, and late, and which teams used it: three, and none.
func drawTeamInvoice(t *rapid.T) (ledger.Invoice, []ledger.TeamQuantity) {
	d, zone := decimal.RequireFromString, must(time.LoadLocation("Asia/Shanghai"))
	period, october := must(ledger.ParsePeriod("2023-11", zone)), must(ledger.ParsePeriod("2023-10", zone))
	terms := ledger.Terms{MonthlyFee: amount("199"), IncludedTokens: 1000, DiscountPct: d("10"), Charges: []ledger.Charge{
		{Name: "output", Model: rapid.SampledFrom([]ledger.ChargeModel{ledger.ChargeGraduated, ledger.ChargeVolume}).Draw(t, "model"), Buckets: []ledger.Bucket{ledger.BucketOutput},
			Tiers: []ledger.Tier{{UpTo: 1000, UnitPrice: d("60")}, {UpTo: 200_000, UnitPrice: d("50"), FlatFee: amount("5.005")}, {UnitPrice: d("40"), FlatFee: amount("1")}}},
		{Name: "pictures", Model: ledger.ChargePackage, Buckets: []ledger.Bucket{ledger.BucketImages}, PackageSize: 7, PackagePrice: amount("9.999"), FreeUnits: 3},
	}}
	price := catalog.Price{Version: "m@1", Model: "m", Currency: "CNY", EffectiveFrom: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		Input: d("18.000001"), Output: d("72"), Image: d("0.28"), Request: d("0.001")}
	in := ledger.BillInput{
		OrgID: uuid.MustParse("a40f5d1f-d889-42e9-94ea-b9b33585fc6b"), LegalEntity: "AIONE", Currency: "CNY", Period: period,
		CreatedAt: period.End.Add(time.Hour), CreatedOn: ledger.Date{Year: 2023, Month: 12, Day: 1}, Cut: 9, PreviousCut: 4,
		Segments: ledger.SegmentsOf(period, zone, []ledger.Plan{{Code: "team", From: time.Date(2023, 11, 10, 0, 0, 0, 0, zone), Terms: terms}}),
		Origins:  []ledger.Origin{{Period: october}}, Prices: map[string]catalog.Price{"m@1": price}, TaxRates: []ledger.TaxRate{{Name: "VAT", Pct: d("6")}},
	}
	var used []ledger.TeamQuantity
	for _, at := range []ledger.Quantity{{Segment: 0}, {Segment: 1}, {Late: true, Origin: "2023-10"}} {
		all := at
		all.Model, all.PriceVersion = "m", "m@1"
		for _, team := range rapid.SliceOfNDistinct(rapid.SampledFrom([]uuid.UUID{{}, teamA, teamB, {1}}), 0, 4, rapid.ID[uuid.UUID]).Draw(t, "teams") {
			u := ledger.TeamQuantity{TeamID: team, Quantity: all}
			u.Tokens = events.Tokens{Input: rapid.Uint64Max(1e9).Draw(t, "input"), Output: rapid.Uint64Max(200_000).Draw(t, "output")}
			u.Images, u.Requests = rapid.Uint64Max(20).Draw(t, "images"), rapid.Uint64Range(1, 99).Draw(t, "requests")
			n := decimal.NewFromUint64
			u.Cost = price.Input.Mul(n(u.Tokens.Input)).Add(price.Output.Mul(n(u.Tokens.Output))).Shift(-6).Add(price.Image.Mul(n(u.Images))).Add(price.Request.Mul(n(u.Requests)))
			used = append(used, u)
		}
		for _, u := range used {
			if u.Segment == at.Segment && u.Origin == at.Origin {
				all.Tokens.Input, all.Tokens.Output = all.Tokens.Input+u.Tokens.Input, all.Tokens.Output+u.Tokens.Output
				all.Images, all.Requests, all.Cost = all.Images+u.Images, all.Requests+u.Requests, all.Cost.Add(u.Cost)
			}
		}
		if all.Requests > 0 {
			in.Inputs.Quantities = append(in.Inputs.Quantities, all)
			in.Inputs.Rows += all.Requests
		}
	}
	inv, err := ledger.Bill(in)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Issue(ledger.InvoiceNumber("AIONE", 2023, 1)), used
}

// Of any invoice split by team the rows add up to it and keep the rules, each team
// has the tokens that it used, and a credit note in full takes back from each team
// what the invoice billed it.
func TestFocusByTeam(t *testing.T) {
	split := 0
	rapid.Check(t, func(t *rapid.T) {
		inv, used := drawTeamInvoice(t)
		f := FocusInvoice{Invoice: inv, Parties: exampleParties(), TeamNames: map[uuid.UUID]string{teamA: "研发", teamB: "Sales"}, Shares: must(inv.SplitByTeam(used)).Shares}
		columns, rows := focusCSV(t, f)
		for _, p := range focusProblems(columns, rows) {
			t.Fatal(p)
		}
		if got := billedOf(rows, inv.Number); !got.Equal(inv.Total.Decimal()) {
			t.Fatalf("Σ BilledCost = %s, the invoice bills %s", got, inv.Total)
		}
		tokens, wantTokens := make(map[string]uint64), make(map[string]uint64)
		for _, r := range rows {
			if r["ConsumedUnit"] == "Tokens" {
				tokens[r["SubAccountId"]] += must(strconv.ParseUint(r["ConsumedQuantity"], 10, 64))
			}
			if r["SubAccountId"] != "" {
				split++
			}
			if r["SubAccountId"] != "" && (r["ChargeCategory"] != "Usage" || r["BilledCost"][0] == '-') {
				t.Fatalf("a team is charged %v", r)
			}
		}
		for _, u := range used {
			id := u.TeamID.String()
			if u.TeamID == uuid.Nil {
				id = ""
			}
			wantTokens[id] += u.Tokens.Total()
		}
		for id, n := range wantTokens {
			if tokens[id] != n {
				t.Fatalf("team %q has %d tokens, it used %d", id, tokens[id], n)
			}
		}
		checkExactCosts(t, inv, rows)
		checkTakenBack(t, f)
	})
	if !testing.Short() && split == 0 {
		t.Error("no row was of a team")
	}
}

// checkExactCosts: the parts of a line cost exactly what the line does.
func checkExactCosts(t *rapid.T, inv ledger.Invoice, rows []map[string]string) {
	exact := make(map[string]decimal.Decimal)
	for _, r := range rows {
		exact[r["x_InvoiceLine"]] = exact[r["x_InvoiceLine"]].Add(decimal.RequireFromString(r["ContractedCost"]))
	}
	for i, l := range inv.Lines {
		if want := l.Exact.Decimal(); (l.Kind == ledger.LineUsage || l.Kind == ledger.LineTier) && !exact[fmt.Sprint(i+1)].Equal(want) {
			t.Fatalf("Σ ContractedCost of line %d = %s, want %s", i+1, exact[fmt.Sprint(i+1)], want)
		}
	}
}

// checkTakenBack credits all of the invoice.
func checkTakenBack(t *rapid.T, f FocusInvoice) {
	inv := f.Invoice
	note := ledger.CreditNote{Number: "CN-1", InvoiceID: inv.ID, Currency: inv.Currency, Full: true, Taxes: inv.Taxes, Tax: inv.Tax}
	for i, l := range inv.Lines {
		if l.Kind != ledger.LineTax && !l.Amount.IsZero() {
			note.Lines = append(note.Lines, ledger.CreditLine{Line: i + 1, Amount: l.Amount})
			note.Subtotal = must(note.Subtotal.Add(l.Amount))
		}
	}
	note.Total = must(note.Subtotal.Add(note.Tax))
	var out bytes.Buffer
	x := must(NewFocusExport(&out))
	if err := errors.Join(x.AddInvoice(f), x.AddCreditNote(note, f, inv.Period), x.Close()); err != nil {
		t.Fatal(err)
	}
	columns, rows := parseCSV(t, out.String())
	for _, p := range focusProblems(columns, rows) {
		t.Fatal(p)
	}
	left := make(map[string]decimal.Decimal)
	for _, r := range rows {
		left[r["SubAccountId"]] = left[r["SubAccountId"]].Add(decimal.RequireFromString(r["BilledCost"]))
	}
	for team, sum := range left {
		if !sum.IsZero() {
			t.Fatalf("team %q is left with %s of a void invoice", team, sum)
		}
	}
}

// A document whose rows do not come to its total is not written, not even in part.
func TestFocusWritesNothingThatDoesNotAddUp(t *testing.T) {
	var out bytes.Buffer
	x := must(NewFocusExport(&out))
	inv := wholeInvoice(t)
	if err := x.AddInvoice(FocusInvoice{Invoice: inv, Parties: exampleParties()}); err != nil {
		t.Fatal(err)
	}
	made := 0
	err := x.write("INV-2", amount("3"), func(emit func(*focusRow) error) error {
		for _, billed := range []string{"1", "1.99"} {
			made++
			r := focusRow{billed: amount(billed), invoiceID: "INV-2"}
			if err := emit(&r); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, ErrSums) || made != 2 {
		t.Errorf("rows that come to 2.99 of 3: %v, made %d times", err, made)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, rows := parseCSV(t, out.String())
	for _, r := range rows {
		if r["InvoiceId"] != inv.Number {
			t.Errorf("a row of %s is written", r["InvoiceId"])
		}
	}
}

func TestFocusOfDraftsAndCreditNotes(t *testing.T) {
	inv := wholeInvoice(t)
	draft := inv
	draft.Number = ""
	note := exampleCreditNote(inv)
	var out bytes.Buffer
	x := must(NewFocusExport(&out))
	next := must(ledger.ParsePeriod("2023-12", must(time.LoadLocation("Asia/Shanghai"))))
	of := FocusInvoice{Invoice: inv, Parties: exampleParties()}
	if err := errors.Join(x.AddInvoice(FocusInvoice{Invoice: draft, Parties: exampleParties()}), x.AddCreditNote(note, of, next), x.Close()); err != nil {
		t.Fatal(err)
	}
	columns, rows := parseCSV(t, out.String())
	for _, p := range focusProblems(columns, rows) {
		t.Error(p)
	}
	if got := billedOf(rows, ""); !got.Equal(inv.Total.Decimal()) {
		t.Errorf("Σ BilledCost of the draft = %s, want %s", got, inv.Total)
	}
	if got := billedOf(rows, note.Number); !got.Equal(note.Total.Neg().Decimal()) {
		t.Errorf("Σ BilledCost of the credit note = %s, want %s", got, note.Total.Neg())
	}
	last := rows[len(rows)-3:]
	want := []string{"Usage Correction -80 2023-11-30T16:00:00Z", "Usage Correction -20 2023-11-30T16:00:00Z", "Tax Correction -6 2023-11-30T16:00:00Z"}
	for i, r := range last {
		if got := fmt.Sprint(r["ChargeCategory"], " ", r["ChargeClass"], " ", r["BilledCost"], " ", r["BillingPeriodStart"]); got != want[i] {
			t.Errorf("correction %d = %s, want %s", i, got, want[i])
		}
	}
	note.Subtotal = amount("99")
	if err := x.AddCreditNote(note, of, next); !errors.Is(err, ErrSums) {
		t.Errorf("a credit note that does not add up: %v", err)
	}
}
