package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aione/analytics"
	"aione/events"
)

// imported is usage of another producer.
type imported struct {
	id     string
	model  string
	at     time.Time
	tokens events.Tokens
}

// batch is a CloudEvents batch.
func batch(list []imported) []byte {
	var out []map[string]any
	for _, e := range list {
		out = append(out, map[string]any{"specversion": "1.0", "type": "ai.usage", "source": "crashtest", "id": e.id, "time": e.at.Format(time.RFC3339Nano),
			"data": map[string]any{"model": e.model, "input_tokens": e.tokens.Input, "cache_read_tokens": e.tokens.CacheRead,
				"output_tokens": e.tokens.Output, "reasoning_tokens": e.tokens.Reasoning}})
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // maps of numbers and words
	}
	return body
}

// post sends events until they are accepted: whoever is in doubt sends the same
// again.
func (p *platform) post(token string, list []imported) {
	p.t.Helper()
	body := batch(list)
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		status, _, answer, err := p.call(ctx, http.MethodPost, "/api/v1/events", token, "application/cloudevents-batch+json", body)
		cancel()
		if err == nil && status == http.StatusAccepted {
			var got struct{ Accepted int }
			if err := json.Unmarshal(answer, &got); err != nil || got.Accepted != len(list) {
				p.t.Fatalf("%d events were sent, the answer is %s (%v)", len(list), answer, err)
			}
			return
		}
		if time.Since(began) > time.Minute {
			p.t.Fatalf("events are not accepted: status %d, %v, %s", status, err, answer)
		}
	}
}

// fen is an amount in hundredths, rounded half to even.
func fen(a *big.Rat) *big.Int {
	scaled := new(big.Rat).Mul(a, big.NewRat(100, 1))
	q, rest := new(big.Int).QuoRem(scaled.Num(), scaled.Denom(), new(big.Int))
	if c := rest.Lsh(rest, 1).Cmp(scaled.Denom()); c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	return q
}

// invoiceTotal rounds each line, a model's bucket, once, and adds the lines up.
func invoiceTotal(list []imported) string {
	quantities := map[[2]string]events.Tokens{}
	for _, e := range list {
		for name, only := range map[string]events.Tokens{"input": {Input: e.tokens.Input}, "cache_read": {CacheRead: e.tokens.CacheRead},
			"output": {Output: e.tokens.Output}, "reasoning": {Reasoning: e.tokens.Reasoning}} {
			q := quantities[[2]string{e.model, name}]
			q.Input, q.CacheRead, q.Output, q.Reasoning = q.Input+only.Input, q.CacheRead+only.CacheRead, q.Output+only.Output, q.Reasoning+only.Reasoning
			quantities[[2]string{e.model, name}] = q
		}
	}
	sum := new(big.Int)
	for key, q := range quantities {
		sum.Add(sum, fen(cost(key[0], q)))
	}
	q, r := new(big.Int).QuoRem(sum, big.NewInt(100), new(big.Int))
	return fmt.Sprintf("%d.%02d", q, r)
}

// lastMonth is the period before the current one in the default zone of orgs.
func lastMonth(t testing.TB) (start, end time.Time) {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(zone)
	end = time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, zone)
	return end.AddDate(0, -1, 0), end
}

func usageOf(r *rand.Rand, n int, from, to time.Time) []imported {
	var out []imported
	for i := range n {
		out = append(out, imported{id: fmt.Sprintf("event-%d", i), model: loadModels[r.IntN(len(loadModels))],
			at:     from.Add(time.Duration(r.Int64N(int64(to.Sub(from))))).Truncate(time.Millisecond).UTC(),
			tokens: events.Tokens{Input: r.Uint64N(100_000), CacheRead: r.Uint64N(50_000), Output: r.Uint64N(20_000), Reasoning: r.Uint64N(9_999)}})
	}
	return out
}

type invoice struct {
	ID          string `json:"id"`
	Number      string `json:"invoice_no"`
	PeriodStart string `json:"period_start"`
	PeriodEnd   string `json:"period_end"`
	Total       string `json:"total"`
	Status      string `json:"status"`
	Adjustments string `json:"adjustments"`
	Lines       []struct {
		Origin *string `json:"origin"`
		Amount string  `json:"amount"`
	} `json:"lines"`
}

