package ledger

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
)

// exampleInvoice has a line of nearly every kind, and never changes.
func exampleInvoice(t testing.TB) Invoice {
	t.Helper()
	inv, err := Bill(exampleInput(t))
	if err != nil {
		t.Fatal(err)
	}
	return inv.Issue(InvoiceNumber("AIONE", 2023, 1))
}

func exampleInput(t testing.TB) BillInput {
	t.Helper()
	zone := zoneFor(t, "Asia/Shanghai")
	period, err := ParsePeriod("2023-11", zone)
	if err != nil {
		t.Fatal(err)
	}
	october, err := ParsePeriod("2023-10", zone)
	if err != nil {
		t.Fatal(err)
	}
	d := decimal.RequireFromString
	plans := []Plan{
		{Code: "basic", From: time.Date(2023, 9, 1, 0, 0, 0, 0, time.UTC), Terms: Terms{MonthlyFee: AmountFromInt(30), IncludedTokens: 100_000}},
		{Code: "pro", From: time.Date(2023, 11, 20, 16, 0, 0, 0, time.UTC), Terms: Terms{
			MonthlyFee: AmountFromInt(90), IncludedAmount: AmountFromInt(1), Commitment: AmountFromInt(60), DiscountPct: d("12.5"),
			DiscountAmount: AmountFromInt(1), OveragePolicy: OverageBill,
			Charges: []Charge{
				{Name: "output", Model: ChargeGraduated, Models: []string{"gpt-4o"}, Buckets: []Bucket{BucketOutput, BucketReasoning},
					Tiers: []Tier{{UpTo: 5000, UnitPrice: d("72"), FlatFee: mustAmount(t, "0.5")}, {UnitPrice: d("36")}}},
				{Name: "images", Model: ChargePackage, Buckets: []Bucket{BucketImages}, PackageSize: 10, PackagePrice: AmountFromInt(2), FreeUnits: 1},
			},
		}},
	}
	return BillInput{
		OrgID: uuid.MustParse("a40f5d1f-d889-42e9-94ea-b9b33585fc6b"), LegalEntity: "AIONE", Currency: "CNY", Period: period,
		CreatedAt: time.Date(2023, 12, 1, 1, 0, 0, 123e6, time.UTC), CreatedOn: Date{2023, 12, 1}, TermsDays: 30,
		Segments: SegmentsOf(period, zone, plans), Next: NextSegment(period, zone, plans), Advance: AmountFromInt(30),
		TaxRates: []TaxRate{{Name: "VAT", Pct: d("6")}},
		Credits: []Credit{{Remaining: AmountFromInt(20), Grant: Grant{ID: uuid.MustParse("019a0000-0000-7000-8000-000000000001"), Kind: GrantPromotional,
			Amount: AmountFromInt(25), GrantedAt: time.Date(2023, 9, 1, 0, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2024, 9, 1, 0, 0, 0, 0, time.UTC), Priority: 2, Source: "welcome"}}},
		Cut: 1000, PreviousCut: 400,
		Inputs: Inputs{Rows: 14, RowsDigest: "d1", Quantities: []Quantity{
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Tokens: events.Tokens{Input: 123_456, Output: 7_890, Reasoning: 11}, Requests: 10, Cost: d("2.791080")},
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Segment: 1, Tokens: events.Tokens{Output: 7_890}, Images: 12, Requests: 1, Cost: d("3.928080")},
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Late: true, Origin: "2023-10", Tokens: events.Tokens{Input: 1_000_000, CacheRead: 5}, Images: 2, Requests: 3, Cost: d("18.560045")},
		}},
		Origins: []Origin{{Period: october, Segments: SegmentsOf(october, zone, plans), Billed: []Quantity{
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Tokens: events.Tokens{Input: 50_000}, Requests: 2, Cost: d("0.9")},
		}}},
		Prices: map[string]catalog.Price{"gpt-4o@1": {
			Version: "gpt-4o@1", Model: "gpt-4o", EffectiveFrom: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Currency: "CNY",
			Input: d("18"), CacheRead: d("9"), CacheWrite5m: d("18"), CacheWrite1h: d("18"), Output: d("72"), Reasoning: d("72"), Image: d("0.28"),
		}},
	}
}
