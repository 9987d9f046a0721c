package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"aione/events"
)

// money carries out the commands that decide on the org's state.
func (s *scenario) money(verb string, args []string, options map[string]string) {
	on, state := s.instant(options, "on"), s.org.state
	id := events.DeriveID("scenario", []byte(option(options, "id", s.at)))
	var e Entry
	switch verb {
	case "grant", "topup":
		kind := GrantPromotional
		if verb == "topup" {
			kind = GrantPrepaid
		}
		g := Grant{ID: events.DeriveID("grant", s.org.id[:], []byte(args[1])), Kind: kind, Amount: s.amount(args[2]), GrantedAt: on, Source: args[1]}
		priority, err := strconv.Atoi(option(options, "priority", "0"))
		s.must(err)
		g.Priority = priority
		if _, ok := options["expires"]; ok {
			g.ExpiresAt = s.instant(options, "expires")
		}
		s.org.grants[args[1]] = g.ID
		e, s.err = state.GrantCredit(g)
	case "pay":
		p := Payment{ID: id, Amount: s.amount(args[1]), At: on}
		if labels, ok := options["for"]; ok {
			for _, label := range strings.Split(labels, ",") {
				p.For = append(p.For, s.find(label).ID)
			}
		}
		e, s.err = state.Pay(p)
	case "refund":
		e, s.err = state.Refund(Refund{ID: id, Amount: s.amount(args[1]), At: on})
	case "expire":
		e, s.err = state.Expire(on)
	case "void", "credit-note":
		if e, s.err = state.CreditNote(s.find(args[1]).ID, s.creditRequest(args[2:], options)); s.err == nil {
			s.org.notes++
		}
	case "write-off":
		e, s.err = state.WriteOff(WriteOff{ID: id, InvoiceID: s.find(args[1]).ID, At: on, Reason: "never paid"})
	default:
		s.t.Fatalf("%s: there is no command %s", s.at, verb)
	}
	if s.err == nil {
		s.apply(e)
	}
}

func (s *scenario) creditRequest(lines []string, options map[string]string) CreditRequest {
	on := s.instant(options, "on")
	r := CreditRequest{Number: CreditNoteNumber("AIONE", on.Year(), s.org.notes+1), At: on, On: DateOf(on, s.org.zone), Reason: "a mistake"}
	for _, l := range lines {
		n, amount, _ := strings.Cut(l, ":")
		line, err := strconv.Atoi(n)
		s.must(err)
		r.Lines = append(r.Lines, CreditLine{Line: line, Amount: s.amount(amount)})
	}
	return r
}

// correct bills an invoice again. Unless it is a dry run, the old one must be
// void; the new one is issued.
func (s *scenario) correct(args []string, options map[string]string) {
	old, on := s.find(args[1]), s.instant(options, "on")
	n := 1
	for _, inv := range s.org.issued() {
		if inv.Correction != nil && inv.Period == old.Period {
			n++
		}
	}
	m := Remedy{N: n, Reason: "a mistake", At: on, On: DateOf(on, s.org.zone), Credits: s.org.state.Credits()}
	if versions, ok := options["reprice"]; ok {
		stamped, billed, _ := strings.Cut(versions, ":")
		m.Repriced = []Repriced{{Version: stamped, Price: s.prices[billed]}}
	}
	if code, ok := options["plan"]; ok {
		i := slices.IndexFunc(s.org.plans, func(p Plan) bool { return p.Code == code })
		whole := s.org.plans[i]
		whole.From = old.Period.Start
		m.Segments = SegmentsOf(old.Period, s.org.zone, []Plan{whole})
	}
	if options["untaxed"] == "yes" {
		m.TaxRates = &[]TaxRate{}
	}
	rebilled, err := Correct(old, m)
	if s.err = err; err != nil {
		return
	}
	s.got, s.diff = rebilled.Draft, rebilled.Difference
	if options["dry-run"] == "yes" {
		return
	}
	var e Entry
	if e, s.err = s.org.state.IssueInvoice(s.got, InvoiceNumber("AIONE", on.Year(), s.org.numbers+1)); s.err == nil {
		s.org.numbers++
		s.apply(e)
		s.got = *e.Invoice
	}
}

