package gateway

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// jsonSchema makes a JSON Schema of a schema in Google's form: its types are in
// capitals, null is a flag, and numbers may be texts. What it does not know stays.
func jsonSchema(raw jsontext.Value) jsontext.Value { return schemaBelow(raw, schemaDepthMax) }

// schemaDepthMax bounds the levels of a schema that are looked at, each of which
// reads all below it.
const schemaDepthMax = 64

func schemaBelow(raw jsontext.Value, depth int) jsontext.Value {
	if raw.Kind() != '{' || depth == 0 {
		return raw
	}
	out := []byte{'{'}
	put := func(name string, v jsontext.Value) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted(name)...), ':'), v...)
	}
	var typ jsontext.Value
	nullable := false
	_, err := eachMember(raw, 0, func(name string, at span) {
		v := raw[at.from:at.to]
		switch name = camel(name); name {
		case "type":
			typ = v
			if v.Kind() == '"' {
				typ = jsontext.Value(strings.ToLower(string(v)))
			}
		case "nullable":
			nullable = v.Kind() == 't'
		case "propertyOrdering":
		case "properties":
			put(name, schemasByName(v, depth-1))
		case "items", "additionalProperties":
			put(name, schemaBelow(v, depth-1))
		case "anyOf", "prefixItems":
			put(name, schemaList(v, depth-1))
		case "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties":
			if s := textOf(v); s != "" && strings.Trim(s, "0123456789") == "" {
				v = jsontext.Value(s)
			}
			put(name, v)
		default:
			put(name, v)
		}
	})
	switch {
	case err != nil:
		return raw
	case string(typ) == `"type_unspecified"`:
	case nullable && typ.Kind() == '"':
		put("type", jsontext.Value("["+string(typ)+`,"null"]`))
	case len(typ) > 0:
		put("type", typ)
	}
	return append(out, '}')
}

// schemasByName are schemas under names that are the client's own.
func schemasByName(raw jsontext.Value, depth int) jsontext.Value {
	if raw.Kind() != '{' {
		return raw
	}
	out := []byte{'{'}
	_, err := eachMember(raw, 0, func(name string, at span) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted(name)...), ':'), schemaBelow(raw[at.from:at.to], depth)...)
	})
	if err != nil {
		return raw
	}
	return append(out, '}')
}

func schemaList(raw jsontext.Value, depth int) jsontext.Value {
	var list []jsontext.Value
	if err := json.Unmarshal(raw, &list); err != nil {
		return raw
	}
	out := []byte{'['}
	for i, v := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, schemaBelow(v, depth)...)
	}
	return append(out, ']')
}
