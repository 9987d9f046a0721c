package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/catalog"
)

// Errors of Bill, in the order in which it looks for them.
var (
	// ErrBillInput is returned when a field of BillInput is missing or senseless.
	ErrBillInput = errors.New("invalid bill input")
	// ErrNothingToBill is returned when no usage was counted: such a period gets no
	// invoice.
	ErrNothingToBill = errors.New("no usage to bill")
	// ErrUnknownPrice is returned when usage names a price version that is not among
	// the prices, or that belongs to another model.
	ErrUnknownPrice = errors.New("unknown price version")
	// ErrCurrencyMismatch is returned when usage was priced in a currency other than
	// the org's.
	ErrCurrencyMismatch = errors.New("usage is priced in another currency")
	// ErrRatingMismatch is returned when quantity × price is not the cost that was
	// stamped on the usage when it happened. One of the two is wrong; nothing is
	// invoiced until it is known which.
	ErrRatingMismatch = errors.New("usage was stamped with a cost that its price version does not give")
)

// BillInput is all that an invoice depends on.
type BillInput struct {
	OrgID       uuid.UUID
	LegalEntity string // who issues the invoice
	Currency    string // ISO 4217
	Period      Period
	CreatedAt   time.Time // the instant of the run
	CreatedOn   Date      // its date in the org's time zone
	TermsDays   int       // payment is due so many days after CreatedOn

	Segments []Segment // of the period: SegmentsOf; none: pay as you go all through
	Next     Segment   // the next period, whose fee is due in advance: NextSegment; zero: no fee is due
	Advance  Amount    // fee of this period that the org's invoices charged in advance
	TaxRates []TaxRate
	Credits  []Credit // what the org has; those not used are left out of the invoice

	Cut         uint64 // sequence up to which Inputs are counted
	PreviousCut uint64 // cut of the org's previous period, 0 when there is none
	Inputs      Inputs
	Origins     []Origin                 // closed periods; those without late usage are left out of the invoice
	Prices      map[string]catalog.Price // by version; those not used are left out of the invoice

	Correction *Correction // of an invoice that replaces a void one: see Correct
}

func (in *BillInput) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrBillInput, fmt.Sprintf(format, args...))
	}
	label, err := time.Parse("2006-01", in.Period.Label)
	switch {
	case in.OrgID == uuid.Nil:
		return bad("org id is missing")
	case in.LegalEntity == "":
		return bad("legal entity is missing")
	case err != nil:
		return bad("period label %q", in.Period.Label)
	case !in.Period.Start.Before(in.Period.End):
		return bad("period %s ends before it starts", in.Period.Label)
	case !in.Period.Contains(label.AddDate(0, 0, in.Period.anchor()+13)): // two weeks in, whatever the zone
		return bad("period %s does not hold its own month", in.Period.Label)
	case in.CreatedAt.IsZero() || in.CreatedOn == Date{}:
		return bad("creation instant or date is missing")
	case in.TermsDays < 0 || in.TermsDays > 3650:
		return bad("payment terms of %d days", in.TermsDays)
	case in.Cut < in.PreviousCut:
		return bad("cut %d is before the previous cut %d", in.Cut, in.PreviousCut)
	}
	if _, ok := MinorUnits(in.Currency); !ok {
		return fmt.Errorf("%w: %q: %w", ErrBillInput, in.Currency, ErrUnknownCurrency)
	}
	return nil
}