// apply sends an entry through JSON, as the log does, and into the state, and
// checks what must hold after everything.
func (s *scenario) apply(e Entry) {
	s.t.Helper()
	raw, err := json.Marshal(e)
	s.must(err)
	var stored Entry
	s.must(json.Unmarshal(raw, &stored))
	state := s.org.state
	s.must(state.Apply(stored))
	s.org.chain = append(s.org.chain, stored.Journal)
	s.last = stored.Journal
	s.must(checkState(state))
	if e.Invoice != nil {
		s.must(Prove(*stored.Invoice))
	}
	if err := state.Apply(stored); !errors.Is(err, ErrRepeated) {
		s.t.Errorf("%s: applied twice: %v", s.at, err)
	}
}

// checkState compares the balances of the journals with what the documents say.
func checkState(s *State) error {
	var due, prepaid, promo Amount
	for _, inv := range s.invoices {
		if inv.Due.Sign() < 0 {
			return fmt.Errorf("invoice %s has %s due", inv.Invoice.Number, inv.Due)
		}
		due = Amount{d: due.d.Add(inv.Due.d)}
	}
	for _, c := range s.credits {
		if c.Remaining.Sign() < 0 || c.Remaining.Cmp(c.Grant.Amount) > 0 {
			return fmt.Errorf("credit %s has %s left of %s", c.Grant.Source, c.Remaining, c.Grant.Amount)
		}
		sum := &prepaid
		if c.Grant.Kind == GrantPromotional {
			sum = &promo
		}
		*sum = Amount{d: sum.d.Add(c.Remaining.d)}
	}
	total := Amount{}
	s.Balances().All(func(_ Account, _ string, balance Amount) { total = Amount{d: total.d.Add(balance.d)} })
	if s.Owed().Cmp(due) != 0 || s.PrepaidBalance().Cmp(prepaid) != 0 || s.PromoBalance().Cmp(promo) != 0 ||
		!s.Balance(Accrued(s.OrgID)).IsZero() || !total.IsZero() {
		return fmt.Errorf("balances say owed %s, prepaid %s, promo %s, accrued %s, sum %s; documents say %s, %s, %s",
			s.Owed(), s.PrepaidBalance(), s.PromoBalance(), s.Balance(Accrued(s.OrgID)), total, due, prepaid, promo)
	}
	return nil
}

func (s *scenario) expect(words []string) {
	s.t.Helper()
	if s.plan != nil {
		s.planLine(words)
		return
	}
	args, options := split(words[1:])
	check := func(got, want string) {
		s.t.Helper()
		if got != want {
			s.t.Errorf("%s: %s is %q, want %q", s.at, strings.Join(words[:len(words)-1], " "), got, want)
		}
	}
	currency := s.org.currency
	switch words[0] {
	case "line", "journal", "segment":
		s.want[words[0]] = append(s.want[words[0]], strings.Join(args, " "))
	case "none":
		if !errors.Is(s.err, ErrNothingToBill) && !errors.Is(s.err, ErrNothingExpired) {
			s.t.Errorf("%s: got %v, want nothing", s.at, s.err)
		}
		s.err = nil
	case "error":
		if want := strings.Join(args, " "); s.err == nil || !strings.Contains(s.err.Error(), want) {
			s.t.Errorf("%s: got %v, want an error with %q", s.at, s.err, want)
		}
		s.err = nil
	case "taxed":
		i := slices.IndexFunc(s.got.Taxes, func(t TaxAmount) bool { return t.Name == args[0] })
		check(s.got.Taxes[i].Amount.Format(currency), args[1])
	case "period":
		check(s.got.Period.FirstDay().String()+" "+s.got.Period.LastDay().String(), strings.Join(args, " "))
	case "balance":
		check(s.org.state.Balance(s.account(args[0])).Format(currency), args[1])
	case "open":
		inv, _ := s.org.state.Invoice(s.find(args[0]).ID)
		check(inv.Due.Format(currency), args[1])
	case "status":
		inv, _ := s.org.state.Invoice(s.find(args[0]).ID)
		check(string(inv.Status(DateOf(s.instant(options, "on"), s.org.zone))), args[1])
	case "left":
		check(s.org.state.credits[s.org.grants[args[0]]].Remaining.Format(currency), args[1])
	case "explain":
		n, err := strconv.Atoi(args[0])
		s.must(err)
		steps, err := Explain(s.got, n)
		s.must(err)
		if want := strings.Join(words[2:], " "); !strings.Contains(strings.Join(steps, "\n"), want) {
			s.t.Errorf("%s: no step has %q:\n  %s", s.at, want, strings.Join(steps, "\n  "))
		}
	default:
		check(s.field(words[0]), args[0])
	}
}

