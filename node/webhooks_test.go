package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aione/keys"
)

// shifted is the machine's clock, moved forward.
type shifted struct{ by atomic.Int64 }

func (c *shifted) Now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

// message is one that a receiver got.
type message struct {
	Type string `json:"type"`
	Data struct {
		InvoiceID string `json:"invoice_id"`
		InvoiceNo string `json:"invoice_no"`
		Status    string `json:"status"`
		Total     string `json:"total"`
		AmountDue string `json:"amount_due"`
	} `json:"data"`
}

// receive starts an endpoint that checks signatures by itself.
func receive(t *testing.T, secret *atomic.Pointer[string]) (url string, got chan message) {
	t.Helper()
	got = make(chan message, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(*secret.Load(), "whsec_"))
		if err != nil {
			t.Error(err)
		}
		h := hmac.New(sha256.New, key)
		fmt.Fprintf(h, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		if want := "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil)); r.Header.Get("webhook-signature") != want {
			t.Errorf("the signature is %s, want %s", r.Header.Get("webhook-signature"), want)
		}
		var m message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		got <- m
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// An invoice is issued and paid in the running platform; the org's receiver is
// told of both, signed, and of nothing else.
func TestWebhooksTellOfInvoices(t *testing.T) {
	t.Parallel()
	clock := &shifted{}
	n, api := serveAt(t, clock.Now, EngineConfig{DataDir: t.TempDir(), Shards: 1, Replicas: 1}, func(c *ServeConfig) { c.Loopback, c.RunGrace = true, time.Hour })
	first, err := n.Bootstrap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, node: n, apis: []*API{api}, first: first}
	_, o.root = o.key(keys.CreateInput{Scopes: []keys.Scope{keys.ScopeAdmin}})
	_, hooks := o.key(keys.CreateInput{Scopes: []keys.Scope{keys.ScopeWebhooksWrite}})
	var secret atomic.Pointer[string]
	url, got := receive(t, &secret)
	var made struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}
	a := o.ask(api, http.MethodPost, "/api/v1/webhooks", hooks, `{"url":"`+url+`","events":["invoice.issued","invoice.paid"]}`)
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusCreated {
		t.Fatal(a.status, a.body, err)
	}
	secret.Store(&made.Secret)
	next := func() message {
		t.Helper()
		select {
		case m := <-got:
			return m
		case <-time.After(30 * time.Second):
			t.Fatal("no message came")
		}
		return message{}
	}
	if a := o.ask(api, http.MethodPost, "/api/v1/webhooks/"+made.ID+"/test", hooks, ""); a.status != http.StatusAccepted {
		t.Fatal(a.status, a.body)
	}
	if m := next(); m.Type != "webhook.test" {
		t.Fatalf("%+v", m)
	}
	if a := o.ask(api, http.MethodPost, "/v1/chat/completions", first.ChatKey, `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"simulate":{"completion_tokens":100000}}`); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	o.caughtUp()
	clock.by.Store(int64(40 * 24 * time.Hour))
	if a := o.ask(api, http.MethodPost, "/admin/v1/invoices/run", o.root, ""); a.status != http.StatusOK || !strings.Contains(a.body, `"issued_count":1`) {
		t.Fatal(a.status, a.body)
	}
	issued := next()
	if issued.Type != "invoice.issued" || issued.Data.Status != "issued" || issued.Data.Total != issued.Data.AmountDue || issued.Data.InvoiceNo == "" {
		t.Fatalf("%+v", issued)
	}
	org := "/admin/v1/orgs/" + first.OrgID.String()
	if a := o.ask(api, http.MethodPost, org+"/payments", o.root, `{"amount":"`+issued.Data.Total+`","reference":"TT-1"}`); a.status != http.StatusCreated {
		t.Fatal(a.status, a.body)
	}
	paid := next()
	if paid.Type != "invoice.paid" || paid.Data.Status != "paid" || paid.Data.AmountDue != "0.00" || paid.Data.InvoiceID != issued.Data.InvoiceID {
		t.Fatalf("%+v", paid)
	}
	var delivered []struct{ Type, Status string }
	for range 100 { // an outcome is written within a second or so
		a := o.ask(api, http.MethodGet, "/api/v1/webhooks/"+made.ID+"/deliveries?status=delivered", hooks, "")
		if err := json.Unmarshal([]byte(a.body), &delivered); err != nil {
			t.Fatal(a.status, a.body, err)
		}
		if len(delivered) == 3 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(delivered) != 3 || len(got) != 0 {
		t.Errorf("delivered are %+v, and %d more came", delivered, len(got))
	}
}
