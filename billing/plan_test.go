package billing_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/events"
	"aione/ledger"
)

func TestPlanAt(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-01T00:00:00Z")
	if _, err := n.book.PlanAt(events.NewID(), w.clock()); !errors.Is(err, billing.ErrNotFound) {
		t.Errorf("unknown org: %v, want ErrNotFound", err)
	}
	plan, err := n.book.PlanAt(org.ID, w.clock())
	if err != nil || plan.Code != billing.DefaultPlanCode || plan.ID == uuid.Nil || plan.Currency != "CNY" || plan.OveragePolicy != billing.OverageBill ||
		plan.BillingCycle != billing.CycleMonthly || plan.RPMLimit != 0 || !plan.EffectiveFrom.Equal(org.CreatedAt) || !plan.EffectiveTo.IsZero() {
		t.Fatalf("the default: %+v, %v", plan, err)
	}
	small := billing.Plan{Code: "small", Name: "Small", RPMLimit: 60, TPMLimit: 100_000, ModelsAllowed: []string{"gpt-4o"}}
	out, err := n.AssignPlan(w.ctx, org.ID, small, w.by())
	got := out.Result
	if err != nil || !got.EffectiveFrom.Equal(w.clock()) || got.ID == uuid.Nil || got.OveragePolicy != billing.OverageBill || got.Currency != "CNY" {
		t.Fatalf("small: %+v, %v", got, err)
	}
	large := billing.Plan{ID: events.NewID(), Code: "large", Name: "Large", EffectiveFrom: instant("2024-02-01T00:00:00+08:00")}
	if _, err := n.AssignPlan(w.ctx, org.ID, large, w.by()); err != nil {
		t.Fatal(err)
	}
	from := w.clock()
	for _, book := range []*billing.Book{n.book, w.node().book} {
		for at, want := range map[string]string{
			from.Add(-1).Format(time.RFC3339Nano): "pay-as-you-go 2023-11-01T00:00:00Z " + from.Format(time.RFC3339),
			from.Format(time.RFC3339Nano):         "small " + from.Format(time.RFC3339) + " 2024-01-31T16:00:00Z",
			"2024-01-31T15:59:59.999Z":            "small " + from.Format(time.RFC3339) + " 2024-01-31T16:00:00Z",
			"2024-01-31T16:00:00Z":                "large 2024-01-31T16:00:00Z 0001-01-01T00:00:00Z",
			"2099-01-01T00:00:00Z":                "large 2024-01-31T16:00:00Z 0001-01-01T00:00:00Z",
		} {
			p, err := book.PlanAt(org.ID, instant(at))
			if got := fmt.Sprintf("%s %s %s", p.Code, p.EffectiveFrom.Format(time.RFC3339), p.EffectiveTo.Format(time.RFC3339)); err != nil || got != want {
				t.Errorf("at %s: %s, %v; want %s", at, got, err, want)
			}
		}
	}
	w.mustVerify(n)
}

func TestAssignPlanIsIdempotent(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-01T00:00:00Z")
	fromNow := billing.Plan{Code: "small", Name: "Small", RPMLimit: 60}
	later := billing.Plan{Code: "large", Name: "Large", EffectiveFrom: w.clock().Add(time.Hour)}
	first, err := n.AssignPlan(w.ctx, org.ID, fromNow, w.by())
	if err != nil {
		t.Fatal(err)
	}
	w.setClock("2023-12-10T00:10:00Z")
	if again, err := n.AssignPlan(w.ctx, org.ID, fromNow, w.by()); err != nil || !again.Result.EffectiveFrom.Equal(first.Result.EffectiveFrom) {
		t.Errorf("from now on, again: %+v, %v", again, err)
	}
	if _, err := n.AssignPlan(w.ctx, org.ID, later, w.by()); err != nil {
		t.Fatal(err)
	}
	w.setClock("2024-02-01T00:00:00Z") // a retry may come when the start is past
	if _, err := n.AssignPlan(w.ctx, org.ID, later, w.by()); err != nil {
		t.Errorf("with a start, again: %v", err)
	}
	if end, _ := w.log.LedgerEnd(w.ctx); end != 3 {
		t.Errorf("%d records, want 3", end)
	}
}

