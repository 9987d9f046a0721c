package node

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aione/ledger"
)

// laterClock is the machine's, moved to another month.
type laterClock struct{ aheadNS atomic.Int64 }

func (c *laterClock) now() time.Time { return time.Now().Add(time.Duration(c.aheadNS.Load())) }

func (c *laterClock) jump(to time.Time) { c.aheadNS.Store(int64(time.Until(to))) }

// tokensOf is what one of the requests below uses: 3 of prompt, 7 of completion.
const tokensOf = `{"model":"flat","max_tokens":7,"messages":[{"role":"user","content":"hi"}],"simulate":{"prompt_tokens":3,"completion_tokens":7,"latency_ms":%d}}`

// Five hundred requests at once on a plan that includes ten, and blocks: ten are
// served, in every dialect, by one process or two, and no more until the next
// period; the invoice has no overage.
func TestPlanThatBlocks(t *testing.T) {
	t.Parallel()
	const claims = 500
	clock := &laterClock{}
	clock.jump(time.Date(2027, 3, 1, 4, 0, 0, 0, time.UTC)) // the first in Shanghai: a whole period
	engines := EngineConfig{DataDir: t.TempDir(), Shards: 1, Replicas: 1}
	n, api := serveAt(t, clock.now, engines)
	first, err := n.Bootstrap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	o := operateOn(t, n, api, first)
	// What was used on the day that the plan begins counts on it, though it was used before.
	one := func() answer {
		return o.ask(o.apis[0], http.MethodPost, speeches[0].path, first.ChatKey, speeches[0].body)
	}
	if a := one(); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	o.set("/plan", `{"code":"eleven","name":"Eleven","overage_policy":"block","included_amount":"11"}`)
	if served := o.rush(claims, first.ChatKey, false); served != 10 {
		t.Errorf("%d were served of 10", served)
	}
	// Another process finds the same in the rows and the log.
	second, another := serveAt(t, clock.now, EngineConfig{DataDir: n.dataDir, NATSURL: n.Engines.NATSURL, ClickHouseDSN: n.Engines.ClickHouseDSN, Shards: 1, Replicas: 1})
	o.nodes, o.apis = append(o.nodes, second), append(o.apis, another)
	if served := o.rush(claims/5, first.ChatKey, true); served != 0 {
		t.Errorf("%d were served of nothing", served)
	}
	a := one()
	if a.status != http.StatusPaymentRequired || a.header.Get("Retry-After") == "" ||
		!strings.Contains(a.body, `11 CNY that the plan \"eleven\" includes until 2027-03-31T16:00:00Z`) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	var dashboard struct {
		Business struct {
			Capacity string `json:"capacity_status"`
		} `json:"business"`
	}
	o.caughtUp()
	if o.read("/api/v1/obs/dashboard?view_mode=business", &dashboard); dashboard.Business.Capacity != "exhausted" {
		t.Errorf("capacity is %s", dashboard.Business.Capacity)
	}
	// The next period begins at nothing, and two share it.
	clock.jump(time.Date(2027, 3, 31, 16, 0, 1, 0, time.UTC))
	if served := o.rush(claims, first.ChatKey, false); served != 11 {
		t.Errorf("%d were served of 11 in the next period", served)
	}
	// Another plan on the same day: what was used today counts in its unit.
	clock.jump(clock.now().Add(time.Hour))
	used := o.usedTokens(time.Date(2027, 3, 31, 16, 0, 0, 0, time.UTC))
	o.set("/plan", fmt.Sprintf(`{"code":"tokens","name":"Tokens","overage_policy":"block","included_tokens":%d}`, used+1000))
	served := 0
	for ; ; served++ {
		a := o.ask(o.apis[served%2], http.MethodPost, speeches[0].path, first.ChatKey, fmt.Sprintf(tokensOf, 0))
		if a.status == http.StatusPaymentRequired && strings.Contains(a.body, fmt.Sprintf(`%d tokens that the plan \"tokens\" includes`, used+1000)) {
			break
		}
		if a.status != http.StatusOK || served > 100 {
			t.Fatalf("request %d: %d %s", served, a.status, a.body)
		}
	}
	// Ten tokens each; the bound of the last is a little more than that.
	if served < 70 || served > 100 {
		t.Errorf("%d requests of 10 tokens were served of 1000", served)
	}
	clock.jump(time.Date(2027, 5, 3, 0, 0, 0, 0, time.UTC))
	o.invoices(2)
}

// usedTokens is what the org has used since an instant, by the log.
func (o *operator) usedTokens(since time.Time) uint64 {
	o.t.Helper()
	o.caughtUp()
	ctx := context.Background()
	q := ledger.InputsQuery{OrgID: o.first.OrgID, Start: since, End: since.AddDate(1, 0, 0), Cut: 1 << 40}
	in, err := o.node.Projection.Inputs(ctx, q)
	if err != nil {
		o.t.Fatal(err)
	}
	n := uint64(0)
	for _, q := range in.Quantities {
		n += q.Tokens.Total()
	}
	return n
}

// invoices closes what is due: so many invoices, without any overage.
func (o *operator) invoices(n int) {
	o.t.Helper()
	ctx := context.Background()
	o.caughtUp()
	if _, err := o.node.Invoicer(InvoiceConfig{}).RunDue(ctx, o.node.Clock()); err != nil {
		o.t.Fatal(err)
	}
	list, total, err := o.node.Book.Invoices(o.first.OrgID, 1, 10)
	if err != nil || total != n {
		o.t.Fatalf("%d invoices, want %d: %v", total, n, err)
	}
	for _, inv := range list {
		over := ledger.Amount{}
		for _, l := range inv.Lines {
			if l.Unit == ledger.UnitTokens || inv.Segments[0].Terms.IncludedTokens == 0 {
				if over, err = over.Add(l.Amount); err != nil {
					o.t.Fatal(err)
				}
			}
		}
		if !over.IsZero() || len(inv.Lines) < 2 {
			o.t.Errorf("%s bills an overage of %s: %+v", inv.Period.Label, over, inv.Lines)
		}
	}
}
