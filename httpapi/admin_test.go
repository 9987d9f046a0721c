package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

func TestOperatorCommands(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x := r.tenant("root", "")
	root := r.token(x, keys.ScopeAdmin)
	a := r.send("POST", "/admin/v1/orgs", root, `{"name":"acme","timezone":"Europe/Berlin"}`, "Idempotency-Key", "org-1")
	var org orgResponse
	a.into(t, &org)
	if a.status != http.StatusCreated || org.Timezone != "Europe/Berlin" || org.Currency != "CNY" || org.LegalEntity != "AIONE" {
		t.Fatalf("create org = %d %s", a.status, a.body)
	}
	if again := r.send("POST", "/admin/v1/orgs", root, `{"name":"acme","timezone":"Europe/Berlin"}`, "Idempotency-Key", "org-1"); again.body != a.body {
		t.Errorf("the same again = %d %s", again.status, again.body)
	}
	if other := r.send("POST", "/admin/v1/orgs", root, `{"name":"other"}`, "Idempotency-Key", "org-1"); other.status != http.StatusConflict {
		t.Errorf("another request under the key = %d %s", other.status, other.body)
	}
	// Another process has never heard of the key; the ledger has.
	restarted := must(New(r.config))
	req := must(http.NewRequest("POST", "/admin/v1/orgs", strings.NewReader(`{"name":"other"}`)))
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + root}, "Idempotency-Key": {"org-1"}}
	if w := serve(restarted, req); w.Code != http.StatusConflict {
		t.Errorf("another request under the key after a restart = %d %s", w.Code, w.Body)
	}
	if none := r.send("POST", "/admin/v1/orgs", root, `{"name":"acme"}`); none.status != http.StatusCreated || none.body == a.body {
		t.Errorf("without a key = %d %s", none.status, none.body)
	}

	teams := "/admin/v1/orgs/" + org.ID.String() + "/teams"
	var team teamResponse
	r.send("POST", teams, root, `{"name":"research"}`, "Idempotency-Key", "team-1").into(t, &team)
	if got := must(r.book.Teams(org.ID)); len(got) != 1 || got[0].ID != team.ID || team.OrgID != org.ID {
		t.Errorf("teams = %+v, answered %+v", got, team)
	}
	if a := r.send("POST", "/admin/v1/orgs/"+uuid.NewString()+"/teams", root, `{"name":"research"}`); a.status != http.StatusNotFound {
		t.Errorf("a team of no org = %d %s", a.status, a.body)
	}
	for body, field := range map[string]string{
		`{"name":" acme"}`: "name", `{"name":"a","timezone":"Mars/Base"}`: "timezone", `{"name":"a","timezone":"Local"}`: "timezone",
		`{"name":"a","currency":"XXX"}`: "currency", `{"name":"a","currency":"cny"}`: "currency", `{"name":"a","legal_entity":"a b"}`: "legal_entity",
	} {
		if a := r.send("POST", "/admin/v1/orgs", root, body); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `["body","`+field+`"]`) {
			t.Errorf("%s = %d %s", body, a.status, a.body)
		}
	}
	for _, key := range []string{strings.Repeat("k", 256), "schlüssel"} {
		if a := r.send("POST", "/admin/v1/orgs", root, `{"name":"a"}`, "Idempotency-Key", key); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `["header","Idempotency-Key"]`) {
			t.Errorf("the key %.20s = %d %s", key, a.status, a.body)
		}
	}
}

