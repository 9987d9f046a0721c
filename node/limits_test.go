package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/analytics"
	"aione/billing"
	"aione/catalog"
	"aione/keys"
)

// operator is a node with a model that costs exactly 1 a request, and its root.
type operator struct {
	t     *testing.T
	node  *Node
	nodes []*Node // all of them
	apis  []*API
	first Bootstrap
	root  string
}

func operate(t *testing.T) *operator {
	t.Helper()
	n, api, first := up(t)
	return operateOn(t, n, api, first)
}

func operateOn(t *testing.T, n *Node, api *API, first Bootstrap) *operator {
	t.Helper()
	o := &operator{t: t, node: n, nodes: []*Node{n}, apis: []*API{api}, first: first}
	now := n.Clock().UTC().Truncate(time.Millisecond)
	one := catalog.StarterEntry{Model: catalog.Model{ID: "flat", Name: "Flat", Provider: "simulator", Enabled: true},
		Price: catalog.Price{Model: "flat", EffectiveFrom: now, Currency: "CNY", Request: decimal.NewFromInt(1)}}
	if _, err := n.Catalog.Install(context.Background(), n.Log, []catalog.StarterEntry{one}, catalog.By{Actor: "test", At: now}); err != nil {
		t.Fatal(err)
	}
	_, o.root = o.key(keys.CreateInput{Scopes: []keys.Scope{keys.ScopeAdmin}})
	return o
}

// another adds an API process.
func (o *operator) another() *Node {
	o.t.Helper()
	n, api := beside(o.t, o.node)
	o.nodes, o.apis = append(o.nodes, n), append(o.apis, api)
	return n
}

