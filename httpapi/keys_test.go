package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/keys"
)

func (r *rig) send(method, path, token, body string, headers ...string) answer {
	r.t.Helper()
	return r.do(method, path, token, body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

const keysPath = "/api/v1/gateway/keys"

func TestKeysLiveAndDie(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x := r.tenant("acme", "")
	token := r.token(x, keys.ScopeKeysWrite)
	a := r.send("POST", keysPath, token, `{"name":"research","team_id":"`+x.team.ID.String()+`","models_allowed":["haiku-4-5","gpt-4o","claude-haiku-4-5"],
		"rpm_limit":60,"tpm_limit":100000,"is_sandbox":true,"allowed_ips":["10.0.0.0/8","2001:db8::1"],"expires_at":"2026-12-01T08:00:00+08:00"}`)
	var k keyResponse
	a.into(t, &k)
	if a.status != http.StatusOK || k.Key == nil {
		t.Fatalf("create = %d %s", a.status, a.body)
	}
	secret := *k.Key
	if got := must(r.keys.Verify(secret, r.clock.Now())); got.ID != k.ID || !got.Sandbox || strings.Join(got.ModelsAllowed, " ") != "claude-haiku-4-5 gpt-4o" {
		t.Errorf("the secret is that of %+v", got)
	}
	fields := strings.Join(shape(t, a.body), " ")
	const want = "id:uuid org_id:uuid team_id:uuid name:string key:string key_prefix:string models_allowed:other rpm_limit:other tpm_limit:other " +
		"is_sandbox:other allowed_ips:other expires_at:instant rotate_grace_until:other status:string created_at:instant"
	if fields != want {
		t.Errorf("a key has\n%s, the published one\n%s", fields, want)
	}
	if *k.RPMLimit != 60 || *k.TPMLimit != 100000 || *k.ExpiresAt != "2026-12-01T00:00:00.000Z" || k.Status != "active" || !strings.HasPrefix(secret, k.KeyPrefix) {
		t.Errorf("created %s", a.body)
	}

	path := keysPath + "/" + k.ID.String()
	if a := r.get(path, token); strings.Contains(a.body, secret) || !strings.Contains(a.body, `"key":null`) {
		t.Errorf("get = %s", a.body)
	}
	var list keyListResponse
	a = r.get(keysPath, token)
	a.into(t, &list)
	if list.Total != 2 || len(list.Items) != 2 || list.Items[0].ID != x.key.ID || strings.Contains(a.body, secret) {
		t.Errorf("list = %s", a.body)
	}

	a = r.send("PUT", path, token, `{"name":"renamed","rpm_limit":null,"models_allowed":null}`)
	k = keyResponse{}
	a.into(t, &k)
	if a.status != http.StatusOK || k.Name != "renamed" || k.RPMLimit != nil || *k.TPMLimit != 100000 || len(k.ModelsAllowed) != 0 || len(k.AllowedIPs) != 2 || k.Key != nil {
		t.Errorf("update = %d %s", a.status, a.body)
	}
	if a = r.send("PUT", path, token, `{}`); a.status != http.StatusOK || !strings.Contains(a.body, `"renamed"`) {
		t.Errorf("update of nothing = %d %s", a.status, a.body)
	}
	r.rotate(k, token, secret)

	for _, step := range []struct{ action, status string }{{"disable", "disabled"}, {"disable", "disabled"}, {"enable", "active"}} {
		if a := r.send("PUT", path+"/"+step.action, token, ""); a.status != http.StatusOK || !strings.Contains(a.body, `"status":"`+step.status+`"`) {
			t.Errorf("%s = %d %s", step.action, a.status, a.body)
		}
	}
	if a := r.do("DELETE", path, token, ""); a.status != http.StatusNoContent || a.body != "" {
		t.Errorf("delete = %d %s", a.status, a.body)
	}
	for _, c := range [][2]string{{"GET", path}, {"DELETE", path}, {"PUT", path + "/rotate"}, {"PUT", path + "/enable"}} {
		if a := r.send(c[0], c[1], token, ""); a.status != http.StatusNotFound {
			t.Errorf("%s of a deleted key = %d %s", c[0], a.status, a.body)
		}
	}
}

// rotate checks a rotation of the key, its repetition, and both secrets.
func (r *rig) rotate(k keyResponse, token, old string) {
	t, path := r.t, keysPath+"/"+k.ID.String()+"/rotate"
	t.Helper()
	a := r.send("PUT", path+"?grace_hours=2", token, "", "Idempotency-Key", "rotation-1")
	var got keyRotateResponse
	a.into(t, &got)
	if a.status != http.StatusOK || got.ID != k.ID || got.Key == old || got.RotateGraceUntil == nil || *got.RotateGraceUntil != instant(testNow.Add(2*time.Hour)) {
		t.Fatalf("rotate = %d %s", a.status, a.body)
	}
	if again := r.send("PUT", path+"?grace_hours=2", token, "", "Idempotency-Key", "rotation-1"); again.body != a.body {
		t.Errorf("the same rotation again = %d %s", again.status, again.body)
	}
	if other := r.send("PUT", path+"?grace_hours=3", token, "", "Idempotency-Key", "rotation-1"); other.status != http.StatusConflict {
		t.Errorf("the key of another rotation = %d %s", other.status, other.body)
	}
	for _, secret := range []string{old, got.Key} {
		if _, err := r.keys.Verify(secret, testNow.Add(time.Hour)); err != nil {
			t.Errorf("in the grace: %v", err)
		}
	}
	if _, err := r.keys.Verify(old, testNow.Add(3*time.Hour)); err == nil {
		t.Error("the old secret outlives its grace")
	}
}

func TestKeyBodiesRefused(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	token := r.token(x, keys.ScopeKeysWrite)
	for _, c := range []struct{ body, loc, typ string }{
		{``, `["body",0]`, "json_invalid"},
		{`{"name":"a"`, `["body",11]`, "json_invalid"},
		{`{"name":"a"} x`, `["body",`, "json_invalid"},
		{`{"name":"a","name":"b"}`, `["body",`, "json_invalid"},
		{"{\"name\":\"\xff\"}", `["body",`, "json_invalid"},
		{`[]`, `["body"]`, "model_attributes_type"},
		{`null`, `["body"]`, "model_attributes_type"},
		{`{}`, `["body","name"]`, "missing"},
		{`{"name":""}`, `["body","name"]`, "string_too_short"},
		{`{"name":7}`, `["body","name"]`, "string_type"},
		{`{"name":null}`, `["body","name"]`, "string_type"},
		{`{"name":"a\u0000b"}`, `["body","name"]`, "string_control"},
		{`{"name":"` + strings.Repeat("n", 257) + `"}`, `["body","name"]`, "string_too_long"},
		{`{"name":"` + strings.Repeat("名", 100) + `"}`, `["body","name"]`, "value_error"},
		{`{"name":"a","team_id":"7"}`, `["body","team_id"]`, "uuid_parsing"},
		{`{"name":"a","rpm_limit":0}`, `["body","rpm_limit"]`, "greater_than_equal"},
		{`{"name":"a","rpm_limit":-99999999999999999999}`, `["body","rpm_limit"]`, "greater_than_equal"},
		{`{"name":"a","rpm_limit":99999999999999999999}`, `["body","rpm_limit"]`, "less_than_equal"},
		{`{"name":"a","tpm_limit":1.5}`, `["body","tpm_limit"]`, "int_type"},
		{`{"name":"a","tpm_limit":"1"}`, `["body","tpm_limit"]`, "int_type"},
		{`{"name":"a","is_sandbox":null}`, `["body","is_sandbox"]`, "bool_type"},
		{`{"name":"a","is_sandbox":1}`, `["body","is_sandbox"]`, "bool_type"},
		{`{"name":"a","allowed_ips":"10.0.0.1"}`, `["body","allowed_ips"]`, "list_type"},
		{`{"name":"a","allowed_ips":["10.0.0.1",5]}`, `["body","allowed_ips",1]`, "string_type"},
		{`{"name":"a","allowed_ips":["10.0.0.256"]}`, `["body","allowed_ips"]`, "value_error"},
		{`{"name":"a","allowed_ips":[` + strings.Repeat(`"10.0.0.1",`, 256) + `"10.0.0.1"]}`, `["body","allowed_ips"]`, "too_long"},
		{`{"name":"a","models_allowed":["gpt-4o","GPT-4o"]}`, `["body","models_allowed",1]`, "model_unknown"},
		{`{"name":"a","expires_at":"2026-02-30T00:00:00Z"}`, `["body","expires_at"]`, "datetime_parsing"},
		{`{"name":"a","expires_at":"0001-01-01T00:00:00Z"}`, `["body","expires_at"]`, "datetime_parsing"},
		{`{"name":"a","expires_at":"2026-11-01T00:00:00Z"}`, `["body","expires_at"]`, "value_error"},
		{`{"name":"a","nam` + strings.Repeat("e", 600) + `":1}`, `["body"]`, "extra_forbidden"},
	} {
		a := r.send("POST", keysPath, token, c.body)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"loc":`+c.loc) || !strings.Contains(a.body, `"type":"`+c.typ+`"`) {
			t.Errorf("%.100s = %d %s, want %s at %s", c.body, a.status, a.body, c.typ, c.loc)
		}
	}
	if a := r.send("POST", keysPath, token, `{"name":"a","team_id":"`+other.team.ID.String()+`"}`); a.status != http.StatusNotFound {
		t.Errorf("a key for another org's team = %d %s", a.status, a.body)
	}
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		if a := r.do("POST", keysPath, token, `{"name":"a"}`, "Content-Type", media); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("%q = %d", media, a.status)
		}
	}
	if a := r.send("POST", keysPath, token, `{"name":"`+strings.Repeat("n", 300<<10)+`"}`); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge body = %d", a.status)
	}
	if n := len(r.keys.List(x.org.ID)); n != 4 {
		t.Errorf("refused requests made %d keys", n-4)
	}
}

// A token that may write keys must not get one that may more.
func TestKeysAreNotALadder(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x := r.tenant("acme", "")
	token := r.token(x, keys.ScopeKeysWrite)
	for _, k := range r.keys.List(x.org.ID) {
		if k.IsAPIKey() {
			continue
		}
		path := keysPath + "/" + k.ID.String()
		for _, c := range []struct{ method, path, body string }{
			{"GET", path, ""}, {"PUT", path, `{"name":"mine"}`}, {"DELETE", path, ""},
			{"PUT", path + "/rotate", ""}, {"PUT", path + "/disable", ""}, {"PUT", path + "/enable", ""},
		} {
			if a := r.send(c.method, c.path, token, c.body); a.status != http.StatusNotFound {
				t.Errorf("%s %s of a management token = %d %s", c.method, c.path, a.status, a.body)
			}
		}
	}
	if a := r.get(keysPath, token); strings.Contains(a.body, "tk-nex-") {
		t.Errorf("management tokens are listed: %s", a.body)
	}
}
