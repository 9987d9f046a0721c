package documents

import (
	"fmt"
	"io"
	"strconv"

	"aione/ledger"
)

// lineColumns are the columns of the lines of an invoice.
var lineColumns = []struct {
	name string
	cell func(inv *ledger.Invoice, n int) string
}{
	{"invoice_no", func(inv *ledger.Invoice, _ int) string { return inv.Number }},
	{"line", func(_ *ledger.Invoice, n int) string { return strconv.Itoa(n + 1) }},
	{"model", func(inv *ledger.Invoice, n int) string { return inv.Lines[n].Model }},
	{"bucket", func(inv *ledger.Invoice, n int) string { return string(inv.Lines[n].Bucket) }},
	{"price_version", func(inv *ledger.Invoice, n int) string { return inv.Lines[n].PriceVersion }},
	{"origin", func(inv *ledger.Invoice, n int) string { return inv.Lines[n].Origin }},
	{"quantity", func(inv *ledger.Invoice, n int) string { return strconv.FormatUint(inv.Lines[n].Quantity, 10) }},
	{"unit", func(inv *ledger.Invoice, n int) string { return string(inv.Lines[n].Unit) }},
	{"unit_price", func(inv *ledger.Invoice, n int) string { return inv.Lines[n].UnitPrice.String() }},
	{"amount", func(inv *ledger.Invoice, n int) string { return inv.Lines[n].Amount.Format(inv.Currency) }},
	{"currency", func(inv *ledger.Invoice, _ int) string { return inv.Currency }},
}

// InvoiceCSV writes the lines of an invoice, one a row, in their order.
func InvoiceCSV(w io.Writer, inv ledger.Invoice) error {
	names := make([]string, len(lineColumns))
	for i, c := range lineColumns {
		names[i] = c.name
	}
	table, err := NewTable(w, names)
	if err != nil {
		return fmt.Errorf("write CSV of invoice %s: %w", inv.Number, err)
	}
	for n := range inv.Lines {
		cells := make([]string, len(lineColumns))
		for i, c := range lineColumns {
			cells[i] = c.cell(&inv, n)
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
