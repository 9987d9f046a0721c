package billing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/events"
	"aione/ledger"
)

func (n *node) lines(t *testing.T, inv ledger.Invoice) string {
	t.Helper()
	var out []string
	for _, l := range inv.Lines {
		out = append(out, fmt.Sprintf("%s %s", l.Kind, l.Amount.Format(inv.Currency)))
	}
	return strings.Join(out, ", ")
}

func TestFeesTaxesAndAnchoredPeriods(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-10-20T04:00:00Z")
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-10-20T04:00:00Z")
	terms, grace := 14, 2*time.Hour
	must[billing.Profile](t)(n.SetProfile(w.ctx, org.ID, billing.Profile{
		Anchor: 16, TermsDays: &terms, Grace: &grace, TaxRates: []ledger.TaxRate{{Name: "VAT", Pct: decimal.New(6, 0)}},
		BillTo: &ledger.Party{Name: "Acme Ltd"},
	}, w.key("profile")))
	must[billing.Published](t)(n.PublishPlan(w.ctx, billing.Plan{Code: "team", Name: "Team", Terms: ledger.Terms{MonthlyFee: amount("310"), DiscountPct: decimal.New(10, 0)}}, w.key("plan")))
	plan := must[billing.Plan](t)(n.AssignPublished(w.ctx, org.ID, "team", 0, instant("2023-10-31T16:00:00Z"), w.key("assign"))) // November 1
	if plan.Version != 1 || plan.MonthlyFee.Format("CNY") != "310.00" {
		t.Errorf("assigned %+v", plan)
	}
	w.use(n, org, "2023-10-21T00:00:00Z") // pay as you go
	w.use(n, org, "2023-11-05T00:00:00Z") // with a discount
	w.setClock("2023-11-15T17:59:59Z")    // the period ends on November 16, 00:00 in Shanghai, and its grace two hours later
	if report := w.run(n); report.Invoices != 0 {
		t.Errorf("in the grace: %+v", report)
	}
	drafts, err := n.Drafts(w.ctx, org.ID)
	if err != nil || len(drafts) != 2 || drafts[0].Period.Label != "2023-10" || drafts[0].Number != "" {
		t.Fatalf("drafts %+v, %v", drafts, err)
	}
	// The second draft supposes the first, which charges its fee in advance.
	if got := n.lines(t, drafts[1]); got != "fee_advance 310.00, tax 18.60" {
		t.Errorf("the upcoming invoice has %s", got)
	}
	w.setClock("2023-11-15T18:00:00Z")
	w.run(n)
	inv, err := n.book.LastInvoice(org.ID)
	if err != nil {
		t.Fatal(err)
	}
	// 31 days from October 16; 15 of them in November: 150.00 of the fee.
	want := "usage 18.00, usage 18.00, fee 150.00, fee_advance 310.00, discount -1.80, tax 29.65"
	if got := n.lines(t, inv); got != want || inv.Total.Format("CNY") != "523.85" || inv.DueDate.String() != "2023-11-30" {
		t.Errorf("%s: %s due %s, want %s", inv.Total, got, inv.DueDate, want)
	}
	if again := drafts[0].Issue(inv.Number); again.Total.Cmp(inv.Total) != 0 {
		t.Errorf("the draft said %s", again.Total)
	}
	if _, err := n.SetProfile(w.ctx, org.ID, billing.Profile{Anchor: 1}, w.key("late")); !errors.Is(err, billing.ErrInvalid) {
		t.Errorf("another anchor after a period was closed: %v", err)
	}
	p, err := n.book.ProfileAt(org.ID, w.clock())
	if err != nil || p.BillTo.Name != "Acme Ltd" || p.Anchor != 16 {
		t.Errorf("profile %+v, %v", p, err)
	}
	w.mustVerify(n)
	w.mustVerify(w.node())
}

