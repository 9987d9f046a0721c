package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
)

// The scenarios of testdata/*.test say in plain words what is billed. One
// command a line, "#" begins a comment; after an indent, what must come out:
//
//	org <name> [zone=Asia/Shanghai] [currency=CNY] [terms=30]
//	price <version> [currency=CNY] [input=] [output=] [cache_read=] … [image=] [request=]
//	usage <org> <version> at=<instant> [in=] [out=] [cr=] [c5=] [c1=] [rea=] [images=] [times=] [model=] [cost=]
//	invoice <org> <period> on=<instant>
//	  total <amount>                    Σ of the lines
//	  due <date>
//	  line <version> <bucket> <quantity> <exact> <amount> [<origin>]
//	  none                              no usage, no invoice
//	  error <text>                      refused, with this in the message
//
// Usage arrives in the order of the file; an invoice's cut is where it stands.
// Lines must be given all and in order, if any is.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.test")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".test"), func(t *testing.T) { runScenario(t, file) })
	}
}

type scenario struct {
	t      *testing.T
	at     string // file:line
	orgs   map[string]*scenarioOrg
	prices map[string]catalog.Price
	seq    uint64

	got      Invoice
	err      error
	expected []string // lines
	pending  bool     // an invoice whose lines have not been compared
}

type scenarioOrg struct {
	id          uuid.UUID
	zone        *time.Location
	currency    string
	terms       int
	rows        []scenarioRow
	previousCut uint64
}

type scenarioRow struct {
	seq    uint64
	at     time.Time
	model  string
	price  string
	tokens events.Tokens
	images uint64
	cost   decimal.Decimal
}

func runScenario(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &scenario{t: t, orgs: make(map[string]*scenarioOrg), prices: make(map[string]catalog.Price)}
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		s.at = fmt.Sprintf("%s:%d", file, n)
		args, options := split(words[1:])
		if !strings.HasPrefix(text, " ") {
			s.finish()
		}
		switch words[0] {
		case "org":
			s.org(args[0], options)
		case "price":
			s.price(args[0], options)
		case "usage":
			s.usage(args, options)
		case "invoice":
			s.invoice(args, options)
		case "line":
			s.expected = append(s.expected, strings.Join(args, " "))
		default:
			s.expect(words[0], strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), words[0])))
		}
	}
	s.finish()
}

// split tells "name=value" from plain words.
func split(words []string) (args []string, options map[string]string) {
	options = make(map[string]string)
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok {
			options[name] = value
		} else {
			args = append(args, w)
		}
	}
	return args, options
}

func (s *scenario) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", s.at, err)
	}
}

func option(options map[string]string, name, otherwise string) string {
	if v, ok := options[name]; ok {
		return v
	}
	return otherwise
}

func (s *scenario) number(options map[string]string, name string) uint64 {
	n, err := strconv.ParseUint(option(options, name, "0"), 10, 64)
	s.must(err)
	return n
}

func (s *scenario) instant(options map[string]string, name string) time.Time {
	t, err := time.Parse(time.RFC3339, options[name])
	s.must(err)
	return t
}

func (s *scenario) org(name string, options map[string]string) {
	zone, err := time.LoadLocation(option(options, "zone", "Asia/Shanghai"))
	s.must(err)
	terms, err := strconv.Atoi(option(options, "terms", "30"))
	s.must(err)
	s.orgs[name] = &scenarioOrg{id: events.DeriveID("scenario", []byte(name)), zone: zone, currency: option(options, "currency", "CNY"), terms: terms}
}

func (s *scenario) price(version string, options map[string]string) {
	model, _, _ := strings.Cut(version, "@")
	field := func(name string) decimal.Decimal {
		d, err := decimal.NewFromString(option(options, name, "0"))
		s.must(err)
		return d
	}
	s.prices[version] = catalog.Price{
		Version: version, Model: model, Currency: option(options, "currency", "CNY"),
		Input: field("input"), CacheRead: field("cache_read"), CacheWrite5m: field("cache_write_5m"), CacheWrite1h: field("cache_write_1h"),
		Output: field("output"), Reasoning: field("reasoning"), Image: field("image"), Request: field("request"),
	}
}

