package billing_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/admission"
	"aione/analytics"
	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

// onRows gives the world's processes a real ClickHouse to count in, fed by the real
// ingester.
func (w *world) onRows(nodes ...*node) *analytics.Store {
	w.Helper()
	store, err := analytics.Open(w.ctx, embedded.OpenClickHouse(w).DSN, slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	var ingesting sync.WaitGroup
	ingesting.Go(func() {
		in := &analytics.Ingester{Log: w.log, Store: store, BatchAge: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
		if err := in.Run(ctx); ctx.Err() == nil {
			w.Errorf("the ingester ended: %v", err)
		}
	})
	w.Cleanup(func() { cancel(); ingesting.Wait(); store.Close() })
	for _, n := range nodes {
		n.Usage = analytics.Projection{Store: store, Log: w.log}
	}
	return store
}

// The whole way over rows of a real ClickHouse: a plan that changes in the middle of
// the month, late usage within and beyond its age, a balance that admission keeps,
// orgs in two zones in one question. What is invoiced is what the projection in
// memory would have given, and the rows give the same inputs again.
func TestInvoicesOverRealRows(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-10-01T12:00:00Z") // October in both zones
	n, other := w.node(), w.node()
	store := w.onRows(n)
	n.LateAgeMax, other.LateAgeMax = 40*24*time.Hour, 40*24*time.Hour
	w.install(n)
	var orgs []billing.Org
	for _, zone := range []string{"Asia/Shanghai", "America/New_York"} {
		org, err := n.CreateOrg(w.ctx, billing.Org{ID: events.NewID(), Name: zone, Timezone: zone}, w.by())
		if err != nil {
			t.Fatal(err)
		}
		orgs = append(orgs, org)
		must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "a", Name: "A", Terms: ledger.Terms{MonthlyFee: amount("30"), DiscountPct: decimal.New(10, 0)}}, w.by()))
		must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "b", Name: "B", EffectiveFrom: instant("2023-11-16T12:00:00Z"), Terms: ledger.Terms{IncludedTokens: 4_000_000}}, w.by()))
		for day := 1; day <= 31; day += 3 {
			w.use(n, org, fmt.Sprintf("2023-10-%02dT23:30:00Z", day))
		}
	}
	must[ledger.Grant](t)(n.TopUp(w.ctx, orgs[1].ID, billing.TopUp{Amount: amount("500")}, billing.By{Actor: "test", At: instant("2023-10-15T00:00:00Z")}))
	w.setClock("2023-11-02T00:00:00Z")
	w.run(n)
	for _, org := range orgs {
		w.use(n, org, "2023-10-20T00:00:00Z") // late
		for day := 1; day <= 30; day += 2 {
			w.use(n, org, fmt.Sprintf("2023-11-%02dT04:30:00Z", day))
		}
	}
	w.setClock("2023-12-02T00:00:00Z")
	w.run(n)
	for _, org := range orgs {
		w.use(n, org, "2023-10-02T00:00:00Z") // too late
		w.use(n, org, "2023-11-29T00:00:00Z") // late
	}
	for _, org := range orgs { // what is not issued yet, in rows and in memory
		w.awaitCounted(org)
		if err := (analytics.Projection{Store: store, Log: w.log}).CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		rows, err := n.Upcoming(w.ctx, org.ID)
		memory, err2 := other.Upcoming(w.ctx, org.ID)
		if err != nil || err2 != nil || n.lines(t, rows) != n.lines(t, memory) {
			t.Errorf("upcoming: rows %s (%v), memory %s (%v)", n.lines(t, rows), err, n.lines(t, memory), err2)
		}
	}
	w.setClock("2024-01-02T00:00:00Z")
	if report := w.run(n); report.TooLate != 2 {
		t.Errorf("report %+v", report)
	}
	for _, org := range orgs {
		w.mustBeReproducedBy(store, n, org)
	}
	a, err := n.book.Account(orgs[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	s := w.standing(n, orgs[1].ID)
	left, err := a.Prepaid.Sub(a.Owed)
	if err != nil || !s.Credit.Sub(s.Spent).Equal(left.Decimal()) || len(w.records(admission.TypeBalanceCredited)) < 3 {
		t.Errorf("admission has %s - %s left, the ledger %s (%v)", s.Credit, s.Spent, left, err)
	}
	w.mustVerify(n)
}

// mustBeReproducedBy counts every invoice of an org again, in rows and in memory.
func (w *world) mustBeReproducedBy(store *analytics.Store, n *node, org billing.Org) {
	w.Helper()
	invoices, total, err := n.book.Invoices(org.ID, 1, 100)
	if err != nil || total != 3 {
		w.Fatalf("%d invoices, %v", total, err)
	}
	for _, inv := range invoices {
		q := inv.InputsQuery()
		run, _ := n.book.RunOf(org.ID, inv.Period.Label)
		q.LateFrom = run.LateFrom
		rows, err := store.Inputs(w.ctx, q)
		if err != nil {
			w.Fatal(err)
		}
		memory := w.usage.inputs(q)
		memory.RowsDigest = rows.RowsDigest
		for name, in := range map[string]ledger.Inputs{"the rows": rows, "the memory": memory} {
			again := inv
			again.Inputs = in
			if again, err = ledger.Recompute(again); err != nil || string(again.CanonicalBytes()) != string(inv.CanonicalBytes()) {
				w.Errorf("%s give another invoice %s (%v): %s, was %s", name, inv.Period.Label, err, n.lines(w.T, again), n.lines(w.T, inv))
			}
		}
	}
}

// standing is how an org's balance stands at a limiter that has read everything.
func (w *world) standing(n *node, orgID uuid.UUID) admission.Standing {
	w.Helper()
	l, err := admission.New(admission.Config{Zones: n.book, Now: w.clock})
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range w.records(admission.TypeBalanceCredited, admission.TypeCreditLimitSet) {
		if err := l.Apply(r); err != nil {
			w.Fatal(err)
		}
	}
	if err := l.Restore(w.ctx, admission.History{Usage: w.log}); err != nil {
		w.Fatal(err)
	}
	s, err := l.Standing(orgID, admission.ScopeBalance, orgID, w.clock())
	if err != nil {
		w.Fatal(err)
	}
	return s
}
