package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed reference.html
var referenceHTML string

//go:embed reference.css
var referenceCSS string

// referencePolicy lets the page have its own style sheet and nothing else: no
// script, no image, nothing from anywhere.
var referencePolicy = func() string {
	sum := sha256.Sum256([]byte(referenceCSS))
	return "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// referencePage writes the document as one HTML page that needs no other.
func referencePage(d *huma.OpenAPI, routes []route) ([]byte, error) {
	page := struct {
		Info *huma.Info
		CSS  template.CSS
		Tags []referenceTag
		// Models are the schemas, by name.
		Models []referenceModel
	}{Info: d.Info, CSS: template.CSS(referenceCSS)}
	for _, tag := range d.Tags {
		t := referenceTag{Name: tag.Name}
		for i := range routes {
			if routes[i].tag == tag.Name {
				t.Operations = append(t.Operations, newReferenceOperation(d, &routes[i]))
			}
		}
		page.Tags = append(page.Tags, t)
	}
	for name, schema := range d.Components.Schemas.Map() {
		text, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("httpapi: write the reference: schema %s: %w", name, err)
		}
		page.Models = append(page.Models, referenceModel{name, string(text)})
	}
	slices.SortFunc(page.Models, func(a, b referenceModel) int { return strings.Compare(a.Name, b.Name) })
	form, err := template.New("reference").Parse(referenceHTML)
	if err != nil {
		return nil, fmt.Errorf("httpapi: read the reference's template: %w", err)
	}
	var out bytes.Buffer
	if err := form.Execute(&out, page); err != nil {
		return nil, fmt.Errorf("httpapi: write the reference: %w", err)
	}
	return out.Bytes(), nil
}

type referenceTag struct {
	Name       string
	Operations []referenceOperation
}

type referenceModel struct{ Name, Schema string }

type referenceOperation struct {
	ID, Method, Path, Summary, Doc, Scope string
	Params                                []referenceParam
	Body                                  []referenceContent
	Answers                               []referenceAnswer
	Samples                               []sample
}

type referenceParam struct{ Name, In, Type, Doc string }

type referenceContent struct{ Media, Model string }

type referenceAnswer struct {
	Status   int
	Doc      string
	Contents []referenceContent
}

func newReferenceOperation(d *huma.OpenAPI, at *route) referenceOperation {
	op := operationOf(d, at)
	r := referenceOperation{
		ID: at.id, Method: at.method, Path: at.path, Summary: at.summary, Doc: at.doc, Scope: string(at.scope), Samples: at.samples(),
	}
	for _, p := range op.Parameters {
		r.Params = append(r.Params, referenceParam{p.Name, p.In, typeName(p.Schema), p.Description})
	}
	if op.RequestBody != nil {
		r.Body = contentsOf(op.RequestBody.Content)
	}
	for status, answer := range op.Responses {
		n, _ := strconv.Atoi(status) // describe wrote it
		r.Answers = append(r.Answers, referenceAnswer{n, answer.Description, contentsOf(answer.Content)})
	}
	slices.SortFunc(r.Answers, func(a, b referenceAnswer) int { return a.Status - b.Status })
	return r
}

func operationOf(d *huma.OpenAPI, at *route) *huma.Operation {
	item := d.Paths[at.path]
	switch at.method {
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodDelete:
		return item.Delete
	default:
		return item.Get
	}
}

func contentsOf(content map[string]*huma.MediaType) []referenceContent {
	var all []referenceContent
	for media, c := range content {
		all = append(all, referenceContent{media, typeName(c.Schema)})
	}
	slices.SortFunc(all, func(a, b referenceContent) int { return strings.Compare(a.Media, b.Media) })
	return all
}

// typeName says in a few words what a schema is.
func typeName(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, schemaPrefix)
	case s.Type == huma.TypeArray:
		return typeName(s.Items) + "[]"
	case len(s.AnyOf) > 0:
		var names []string
		for _, one := range s.AnyOf {
			names = append(names, typeName(one))
		}
		return strings.Join(names, " or ")
	}
	name := s.Type
	if s.Format != "" {
		name += " (" + s.Format + ")"
	}
	if len(s.Enum) > 0 {
		name += ": " + strings.Trim(fmt.Sprint(s.Enum), "[]")
	}
	if s.Minimum != nil && s.Maximum != nil {
		name += " from " + strconv.FormatInt(int64(*s.Minimum), 10) + " to " + strconv.FormatInt(int64(*s.Maximum), 10)
	}
	if s.Default != nil {
		name += ", default " + fmt.Sprint(s.Default)
	}
	return name
}

// reference serves GET /docs.
func (s *Server) reference(w http.ResponseWriter, _ *http.Request) error {
	page, err := s.page()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Security-Policy", referencePolicy)
	writeBytes(w, http.StatusOK, "text/html; charset=utf-8", page)
	return nil
}
