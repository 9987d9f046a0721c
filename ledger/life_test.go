package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"aione/catalog"
)

// life is an org that lives through some periods, with whatever may happen.
type life struct {
	*scenarioOrg
	seq    uint64
	prices map[string]catalog.Price
	period Period
	now    time.Time

	cash, promised *big.Rat // what came in less what went out; promotions given
	stale          []Entry  // decided and not applied
	happened       map[string]int
}

func newLife(t *rapid.T, happened map[string]int) *life {
	zone, err := time.LoadLocation(rapid.SampledFrom(zoneNames).Draw(t, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	currency := rapid.SampledFrom([]string{"CNY", "JPY", "KWD"}).Draw(t, "currency")
	id := drawID(t)
	l := &life{scenarioOrg: &scenarioOrg{id: id, zone: zone, currency: currency, terms: 10, state: NewState(id, currency), anchor: rapid.IntRange(1, 31).Draw(t, "anchor")},
		prices: make(map[string]catalog.Price), cash: new(big.Rat), promised: new(big.Rat), happened: happened}
	for _, version := range []string{"a@1", "b@1"} {
		l.prices[version] = drawListPrice(t, version[:1], version, currency)
	}
	if l.period, err = AnchoredPeriodOf(time.Date(2024, 1, 15, 0, 0, 0, 0, time.UTC), zone, l.anchor); err != nil {
		t.Fatal(err)
	}
	l.now = l.period.Start
	return l
}

// use is some usage, now and then of a period that is closed.
func (l *life) use(t *rapid.T) {
	for range rapid.IntRange(0, 4).Draw(t, "events") {
		version := rapid.SampledFrom([]string{"a@1", "b@1"}).Draw(t, "version")
		at := l.period.Start.Add(time.Duration(rapid.Int64Range(0, int64(l.period.End.Sub(l.period.Start))-1).Draw(t, "at")))
		if len(l.closed) > 0 && rapid.IntRange(0, 2).Draw(t, "late") == 0 {
			p := rapid.SampledFrom(l.closed).Draw(t, "origin").Period
			at = p.Start.Add(time.Duration(rapid.Int64Range(0, int64(p.End.Sub(p.Start))-1).Draw(t, "at")))
		}
		row := scenarioRow{at: at, model: version[:1], price: version, tokens: drawTokens(t, 1<<22), images: rapid.Uint64Range(0, 20).Draw(t, "images")}
		row.cost = decimalOf(t, modelCost(l.prices[version], row.tokens, row.images, 1))
		l.seq++
		row.seq = l.seq
		l.rows = append(l.rows, row)
	}
}

func (l *life) changePlan(t *rapid.T) {
	if rapid.IntRange(0, 1).Draw(t, "change of plan") == 0 {
		return
	}
	from := l.period.Start.Add(time.Duration(rapid.Int64Range(0, 25*24).Draw(t, "hours after the start")) * time.Hour)
	if n := len(l.plans); n > 0 && !from.After(l.plans[n-1].From) {
		return
	}
	l.plans = append(l.plans, Plan{Code: fmt.Sprint("plan ", len(l.plans)), From: from, Terms: drawTerms(t)})
}

// apply puts an entry into the state, as it comes back from the log.
func (l *life) apply(t *rapid.T, what string, e Entry, err error) bool {
	if err != nil {
		for _, known := range []error{ErrRequest, ErrNotOpen, ErrTooMuch, ErrNothingExpired, ErrNothingToBill} {
			if errors.Is(err, known) {
				l.happened[what+" refused"]++
				return false
			}
		}
		t.Fatalf("%s: %v", what, err)
	}
	if rapid.IntRange(0, 9).Draw(t, "is lost") == 0 {
		l.stale = append(l.stale, e)
		return false
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var stored Entry
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	if err := l.state.Apply(stored); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := checkState(l.state); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	l.chain = append(l.chain, stored.Journal)
	l.happened[what]++
	for _, old := range l.stale {
		before := l.state.Last().Hash
		if err := l.state.Apply(old); err == nil || l.state.Last().Hash != before {
			t.Fatalf("an entry decided before %s was applied after it: %v", what, err)
		}
	}
	return true
}

// close invoices the period.
func (l *life) close(t *rapid.T) {
	l.now = l.period.End.Add(time.Hour)
	expiry, err := l.state.Expire(l.now)
	l.apply(t, "expire", expiry, err)
	in, err := l.input(l.period, l.now, l.seq, l.prices)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Bill(in)
	if err == nil {
		var e Entry
		e, err = l.state.IssueInvoice(inv, fmt.Sprint("INV-", len(l.chain)))
		for !l.apply(t, "invoice", e, err) { // the batch was lost: the same is decided again
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := checkExplained(inv); err != nil {
			t.Fatal(err)
		}
	} else if !errors.Is(err, ErrNothingToBill) {
		t.Fatal(err)
	}
	l.previousCut = l.seq
	l.closed = append(l.closed, Origin{Period: in.Period, Segments: in.Segments})
	l.period = l.period.Next(l.zone)
}

// money is one thing that a finance department does.
func (l *life) money(t *rapid.T) {
	l.now = l.now.Add(time.Hour)
	s, amount := l.state, drawMinor(t, "amount", l.currency)
	issued := l.issued()
	var target Invoice
	if len(issued) > 0 {
		target = rapid.SampledFrom(issued).Draw(t, "invoice")
	}
	request := CreditRequest{Number: "CN", At: l.now, On: DateOf(l.now, l.zone), Reason: "because"}
	switch what := rapid.SampledFrom([]string{"pay", "pay named", "top up", "promote", "refund", "void", "credit", "write off", "correct"}).Draw(t, "what"); what {
	case "pay", "pay named":
		p := Payment{ID: drawID(t), Amount: amount, At: l.now}
		if what == "pay named" {
			p.For = []uuid.UUID{target.ID}
		}
		e, err := s.Pay(p)
		if l.apply(t, what, e, err) {
			l.cash = plus(l.cash, rat(amount.d))
		}
	case "top up", "promote":
		g := Grant{ID: drawID(t), Kind: GrantPrepaid, Amount: amount, GrantedAt: l.now, Priority: rapid.IntRange(0, 2).Draw(t, "priority")}
		if rapid.Bool().Draw(t, "expires") {
			g.ExpiresAt = l.now.AddDate(0, 0, rapid.IntRange(1, 60).Draw(t, "days"))
		}
		if what == "promote" {
			g.Kind = GrantPromotional
		}
		e, err := s.GrantCredit(g)
		if l.apply(t, what, e, err) && what == "top up" {
			l.cash = plus(l.cash, rat(amount.d))
		} else if err == nil && what == "promote" && s.done[g.ID] {
			l.promised = plus(l.promised, rat(amount.d))
		}
	case "refund":
		e, err := s.Refund(Refund{ID: drawID(t), Amount: amount, At: l.now})
		if l.apply(t, what, e, err) {
			l.cash = minus(l.cash, rat(amount.d))
		}
	case "credit":
		if len(target.Lines) > 0 {
			n := rapid.IntRange(1, len(target.Lines)).Draw(t, "line")
			request.Lines = []CreditLine{{Line: n, Amount: Amount{d: target.Lines[n-1].Amount.d.Abs()}}}
			e, err := s.CreditNote(target.ID, request)
			l.apply(t, what, e, err)
		}
	case "void", "correct":
		e, err := s.CreditNote(target.ID, request)
		if !l.apply(t, "void", e, err) || what == "void" {
			return
		}
		rebilled, err := Correct(target, Remedy{N: len(l.chain), Reason: "because", At: l.now, On: request.On, Credits: s.Credits()})
		if err != nil {
			t.Fatal(err)
		}
		if rebilled.Difference.Sign() != 0 {
			t.Fatalf("nothing was put right, and the difference is %s", rebilled.Difference)
		}
		e, err = s.IssueInvoice(rebilled.Draft, fmt.Sprint("INV-", len(l.chain)))
		l.apply(t, "correct", e, err)
	case "write off":
		e, err := s.WriteOff(WriteOff{ID: drawID(t), InvoiceID: target.ID, At: l.now, Reason: "because"})
		l.apply(t, what, e, err)
	}
}

// Whatever happens to an org's money, in whatever order: the books say what the
// documents say, cash is what came in less what went out, promotions are spent,
// expired or left, and the chain holds.
func TestMoneyIsNeverLost(t *testing.T) {
	happened := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t, happened)
		l.taxes = drawTaxes(t)
		for range rapid.IntRange(1, 4).Draw(t, "periods") {
			l.changePlan(t)
			l.use(t)
			for range rapid.IntRange(0, 6).Draw(t, "things that happen") {
				l.money(t)
			}
			l.close(t)
		}
		s := l.state
		if got := rat(s.Balance(Cash).d); got.Cmp(l.cash) != 0 {
			t.Fatalf("cash is %s, want %s", got, l.cash)
		}
		if got := rat(s.Balance(PromoExpense).d); got.Cmp(l.promised) != 0 {
			t.Fatalf("promotions cost %s, want %s", got, l.promised)
		}
		if err := VerifyChain(l.chain); err != nil {
			t.Fatal(err)
		}
		var again Balances
		for i := range l.chain {
			if err := again.Apply(&l.chain[i]); err != nil {
				t.Fatal(err)
			}
		}
		one, _ := again.AppendBinary(nil)
		two, _ := s.Balances().AppendBinary(nil)
		if string(one) != string(two) {
			t.Fatal("the balances are not the fold of the journals")
		}
	})
	t.Logf("what happened: %v", happened)
}

// Usage that comes late costs, in the end, what it would have cost in time: a
// period's own invoice and all adjustments of it come to what its terms make of
// all its usage, but for the rounding of each line. At list price it is exact: all
// invoices together are all usage that was counted.
func TestLateUsageComesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t, make(map[string]int))
		plain := rapid.Bool().Draw(t, "pay as you go")
		for range rapid.IntRange(2, 5).Draw(t, "periods") {
			if !plain {
				l.changePlan(t)
			}
			l.use(t)
			l.close(t)
		}
		places, _ := MinorUnits(l.currency)
		minor := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil))
		round := func(r *big.Rat) *big.Rat { return modelRound(r, int64(places)) }
		invoices := l.issued()
		exact, stamped := new(big.Rat), new(big.Rat)
		for _, o := range l.closed {
			billed, lines := new(big.Rat), 1
			for _, inv := range invoices {
				for _, line := range inv.Lines {
					own := inv.Period == o.Period && !line.Late()
					switch {
					case line.Origin == o.Period.Label, own && (line.Kind == LineUsage || line.Kind == LineTier || line.Kind == LineIncluded ||
						line.Kind == LineCommitment || line.Kind == LineDiscount):
						billed = plus(billed, rat(line.Amount.d))
						exact = plus(exact, rat(line.Exact.d))
						lines++
					}
				}
			}
			all := l.count(InputsQuery{Start: o.Period.Start, End: o.Period.End, Cut: l.seq, Spans: SpansOf(nil, o.Segments)})
			var own []Quantity
			for _, q := range all.Quantities {
				if q.Origin == "" {
					own, stamped = append(own, q), plus(stamped, rat(q.Cost))
				}
			}
			want := modelWhole(o.Segments, own, l.prices, round)
			off := minus(billed, want)
			if off.Abs(off).Cmp(product(minor, big.NewRat(int64(lines), 1))) > 0 {
				t.Fatalf("period %s was billed %s in %d lines, its usage comes to %s", o.Period.Label, billed.FloatString(6), lines, want.FloatString(6))
			}
		}
		if plain && exact.Cmp(stamped) != 0 {
			t.Fatalf("all invoices come to %s, all usage to %s", exact, stamped)
		}
	})
}
