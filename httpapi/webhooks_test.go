package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"aione/embedded"
	"aione/keys"
	"aione/webhooks"
)

// webhookOf makes an endpoint and returns its id.
func (r *rig) webhookOf(x tenant) string {
	r.t.Helper()
	var hook webhookResponse
	r.send("POST", "/api/v1/webhooks", r.token(x, keys.ScopeWebhooksWrite), `{"url":"http://127.0.0.1:9/"}`).into(r.t, &hook)
	return hook.ID.String()
}

// onlyWebhookOf is webhookOf after all others are gone: an org may have few.
func (r *rig) onlyWebhookOf(x tenant) string {
	r.t.Helper()
	for _, e := range r.config.Webhooks.Endpoints(x.org.ID) {
		if err := r.config.WebhookCommands.Delete(r.ctx, x.org.ID, e.ID, webhooks.By{Actor: "test", At: r.clock.Now()}); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.webhookOf(x)
}

func TestWebhookRoutes(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x := r.tenant("acme", "")
	token := r.token(x, keys.ScopeWebhooksWrite)
	const all = "/api/v1/webhooks"
	var hook webhookResponse
	made := r.send("POST", all, token, `{"url":"https://example.com/a?b","events":["invoice.issued"]}`, "Idempotency-Key", "one")
	made.into(t, &hook)
	if made.status != http.StatusCreated || hook.Secret == nil || !strings.HasPrefix(*hook.Secret, "whsec_") || hook.Status != "enabled" {
		t.Fatalf("created = %d %s", made.status, made.body)
	}
	if again := r.send("POST", all, token, `{"url":"https://example.com/a?b","events":["invoice.issued"]}`, "Idempotency-Key", "one"); again.body != made.body {
		t.Errorf("the same again = %s", again.body)
	}
	one := all + "/" + hook.ID.String()
	if a := r.get(one, token); strings.Contains(a.body, "whsec_") || !strings.Contains(a.body, `"secret":null`) {
		t.Errorf("an endpoint shows its secret: %s", a.body)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", all, `{"url":"ftp://example.com"}`, 422, `["body","url"]`},
		{"POST", all, `{"url":"https://10.0.0.1/"}`, 422, `["body","url"]`},
		{"POST", all, `{"url":"https://example.com","events":["nothing"]}`, 422, `["body","events"]`},
		{"PUT", one, `{"description":"ours","events":[]}`, 200, `"events":[]`},
		{"PUT", one + "/rotate?grace_hours=1", ``, 200, `"secret_version":2`},
		{"PUT", one + "/rotate?grace_hours=169", ``, 422, `["query","grace_hours"]`},
		{"POST", one + "/test", ``, 202, `"message_id":"msg_`},
		{"GET", one + "/deliveries", ``, 200, `"type":"webhook.test"`},
		{"GET", one + "/deliveries?status=dead", ``, 200, `[]`},
		{"GET", one + "/deliveries?status=lost", ``, 422, `["query","status"]`},
		{"POST", one + "/replay", `{}`, 422, `["body"]`},
		{"POST", one + "/replay", `{"message_id":"msg_nothing"}`, 404, `not found`},
		{"POST", one + "/replay", `{"since":"2026-01-01T00:00:00Z"}`, 202, `"messages":`},
		{"PUT", one, `{"enabled":false}`, 200, `"status":"disabled"`},
		{"POST", one + "/test", ``, 409, `disabled`},
		{"PUT", one, `{"enabled":true}`, 200, `"status":"enabled"`},
		{"GET", all, ``, 200, `"event_types":["invoice.issued"]`},
		{"DELETE", one, ``, 204, ``},
		{"GET", one, ``, 404, `not found`},
		{"DELETE", one, ``, 404, `not found`},
	} {
		if a := r.send(c.method, c.path, token, c.body); a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s %s %s = %d %s, want %d %s", c.method, c.path, c.body, a.status, a.body, c.status, c.want)
		}
	}
}