func TestAssignPlanRefuses(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-01T00:00:00Z")
	fine := billing.Plan{Code: "small", Name: "Small", EffectiveFrom: w.clock().Add(time.Hour)}
	if _, err := n.AssignPlan(w.ctx, org.ID, fine, w.by()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AssignPlan(w.ctx, events.NewID(), fine, w.by()); !errors.Is(err, billing.ErrNotFound) {
		t.Errorf("unknown org: %v, want ErrNotFound", err)
	}
	for name, x := range map[string]struct {
		change func(*billing.Plan)
		want   error
	}{
		"negative fee":     {func(p *billing.Plan) { p.MonthlyFee = ledger.AmountFromInt(-1) }, ledger.ErrTerms},
		"discount":         {func(p *billing.Plan) { p.DiscountPct = decimal.New(101, 0) }, ledger.ErrTerms},
		"block at nothing": {func(p *billing.Plan) { p.OveragePolicy = billing.OverageBlock }, ledger.ErrTerms},
		"other policy":     {func(p *billing.Plan) { p.OveragePolicy = "ask" }, billing.ErrInvalid},
		"yearly":           {func(p *billing.Plan) { p.BillingCycle = "yearly" }, billing.ErrInvalid},
		"no code":          {func(p *billing.Plan) { p.Code = "" }, billing.ErrInvalid},
		"code":             {func(p *billing.Plan) { p.Code = "Größe 1" }, billing.ErrInvalid},
		"no name":          {func(p *billing.Plan) { p.Name = "" }, billing.ErrInvalid},
		"other currency":   {func(p *billing.Plan) { p.Currency = "USD" }, billing.ErrInvalid},
		"past":             {func(p *billing.Plan) { p.EffectiveFrom = w.clock().Add(-time.Second) }, billing.ErrInvalid},
		"before scheduled": {func(p *billing.Plan) { p.EffectiveFrom = w.clock() }, billing.ErrInvalid},
		"same start":       {func(p *billing.Plan) { p.EffectiveFrom = fine.EffectiveFrom }, billing.ErrInvalid},
		"microseconds":     {func(p *billing.Plan) { p.EffectiveFrom = w.clock().Add(2*time.Hour + 1) }, billing.ErrInvalid},
		"end":              {func(p *billing.Plan) { p.EffectiveTo = w.clock().Add(9 * time.Hour) }, billing.ErrInvalid},
		"model":            {func(p *billing.Plan) { p.ModelsAllowed = []string{""} }, billing.ErrInvalid},
	} {
		p := billing.Plan{Code: "next", Name: "Next", EffectiveFrom: w.clock().Add(2 * time.Hour)}
		x.change(&p)
		_, err := n.AssignPlan(w.ctx, org.ID, p, w.by())
		if !errors.Is(err, x.want) || !errors.Is(err, billing.ErrInvalid) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	if end, _ := w.log.LedgerEnd(w.ctx); end != 2 {
		t.Errorf("%d records, want 2", end)
	}
}

// TestPlansFromManyWriters races the same assignment, and different ones.
func TestPlansFromManyWriters(t *testing.T) {
	w := newWorld(t)
	nodes := []*node{w.node(), w.node()}
	org := w.newOrg(nodes[0], "acme", "2023-11-01T00:00:00Z")
	assigned := make([]error, 8)
	var done sync.WaitGroup
	for i := range assigned {
		done.Go(func() {
			p := billing.Plan{Code: fmt.Sprint("plan-", i/2), Name: "Plan", EffectiveFrom: w.clock().Add(time.Hour)}
			_, assigned[i] = nodes[i%2].AssignPlan(w.ctx, org.ID, p, w.by())
		})
	}
	done.Wait()
	ok := 0
	for i, err := range assigned {
		if err == nil {
			ok++
		} else if !errors.Is(err, billing.ErrInvalid) {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if end, _ := w.log.LedgerEnd(w.ctx); end != 2 || ok != 2 {
		t.Errorf("%d records and %d assignments that succeeded; want the org, one plan, and its two writers", end, ok)
	}
}

func TestApplyRefusesPlansOutOfOrder(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-01T00:00:00Z")
	if _, err := n.AssignPlan(w.ctx, org.ID, billing.Plan{Code: "small", Name: "Small"}, w.by()); err != nil {
		t.Fatal(err)
	}
	book := billing.NewBook()
	stop := errors.New("stop")
	err := w.log.Follow(context.Background(), 1, func(r events.Record) error {
		if err := book.Apply(r); err != nil {
			return err
		}
		if r.Type != billing.TypePlanAssigned {
			return nil
		}
		r.Seq++
		if err := book.Apply(r); !errors.Is(err, billing.ErrCorrupt) {
			t.Errorf("the same start twice: %v, want ErrCorrupt", err)
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
}
