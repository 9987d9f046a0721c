package documents

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/shopspring/decimal"

	"aione/ledger"
)

// Values of FOCUS columns.
const (
	focusUsage      = "Usage"
	focusPurchase   = "Purchase"
	focusTax        = "Tax"
	focusCredit     = "Credit"
	focusAdjustment = "Adjustment"

	focusCorrection = "Correction"

	focusOneTime    = "One-Time"
	focusRecurring  = "Recurring"
	focusUsageBased = "Usage-Based"

	focusStandard = "Standard"
)

// focusCategory says what kind of charge a line is.
func focusCategory(k ledger.LineKind) (category, frequency string) {
	switch k {
	case ledger.LineUsage, ledger.LineTier, "":
		return focusUsage, focusUsageBased
	case ledger.LineFee, ledger.LineFeeCharged, ledger.LineFeeAdvance:
		return focusPurchase, focusRecurring
	case ledger.LineTax:
		return focusTax, focusOneTime
	case ledger.LineCredit, ledger.LineIncluded: // granted by the provider
		return focusCredit, focusOneTime
	}
	return focusAdjustment, focusOneTime
}

// focusMeters name the meters of the token classes and of what else is counted.
var focusMeters = map[ledger.Bucket]string{
	ledger.BucketInput:        "Input Tokens",
	ledger.BucketCacheRead:    "Cache Read Tokens",
	ledger.BucketCacheWrite5m: "Cache Write Tokens (5 Minutes)",
	ledger.BucketCacheWrite1h: "Cache Write Tokens (1 Hour)",
	ledger.BucketOutput:       "Output Tokens",
	ledger.BucketReasoning:    "Reasoning Tokens",
	ledger.BucketImages:       "Images",
	ledger.BucketRequests:     "Requests",
}

// focusUnits give how a unit is counted, and what its price is for. A shift of -6
// prices millions.
var focusUnits = map[ledger.Unit]struct {
	consumed, pricing string
	shift             int32
}{
	ledger.UnitTokens:   {"Tokens", "1000000 Tokens", -6},
	ledger.UnitImages:   {"Images", "Images", 0},
	ledger.UnitRequests: {"Requests", "Requests", 0},
}

// focusBuilder makes the rows of one invoice or credit note.
type focusBuilder struct {
	source    *FocusInvoice
	billing   span
	invoiceID string
	rows      []focusRow
}

// base is a row of the invoice, with what all of them share.
func (b *focusBuilder) base() focusRow {
	inv, parties := &b.source.Invoice, &b.source.Parties
	return focusRow{
		billing: b.billing, charge: span{inv.Period.Start, inv.Period.End},
		invoiceID: b.invoiceID, issuer: parties.Issuer.Name, publisher: parties.Issuer.Name,
		currency: inv.Currency, account: inv.OrgID.String(), name: parties.BillTo.Name,
	}
}

// row is the row of a line, as far as lines of all kinds have it.
func (b *focusBuilder) row(i int) focusRow {
	inv, l, r := &b.source.Invoice, &b.source.Invoice.Lines[i], b.base()
	r.cost(l.Amount)
	r.category, r.frequency = focusCategory(l.Kind)
	r.charge = b.chargePeriod(l)
	r.line, r.kind, r.model, r.priceVersion = strconv.Itoa(i+1), string(l.Kind), l.Model, l.PriceVersion
	r.description = lineItem(inv, l, English)
	if l.PriceVersion != "" {
		r.description += " at " + l.PriceVersion
	}
	if l.Late() {
		r.description += ", late usage of " + l.Origin
	}
	if l.Late() || inv.Correction != nil {
		r.class = focusCorrection
	}
	if l.Unit == ledger.UnitTokens {
		r.tokenClass = string(l.Bucket)
	}
	if maker := b.source.Publishers[l.Model]; maker != "" {
		r.publisher = maker
	}
	return r
}

// cost says that a charge costs one amount, whichever way it is looked at.
func (r *focusRow) cost(a ledger.Amount) { r.billed, r.effective, r.contracted, r.list = a, a, a, a }

// chargePeriod is when what a line charges for was used or holds.
func (b *focusBuilder) chargePeriod(l *ledger.Line) span {
	inv := &b.source.Invoice
	if l.Kind == ledger.LineFeeAdvance && !inv.Next.Start.IsZero() {
		return span{inv.Next.Start, inv.Next.End}
	}
	if l.Kind != ledger.LineTax && l.Kind != ledger.LineCredit && l.Kind != ledger.LineCarried {
		if s, ok := segmentOf(inv, l); ok {
			return span{s.Start, s.End}
		}
	}
	for i := range inv.Origins {
		if p := inv.Origins[i].Period; p.Label == l.Origin {
			return span{p.Start, p.End}
		}
	}
	return span{inv.Period.Start, inv.Period.End} // its own, or older than all that is known
}

// line adds the rows of a line of the invoice.
func (b *focusBuilder) line(i int) error {
	l, r := &b.source.Invoice.Lines[i], b.row(i)
	if r.category != focusUsage && r.category != focusPurchase {
		b.rows = append(b.rows, r)
		return nil
	}
	r.contracted, r.list = l.Exact, l.Exact
	r.pricingCategory = focusStandard
	if err := r.identify(l); err != nil {
		return err
	}
	if r.category == focusPurchase {
		r.priceAsWhole()
		b.rows = append(b.rows, r)
		return nil
	}
	if shares := b.source.Teams[i+1]; len(shares) > 0 {
		return b.shares(l, &r, shares)
	}
	return b.usage(l, r)
}

