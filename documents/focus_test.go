package documents

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

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

func TestFocusSplitsLinesByTeam(t *testing.T) {
	inv := wholeInvoice(t)
	a, b := Team{ID: "t-1", Name: "研发"}, Team{ID: "t-2", Name: "Sales"}
	share := func(na, nb uint64) map[int][]TeamShare { return map[int][]TeamShare{1: {{a, na}, {b, nb}}} }
	columns, rows := focusCSV(t, FocusInvoice{Invoice: inv, Parties: exampleParties(), Teams: share(100_000_001, 23_456_788)})
	for _, p := range focusProblems(columns, rows) {
		t.Error(p)
	}
	if got := billedOf(rows, inv.Number); !got.Equal(inv.Total.Decimal()) {
		t.Errorf("Σ BilledCost = %s, the invoice bills %s", got, inv.Total)
	}
	if r := rows[0]; r["SubAccountId"] != "t-1" || r["SubAccountName"] != "研发" || r["ConsumedQuantity"] != "100000001" || r["BilledCost"] != "1800.000018" {
		t.Errorf("first share = %v", r)
	}
	if r := rows[1]; r["SubAccountId"] != "t-2" || r["ContractedCost"] != "422.222184" || r["BilledCost"] != "422.219982" {
		t.Errorf("last share = %v", r)
	}
	for name, shares := range map[string]map[int][]TeamShare{
		"too little": share(1, 1), "too much": share(123_456_789, 1), "a team without a name": {1: {{Team{ID: "t"}, 123_456_789}}},
	} {
		err := must(NewFocusExport(io.Discard)).AddInvoice(FocusInvoice{Invoice: inv, Parties: exampleParties(), Teams: shares})
		if !errors.Is(err, ErrSums) {
			t.Errorf("%s: %v, want %v", name, err, ErrSums)
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
