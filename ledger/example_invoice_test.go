package ledger

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
)

// exampleInvoice has usage in time and late usage, and never changes.
func exampleInvoice(t testing.TB) Invoice {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	period, err := ParsePeriod("2023-11", zone)
	if err != nil {
		t.Fatal(err)
	}
	d := decimal.RequireFromString
	inv, err := Bill(BillInput{
		OrgID: uuid.MustParse("a40f5d1f-d889-42e9-94ea-b9b33585fc6b"), LegalEntity: "AIONE", Currency: "CNY", Period: period,
		CreatedAt: time.Date(2023, 12, 1, 1, 0, 0, 123e6, time.UTC), CreatedOn: Date{2023, 12, 1}, TermsDays: 30,
		Cut: 1000, PreviousCut: 400,
		Inputs: Inputs{Rows: 13, RowsDigest: "d1", Quantities: []Quantity{
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Tokens: events.Tokens{Input: 123_456, Output: 7_890, Reasoning: 11}, Requests: 10, Cost: d("2.791080")},
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Late: true, Origin: "2023-10", Tokens: events.Tokens{Input: 1_000_000, CacheRead: 5}, Images: 2, Requests: 3, Cost: d("18.560045")},
		}},
		Prices: map[string]catalog.Price{"gpt-4o@1": {
			Version: "gpt-4o@1", Model: "gpt-4o", EffectiveFrom: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Currency: "CNY",
			Input: d("18"), CacheRead: d("9"), CacheWrite5m: d("18"), CacheWrite1h: d("18"), Output: d("72"), Reasoning: d("72"), Image: d("0.28"),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return inv.Issue(InvoiceNumber("AIONE", 2023, 1))
}
