package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"aione/embedded"
	"aione/keys"

	"github.com/google/uuid"
)

type invalidQuery struct{ path, param, typ string }

func invalidQueries() []invalidQuery {
	usage, dashboard, invoices := "/api/v1/obs/usage?", "/api/v1/obs/dashboard?", "/api/v1/billing/invoices?"
	return []invalidQuery{
		{invoices + "page=0", "page", "greater_than_equal"},
		{invoices + "page=-1", "page", "greater_than_equal"},
		{invoices + "page=x", "page", "int_parsing"},
		{invoices + "page=1.0", "page", "int_parsing"},
		{invoices + "page=%201", "page", "int_parsing"},
		{invoices + "page=99999999999999999999", "page", "less_than_equal"},
		{invoices + "page=1&page=1", "page", "repeated"},
		{invoices + "page=1&page=", "page", "repeated"},
		{invoices + "page=%ff", "page", "string_unicode"},
		{invoices + "page_size=0", "page_size", "greater_than_equal"},
		{invoices + "page_size=101", "page_size", "less_than_equal"},
		{dashboard + "range_days=0", "range_days", "greater_than_equal"},
		{dashboard + "range_days=91", "range_days", "less_than_equal"},
		{dashboard + "range_days=7d", "range_days", "int_parsing"},
		{dashboard + "view_mode=Tech", "view_mode", "enum"},
		{dashboard + "view_mode=tech&view_mode=business", "view_mode", "repeated"},
		{usage + "start_date=2026-02-30", "start_date", "date_parsing"},
		{usage + "start_date=2026-2-3", "start_date", "date_parsing"},
		{usage + "end_date=2026-11-15T00:00:00Z", "end_date", "date_parsing"},
		{usage + "end_date=1999-12-31", "end_date", "date_range"},
		{usage + "end_date=9999-12-31", "end_date", "date_range"},
		{usage + "start_date=2026-11-02&end_date=2026-11-01", "end_date", "date_range"},
		{usage + "start_date=2025-11-01&end_date=2026-11-02", "start_date", "date_range"},
		{usage + "start_date=2026-10-01&end_date=2026-11-01&group_by=hour", "start_date", "date_range"},
		{usage + "start_date=2026-11-01&start_date=2026-11-01", "start_date", "repeated"},
		{usage + "group_by=week", "group_by", "enum"},
		{usage + "group_by=day,", "group_by", "enum"},
		{usage + "group_by=Day", "group_by", "enum"},
		{usage + "group_by=day&group_by=%ff", "group_by", "string_unicode"},
		{usage + "model=%ff%fe", "model", "string_unicode"},
		{usage + "model=a%00b", "model", "string_control"},
		{usage + "model=" + strings.Repeat("m", 513), "model", "string_too_long"},
		{usage + "team_id=7", "team_id", "uuid_parsing"},
		{usage + "team_id={" + uuid.NewString() + "}", "team_id", "uuid_parsing"},
		{usage + "key_id=urn:uuid:" + uuid.NewString(), "key_id", "uuid_parsing"},
		{usage + "page_size=1001", "page_size", "less_than_equal"},
		{usage + "page=1000001", "page", "less_than_equal"},
	}
}

func TestValidationErrors(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x := r.tenant("acme", "")
	for _, c := range invalidQueries() {
		a := r.get(c.path, x.token)
		var got struct {
			Detail []struct {
				Loc  []string `json:"loc"`
				Msg  string   `json:"msg"`
				Type string   `json:"type"`
			} `json:"detail"`
		}
		if a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s = %d %s", c.path, a.status, a.body)
			continue
		}
		a.into(t, &got)
		if len(got.Detail) != 1 || strings.Join(got.Detail[0].Loc, ".") != "query."+c.param || got.Detail[0].Type != c.typ || got.Detail[0].Msg == "" {
			t.Errorf("%s: %s, want %s of %s", c.path, a.body, c.typ, c.param)
		}
	}
	// everything that is wrong, at once
	if a := r.get("/api/v1/obs/usage?page=0&page_size=x&team_id=1", x.token); strings.Count(a.body, `"loc"`) != 3 {
		t.Errorf("three errors: %s", a.body)
	}
	if a := r.get("/api/v1/obs/usage?model=%zz", x.token); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"loc":["query"]`) {
		t.Errorf("a query that cannot be parsed = %d %s", a.status, a.body)
	}
	if a := r.get("/api/v1/billing/invoices/7", x.token); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"loc":["path","invoice_id"]`) {
		t.Errorf("an invoice id that is none = %d %s", a.status, a.body)
	}
	// the seed's own example: parameters without values
	if a := r.get("/api/v1/billing/invoices?page&page_size", x.token); a.status != http.StatusOK || a.body != "[]" {
		t.Errorf("?page&page_size = %d %s", a.status, a.body)
	}
}

