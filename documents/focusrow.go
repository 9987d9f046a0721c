package documents

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"
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
	emit      func(*focusRow) error
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
		return b.emit(&r)
	}
	r.contracted, r.list = l.Exact, l.Exact
	r.pricingCategory = focusStandard
	if err := r.identify(l); err != nil {
		return err
	}
	if r.category == focusPurchase {
		r.priceAsWhole()
		return b.emit(&r)
	}
	return b.usage(i, &r)
}

// usage adds a line of usage, split by team, and the flat fee of its tier as a
// purchase: nobody used that.
func (b *focusBuilder) usage(i int, r *focusRow) error {
	l := &b.source.Invoice.Lines[i]
	metered, err := l.Exact.Sub(l.FlatFee)
	if err != nil {
		return err
	}
	flatFee := l.FlatFee
	priced := r.price(l, l.Quantity, metered)
	if !priced { // packages, or a tier that is priced by a ratio
		metered, flatFee = l.Exact, ledger.Amount{}
	}
	billed, err := l.Amount.Sub(flatFee)
	if err != nil {
		return err
	}
	parts, err := b.split(i, billed)
	if err != nil {
		return err
	}
	exact, err := exactOf(l, parts, metered, priced, b.source.Invoice.Currency)
	if err != nil {
		return err
	}
	for n, p := range parts {
		row := *r
		row.cost(exact[n])
		row.billed, row.effective = p.billed, p.billed
		row.subAccount = p.team
		row.consume(p.unit, p.quantity)
		if !priced {
			row.priceAsWhole()
		} else if !row.price(l, p.quantity, exact[n]) {
			return fmt.Errorf("%w: %d at %s are not %s", ErrSums, p.quantity, l.UnitPrice, exact[n])
		}
		if err := b.emit(&row); err != nil {
			return err
		}
	}
	if flatFee.IsZero() {
		return nil
	}
	fee := *r
	fee.category, fee.frequency, fee.tokenClass = focusPurchase, focusRecurring, ""
	fee.cost(flatFee)
	fee.sku, fee.skuPrice, fee.skuMeter = fee.sku+"/flat_fee", fee.skuPrice+"/flat_fee", "Flat Fees"
	fee.priceAsWhole()
	return b.emit(&fee)
}

// focusPart is the part of a line that a team used.
type focusPart struct {
	team     Team
	quantity uint64
	unit     ledger.Unit
	billed   ledger.Amount
}

// split splits an amount of a line by the teams that used it; without them there
// is one part, of no team.
func (b *focusBuilder) split(i int, billed ledger.Amount) ([]focusPart, error) {
	l := &b.source.Invoice.Lines[i]
	var shares []ledger.TeamShare
	if b.source.Shares != nil {
		var err error
		if shares, err = b.source.Shares(i + 1); err != nil {
			return nil, err
		}
	}
	if len(shares) == 0 {
		return []focusPart{{quantity: l.Quantity, unit: l.Unit, billed: billed}}, nil
	}
	parts, weights, unit := make([]focusPart, len(shares)), make([]uint64, len(shares)), l.Unit
	if unit == ledger.UnitPackages { // nobody used packages, but what filled them
		unit = b.source.Invoice.UsageOf(i + 1)[0].Unit
	}
	var sum uint64
	for n, s := range shares {
		parts[n] = focusPart{team: b.team(s.TeamID), quantity: s.Quantity, unit: unit}
		weights[n], sum = s.Quantity, sum+s.Quantity
	}
	if unit == l.Unit && sum != l.Quantity {
		return nil, fmt.Errorf("%w: teams used %d of %d", ErrSums, sum, l.Quantity)
	}
	amounts, err := ledger.Apportion(billed, weights, b.source.Invoice.Currency)
	if err != nil {
		return nil, err
	}
	for n := range parts {
		parts[n].billed = amounts[n]
	}
	return parts, nil
}

func (b *focusBuilder) team(id uuid.UUID) Team {
	if id == uuid.Nil {
		return Team{}
	}
	return Team{ID: id.String(), Name: cmp.Or(b.source.TeamNames[id], id.String())}
}

// exactOf is what the parts of a line cost before it was rounded: quantity × price,
// or their share of the whole where that has no price for its quantity.
func exactOf(l *ledger.Line, parts []focusPart, whole ledger.Amount, priced bool, currency string) ([]ledger.Amount, error) {
	if len(parts) == 1 {
		return []ledger.Amount{whole}, nil
	}
	weights := make([]uint64, len(parts))
	for n, p := range parts {
		weights[n] = p.quantity
	}
	if !priced {
		return ledger.Apportion(whole, weights, currency)
	}
	exact := make([]ledger.Amount, len(parts))
	for n, quantity := range weights {
		var err error
		if exact[n], err = ledger.NewAmount(l.UnitPrice.Mul(decimal.NewFromUint64(quantity)).Shift(focusUnits[l.Unit].shift)); err != nil {
			return nil, err
		}
	}
	return exact, nil
}

// creditNote adds the corrections of a credit note. What is taken back of a line is
// split as the line was: first its usage, by team, then its flat fee.
func (b *focusBuilder) creditNote(note *ledger.CreditNote) error {
	for _, c := range note.Lines {
		if err := b.credit(c); err != nil {
			return err
		}
	}
	for _, t := range note.Taxes {
		if t.Inclusive {
			continue
		}
		r := b.base()
		r.category, r.frequency, r.kind = focusTax, focusOneTime, string(ledger.LineTax)
		r.description = "credit: tax " + t.Name
		if err := b.correct(r, t.Amount); err != nil {
			return err
		}
	}
	return nil
}

func (b *focusBuilder) credit(c ledger.CreditLine) error {
	l, r := &b.source.Invoice.Lines[c.Line-1], b.row(c.Line-1)
	r.description = "credit: " + r.description
	if r.category != focusUsage {
		return b.correct(r, c.Amount)
	}
	used, err := l.Amount.Sub(l.FlatFee)
	if err != nil {
		return err
	}
	if l.FlatFee.IsZero() || c.Amount.Cmp(used) < 0 {
		used = c.Amount
	}
	parts, err := b.split(c.Line-1, used)
	if err != nil {
		return err
	}
	for _, p := range parts {
		row := r
		row.subAccount = p.team
		if err := b.correct(row, p.billed); err != nil {
			return err
		}
	}
	fee, err := c.Amount.Sub(used)
	if err != nil || fee.IsZero() {
		return err
	}
	r.category, r.frequency, r.tokenClass = focusPurchase, focusRecurring, ""
	return b.correct(r, fee)
}

// correct adds a row that takes back an amount.
func (b *focusBuilder) correct(r focusRow, amount ledger.Amount) error {
	r.class = focusCorrection
	r.cost(amount.Neg())
	return b.emit(&r)
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
func (r *focusRow) consume(unit ledger.Unit, quantity uint64) {
	r.consumedQuantity, r.consumedUnit = strconv.FormatUint(quantity, 10), focusUnits[unit].consumed
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
