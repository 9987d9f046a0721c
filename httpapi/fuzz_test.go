package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"aione/keys"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// asked is a request that the fuzzer made, and what it knows of it.
type asked struct {
	op      operation
	path    string
	query   []string
	headers http.Header
	body    string

	broken  map[string]bool // "query.page": certainly wrong, and must be named
	unknown bool            // it asks for an id that does not exist
	garbage bool            // the body is no object at all
}

func (a *asked) breaks(in, name string) { a.broken[in+"."+name] = true }

func (a *asked) String() string {
	return fmt.Sprintf("%s %s?%s %v %.300q, wrong is %v", a.op.method, a.path, strings.Join(a.query, "&"), a.headers, a.body, a.broken)
}

// fuzzer makes requests out of the document, right ones and wrong ones.
type fuzzer struct {
	document apiDocument
	ids      map[string]string // of the caller's org, by the name of the parameter
}

var huge = strings.Repeat("9", 5000)

func pick(t *rapid.T, label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(t, label)
}

// right is a text that a schema takes.
func (f *fuzzer) right(t *rapid.T, name string, s documentSchema) string {
	kind, _ := typesOf(s)
	switch {
	case f.ids[name] != "":
		return f.ids[name]
	case len(s.Enum) > 0:
		return pick(t, name, s.Enum...)
	case s.Format == "uuid":
		return uuid.NewString()
	case s.Format == "date":
		return pick(t, name, "2026-11-01", "2026-11-15", "2026-10-31", "2020-02-29")
	case s.Format == "date-time":
		return pick(t, name, "2026-11-01T00:00:00Z", "2027-03-01T08:00:00.123+08:00", "2026-10-31T15:59:59Z")
	case s.Pattern == `^[A-Z]{3}$`:
		return pick(t, name, "CNY", "USD", "XXX")
	case s.Pattern == patterns["price"]:
		return pick(t, name, "0", "12.5", "0.000001", "999999999.999999")
	case s.Pattern != "":
		return rapid.StringMatching(s.Pattern).Draw(t, name)
	case kind == "integer":
		least, most := int64(0), int64(1000)
		if s.Minimum != nil {
			least = int64(*s.Minimum)
		}
		if s.Maximum != nil {
			most = int64(*s.Maximum)
		}
		return fmt.Sprint(rapid.Int64Range(least, most).Draw(t, name))
	case kind == "number":
		return pick(t, name, "0", "0.7", "1", "1e-3")
	case name == "model":
		return pick(t, name, "gpt-4o", "haiku-4-5", "claude-haiku-4-5", "dollar-model", "gpt-4o ", "名前", "..")
	case name == "n":
		return "1"
	case name == "code":
		return pick(t, name, "0", "7")
	}
	return pick(t, name, "gpt-4o", "UTC", "a b", "名前", "Ω≈ç", "10.0.0.1", "2001:db8::/32", "=1+1", "'; DROP TABLE usage; --", `\"{}%s`)
}

