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
	previous, err := ledger.ParsePeriod("2023-10", zone)
	if err != nil {
		t.Fatal(err)
	}
	d := decimal.RequireFromString
	inv, err := ledger.Bill(ledger.BillInput{
		OrgID: uuid.MustParse("a40f5d1f-d889-42e9-94ea-b9b33585fc6b"), LegalEntity: "AIONE", Currency: "CNY", Period: period,
		CreatedAt: time.Date(2023, 12, 1, 1, 0, 0, 123e6, time.UTC), CreatedOn: ledger.Date{Year: 2023, Month: 12, Day: 1}, TermsDays: 30,
		Cut: 1000, PreviousCut: 400, Origins: []ledger.Origin{{Period: previous}},
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

func amount(s string) ledger.Amount {
	a, err := ledger.NewAmount(decimal.RequireFromString(s))
	if err != nil {
		panic(err)
	}
	return a
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// compose gives the invoice other lines, and says of them what they come to.
func compose(inv ledger.Invoice, lines []ledger.Line, taxes ...ledger.TaxAmount) ledger.Invoice {
	none := ledger.Amount{}
	inv.Lines, inv.Taxes = lines, taxes
	inv.Exact, inv.Subtotal, inv.Adjustments, inv.Discount, inv.Tax, inv.CreditsApplied, inv.Carried, inv.Total = none, none, none, none, none, none, none, none
	add := func(to *ledger.Amount, a ledger.Amount) { *to = must(to.Add(a)) }
	for _, l := range lines {
		add(&inv.Total, l.Amount)
		add(&inv.Exact, l.Exact)
		switch {
		case l.Kind == ledger.LineDiscount:
			add(&inv.Discount, l.Amount.Neg())
		case l.Kind == ledger.LineTax:
			add(&inv.Tax, l.Amount)
		case l.Kind == ledger.LineCredit:
			add(&inv.CreditsApplied, l.Amount.Neg())
		case l.Kind == ledger.LineCarried:
			add(&inv.Carried, l.Amount)
		case l.Late():
			add(&inv.Adjustments, l.Amount)
		default:
			add(&inv.Subtotal, l.Amount)
		}
	}
	return inv
}

// wholeInvoice has a line of every kind.
func wholeInvoice(t rapid.TB) ledger.Invoice {
	t.Helper()
	inv := exampleInvoice(t)
	zone := must(time.LoadLocation("Asia/Shanghai"))
	inv.Segments = ledger.SegmentsOf(inv.Period, zone, []ledger.Plan{{Code: "team", From: time.Date(2023, 11, 10, 0, 0, 0, 0, zone)}})
	inv.Next = ledger.NextSegment(inv.Period, zone, nil)
	october := must(ledger.ParsePeriod("2023-10", zone))
	inv.Origins = []ledger.Origin{{Period: october, Segments: ledger.SegmentsOf(october, zone, nil)}}
	grant := ledger.Grant{ID: uuid.MustParse("11111111-d889-42e9-94ea-b9b33585fc6b"), Kind: ledger.GrantPromotional, Amount: amount("50"), Source: "新用户赠送"}
	inv.Credits = []ledger.Credit{{Grant: grant, Remaining: amount("50")}}
	d, tokens := decimal.RequireFromString, ledger.UnitTokens
	lines := []ledger.Line{
		{Kind: ledger.LineUsage, Model: "gpt-4o", Bucket: ledger.BucketInput, PriceVersion: "gpt-4o@1", Quantity: 123_456_789, Unit: tokens, UnitPrice: d("18"), Exact: amount("2222.222202"), Amount: amount("2222.22")},
		{Kind: ledger.LineUsage, Model: "gpt-4o", Bucket: ledger.BucketReasoning, PriceVersion: "gpt-4o@1", Quantity: 11, Unit: tokens, UnitPrice: d("72"), Exact: amount("0.000792"), Amount: amount("0")},
		{Kind: ledger.LineUsage, Segment: 1, Model: "gemini-image", Bucket: ledger.BucketImages, PriceVersion: "gemini-image@3", Quantity: 7, Unit: ledger.UnitImages, UnitPrice: d("0.28"), Exact: amount("1.96"), Amount: amount("1.96")},
		{Kind: ledger.LineTier, Segment: 1, Name: "output", Tier: 1, Bucket: ledger.BucketOutput, Quantity: 1_000_000, Unit: tokens, UnitPrice: d("60"), Exact: amount("60"), Amount: amount("60")},
		{Kind: ledger.LineTier, Segment: 1, Name: "output", Tier: 2, Bucket: ledger.BucketOutput, Quantity: 333_333, Unit: tokens, UnitPrice: d("50"), FlatFee: amount("5"), Exact: amount("21.66665"), Amount: amount("21.67")},
		{Kind: ledger.LineTier, Segment: 1, Name: "image packs", Tier: 1, Quantity: 120, Unit: "packages", UnitPrice: d("9.9"), Exact: amount("19.8"), Amount: amount("19.8")},
		{Kind: ledger.LineIncluded, Segment: 1, Name: "team", Quantity: 500_000, Unit: tokens, Exact: amount("-9"), Amount: amount("-9")},
		{Kind: ledger.LineCommitment, Segment: 1, Name: "team", Base: amount("3000"), Exact: amount("683.35"), Amount: amount("683.35")},
		{Kind: ledger.LineFee, Segment: 1, Name: "team", Base: amount("300"), Days: 21, OfDays: 30, Exact: amount("210"), Amount: amount("210")},
		{Kind: ledger.LineFeeCharged, Name: "basic", Base: amount("100"), Days: 21, OfDays: 30, Exact: amount("-70"), Amount: amount("-70")},
		{Kind: ledger.LineFeeAdvance, Name: "team", Base: amount("300"), Exact: amount("300"), Amount: amount("300")},
		{Kind: ledger.LineUsage, Model: "gpt-4o", Bucket: ledger.BucketCacheRead, PriceVersion: "gpt-4o@1", Origin: "2023-10", Quantity: 1_000_000, Unit: tokens, UnitPrice: d("9"), Exact: amount("9"), Amount: amount("9")},
		{Kind: ledger.LineUsage, Model: "gpt-4o", Bucket: ledger.BucketInput, PriceVersion: "gpt-4o@1", Origin: ledger.OriginEarlier, Quantity: 10, Unit: tokens, UnitPrice: d("18"), Exact: amount("0.00018"), Amount: amount("0")},
		{Kind: ledger.LineAdjustment, Origin: "2023-10", Name: "basic", Exact: amount("-0.9"), Amount: amount("-0.9")},
		{Kind: ledger.LineDiscount, Segment: 1, Name: "team", Pct: d("10"), Base: amount("777.78"), Exact: amount("-77.78"), Amount: amount("-77.78")},
		{Kind: ledger.LineTax, Name: "增值税 VAT", Pct: d("6"), Base: amount("3370.32"), Exact: amount("202.22"), Amount: amount("202.22")},
		{Kind: ledger.LineCredit, Name: grant.Source, GrantID: grant.ID, Exact: amount("-50"), Amount: amount("-50")},
		{Kind: ledger.LineCarried, Exact: amount("1.25"), Amount: amount("1.25")},
	}
	vat := ledger.TaxAmount{TaxRate: ledger.TaxRate{Name: "增值税 VAT", Pct: d("6")}, Base: amount("3370.32"), Amount: amount("202.22")}
	inside := ledger.TaxAmount{TaxRate: ledger.TaxRate{Name: "附加税", Pct: d("0.72"), Inclusive: true}, Base: amount("3370.32"), Amount: amount("24.16")}
	return compose(inv, lines, vat, inside)
}

// exampleCreditNote takes back two lines of wholeInvoice, with their tax.
func exampleCreditNote(inv ledger.Invoice) ledger.CreditNote {
	tax := inv.Taxes[0]
	tax.Base, tax.Amount = amount("100"), amount("6")
	return ledger.CreditNote{
		ID: uuid.MustParse("22222222-d889-42e9-94ea-b9b33585fc6b"), Number: "CN-AIONE-2023-000001", OrgID: inv.OrgID, LegalEntity: inv.LegalEntity,
		Currency: inv.Currency, InvoiceID: inv.ID, InvoiceNumber: inv.Number, N: 1,
		CreatedAt: time.Date(2023, 12, 9, 8, 0, 0, 0, time.UTC), CreatedOn: ledger.Date{Year: 2023, Month: 12, Day: 9},
		Reason:   "价格有误 wrong price",
		Lines:    []ledger.CreditLine{{Line: 1, Amount: amount("80")}, {Line: 4, Amount: amount("20")}},
		Subtotal: amount("100"), Taxes: []ledger.TaxAmount{tax}, Tax: amount("6"), Total: amount("106"),
		OffDue: amount("56"), Restored: []ledger.GrantUse{{GrantID: inv.Credits[0].Grant.ID, Kind: ledger.GrantPromotional, Amount: amount("50")}},
	}
}
