package billing_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m, "TestAMonthOfVirtualTime")) }

func TestRunDueInvoicesEachPeriodOnce(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-09-20T00:00:00Z")
	w.use(n, org, "2023-09-25T00:00:00Z")
	w.use(n, org, "2023-09-30T16:00:00Z") // October 1 in Shanghai
	w.use(n, org, "2023-10-31T15:59:59Z") // still October there
	w.use(n, org, "2023-12-05T00:00:00Z") // a period that is not over

	report := w.run(n)
	if len(report.Issued) != 2 || report.Empty != 1 {
		t.Errorf("issued %d, empty %d; want 2 and 1", len(report.Issued), report.Empty)
	}
	want := []string{"INV-AIONE-2023-000001 2023-09 18.00", "INV-AIONE-2023-000002 2023-10 36.00"}
	if got := n.numbers(t, org); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	end, _ := w.log.LedgerEnd(w.ctx)
	if again := w.run(n); len(again.Issued) != 0 || again.Empty != 0 {
		t.Errorf("the second run did %+v", again)
	}
	if after, _ := w.log.LedgerEnd(w.ctx); after != end {
		t.Errorf("the second run wrote %d records", after-end)
	}
	inv, err := n.book.LastInvoice(org.ID)
	if err != nil {
		t.Fatal(err)
	}
	if inv.Status != ledger.StatusIssued || inv.CreatedOn.String() != "2023-12-10" || inv.DueDate.String() != "2024-01-09" {
		t.Errorf("got %s, created %s, due %s", inv.Status, inv.CreatedOn, inv.DueDate)
	}
	w.mustVerify(n)
	w.mustVerify(w.node()) // a process that has only the log says the same
}

func TestLateUsageIsOnTheNextInvoice(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-10-02T00:00:00Z")
	w.setClock("2023-11-05T00:00:00Z")
	w.use(n, org, "2023-10-10T00:00:00Z")
	w.run(n)
	w.use(n, org, "2023-10-11T00:00:00Z") // October is closed
	w.use(n, org, "2023-08-11T00:00:00Z") // older than the org's first period
	w.setClock("2023-12-05T00:00:00Z")
	w.run(n) // November has no usage of its own
	w.setClock("2024-01-05T00:00:00Z")
	w.run(n) // December has none at all

	want := []string{"INV-AIONE-2023-000001 2023-10 18.00", "INV-AIONE-2023-000002 2023-11 36.00"}
	if got := n.numbers(t, org); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	inv, err := n.book.LastInvoice(org.ID)
	if err != nil {
		t.Fatal(err)
	}
	var origins []string
	for _, l := range inv.Lines {
		origins = append(origins, l.Origin)
	}
	if !reflect.DeepEqual(origins, []string{"2023-10", "earlier"}) {
		t.Errorf("origins %v", origins)
	}
	w.mustVerify(n)
}

func TestImportedHistory(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	n.Grace = 2 * time.Hour
	w.install(n)
	org := w.newOrg(n, "acme", "2023-12-10T00:00:00Z")
	w.use(n, org, "2023-10-10T00:00:00Z")
	w.setClock("2023-12-10T01:59:00Z")
	if report := w.run(n); len(report.Issued)+report.Empty != 0 {
		t.Errorf("within the grace: %+v", report)
	}
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.use(n, org, "2023-12-10T01:00:00Z")
	w.setClock("2023-12-10T02:00:00Z")
	w.run(n)
	want := []string{"INV-AIONE-2023-000001 2023-10 18.00", "INV-AIONE-2023-000002 2023-11 18.00"}
	if got := n.numbers(t, org); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	upcoming, err := n.Upcoming(w.ctx, org.ID)
	if err != nil || upcoming.Total.Format("CNY") != "18.00" || upcoming.Status != ledger.StatusDraft || upcoming.Number != "" {
		t.Errorf("upcoming %s %s %q, %v", upcoming.Total, upcoming.Status, upcoming.Number, err)
	}
	w.mustVerify(n)
}

func TestGraceCountsFromTheEnd(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	n.Grace = time.Hour
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-10T00:00:00Z")
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.setClock("2023-11-30T16:59:59Z")
	w.run(n)
	if got := n.numbers(t, org); got != nil {
		t.Errorf("a second before the grace ends: %v", got)
	}
	w.setClock("2023-11-30T17:00:00Z")
	w.run(n)
	if got := n.numbers(t, org); len(got) != 1 {
		t.Errorf("when the grace ends: %v", got)
	}
	w.use(n, org, "2023-12-10T00:00:00Z")
	w.setClock("2023-12-31T15:59:59Z")
	n.Grace = -24 * time.Hour
	w.run(n)
	if got := n.numbers(t, org); len(got) != 1 {
		t.Errorf("a period that is not over was closed: %v", got)
	}
	if _, err := n.RunDue(w.ctx, instant("2024-06-01T00:00:00Z")); !errors.Is(err, billing.ErrFuture) {
		t.Errorf("got %v, want ErrFuture", err)
	}
}

