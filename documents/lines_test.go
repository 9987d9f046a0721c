package documents

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func TestInvoiceCSVComesBack(t *testing.T) {
	whole := wholeInvoice(t)
	rapid.Check(t, func(t *rapid.T) {
		inv := drawInvoice(t, whole)
		var out bytes.Buffer
		if err := InvoiceCSV(&out, inv); err != nil {
			t.Fatal(err)
		}
		columns, rows := parseCSV(t, out.String())
		if len(rows) != len(inv.Lines) || columns[0] != "invoice_no" || columns[9] != "amount" {
			t.Fatalf("%d rows of %d lines, columns %v", len(rows), len(inv.Lines), columns)
		}
		text := func(s string) string { return strings.TrimPrefix(s, "'") }
		for i, l := range inv.Lines {
			row := rows[i]
			if row["line"] != strconv.Itoa(i+1) || row["kind"] != string(l.Kind) || text(row["model"]) != l.Model || text(row["name"]) != l.Name ||
				row["bucket"] != string(l.Bucket) || text(row["price_version"]) != l.PriceVersion || row["origin"] != l.Origin || row["unit"] != string(l.Unit) {
				t.Fatalf("line %d = %v, want %+v", i+1, row, l)
			}
			if row["unit"] != "" && (row["quantity"] != strconv.FormatUint(l.Quantity, 10) || !decimal.RequireFromString(row["unit_price"]).Equal(l.UnitPrice)) {
				t.Fatalf("line %d = %v, want %d at %s", i+1, row, l.Quantity, l.UnitPrice)
			}
			if !decimal.RequireFromString(row["amount"]).Equal(l.Amount.Decimal()) || !decimal.RequireFromString(row["exact"]).Equal(l.Exact.Decimal()) || row["currency"] != "CNY" {
				t.Fatalf("line %d = %v, want %s, exactly %s", i+1, row, l.Amount, l.Exact)
			}
		}
	})
}

func TestInvoiceCSVLeavesOutWhatALineHasNot(t *testing.T) {
	var out bytes.Buffer
	if err := InvoiceCSV(&out, wholeInvoice(t)); err != nil {
		t.Fatal(err)
	}
	_, rows := parseCSV(t, out.String())
	fee := rows[8]
	if fee["quantity"] != "" || fee["unit_price"] != "" || fee["days"] != "21" || fee["of_days"] != "30" || fee["base"] != "300" || fee["pct"] != "" {
		t.Errorf("fee = %v", fee)
	}
	if tier := rows[4]; tier["tier"] != "2" || tier["flat_fee"] != "5" || tier["segment"] != "1" || tier["days"] != "" {
		t.Errorf("tier = %v", tier)
	}
	if discount := rows[14]; discount["amount"] != "-77.78" || discount["pct"] != "10" {
		t.Errorf("discount = %v", discount)
	}
}
