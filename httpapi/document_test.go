package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"aione/embedded"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/cache"
	"github.com/pb33f/libopenapi-validator/config"
)

// contract is a document that answers are held against, by a library that knows
// nothing of how it was made.
type contract struct {
	validator validator.Validator
	paths     map[string]map[string]json.RawMessage // path, then method
}

// Making a contract takes a while, mostly to compile schemas, of which most are in all
// documents.
var (
	contracts       sync.Map // *contract by the document's bytes
	compiledSchemas = cache.NewDefaultCache()
)

func contractOf(document []byte) (*contract, error) {
	if c, ok := contracts.Load(string(document)); ok {
		return c.(*contract), nil
	}
	parsed, err := libopenapi.NewDocument(document)
	if err != nil {
		return nil, err
	}
	model, err := parsed.BuildV3Model()
	if err != nil {
		return nil, err
	}
	c := &contract{validator: validator.NewValidatorFromV3Model(&model.Model, config.WithFormatAssertions(), config.WithSchemaCache(compiledSchemas))}
	var paths struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(document, &paths); err != nil {
		return nil, err
	}
	c.paths = paths.Paths
	contracts.Store(string(document), c)
	return c, nil
}

// checked is a client that holds every answer against the document.
type checked struct {
	t        testing.TB
	next     http.RoundTripper
	contract *contract
}

func (c *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil || resp.StatusCode == http.StatusTeapot { // a test's own gateway
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	again := func() io.ReadCloser { return io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err})) }
	resp.Body = again()
	if err == nil {
		for _, problem := range c.contract.check(r, resp, body) {
			c.t.Errorf("%s %.200s = %d %.600s\nagainst the document: %s", r.Method, r.URL, resp.StatusCode, body, problem)
		}
	}
	resp.Body = again()
	return resp, nil
}

// failing ends a body the way it ended.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

func (c *contract) check(r *http.Request, resp *http.Response, body []byte) (problems []string) {
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := resp.Header.Get(name); !strings.Contains(got, want) {
			problems = append(problems, name+" is "+got)
		}
	}
	if resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
		problems = append(problems, "a 401 without WWW-Authenticate")
	}
	if r.Method == http.MethodHead {
		return problems
	}
	if !c.knows(r.Method, r.URL.Path) {
		var no struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(body, &no) != nil || no.Detail == "" || resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			problems = append(problems, "no operation answers this")
		}
		return problems
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if ok, errs := c.validator.ValidateHttpResponse(r, resp); !ok {
		for _, e := range errs {
			text := e.Message + ": " + e.Reason
			for _, s := range e.SchemaValidationErrors {
				text += "; " + s.FieldPath + " " + s.Reason
			}
			problems = append(problems, text)
		}
	}
	return problems
}

// knows reports whether the document has an operation for a request.
func (c *contract) knows(method, path string) bool {
	for template, item := range c.paths {
		if _, ok := item[strings.ToLower(method)]; ok && pathMatches(template, path) {
			return true
		}
	}
	return false
}

func pathMatches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && (!strings.HasPrefix(want[i], "{") || got[i] == "") {
			return false
		}
	}
	return true
}

// TestDocumentIsOpenAPI holds the document against the schema of OpenAPI 3.1
// itself, and the routes against the document.
func TestDocumentIsOpenAPI(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) { c.Gateway, c.Audits, c.Lines = http.NotFoundHandler(), &proofs{}, &proofs{} })
	a := r.get("/openapi.json", "")
	parsed := must(libopenapi.NewDocument([]byte(a.body)))
	v, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, problems := v.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("%s: %s %v", p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
	s := must(New(r.config))
	ids := map[string]bool{}
	for _, at := range s.table() {
		if ids[at.id] || at.id == "" || at.tag == "" || at.summary == "" {
			t.Errorf("%s %s: the operation id %q is not unique, or it is not described", at.method, at.path, at.id)
		}
		ids[at.id] = true
		if at.elsewhere {
			continue
		}
		if (at.scope == "") != (at.serve == nil) || (at.scope == "") == (at.open == nil) {
			t.Errorf("%s %s: a handler for callers goes with a scope, one for anybody with none", at.method, at.path)
		}
		if at.scope == "" && (strings.HasPrefix(at.path, "/api/") || strings.HasPrefix(at.path, "/admin/")) {
			t.Errorf("%s %s serves anybody", at.method, at.path)
		}
	}
	if other := r.get("/openapi.json", ""); other.body != a.body {
		t.Error("the document changes from one answer to the next")
	}
	if again := must(New(r.config)); !bytes.Equal(must(again.document()), must(s.document())) {
		t.Error("the document changes from one start to the next")
	}
}