func (s *scenario) usage(args []string, options map[string]string) {
	org, version := s.orgs[args[0]], args[1]
	model, _, _ := strings.Cut(version, "@")
	row := scenarioRow{
		at: s.instant(options, "at"), model: option(options, "model", model), price: version, images: s.number(options, "images"),
		tokens: events.Tokens{
			Input: s.number(options, "in"), Output: s.number(options, "out"), CacheRead: s.number(options, "cr"),
			CacheWrite5m: s.number(options, "c5"), CacheWrite1h: s.number(options, "c1"), Reasoning: s.number(options, "rea"),
		},
	}
	var err error
	if cost, ok := options["cost"]; ok {
		row.cost, err = decimal.NewFromString(cost)
	} else {
		row.cost, err = Rate(s.prices[version], row.tokens, row.images)
	}
	s.must(err)
	for range max(1, s.number(options, "times")) {
		s.seq++
		row.seq = s.seq
		org.rows = append(org.rows, row)
	}
}

func (s *scenario) invoice(args []string, options map[string]string) {
	org := s.orgs[args[0]]
	period, err := ParsePeriod(args[1], org.zone)
	s.must(err)
	on := s.instant(options, "on")
	in := BillInput{
		OrgID: org.id, LegalEntity: "AIONE", Currency: org.currency, Period: period, CreatedAt: on, CreatedOn: DateOf(on, org.zone),
		TermsDays: org.terms, Cut: s.seq, PreviousCut: org.previousCut, Prices: s.prices,
	}
	in.Inputs = org.count(InputsQuery{Start: period.Start, End: period.End, Cut: s.seq, PreviousCut: org.previousCut})
	s.got, s.err = Bill(in)
	s.expected, s.pending = nil, true
	if s.err != nil && !errors.Is(s.err, ErrNothingToBill) {
		return
	}
	org.previousCut = s.seq
	if s.err != nil {
		return
	}
	journal, err := InvoiceJournal(s.got)
	s.must(err)
	s.must(journal.Check())
	s.must(Prove(s.got))
}

// count is InputsQuery read aloud.
func (o *scenarioOrg) count(q InputsQuery) Inputs {
	groups := make(map[[3]string]*Quantity)
	var in Inputs
	for _, r := range o.rows {
		if !r.at.Before(q.End) || r.seq > q.Cut || r.at.Before(q.Start) && r.seq <= q.PreviousCut {
			continue
		}
		key := [3]string{r.model, r.price}
		if r.at.Before(q.Start) {
			key[2] = r.at.In(o.zone).Format("2006-01")
		}
		g := groups[key]
		if g == nil {
			g = &Quantity{Model: key[0], PriceVersion: key[1], Origin: key[2], Late: key[2] != ""}
			groups[key] = g
		}
		g.Tokens.Input += r.tokens.Input
		g.Tokens.CacheRead += r.tokens.CacheRead
		g.Tokens.CacheWrite5m += r.tokens.CacheWrite5m
		g.Tokens.CacheWrite1h += r.tokens.CacheWrite1h
		g.Tokens.Output += r.tokens.Output
		g.Tokens.Reasoning += r.tokens.Reasoning
		g.Images += r.images
		g.Requests++
		g.Cost = g.Cost.Add(r.cost)
		in.Rows++
	}
	for _, g := range groups {
		in.Quantities = append(in.Quantities, *g)
	}
	return in
}

func (s *scenario) expect(what, want string) {
	if what == "none" {
		if !errors.Is(s.err, ErrNothingToBill) {
			s.t.Errorf("%s: got %v, want no invoice", s.at, s.err)
		}
		s.err = nil
		return
	}
	if what == "error" {
		if s.err == nil || !strings.Contains(s.err.Error(), want) {
			s.t.Errorf("%s: got %v, want an error with %q", s.at, s.err, want)
		}
		s.err = nil
		return
	}
	got := map[string]string{"total": s.got.Total.Format(s.got.Currency), "exact": s.got.Exact.String(), "due": s.got.DueDate.String()}[what]
	if got != want {
		s.t.Errorf("%s: %s is %q, want %q", s.at, what, got, want)
	}
}

// finish compares what the last invoice's block left open.
func (s *scenario) finish() {
	if !s.pending {
		return
	}
	s.pending = false
	if s.err != nil {
		s.t.Errorf("%s: before this line: %v", s.at, s.err)
	}
	if s.expected == nil {
		return
	}
	var got []string
	for _, l := range s.got.Lines {
		line := fmt.Sprintf("%s %s %d %s %s %s", l.PriceVersion, l.Bucket, l.Quantity, l.Exact, l.Amount.Format(s.got.Currency), l.Origin)
		got = append(got, strings.TrimSpace(line))
	}
	if strings.Join(got, "\n") != strings.Join(s.expected, "\n") {
		s.t.Errorf("%s: before this line: got\n  %s\nwant\n  %s", s.at, strings.Join(got, "\n  "), strings.Join(s.expected, "\n  "))
	}
}
