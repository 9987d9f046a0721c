package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"aione/admission"
	"aione/embedded"
	"aione/keys"

	"github.com/google/uuid"
)

func TestBudgetsAndLimits(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x, other := r.tenant("acme", "Asia/Kolkata"), r.tenant("rival", "")
	root := r.token(x, keys.ScopeAdmin)
	org := "/admin/v1/orgs/" + x.org.ID.String()
	none, foreign := uuid.NewString(), "/admin/v1/orgs/"+other.org.ID.String()
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{org + "/budget", "", 200, `"scope":"org","id":"` + x.org.ID.String() + `","budget_limit":null,"spent":"0"`},
		{org + "/budget", `{"budget_limit":"1000.5"}`, 200, `"budget_limit":"1000.5","spent":"0","frozen_amount":"0","currency":"CNY","period_start":"2026-11-01","period_end":"2026-11-30"`},
		{org + "/budget", `{"budget_limit":"0"}`, 200, `"budget_limit":"0"`},
		{org + "/budget", `{"budget_limit":null}`, 200, `"budget_limit":null`},
		{org + "/budget", `{}`, 422, `["body","budget_limit"]`},
		{org + "/budget", `{"budget_limit":"-1"}`, 422, `["body","budget_limit"]`},
		{org + "/budget", `{"budget_limit":"1e9"}`, 422, `["body","budget_limit"]`},
		{org + "/budget", `{"budget_limit":10}`, 422, `["body","budget_limit"]`},
		{org + "/budget", `{"budget_limit":"0.0000001"}`, 422, `["body","budget_limit"]`},
		{org + "/teams/" + x.team.ID.String() + "/budget", `{"budget_limit":"7"}`, 200, `"scope":"team","id":"` + x.team.ID.String() + `","budget_limit":"7"`},
		{org + "/keys/" + x.key.ID.String() + "/budget", `{"budget_limit":"3"}`, 200, `"scope":"key","id":"` + x.key.ID.String() + `","budget_limit":"3"`},
		{org + "/keys/" + x.key.ID.String() + "/budget", "", 200, `"budget_limit":"3"`},
		{org + "/teams/" + other.team.ID.String() + "/budget", `{"budget_limit":"7"}`, 404, ""},
		{org + "/keys/" + other.key.ID.String() + "/budget", `{"budget_limit":"7"}`, 404, ""},
		{foreign + "/keys/" + x.key.ID.String() + "/budget", "", 404, ""},
		{"/admin/v1/orgs/" + none + "/budget", `{"budget_limit":"7"}`, 404, ""},
		{"/admin/v1/orgs/" + none + "/limits", `{}`, 404, ""},
		{"/admin/v1/orgs/" + none + "/credit-limit", `{"credit_limit":"7"}`, 404, ""},
		{"/admin/v1/orgs/7/limits", "", 422, `["path","org_id"]`},
		{org + "/limits", "", 200, `"rpm_limit":null,"tpm_limit":null,"effective_rpm_limit":null,"effective_tpm_limit":null`},
		{org + "/limits", `{"rpm_limit":60}`, 200, `"rpm_limit":60,"tpm_limit":null,"effective_rpm_limit":60`},
		{org + "/limits", `{"tpm_limit":9}`, 200, `"rpm_limit":null,"tpm_limit":9`},
		{org + "/limits", `{"rpm_limit":0}`, 422, `["body","rpm_limit"]`},
		{org + "/credit-limit", "", 200, `"credit_limit":null,"balance":null,"frozen_amount":"0"`},
		{org + "/credit-limit", `{"credit_limit":"500"}`, 200, `"credit_limit":"500","balance":"0"`},
		{org + "/credit-limit", `{"credit_limit":null}`, 422, `["body","credit_limit"]`},
	} {
		method := "PUT"
		if c.body == "" {
			method = "GET"
		}
		if a := r.send(method, c.path, root, c.body); a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s %s %s = %d %s, want %d %s", method, c.path, c.body, a.status, a.body, c.status, c.want)
		}
	}
	// What was answered is what the limiter goes by.
	for scope, want := range map[admission.Scope]string{admission.ScopeTeam: "7", admission.ScopeKey: "3", admission.ScopeBalance: "500"} {
		id := map[admission.Scope]uuid.UUID{admission.ScopeTeam: x.team.ID, admission.ScopeKey: x.key.ID, admission.ScopeBalance: x.org.ID}[scope]
		if at := must(r.limiter.Standing(x.org.ID, scope, id, testNow)); !at.Limited || at.Limit.String() != want {
			t.Errorf("the %s stands at %+v, want a limit of %s", scope, at, want)
		}
	}
	a := r.send("PUT", org+"/budget", root, `{"budget_limit":"5"}`, "Idempotency-Key", "b-1")
	if again := r.send("PUT", org+"/budget", root, `{"budget_limit":"5"}`, "Idempotency-Key", "b-1"); again.status != http.StatusOK || again.body != a.body {
		t.Errorf("the same again = %d %s", again.status, again.body)
	}
	if reused := r.send("PUT", org+"/budget", root, `{"budget_limit":"6"}`, "Idempotency-Key", "b-1"); reused.status != http.StatusConflict {
		t.Errorf("another budget under the key = %d %s", reused.status, reused.body)
	}
}

// Nobody is told that nothing was spent while that is not known.
func TestBudgetsBeforeSpendIsKnown(t *testing.T) {
	var limiter *admission.Limiter
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) {
		limiter = must(admission.New(admission.Config{Zones: c.Orgs, Now: c.Now}))
		c.Standings = limiter
	})
	x := r.tenant("acme", "")
	root := r.token(x, keys.ScopeAdmin)
	for _, path := range []string{"/budget", "/credit-limit"} {
		if a := r.get("/admin/v1/orgs/"+x.org.ID.String()+path, root); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s = %d %s", path, a.status, a.body)
		}
	}
}
