package httpapi

import (
	"reflect"
	"strings"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// An array of ours is never null: huma has no other way to be told.
func init() { huma.DefaultArrayNullable = false }

const schemaPrefix = "#/components/schemas/"

// published are the names that the published pages give to types of ours; others
// are called as in Go.
var published = map[string]string{
	"dashboardAnswer":   "DashboardResponse",
	"techDashboard":     "TechDashboardData",
	"businessDashboard": "BusinessDashboardData",
	"modelShare":        "ModelDistribution",
	"teamCost":          "TeamCostItem",
	"invoiceSummary":    "InvoiceListResponse", // a member of the list: the list itself is a bare array
	"invoiceDetail":     "InvoiceDetailResponse",
	"eventsAnswer":      "EventsResponse",
	"rejected":          "RejectedEvent",
	"validationAnswer":  "HTTPValidationError",
	"problem":           "ValidationError",
	"detailAnswer":      "ErrorResponse",
}

func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := t.Name()
	if name == "" {
		name = hint
	}
	if as, ok := published[name]; ok {
		return as
	}
	if name == "" {
		return ""
	}
	return string(unicode.ToUpper(rune(name[0]))) + name[1:]
}

// uuidText makes huma say that a UUID is one.
type uuidText string

// Schema implements huma.SchemaProvider.
func (uuidText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid"}
}

// Forms of text that JSON Schema has no format for.
var patterns = map[string]string{
	"decimal":    `^-?[0-9]+(\.[0-9]+)?$`,
	"percentage": `^[0-9]+\.[0-9]{2}$`,
	"price":      `^[0-9]{1,9}(\.[0-9]{1,6})?$`,
}

// schemas makes schemas of Go types.
type schemas struct{ huma.Registry }

func newSchemas() schemas {
	r := huma.NewMapRegistry(schemaPrefix, schemaName)
	r.RegisterTypeAlias(reflect.TypeFor[uuid.UUID](), reflect.TypeFor[uuidText]())
	return schemas{r}
}

// of is the schema of a value's type: a reference if it is a struct. Of nil it is
// that of anything.
func (s schemas) of(v any) *huma.Schema {
	if v == nil {
		return &huma.Schema{Type: huma.TypeString}
	}
	return s.Schema(reflect.TypeOf(v), true, "")
}

// finish says what Go's types cannot.
func (s schemas) finish() {
	all := s.Map()
	for _, schema := range all {
		for _, p := range schema.Properties {
			finishSchema(p)
		}
	}
	if e := all["ValidationError"]; e != nil {
		e.Properties["loc"].Items = &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeInteger}}}
	}
	if d := all["DashboardResponse"]; d != nil {
		d.Properties["tech"] = orNull(d.Properties["tech"])
		d.Properties["business"] = orNull(d.Properties["business"])
	}
}

func finishSchema(s *huma.Schema) {
	if s.Items != nil {
		finishSchema(s.Items)
	}
	if pattern, ok := patterns[s.Format]; ok {
		s.Pattern = pattern
	}
	if s.Type == huma.TypeInteger && s.Format == "int32" {
		s.Format = "int64" // ours are unsigned, and take the 32nd bit
	}
}

func orNull(s *huma.Schema) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{s, {Type: "null"}}}
}

// schema is what a query parameter or header must be.
func (of param) schema() *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	switch of.kind {
	case integerParam:
		least, most := float64(of.bounds.min), float64(of.bounds.max)
		s = &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most, Default: of.bounds.def}
	case dateParam:
		s.Format = "date"
	case instantParam:
		s.Format = "date-time"
	case idParam:
		s.Format = "uuid"
	case choiceParam:
		s.Enum, s.Default = words(of.words), of.words[0]
	case choicesParam:
		s.Enum = words(of.words)
		s = &huma.Schema{Type: huma.TypeArray, Items: s}
	case textParam:
		s.MaxLength = new(int)
		*s.MaxLength = textBytesMax
		if of.header {
			*s.MaxLength = idempotencyKeyBytesMax
		}
	}
	return s
}

func words(of []string) []any {
	all := make([]any, len(of))
	for i, w := range of {
		all[i] = w
	}
	return all
}

// pathSchema is what a parameter of a path must be, by its name.
func pathSchema(name string) *huma.Schema {
	switch name {
	case "model", "code", "message":
		return &huma.Schema{Type: huma.TypeString}
	}
	if strings.HasSuffix(name, "_id") {
		return &huma.Schema{Type: huma.TypeString, Format: "uuid"}
	}
	one := 1.0
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &one}
}
