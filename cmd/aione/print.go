package main

import (
	"fmt"

	"aione/ledger"
	"aione/node"
)

// invoices prints a list of invoices.
func (o *output) invoices(title string, invoices []ledger.Invoice) {
	var rows [][]string
	for _, inv := range invoices {
		rows = append(rows, []string{inv.Number, inv.Period.FirstDay().String(), inv.Period.LastDay().String(),
			fmt.Sprint(len(inv.Lines)), inv.Total.Format(inv.Currency), inv.Currency, string(inv.Status), inv.DueDate.String()})
	}
	o.table(title, []string{"number", "from", "to", "lines", "total", "currency", "status", "due"}, rows)
}

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
