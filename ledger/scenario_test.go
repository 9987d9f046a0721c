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
// command a line, "#" begins a comment. An instant is RFC 3339, or a date, which
// is its noon in the org's zone.
//
//	org <name> [zone=Asia/Shanghai] [currency=CNY] [terms=30] [anchor=1]
//	tax <org> <name> <percent> [inclusive]          on invoices from here on
//	price <version> [currency=CNY] [input=] [output=] [cache_read=] … [image=] [request=]
//	plan <org> <code> from=<instant> [fee=] [tokens=] [amount=] [commitment=] [discount_pct=] [discount=] [overage=block]
//	  charge <name> <model> <bucket,…> [models=]
//	  tier <up to or rest> <unit price> [flat=]     of the charge above
//	  package <size> <price> [free=]
//	usage <org> <version> at=<instant> [in=] [out=] [cr=] [c5=] [c1=] [rea=] [images=] [times=] [model=] [cost=]
//	invoice <org> <period> on=<instant>
//	upcoming <org> <period> on=<instant>            the draft; nothing is issued
//	grant <org> <name> <amount> on=<instant> [expires=] [priority=]
//	topup <org> <name> <amount> on=<instant> [expires=] [priority=]
//	pay <org> <amount> on=<instant> [for=<period,…>] [id=]
//	refund <org> <amount> on=<instant>
//	expire <org> on=<instant>
//	void <org> <period> on=<instant>                by a credit note in full
//	credit-note <org> <period> <line>:<amount> … on=<instant>
//	write-off <org> <period> on=<instant>
//	correct <org> <period> on=<instant> [reprice=<version>:<version>] [plan=<code>] [untaxed=yes] [dry-run=yes]
//
// and after an indent, what must come out of the command above:
//
//	line <what> <exact> <amount> [<origin>]         all lines in order, if any is given: see lineText
//	journal <code> <debit> <credit> <amount>        all transfers in order, if any is given
//	total, exact, subtotal, adjustments, discount, tax, tax_included, credits, carried, due, difference, number
//	taxed <name> <amount>
//	segment <first> <days> <plan>                   all segments in order, if any is given
//	period <first day> <last day>
//	balance <account> <amount>                      debits less credits: receivable, prepaid, promo, accrued, revenue:usage …
//	open <period> <amount>                          what is still to be paid
//	status <period> <status> on=<date>
//	left <grant> <amount>
//	explain <line> <text>                           a step of the explanation has the text
//	none                                            nothing to bill, nothing expired
//	error <text>                                    refused, with this in the message
//
// Usage arrives in the order of the file; an invoice's cut is where it stands.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.test")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d scenarios: %v", len(files), err)
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

	org  *scenarioOrg // of the command above
	plan *Plan        // of the command above, if it was one
	got  Invoice
	diff Amount
	last Journal
	err  error

	want    map[string][]string // of "line", "journal" and "segment", all there must be
	pending bool                // a command that what follows is compared with
}

