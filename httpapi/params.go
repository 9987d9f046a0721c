package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"aione/events"
	"aione/ledger"

	"github.com/google/uuid"
)

// params reads the query of a request and collects all that is wrong with it. A
// parameter without a value (?page&page_size) is one that was not given;
// parameters that a route does not know are ignored.
type params struct {
	values   url.Values
	problems validationErrors
}

func queryOf(r *http.Request) *params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	p := &params{values: values}
	if err != nil {
		p.problems = invalid("query_parsing", "the query string is not valid", "query")
	}
	return p
}

// err is what was wrong so far, or nil.
func (p *params) err() error {
	if len(p.problems) > 0 {
		return p.problems
	}
	return nil
}

func (p *params) refuse(name, typ, format string, args ...any) {
	p.problems = append(p.problems, problem{Loc: []any{"query", name}, Msg: fmt.Sprintf(format, args...), Type: typ})
}

// all are the values of a parameter that may be repeated.
func (p *params) all(name string) []string {
	for _, v := range p.values[name] {
		if !utf8.ValidString(v) {
			p.refuse(name, "string_unicode", "the value is not valid UTF-8")
			return nil
		}
	}
	return slices.DeleteFunc(slices.Clone(p.values[name]), func(v string) bool { return v == "" })
}

// one is the value of a parameter that may be given once; "" when it is not.
func (p *params) one(name string) string {
	values := p.all(name)
	if len(values) == 0 {
		return ""
	}
	if len(p.values[name]) > 1 {
		p.refuse(name, "repeated", "the parameter may be given once, not %d times", len(p.values[name]))
		return ""
	}
	return values[0]
}

// param is a parameter of a route. The document and the reading of it both come
// from here.
type param struct {
	kind      paramKind
	name, doc string
	bounds    bounds   // of an integer
	words     []string // of choices
	header    bool     // it is a header, not part of the query
	required  bool
}

type paramKind int

// The kinds of parameters; each is read by the method of params of its name.
const (
	integerParam paramKind = iota + 1
	dateParam
	instantParam
	idParam
	choiceParam
	choicesParam
	textParam
)

// bounds of an integer parameter.
type bounds struct{ def, min, max int }

func (p *params) integer(of param) int {
	name, b := of.name, of.bounds
	text := p.one(name)
	if text == "" {
		return b.def
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil && isInteger(text):
		p.refuse(name, "less_than_equal", "the value must be between %d and %d", b.min, b.max)
	case err != nil:
		p.refuse(name, "int_parsing", "the value is not an integer")
	case n < b.min:
		p.refuse(name, "greater_than_equal", "the value must be %d or more", b.min)
	case n > b.max:
		p.refuse(name, "less_than_equal", "the value must be %d or less", b.max)
	default:
		return n
	}
	return b.def
}

// isInteger reports whether text is an integer of any size.
func isInteger(text string) bool {
	digits := strings.TrimLeft(text, "+-")
	return len(text)-len(digits) <= 1 && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// date is a calendar day; false when it is not given or wrong.
func (p *params) date(of param) (ledger.Date, bool) {
	name := of.name
	text := p.one(name)
	if text == "" {
		return ledger.Date{}, false
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		p.refuse(name, "date_parsing", "the value is not a day of the calendar like 2026-11-30")
		return ledger.Date{}, false
	}
	if t.Year() < yearMin || t.Year() > yearMax {
		p.refuse(name, "date_range", "the year must be between %d and %d", yearMin, yearMax)
		return ledger.Date{}, false
	}
	return ledger.DateOf(t, time.UTC), true
}

// instant is a moment; false when it is not given or wrong.
func (p *params) instant(of param) (time.Time, bool) {
	text := p.one(of.name)
	if text == "" {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		p.refuse(of.name, "datetime_parsing", "the value is not an RFC 3339 time like 2026-11-30T23:59:59Z")
		return time.Time{}, false
	}
	if y := t.UTC().Year(); y < yearMin || y > yearMax {
		p.refuse(of.name, "datetime_range", "the year must be between %d and %d", yearMin, yearMax)
		return time.Time{}, false
	}
	return t, true
}

// Years that usage can be from, as package events has it.
const yearMin, yearMax = 2000, 2200

// id is a UUID; zero when it is not given or wrong.
func (p *params) id(of param) uuid.UUID {
	name := of.name
	text := p.one(name)
	if text == "" {
		return uuid.Nil
	}
	id, err := parseID(text)
	if err != nil {
		p.refuse(name, "uuid_parsing", "the value is not a UUID")
	}
	return id
}

// uuidLen is the length of the only form taken: with hyphens, without braces.
const uuidLen = 36

func parseID(text string) (uuid.UUID, error) {
	if len(text) != uuidLen {
		return uuid.Nil, fmt.Errorf("%.50q is not a UUID", text)
	}
	return uuid.Parse(text)
}

// choice is one of a few words, by default the first.
func (p *params) choice(of param) string {
	text := p.one(of.name)
	if text == "" {
		return of.words[0]
	}
	if !slices.Contains(of.words, text) {
		p.refuse(of.name, "enum", "the value must be one of %s", strings.Join(of.words, ", "))
		return of.words[0]
	}
	return text
}

// choices are any of a few words, repeated or separated by commas.
func (p *params) choices(of param) []string {
	var chosen []string
	for _, value := range p.all(of.name) {
		for word := range strings.SplitSeq(value, ",") {
			if !slices.Contains(of.words, word) {
				p.refuse(of.name, "enum", "each value must be one of %s", strings.Join(of.words, ", "))
				return nil
			}
			chosen = append(chosen, word)
		}
	}
	return chosen
}

// text is a short text without control characters.
func (p *params) text(of param) string {
	name := of.name
	text := p.one(name)
	if len(text) > events.MaxTextBytes {
		p.refuse(name, "string_too_long", "the value must have %d bytes or less", events.MaxTextBytes)
		return ""
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		p.refuse(name, "string_control", "the value has control characters")
		return ""
	}
	return text
}

// page is which part of a list was asked for.
type page struct {
	number, size int
	asked        bool // else the numbers are defaults
}

// pageMax keeps offsets far from overflowing.
const pageMax = 1_000_000

var pageNumber = param{kind: integerParam, name: "page", bounds: bounds{def: 1, min: 1, max: pageMax}, doc: "Which page of the list, from 1."}

func pageSize(b bounds) param {
	return param{kind: integerParam, name: "page_size", bounds: b, doc: "How many members a page has."}
}

// page reads page and page_size.
func (p *params) page(size param) page {
	return page{
		number: p.integer(pageNumber),
		size:   p.integer(size),
		asked:  p.values.Get(pageNumber.name) != "" || p.values.Get(size.name) != "",
	}
}

func (p page) offset() int { return (p.number - 1) * p.size }

// announce sets X-Total-Count and Link (RFC 8288) for a page of a list of total.
func (p page) announce(w http.ResponseWriter, r *http.Request, total int) {
	w.Header().Set("X-Total-Count", strconv.Itoa(total))
	last := max(1, (total+p.size-1)/p.size)
	var links []string
	link := func(rel string, number int) {
		query := r.URL.Query()
		query.Set("page", strconv.Itoa(number))
		query.Set("page_size", strconv.Itoa(p.size))
		links = append(links, fmt.Sprintf("<%s?%s>; rel=%q", r.URL.EscapedPath(), query.Encode(), rel))
	}
	link("first", 1)
	if p.number > 1 {
		link("prev", min(p.number-1, last))
	}
	if p.number < last {
		link("next", p.number+1)
	}
	link("last", last)
	w.Header().Set("Link", strings.Join(links, ", "))
}
