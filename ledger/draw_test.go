package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
)

// This file draws what the properties are tested with.

func drawMoney(t *rapid.T, name string) Amount {
	if rapid.IntRange(0, 2).Draw(t, name+" is there") == 0 {
		return Amount{}
	}
	return Amount{d: decimal.New(rapid.Int64Range(1, 1e6).Draw(t, name), -rapid.Int32Range(0, 4).Draw(t, name+" places"))}
}

// drawMinor is a positive number of minor units.
func drawMinor(t *rapid.T, name, currency string) Amount {
	places, _ := MinorUnits(currency)
	return Amount{d: decimal.New(rapid.Int64Range(1, 1e6).Draw(t, name), -places)}
}

func drawPct(t *rapid.T, name string) decimal.Decimal {
	switch rapid.IntRange(0, 4).Draw(t, name+" form") {
	case 0:
		return decimal.Decimal{}
	case 1:
		return decimal.New(100, 0)
	}
	return decimal.New(rapid.Int64Range(0, 100_000_000).Draw(t, name), -6)
}

func drawUnitPrice(t *rapid.T, name string) decimal.Decimal {
	return decimal.New(rapid.Int64Range(0, 1e8).Draw(t, name), -rapid.Int32Range(0, 6).Draw(t, name+" places"))
}

func drawTerms(t *rapid.T) Terms {
	if rapid.IntRange(0, 3).Draw(t, "pay as you go") == 0 {
		return Terms{}
	}
	terms := Terms{MonthlyFee: drawMoney(t, "fee"), IncludedAmount: drawMoney(t, "included amount"), Commitment: drawMoney(t, "commitment"),
		DiscountPct: drawPct(t, "discount"), DiscountAmount: drawMoney(t, "fixed discount")}
	if rapid.Bool().Draw(t, "includes tokens") {
		terms.IncludedTokens = rapid.Uint64Range(1, 1<<rapid.IntRange(1, 42).Draw(t, "included bits")).Draw(t, "included tokens")
	}
	groups := [][]Bucket{{BucketInput}, {BucketOutput, BucketReasoning}, {BucketImages}, {BucketRequests}, {BucketCacheRead, BucketCacheWrite1h}}
	for i, group := range groups {
		if rapid.IntRange(0, 2).Draw(t, "charge") > 0 {
			continue
		}
		c := drawCharge(t)
		c.Name, c.Buckets = fmt.Sprint("charge ", i), group
		if rapid.Bool().Draw(t, "of one model") {
			c.Models = []string{"a"}
		}
		terms.Charges = append(terms.Charges, c)
	}
	if rapid.IntRange(0, 3).Draw(t, "blocks") == 0 && (terms.IncludedTokens > 0 || !terms.IncludedAmount.IsZero()) {
		terms.OveragePolicy, terms.Charges = OverageBlock, nil
		if terms.IncludedTokens > 0 {
			terms.IncludedAmount = Amount{}
		}
	}
	return terms
}

func drawCharge(t *rapid.T) Charge {
	c := Charge{Model: rapid.SampledFrom([]ChargeModel{ChargeFlat, ChargeGraduated, ChargeVolume, ChargePackage}).Draw(t, "model")}
	if c.Model == ChargePackage {
		c.PackageSize, c.PackagePrice = rapid.Uint64Range(1, 1e7).Draw(t, "size"), drawMoney(t, "package price")
		c.FreeUnits = rapid.Uint64Range(0, 1e4).Draw(t, "free")
		return c
	}
	n, upTo := 1, uint64(0)
	if c.Model != ChargeFlat {
		n = rapid.IntRange(1, 4).Draw(t, "tiers")
	}
	for i := range n {
		upTo += rapid.Uint64Range(1, 1<<rapid.IntRange(1, 40).Draw(t, "tier bits")).Draw(t, "tier size")
		tier := Tier{UpTo: upTo, UnitPrice: drawUnitPrice(t, "tier price"), FlatFee: drawMoney(t, "flat fee")}
		if i == n-1 {
			tier.UpTo = 0
		}
		c.Tiers = append(c.Tiers, tier)
	}
	return c
}

// drawPlans are some plans that begin in a period or before it.
func drawPlans(t *rapid.T, p Period) []Plan {
	var plans []Plan
	for i := range rapid.IntRange(0, 3).Draw(t, "plans") {
		from := p.Start.Add(time.Duration(rapid.Int64Range(-10*24*60, 29*24*60).Draw(t, "minutes after the start")) * time.Minute)
		plans = append(plans, Plan{Code: fmt.Sprint("plan ", i), From: from, Terms: drawTerms(t)})
	}
	return plans
}

// drawUsage is usage of segments, stamped with the right costs.
func drawUsage(t *rapid.T, segments []Segment, prices map[string]catalog.Price, origin string) []Quantity {
	var qs []Quantity
	for s := range segments {
		for _, version := range []string{"a@1", "a@2", "b@1"} {
			if rapid.IntRange(0, 2).Draw(t, "group") == 0 {
				continue
			}
			price := prices[version]
			q := Quantity{Model: price.Model, PriceVersion: version, Late: origin != "", Origin: origin, Segment: s,
				Tokens: drawTokens(t, 1<<40), Images: rapid.Uint64Range(0, 100).Draw(t, "images"), Requests: rapid.Uint64Range(1, 1e6).Draw(t, "requests")}
			q.Empty = rapid.Uint64Range(0, q.Requests).Draw(t, "empty")
			q.Cost = decimalOf(t, modelCost(price, q.Tokens, q.Images, q.Requests-q.Empty))
			qs = append(qs, q)
		}
	}
	return qs
}

