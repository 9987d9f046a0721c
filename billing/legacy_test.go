package billing_test

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"

	"aione/billing"
	"aione/events"
	"aione/ledger"
)

// A log from before there were plans, credits and a chain of journals: three
// invoices, one of late usage, and an empty month. What is in it stays as it was, and
// the org's money goes on from there.
func TestOlderRecordsStillApply(t *testing.T) {
	w := newWorld(t)
	w.setClock("2024-01-06T00:00:00Z")
	f, err := os.Open("testdata/legacy.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var batch []events.Append
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var line struct {
			Subject string
			Record  events.Record
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		batch = append(batch, events.Append{Subject: line.Subject, Record: line.Record, Unchecked: true})
		switch line.Record.Type {
		case billing.TypeOrgCreated, billing.TypeInvoiceIssued, billing.TypeNothingIssued:
			if _, err := w.log.Append(w.ctx, batch...); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	n := w.node()
	org := n.book.Orgs()[0]
	invoices, total, err := n.book.Invoices(org.ID, 1, 9)
	if err != nil || total != 3 || invoices[0].Number != "INV-AIONE-2024-000001" || invoices[0].Lines[0].Origin != "2023-11" || invoices[0].Status != ledger.StatusIssued {
		t.Fatalf("%d invoices, the last %+v, %v", total, invoices[0], err)
	}
	if got := n.account(t, org); got != "0.00 0.00 54.00" {
		t.Errorf("the account is %s", got)
	}
	if v := billing.Verify(n.book); !v.OK() || v.Legacy != 3 || v.Invoices != 3 || v.Runs != 4 {
		t.Errorf("verdict %+v", v)
	}
	if !n.book.Legacy(org.ID, invoices[0].ID) {
		t.Error("it is not told apart")
	}
	must[ledger.Payment](t)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("40")}, w.by()))
	must[ledger.CreditNote](t)(n.VoidInvoice(w.ctx, org.ID, invoices[0].ID, w.key("")))
	w.install(n)
	other := w.newOrg(n, "other", "2024-01-06T00:00:00Z")
	for range 3 { // the old usage log is not here: this one must be as long
		w.use(n, other, "2024-01-07T00:00:00Z")
	}
	w.use(n, org, "2024-01-10T00:00:00Z")
	w.setClock("2024-02-01T00:00:00Z")
	w.run(n)
	if got := n.account(t, org); got != "4.00 0.00 18.00" && got != "0.00 0.00 14.00" {
		t.Errorf("in the end the account is %s", got)
	}
	w.mustVerify(n)
	w.mustVerify(w.node())
}