// TestInvoicesOverKills closes last month for several orgs while invoicers, and
// what they work with, are killed.
func TestInvoicesOverKills(t *testing.T) {
	platformTest(t)
	r := random(t)
	const orgs, kills = 5, 15
	start, end := lastMonth(t)
	p := newPlatform(t)
	p.installCatalog()
	var who []tenant
	var used [][]imported
	for i := range orgs {
		who = append(who, p.tenant(fmt.Sprintf("org %d", i)))
		used = append(used, usageOf(r, 50+r.IntN(200), start, end))
	}
	_, projection := p.log()
	p.serve()
	p.service("ingest", "AIONE_LEASE_TTL=1s")
	invoicers := []*role{}
	for range 2 {
		invoicers = append(invoicers, p.service("invoicer", "AIONE_INVOICE_SCHEDULE=@every 1s", "AIONE_INVOICE_GRACE=0s"))
	}
	posted := 0
	for k := range kills {
		if k*orgs/kills >= posted {
			p.post(who[posted].management, used[posted])
			posted++
		}
		time.Sleep(between(r, 20*time.Millisecond, 900*time.Millisecond))
		switch {
		case k%5 == 3:
			if pid := p.chdb(); pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone already: so be it
			}
		case k%5 == 4:
			p.killer(p.engines)()
		default:
			p.killer(invoicers[k%2])()
		}
	}
	for ; posted < orgs; posted++ {
		p.post(who[posted].management, used[posted])
	}

	var numbers []string
	issued := make([]invoice, orgs)
	for i := range who {
		issued[i] = p.oneInvoice(who[i])
		want := invoice{PeriodStart: start.Format(time.DateOnly), PeriodEnd: end.AddDate(0, 0, -1).Format(time.DateOnly), Total: invoiceTotal(used[i])}
		if got := issued[i]; got.Total != want.Total || got.PeriodStart != want.PeriodStart || got.PeriodEnd != want.PeriodEnd {
			t.Errorf("%s was invoiced %+v, want %+v", who[i].name, got, want)
		}
		numbers = append(numbers, issued[i].Number)
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if !strings.HasSuffix(n, fmt.Sprintf("%04d", i+1)) {
			t.Errorf("the numbers given are %v: number %d is missing", numbers, i+1)
			break
		}
	}
	p.late(who[0], used[0], issued[0], projection)
	p.noDeaths()
	if v := p.verify(); v.Ledger.Invoices != orgs {
		t.Errorf("verify knows %d invoices, want %d", v.Ledger.Invoices, orgs)
	}
	t.Logf("invoices %v", numbers)
}

// oneInvoice waits for the org's invoice, of which there must not be two.
func (p *platform) oneInvoice(who tenant) invoice {
	p.t.Helper()
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		status, _, body, err := p.call(ctx, http.MethodGet, "/api/v1/billing/invoices", who.management, "", nil)
		cancel()
		var list []invoice
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal(body, &list)
		}
		if err == nil && len(list) > 0 {
			if len(list) > 1 {
				p.t.Fatalf("%s has %d invoices: %s", who.name, len(list), body)
			}
			return list[0]
		}
		if time.Since(began) > 90*time.Second {
			p.t.Fatalf("%s has no invoice: status %d, %v, %s", who.name, status, err, body)
		}
	}
}

// late sends the closed month once more, and then one event that is new.
func (p *platform) late(who tenant, used []imported, issued invoice, projection analytics.Projection) {
	p.t.Helper()
	settle := func() {
		p.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		defer cancel()
		if err := projection.CaughtUp(ctx); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond) // two runs of each invoicer
		if again := p.oneInvoice(who); fmt.Sprint(again) != fmt.Sprint(issued) {
			p.t.Errorf("%s: the invoice was %+v and is %+v", who.name, issued, again)
		}
	}
	p.post(who.management, used)
	settle()
	var upcoming invoice
	p.get(who.management, "/api/v1/billing/invoices/upcoming", &upcoming)
	if upcoming.Total != "0.00" || upcoming.Adjustments != "0.00" {
		p.t.Errorf("after the same events again the upcoming invoice is %+v, want nothing on it", upcoming)
	}
	new := used[0]
	new.id, new.tokens = "a straggler", events.Tokens{Input: 1_234_567, Output: 500}
	p.post(who.management, []imported{new})
	settle()
	p.get(who.management, "/api/v1/billing/invoices/upcoming", &upcoming)
	want := invoiceTotal([]imported{new})
	if upcoming.Total != want || upcoming.Adjustments != want || len(upcoming.Lines) == 0 {
		p.t.Errorf("after late usage for %s the upcoming invoice is %+v, want that as adjustment", want, upcoming)
	}
	for _, l := range upcoming.Lines {
		if l.Origin == nil || *l.Origin != issued.PeriodStart[:7] {
			p.t.Errorf("a line for late usage names %v as its period, want %s", l.Origin, issued.PeriodStart[:7])
		}
	}
	var list []json.RawMessage
	p.aione(&list, "admin", "invoice", "list", who.name)
	if len(list) != 1 || !bytes.Contains(list[0], []byte(issued.Number)) {
		p.t.Errorf("aione admin invoice list: %s, want %s alone", list, issued.Number)
	}
}