// Bill computes the invoice of a period as a draft. Equal inputs, in any order,
// give equal bytes.
func Bill(in BillInput) (Invoice, error) {
	if err := in.check(); err != nil {
		return Invoice{}, err
	}
	for _, seg := range append(in.Segments, in.Next) {
		if !seg.Terms.Plain() || !seg.Terms.MonthlyFee.IsZero() {
			return Invoice{}, fmt.Errorf("terms of plan %s: %w", seg.PlanCode, errNotBuilt)
		}
	}
	if len(in.TaxRates) > 0 || len(in.Credits) > 0 || in.Correction != nil {
		return Invoice{}, fmt.Errorf("taxes, credits and corrections: %w", errNotBuilt)
	}
	quantities, err := in.Inputs.sorted()
	if err != nil {
		return Invoice{}, err
	}
	if len(quantities) == 0 {
		return Invoice{}, fmt.Errorf("org %s, period %s: %w", in.OrgID, in.Period.Label, ErrNothingToBill)
	}
	inv := Invoice{
		ID: InvoiceID(in.OrgID, in.Period.Label), OrgID: in.OrgID, LegalEntity: in.LegalEntity, Currency: in.Currency,
		Period:    Period{Label: in.Period.Label, Start: in.Period.Start.UTC(), End: in.Period.End.UTC(), Anchor: in.Period.anchor()},
		CreatedAt: in.CreatedAt.UTC(), CreatedOn: in.CreatedOn, TermsDays: in.TermsDays,
		DueDate: in.CreatedOn.AddDays(in.TermsDays), Status: StatusDraft,
		Cut: in.Cut, PreviousCut: in.PreviousCut, Segments: in.Segments, Next: in.Next, Advance: in.Advance,
		TaxRates: in.TaxRates, Credits: in.Credits, Origins: in.Origins, Correction: in.Correction,
		Inputs: Inputs{Quantities: quantities, Rows: in.Inputs.Rows, RowsDigest: in.Inputs.RowsDigest},
	}
	used := make(map[string]catalog.Price)
	for _, q := range quantities {
		price, err := priceOf(q, in.Prices, in.Currency)
		if err != nil {
			return Invoice{}, err
		}
		used[price.Version] = price
		lines, err := billQuantity(q, price)
		if err != nil {
			return Invoice{}, err
		}
		inv.Lines = append(inv.Lines, lines...)
	}
	for _, version := range slices.Sorted(maps.Keys(used)) {
		inv.Prices = append(inv.Prices, used[version])
	}
	for _, l := range inv.Lines {
		if inv.Exact, err = inv.Exact.Add(l.Exact); err != nil {
			return Invoice{}, fmt.Errorf("total of the lines: %w", err)
		}
		part := &inv.Subtotal
		if l.Late() {
			part = &inv.Adjustments
		}
		if *part, err = part.Add(l.Amount); err != nil {
			return Invoice{}, fmt.Errorf("total of the lines: %w", err)
		}
		if inv.Total, err = inv.Total.Add(l.Amount); err != nil {
			return Invoice{}, fmt.Errorf("total of the lines: %w", err)
		}
	}
	inv.InputHash = inv.hashInputs()
	return inv, nil
}

// priceOf finds the price that the usage was stamped with, and checks that it
// may be used.
func priceOf(q Quantity, prices map[string]catalog.Price, currency string) (catalog.Price, error) {
	price, ok := prices[q.PriceVersion]
	switch {
	case !ok:
		return catalog.Price{}, fmt.Errorf("%w: usage of %s was priced at %q", ErrUnknownPrice, q.Model, q.PriceVersion)
	case price.Version != q.PriceVersion || price.Model != q.Model:
		return catalog.Price{}, fmt.Errorf("%w: usage of %s was priced at %q, which is %q of %s",
			ErrUnknownPrice, q.Model, q.PriceVersion, price.Version, price.Model)
	case price.Currency != currency:
		return catalog.Price{}, fmt.Errorf("%w: %s is in %s, the org pays in %s", ErrCurrencyMismatch, price.Version, price.Currency, currency)
	}
	return price, nil
}

// billQuantity makes the lines of one group of usage, and checks them against
// the cost that its rows were stamped with.
func billQuantity(q Quantity, price catalog.Price) ([]Line, error) {
	var lines []Line
	rated := decimal.Decimal{}
	for _, b := range buckets {
		quantity := b.quantity(&q.Tokens, q.Images, q.Requests)
		unitPrice := b.price(&price)
		// Every request is counted, but few models charge for it: a line of its own
		// would be noise. Free tokens do get one; the reader may look for them.
		if quantity == 0 || b.unit == UnitRequests && unitPrice.IsZero() {
			continue
		}
		cost, err := exactCost(unitPrice, b.unit, quantity)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.PriceVersion, b.name, err)
		}
		exact, err := NewAmount(cost)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.PriceVersion, b.name, err)
		}
		amount, err := RoundHalfEvenToMinor(exact, price.Currency)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.PriceVersion, b.name, err)
		}
		rated = rated.Add(cost)
		lines = append(lines, Line{
			Kind: LineUsage, Model: q.Model, Bucket: b.name, PriceVersion: q.PriceVersion, Origin: q.Origin, Segment: q.Segment,
			Quantity: quantity, Unit: b.unit, UnitPrice: unitPrice, Exact: exact, Amount: amount,
		})
	}
	if !rated.Equal(q.Cost) {
		return nil, fmt.Errorf("%w: %d requests at %s %s give %s, their rows say %s",
			ErrRatingMismatch, q.Requests, q.PriceVersion, q.Origin, rated, q.Cost)
	}
	return lines, nil
}