func TestOperatorPrices(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x := r.tenant("root", "")
	root := r.token(x, keys.ScopeAdmin)
	const body = `{"model":"gpt-4o","effective_from":"2026-12-01T00:00:00+08:00","currency":"CNY","input":"17.5","output":"70","cache_read":"8.75"}`
	a := r.send("POST", "/admin/v1/prices", root, body, "Idempotency-Key", "price-1")
	var p priceResponse
	a.into(t, &p)
	if a.status != http.StatusCreated || p.Version != "gpt-4o@2" || p.EffectiveFrom != "2026-11-30T16:00:00.000Z" || p.Input != "17.5" || p.Reasoning != "0" {
		t.Fatalf("price = %d %s", a.status, a.body)
	}
	for range 2 { // with the key, and without: it is the same version
		if again := r.send("POST", "/admin/v1/prices", root, body); again.body != a.body {
			t.Errorf("the same again = %d %s", again.status, again.body)
		}
	}
	if other := r.send("POST", "/admin/v1/prices", root, strings.Replace(body, "17.5", "17.6", 1), "Idempotency-Key", "price-1"); other.status != http.StatusConflict {
		t.Errorf("another price under the key = %d %s", other.status, other.body)
	}
	for change, field := range map[[2]string]string{
		{"gpt-4o", "gpt-5"}:          `["body","model"]`,
		{"2026-12-01", "2026-11-01"}: `["body","effective_from"]`,
		{`"17.5"`, `"17.6"`}:         `["body","effective_from"]`,
		{`"17.5"`, `"-1"`}:           `["body","input"]`,
		{`"17.5"`, `17.5`}:           `["body","input"]`,
		{`"17.5"`, `"1e3"`}:          `["body","input"]`,
		{`"17.5"`, `"0.0000001"`}:    `["body","input"]`,
		{`"CNY"`, `"USD"`}:           `["body"`,
	} {
		if a := r.send("POST", "/admin/v1/prices", root, strings.Replace(body, change[0], change[1], 1)); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, field) {
			t.Errorf("%v = %d %s", change, a.status, a.body)
		}
	}

	var models modelListResponse
	a = r.get("/api/v1/gateway/models", x.token)
	a.into(t, &models)
	if models.Total != 5 || len(models.Items) != 5 {
		t.Fatalf("models = %s", a.body)
	}
	for _, m := range models.Items {
		if m.ID == "gpt-4o" && (*m.InputPrice != "18" || *m.PriceVersion != "gpt-4o@1" || *m.Currency != "CNY" || m.ContextLength == 0 || !m.Enabled) {
			t.Errorf("gpt-4o = %+v", m)
		}
	}
}

// allowances are those of a test.
type allowances Allowance

func (a allowances) Allowance(context.Context, uuid.UUID) (Allowance, error) {
	return Allowance(a), nil
}