func TestMeteringBehindRefuses(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	n.MeteringWait = 100 * time.Millisecond
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-10T00:00:00Z")
	w.usage.hold(true)
	w.use(n, org, "2023-11-10T00:00:00Z")
	report, err := n.RunDue(w.ctx, w.clock())
	if !errors.Is(err, billing.ErrMeteringBehind) || report.Failed != 1 || len(report.Issued)+report.Empty != 0 {
		t.Fatalf("got %+v, %v; want ErrMeteringBehind", report, err)
	}
	w.usage.hold(false)
	n.MeteringWait = 10 * time.Second
	w.run(n)
	if got := n.numbers(t, org); len(got) != 1 {
		t.Errorf("after metering caught up: %v", got)
	}
}

func TestOneBadOrgDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	bad, err := n.CreateOrg(w.ctx, billing.Org{ID: events.NewID(), Name: "dollars", Currency: "USD"}, billing.By{Actor: "test", At: instant("2023-11-01T00:00:00Z")})
	if err != nil {
		t.Fatal(err)
	}
	good := w.newOrg(n, "good", "2023-11-01T00:00:00Z")
	w.use(n, bad, "2023-11-10T00:00:00Z")
	w.use(n, good, "2023-11-10T00:00:00Z")
	report, err := n.RunDue(w.ctx, w.clock())
	if !errors.Is(err, ledger.ErrCurrencyMismatch) || report.Failed != 1 || len(report.Issued) != 1 {
		t.Errorf("got %+v, %v", report, err)
	}
	w.mustVerify(n)
}

// Two processes close twelve orgs at once, again and again.
func TestRacingInvoicersIssueEachInvoiceOnce(t *testing.T) {
	w := newWorld(t)
	w.setClock("2023-10-15T00:00:00Z")
	first := w.node()
	w.install(first)
	var orgs []billing.Org
	for i := range 12 {
		org := w.newOrg(first, fmt.Sprintf("org %d", i), "2023-09-10T00:00:00Z")
		orgs = append(orgs, org)
		if i%4 != 3 { // every fourth has nothing to pay
			w.use(first, org, "2023-09-15T00:00:00Z")
			w.use(first, org, "2023-10-15T00:00:00Z")
		}
	}
	nodes := []*node{first, w.node(), w.node()}
	issued, empty := 0, 0
	for _, now := range []string{"2023-10-15T00:00:00Z", "2023-12-15T00:00:00Z"} {
		w.setClock(now)
		reports := make([]billing.Report, len(nodes))
		errs := make([]error, len(nodes))
		var done sync.WaitGroup
		for i, n := range nodes {
			done.Go(func() { reports[i], errs[i] = n.RunDue(w.ctx, w.clock()) })
		}
		done.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for i, r := range reports {
			t.Logf("%s: process %d issued %d, empty %d", now, i, len(r.Issued), r.Empty)
			issued, empty = issued+len(r.Issued), empty+r.Empty
		}
	}
	// September, October, November of 9 orgs with usage in two of them, and of 3 without.
	if issued != 18 || empty != 9+9 {
		t.Errorf("issued %d, empty %d; want 18 and 18", issued, empty)
	}
	for _, n := range nodes {
		w.mustVerify(n)
	}
	for _, org := range orgs {
		if got, want := first.numbers(t, org), nodes[2].numbers(t, org); !reflect.DeepEqual(got, want) {
			t.Errorf("two processes disagree: %v, %v", got, want)
		}
	}
}

var errCrash = errors.New("crash")

func TestCrashAroundTheBatch(t *testing.T) {
	hook := func(uuid.UUID, ledger.Period) error { return errCrash }
	for name, hooks := range map[string]billing.Hooks{
		"between compute and batch": {BeforeBatch: hook},
		"after the batch":           {AfterBatch: hook},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.node()
			w.install(n)
			org := w.newOrg(n, "acme", "2023-10-10T00:00:00Z")
			w.use(n, org, "2023-10-15T00:00:00Z")
			w.use(n, org, "2023-11-15T00:00:00Z")
			for range 5 {
				doomed := w.node()
				doomed.Hooks = hooks
				if _, err := doomed.RunDue(w.ctx, w.clock()); err != nil && !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
			}
			survivor := w.node()
			w.run(survivor)
			want := []string{"INV-AIONE-2023-000001 2023-10 18.00", "INV-AIONE-2023-000002 2023-11 18.00"}
			if got := survivor.numbers(t, org); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			end, _ := w.log.LedgerEnd(w.ctx)
			w.run(w.node())
			if after, _ := w.log.LedgerEnd(w.ctx); after != end {
				t.Errorf("a rerun wrote %d records", after-end)
			}
			w.mustVerify(survivor)
		})
	}
}