func TestProfilesAndEntitiesAndPublishedPlansRefuse(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	many, long := -1, billing.GraceMax+1
	must[billing.Profile](t)(n.SetProfile(w.ctx, org.ID, billing.Profile{EffectiveFrom: w.clock().Add(time.Hour)}, w.by()))
	for name, p := range map[string]billing.Profile{
		"terms":             {TermsDays: &many},
		"grace":             {Grace: &long},
		"anchor":            {Anchor: 32},
		"tax":               {TaxRates: []ledger.TaxRate{{Name: "VAT", Pct: decimal.New(101, 0)}}},
		"party":             {BillTo: &ledger.Party{Name: " "}},
		"past":              {EffectiveFrom: w.clock().Add(-time.Hour)},
		"before the next":   {EffectiveFrom: w.clock()},
		"low balance":       {LowBalance: amount("-1")},
		"part of a milli-s": {EffectiveFrom: w.clock().Add(2*time.Hour + 1)},
	} {
		if _, err := n.SetProfile(w.ctx, org.ID, p, w.by()); !errors.Is(err, billing.ErrInvalid) {
			t.Errorf("profile, %s: %v", name, err)
		}
	}
	if _, err := n.SetProfile(w.ctx, events.NewID(), billing.Profile{}, w.by()); !errors.Is(err, billing.ErrNotFound) {
		t.Errorf("another org's profile: %v", err)
	}
	if _, err := n.SetLegalEntity(w.ctx, billing.LegalEntity{Code: "a-b", Issuer: ledger.Issuer{Party: ledger.Party{Name: "A"}}}, w.by()); !errors.Is(err, billing.ErrInvalid) {
		t.Errorf("entity code: %v", err)
	}
	if _, err := n.SetLegalEntity(w.ctx, billing.LegalEntity{Code: "A", Issuer: ledger.Issuer{Party: ledger.Party{Name: "A"}, Bank: ledger.Bank{BankName: "B"}}}, w.by()); !errors.Is(err, billing.ErrInvalid) {
		t.Errorf("entity bank: %v", err)
	}
	entity := billing.LegalEntity{Code: "AIONE", Issuer: ledger.Issuer{Party: ledger.Party{Name: "AIone 有限公司", TaxID: "9131"}}}
	must[billing.LegalEntity](t)(n.SetLegalEntity(w.ctx, entity, w.by()))
	if got, err := w.node().book.LegalEntity("AIONE"); err != nil || got.Issuer.Name != entity.Issuer.Name || len(n.book.LegalEntities()) != 1 {
		t.Errorf("entity %+v, %v", got, err)
	}
	plan := billing.Plan{Code: "team", Name: "Team"}
	for version := 1; version <= 2; version++ {
		plan.MonthlyFee = amount(fmt.Sprint(version))
		for range 2 { // the same again is the same version
			if got := must[billing.Published](t)(n.PublishPlan(w.ctx, plan, w.by())); got.Version != version {
				t.Errorf("version %d, want %d", got.Version, version)
			}
		}
	}
	if got, err := n.book.PublishedPlan("team", 1); err != nil || got.Plan.MonthlyFee.Cmp(amount("1")) != 0 {
		t.Errorf("version 1 is %+v, %v", got, err)
	}
	if got := w.node().book.PublishedPlans(); len(got) != 1 || got[0].Version != 2 {
		t.Errorf("published %+v", got)
	}
	if _, err := n.AssignPublished(w.ctx, org.ID, "team", 3, time.Time{}, w.by()); !errors.Is(err, billing.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	if _, err := n.PublishPlan(w.ctx, billing.Plan{Code: "x", Name: "X", Terms: ledger.Terms{OveragePolicy: billing.OverageBlock}}, w.by()); !errors.Is(err, billing.ErrInvalid) {
		t.Errorf("a plan that blocks at nothing: %v", err)
	}
}

// A change of plan in the middle of a month splits it; late usage is billed as the
// part it belongs to would have had it.
func TestPlanChangeSplitsThePeriod(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-11-01T00:00:00Z")
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-01T00:00:00Z")
	must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "a", Name: "A", Terms: ledger.Terms{DiscountPct: decimal.New(50, 0)}}, w.by()))
	must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "b", Name: "B", EffectiveFrom: instant("2023-11-15T16:00:00Z"), Terms: ledger.Terms{IncludedTokens: 2_000_000}}, w.by()))
	w.use(n, org, "2023-11-10T00:00:00Z") // half price
	w.use(n, org, "2023-11-20T00:00:00Z") // included: 15 of 30 days of two million
	w.use(n, org, "2023-11-21T00:00:00Z")
	w.setClock("2023-12-01T00:00:00Z")
	w.run(n)
	w.use(n, org, "2023-11-11T00:00:00Z") // late, half price
	w.setClock("2024-01-01T00:00:00Z")
	w.run(n)
	var got []string
	invoices, _, _ := n.book.Invoices(org.ID, 1, 9)
	for _, inv := range invoices {
		got = append(got, fmt.Sprintf("%s: %s", inv.Period.Label, n.lines(t, inv)))
	}
	want := "2023-12: usage 18.00, adjustment -9.00; 2023-11: usage 18.00, usage 36.00, included -18.00, discount -9.00"
	if strings.Join(got, "; ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, "; "), want)
	}
	w.mustVerify(n)
}

