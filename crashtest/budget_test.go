package crashtest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

// A chat request that costs 0.07218 exactly, and whose bound is a little more: of
// the budget ten fit, the first nine with room for a bound beside them.
const (
	tenthsBody = `{"model":"gpt-4o","max_tokens":1000,"messages":[{"role":"user","content":"hi"}],"simulate":{"prompt_tokens":10,"completion_tokens":1000,"latency_ms":%d}}`
	tenthsCost = "0.07218"
	tenBudget  = "0.7318"
)

// budgeted is a key with a budget of ten requests, and the processes that serve it.
type budgeted struct {
	p    *platform
	key  string
	id   string
	urls []string
	apis []*role
}

func (p *platform) budgeted(processes int) *budgeted {
	p.t.Helper()
	acme := p.tenant("Acme")
	b := &budgeted{p: p, key: acme.chat}
	var list []struct{ ID, Name string }
	p.aione(&list, "admin", "key", "list", "Acme")
	for _, k := range list {
		if k.Name == "chat" {
			b.id = k.ID
		}
	}
	p.aione(nil, "admin", "budget", "set", "Acme", tenBudget, "--key", b.id)
	for range processes {
		p.serve()
		b.urls, b.apis = append(b.urls, p.url), append(b.apis, p.api)
	}
	return b
}

// send asks one process; it reports whether the request was served whole, else
// whether it was refused for want of money.
func (b *budgeted) send(process, latencyMS int) (served, refused bool) {
	ctx, cancel := context.WithTimeout(context.Background(), attemptWithin)
	defer cancel()
	status, _, body, err := callAt(ctx, b.urls[process%len(b.urls)], http.MethodPost, "/v1/chat/completions", b.key, "application/json", fmt.Appendf(nil, tenthsBody, latencyMS))
	return err == nil && status == http.StatusOK && bytes.Contains(body, []byte(`"completion_tokens":1000`)),
		err == nil && status == http.StatusPaymentRequired && bytes.Contains(body, []byte("insufficient_quota"))
}

// rush sends n requests at once and returns how many were served; the others must
// have been refused.
func (b *budgeted) rush(n int) (served int) {
	b.p.t.Helper()
	var mu sync.Mutex
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			ok, refused := b.send(i, 20)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				served++
			} else if !refused {
				b.p.t.Error("a request was neither served nor refused for want of money")
			}
		})
	}
	clients.Wait()
	return served
}

// killInFlight kills a process while it works on n requests.
func (b *budgeted) killInFlight(process, n int) {
	b.p.t.Helper()
	var clients sync.WaitGroup
	for range n {
		clients.Go(func() {
			if served, _ := b.send(process, 5000); served {
				b.p.t.Error("a request was served by a process that was killed")
			}
		})
	}
	if n > 0 {
		time.Sleep(time.Second)
	}
	if !b.p.killer(b.apis[process])() {
		b.p.t.Fatal("the API is not there to be killed")
	}
	clients.Wait()
	if b.apis[process].process(startWithin) == nil {
		b.p.t.Fatal("the API does not come back")
	}
}

// useUp spends what there is, ten requests: three that the rows know of, two that
// only the log does, then the rest in a rush, after the API was killed with two in
// flight. It is killed once more, and nothing is left.
func (b *budgeted) useUp(ingest *role) {
	t := b.p.t
	t.Helper()
	spend := func(n int) {
		t.Helper()
		for i := range n {
			if served, _ := b.send(i, 0); !served {
				t.Fatalf("request %d of %d is not served", i+1, n)
			}
		}
	}
	spend(3)
	_, projection := b.p.log()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	if err := projection.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	ingest.stop(t, syscall.SIGKILL, startWithin) // from here on only the log knows
	spend(2)
	b.killInFlight(0, 2)
	if served := b.rush(40); served != 5 {
		t.Errorf("%d requests were served of the 5 that are left", served)
	}
	b.killInFlight(0, 0)
	if served := b.rush(10); served != 0 {
		t.Errorf("%d requests were served of what is used up", served)
	}
}

// TestBudgetSurvivesKill spends half a budget, kills, and finds the other half,
// at once and not a request more; whether the rows know of the spend or only the
// log, alone and beside another process.
func TestBudgetSurvivesKill(t *testing.T) {
	for processes := 1; processes <= 2; processes++ {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			platformTest(t)
			p := newPlatform(t)
			p.installCatalog()
			ingest := p.service("ingest")
			b := p.budgeted(processes)
			b.useUp(ingest)
			b.account()
		})
	}
}

// account compares what the log says with the budget, and with the command line.
func (b *budgeted) account() {
	b.p.t.Helper()
	log, _ := b.p.log()
	spent, reported := decimal.Zero, 0
	for _, u := range readTruth(b.p.t, log).settled {
		if spent = spent.Add(u.Cost); u.Cost.String() == tenthsCost {
			reported++
		}
	}
	if reported != 10 || spent.GreaterThan(decimal.RequireFromString(tenBudget)) {
		b.p.t.Errorf("the log has %d requests at %s and %s in all, want ten and no more than %s", reported, tenthsCost, spent, tenBudget)
	}
	var list []struct {
		Scope, ID   string
		Limit       *string
		Spent, Held string
	}
	b.p.aione(&list, "admin", "budget", "list", "Acme")
	for _, at := range list {
		if at.Scope == "key" && at.ID == b.id && (at.Limit == nil || *at.Limit != tenBudget || !decimal.RequireFromString(at.Spent).Equal(spent)) {
			b.p.t.Errorf("aione admin budget list says %+v, the log %s", at, spent)
		}
	}
	if len(list) < 4 || !strings.Contains(fmt.Sprint(list), b.id) {
		b.p.t.Errorf("aione admin budget list says %+v", list)
	}
}