type scenarioOrg struct {
	id          uuid.UUID
	zone        *time.Location
	currency    string
	terms       int
	anchor      int
	taxes       []TaxRate
	plans       []Plan
	rows        []scenarioRow
	previousCut uint64
	closed      []Origin
	state       *State
	chain       []Journal
	numbers     uint64 // of invoices
	notes       uint64 // of credit notes
	grants      map[string]uuid.UUID
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
		text, comment, _ := strings.Cut(in.Text(), "#")
		if n == 1 && (text != "" || len(comment) < 20) {
			t.Fatalf("%s does not begin with its story", file)
		}
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if !strings.HasPrefix(text, " ") {
			s.finish()
			s.at = fmt.Sprintf("%s:%d", file, n)
			s.command(words)
			continue
		}
		s.at = fmt.Sprintf("%s:%d", file, n)
		s.expect(words)
	}
	s.finish()
	for name, org := range s.orgs {
		if err := VerifyChain(org.chain); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *scenario) command(words []string) {
	args, options := split(words[1:])
	s.pending, s.err, s.want, s.plan, s.last, s.diff = true, nil, make(map[string][]string), nil, Journal{}, Amount{}
	if s.got = (Invoice{}); words[0] != "org" && words[0] != "price" {
		if s.org = s.orgs[args[0]]; s.org == nil {
			s.t.Fatalf("%s: there is no org %s", s.at, args[0])
		}
	}
	switch words[0] {
	case "org":
		s.newOrg(args[0], options)
	case "tax":
		s.org.taxes = append(s.org.taxes, TaxRate{Name: args[1], Pct: s.decimal(args[2]), Inclusive: len(args) > 3 && args[3] == "inclusive"})
	case "price":
		s.price(args[0], options)
	case "plan":
		s.newPlan(args[1], options)
	case "usage":
		s.usage(args, options)
	case "invoice":
		s.invoice(args, options)
	case "upcoming":
		in, err := s.org.input(s.period(args[1]), s.instant(options, "on"), s.seq, s.prices)
		s.must(err)
		s.got, s.err = Bill(in)
	case "correct":
		s.correct(args, options)
	default:
		s.money(words[0], args, options)
	}
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

func (s *scenario) decimal(text string) decimal.Decimal {
	s.t.Helper()
	d, err := decimal.NewFromString(text)
	s.must(err)
	return d
}

func (s *scenario) amount(text string) Amount {
	s.t.Helper()
	a, err := ParseAmount(text)
	s.must(err)
	return a
}

func (s *scenario) instant(options map[string]string, name string) time.Time {
	s.t.Helper()
	if day, err := time.ParseInLocation(time.DateOnly, options[name], s.org.zone); err == nil {
		return day.Add(12 * time.Hour)
	}
	t, err := time.Parse(time.RFC3339, options[name])
	s.must(err)
	return t
}

func (s *scenario) period(label string) Period {
	p, err := ParseAnchoredPeriod(label, s.org.zone, s.org.anchor)
	s.must(err)
	return p
}

func (s *scenario) newOrg(name string, options map[string]string) {
	zone, err := time.LoadLocation(option(options, "zone", "Asia/Shanghai"))
	s.must(err)
	terms, err := strconv.Atoi(option(options, "terms", "30"))
	s.must(err)
	anchor, err := strconv.Atoi(option(options, "anchor", "1"))
	s.must(err)
	id, currency := events.DeriveID("scenario", []byte(name)), option(options, "currency", "CNY")
	s.org = &scenarioOrg{id: id, zone: zone, currency: currency, terms: terms, anchor: anchor,
		state: NewState(id, currency), grants: make(map[string]uuid.UUID)}
	s.orgs[name] = s.org
}

func (s *scenario) price(version string, options map[string]string) {
	model, _, _ := strings.Cut(version, "@")
	field := func(name string) decimal.Decimal { return s.decimal(option(options, name, "0")) }
	s.prices[version] = catalog.Price{
		Version: version, Model: model, Currency: option(options, "currency", "CNY"),
		Input: field("input"), CacheRead: field("cache_read"), CacheWrite5m: field("cache_write_5m"), CacheWrite1h: field("cache_write_1h"),
		Output: field("output"), Reasoning: field("reasoning"), Image: field("image"), Request: field("request"),
	}
}

func (s *scenario) newPlan(code string, options map[string]string) {
	field := func(name string) Amount { return s.amount(option(options, name, "0")) }
	s.org.plans = append(s.org.plans, Plan{Code: code, From: s.instant(options, "from"), Terms: Terms{
		MonthlyFee: field("fee"), IncludedTokens: s.number(options, "tokens"), IncludedAmount: field("amount"), Commitment: field("commitment"),
		DiscountPct: s.decimal(option(options, "discount_pct", "0")), DiscountAmount: field("discount"),
		OveragePolicy: OveragePolicy(option(options, "overage", "")),
	}})
	s.plan = &s.org.plans[len(s.org.plans)-1]
}

// planLine is a charge of the plan above, or a tier of its last charge.
func (s *scenario) planLine(words []string) {
	args, options := split(words[1:])
	charges := &s.plan.Terms.Charges
	if words[0] == "charge" {
		c := Charge{Name: args[0], Model: ChargeModel(args[1])}
		for _, b := range strings.Split(args[2], ",") {
			c.Buckets = append(c.Buckets, Bucket(b))
		}
		if models, ok := options["models"]; ok {
			c.Models = strings.Split(models, ",")
		}
		*charges = append(*charges, c)
		return
	}
	c := &(*charges)[len(*charges)-1]
	if words[0] == "package" {
		c.PackageSize, c.PackagePrice, c.FreeUnits = s.number(map[string]string{"n": args[0]}, "n"), s.amount(args[1]), s.number(options, "free")
		return
	}
	tier := Tier{UnitPrice: s.decimal(args[1]), FlatFee: s.amount(option(options, "flat", "0"))}
	if args[0] != "rest" {
		tier.UpTo = s.number(map[string]string{"n": args[0]}, "n")
	}
	c.Tiers = append(c.Tiers, tier)
}

func (s *scenario) usage(args []string, options map[string]string) {
	version := args[1]
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
		row.cost = s.decimal(cost)
	} else {
		row.cost, err = Rate(s.prices[version], row.tokens, row.images)
	}
	s.must(err)
	for range max(1, s.number(options, "times")) {
		s.seq++
		row.seq = s.seq
		s.org.rows = append(s.org.rows, row)
	}
}