func TestInvoiceRunPlanAndAccount(t *testing.T) {
	limits := &allowances{}
	r := newRig(t, embedded.Open(t), func(c *Config) { c.Allowances = limits })
	r.clock.set(time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC))
	x := r.tenant("acme", "")
	root := r.token(x, keys.ScopeAdmin)
	r.publish(r.usageOf(x, "gpt-4o", r.clock.Now(), events.Tokens{Output: 1_000_000}))
	r.clock.set(testNow)
	r.publish(r.usageOf(x, "gpt-4o", testNow, events.Tokens{Output: 500_000}))
	r.ingest()
	for _, c := range []struct {
		query  string
		status int
		want   string
	}{
		{"?as_of=yesterday", 422, `["query","as_of"]`},
		{"?as_of=2026-11-16T00:00:00Z", 422, `["query","as_of"]`},
		{"?as_of=2026-10-31T15:59:59Z", 200, `"issued":[]`},
		{"?as_of=2026-10-31T16:00:00Z", 200, `"total":"72.00"`},
		{"", 200, `"issued":[],"issued_count":0,"empty_periods":0,"failed_orgs":0`},
	} {
		if a := r.send("POST", "/admin/v1/invoices/run"+c.query, root, ""); a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("run %s = %d %s, want %d %s", c.query, a.status, a.body, c.status, c.want)
		}
	}

	if last := lastChange(t, r, x.org.ID); last.Type != billing.TypeInvoiceIssued || last.Actor != actorOf(must(r.keys.Verify(root, testNow))) || last.Reason == "" {
		t.Errorf("the run is in the audit trail as %+v", last)
	}

	a := r.get("/api/v1/billing/plan", x.token)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"code":"pay-as-you-go"`) || !strings.Contains(a.body, `"rpm_limit":null`) || !strings.Contains(a.body, `"discount_pct":"0.00"`) {
		t.Errorf("plan = %d %s", a.status, a.body)
	}
	var account billingAccountResponse
	credit := must(r.commands.GrantCredit(r.ctx, x.org.ID, billing.Promotion{Amount: must(ledger.ParseAmount("10"))}, billing.By{Actor: "test", At: testNow}))
	r.get("/api/v1/billing/account", x.token).into(t, &account)
	if account.PromotionalBalance != credit.Result.Amount.Format("CNY") { // it will pay, and lowers no cost
		t.Errorf("account = %+v", account)
	}
	if account.CurrentPeriodCost != "36.00" || account.CurrentPeriodStart != "2026-11-01" || account.CurrentPeriodEnd != "2026-11-30" ||
		account.BudgetLimit != nil || account.Balance != "10.00" || account.OrgID != x.org.ID || account.ID == x.org.ID {
		t.Errorf("account = %+v", account)
	}
	r.assignAndList(x, root)

	amount := func(s string) ledger.Amount { return must(ledger.ParseAmount(s)) }
	for _, c := range []struct{ budget, spent, progress, capacity string }{
		{"", "5", "0.00", "sufficient"}, {"0", "0", "100.00", "exhausted"}, {"100", "0", "0.00", "sufficient"}, {"100", "79.999", "80.00", "sufficient"},
		{"100", "80", "80.00", "tight"}, {"100", "99.99", "99.99", "tight"}, {"100", "100", "100.00", "exhausted"}, {"3", "7", "233.33", "exhausted"},
	} {
		*limits = allowances{Spent: amount(c.spent), RPMLimit: 60, RPMUsed: 20}
		if c.budget != "" {
			budget := amount(c.budget)
			limits.Budget = &budget
		}
		a := r.get("/api/v1/obs/dashboard?view_mode=business&range_days=1", x.token)
		if !strings.Contains(a.body, `"budget_progress_pct":"`+c.progress+`","capacity_status":"`+c.capacity+`"`) {
			t.Errorf("%+v: %s", c, a.body)
		}
	}
	// So is what a plan that blocks includes; the tighter of them counts.
	for _, c := range []struct{ included, used, capacity string }{{"10", "7", "sufficient"}, {"10", "8", "tight"}, {"10", "10", "exhausted"}, {"0", "0", "exhausted"}} {
		included, budget := decimal.RequireFromString(c.included), amount("100")
		*limits = allowances{Budget: &budget, Spent: amount("1"), RPMLimit: 60, RPMUsed: 20, Included: &included, IncludedUsed: decimal.RequireFromString(c.used)}
		if a := r.get("/api/v1/obs/dashboard?view_mode=business&range_days=1", x.token); !strings.Contains(a.body, `"budget_progress_pct":"1.00","capacity_status":"`+c.capacity+`"`) {
			t.Errorf("%+v: %s", c, a.body)
		}
	}
	three := amount("3")
	limits.Budget = &three
	// A prepaid org has what was paid in and its credit, less what is on its way.
	for _, c := range []struct{ balance, credit, frozen, capacity string }{
		{"-5", "10", "4", "sufficient"}, {"-5", "10", "5", "exhausted"}, {"0", "0", "0", "exhausted"}, {"1", "0", "0", "sufficient"},
	} {
		*limits = allowances{Budget: limits.Budget, RPMLimit: 60, RPMUsed: 20, Prepaid: true, Balance: amount(c.balance), CreditLimit: amount(c.credit), Frozen: amount(c.frozen)}
		if a := r.get("/api/v1/obs/dashboard?view_mode=business&range_days=1", x.token); !strings.Contains(a.body, `"capacity_status":"`+c.capacity+`"`) {
			t.Errorf("%+v: %s", c, a.body)
		}
	}
	if a := r.get("/api/v1/obs/dashboard", x.token); !strings.Contains(a.body, `"rpm_usage_pct":"33.33"`) {
		t.Errorf("dashboard = %s", a.body)
	}
	if a := r.get("/api/v1/billing/account", x.token); !strings.Contains(a.body, `"budget_limit":"3.00"`) {
		t.Errorf("account = %s", a.body)
	}
}

// assignAndList gives the org a plan, and looks at what operators look at.
func (r *rig) assignAndList(x tenant, root string) {
	t := r.t
	t.Helper()
	plans := "/admin/v1/orgs/" + x.org.ID.String() + "/plan"
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"code":"team","name":"Team","rpm_limit":600,"models_allowed":["gpt-4o"]}`, 200, `"rpm_limit":600`},
		{`{"code":"team","name":"Team","rpm_limit":600,"models_allowed":["gpt-4o"]}`, 200, `"rpm_limit":600`},
		{`{"code":"pro","name":"Pro","overage_policy":"block"}`, 422, `["body","overage_policy"]`},
		{`{"code":"pro","name":"Pro","overage_policy":"block","included_tokens":1000,"included_amount":"1"}`, 422, `not both`},
		{`{"code":"pro","name":"Pro","effective_from":"2026-11-01T00:00:00Z"}`, 422, `["body","effective_from"]`},
		{`{"code":"Pro","name":"Pro"}`, 422, `["body","code"]`},
		{`{"code":"pro","name":"Pro","discount_pct":10}`, 422, `["body","discount_pct"]`},
	} {
		if a := r.send("PUT", plans, root, c.body); a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("assign %s = %d %s", c.body, a.status, a.body)
		}
	}
	if a := r.get("/api/v1/billing/plan", x.token); !strings.Contains(a.body, `"code":"team"`) {
		t.Errorf("plan = %s", a.body)
	}
	for path, want := range map[string]string{
		"/admin/v1/orgs": `"name":"acme"`, "/admin/v1/orgs/" + x.org.ID.String() + "/teams": `"name":"acme research"`,
		"/admin/v1/prices?model=gpt-4o": `"version":"gpt-4o@1"`, "/admin/v1/prices?page=2&page_size=1": `"version"`,
	} {
		if a := r.get(path, root); a.status != http.StatusOK || !strings.Contains(a.body, want) || a.header.Get("X-Total-Count") == "" {
			t.Errorf("%s = %d %s", path, a.status, a.body)
		}
	}
}

