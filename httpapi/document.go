package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"aione/events"

	"github.com/danielgtaylor/huma/v2"
)

const textBytesMax = events.MaxTextBytes

// Version of the API, as the document has it.
const apiVersion = "1.0.0"

const jsonType = "application/json"

// describe makes the OpenAPI 3.1 document of a table of routes, and the schemas
// that its bodies are held against.
func describe(routes []route) (*huma.OpenAPI, schemas) {
	made := newSchemas()
	d := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "AIone API", Version: apiVersion, Description: "An LLM API platform whose bill can be proven. " +
			"Money is a decimal string, dates are YYYY-MM-DD, instants RFC 3339 in UTC, ids UUIDs. A token needs the scope that a route names."},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{Schemas: made.Registry, SecuritySchemes: map[string]*huma.SecurityScheme{
			"token": {Type: "http", Scheme: "bearer", Description: "An API key (sk-nex-…) has the scope chat, a management token (tk-nex-…) those it was made with."},
		}},
	}
	for i := range routes {
		at := &routes[i]
		if !slices.ContainsFunc(d.Tags, func(t *huma.Tag) bool { return t.Name == at.tag }) {
			d.Tags = append(d.Tags, &huma.Tag{Name: at.tag})
		}
		d.AddOperation(at.operation(made))
	}
	made.finish()
	return d, made
}

func (at *route) operation(made schemas) *huma.Operation {
	op := &huma.Operation{
		Method: at.method, Path: at.path, OperationID: at.id, Tags: []string{at.tag}, Summary: at.summary, Description: at.doc,
		Security:  []map[string][]string{}, // nobody must show anything, unless
		Responses: map[string]*huma.Response{},
	}
	if at.scope != "" {
		op.Security = append(op.Security, map[string][]string{"token": {string(at.scope)}})
	}
	for _, name := range at.pathNames() {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: pathSchema(name)})
	}
	for _, p := range at.params {
		in := &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: p.schema(), Required: p.required, AllowEmptyValue: !p.required}
		if p.header {
			in.In, in.AllowEmptyValue = "header", false
		}
		op.Parameters = append(op.Parameters, in)
	}
	if at.takesBody() {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
		for _, c := range at.body.contents() {
			op.RequestBody.Content[c.media] = &huma.MediaType{Schema: made.of(c.of)}
		}
	}
	at.describeSuccess(op, made)
	for _, no := range at.allRefusals() {
		response := &huma.Response{Description: cmp.Or(no.doc, http.StatusText(no.status)), Headers: requestIDHeaders(),
			Content: map[string]*huma.MediaType{jsonType: {Schema: no.schema(made)}}}
		if no.status == http.StatusServiceUnavailable || no.status == http.StatusTooManyRequests {
			response.Headers["Retry-After"] = integerHeader("Seconds after which to try again.")
		}
		op.Responses[strconv.Itoa(no.status)] = response
	}
	op.Extensions = map[string]any{"x-codeSamples": at.samples()}
	return op
}

func (b body) contents() []content {
	if b.of != nil {
		return []content{{jsonType, b.of}}
	}
	return b.media
}

func (at *route) describeSuccess(op *huma.Operation, made schemas) {
	yes := &huma.Response{Description: http.StatusText(at.answer.code()), Headers: requestIDHeaders()}
	contents := at.answer.other
	if at.answer.of != nil {
		contents = append([]content{{jsonType, at.answer.of}}, contents...)
	}
	for _, c := range contents {
		if yes.Content == nil {
			yes.Content = map[string]*huma.MediaType{}
		}
		yes.Content[c.media] = &huma.MediaType{Schema: made.of(c.of)}
	}
	if at.answer.counted {
		yes.Headers[countedThroughHeader] = textHeader("When the last usage counted was written; absent before the first.")
		yes.Headers[countedSeqHeader] = integerHeader("Its sequence in the organisation's stream.")
		yes.Headers[behindHeader] = textHeader("How many envelopes in the stream are not counted yet; unknown if nobody can tell now.")
	}
	if at.answer.replayed {
		yes.Headers[replayedHeader] = textHeader("true if the request was carried out before, and nothing was done now.")
	}
	if at.answer.paged {
		yes.Headers["X-Total-Count"] = integerHeader("How many there are in all.")
		yes.Headers["Link"] = textHeader("first, prev, next and last page (RFC 8288).")
	}
	op.Responses[strconv.Itoa(at.answer.code())] = yes
}

func requestIDHeaders() map[string]*huma.Param {
	return map[string]*huma.Param{requestIDHeader: {Description: "Names the request in our logs.", Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"}}}
}

func textHeader(doc string) *huma.Param {
	return &huma.Param{Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}

func integerHeader(doc string) *huma.Param {
	return &huma.Param{Description: doc, Schema: &huma.Schema{Type: huma.TypeInteger}}
}

// allRefusals are those of the table and those that follow from it.
func (at *route) allRefusals() []refusal {
	if at.elsewhere {
		return at.refusals
	}
	all := slices.Clone(at.refusals)
	add := func(status int, doc string) {
		if !slices.ContainsFunc(all, func(no refusal) bool { return no.status == status }) {
			all = append(all, refusal{status: status, doc: doc})
		}
	}
	if at.scope != "" {
		add(http.StatusUnauthorized, "There is no token, or none of ours.")
		add(http.StatusForbidden, fmt.Sprintf("The token is disabled, or does not have the scope %s.", at.scope))
		add(http.StatusServiceUnavailable, "There is no answer now; the same request can be sent again.")
	}
	if at.scope != "" {
		add(http.StatusTooManyRequests, "The organisation sends too many requests at once, or too many like this one.")
	}
	if len(at.pathNames()) > 0 {
		add(http.StatusNotFound, "There is none, or it is another organisation's.")
	}
	if at.takesBody() {
		add(http.StatusBadRequest, "The body could not be read to its end.")
		add(http.StatusRequestEntityTooLarge, "The body is too large.")
		add(http.StatusUnsupportedMediaType, "The body is of another media type.")
	}
	if at.refusable() {
		add(http.StatusUnprocessableEntity, "Validation Error")
	}
	add(http.StatusInternalServerError, "A fault of ours.")
	return all
}

// schema is the form of a refusal: what is invalid is said in the published way.
func (no refusal) schema(made schemas) *huma.Schema {
	if no.instead != nil {
		return made.of(no.instead)
	}
	var plain any = detailAnswer{}
	if no.status == http.StatusUnprocessableEntity {
		plain = validationAnswer{}
	}
	if no.of == nil {
		return made.of(plain)
	}
	return &huma.Schema{AnyOf: []*huma.Schema{made.of(plain), made.of(no.of)}}
}

// marshal makes the document's bytes, the same for the same table.
func marshal(d *huma.OpenAPI) ([]byte, error) {
	b, err := d.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("httpapi: write the OpenAPI document: %w", err)
	}
	var pretty bytes.Buffer
	err = json.Indent(&pretty, b, "", "  ")
	return pretty.Bytes(), err
}

// openapi serves GET /openapi.json.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) error {
	document, err := s.document()
	if err != nil {
		return err
	}
	writeBytes(w, http.StatusOK, jsonType, document)
	return nil
}
