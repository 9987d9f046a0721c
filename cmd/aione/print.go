package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"aione/billing"
	"aione/ledger"
	"aione/node"
)

// standingOf is where an invoice stands on the org's date of now.
func standingOf(book *billing.Book, inv *ledger.Invoice, now time.Time) (billing.Standing, ledger.Status, error) {
	zone, err := book.Zone(inv.OrgID)
	if err != nil {
		return billing.Standing{}, "", err
	}
	at, err := book.Standing(inv.OrgID, inv.ID)
	if err != nil {
		return billing.Standing{}, "", err
	}
	return at, at.Status(ledger.DateOf(now, zone)), nil
}

// invoices prints a list of invoices.
func (o *output) invoices(title string, book *billing.Book, invoices []ledger.Invoice, now time.Time) {
	var rows [][]string
	for i := range invoices {
		inv := &invoices[i]
		at, status, err := standingOf(book, inv, now)
		if err != nil {
			status = ledger.Status(err.Error())
		}
		if status == ledger.StatusPaid && !at.WrittenOff.IsZero() {
			status += ledger.Status(", " + at.WrittenOff.Format(inv.Currency) + " written off")
		}
		rows = append(rows, []string{inv.Number, inv.Period.FirstDay().String(), inv.Period.LastDay().String(),
			fmt.Sprint(len(inv.Lines)), inv.Total.Format(inv.Currency), at.Due.Format(inv.Currency), inv.Currency, string(status), inv.DueDate.String()})
	}
	o.table(title, []string{"number", "from", "to", "lines", "total", "open", "currency", "status", "due"}, rows)
}

// invoice prints an invoice with its lines and the way to its total.
func (o *output) invoice(inv *ledger.Invoice, at billing.Standing, status ledger.Status) {
	var rows [][]string
	for i, l := range inv.Lines {
		quantity, price := "", ""
		if l.Unit != "" {
			quantity, price = thousands(l.Quantity), l.UnitPrice.String()
		}
		var what []string
		for _, part := range []string{l.Model, string(l.Bucket), l.Name} {
			if part != "" {
				what = append(what, part)
			}
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), string(l.Kind), strings.Join(what, " "), l.PriceVersion, l.Origin, quantity, price, l.Amount.Format(inv.Currency)})
	}
	o.table(fmt.Sprintf("Invoice %s, %s to %s, %s", cmp.Or(inv.Number, "(draft)"), inv.Period.FirstDay(), inv.Period.LastDay(), status),
		[]string{"", "kind", "of", "price version", "late from", "quantity", "unit price", "amount"}, rows)
	money := func(a ledger.Amount) string { return a.Format(inv.Currency) }
	sums := [][]string{{"subtotal", money(inv.Subtotal)}}
	add := func(name string, a ledger.Amount) {
		if !a.IsZero() {
			sums = append(sums, []string{name, money(a)})
		}
	}
	add("late usage", inv.Adjustments)
	add("discount", inv.Discount.Neg())
	add("tax", inv.Tax)
	add("credits", inv.CreditsApplied.Neg())
	add("carried", inv.Carried)
	sums = append(sums, []string{"total", money(inv.Total)})
	if status != ledger.StatusDraft {
		add("paid", at.Paid)
		add("written off", at.WrittenOff)
		sums = append(sums, []string{"open", money(at.Due)})
	}
	o.table("In "+inv.Currency+", due "+inv.DueDate.String(), []string{"", "amount"}, sums)
	for _, n := range at.CreditNotes {
		o.say("  credit note %s over %s: %s", n.Number, money(n.Total), n.Reason)
	}
}

// sortedKeys are the keys of flags that are maps, in their order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// verification prints what the auditor found.
func (o *output) verification(v node.Verification) {
	var rows [][]string
	for _, a := range v.Shards {
		rows = append(rows, []string{fmt.Sprint(a.Shard), fmt.Sprintf("1 … %s", thousands(a.Through)), thousands(a.Events), thousands(a.Rows),
			thousands(a.Dispositions["counted"]), thousands(a.Dispositions["sandbox"]), thousands(a.Dispositions["duplicate"]),
			thousands(a.Dispositions["conflict"]), thousands(a.Dispositions["undecodable"]), a.Cost.StringFixed(6)})
	}
	o.table("Log and rows", []string{"shard", "sequences", "events", "rows", "counted", "sandbox", "duplicate", "conflict", "undecodable", "cost in the log"}, rows)
	o.say("\nLedger: %d orgs, %d closed periods, %d invoices, audited up to record %d.", v.Ledger.Orgs, v.Ledger.Runs, v.Ledger.Invoices, v.Ledger.Seq)
	for _, p := range v.Problems {
		o.say("  ✗ %s", p)
	}
	if v.OK {
		o.say("  ✓ every event of the log has its row, once")
		o.say("  ✓ the rows add up to the rollups that dashboards read")
		o.say("  ✓ each invoice counts exactly the rows up to its cut, and comes out of them again byte for byte")
		o.say("  ✓ journals sum to zero, invoice numbers have no gaps")
	}
}