// usage adds a line of usage, and the flat fee of its tier as a purchase.
func (b *focusBuilder) usage(l *ledger.Line, r focusRow) error {
	r.consume(l, l.Quantity)
	metered, err := l.Exact.Sub(l.FlatFee)
	if err != nil {
		return err
	}
	if !r.price(l, l.Quantity, metered) {
		r.priceAsWhole() // packages, or a tier that is priced by a ratio
		b.rows = append(b.rows, r)
		return nil
	}
	if l.FlatFee.IsZero() {
		b.rows = append(b.rows, r)
		return nil
	}
	fee := r
	fee.category, fee.frequency = focusPurchase, focusRecurring
	fee.cost(l.FlatFee)
	fee.consumedQuantity, fee.consumedUnit, fee.tokenClass = "", "", ""
	fee.sku, fee.skuPrice, fee.skuMeter = fee.sku+"/flat_fee", fee.skuPrice+"/flat_fee", "Flat Fees"
	fee.priceAsWhole()
	r.contracted, r.list = metered, metered
	if r.billed, err = l.Amount.Sub(l.FlatFee); err != nil {
		return err
	}
	r.effective = r.billed
	b.rows = append(b.rows, r, fee)
	return nil
}

// shares adds a line of usage split by teams. Each share costs what it costs
// exactly; the last one takes what rounding the line added.
func (b *focusBuilder) shares(l *ledger.Line, whole *focusRow, shares []TeamShare) error {
	left, billed := l.Quantity, l.Amount
	for i, s := range shares {
		r := *whole
		r.subAccount = s.Team
		r.consume(l, s.Quantity)
		cost, err := ledger.NewAmount(l.UnitPrice.Mul(decimal.NewFromUint64(s.Quantity)).Shift(focusUnits[l.Unit].shift))
		if err != nil {
			return err
		}
		if s.Quantity > left || s.Team.ID == "" || s.Team.Name == "" || !r.price(l, s.Quantity, cost) {
			return fmt.Errorf("%w: the share of team %q is %d of %d left", ErrSums, s.Team.Name, s.Quantity, left)
		}
		left -= s.Quantity
		r.contracted, r.list, r.billed = cost, cost, cost
		if i == len(shares)-1 {
			r.billed = billed
		}
		r.effective = r.billed
		if billed, err = billed.Sub(r.billed); err != nil {
			return err
		}
		b.rows = append(b.rows, r)
	}
	if left != 0 {
		return fmt.Errorf("%w: no team used %d of it", ErrSums, left)
	}
	return nil
}

// creditNote adds the corrections of a credit note.
func (b *focusBuilder) creditNote(note *ledger.CreditNote) {
	for _, l := range note.Lines {
		r := b.row(l.Line - 1)
		r.description = "credit: " + r.description
		b.correct(r, l.Amount)
	}
	for _, t := range note.Taxes {
		if t.Inclusive {
			continue
		}
		r := b.base()
		r.category, r.frequency, r.kind = focusTax, focusOneTime, string(ledger.LineTax)
		r.description = "credit: tax " + t.Name
		b.correct(r, t.Amount)
	}
}

// correct adds a row that takes back an amount.
func (b *focusBuilder) correct(r focusRow, amount ledger.Amount) {
	r.class = focusCorrection
	r.cost(amount.Neg())
	b.rows = append(b.rows, r)
}

// identify says what is sold: the SKU, and at which price of it.
func (r *focusRow) identify(l *ledger.Line) error {
	details := map[string]string{}
	switch {
	case r.category == focusPurchase:
		r.sku, r.skuMeter = "plan/"+l.Name+"/fee", "Monthly Fees"
		r.skuPrice = r.sku
	case l.Kind == ledger.LineTier:
		r.sku, r.skuMeter = "charge/"+l.Name, "Tiered Usage"
		r.skuPrice = r.sku + "/tier/" + strconv.Itoa(l.Tier)
		details["x_Tier"] = strconv.Itoa(l.Tier)
	default:
		r.skuMeter = cmp.Or(string(l.Bucket), "Usage")
		r.sku, r.skuPrice = l.Model+"/"+string(l.Bucket), l.PriceVersion+"/"+string(l.Bucket)
	}
	if meter, known := focusMeters[l.Bucket]; known {
		r.skuMeter = meter
	}
	if l.Model != "" {
		details["x_Model"] = l.Model
	}
	if r.tokenClass != "" {
		details["x_TokenClass"] = r.tokenClass
	}
	if len(details) == 0 {
		return nil
	}
	text, err := json.Marshal(details) // keys come sorted
	r.skuDetails = string(text)
	return err
}

// consume says how much was used.
func (r *focusRow) consume(l *ledger.Line, quantity uint64) {
	r.consumedQuantity, r.consumedUnit = strconv.FormatUint(quantity, 10), focusUnits[l.Unit].consumed
	if r.consumedUnit == "" {
		r.consumedUnit = "Units"
	}
}

// price says quantity × unit price where that is the cost, and reports whether it
// is.
func (r *focusRow) price(l *ledger.Line, quantity uint64, cost ledger.Amount) bool {
	unit, known := focusUnits[l.Unit]
	priced := decimal.NewFromUint64(quantity).Shift(unit.shift)
	if !known || !priced.Mul(l.UnitPrice).Equal(cost.Decimal()) {
		return false
	}
	r.pricingQuantity, r.pricingUnit, r.unitPrice = priced.String(), unit.pricing, l.UnitPrice.String()
	return true
}

// priceAsWhole says one unit at the whole cost, minus one where it is given back:
// unit prices are never negative.
func (r *focusRow) priceAsWhole() {
	r.pricingQuantity, r.pricingUnit, r.unitPrice = "1", "Units", r.contracted.String()
	if r.contracted.Sign() < 0 {
		r.pricingQuantity, r.unitPrice = "-1", r.contracted.Neg().String()
	}
}