// An invoicer that saw no imported usage would begin with a later period than
// one that did. Whoever is second must notice, or usage is billed twice.
func TestFirstPeriodIsDecidedOnce(t *testing.T) {
	w := newWorld(t)
	slow, fast := w.node(), w.node()
	w.install(slow)
	org := w.newOrg(slow, "acme", "2023-11-05T00:00:00Z")
	w.use(slow, org, "2023-11-10T00:00:00Z")
	once := sync.Once{}
	slow.Hooks.BeforeBatch = func(uuid.UUID, ledger.Period) error {
		once.Do(func() { // November is computed as the first period, not yet written
			w.use(fast, org, "2023-09-10T00:00:00Z")
			// It closes September and no more: no run key stands in November's way.
			fast.Hooks.AfterBatch = func(uuid.UUID, ledger.Period) error { return errCrash }
			if _, err := fast.RunDue(w.ctx, w.clock()); !errors.Is(err, errCrash) {
				t.Error(err)
			}
		})
		return nil
	}
	w.run(slow)
	w.setClock("2024-01-10T00:00:00Z")
	w.run(slow)
	want := []string{"INV-AIONE-2023-000001 2023-09 18.00", "INV-AIONE-2023-000002 2023-11 18.00"}
	if got := slow.numbers(t, org); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	w.mustVerify(slow)
}

// The same, but the earlier period comes out empty: its usage arrived between the
// cut and the question for the earliest use. An empty closing has no invoice, and
// must keep its place among the org's runs all the same.
func TestEmptyClosingsAreInLineToo(t *testing.T) {
	w := newWorld(t)
	slow, fast := w.node(), w.node()
	w.install(slow)
	org := w.newOrg(slow, "acme", "2023-11-05T00:00:00Z")
	w.use(slow, org, "2023-11-10T00:00:00Z")
	once := sync.Once{}
	slow.Hooks.BeforeBatch = func(uuid.UUID, ledger.Period) error {
		once.Do(func() {
			w.usage.beforeFirstUse = func() {
				w.use(slow, org, "2023-09-10T00:00:00Z")
				w.awaitCounted(org)
				w.usage.beforeFirstUse = nil
			}
			fast.Hooks.AfterBatch = func(uuid.UUID, ledger.Period) error { return errCrash }
			if _, err := fast.RunDue(w.ctx, w.clock()); !errors.Is(err, errCrash) {
				t.Error(err)
			}
		})
		return nil
	}
	w.run(slow)
	if first, ok := slow.book.LastRun(org.ID); !ok || first.Period.Label != "2023-11" {
		t.Errorf("last run is %+v", first)
	}
	total := ledger.Amount{}
	invoices, _, _ := slow.book.Invoices(org.ID, 1, 10)
	for _, inv := range invoices {
		total, _ = total.Add(inv.Total)
	}
	if total.Cmp(ledger.AmountFromInt(36)) != 0 {
		t.Errorf("%s in all, want 36: each request once", total)
	}
	w.mustVerify(slow)
}

// lying is a projection that is out of order for one org.
type lying struct {
	billing.UsageSource
	orgID uuid.UUID
}

func (l lying) EachInputs(ctx context.Context, qs []ledger.InputsQuery, each func(int, ledger.Inputs) error) error {
	return l.UsageSource.EachInputs(ctx, qs, func(i int, in ledger.Inputs) error {
		if qs[i].OrgID == l.orgID {
			in.Rows++
		}
		return each(i, in)
	})
}