func (s *scenario) field(name string) string {
	inv := &s.got
	amounts := map[string]Amount{"total": inv.Total, "subtotal": inv.Subtotal, "adjustments": inv.Adjustments, "discount": inv.Discount,
		"tax": inv.Tax, "tax_included": inv.TaxIncluded, "credits": inv.CreditsApplied, "carried": inv.Carried, "difference": s.diff}
	if a, ok := amounts[name]; ok {
		return a.Format(s.org.currency)
	}
	texts := map[string]string{"exact": inv.Exact.String(), "due": inv.DueDate.String(), "number": inv.Number}
	text, ok := texts[name]
	if !ok {
		s.t.Fatalf("%s: there is nothing called %s", s.at, name)
	}
	return text
}

// account is one by its kind for the org's, by its name for the house's.
func (s *scenario) account(name string) Account {
	if strings.Contains(name, ":") {
		return Account(name)
	}
	return orgAccount(name, s.org.id)
}

// lineText is a line as scenarios write it.
func lineText(l *Line, currency string) string {
	amount := l.Amount.Format(currency)
	days := fmt.Sprintf("%d/%d", l.Days, l.OfDays)
	switch l.Kind {
	case LineUsage:
		return strings.TrimSpace(fmt.Sprintf("%s %s %d %s %s %s", l.PriceVersion, l.Bucket, l.Quantity, l.Exact, amount, l.Origin))
	case LineTier:
		return fmt.Sprintf("tier %s/%d %d %s %s", l.Name, l.Tier, l.Quantity, l.Exact, amount)
	case LineIncluded:
		if l.Bucket != "" {
			return fmt.Sprintf("included %s %s %d %s %s", l.PriceVersion, l.Bucket, l.Quantity, l.Exact, amount)
		}
		return fmt.Sprintf("included %s %s %s", l.Name, days, amount)
	case LineFee, LineFeeAdvance, LineCommitment:
		return fmt.Sprintf("%s %s %s %s", l.Kind, l.Name, days, amount)
	case LineDiscount:
		if l.Pct.IsZero() {
			return fmt.Sprintf("discount %s %s %s", l.Name, days, amount)
		}
		return fmt.Sprintf("discount %s %s%% %s", l.Name, l.Pct, amount)
	case LineTax:
		return fmt.Sprintf("tax %s %s%% %s", l.Name, l.Pct, amount)
	case LineCredit:
		return fmt.Sprintf("credit %s %s", strings.ReplaceAll(l.Name, " ", "_"), amount)
	case LineAdjustment:
		return fmt.Sprintf("adjustment %s %s", amount, l.Origin)
	}
	return fmt.Sprintf("%s %s", l.Kind, amount)
}

// finish compares what the last command's block left open.
func (s *scenario) finish() {
	s.t.Helper()
	if !s.pending {
		return
	}
	s.pending = false
	if s.err != nil {
		s.t.Errorf("%s: before the next command: %v", s.at, s.err)
	}
	if err := checkExplained(s.got); err != nil {
		s.t.Errorf("%s: before the next command: %v", s.at, err)
	}
	var lines, transfers, segments []string
	for i := range s.got.Lines {
		lines = append(lines, lineText(&s.got.Lines[i], s.org.currency))
	}
	for _, t := range s.last.Transfers {
		short := func(a Account) string { return strings.TrimSuffix(string(a), ":"+s.org.id.String()) }
		transfers = append(transfers, fmt.Sprintf("%s %s %s %s", t.Code, short(t.Debit), short(t.Credit), t.Amount))
	}
	for _, seg := range s.got.Segments {
		segments = append(segments, strings.TrimSpace(fmt.Sprintf("%s %d %s", seg.First, seg.Days, seg.PlanCode)))
	}
	for what, got := range map[string][]string{"line": lines, "journal": transfers, "segment": segments} {
		if want := s.want[what]; want != nil && !slices.Equal(got, want) {
			s.t.Errorf("%s: before the next command: got\n  %s\nwant\n  %s", s.at, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}