// wrong is a text that a schema does not take, however lenient; false if there is none.
func (f *fuzzer) wrong(t *rapid.T, name string, s documentSchema) (string, bool) {
	values := []string{"\xff\xfe", "a\x00b", huge}
	switch {
	case s.Type == "integer":
		values = append(values, "x", "1.5", "-", "1e3", "0x10", " 1", "NaN", "-99999999999999999999")
		if s.Minimum != nil {
			values = append(values, fmt.Sprint(int64(*s.Minimum)-1))
		}
		if s.Maximum != nil {
			values = append(values, fmt.Sprint(*s.Maximum)+"0")
		}
	case s.Format == "uuid":
		values = append(values, "7", strings.ReplaceAll(uuid.NewString(), "-", ""), "{"+uuid.NewString()+"}", uuid.NewString()+"0")
	case s.Format == "date":
		values = append(values, "2026-02-30", "yesterday", "2026-1-1", "1999-12-31", "99999-01-01")
	case s.Format == "date-time":
		values = append(values, "2026-11-15", "yesterday", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z")
	case len(s.Enum) > 0:
		values = append(values, "none of them", strings.ToUpper(s.Enum[0]), s.Enum[0]+" ")
	case s.Pattern != "":
		values = append(values, "-", "a b", "1e9", "%")
	}
	return pick(t, name, values...), true
}

// query draws the parameters of the query.
func (f *fuzzer) query(t *rapid.T, a *asked) {
	for _, p := range a.op.Parameters {
		if p.In != "query" {
			continue
		}
		s := p.Schema
		repeatable := s.Items != nil
		if repeatable {
			s = *s.Items
		}
		add := func(v string) { a.query = append(a.query, p.Name+"="+url.QueryEscape(v)) }
		switch rapid.IntRange(0, 9).Draw(t, p.Name+" is") {
		case 0, 1, 2, 3, 4: // not there
			if p.Required && rapid.Bool().Draw(t, p.Name+" is required") {
				add(f.right(t, p.Name, s))
			}
		case 5:
			a.query = append(a.query, p.Name) // without a value: as if not there
		case 6, 7:
			add(f.right(t, p.Name, s))
		case 8:
			if v, ok := f.wrong(t, p.Name, s); ok {
				add(v)
				a.breaks("query", p.Name)
			}
		case 9:
			v := f.right(t, p.Name, s)
			add(v)
			add(v)
			if !repeatable {
				a.breaks("query", p.Name)
			}
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "stranger") == 0 {
		a.query = append(a.query, "org_id="+uuid.NewString()) // ignored
	}
}

func (f *fuzzer) paths(t *rapid.T, a *asked) {
	schemas := map[string]documentSchema{}
	for _, p := range a.op.Parameters {
		if p.In == "path" {
			schemas[p.Name] = p.Schema
		}
	}
	a.path = fill(a.op.path, func(name string) string {
		switch rapid.IntRange(0, 5).Draw(t, name+" is") {
		case 0:
			a.breaks("path", name)
			if schemas[name].Type == "string" && schemas[name].Format == "" {
				return pick(t, name, "%FF%FE", "%00", "a%20b", huge, "..%5C..", "é", "Ab")
			}
			return pick(t, name, "x", "-1", "0", "%FF%FE", "%00", "a%20b", huge, "null", "..%5C..", "urn:uuid:"+uuid.NewString())
		case 1:
			a.unknown = true
			switch {
			case schemas[name].Type == "integer":
				return "77"
			case schemas[name].Format == "":
				return pick(t, name, "7777777", "0000")
			}
			return uuid.NewString()
		}
		return url.PathEscape(f.right(t, name, schemas[name]))
	})
}

// json draws a JSON value for a schema; ok is whether the schema takes it.
func (f *fuzzer) json(t *rapid.T, name string, s documentSchema) (value string, ok bool) {
	s = f.document.resolve(s)
	types, nullable := typesOf(s)
	mode := rapid.IntRange(0, 19).Draw(t, name+" is")
	if mode == 0 {
		return "null", nullable
	}
	wrongType := func(not ...string) string {
		all := map[string]string{"string": `"text"`, "integer": "7.5", "boolean": "true", "array": `[{"a":[1]}]`, "object": `{"a":1}`}
		kinds := slices.DeleteFunc([]string{"string", "integer", "boolean", "array", "object"}, func(k string) bool { return slices.Contains(not, k) })
		return all[pick(t, name+" type", kinds...)]
	}
	if mode == 1 {
		return wrongType(types), false
	}
	switch types {
	case "string":
		if mode == 2 && (s.Format != "" || s.Pattern != "" || len(s.Enum) > 0 || s.MaxLength != nil) {
			v, _ := f.wrong(t, name, s)
			return quote(v), v == "a b" && s.Pattern == ""
		}
		return quote(f.right(t, name, s)), true
	case "integer":
		if mode == 2 {
			return pick(t, name, "-1", "99999999999999999999", "1e3", "1.5", "-0.0"), false
		}
		return f.right(t, name, s), true
	case "number":
		if mode == 2 {
			return pick(t, name, "-1", "1e999", "99999999999999999999", "-0.0"), false
		}
		return f.right(t, name, s), true
	case "boolean":
		return pick(t, name, "true", "false"), true
	case "array":
		if mode == 2 {
			return "[" + strings.Repeat(`"10.0.0.1",`, 5000) + `"10.0.0.1"]`, false
		}
		items := make([]string, rapid.IntRange(0, 3).Draw(t, name+" items"))
		ok = true
		for i := range items {
			item, itemOK := f.json(t, name, *s.Items)
			items[i], ok = item, ok && itemOK
		}
		return "[" + strings.Join(items, ",") + "]", ok
	case "object":
		ok = true
		var members []string
		for _, member := range slices.Sorted(keysOf(s.Properties)) {
			if rapid.IntRange(0, 5).Draw(t, member+" there") == 0 {
				ok = ok && !slices.Contains(s.Required, member)
				continue
			}
			value, memberOK := f.json(t, member, s.Properties[member])
			ok = ok && memberOK
			members = append(members, fmt.Sprintf("%q:%s", member, value))
		}
		return "{" + strings.Join(members, ",") + "}", ok
	}
	if len(s.Properties) > 0 || s.Ref != "" {
		var members []string
		members, ok = f.members(t, s, func(string) {})
		return "{" + strings.Join(members, ",") + "}", ok
	}
	if right := objects[name]; len(right) > 0 && mode != 2 {
		return pick(t, name, right...), true
	}
	return pick(t, name, `{}`, `{"a":1}`, `{"role":7,"content":[{"type":"text","text":{}}]}`, strings.Repeat(`{"a":`, 2000)+"1"+strings.Repeat("}", 2000)), false
}

// objects are right ones where the document says no more of them.
var objects = map[string][]string{
	"messages": {`{"role":"user","content":"hello"}`, `{"role":"user","content":[{"type":"text","text":"hello"}]}`, `{"role":"assistant","content":"\ud83d\ude00"}`},
	"contents": {`{"role":"user","parts":[{"text":"hello"}]}`, `{"parts":[{"text":"Ω"}]}`},
	"tools":    {`{"type":"function","function":{"name":"f"}}`, `{"name":"f","input_schema":{"type":"object"}}`, `{"functionDeclarations":[{"name":"f"}]}`},
}

// quote keeps bytes that are no UTF-8 as they are.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", `\u0000`).Replace(text) + `"`
}

func typesOf(s documentSchema) (name string, nullable bool) {
	switch t := s.Type.(type) {
	case string:
		return t, false
	case []any:
		return t[0].(string), true
	}
	return "object", false
}

// payload draws a body: mostly an object as in the document, with a few members
// wrong, missing or too many.
func (f *fuzzer) payload(t *rapid.T, a *asked, s documentSchema) {
	a.headers.Set("Content-Type", jsonType)
	if rapid.IntRange(0, 9).Draw(t, "garbage") == 0 {
		a.garbage = true
		a.body = pick(t, "body", "", "null", "[]", "7", `"x"`, "{", `{"name":}`, "\xff", `{"a":1,"a":2}`, "{}{}", strings.Repeat("[", 20000), `{"\ud800":1}`)
		return
	}
	members, _ := f.members(t, s, func(name string) { a.breaks("body", name) })
	if rapid.IntRange(0, 5).Draw(t, "stranger") == 0 {
		name := pick(t, "stranger", "org_id", "id", "status", "scopes", "NAME", "名", "")
		a.breaks("body", name)
		members = append(members, fmt.Sprintf("%q:1", name))
	}
	if rapid.IntRange(0, 9).Draw(t, "twice") == 0 && len(members) > 0 {
		members = append(members, members[0])
		a.garbage = true
	}
	a.body = "{" + strings.Join(members, ",") + "}"
	a.garbage = a.garbage || !utf8.ValidString(a.body)
}

// members draws those of an object; broken is told of each that is wrong or missing.
func (f *fuzzer) members(t *rapid.T, s documentSchema, broken func(name string)) (members []string, ok bool) {
	s, ok = f.document.resolve(s), true
	for _, name := range slices.Sorted(keysOf(s.Properties)) {
		there := rapid.IntRange(0, 5).Draw(t, name+" there") > 0
		value, right := "", there || !slices.Contains(s.Required, name)
		if there {
			value, right = f.json(t, name, s.Properties[name])
			members = append(members, fmt.Sprintf("%q:%s", name, value))
		}
		if !right {
			ok = false
			broken(name)
		}
	}
	return members, ok
}

func keysOf(m map[string]documentSchema) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (f *fuzzer) header(t *rapid.T, a *asked) {
	for _, p := range a.op.Parameters {
		if p.In != "header" {
			continue
		}
		switch rapid.IntRange(0, 5).Draw(t, p.Name+" is") {
		case 0:
			a.headers.Set(p.Name, pick(t, p.Name, strings.Repeat("k", 256), "schlüssel"))
			a.breaks("header", p.Name)
		case 1:
			a.headers[p.Name] = []string{"a", "a"}
			a.breaks("header", p.Name)
		case 2, 3:
			a.headers.Set(p.Name, uuid.NewString())
		}
	}
}

func (f *fuzzer) draw(t *rapid.T) *asked {
	a := &asked{headers: http.Header{}, broken: map[string]bool{}}
	ids := make([]string, len(f.document.operations))
	for i, op := range f.document.operations {
		ids[i] = op.OperationID
	}
	a.op = f.document.operations[slices.Index(ids, pick(t, "operation", ids...))]
	f.paths(t, a)
	f.query(t, a)
	f.header(t, a)
	if s, ok := a.op.takes(); ok {
		f.payload(t, a, s)
	} else if a.op.RequestBody != nil {
		a.headers.Set("Content-Type", pick(t, "media", eventBatchType, oneEventType, jsonType, ";;", "text/csv; a=\"\xff\""))
		a.body = pick(t, "body", eventExample, eventExample[1:len(eventExample)-1], "[]", "", "null", "[7,null,{}]", "\xff", strings.Repeat("[", 20000), strings.Replace(eventExample, "1000", huge, 1))
	}
	if rapid.IntRange(0, 3).Draw(t, "csv") == 0 {
		a.headers.Set("Accept", pick(t, "accept", "text/csv", "application/pdf", "*/*", ";;;", "\xff"))
	}
	return a
}

// judge holds an answer against what is known of the request.
func (f *fuzzer) judge(t *rapid.T, a *asked, status int, body string) {
	if gatewayRoot(a.op.path) != "" {
		// The gateway looks at no more of a request than it must: the rest is the
		// provider's. What it refuses is a 400, in the dialect's own words.
		// A model priced in a currency that the org does not pay in is a 503.
		priced := status != http.StatusServiceUnavailable || !strings.Contains(body, "dollar-model")
		if priced && status != http.StatusOK && status != http.StatusBadRequest && status != http.StatusNotFound || a.garbage && status == http.StatusOK {
			t.Fatalf("%s\n= %d %.600s", a, status, body)
		}
		return
	}
	if status >= 500 {
		t.Fatalf("%s\n= %d %s", a, status, body)
	}
	certain := len(a.broken) > 0 || a.garbage
	if certain && status != http.StatusUnprocessableEntity && !(a.unknown && status == http.StatusNotFound) {
		t.Fatalf("%s\n= %d %.600s, want a 422", a, status, body)
	}
	if _, structured := a.op.takes(); status != http.StatusUnprocessableEntity || a.op.RequestBody != nil && !structured {
		return
	}
	var no struct {
		Detail []struct {
			Loc []any `json:"loc"`
		} `json:"detail"`
	}
	if err := json.Unmarshal([]byte(body), &no); err != nil || len(no.Detail) == 0 {
		t.Fatalf("%s\n= %d %s: %v", a, status, body, err)
	}
	for _, d := range no.Detail {
		at := fmt.Sprint(d.Loc[0])
		if len(d.Loc) > 1 {
			at += "." + fmt.Sprint(d.Loc[1])
		}
		if certain && !a.broken[at] && !(a.garbage && d.Loc[0] == "body") {
			t.Fatalf("%s\n= %d %.600s, which names %s", a, status, body, at)
		}
		if !certain && !a.has(f.document, at) {
			t.Fatalf("%s\n= %d %.600s, which names %s: there is no such thing", a, status, body, at)
		}
	}
}

// has reports whether the operation has a parameter or member.
func (a *asked) has(d apiDocument, at string) bool {
	for _, p := range a.op.Parameters {
		if p.In+"."+p.Name == at {
			return true
		}
	}
	if s, ok := a.op.takes(); ok {
		_, named := d.resolve(s).Properties[strings.TrimPrefix(at, "body.")]
		return named || at == "body"
	}
	return false
}

// TestFuzzedRequests: whatever is asked, the answer is no 5xx, is as the document
// says, and when something is wrong it says what.
func TestFuzzedRequests(t *testing.T) {
	r, x, _, invoice := fullRig(t)
	f := &fuzzer{document: readDocument(t, r.get("/openapi.json", "").body)}
	note := r.creditNoteOf(x, invoice)
	tokens := map[keys.Scope]string{}
	for _, scope := range allScopes {
		tokens[scope] = r.token(x, scope)
	}
	defer r.ingesting()() // what chat requests use is counted meanwhile
	client := &http.Client{Transport: r.server.Client().Transport.(*checked).next}
	contract := r.server.Client().Transport.(*checked).contract
	statuses := map[int]int{}
	rapid.Check(t, func(t *rapid.T) {
		for range 5 {
			k, _, err := r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, Name: "fuzz", Actor: "test"})
			if err != nil {
				t.Fatal(err)
			}
			f.ids = map[string]string{"key_id": k.ID.String(), "team_id": x.team.ID.String(), "invoice_id": invoice.String(), "org_id": x.org.ID.String(), "credit_note_id": note.String(), "webhook_id": r.onlyWebhookOf(x), "n": "1"}
			a := f.draw(t)
			req, err := http.NewRequest(a.op.method, r.server.URL+a.path+"?"+strings.Join(a.query, "&"), strings.NewReader(a.body))
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			req.Header = a.headers
			if scope := a.op.scope(); scope != "" {
				req.Header.Set("Authorization", "Bearer "+tokens[scope])
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			statuses[resp.StatusCode]++
			f.judge(t, a, resp.StatusCode, string(body))
			for _, problem := range contract.check(req, resp, body) {
				t.Fatalf("%s\n= %d %.600s\nagainst the document: %s", a, resp.StatusCode, body, problem)
			}
		}
	})
	t.Log("answers by status:", statuses)
	if statuses[200] == 0 || statuses[422] == 0 || statuses[404] == 0 || statuses[400] == 0 {
		t.Errorf("the requests were one-sided: %v", statuses)
	}
}