func TestTokensAndTenants(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	const usage, invoices = "/api/v1/obs/usage", "/api/v1/billing/invoices"
	disabledKey, disabled, err := r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, Name: "off", Scopes: []keys.Scope{keys.ScopeUsageRead}, Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.keys.Disable(r.ctx, r.log, keys.ChangeInput{OrgID: x.org.ID, ID: disabledKey.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	expired := must(must2(r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, Name: "old", Scopes: []keys.Scope{keys.ScopeUsageRead}, ExpiresAt: testNow.Add(1), Actor: "test"})))
	r.clock.set(testNow.Add(1000))
	admin, only := r.token(x, keys.ScopeAdmin), r.token(x, keys.ScopeUsageRead)
	for _, c := range []struct {
		name, path string
		header     []string
		status     int
	}{
		{"none", usage, nil, 401},
		{"basic", usage, []string{"Authorization", "Basic " + x.token}, 401},
		{"no token", usage, []string{"Authorization", "Bearer "}, 401},
		{"malformed", usage, []string{"Authorization", "Bearer tk-nex-x"}, 401},
		{"tampered", usage, []string{"Authorization", "Bearer " + x.token[:len(x.token)-1] + "!"}, 401},
		{"expired", usage, []string{"Authorization", "Bearer " + expired}, 401},
		{"disabled", usage, []string{"Authorization", "Bearer " + disabled}, 403},
		{"chat key", usage, []string{"Authorization", "Bearer " + x.chat}, 403},
		{"ingest token", invoices, []string{"Authorization", "Bearer " + x.ingest}, 403},
		{"usage token", invoices, []string{"Authorization", "Bearer " + only}, 403},
		{"admin token", invoices, []string{"Authorization", "Bearer " + admin}, 403},
		{"lower-case scheme", usage, []string{"Authorization", "bearer " + only}, 200},
		{"foreign team", usage + "?team_id=" + other.team.ID.String(), []string{"Authorization", "Bearer " + only}, 404},
		{"unknown team", usage + "?team_id=" + uuid.NewString(), []string{"Authorization", "Bearer " + only}, 404},
		{"foreign key", usage + "?key_id=" + other.key.ID.String(), []string{"Authorization", "Bearer " + only}, 404},
		{"foreign key in CSV", usage + "?key_id=" + other.key.ID.String(), []string{"Authorization", "Bearer " + only, "Accept", "text/csv"}, 404},
		{"unknown invoice", invoices + "/" + uuid.NewString(), []string{"Authorization", "Bearer " + x.token}, 404},
		{"org in the query", usage + "?org_id=" + other.org.ID.String(), []string{"Authorization", "Bearer " + only}, 200},
	} {
		a := r.get(c.path, "", c.header...)
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.status)
		}
		if c.status != 200 {
			var detail struct{ Detail string }
			if err := json.Unmarshal([]byte(a.body), &detail); err != nil || detail.Detail == "" {
				t.Errorf("%s: %s", c.name, a.body)
			}
		}
		if (c.status == 401) != (a.header.Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%s: WWW-Authenticate is %q", c.name, a.header.Get("WWW-Authenticate"))
		}
	}
	if a := r.do("POST", "/api/v1/events", x.token, "[]", "Content-Type", eventBatchType); a.status != http.StatusForbidden {
		t.Errorf("events without the scope = %d", a.status)
	}
	for _, secret := range []string{x.token, x.chat, disabled, expired} {
		if strings.Contains(r.logged.String(), secret) {
			t.Error("a token is in the log")
		}
	}
}

// must2 drops the first of two results.
func must2[A, B any](_ A, b B, err error) (B, error) { return b, err }
