package billing_test

import (
	"testing"

	"aione/billing"
	"aione/ledger"
)

// All that a run writes says who did it and why: the invoicer by itself, or whoever
// asked for the run.
func TestRunsSayWhoAndWhy(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-11-05T00:00:00Z")
	n := w.node()
	w.install(n)
	org, idle := w.newOrg(n, "acme", "2023-11-02T00:00:00Z"), w.newOrg(n, "idle", "2023-11-02T00:00:00Z")
	must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("1"), ExpiresAt: instant("2023-12-20T00:00:00Z")}, w.key("a")))
	w.use(n, org, "2023-11-10T00:00:00Z")
	n.Standings = standings{org.ID: {Budget: amount("100"), Spent: amount("60"), Opened: true, Balance: amount("-1")}}
	written := func(now, actor string) {
		t.Helper()
		w.setClock(now)
		before, err := w.log.LedgerEnd(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.RunDueBy(w.ctx, w.clock(), actor); err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, r := range w.records(billing.TypeInvoiced, billing.TypeClosedEmpty, billing.TypeNumbered, billing.TypeInvoiceIssued, billing.TypeNothingIssued,
			billing.TypeInvoicePaid, billing.TypeInvoiceOverdue, billing.TypeCreditsExpired, billing.TypeBudgetCrossed, billing.TypeBalanceLow) {
			if r.Seq <= before {
				continue
			}
			found++
			want := actor
			if actor == "" || r.Type == billing.TypeBudgetCrossed || r.Type == billing.TypeBalanceLow {
				want = "invoicer"
			}
			if r.Actor != want || r.Reason == "" {
				t.Errorf("%s by %q, because %q; want it by %q and a reason", r.Type, r.Actor, r.Reason, want)
			}
		}
		if found < 4 {
			t.Errorf("%s: %d records", now, found)
		}
	}
	written("2023-12-10T00:00:00Z", "key:alice")
	must[ledger.Grant](t)(n.GrantCredit(w.ctx, idle.ID, billing.Promotion{Amount: amount("1"), ExpiresAt: instant("2023-12-20T00:00:00Z")}, w.key("b")))
	written("2024-01-20T00:00:00Z", "")
	w.mustVerify(n)
}
