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

// bounds of an integer parameter.
type bounds struct{ def, min, max int }

func (p *params) integer(name string, b bounds) int {
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
func (p *params) date(name string) (ledger.Date, bool) {
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

// Years that usage can be from, as package events has it.
const yearMin, yearMax = 2000, 2200

// id is a UUID; zero when it is not given or wrong.
func (p *params) id(name string) uuid.UUID {
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

// choice is one of a few words.
func (p *params) choice(name, def string, words ...string) string {
	text := p.one(name)
	if text == "" {
		return def
	}
	if !slices.Contains(words, text) {
		p.refuse(name, "enum", "the value must be one of %s", strings.Join(words, ", "))
		return def
	}
	return text
}

// choices are any of a few words, repeated or separated by commas.
func (p *params) choices(name string, words ...string) []string {
	var chosen []string
	for _, value := range p.all(name) {
		for word := range strings.SplitSeq(value, ",") {
			if !slices.Contains(words, word) {
				p.refuse(name, "enum", "each value must be one of %s", strings.Join(words, ", "))
				return nil
			}
			chosen = append(chosen, word)
		}
	}
	return chosen
}

// name is a short text without control characters.
func (p *params) name(name string) string {
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

// page reads page and page_size.
func (p *params) page(size bounds) page {
	return page{
		number: p.integer("page", bounds{def: 1, min: 1, max: pageMax}),
		size:   p.integer("page_size", size),
		asked:  p.values.Get("page") != "" || p.values.Get("page_size") != "",
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