// issued are the org's invoices as they stand.
func (o *scenarioOrg) issued() []Invoice {
	var invoices []Invoice
	for _, id := range o.state.order {
		inv := *o.state.invoices[id].Invoice
		inv.Status = o.state.invoices[id].Status(Date{})
		invoices = append(invoices, inv)
	}
	return invoices
}

// find is the newest invoice of a period.
func (s *scenario) find(label string) Invoice {
	issued := s.org.issued()
	for i := len(issued) - 1; i >= 0; i-- {
		if issued[i].Period.Label == label {
			return issued[i]
		}
	}
	s.t.Fatalf("%s: there is no invoice of %s", s.at, label)
	return Invoice{}
}

// input puts together what an invoice of a period depends on now.
func (o *scenarioOrg) input(p Period, on time.Time, seq uint64, prices map[string]catalog.Price) (BillInput, error) {
	issued := o.issued()
	advance, err := AdvanceOf(p, issued)
	if err != nil {
		return BillInput{}, err
	}
	for i := range o.closed {
		if o.closed[i].Billed, err = BilledOf(o.closed[i].Period.Label, issued); err != nil {
			return BillInput{}, err
		}
	}
	in := BillInput{
		OrgID: o.id, LegalEntity: "AIONE", Currency: o.currency, Period: p, CreatedAt: on, CreatedOn: DateOf(on, o.zone),
		TermsDays: o.terms, Cut: seq, PreviousCut: o.previousCut, Prices: prices, Origins: o.closed,
		Segments: SegmentsOf(p, o.zone, o.plans), Next: NextSegment(p, o.zone, o.plans), Advance: advance,
		TaxRates: o.taxes, Credits: o.state.Credits(),
	}
	in.Inputs = o.count(InputsQuery{Start: p.Start, End: p.End, Cut: seq, PreviousCut: o.previousCut, Spans: SpansOf(o.closed, in.Segments)})
	return in, nil
}

func (s *scenario) invoice(args []string, options map[string]string) {
	o := s.org
	in, err := o.input(s.period(args[1]), s.instant(options, "on"), s.seq, s.prices)
	s.must(err)
	s.got, s.err = Bill(in)
	if s.err != nil && !errors.Is(s.err, ErrNothingToBill) {
		return
	}
	o.previousCut = s.seq
	o.closed = append(o.closed, Origin{Period: in.Period, Segments: in.Segments})
	if s.err != nil {
		return
	}
	e, err := o.state.IssueInvoice(s.got, InvoiceNumber("AIONE", s.got.CreatedOn.Year, o.numbers+1))
	s.must(err)
	o.numbers++
	s.got = *e.Invoice
	s.apply(e)
}

// count is InputsQuery read aloud.
func (o *scenarioOrg) count(q InputsQuery) Inputs {
	groups := make(map[string]*Quantity)
	var in Inputs
	for _, r := range o.rows {
		if !r.at.Before(q.End) || r.seq > q.Cut || r.at.Before(q.Start) && r.seq <= q.PreviousCut {
			continue
		}
		begun := 0
		for _, span := range q.Spans {
			if !r.at.Before(span.Start) {
				begun++
			}
		}
		span := q.SpanOf(begun)
		key := fmt.Sprint(r.model, r.price, span)
		g := groups[key]
		if g == nil {
			g = &Quantity{Model: r.model, PriceVersion: r.price, Origin: span.Origin, Segment: span.Segment, Late: span.Origin != ""}
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
		if r.tokens == (events.Tokens{}) && r.images == 0 && r.cost.IsZero() {
			g.Empty++
		}
		g.Cost = g.Cost.Add(r.cost)
		in.Rows++
	}
	for _, g := range groups {
		in.Quantities = append(in.Quantities, *g)
	}
	return in
}
