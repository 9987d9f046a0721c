package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"aione/catalog"
	"aione/embedded"
	"aione/events"
	"aione/gateway"
	"aione/keys"
	"aione/ledger"
	"aione/simulator"

	"github.com/google/uuid"
)

// operation is one of the document, as a client that knows nothing else reads it.
type operation struct {
	method, path string
	OperationID  string                `json:"operationId"`
	Security     []map[string][]string `json:"security"`
	Parameters   []struct {
		Name     string         `json:"name"`
		In       string         `json:"in"`
		Required bool           `json:"required"`
		Schema   documentSchema `json:"schema"`
	} `json:"parameters"`
	RequestBody *struct {
		Content map[string]struct {
			Schema documentSchema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
}

// documentSchema is the part of JSON Schema that the document uses for requests.
type documentSchema struct {
	Ref       string          `json:"$ref"`
	Type      any             `json:"type"` // a name, or several
	Format    string          `json:"format"`
	Enum      []string        `json:"enum"`
	Pattern   string          `json:"pattern"`
	Minimum   *float64        `json:"minimum"`
	Maximum   *float64        `json:"maximum"`
	MinLength *int            `json:"minLength"`
	MaxLength *int            `json:"maxLength"`
	Items     *documentSchema `json:"items"`
	// AnyMember says that members which are not named are passed on.
	AnyMember  any                       `json:"additionalProperties"`
	Properties map[string]documentSchema `json:"properties"`
	Required   []string                  `json:"required"`
}

// apiDocument is what /openapi.json says of requests.
type apiDocument struct {
	operations []operation
	schemas    map[string]documentSchema
}

func readDocument(t testing.TB, text string) apiDocument {
	t.Helper()
	var raw struct {
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			Schemas map[string]documentSchema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	d := apiDocument{schemas: raw.Components.Schemas}
	for path, item := range raw.Paths {
		for method, op := range item {
			op.method, op.path = strings.ToUpper(method), path
			d.operations = append(d.operations, op)
		}
	}
	sort.Slice(d.operations, func(i, j int) bool { return d.operations[i].OperationID < d.operations[j].OperationID })
	return d
}

func (d apiDocument) resolve(s documentSchema) documentSchema {
	if s.Ref == "" {
		return s
	}
	return d.schemas[strings.TrimPrefix(s.Ref, schemaPrefix)]
}

// scope is what the document says that a token needs; "" is nothing.
func (op operation) scope() keys.Scope {
	for _, s := range op.Security {
		return keys.Scope(s["token"][0])
	}
	return ""
}

// takes is the body's schema as plain JSON; false without one.
func (op operation) takes() (documentSchema, bool) {
	if op.RequestBody == nil {
		return documentSchema{}, false
	}
	c, ok := op.RequestBody.Content[jsonType]
	return c.Schema, ok
}

// fullRig has every part that the API can have, usage, and an issued invoice.
func fullRig(t testing.TB) (r *rig, x, other tenant, invoice uuid.UUID) {
	t.Helper()
	p := &proofs{}
	var g *gateway.Gateway
	r = newRig(t, embedded.Open(t), func(c *Config) {
		c.Audits, c.Lines, c.Allowances = p, p, &allowances{RPMLimit: 60}
		g = newGateway(t, c)
		c.Gateway = g.Routes()
	})
	t.Cleanup(func() {
		r.server.Close()
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	r.clock.set(time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC))
	x, other = r.tenant("acme", ""), r.tenant("rival", "")
	u := r.usageOf(x, "gpt-4o", r.clock.Now(), events.Tokens{Output: 1_000_000})
	p.events = []events.Usage{u}
	r.publish(u)
	r.clock.set(testNow)
	r.publish(r.usageOf(x, "gpt-4o-mini", testNow, events.Tokens{Input: 5}))
	r.ingest()
	report, err := r.invoicer.RunDue(r.ctx, testNow)
	if err != nil || len(report.Issued) != 1 {
		t.Fatal(report, err)
	}
	return r, x, other, report.Issued[0].ID
}

// newGateway is a real one before the simulated provider.
func newGateway(t testing.TB, c *Config) *gateway.Gateway {
	t.Helper()
	provider := httptest.NewServer(simulator.New(simulator.Config{}))
	t.Cleanup(provider.Close)
	upstream := gateway.Upstream{Name: "simulated", BaseURL: provider.URL + "/v1", Dialect: gateway.DialectAny}
	return must(gateway.New(gateway.Config{
		Plans: orgs{c.Orgs}, Log: c.Log.(*events.Log), Keys: c.Keys, Catalog: c.Catalog.(*catalog.Catalog), Rate: ledger.Rate, Sandbox: upstream,
		Routing: gateway.Routing{Default: gateway.Route{Upstreams: []gateway.Upstream{upstream}}}, Now: c.Now, Logger: c.Logger,
	}))
}

// orgs have agreed to everything, in their own currency.
type orgs struct{ Orgs }

func (orgs) AllowsModel(uuid.UUID, string, time.Time) bool { return true }

func (o orgs) Currency(id uuid.UUID) (string, bool) {
	org, err := o.Org(id)
	return org.Currency, err == nil
}

var allScopes = []keys.Scope{keys.ScopeChat, keys.ScopeIngest, keys.ScopeUsageRead, keys.ScopeBillingRead, keys.ScopeKeysWrite, keys.ScopeAdmin, keys.ScopeWebhooksWrite}

// TestAuthorisationMatrix: every route without a token, and with a token that has
// every scope but the right one.
func TestAuthorisationMatrix(t *testing.T) {
	r, x, _, _ := fullRig(t)
	config := reflect.ValueOf(r.config)
	for i := range config.NumField() {
		if f := config.Field(i); f.Kind() == reflect.Interface && f.IsNil() {
			t.Errorf("fullRig lacks %s: the routes that need it are not tested", config.Type().Field(i).Name)
		}
	}
	d := readDocument(t, r.get("/openapi.json", "").body)
	tokens := map[keys.Scope]string{}
	for _, missing := range allScopes {
		tokens[missing] = r.token(x, slices.DeleteFunc(slices.Clone(allScopes), func(s keys.Scope) bool { return s == missing })...)
	}
	guarded := 0
	for _, op := range d.operations {
		path := fill(op.path, func(string) string { return uuid.NewString() })
		scope := op.scope()
		if scope == "" {
			if a := r.do(op.method, path, "", ""); a.status != http.StatusOK {
				t.Errorf("%s serves anybody, but = %d %s", op.OperationID, a.status, a.body)
			}
			continue
		}
		guarded++
		if a := r.send(op.method, path, "", ""); a.status != http.StatusUnauthorized {
			t.Errorf("%s without a token = %d %s", op.OperationID, a.status, a.body)
		}
		if a := r.send(op.method, path, "tk-nex-"+strings.Repeat("0", 49), ""); a.status != http.StatusUnauthorized {
			t.Errorf("%s with a token that is none = %d %s", op.OperationID, a.status, a.body)
		}
		if a := r.send(op.method, path, tokens[scope], ""); a.status != http.StatusForbidden || !strings.Contains(a.body, string(scope)) {
			t.Errorf("%s without the scope %s = %d %s", op.OperationID, scope, a.status, a.body)
		}
		if a := r.send(op.method, path, x.chat, ""); (a.status == http.StatusForbidden) != (scope != keys.ScopeChat) {
			t.Errorf("%s with a chat key = %d %s", op.OperationID, a.status, a.body)
		}
	}
	if guarded < 25 {
		t.Errorf("only %d routes are guarded", guarded)
	}
}

// TestScopesOfThePaths: the matrix takes the scopes from the table; this says what
// they must be.
func TestScopesOfThePaths(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) { c.Gateway, c.Audits, c.Lines = http.NotFoundHandler(), &proofs{}, &proofs{} })
	want := []struct {
		prefix string
		scope  keys.Scope
	}{
		{"/v1", keys.ScopeChat}, {"/api/v1/gateway/keys", keys.ScopeKeysWrite}, {"/api/v1/gateway/models", keys.ScopeUsageRead},
		{"/api/v1/obs/", keys.ScopeUsageRead}, {"/api/v1/billing/", keys.ScopeBillingRead}, {"/api/v1/audit", keys.ScopeBillingRead},
		{"/api/v1/webhooks", keys.ScopeWebhooksWrite}, {"/api/v1/events", keys.ScopeIngest}, {"/admin/v1/", keys.ScopeAdmin}, {"/", ""},
	}
	for _, op := range readDocument(t, r.get("/openapi.json", "").body).operations {
		i := slices.IndexFunc(want, func(w struct {
			prefix string
			scope  keys.Scope
		}) bool {
			return strings.HasPrefix(op.path, w.prefix)
		})
		if op.scope() != want[i].scope {
			t.Errorf("%s %s needs %q, want %q", op.method, op.path, op.scope(), want[i].scope)
		}
	}
}

func fill(path string, value func(name string) string) string {
	return pathParam.ReplaceAllStringFunc(path, func(m string) string { return value(strings.Trim(m, "{}")) })
}

// TestTenantsAreWalls: every route with an id in its path, query or body, asked
// for the id of another org, answers as it does for one that does not exist.
func TestTenantsAreWalls(t *testing.T) {
	r, x, other, invoice := fullRig(t)
	d := readDocument(t, r.get("/openapi.json", "").body)
	// acme has all of these; rival asks for them
	theirs := map[string]string{"key_id": x.key.ID.String(), "team_id": x.team.ID.String(), "invoice_id": invoice.String(), "n": "1",
		"credit_note_id": r.creditNoteOf(x, invoice).String(), "webhook_id": r.webhookOf(x)}
	tokens := map[keys.Scope]string{}
	for _, scope := range allScopes {
		tokens[scope] = r.token(other, scope)
	}
	asked := 0
	ask := func(op operation, what, path, body string) {
		t.Helper()
		asked++
		if a := r.send(op.method, path, tokens[op.scope()], body); a.status != http.StatusNotFound || a.body != `{"detail":"not found"}` {
			t.Errorf("%s with another org's %s = %d %s", op.OperationID, what, a.status, a.body)
		}
	}
	for _, op := range d.operations {
		if op.scope() == keys.ScopeAdmin {
			continue // an operator is nobody's tenant
		}
		body := ""
		if schema, ok := op.takes(); ok {
			for name := range d.resolve(schema).Properties {
				if id, ok := theirs[name]; ok {
					ask(op, name+" in the body", op.path, `{"name":"x","`+name+`":"`+id+`"}`)
				}
			}
			body = `{"name":"x"}`
		}
		if slices.ContainsFunc(pathParam.FindAllString(op.path, -1), func(name string) bool { return name != "{model}" }) { // models are everybody's
			ask(op, "path", fill(op.path, func(name string) string {
				if theirs[name] == "" {
					t.Fatalf("%s: the matrix has no %s of another org", op.OperationID, name)
				}
				return theirs[name]
			}), body)
		}
		for _, p := range op.Parameters {
			if p.In == "query" && p.Schema.Format == "uuid" {
				ask(op, p.Name, op.path+"?"+p.Name+"="+theirs[p.Name], body)
			}
		}
	}
	if asked < 10 {
		t.Errorf("only %d routes take an id", asked)
	}
	if k := must(r.keys.Get(x.org.ID, x.key.ID)); k.Disabled || k.Name != "chat" {
		t.Errorf("another org changed the key: %+v", k)
	}
}

// TestMassAssignment: what a body does not name in the document is refused, and
// first of all what only the platform may set.
func TestMassAssignment(t *testing.T) {
	r, x, other, invoice := fullRig(t)
	d := readDocument(t, r.get("/openapi.json", "").body)
	ids := map[string]string{"key_id": x.key.ID.String(), "team_id": x.team.ID.String(), "org_id": x.org.ID.String(), "invoice_id": invoice.String(), "code": "AIONE", "webhook_id": r.webhookOf(x)}
	bodies := 0
	for _, op := range d.operations {
		schema, ok := op.takes()
		if !ok || d.resolve(schema).AnyMember == true {
			continue // nothing to set, or all of it is the provider's
		}
		bodies++
		token := r.token(x, op.scope())
		known := d.resolve(schema).Properties
		for _, field := range []string{
			"id", "org_id", "key", "key_prefix", "status", "scopes", "created_at", "version", "secret", "hash", "deleted", "rotate_grace_until", "Name", "ORG_ID", "__proto__", "",
		} {
			if _, ok := known[field]; ok {
				t.Errorf("%s takes %s", op.OperationID, field)
			}
			body := fmt.Sprintf(`{"name":"x",%q:%q}`, field, other.org.ID)
			a := r.send(op.method, fill(op.path, func(name string) string { return ids[name] }), token, body)
			if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, fmt.Sprintf(`{"loc":["body",%q],"msg":"there is no such member","type":"extra_forbidden"}`, field)) {
				t.Errorf("%s with %s = %d %s", op.OperationID, body, a.status, a.body)
			}
		}
	}
	if bodies < 5 {
		t.Errorf("only %d routes take a body", bodies)
	}
}

// TestNoSecretLeaks sends secrets to every place of every route and looks for
// them in the log and in what is answered.
func TestNoSecretLeaks(t *testing.T) {
	r, x, _, _ := fullRig(t)
	d := readDocument(t, r.get("/openapi.json", "").body)
	typed := "sk-nex-" + strings.Repeat("Q7", 24) + "z" // somebody's key, in a wrong place
	secrets := []string{typed, x.token, x.ingest, x.chat}
	var answers strings.Builder
	look := func(a answer) {
		answers.WriteString(a.body)
		for name, values := range a.header {
			if name != "Link" { // the client's own question, with another page
				fmt.Fprintln(&answers, name, values)
			}
		}
	}
	for _, op := range d.operations {
		token := x.token
		if scope := op.scope(); scope != "" {
			token = r.token(x, scope)
		}
		secrets = append(secrets, token)
		path := fill(op.path, func(string) string { return typed })
		look(r.send(op.method, path, token, ""))
		for _, p := range op.Parameters {
			if p.In == "query" {
				look(r.send(op.method, fill(op.path, func(string) string { return uuid.NewString() })+"?"+p.Name+"="+typed, token, ""))
			}
		}
		look(r.send(op.method, path, typed, `{"name":"`+typed+`"}`))
		look(r.send(op.method, path, token, `{"name":["`+typed+`"],"models_allowed":["`+typed+`"],"model":"`+typed+`","timezone":"`+typed+`","input":"`+typed+`","expires_at":"`+typed+`"}`))
		look(r.send(op.method, path, token, `"`+typed+`"`, "Idempotency-Key", typed))
		look(r.do(op.method, path, token, `[{"id":"`+token, "Content-Type", eventBatchType))
	}
	keysToken := r.token(x, keys.ScopeKeysWrite)
	made := r.send("POST", keysPath, keysToken, `{"name":"new"}`)
	var k keyResponse
	made.into(t, &k)
	rotated := r.send("PUT", keysPath+"/"+k.ID.String()+"/rotate", keysToken, "")
	var again keyRotateResponse
	rotated.into(t, &again)
	secrets = append(secrets, keysToken, *k.Key, again.Key)
	look(r.get(keysPath, keysToken))
	look(r.get("/metrics", ""))
	for _, secret := range secrets {
		if strings.Contains(r.logged.String(), secret) {
			t.Errorf("%s is in the log", keys.Mask(secret))
		}
		if i := strings.Index(answers.String(), secret); i >= 0 {
			t.Errorf("%s is in an answer: …%s…", keys.Mask(secret), answers.String()[max(0, i-200):i+20])
		}
	}
	if len(secrets) < 20 {
		t.Errorf("only %d secrets were sent", len(secrets))
	}
}