func drawCredits(t *rapid.T, currency string, at time.Time) []Credit {
	var credits []Credit
	for range rapid.IntRange(0, 5).Draw(t, "credits") {
		g := Grant{ID: drawID(t), Amount: drawMinor(t, "credit", currency), Priority: rapid.IntRange(-1, 1).Draw(t, "priority"),
			Kind:      rapid.SampledFrom([]GrantKind{GrantPromotional, GrantPrepaid}).Draw(t, "kind"),
			GrantedAt: at.AddDate(0, 0, -rapid.IntRange(-1, 3).Draw(t, "granted days ago"))}
		if rapid.Bool().Draw(t, "expires") {
			g.ExpiresAt = g.GrantedAt.AddDate(0, 0, rapid.IntRange(1, 4).Draw(t, "expires after days"))
		}
		places, _ := MinorUnits(currency)
		used := decimal.New(rapid.Int64Range(0, g.Amount.d.Shift(places).IntPart()).Draw(t, "used"), -places)
		credits = append(credits, Credit{Grant: g, Remaining: Amount{d: g.Amount.d.Sub(used)}})
	}
	return credits
}

func drawID(t *rapid.T) uuid.UUID {
	var id uuid.UUID
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	id[15] |= 1 // never zero
	return id
}

func drawTaxes(t *rapid.T) []TaxRate {
	inclusive := rapid.Bool().Draw(t, "inclusive")
	var rates []TaxRate
	for i := range rapid.IntRange(0, 3).Draw(t, "taxes") {
		rates = append(rates, TaxRate{Name: fmt.Sprint("tax ", i), Pct: drawPct(t, "tax"), Inclusive: inclusive})
	}
	return rates
}

// drawBillInput makes the input of an invoice whose usage was stamped right, with
// plans, late usage, taxes and credits.
func drawBillInput(t *rapid.T) BillInput {
	currency := rapid.SampledFrom([]string{"CNY", "USD", "JPY", "KWD"}).Draw(t, "currency")
	zone, err := time.LoadLocation(rapid.SampledFrom(zoneNames).Draw(t, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	anchor := rapid.IntRange(1, 31).Draw(t, "anchor")
	period, err := AnchoredPeriodOf(time.Date(2024, 1, 15, 0, 0, 0, 0, time.UTC).AddDate(0, rapid.IntRange(0, 12).Draw(t, "month"), 0), zone, anchor)
	if err != nil {
		t.Fatal(err)
	}
	in := BillInput{
		OrgID: drawID(t), LegalEntity: "AIONE", Currency: currency, Period: period, CreatedAt: period.End.Add(time.Hour),
		TermsDays: rapid.IntRange(0, 90).Draw(t, "terms"), Cut: rapid.Uint64Range(10, 1e6).Draw(t, "cut"), PreviousCut: 9,
		Prices: make(map[string]catalog.Price), TaxRates: drawTaxes(t),
	}
	in.CreatedOn = DateOf(in.CreatedAt, zone)
	in.Credits = drawCredits(t, currency, in.CreatedAt)
	plans := drawPlans(t, period)
	in.Segments, in.Next = SegmentsOf(period, zone, plans), NextSegment(period, zone, plans)
	if rapid.Bool().Draw(t, "charged in advance") {
		in.Advance = drawMinor(t, "advance", currency)
	}
	for _, version := range []string{"a@1", "a@2", "b@1"} {
		in.Prices[version] = drawListPrice(t, version[:1], version, currency)
	}
	quantities := drawUsage(t, in.Segments, in.Prices, "")
	label, err := time.Parse("2006-01", period.Label)
	if err != nil {
		t.Fatal(err)
	}
	for ago := 3; ago >= 1; ago-- {
		closed, err := ParseAnchoredPeriod(label.AddDate(0, -ago, 0).Format("2006-01"), zone, anchor)
		if err != nil {
			t.Fatal(err)
		}
		o := Origin{Period: closed, Segments: SegmentsOf(closed, zone, drawPlans(t, closed))}
		o.Billed = drawUsage(t, o.Segments, in.Prices, "")
		if rapid.Bool().Draw(t, "late") {
			quantities = append(quantities, drawUsage(t, o.Segments, in.Prices, closed.Label)...)
		}
		in.Origins = append(in.Origins, o)
	}
	in.Inputs.Quantities = quantities
	for _, q := range quantities {
		in.Inputs.Rows += q.Requests
	}
	return in
}

// drawListPrice is a price as on a price list, some of it free.
func drawListPrice(t *rapid.T, model, version, currency string) catalog.Price {
	p := func(name string) decimal.Decimal {
		if rapid.IntRange(0, 3).Draw(t, name+" is free") == 0 {
			return decimal.Decimal{}
		}
		return drawUnitPrice(t, name)
	}
	return catalog.Price{Version: version, Model: model, Currency: currency, EffectiveFrom: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC),
		Input: p("input"), CacheRead: p("cache_read"), CacheWrite5m: p("cache_write_5m"), CacheWrite1h: p("cache_write_1h"),
		Output: p("output"), Reasoning: p("reasoning"), Image: p("image"), Request: p("request")}
}

func shuffled[T any](t *rapid.T, members []T) []T {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
	members = slices.Clone(members)
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return members
}
