package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// given are the members that a body's object has, null ones included.
type given map[string]jsontext.Value

// has reports whether a member was sent, be it null.
func (g given) has(name string) bool { _, ok := g[name]; return ok }

// readBody reads a request's JSON object into v, whose schema in the document is
// what it must be. All that is wrong with it is said at once, and a member that
// the schema does not name is wrong too: nothing is assigned that a route does
// not take.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, v any) (given, error) {
	_, members, err := s.readRaw(w, r, v)
	return members, err
}

// readRaw is readBody that also returns the body's bytes.
func (s *Server) readRaw(w http.ResponseWriter, r *http.Request, v any) ([]byte, given, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if encoding := r.Header.Get("Content-Encoding"); err != nil || media != jsonType || encoding != "" && encoding != "identity" {
		return nil, nil, &apiError{status: http.StatusUnsupportedMediaType, detail: "the body must be " + jsonType + ", not compressed"}
	}
	raw, err := readAll(w, r, s.limits.BodyBytes)
	if err != nil {
		return nil, nil, err
	}
	var value jsontext.Value
	if err := json.Unmarshal(raw, &value); err != nil { // bad UTF-8 and names given twice are no JSON either
		return nil, nil, syntaxError(err)
	}
	check := bodyCheck{schemas: s.schemas}
	check.value(s.schemas.of(v), value, []any{"body"})
	if len(check.problems) > 0 {
		return nil, nil, check.problems
	}
	members := given{}
	if err := errors.Join(json.Unmarshal(value, &members), json.Unmarshal(value, v)); err != nil {
		// The schema takes something that the type does not: tell where, not why.
		var at *json.SemanticError
		loc := []any{"body"}
		if errors.As(err, &at) {
			for token := range at.JSONPointer.Tokens() {
				loc = append(loc, token)
			}
		}
		return nil, nil, validationErrors{{Loc: loc, Msg: "the value is not valid", Type: "value_error"}}
	}
	return raw, members, nil
}

func readAll(w http.ResponseWriter, r *http.Request, bytesMax int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bytesMax))
	return b, bodyError(err)
}

// bodyError says what kept a body from being read.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, errors.As(err, &tooLarge):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &apiError{status: http.StatusBadRequest, detail: "the body ended before its Content-Length"}
	default:
		return &apiError{status: http.StatusBadRequest, detail: "the body could not be read", cause: err}
	}
}

// bodyCheck holds a JSON value against a schema of the document. It knows what
// our schemas use, no more.
type bodyCheck struct {
	schemas  schemas
	problems validationErrors
}

// problemsMax is how many problems one answer names: a body of garbage must not
// make a larger one.
const problemsMax = 50

func (c *bodyCheck) refuse(loc []any, typ, format string, args ...any) {
	if len(c.problems) < problemsMax {
		c.problems = append(c.problems, problem{Loc: slices.Clone(loc), Msg: fmt.Sprintf(format, args...), Type: typ})
	}
}

func (c *bodyCheck) value(s *huma.Schema, v jsontext.Value, loc []any) {
	if s.Ref != "" {
		s = c.schemas.SchemaFromRef(s.Ref)
	}
	kind := v.Kind()
	if kind == 'n' && s.Nullable {
		return
	}
	switch s.Type {
	case huma.TypeString:
		if kind != '"' {
			c.refuse(loc, "string_type", "the value must be a string")
			return
		}
		c.text(s, v, loc)
	case huma.TypeInteger:
		c.integer(s, v, loc)
	case huma.TypeBoolean:
		if kind != 't' && kind != 'f' {
			c.refuse(loc, "bool_type", "the value must be true or false")
		}
	case huma.TypeArray:
		c.array(s, v, loc)
	case huma.TypeObject:
		c.object(s, v, loc)
	}
}

func (c *bodyCheck) object(s *huma.Schema, v jsontext.Value, loc []any) {
	var members given
	if v.Kind() != '{' || json.Unmarshal(v, &members) != nil {
		c.refuse(loc, "model_attributes_type", "the value must be an object")
		return
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names) // the same body, the same answer
	for _, name := range names {
		if p, ok := s.Properties[name]; ok {
			c.value(p, members[name], append(loc, name))
		} else if len(name) > textBytesMax {
			c.refuse(loc, "extra_forbidden", "there is no member of %d bytes", len(name))
		} else {
			c.refuse(append(loc, name), "extra_forbidden", "there is no such member")
		}
	}
	for _, name := range s.Required {
		if !members.has(name) {
			c.refuse(append(loc, name), "missing", "the member is required")
		}
	}
}

func (c *bodyCheck) array(s *huma.Schema, v jsontext.Value, loc []any) {
	var items []jsontext.Value
	if v.Kind() != '[' || json.Unmarshal(v, &items) != nil {
		c.refuse(loc, "list_type", "the value must be an array")
		return
	}
	if s.MaxItems != nil && len(items) > *s.MaxItems {
		c.refuse(loc, "too_long", "the array must have %d items or fewer", *s.MaxItems)
		return
	}
	for i, item := range items {
		c.value(s.Items, item, append(loc, i))
	}
}

func (c *bodyCheck) integer(s *huma.Schema, v jsontext.Value, loc []any) {
	text := string(v)
	if v.Kind() != '0' || !isInteger(text) {
		c.refuse(loc, "int_type", "the value must be an integer, written with digits only")
		return
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case s.Minimum != nil && (n < int64(*s.Minimum) || err != nil && text[0] == '-'):
		c.refuse(loc, "greater_than_equal", "the value must be %d or more", int64(*s.Minimum))
	case s.Maximum != nil && n > int64(*s.Maximum) || err != nil:
		c.refuse(loc, "less_than_equal", "the value is too large")
	}
}

func (c *bodyCheck) text(s *huma.Schema, v jsontext.Value, loc []any) {
	var text string
	if json.Unmarshal(v, &text) != nil {
		c.refuse(loc, "string_unicode", "the value is not valid Unicode")
		return
	}
	switch length := utf8.RuneCountInString(text); {
	case s.MinLength != nil && length < *s.MinLength:
		c.refuse(loc, "string_too_short", "the value must have %d characters or more", *s.MinLength)
	case s.MaxLength != nil && length > *s.MaxLength:
		c.refuse(loc, "string_too_long", "the value must have %d characters or fewer", *s.MaxLength)
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, any(text)):
		c.refuse(loc, "enum", "the value must be one of %s", strings.Trim(fmt.Sprint(s.Enum), "[]"))
	case s.Pattern != "" && !compiled(s.Pattern).MatchString(text):
		c.refuse(loc, "string_pattern_mismatch", "the value must match %s", s.Pattern)
	case s.Format == "uuid" && !isUUID(text):
		c.refuse(loc, "uuid_parsing", "the value is not a UUID")
	case s.Format == "date-time" && !isInstant(text):
		c.refuse(loc, "datetime_parsing", "the value is not an RFC 3339 time like 2026-11-30T23:59:59Z")
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		c.refuse(loc, "string_control", "the value has control characters")
	}
}

func isUUID(text string) bool { _, err := parseID(text); return err == nil }

// isInstant reports whether text is a time that a price or key can be about.
func isInstant(text string) bool {
	t, err := time.Parse(time.RFC3339, text)
	return err == nil && t.UTC().Year() >= yearMin && t.UTC().Year() <= yearMax
}

var patternsCompiled sync.Map // *regexp.Regexp by pattern; there are as many as the document has

func compiled(pattern string) *regexp.Regexp {
	if re, ok := patternsCompiled.Load(pattern); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile(pattern)
	patternsCompiled.Store(pattern, re)
	return re
}