func TestLateUsageHasAnAge(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	n.LateAgeMax = 31 * 24 * time.Hour
	w.install(n)
	org := w.newOrg(n, "acme", "2023-09-02T00:00:00Z")
	w.use(n, org, "2023-09-10T00:00:00Z")
	w.run(n)
	w.use(n, org, "2023-11-10T00:00:00Z") // late for November, which is closed
	w.use(n, org, "2023-10-10T00:00:00Z") // more than 31 days before December
	w.setClock("2024-01-05T00:00:00Z")
	report := w.run(n)
	if report.Invoices != 1 || report.TooLate != 1 {
		t.Errorf("report %+v", report)
	}
	run, ok := n.book.RunOf(org.ID, "2023-12")
	if !ok || run.TooLateRows != 1 || run.TooLateCost.Cmp(amount("18")) != 0 || !run.LateFrom.Equal(run.Period.Start.Add(-n.LateAgeMax)) {
		t.Errorf("the run says %+v", run)
	}
	if inv, _ := n.book.LastInvoice(org.ID); n.lines(t, inv) != "usage 18.00" {
		t.Errorf("billed %s", n.lines(t, inv))
	}
	w.setClock("2024-02-05T00:00:00Z")
	if report := w.run(n); report.TooLate != 0 {
		t.Errorf("it is told of again: %+v", report)
	}
	w.mustVerify(n)
}

type verdict struct{ err error }

func (v verdict) Sound(context.Context) error { return v.err }

func TestNothingIsInvoicedUnproven(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	w.use(n, org, "2023-11-10T00:00:00Z")
	red := errors.New("row 7 is gone")
	n.Auditor = verdict{red}
	end, _ := w.log.LedgerEnd(w.ctx)
	if _, err := n.RunDue(w.ctx, w.clock()); !errors.Is(err, billing.ErrUnproven) || !errors.Is(err, red) {
		t.Errorf("got %v", err)
	}
	if after, _ := w.log.LedgerEnd(w.ctx); after != end {
		t.Error("something was written")
	}
	n.Auditor = verdict{}
	if report := w.run(n); report.Invoices != 1 {
		t.Errorf("report %+v", report)
	}
}

func TestOverdueAndExpiryAreSaidOnce(t *testing.T) {
	w := newWorld(t)
	nodes := []*node{w.node(), w.node()}
	n := nodes[0]
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("30"), ExpiresAt: instant("2023-12-20T00:00:00Z")}, w.by()))
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.use(n, org, "2023-11-11T00:00:00Z")
	w.run(n) // 6.00 to pay until January 9
	must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("7"), ExpiresAt: instant("2023-12-20T00:00:00Z")}, w.by()))
	inv, _ := n.book.LastInvoice(org.ID)
	reports := make([]billing.Report, 2)
	for _, now := range []string{"2024-01-09T15:59:59Z", "2024-01-09T16:00:00Z", "2024-01-11T00:00:00Z"} {
		w.setClock(now)
		var done sync.WaitGroup
		for i, n := range nodes {
			done.Go(func() {
				r, err := n.RunDue(w.ctx, w.clock())
				if err != nil {
					t.Error(err)
				}
				reports[i].Overdue += r.Overdue
				reports[i].Expired += r.Expired
			})
		}
		done.Wait()
		if got := len(w.records(billing.TypeInvoiceOverdue)); got != map[string]int{"2024-01-09T15:59:59Z": 0}[now] && got != 1 {
			t.Errorf("%s: %d records", now, got)
		}
	}
	if reports[0].Overdue+reports[1].Overdue != 1 || reports[0].Expired+reports[1].Expired != 1 || len(w.records(billing.TypeCreditsExpired)) != 1 {
		t.Errorf("reports %+v", reports)
	}
	s, err := n.book.Standing(org.ID, inv.ID)
	if err != nil || s.Status(ledger.Date{Year: 2024, Month: 1, Day: 9}) != ledger.StatusIssued || s.Status(ledger.Date{Year: 2024, Month: 1, Day: 10}) != ledger.StatusOverdue {
		t.Errorf("stands at %+v, %v", s, err)
	}
	if got := n.account(t, org); got != "0.00 0.00 6.00" {
		t.Errorf("the account is %s", got)
	}
	if a, err := n.book.Account(org.ID); err != nil || a.OwedBy.String() != "2024-01-09" {
		t.Errorf("owed by %s, %v", a.OwedBy, err)
	}
	must[ledger.Payment](t)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("6")}, w.by()))
	if a, err := n.book.Account(org.ID); err != nil || a.OwedBy != (ledger.Date{}) {
		t.Errorf("with nothing owed: by %s, %v", a.OwedBy, err)
	}
	w.mustVerify(n)
}

