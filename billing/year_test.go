package billing_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

// said is what the ledger says of invoices, payments and credits: "instant type".
func (w *world) said() (lines []string) {
	zone, _ := time.LoadLocation("Asia/Shanghai")
	for _, r := range w.records(billing.TypeInvoiceIssued, billing.TypeInvoicePaid, billing.TypeInvoiceOverdue, billing.TypeInvoiceVoided,
		billing.TypeCreditsExpired, billing.TypeCorrected) {
		lines = append(lines, r.At.In(zone).Format("2006-01-02T15:04")+" "+r.Type)
	}
	return lines
}

// A turn of the month, and the month after it, in virtual time: real NATS, the real
// schedule, and nobody who looks at the clock but them.
func TestAMonthOfVirtualTime(t *testing.T) {
	if !embedded.Alone(t) {
		return
	}
	ats.Register() // NATS's own clock ticks outside of the bubble
	t.Cleanup(ats.Unregister)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2023-12-30T23:00:00+08:00") // late: NATS's timers make an hour dear
		w.begun = time.Now()
		sleepUntil := func(at string) { time.Sleep(instant(at).Sub(w.clock())) }
		n := w.node()
		n.Grace, n.TermsDays = time.Hour, 14
		w.install(n)
		org := w.newOrg(n, "acme", "2023-12-30T23:00:00+08:00")
		must[billing.Profile](t)(n.SetProfile(w.ctx, org.ID, billing.Profile{TaxRates: []ledger.TaxRate{{Name: "VAT", Pct: decimal.New(6, 0)}}}, w.by()))
		must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "team", Name: "Team", Terms: ledger.Terms{MonthlyFee: amount("31"), DiscountPct: decimal.New(10, 0)}}, w.by()))
		must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("10"), ExpiresAt: instant("2024-01-10T00:00:00+08:00")}, w.by()))

		ctx, stop := context.WithCancel(w.ctx)
		stopped := make(chan error, 1)
		go func() { stopped <- n.Schedule(ctx, "@every 30m") }()
		w.use(n, org, w.clock().Format(time.RFC3339))
		sleepUntil("2024-01-01T00:20:00+08:00")
		w.use(n, org, "2023-12-31T23:59:59+08:00") // a straggler in the grace
		sleepUntil("2024-01-01T02:00:00+08:00")
		want := []string{"2024-01-01T01:00 invoice.issued"}
		// 2 × 18.00 - 10 % + 2 of 31 days of the fee + the fee of January, + 6 % - 10.00 credit
		if inv, err := n.book.LastInvoice(org.ID); err != nil || inv.Total.Format("CNY") != "59.32" || len(w.records(billing.TypeInvoiceIssued)) != 1 {
			t.Fatalf("December is %s: %s, %v", inv.Total, n.lines(t, inv), err)
		}
		w.use(n, org, "2023-12-31T12:00:00+08:00") // late
		must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("5"), ExpiresAt: instant("2024-01-10T00:00:00+08:00")}, w.by()))
		sleepUntil("2024-01-16T10:00:00+08:00") // due on the 15th
		must[ledger.Payment](t)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("59.32")}, w.by()))
		must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "payg", Name: "Pay as you go"}, w.by()))
		sleepUntil("2024-02-01T02:00:00+08:00")
		want = append(want, "2024-01-10T00:00 credits.expired", "2024-01-16T00:00 invoice.overdue", "2024-01-16T10:00 invoice.paid", "2024-02-01T01:00 invoice.issued")
		// 16.20 of late usage, and 15 of the 31.00 that were charged of January are enough
		inv, err := n.book.LastInvoice(org.ID)
		if err != nil || n.lines(t, inv) != "fee 15.00, fee_charged -31.00, usage 18.00, adjustment -1.80, tax 0.01" {
			t.Errorf("January is %s, %v", n.lines(t, inv), err)
		}
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		for i, line := range w.said() {
			// The schedule looks every half an hour, from when it was started.
			if i >= len(want) || line != want[i] {
				t.Errorf("the ledger says %q, want %q", w.said(), want)
				break
			}
		}
		w.mustVerify(n)
	})
}