// Two invoicers at different orgs meet only in the series of numbers.
func TestNumbersAreGivenOnceUnderRaces(t *testing.T) {
	w := newWorld(t)
	slow, fast := w.node(), w.node()
	w.install(slow)
	var orgs []billing.Org
	for _, name := range []string{"zero", "one", "two"} {
		orgs = append(orgs, w.newOrg(slow, name, "2023-11-05T00:00:00Z"))
		w.use(slow, orgs[len(orgs)-1], "2023-11-10T00:00:00Z")
	}
	fast.Usage = lying{w.usage, orgs[1].ID}
	slow.GroupOrgs = 1
	attempts := 0
	slow.Hooks.BeforeBatch = func(orgID uuid.UUID, _ ledger.Period) error {
		if attempts++; orgID == orgs[1].ID && attempts == 2 { // number 2 is computed for org one …
			if _, err := fast.RunDue(w.ctx, w.clock()); !errors.Is(err, ledger.ErrInputs) { // … and taken by org two
				t.Error(err)
			}
		}
		return nil
	}
	w.run(slow)
	if attempts != 3 {
		t.Errorf("%d attempts, want 3: one for org zero, two for org one", attempts)
	}
	for i, number := range []string{"INV-AIONE-2023-000001", "INV-AIONE-2023-000003", "INV-AIONE-2023-000002"} {
		want := []string{number + " 2023-11 18.00"}
		if got := slow.numbers(t, orgs[i]); !reflect.DeepEqual(got, want) {
			t.Errorf("org %d: got %v, want %v", i, got, want)
		}
	}
	w.mustVerify(slow)
}

func TestNumbersStartAgainEachYear(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-10-10T00:00:00Z")
	w.use(n, org, "2023-10-15T00:00:00Z")
	w.use(n, org, "2023-11-15T00:00:00Z")
	w.run(n)
	w.use(n, org, "2023-12-15T00:00:00Z")
	w.setClock("2023-12-31T16:00:00Z") // 2024 in Shanghai
	w.run(n)
	want := []string{"INV-AIONE-2023-000001 2023-10 18.00", "INV-AIONE-2023-000002 2023-11 18.00", "INV-AIONE-2024-000001 2023-12 18.00"}
	if got := n.numbers(t, org); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	w.mustVerify(n)
}

func TestScheduleRunsAtOnceAndStops(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-05T00:00:00Z")
	w.use(n, org, "2023-11-10T00:00:00Z")
	if err := n.Schedule(w.ctx, "every now and then"); err == nil {
		t.Error("a senseless spec was taken")
	}
	ctx, cancel := context.WithCancel(w.ctx)
	stopped := make(chan error)
	go func() { stopped <- n.Schedule(ctx, "@every 1s") }()
	deadline := time.After(20 * time.Second)
	for len(n.numbers(t, org)) == 0 {
		select {
		case <-deadline:
			t.Fatal("nothing was invoiced")
		case <-time.After(10 * time.Millisecond):
		}
	}
	w.use(n, org, "2023-12-10T00:00:00Z")
	w.setClock("2024-01-02T00:00:00Z")
	for len(n.numbers(t, org)) == 1 {
		select {
		case <-deadline:
			t.Fatal("cron did not run")
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Many orgs are closed in one atomic batch, with one record for all their numbers.
// When one of them pays at the worst moment, the log refuses the batch; the others
// lose nothing but a try.
func TestGroupsAreOneBatchAndSplit(t *testing.T) {
	w := newWorld(t)
	n, other := w.node(), w.node()
	w.install(n)
	var orgs []billing.Org
	for i := range 9 {
		orgs = append(orgs, w.newOrg(n, fmt.Sprint("org ", i), "2023-11-02T00:00:00Z"))
		w.use(n, orgs[i], "2023-11-10T00:00:00Z")
	}
	tries := map[uuid.UUID]int{}
	n.Hooks.BeforeBatch = func(id uuid.UUID, _ ledger.Period) error {
		if tries[id]++; id == orgs[4].ID && tries[id] <= 2 {
			must[ledger.Payment](t)(other.Pay(w.ctx, id, billing.Payment{Amount: ledger.AmountFromInt(1)}, w.by()))
		}
		return nil
	}
	if report := w.run(n); report.Invoices != 9 {
		t.Errorf("report %+v", report)
	}
	// Nine, then four and five of them, then the five as two and three.
	if tries[orgs[4].ID] != 3 || tries[orgs[0].ID] != 2 {
		t.Errorf("tries %v", tries)
	}
	var given []int
	for _, r := range w.records(billing.TypeNumbered) {
		var numbered billing.Numbered
		if err := r.Into(&numbered); err != nil {
			t.Fatal(err)
		}
		given = append(given, 1+len(numbered.More))
	}
	if fmt.Sprint(given) != "[4 2 3]" {
		t.Errorf("records give %v numbers", given)
	}
	if got := n.numbers(t, orgs[4]); got[0] != "INV-AIONE-2023-000005 2023-11 16.00" {
		t.Errorf("got %v", got)
	}
	w.mustVerify(n)
}