// proofs are an auditor and an index of lines that say what a test wants.
type proofs struct {
	verdict AuditVerdict
	known   bool
	events  []events.Usage
}

func (p *proofs) Verdict(context.Context, uuid.UUID) (AuditVerdict, bool, error) {
	return p.verdict, p.known, nil
}

func (p *proofs) LineEvents(_ context.Context, in ledger.InputsQuery, line ledger.Line, limit, offset int) ([]events.Usage, int, error) {
	from := min(offset, len(p.events))
	return p.events[from:min(from+limit, len(p.events))], len(p.events), nil
}

func TestProofs(t *testing.T) {
	p := &proofs{}
	r := newRig(t, embedded.Open(t), func(c *Config) { c.Audits, c.Lines = p, p })
	r.clock.set(time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC))
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	u := r.usageOf(x, "gpt-4o", r.clock.Now(), events.Tokens{Output: 1_000_000})
	r.publish(u)
	r.ingest()
	r.clock.set(testNow)
	report := must(r.invoicer.RunDue(r.ctx, testNow))
	p.events = []events.Usage{u, u, u}
	path := "/api/v1/billing/invoices/" + report.Issued[0].ID.String() + "/lines/"
	a := r.get(path+"1/events?page=2&page_size=2", x.token)
	if a.status != http.StatusOK || a.header.Get("X-Total-Count") != "3" || strings.Count(a.body, `"quantity":1000000`) != 1 {
		t.Errorf("events of a line = %d %s", a.status, a.body)
	}
	for line, status := range map[string]int{"2": 404, "0": 422, "x": 422, "99999999999999999999": 422} {
		if a := r.get(path+line+"/events", x.token); a.status != status {
			t.Errorf("line %s = %d %s", line, a.status, a.body)
		}
	}
	if a := r.get(path+"1/events", other.token); a.status != http.StatusNotFound {
		t.Errorf("another org's line = %d %s", a.status, a.body)
	}
	for want, verdict := range map[string]AuditVerdict{
		"pending": {},
		"broken":  {At: testNow, RowsAreLog: true, InputsMatch: true, JournalZero: true, Findings: []string{"one row is missing"}},
		"proven":  {At: testNow, RowsAreLog: true, InputsMatch: true, JournalZero: true, Through: 1},
	} {
		p.verdict, p.known = verdict, want != "pending"
		if a := r.get("/api/v1/audit", x.token); a.status != http.StatusOK || !strings.Contains(a.body, `"status":"`+want+`"`) {
			t.Errorf("audit = %d %s, want %s", a.status, a.body, want)
		}
	}
}