// standings is what admission would say.
type standings map[uuid.UUID]billing.Spending

func (s standings) Standing(id uuid.UUID) billing.Spending { return s[id] }

func TestThresholdsAreAnnouncedOnce(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-11-05T00:00:00Z")
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	must[billing.Plan](t)(n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "a", Name: "A", Terms: ledger.Terms{IncludedTokens: 3_000_000, IncludedAmount: amount("20")}}, w.by()))
	must[billing.Profile](t)(n.SetProfile(w.ctx, org.ID, billing.Profile{LowBalance: amount("2.50")}, w.by()))
	say := func(spent, balance string, want ...string) {
		t.Helper()
		for _, n := range []*node{n, w.node()} { // a process that begins says nothing twice
			n.Standings = standings{org.ID: {Budget: amount("100"), Spent: amount(spent), Opened: true, Balance: amount(balance)}}
			w.run(n)
		}
		var got []string
		for _, r := range w.records(billing.TypeBudgetCrossed, billing.TypeBalanceLow) {
			var c billing.BudgetCrossed
			if err := r.Into(&c); err != nil {
				t.Fatal(err)
			}
			if got = append(got, fmt.Sprint(c.Of, " ", c.Pct)); r.Type == billing.TypeBalanceLow {
				got[len(got)-1] = "balance"
			}
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("announced %q, want %q", got, want)
		}
	}
	say("49.99", "2.51")
	say("50", "2.50", "budget 50", "balance")
	w.use(n, org, "2023-11-05T01:00:00Z")
	w.use(n, org, "2023-11-05T02:00:00Z")
	w.awaitCounted(org)
	w.setClock("2023-11-06T00:00:00Z")
	say("100", "0", "budget 50", "balance", "budget 80", "budget 100", "included_tokens 50")
	w.use(n, org, "2023-11-06T02:00:00Z")
	w.use(n, org, "2023-11-06T03:00:00Z") // past the included tokens and amount of 26 of 30 days
	w.awaitCounted(org)
	w.setClock("2023-11-07T00:00:00Z")
	announced := []string{"budget 50", "balance", "budget 80", "budget 100", "included_tokens 50", "included_tokens 80", "included_tokens 100", "included_amount 50", "included_amount 80", "included_amount 100"}
	say("100", "0", announced...)
	w.setClock("2023-12-02T00:00:00Z") // another period, another budget
	say("80", "1", append(announced, "budget 50", "budget 80", "balance")...)
	w.mustVerify(n)
}

// What the log says about one org may be nonsense: the others go on.
func TestOneCorruptOrgDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	bad, good := w.newOrg(n, "bad", "2023-11-02T00:00:00Z"), w.newOrg(n, "good", "2023-11-02T00:00:00Z")
	grant := must[ledger.Grant](t)(n.GrantCredit(w.ctx, bad.ID, billing.Promotion{Amount: amount("5")}, w.by()))
	rec := w.records(billing.TypeCreditGranted)[0]
	rec.ID = events.NewID()
	if _, err := w.log.Append(w.ctx, events.Append{Subject: events.JournalSubject(bad.ID), Record: rec, ExpectLast: rec.Seq}); err != nil {
		t.Fatal(err)
	}
	w.use(n, bad, "2023-11-10T00:00:00Z")
	w.use(n, good, "2023-11-10T00:00:00Z")
	report, err := n.RunDue(w.ctx, w.clock())
	if !errors.Is(err, billing.ErrCorrupt) || report.Failed != 1 || report.Invoices != 1 {
		t.Errorf("report %+v, %v", report, err)
	}
	if _, err := n.Refund(w.ctx, bad.ID, billing.Refund{Amount: amount("1")}, w.by()); !errors.Is(err, billing.ErrCorrupt) {
		t.Errorf("a command on corrupt money: %v", err)
	}
	v := billing.Verify(n.book)
	if v.OK() || !strings.Contains(strings.Join(v.Findings, "\n"), bad.ID.String()) {
		t.Errorf("grant %s is there twice, and Verify says %q", grant.ID, v.Findings)
	}
}