// known waits until every process knows what the ledger says now.
func (o *operator) known() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	end, err := o.node.Log.LedgerEnd(ctx)
	for _, n := range o.nodes {
		if err == nil {
			err = n.Book.WaitFor(ctx, end)
		}
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) key(in keys.CreateInput) (*keys.Key, string) {
	o.t.Helper()
	in.OrgID, in.TeamID, in.Name, in.Actor = o.first.OrgID, o.first.TeamID, "key", "test"
	k, secret, err := o.node.Keys.Create(context.Background(), o.node.Log, in)
	if err != nil {
		o.t.Fatal(err)
	}
	return k, secret
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (o *operator) ask(api *API, method, path, key, body string) answer {
	o.t.Helper()
	req, err := http.NewRequest(method, api.URL+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		o.t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		o.t.Errorf("%s %s: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 600}, Timeout: time.Minute}

// set sends an operator's command, which has to succeed.
func (o *operator) set(path, body string) {
	o.t.Helper()
	if a := o.ask(o.apis[0], http.MethodPut, "/admin/v1/orgs/"+o.first.OrgID.String()+path, o.root, body); a.status != http.StatusOK {
		o.t.Fatalf("%s %s: %d %s", path, body, a.status, a.body)
	}
}

// read asks the API as the org does.
func (o *operator) read(path string, into any) {
	o.t.Helper()
	a := o.ask(o.apis[0], http.MethodGet, path, o.first.ManagementToken, "")
	if a.status != http.StatusOK {
		o.t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		o.t.Fatalf("%s: %v", path, err)
	}
}

func (o *operator) caughtUp() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := o.node.Projection.CaughtUp(ctx); err != nil {
		o.t.Fatal(err)
	}
}

// speech is a dialect: how to ask, how a whole answer ends, how it says that there
// is no money.
type speech struct {
	path, body, streamPath, streamBody string
	end, streamEnd                     string
	noQuota                            string
}

const slowly = `"simulate":{"latency_ms":20,"completion_tokens":3}`

var speeches = []speech{{
	path: "/v1/chat/completions", body: `{"model":"flat","messages":[{"role":"user","content":"hi"}],` + slowly + `}`, end: `"usage"`,
	streamPath: "/v1/chat/completions", streamBody: `{"model":"flat","stream":true,"messages":[{"role":"user","content":"hi"}],` + slowly + `}`, streamEnd: "data: [DONE]",
	noQuota: `"type":"insufficient_quota"`,
}, {
	path: "/v1/messages", body: `{"model":"flat","max_tokens":10,"messages":[{"role":"user","content":"hi"}],` + slowly + `}`, end: `"stop_reason"`,
	streamPath: "/v1/messages", streamBody: `{"model":"flat","stream":true,"max_tokens":10,"messages":[{"role":"user","content":"hi"}],` + slowly + `}`, streamEnd: "message_stop",
	noQuota: `"insufficient_quota"`,
}, {
	path: "/v1beta/models/flat:generateContent", body: `{"contents":[{"role":"user","parts":[{"text":"hi"}]}],` + slowly + `}`, end: `"finishReason"`,
	streamPath: "/v1beta/models/flat:streamGenerateContent?alt=sse", streamBody: `{"contents":[{"role":"user","parts":[{"text":"hi"}]}],` + slowly + `}`, streamEnd: `"finishReason"`,
	noQuota: `"reason":"INSUFFICIENT_QUOTA"`,
}}

// rush sends n requests at once, in all dialects and to all processes, and counts
// those that were served whole. All others have to be refused for want of money.
func (o *operator) rush(n int, key string, stream bool) (served int) {
	o.t.Helper()
	o.known()
	var mu sync.Mutex
	var clients sync.WaitGroup
	refused := map[string]int{}
	for i := range n {
		s := speeches[i%len(speeches)]
		path, body, end := s.path, s.body, s.end
		if stream {
			path, body, end = s.streamPath, s.streamBody, s.streamEnd
		}
		clients.Go(func() {
			a := o.ask(o.apis[i%len(o.apis)], http.MethodPost, path, key, body)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case a.status == http.StatusOK && strings.Contains(a.body, end):
				served++
			case a.status == http.StatusPaymentRequired && strings.Contains(a.body, s.noQuota):
				refused[s.path]++
			default:
				o.t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		})
	}
	clients.Wait()
	for _, s := range speeches {
		if refused[s.path] == 0 {
			o.t.Errorf("none was refused at %s", s.path)
		}
	}
	return served
}

// keySpend is what the rows say that a key has used.
func (o *operator) keySpend(key uuid.UUID) analytics.Sums {
	o.t.Helper()
	o.caughtUp()
	from := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	rows, _, err := o.node.Projection.Usage(context.Background(), analytics.UsageQuery{OrgID: o.first.OrgID, From: from, To: from.AddDate(0, 0, 3), Zone: "UTC", KeyID: key, Limit: 1})
	if err != nil {
		o.t.Fatal(err)
	}
	if len(rows) == 0 {
		return analytics.Sums{}
	}
	return rows[0].Sums
}

// Five hundred requests at once on a budget of ten: ten are served, not nine and
// not eleven, whoever's budget it is, plain and streaming, by one process or two.
func TestBudgetOfTenServesTen(t *testing.T) {
	o := operate(t)
	claims := 500
	if testing.Short() {
		claims = 100
	}
	for processes := 1; processes <= 2; processes++ {
		if processes == 2 {
			o.another()
		}
		for _, stream := range []bool{false, true} {
			k, secret := o.key(keys.CreateInput{})
			o.set("/keys/"+k.ID.String()+"/budget", `{"budget_limit":"10"}`)
			served := o.rush(claims, secret, stream)
			if u := o.keySpend(k.ID); served != 10 || u.Requests != 10 || !u.Cost.Equal(decimal.NewFromInt(10)) {
				t.Errorf("%d processes, stream %v: %d were served, %d are counted for %s", processes, stream, served, u.Requests, u.Cost)
			}
		}
	}
	// The org has used 40; its team and it are held to budgets in the same way.
	_, secret := o.key(keys.CreateInput{})
	for i, path := range []string{"/teams/" + o.first.TeamID.String() + "/budget", "/budget"} {
		o.set(path, fmt.Sprintf(`{"budget_limit":"%d"}`, 50+10*i))
		if i > 0 { // the team's is used up
			o.set("/teams/"+o.first.TeamID.String()+"/budget", `{"budget_limit":null}`)
		}
		if served := o.rush(claims/5, secret, false); served != 10 {
			t.Errorf("%s: %d were served of 10", path, served)
		}
	}
}

// A prepaid org spends what it has and its credit, and not more.
func TestCreditLimitOfFive(t *testing.T) {
	t.Parallel()
	o := operate(t)
	o.set("/credit-limit", `{"credit_limit":"5"}`)
	if served := o.rush(60, o.first.ChatKey, false); served != 5 {
		t.Errorf("%d were served on a credit of 5", served)
	}
	var account struct {
		Balance     string `json:"balance"`
		CreditLimit string `json:"credit_limit"`
		Frozen      string `json:"frozen_amount"`
	}
	o.caughtUp()
	if o.read("/api/v1/billing/account", &account); account.Balance != "-5.00" || account.CreditLimit != "5.00" || account.Frozen != "0.00" {
		t.Errorf("%+v", account)
	}
	var dashboard struct {
		Business struct {
			Capacity string `json:"capacity_status"`
		} `json:"business"`
	}
	if o.read("/api/v1/obs/dashboard?view_mode=business", &dashboard); dashboard.Business.Capacity != "exhausted" {
		t.Errorf("capacity is %s", dashboard.Business.Capacity)
	}
}

// What an org sees of its limits is how it stands.
func TestAccountAndDashboardShowLimits(t *testing.T) {
	t.Parallel()
	o := operate(t)
	o.set("/budget", `{"budget_limit":"8"}`)
	o.set("/limits", `{"rpm_limit":20}`)
	for range 5 {
		if a := o.ask(o.apis[0], http.MethodPost, speeches[0].path, o.first.ChatKey, speeches[0].body); a.status != http.StatusOK || a.header.Get("X-Ratelimit-Limit-Requests") != "20" {
			t.Fatalf("%d %v %s", a.status, a.header, a.body)
		}
	}
	o.caughtUp()
	var account struct {
		BudgetLimit *string `json:"budget_limit"`
		Cost        string  `json:"current_period_cost"`
	}
	if o.read("/api/v1/billing/account", &account); account.BudgetLimit == nil || *account.BudgetLimit != "8.00" || account.Cost != "5.00" {
		t.Errorf("%+v", account)
	}
	var dashboard struct {
		Tech struct {
			RPM string `json:"rpm_usage_pct"`
		} `json:"tech"`
		Business struct {
			Progress string `json:"budget_progress_pct"`
			Capacity string `json:"capacity_status"`
		} `json:"business"`
	}
	o.read("/api/v1/obs/dashboard", &dashboard)
	o.read("/api/v1/obs/dashboard?view_mode=business", &dashboard)
	if dashboard.Tech.RPM != "25.00" || dashboard.Business.Progress != "62.50" || dashboard.Business.Capacity != "sufficient" {
		t.Errorf("%+v", dashboard)
	}
	a := o.ask(o.apis[0], http.MethodGet, "/admin/v1/orgs/"+o.first.OrgID.String()+"/budget", o.root, "")
	if !strings.Contains(a.body, `"budget_limit":"8","spent":"5"`) {
		t.Errorf("%s", a.body)
	}
}

// The models and rates of a plan hold for all keys of its org.
func TestPlanIsKept(t *testing.T) {
	t.Parallel()
	o := operate(t)
	plan := billing.Plan{Code: "small", Name: "Small", RPMLimit: 3, ModelsAllowed: []string{"flat"}}
	_, err := billing.Commands{Log: o.node.Log, Book: o.node.Book}.AssignPlan(context.Background(), o.first.OrgID, plan, billing.By{Actor: "test", At: o.node.Clock().UTC()})
	if err != nil {
		t.Fatal(err)
	}
	a := o.ask(o.apis[0], http.MethodGet, "/v1/models", o.first.ChatKey, "")
	if strings.Count(a.body, `"id":`) != 1 || !strings.Contains(a.body, `"id":"flat"`) {
		t.Errorf("models: %s", a.body)
	}
	a = o.ask(o.apis[0], http.MethodPost, speeches[0].path, o.first.ChatKey, strings.Replace(speeches[0].body, "flat", "gpt-4o", 1))
	if a.status != http.StatusForbidden || !strings.Contains(a.body, "model_not_allowed") {
		t.Errorf("a model that the plan does not have: %d %s", a.status, a.body)
	}
	_, another := o.key(keys.CreateInput{})
	for i, key := range []string{o.first.ChatKey, another, o.first.ChatKey, another} {
		a := o.ask(o.apis[0], http.MethodPost, speeches[0].path, key, speeches[0].body)
		if want := map[bool]int{true: 200, false: 429}[i < 3]; a.status != want || a.header.Get("X-Ratelimit-Limit-Requests") != "3" {
			t.Errorf("request %d: %d %v", i+1, a.status, a.header)
		}
	}
}

// Two processes let in no more together than one would, and say the same limits.
func TestRatesAreShared(t *testing.T) {
	t.Parallel()
	o := operate(t)
	o.another()
	for name, in := range map[string]keys.CreateInput{"requests": {RPMLimit: 60}, "tokens": {TPMLimit: 60 * 20}} {
		// A request of 20 tokens is what 60 of them a minute are.
		body := `{"model":"flat","max_tokens":1,"messages":[{"role":"user","content":"h"}],"simulate":{"prompt_tokens":19,"completion_tokens":1}}`
		_, secret := o.key(in)
		o.known()
		began, served := time.Now(), 0
		for i := range 200 {
			a := o.ask(o.apis[i%2], http.MethodPost, speeches[0].path, secret, body)
			switch {
			case a.status == http.StatusOK:
				served++
			case a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "rate_limit_exceeded"):
				t.Fatalf("%s: %d %s", name, a.status, a.body)
			}
			limit := map[string]string{"requests": a.header.Get("X-Ratelimit-Limit-Requests"), "tokens": a.header.Get("X-Ratelimit-Limit-Tokens")}[name]
			if want := map[string]string{"requests": "60", "tokens": "1200"}[name]; limit != want {
				t.Fatalf("the limit of %s is said to be %q, want %s", name, limit, want)
			}
		}
		if most := 60 + int(time.Since(began)/time.Second) + 1; served > most || served < 10 {
			t.Errorf("%d were let in within %s by 60 %s a minute", served, time.Since(began), name)
		}
	}
}

// within waits for a change to arrive, a second at most.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	began := time.Now()
	for !done() {
		if time.Since(began) > time.Second {
			t.Fatalf("%s takes more than a second", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
}

// A change made at one process is in force at every other within a second.
func TestChangesArriveWithinASecond(t *testing.T) {
	t.Parallel()
	o := operate(t)
	o.another()
	k, secret := o.key(keys.CreateInput{})
	chat := func() answer { return o.ask(o.apis[1], http.MethodPost, speeches[0].path, secret, speeches[0].body) }
	within(t, "a new key", func() bool { return chat().status == http.StatusOK })
	o.set("/keys/"+k.ID.String()+"/budget", `{"budget_limit":"0"}`)
	within(t, "a budget of a key", func() bool { return chat().status == http.StatusPaymentRequired })
	o.set("/keys/"+k.ID.String()+"/budget", `{"budget_limit":null}`)
	within(t, "no budget", func() bool { return chat().status == http.StatusOK })
	o.set("/budget", `{"budget_limit":"0"}`)
	within(t, "a budget of the org", func() bool { return chat().status == http.StatusPaymentRequired })
	o.set("/budget", `{"budget_limit":"1000000"}`)
	within(t, "a larger budget", func() bool { return chat().status == http.StatusOK })
	o.set("/limits", `{"rpm_limit":50000}`)
	within(t, "limits of the org", func() bool { return chat().header.Get("X-Ratelimit-Limit-Requests") == "50000" })
	limit := uint64(40_000)
	o.set("/limits", `{}`)
	within(t, "no limits of the org", func() bool { return chat().header.Get("X-Ratelimit-Limit-Requests") == "" })
	if _, err := o.node.Keys.Update(context.Background(), o.node.Log, keys.UpdateInput{OrgID: k.OrgID, ID: k.ID, RPMLimit: &limit, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	within(t, "a limit of a key", func() bool { return chat().header.Get("X-Ratelimit-Limit-Requests") == "40000" })
	if _, err := o.node.Keys.Disable(context.Background(), o.node.Log, keys.ChangeInput{OrgID: k.OrgID, ID: k.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	within(t, "a disabled key", func() bool { return chat().status == http.StatusForbidden })
}

// A node that does not know yet what was spent is not ready, and lets nothing in.
func TestNotReadyBeforeSpendIsKnown(t *testing.T) {
	t.Parallel()
	n, _, _ := up(t)
	m, err := Open(context.Background(), Config{Engines: EngineConfig{DataDir: n.dataDir, NATSURL: n.Engines.NATSURL, ClickHouseDSN: n.Engines.ClickHouseDSN, Shards: 1, Replicas: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	limitsCheck := func() error {
		for _, c := range m.checks() {
			if c.Name == "limits" {
				return c.Run(context.Background())
			}
		}
		return nil
	}
	if limitsCheck() == nil {
		t.Error("it says that it is ready")
	}
	l, err := m.startLimits(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := limitsCheck(); err != nil {
		t.Error(err)
	}
	if err := l.close(context.Background()); err != nil {
		t.Error(err)
	}
	if limitsCheck() == nil {
		t.Error("it says that it is ready although it has left")
	}
}

// A price per request is for requests that brought the client something. Those that
// failed are events too, and must neither be billed nor keep the invoice from being
// computed.
func TestFailedRequestsAreNotCharged(t *testing.T) {
	t.Parallel()
	o := operate(t)
	for simulate, status := range map[string]int{`{"completion_tokens":3}`: http.StatusOK, `{"status":500}`: http.StatusBadGateway} {
		body := `{"model":"flat","messages":[{"role":"user","content":"hi"}],"simulate":` + simulate + `}`
		if a := o.ask(o.apis[0], http.MethodPost, "/v1/chat/completions", o.first.ChatKey, body); a.status != status {
			t.Fatalf("%s: %d %s", simulate, a.status, a.body)
		}
	}
	o.caughtUp()
	type line struct {
		Bucket   string
		Quantity uint64
	}
	var invoice struct {
		Total string
		Lines []line
	}
	o.read("/api/v1/billing/invoices/upcoming", &invoice)
	if invoice.Total != "1.00" || !slices.Contains(invoice.Lines, line{"requests", 1}) {
		t.Errorf("%+v", invoice)
	}
}
