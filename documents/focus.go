package documents

import (
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// FocusVersion is the version of the FinOps Open Cost and Usage Specification
// that the export follows.
const FocusVersion = "1.2"

// What every row says of the service (FOCUS, ServiceCategory and
// ServiceSubcategory; names of our own where it leaves them to the provider).
const (
	focusServiceCategory    = "AI and Machine Learning"
	focusServiceSubcategory = "Generative AI"
	focusServiceName        = "LLM API"
)

// focusRow is one charge. An empty text is null.
type focusRow struct {
	billed, effective, contracted, list ledger.Amount
	category, class                     string
	description, frequency              string
	billing, charge                     span

	consumedQuantity, consumedUnit             string
	pricingQuantity, pricingUnit, unitPrice    string
	pricingCategory                            string
	sku, skuMeter, skuPrice, skuDetails        string
	publisher                                  string
	subAccount                                 Team
	line                                       string // number on the invoice
	kind, model, tokenClass, priceVersion      string
	invoiceID, issuer, currency, account, name string
}

// span is half-open, [start, end).
type span struct{ start, end time.Time }

// focusColumns are the columns, sorted by name as in the specification, our own
// behind them. Left out are those that FOCUS wants only of providers with
// regions, resources, reservations, commitment discounts, tags or several
// currencies.
var focusColumns = []struct {
	name string
	cell func(r *focusRow) string
}{
	{"BilledCost", func(r *focusRow) string { return r.billed.String() }},
	{"BillingAccountId", func(r *focusRow) string { return r.account }},
	{"BillingAccountName", func(r *focusRow) string { return r.name }},
	{"BillingCurrency", func(r *focusRow) string { return r.currency }},
	{"BillingPeriodEnd", func(r *focusRow) string { return focusTime(r.billing.end) }},
	{"BillingPeriodStart", func(r *focusRow) string { return focusTime(r.billing.start) }},
	{"ChargeCategory", func(r *focusRow) string { return r.category }},
	{"ChargeClass", func(r *focusRow) string { return r.class }},
	{"ChargeDescription", func(r *focusRow) string { return r.description }},
	{"ChargeFrequency", func(r *focusRow) string { return r.frequency }},
	{"ChargePeriodEnd", func(r *focusRow) string { return focusTime(r.charge.end) }},
	{"ChargePeriodStart", func(r *focusRow) string { return focusTime(r.charge.start) }},
	{"ConsumedQuantity", func(r *focusRow) string { return r.consumedQuantity }},
	{"ConsumedUnit", func(r *focusRow) string { return r.consumedUnit }},
	{"ContractedCost", func(r *focusRow) string { return r.contracted.String() }},
	{"ContractedUnitPrice", func(r *focusRow) string { return r.unitPrice }},
	{"EffectiveCost", func(r *focusRow) string { return r.effective.String() }},
	{"InvoiceId", func(r *focusRow) string { return r.invoiceID }},
	{"InvoiceIssuerName", func(r *focusRow) string { return r.issuer }},
	{"ListCost", func(r *focusRow) string { return r.list.String() }},
	{"ListUnitPrice", func(r *focusRow) string { return r.unitPrice }},
	{"PricingCategory", func(r *focusRow) string { return r.pricingCategory }},
	{"PricingQuantity", func(r *focusRow) string { return r.pricingQuantity }},
	{"PricingUnit", func(r *focusRow) string { return r.pricingUnit }},
	{"ProviderName", func(r *focusRow) string { return r.issuer }},
	{"PublisherName", func(r *focusRow) string { return r.publisher }},
	{"ServiceCategory", func(*focusRow) string { return focusServiceCategory }},
	{"ServiceName", func(*focusRow) string { return focusServiceName }},
	{"ServiceSubcategory", func(*focusRow) string { return focusServiceSubcategory }},
	{"SkuId", func(r *focusRow) string { return r.sku }},
	{"SkuMeter", func(r *focusRow) string { return r.skuMeter }},
	{"SkuPriceDetails", func(r *focusRow) string { return r.skuDetails }},
	{"SkuPriceId", func(r *focusRow) string { return r.skuPrice }},
	{"SubAccountId", func(r *focusRow) string { return r.subAccount.ID }},
	{"SubAccountName", func(r *focusRow) string { return r.subAccount.Name }},
	{"x_InvoiceLine", func(r *focusRow) string { return r.line }},
	{"x_LineKind", func(r *focusRow) string { return r.kind }},
	{"x_Model", func(r *focusRow) string { return r.model }},
	{"x_PriceVersion", func(r *focusRow) string { return r.priceVersion }},
	{"x_TokenClass", func(r *focusRow) string { return r.tokenClass }},
}

func focusTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// Team is a cost centre of an org: a sub account. The zero Team is none.
type Team struct {
	ID   string
	Name string
}

// FocusInvoice is an invoice with what an export says of it besides.
type FocusInvoice struct {
	Invoice ledger.Invoice
	Parties Parties

	// Publishers gives the maker of a model, by its id; without one it is the issuer.
	Publishers map[string]string
	// Shares splits lines of usage and tiers by team, by their number from 1 on:
	// ledger.TeamSplit has them. nil: nothing is split.
	Shares func(line int) ([]ledger.TeamShare, error)
	// TeamNames are the names of teams, by id. A team without one goes by its id.
	TeamNames map[uuid.UUID]string
}

// FocusExport writes cost and usage by FOCUS, as CSV: a row for each line of an
// invoice, or two where a tier has a flat fee, and usage once for each team. The sum
// of BilledCost over the rows of an InvoiceId is what that invoice bills; a credit
// note is an invoice below zero.
type FocusExport struct{ table *Table }

// NewFocusExport begins an export.
func NewFocusExport(w io.Writer) (*FocusExport, error) {
	names := make([]string, len(focusColumns))
	for i, c := range focusColumns {
		names[i] = c.name
	}
	table, err := NewTable(w, names)
	if err != nil {
		return nil, fmt.Errorf("begin FOCUS export: %w", err)
	}
	return &FocusExport{table: table}, nil
}

// AddInvoice writes the charges of one invoice. It writes none of them and
// returns ErrSums when they do not come to what the invoice bills.
func (x *FocusExport) AddInvoice(f FocusInvoice) error {
	inv := &f.Invoice
	if err := checkInvoice(inv); err != nil {
		return err
	}
	return x.write(inv.Number, inv.Total, func(emit func(*focusRow) error) error {
		b := focusBuilder{source: &f, billing: span{inv.Period.Start, inv.Period.End}, invoiceID: inv.Number, emit: emit}
		for i := range inv.Lines {
			if err := b.line(i); err != nil {
				return fmt.Errorf("export line %d of invoice %s: %w", i+1, inv.Number, err)
			}
		}
		return nil
	})
}

// AddCreditNote writes a credit note for an invoice as corrections of its
// charges. Period is the org's billing period in which the note was issued.
func (x *FocusExport) AddCreditNote(note ledger.CreditNote, of FocusInvoice, period ledger.Period) error {
	if err := checkCreditNote(&note, &of.Invoice); err != nil {
		return err
	}
	return x.write(note.Number, note.Total.Neg(), func(emit func(*focusRow) error) error {
		b := focusBuilder{source: &of, billing: span{period.Start, period.End}, invoiceID: note.Number, emit: emit}
		if err := b.creditNote(&note); err != nil {
			return fmt.Errorf("export credit note %s: %w", note.Number, err)
		}
		return nil
	})
}

// Close writes what is left; without it the export is not whole.
func (x *FocusExport) Close() error {
	if err := x.table.Close(); err != nil {
		return fmt.Errorf("end FOCUS export: %w", err)
	}
	return nil
}

// write writes the rows of a document, which must come to its total. They are made
// twice: to be added up, and then to be written, so that none is out before all are
// known to be right, and none is kept.
func (x *FocusExport) write(number string, total ledger.Amount, rows func(emit func(*focusRow) error) error) error {
	var billed ledger.Amount
	err := rows(func(r *focusRow) (err error) {
		billed, err = billed.Add(r.billed)
		return err
	})
	if err != nil {
		return err
	}
	if billed.Cmp(total) != 0 {
		return fmt.Errorf("%w: the charges of %s come to %s, not %s", ErrSums, number, billed, total)
	}
	cells := make([]string, len(focusColumns))
	return rows(func(r *focusRow) error {
		for i, c := range focusColumns {
			cells[i] = c.cell(r)
		}
		if err := x.table.Row(cells...); err != nil {
			return fmt.Errorf("write FOCUS export: %w", err)
		}
		return nil
	})
}
