package documents

import (
	"fmt"
	"io"
	"strconv"

	"github.com/shopspring/decimal"

	"aione/ledger"
)

// lineColumns are the columns of the lines of an invoice. New ones go to the end:
// there are readers that count them.
var lineColumns = []struct {
	name string
	cell func(inv *ledger.Invoice, l *ledger.Line) string // empty: the line has no such thing
}{
	{"model", func(_ *ledger.Invoice, l *ledger.Line) string { return l.Model }},
	{"bucket", func(_ *ledger.Invoice, l *ledger.Line) string { return string(l.Bucket) }},
	{"price_version", func(_ *ledger.Invoice, l *ledger.Line) string { return l.PriceVersion }},
	{"origin", func(_ *ledger.Invoice, l *ledger.Line) string { return l.Origin }},
	{"quantity", func(_ *ledger.Invoice, l *ledger.Line) string {
		if l.Unit == "" {
			return ""
		}
		return strconv.FormatUint(l.Quantity, 10)
	}},
	{"unit", func(_ *ledger.Invoice, l *ledger.Line) string { return string(l.Unit) }},
	{"unit_price", func(_ *ledger.Invoice, l *ledger.Line) string {
		if l.Unit == "" {
			return ""
		}
		return l.UnitPrice.String()
	}},
	{"amount", func(inv *ledger.Invoice, l *ledger.Line) string { return l.Amount.Format(inv.Currency) }},
	{"currency", func(inv *ledger.Invoice, _ *ledger.Line) string { return inv.Currency }},
	{"kind", func(_ *ledger.Invoice, l *ledger.Line) string { return string(l.Kind) }},
	{"name", func(_ *ledger.Invoice, l *ledger.Line) string { return l.Name }},
	{"segment", func(_ *ledger.Invoice, l *ledger.Line) string { return strconv.Itoa(l.Segment) }},
	{"tier", func(_ *ledger.Invoice, l *ledger.Line) string { return unlessZero(l.Tier) }},
	{"flat_fee", func(_ *ledger.Invoice, l *ledger.Line) string { return amountUnlessZero(l.FlatFee.Decimal()) }},
	{"days", func(_ *ledger.Invoice, l *ledger.Line) string { return unlessZero(l.Days) }},
	{"of_days", func(_ *ledger.Invoice, l *ledger.Line) string { return unlessZero(l.OfDays) }},
	{"pct", func(_ *ledger.Invoice, l *ledger.Line) string { return amountUnlessZero(l.Pct) }},
	{"base", func(_ *ledger.Invoice, l *ledger.Line) string { return amountUnlessZero(l.Base.Decimal()) }},
	{"exact", func(_ *ledger.Invoice, l *ledger.Line) string { return l.Exact.String() }},
}

func unlessZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func amountUnlessZero(d decimal.Decimal) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

// InvoiceCSV writes the lines of an invoice, one a row, in their order.
func InvoiceCSV(w io.Writer, inv ledger.Invoice) error {
	names := []string{"invoice_no", "line"}
	for _, c := range lineColumns {
		names = append(names, c.name)
	}
	table, err := NewTable(w, names)
	if err != nil {
		return fmt.Errorf("write CSV of invoice %s: %w", inv.Number, err)
	}
	for i := range inv.Lines {
		cells := []string{inv.Number, strconv.Itoa(i + 1)}
		for _, c := range lineColumns {
			cells = append(cells, c.cell(&inv, &inv.Lines[i]))
		}
		if err := table.Row(cells...); err != nil {
			return fmt.Errorf("write CSV of invoice %s: %w", inv.Number, err)
		}
	}
	if err := table.Close(); err != nil {
		return fmt.Errorf("write CSV of invoice %s: %w", inv.Number, err)
	}
	return nil
}
