package node

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// asSeen is what an org is shown of its requests.
type asSeen struct {
	requests, errors, retries, conversations uint64
	errorRate, timeoutRate, status           string
	cost, charged                            string
	requestsBilled                           uint64
}

func (o *operator) seen() (s asSeen) {
	o.t.Helper()
	var rows []struct {
		Requests   uint64 `json:"requests"`
		ErrorCount uint64 `json:"error_count"`
		Retries    uint64 `json:"retries"`
		CostRMB    string `json:"cost_rmb"`
	}
	var d struct {
		Tech struct {
			TotalRequests  uint64 `json:"total_requests"`
			Retries        uint64 `json:"retries"`
			ErrorRatePct   string `json:"error_rate_pct"`
			TimeoutRatePct string `json:"timeout_rate_pct"`
		} `json:"tech"`
		Business struct {
			TotalConversations uint64 `json:"total_conversations"`
			ServiceStatus      string `json:"service_status"`
		} `json:"business"`
	}
	var invoice struct {
		Total string `json:"total"`
		Lines []struct {
			Bucket   string `json:"bucket"`
			Quantity uint64 `json:"quantity"`
		} `json:"lines"`
	}
	within(o.t, "usage that is counted", func() bool {
		return o.ask(o.apis[0], http.MethodGet, "/api/v1/obs/usage", o.first.ManagementToken, "").header.Get("X-Metering-Behind") == "0"
	})
	o.read("/api/v1/obs/usage", &rows)
	o.read("/api/v1/obs/dashboard?view_mode=tech", &d)
	o.read("/api/v1/obs/dashboard?view_mode=business", &d)
	o.read("/api/v1/billing/invoices/upcoming", &invoice)
	if len(rows) != 1 || rows[0].Requests != d.Tech.TotalRequests || rows[0].Retries != d.Tech.Retries || len(invoice.Lines) != 3 || invoice.Lines[2].Bucket != "requests" {
		o.t.Fatalf("usage %+v, dashboards %+v, invoice %+v", rows, d, invoice)
	}
	return asSeen{rows[0].Requests, rows[0].ErrorCount, rows[0].Retries, d.Business.TotalConversations,
		d.Tech.ErrorRatePct, d.Tech.TimeoutRatePct, d.Business.ServiceStatus, rows[0].CostRMB, invoice.Total, invoice.Lines[2].Quantity}
}

// A failure that another provider made good is none to anybody who looks: not in
// usage, not in the dashboards, not on the invoice. What it took is told apart.
func TestFailOverIsOneGoodRequest(t *testing.T) {
	one, oneCalls, oneFails := provider(t, "key-of-one")
	two, twoCalls, twoFails := provider(t, "key-of-two")
	t.Setenv("TEST_KEY_OF_ONE", "key-of-one")
	t.Setenv("TEST_KEY_OF_TWO", "key-of-two")
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	text := fmt.Sprintf("upstreams:\n  one: {url: %q, key_env: TEST_KEY_OF_ONE}\n  two: {url: %q, key_env: TEST_KEY_OF_TWO}\ndefault: [{upstream: one, weight: 1000}, {upstream: two}]\n", one, two)
	if err := os.WriteFile(routes, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n, api, first := up(t, func(c *ServeConfig) { c.RoutesFile = routes })
	o := operateOn(t, n, api, first)
	o.known()
	chat := func(stream bool) int {
		body := fmt.Sprintf(`{"model":"flat","messages":[{"role":"user","content":"hello"}],"stream":%t}`, stream)
		return o.ask(api, http.MethodPost, "/v1/chat/completions", first.ChatKey, body).status
	}
	oneFails.Store(true)
	for oneCalls.Load() == 0 { // two is asked first now and then
		if status := chat(false); status != http.StatusOK {
			t.Fatalf("one provider fails, and the client gets %d", status)
		}
	}
	good := uint64(twoCalls.Load())
	cost := fmt.Sprint(good)
	if got, want := o.seen(), (asSeen{good, 0, 1, good, "0.00", "0.00", "normal", cost, cost + ".00", good}); got != want {
		t.Errorf("after a failure that was made good: %+v, want %+v", got, want)
	}
	if status := chat(true); status != http.StatusOK {
		t.Fatalf("one provider fails, and the client gets %d", status)
	}
	good++
	twoFails.Store(true)
	if status := chat(false); status != http.StatusBadGateway {
		t.Fatalf("both providers fail, and the client gets %d", status)
	}
	cost = fmt.Sprint(good)
	got := o.seen()
	want := asSeen{good + 1, 1, uint64(oneCalls.Load()+twoCalls.Load()) - good - 1, good + 1,
		fmt.Sprintf("%.2f", 100/float64(good+1)), "0.00", "degraded", cost, cost + ".00", good}
	if got != want {
		t.Errorf("after a failure that was not: %+v, want %+v", got, want)
	}
}