// TestContractNotices: the check that every answer of every test goes through
// does find what is wrong.
func TestContractNotices(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	c := must(contractOf(must(must(New(r.config)).document())))
	const invoice = `{"id":"497f6eca-6276-4993-bfeb-53cbbbba6f08","invoice_no":"","org_id":"a40f5d1f-d889-42e9-94ea-b9b33585fc6b","period_start":"2019-08-24",` +
		`"period_end":"2019-08-24","total":"1.00","status":"issued","due_date":"2019-08-24","created_at":"2019-08-24T14:15:22.123Z"}`
	for _, x := range []struct {
		path, body, media string
		status            int
		good              bool
	}{
		{"/api/v1/billing/invoices", "[" + invoice + "]", jsonType, 200, true},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `"1.00"`, `1.00`, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `"1.00"`, `"1e3"`, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `2019-08-24"`, `2019-08-32"`, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `"497f6eca-`, `"497f6ec`, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `"issued"`, `"lost"`, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `"invoice_no":"",`, ``, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", "[" + strings.Replace(invoice, `{`, `{"secret":"x",`, 1) + "]", jsonType, 200, false},
		{"/api/v1/billing/invoices", invoice, jsonType, 200, false},
		{"/api/v1/billing/invoices", "[]", "text/html", 200, false},
		{"/api/v1/billing/invoices", "[]", jsonType, 201, false},
		{"/api/v1/billing/invoices", `{"detail":"no"}`, jsonType, 422, false},
		{"/api/v1/billing/invoices", `{"detail":[{"loc":["query",1],"msg":"m","type":"t"}]}`, jsonType, 422, true},
		{"/api/v1/billing/invoices", `{"detail":[{"loc":["query",null],"msg":"m","type":"t"}]}`, jsonType, 422, false},
		{"/api/v1/nothing", `{"detail":"not found"}`, jsonType, 404, true},
		{"/api/v1/nothing", `[]`, jsonType, 200, false},
	} {
		req := must(http.NewRequest("GET", "http://localhost"+x.path, nil))
		resp := &http.Response{StatusCode: x.status, Header: http.Header{"Content-Type": {x.media}, "X-Content-Type-Options": {"nosniff"},
			"X-Frame-Options": {"DENY"}, "Referrer-Policy": {"no-referrer"}, "Cache-Control": {"no-store"}}}
		if problems := c.check(req, resp, []byte(x.body)); (len(problems) == 0) != x.good {
			t.Errorf("%s %d %s: %v", x.path, x.status, x.body, problems)
		}
	}
}

// TestReference: the page for people needs nothing but itself, and shows how to
// call each route; the examples of bodies are good ones.
func TestReference(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) { c.Gateway = http.NotFoundHandler() })
	a := r.get("/docs", "")
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("docs = %d %v", a.status, a.header)
	}
	for _, no := range []string{"<script", "<img", "<link", "src=", "http://", "https://", "@import", "url("} {
		if strings.Contains(a.body, no) {
			t.Errorf("the page has %s", no)
		}
	}
	s := must(New(r.config))
	if !strings.Contains(a.body, "<style>"+referenceCSS+"</style>") {
		t.Error("the style sheet is not the one that the policy allows")
	}
	routes := s.table()
	for i := range routes {
		at := &routes[i]
		if samples := at.samples(); len(samples) != 4 || !strings.Contains(a.body, `id="`+at.id+`"`) {
			t.Errorf("%s is not on the page", at.id)
		}
		if at.takesBody() && at.body.example == "" {
			t.Errorf("%s takes a body, and has no example of one", at.id)
		}
		if at.body.of == nil {
			continue
		}
		check := bodyCheck{schemas: s.schemas}
		check.value(s.schemas.of(at.body.of), []byte(at.body.example), []any{"body"})
		if len(check.problems) > 0 && !at.elsewhere {
			t.Errorf("the example of %s is wrong: %v", at.id, check.problems)
		}
	}
}

// The document and its page are written when they are first asked for, maybe at once.
func TestDocumentAskedForAtOnce(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	s := must(New(r.config))
	var asked sync.WaitGroup
	for range 4 {
		for path, is := range map[string]string{"/openapi.json": `"openapi": "3.1.0"`, "/docs": "<!doctype html>"} {
			asked.Go(func() {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if w.Code != http.StatusOK || !strings.Contains(strings.ToLower(w.Body.String()), is) {
					t.Errorf("%s: %d, %.100s", path, w.Code, w.Body)
				}
			})
		}
	}
	asked.Wait()
}
