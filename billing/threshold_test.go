package billing_test

import (
	"fmt"
	"strings"
	"testing"

	"aione/billing"
	"aione/ledger"
)

// A balance that was topped up and falls again is low again, and a budget that was
// raised has its own parts, also within one period.
func TestThresholdsComeAgain(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-11-05T00:00:00Z")
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	var want []string
	say := func(budget, spent, balance string, more ...string) {
		t.Helper()
		want = append(want, more...)
		for _, n := range []*node{n, w.node()} { // a process that begins says nothing twice
			n.Standings = standings{org.ID: {Budget: amount(budget), Spent: amount(spent), Opened: true, Balance: amount(balance)}}
			if _, err := n.Announce(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, r := range w.records(billing.TypeBudgetCrossed, billing.TypeBalanceLow, billing.TypeBalanceRecovered) {
			var c billing.BudgetCrossed
			if err := r.Into(&c); err != nil {
				t.Fatal(err)
			}
			text := r.Type
			if r.Type == billing.TypeBudgetCrossed {
				text = fmt.Sprint(c.Pct, " of ", c.Limit)
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("announced %q, want %q", got, want)
		}
	}
	say("100.5", "0", "1")
	say("100.5", "60", "0", "50 of 100.5", "balance.low")
	say("100.5", "60", "1") // a process that has not seen all usage yet
	say("100.5", "60", "-1")
	must[ledger.Grant](t)(n.TopUp(w.ctx, org.ID, billing.TopUp{Amount: amount("0.5")}, w.by()))
	say("100.5", "60", "-0.5") // not enough
	must[ledger.Grant](t)(n.TopUp(w.ctx, org.ID, billing.TopUp{Amount: amount("5")}, w.by()))
	say("100.5", "60", "4.5", "balance.recovered")
	say("100.5", "60", "0.01")
	say("100.5", "101", "0", "80 of 100.5", "100 of 100.5", "balance.low")
	say("200", "101", "-1", "50 of 200")
	say("200", "200", "-1", "80 of 200", "100 of 200")
	w.mustVerify(n)
}