// A year of three orgs by the injected clock, day by day: plans change, usage comes
// late, credits expire, invoices go overdue and are paid, some are taken back. In the
// end every request is on exactly one invoice or still open, and the sum of it all is
// what was used.
func TestAYear(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-03-01T00:00:00Z")
	nodes := []*node{w.node(), w.node()}
	n := nodes[0]
	w.install(n)
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	random := rand.New(rand.NewPCG(seed, 1))
	var orgs []billing.Org
	for i, zone := range []string{"Asia/Shanghai", "America/New_York", "Asia/Kathmandu"} {
		org, err := n.CreateOrg(w.ctx, billing.Org{ID: events.NewID(), Name: zone, Timezone: zone}, w.by())
		if err != nil {
			t.Fatal(err)
		}
		must[billing.Profile](t)(n.SetProfile(w.ctx, org.ID, billing.Profile{Anchor: []int{1, 15, 31}[i]}, w.by()))
		orgs = append(orgs, org)
	}
	must[ledger.Grant](t)(n.TopUp(w.ctx, orgs[2].ID, billing.TopUp{Amount: amount("500")}, w.by()))
	used := map[billing.Org]decimal.Decimal{}
	days := 366
	if testing.Short() {
		days = 70
	}
	for day := range days {
		now := instant("2023-03-01T00:00:00Z").AddDate(0, 0, day).Add(time.Duration(random.IntN(86400)) * time.Second)
		w.setClock(now.Format(time.RFC3339))
		for i, org := range orgs {
			if random.IntN(3) > 0 {
				late := time.Duration(random.IntN(3)*random.IntN(40*24)) * time.Hour
				if at := now.Add(-late); at.After(org.CreatedAt) {
					w.use(n, org, at.Format(time.RFC3339))
					used[org] = used[org].Add(decimal.New(18, 0))
				}
			}
			w.live(n, org, i, random)
		}
		if day%3 == 0 {
			report, err := nodes[day%2].RunDue(w.ctx, w.clock())
			if err != nil {
				t.Fatal(err)
			}
			for _, inv := range report.Issued {
				if random.IntN(8) == 0 {
					must[ledger.CreditNote](t)(n.VoidInvoice(w.ctx, inv.OrgID, inv.ID, w.key("")))
				}
			}
		}
	}
	w.run(n)
	for _, org := range orgs {
		w.mustAddUp(n, org, used[org])
	}
	for _, n := range append(nodes, w.node()) {
		w.mustVerify(n)
	}
	t.Log(strings.Join(summary(w.said()), ", "))
}

// live is what an org does on some days.
func (w *world) live(n *node, org billing.Org, i int, random *rand.Rand) {
	a, err := n.book.Account(org.ID)
	if err != nil {
		w.Fatal(err)
	}
	switch random.IntN(40) {
	case 0:
		terms := ledger.Terms{MonthlyFee: ledger.AmountFromInt(int64(random.IntN(100))), IncludedTokens: uint64(random.IntN(5)) * 1_000_000, DiscountPct: decimal.New(int64(random.IntN(20)), 0)}
		if _, err := n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: fmt.Sprint("plan-", i), Name: "Plan", Terms: terms}, w.by()); err != nil {
			w.Fatal(err)
		}
	case 1:
		g := billing.Promotion{Amount: ledger.AmountFromInt(int64(1 + random.IntN(50))), ExpiresAt: w.clock().AddDate(0, 0, 1+random.IntN(60))}
		must[ledger.Grant](w)(n.GrantCredit(w.ctx, org.ID, g, w.by()))
	case 2:
		if a.Owed.Sign() > 0 {
			must[ledger.Payment](w)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: a.Owed}, w.by()))
		}
	case 3:
		must[billing.Profile](w)(n.SetProfile(w.ctx, org.ID, billing.Profile{TaxRates: []ledger.TaxRate{{Name: "VAT", Pct: decimal.New(int64(random.IntN(20)), 0)}}}, w.by()))
	}
}

// mustAddUp holds what was used against what was counted: Σ invoices + what is open.
func (w *world) mustAddUp(n *node, org billing.Org, used decimal.Decimal) {
	w.Helper()
	w.awaitCounted(org)
	invoices, _, err := n.book.Invoices(org.ID, 1, 1000)
	if err != nil {
		w.Fatal(err)
	}
	sum := decimal.Decimal{}
	for _, inv := range invoices {
		for _, q := range inv.Inputs.Quantities {
			sum = sum.Add(q.Cost)
		}
	}
	drafts, err := n.Drafts(w.ctx, org.ID)
	if err != nil {
		w.Fatal(err)
	}
	for _, draft := range drafts {
		for _, q := range draft.Inputs.Quantities {
			sum = sum.Add(q.Cost)
		}
	}
	if len(invoices) == 0 || !sum.Equal(used) {
		w.Errorf("%s: %d invoices and what is open count %s, used were %s", org.Name, len(invoices), sum, used)
	}
}

func summary(said []string) (out []string) {
	counts := map[string]int{}
	for _, line := range said {
		_, typ, _ := strings.Cut(line, " ")
		counts[typ]++
	}
	for typ, n := range counts {
		out = append(out, fmt.Sprint(n, " ", typ))
	}
	return out
}
