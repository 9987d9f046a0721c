package documents

import (
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
	"aione/events"
	"aione/ledger"
)

func exampleParties() Parties {
	return Parties{
		Issuer: Issuer{
			Party: Party{
				Name: "爱万智能科技（上海）有限公司", Address: []string{"上海市浦东新区张江路 88 号 3 幢 1201 室", "中国 201203"},
				TaxID: "91310115MA1K4XXXX7", Email: "billing@aione.example", Phone: "+86 21 5080 0000",
			},
			Bank: Bank{AccountName: "爱万智能科技（上海）有限公司", BankName: "招商银行股份有限公司上海张江支行", AccountNumber: "1219 0000 1234 567", SWIFT: "CMBCCNBS"},
			Note: "本账单不是增值税发票。如需发票，请在付款后联系我们。 This is not a VAT fapiao; please ask for one after payment.",
		},
		BillTo: Party{Name: "深圳市镕昇数据有限公司 Rongsheng Data Ltd.", Address: []string{"深圳市南山区科技园南路 16 号", "Room 2305, Tower B, Nanshan, Shenzhen 518057"}, TaxID: "91440300MA5GXXXX1B", Email: "ap@rongsheng.example"},
	}
}

// exampleInvoice has usage in time and late usage, and never changes.
func exampleInvoice(t rapid.TB) ledger.Invoice {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	period, err := ledger.ParsePeriod("2023-11", zone)
	if err != nil {
		t.Fatal(err)
	}
	d := decimal.RequireFromString
	inv, err := ledger.Bill(ledger.BillInput{
		OrgID: uuid.MustParse("a40f5d1f-d889-42e9-94ea-b9b33585fc6b"), LegalEntity: "AIONE", Currency: "CNY", Period: period,
		CreatedAt: time.Date(2023, 12, 1, 1, 0, 0, 123e6, time.UTC), CreatedOn: ledger.Date{Year: 2023, Month: 12, Day: 1}, TermsDays: 30,
		Cut: 1000, PreviousCut: 400,
		Inputs: ledger.Inputs{Rows: 13, RowsDigest: "d1", Quantities: []ledger.Quantity{
			{Model: "gpt-4o", PriceVersion: "gpt-4o@1", Tokens: events.Tokens{Input: 123_456_789_012, Output: 7_890, Reasoning: 11, CacheWrite5m: 1000000}, Requests: 10, Cost: d("2222240.771088")},
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
	return inv.Issue(ledger.InvoiceNumber("AIONE", 2023, 1))
}
