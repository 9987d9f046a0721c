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
		InvoiceID    string `json:"invoice_id"`
		InvoiceNo    string `json:"invoice_no"`
		Status       string `json:"status"`
		Total        string `json:"total"`
		AmountDue    string `json:"amount_due"`
		CreditNoteNo string `json:"credit_note_no"`
		Full         bool   `json:"full"`
		Reason       string `json:"reason"`
	} `json:"data"`
	id string
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
		m.id = r.Header.Get("webhook-id")
		got <- m
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// audience is a running platform with an org that has used something, and its receiver.
type audience struct {
	*operator
	clock     *shifted
	api       *API
	org       string // of the operator's routes
	hook, key string
	got       chan message
}

// tellOf starts a platform that tells an org of some types of events.
func tellOf(t *testing.T, types string) *audience {
	t.Helper()
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
	a := o.ask(api, http.MethodPost, "/api/v1/webhooks", hooks, `{"url":"`+url+`","events":[`+types+`]}`)
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusCreated {
		t.Fatal(a.status, a.body, err)
	}
	secret.Store(&made.Secret)
	return &audience{operator: o, clock: clock, api: api, org: "/admin/v1/orgs/" + first.OrgID.String(), hook: made.ID, key: hooks, got: got}
}

// next is the next message that came.
func (o *audience) next() message {
	o.t.Helper()
	select {
	case m := <-o.got:
		return m
	case <-time.After(30 * time.Second):
		o.t.Fatal("no message came")
	}
	return message{}
}

// invoiced has the org use something, and its month closed.
func (o *audience) invoiced() {
	o.t.Helper()
	if a := o.ask(o.api, http.MethodPost, "/v1/chat/completions", o.first.ChatKey, `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"simulate":{"completion_tokens":100000}}`); a.status != http.StatusOK {
		o.t.Fatal(a.status, a.body)
	}
	o.caughtUp()
	o.clock.by.Store(int64(40 * 24 * time.Hour))
	if a := o.ask(o.api, http.MethodPost, "/admin/v1/invoices/run", o.root, ""); a.status != http.StatusOK || !strings.Contains(a.body, `"issued_count":1`) {
		o.t.Fatal(a.status, a.body)
	}
}

// order is an operator's command, and its answer.
func (o *audience) order(path, body string, status int, into any) {
	o.t.Helper()
	a := o.ask(o.api, http.MethodPost, path, o.root, body)
	if err := json.Unmarshal([]byte(a.body), into); err != nil || a.status != status {
		o.t.Fatal(path, a.status, a.body, err)
	}
}

// wantDelivered holds that so many messages are known as delivered, and no more came.
func (o *audience) wantDelivered(n int) {
	o.t.Helper()
	var delivered []struct{ Type, Status string }
	for range 100 { // an outcome is written within a second or so
		a := o.ask(o.api, http.MethodGet, "/api/v1/webhooks/"+o.hook+"/deliveries?status=delivered", o.key, "")
		if err := json.Unmarshal([]byte(a.body), &delivered); err != nil {
			o.t.Fatal(a.status, a.body, err)
		}
		if len(delivered) == n {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(delivered) != n || len(o.got) != 0 {
		o.t.Errorf("delivered are %+v, and %d more came", delivered, len(o.got))
	}
}

// An invoice is issued and paid in the running platform; the org's receiver is
// told of both, signed, and of nothing else.
func TestWebhooksTellOfInvoices(t *testing.T) {
	t.Parallel()
	o := tellOf(t, `"invoice.issued","invoice.paid"`)
	if a := o.ask(o.api, http.MethodPost, "/api/v1/webhooks/"+o.hook+"/test", o.key, ""); a.status != http.StatusAccepted {
		t.Fatal(a.status, a.body)
	}
	if m := o.next(); m.Type != "webhook.test" {
		t.Fatalf("%+v", m)
	}
	o.invoiced()
	issued := o.next()
	if issued.Type != "invoice.issued" || issued.Data.Status != "issued" || issued.Data.Total != issued.Data.AmountDue || issued.Data.InvoiceNo == "" {
		t.Fatalf("%+v", issued)
	}
	var payment struct{}
	o.order(o.org+"/payments", `{"amount":"`+issued.Data.Total+`","reference":"TT-1"}`, http.StatusCreated, &payment)
	paid := o.next()
	if paid.Type != "invoice.paid" || paid.Data.Status != "paid" || paid.Data.AmountDue != "0.00" || paid.Data.InvoiceID != issued.Data.InvoiceID {
		t.Fatalf("%+v", paid)
	}
	o.wantDelivered(3)
}

// A correction takes an invoice back and issues another one. Of its credit note the
// org is told as of any other, once; where the invoice was void already there is
// none, and of what made it void the org was told then.
func TestWebhooksTellOfCorrections(t *testing.T) {
	t.Parallel()
	o := tellOf(t, `"invoice.issued","invoice.voided","credit_note.issued"`)
	o.invoiced()
	old := o.next()
	correct := func(invoice, rate string) (corrected struct {
		CreditNote *struct {
			No    string `json:"credit_note_no"`
			Total string `json:"total"`
		} `json:"credit_note"`
		Invoice struct {
			ID string `json:"id"`
			No string `json:"invoice_no"`
		} `json:"invoice"`
	}) {
		t.Helper()
		path, remedy := "/admin/v1/invoices/"+invoice, `"tax_rates":[{"name":"VAT","pct":"`+rate+`"}],"reason":"VAT was forgotten"`
		var dry struct{ Hash string }
		o.order(path+"/re-rate", `{`+remedy+`}`, http.StatusOK, &dry)
		o.order(path+"/correct", `{`+remedy+`,"agreed":"`+dry.Hash+`"}`, http.StatusCreated, &corrected)
		return corrected
	}
	byType := func(n int) map[string]message {
		t.Helper()
		came := map[string]message{}
		for range n {
			m := o.next()
			if came[m.Type].id != "" {
				t.Errorf("%s came twice: %+v, %+v", m.Type, came[m.Type], m)
			}
			came[m.Type] = m
		}
		return came
	}
	first := correct(old.Data.InvoiceID, "6")
	came := byType(3)
	note, voided, issued := came["credit_note.issued"], came["invoice.voided"], came["invoice.issued"]
	if note.Data.CreditNoteNo == "" || note.Data.CreditNoteNo != first.CreditNote.No || note.Data.InvoiceNo != old.Data.InvoiceNo || !note.Data.Full ||
		note.Data.Total != old.Data.Total || note.Data.Total != first.CreditNote.Total || note.Data.Reason != "VAT was forgotten" {
		t.Errorf("of the credit note came %+v", note)
	}
	if voided.Data.InvoiceNo != old.Data.InvoiceNo || issued.Data.InvoiceNo != first.Invoice.No {
		t.Errorf("of the invoices came %+v and %+v", voided, issued)
	}
	var void struct {
		No string `json:"credit_note_no"`
	}
	o.order("/admin/v1/invoices/"+first.Invoice.ID+"/void", `{"reason":"wrong again"}`, http.StatusCreated, &void)
	if came := byType(2); came["credit_note.issued"].Data.CreditNoteNo != void.No || came["invoice.voided"].Data.InvoiceNo != first.Invoice.No {
		t.Errorf("of an invoice made void came %+v", came)
	}
	if second := correct(first.Invoice.ID, "9"); second.CreditNote != nil || o.next().Data.InvoiceNo != second.Invoice.No {
		t.Errorf("what was void is made void again: %+v", second)
	}
	o.wantDelivered(7)
}
