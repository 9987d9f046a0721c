package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/catalog"
	"aione/events"
	"aione/ledger"
)

// contract is what every org of a test has agreed to.
type contract struct {
	mu     sync.Mutex
	zone   *time.Location
	anchor int
	plans  []ledger.Plan
	seq    uint64
}

func newContract(anchor int, plans ...ledger.Plan) *contract {
	return &contract{zone: shanghai.Location, anchor: anchor, plans: plans, seq: 1}
}

func (c *contract) period(at time.Time) ledger.Period {
	p, err := ledger.AnchoredPeriodOf(at, c.zone, c.anchor)
	if err != nil {
		panic(err)
	}
	return p
}

func (c *contract) included(_ uuid.UUID, at time.Time) (Included, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	days, in := 0, ledger.Segment{}
	for _, s := range ledger.SegmentsOf(c.period(at), c.zone, c.plans) {
		if days += s.Days; !at.Before(s.Start) {
			in = s
		}
	}
	tokens, amount, err := in.Included(days, "CNY")
	out := Included{First: in.First, From: in.Start, To: in.End, Blocks: in.Terms.Blocks(), Plan: in.PlanCode, Limit: amount.Decimal(), Unit: "CNY", Seq: c.seq}
	if in.Terms.IncludedTokens > 0 {
		out.Limit, out.Unit = decimal.NewFromUint64(tokens), UnitTokens
	}
	return out, err
}

// agree adds a plan, as the ledger's reader would tell.
func (c *contract) agree(l *Limiter, org uuid.UUID, p ledger.Plan) {
	c.mu.Lock()
	seq := c.seq + 1
	c.mu.Unlock()
	l.TermsChanged(org, seq, p.Terms.Blocks())
	c.mu.Lock()
	c.plans, c.seq = append(c.plans, p), seq
	c.mu.Unlock()
}

func blocks(from time.Time, tokens uint64, amount string) ledger.Plan {
	p := ledger.Plan{Code: "pro", From: from, Terms: ledger.Terms{IncludedTokens: tokens, OveragePolicy: ledger.OverageBlock}}
	var err error
	if p.Terms.IncludedAmount, err = ledger.ParseAmount(amount); err != nil {
		panic(err)
	}
	return p
}

// blockedBox is a limiter alone whose orgs have a contract that blocks.
func blockedBox(t testing.TB, c *contract, orgs ...uuid.UUID) *box {
	b := newBox(t, func(config *Config) { config.Included = c.included })
	for _, org := range orgs {
		b.TermsChanged(org, 1, true)
	}
	return b
}

// counted is a request as the invoice counts it.
type counted struct {
	at     time.Time
	tokens events.Tokens
	images uint64
	price  catalog.Price
	cost   decimal.Decimal
}

// overage is what the invoice of a period bills of what the plan's unit covers,
// past what is included.
func (c *contract) overage(t *rapid.T, p ledger.Period, used []counted) ledger.Amount {
	segments := ledger.SegmentsOf(p, c.zone, c.plans)
	in := ledger.BillInput{OrgID: named("org", 1), LegalEntity: "X", Currency: "CNY", Period: p, CreatedAt: p.End, CreatedOn: ledger.DateOf(p.End, c.zone),
		Segments: segments, Next: ledger.NextSegment(p, c.zone, c.plans), Prices: map[string]catalog.Price{}}
	sums := map[string]*ledger.Quantity{}
	for _, u := range used {
		if !p.Contains(u.at) {
			continue
		}
		at := 0
		for i, s := range segments {
			if !u.at.Before(s.Start) {
				at = i
			}
		}
		k := fmt.Sprint(at, u.price.Version)
		q := sums[k]
		if q == nil {
			q = &ledger.Quantity{Model: u.price.Model, PriceVersion: u.price.Version, Segment: at}
			sums[k] = q
		}
		q.Tokens.Input += u.tokens.Input
		q.Tokens.CacheRead += u.tokens.CacheRead
		q.Tokens.CacheWrite5m += u.tokens.CacheWrite5m
		q.Tokens.CacheWrite1h += u.tokens.CacheWrite1h
		q.Tokens.Output += u.tokens.Output
		q.Tokens.Reasoning += u.tokens.Reasoning
		q.Images += u.images
		q.Requests++
		q.Cost = q.Cost.Add(u.cost)
		in.Prices[u.price.Version] = u.price
	}
	for _, q := range sums {
		in.Inputs.Quantities = append(in.Inputs.Quantities, *q)
		in.Inputs.Rows += q.Requests
	}
	inv, err := ledger.Bill(in)
	if errors.Is(err, ledger.ErrNothingToBill) {
		return ledger.Amount{}
	}
	if err != nil {
		t.Fatal(err)
	}
	sum := ledger.Amount{}
	for _, l := range inv.Lines {
		if l.Kind != ledger.LineUsage && l.Kind != ledger.LineIncluded || !segments[l.Segment].Terms.Blocks() {
			continue
		}
		if segments[l.Segment].Terms.IncludedTokens > 0 && l.Unit != ledger.UnitTokens {
			continue // images and requests are not tokens: they are billed
		}
		if sum, err = sum.Add(l.Amount); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

func drawBlocked(t *rapid.T) *contract {
	c := newContract(rapid.IntRange(1, 31).Draw(t, "anchor"))
	for i := range rapid.IntRange(1, 3).Draw(t, "plans") {
		from := start.Add(time.Duration(rapid.IntRange(-40*24, 50*24).Draw(t, "from")) * time.Hour)
		p := blocks(from, rapid.Uint64Range(1, 4000).Draw(t, "tokens"), "0")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			p.Terms = ledger.Terms{} // pay as you go
		case 1, 2:
			p.Terms.IncludedTokens, p.Terms.IncludedAmount = 0, ledger.AmountFromInt(rapid.Int64Range(1, 30).Draw(t, "amount"))
		}
		p.Code = fmt.Sprint("p", i)
		c.plans = append(c.plans, p)
	}
	return c
}

func drawUsage(t *rapid.T) (u counted) {
	for _, n := range []*uint64{&u.tokens.Input, &u.tokens.CacheRead, &u.tokens.CacheWrite5m, &u.tokens.CacheWrite1h, &u.tokens.Output, &u.tokens.Reasoning} {
		*n = rapid.Uint64Range(0, 80).Draw(t, "tokens")
	}
	u.images = rapid.Uint64Range(0, 1).Draw(t, "images")
	n := rapid.IntRange(1, 3).Draw(t, "model")
	u.price = catalog.Price{Version: fmt.Sprintf("m%d@1", n), Model: fmt.Sprintf("m%d", n), Currency: "CNY"}
	// A version has one price: it follows from its number.
	for i, p := range []*decimal.Decimal{&u.price.Input, &u.price.CacheRead, &u.price.CacheWrite5m, &u.price.CacheWrite1h, &u.price.Output, &u.price.Reasoning} {
		*p = decimal.New(int64((i+3)*(n*n-1)*1234567%19_999_999), -3)
	}
	u.price.Image = decimal.New(int64(n), -3)
	return u
}

// Whatever plans that block and requests there are: a request is let in if and only
// if its bound fits what its segment includes, nothing an invoice bills is overage,
// and what is left fits exactly.
func TestBlockedUsageIsNeverOverage(t *testing.T) {
	var served, refused, full int
	tb := t
	rapid.Check(t, func(t *rapid.T) {
		c := drawBlocked(t)
		b := blockedBox(tb, c, named("org", 1))
		var used []counted
		left := func(at time.Time) (Included, decimal.Decimal) {
			in, _ := c.included(named("org", 1), at)
			rest := in.Limit
			for _, u := range used {
				if !u.at.Before(in.From) && u.at.Before(in.To) {
					if in.Unit == UnitTokens {
						rest = rest.Sub(decimal.NewFromUint64(u.tokens.Total()))
					} else {
						rest = rest.Sub(u.cost)
					}
				}
			}
			return in, rest
		}
		ask := func(u counted, bound Claim) bool {
			in, rest := left(bound.At)
			size := bound.Cost
			if in.Unit == UnitTokens {
				size = decimal.NewFromUint64(bound.Tokens)
			}
			h, err := b.Reserve(context.Background(), bound)
			var r *Refusal
			switch {
			case err == nil:
				if in.Blocks && size.GreaterThan(rest) {
					t.Fatalf("%s %s were let in with %s left", size, in.Unit, rest)
				}
				h.Settle(u.tokens.Total(), u.cost)
				used = append(used, u)
				served++
				return true
			case errors.As(err, &r) && r.Kind == UsedUp && r.Included.To.Equal(in.To) && r.Included.Limit.Equal(in.Limit):
				if !in.Blocks || !size.GreaterThan(rest) {
					t.Fatalf("%s %s were refused with %s left", size, in.Unit, rest)
				}
				refused++
			default:
				t.Fatalf("%v %+v", err, r)
			}
			return false
		}
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			b.clock.add(time.Duration(rapid.IntRange(0, 40).Draw(t, "hours")) * time.Hour)
			u := drawUsage(t)
			u.at = b.clock.now()
			var err error
			if u.cost, err = ledger.Rate(u.price, u.tokens, u.images); err != nil {
				t.Fatal(err)
			}
			bound := claim(keyOf(1, 1), u.at, "0")
			bound.Tokens = u.tokens.Total() + rapid.Uint64Range(0, 20).Draw(t, "slack")
			bound.Cost = u.cost.Add(decimal.New(rapid.Int64Range(0, 20).Draw(t, "slack"), -4))
			if ask(u, bound) {
				continue
			}
			// What is left fits exactly, and then nothing does.
			in, rest := left(u.at)
			last := counted{at: u.at, price: u.price}
			last.tokens.Output = uint64(rest.IntPart())
			if in.Unit != UnitTokens { // a token costs the least there is
				last.price = catalog.Price{Version: "least@1", Model: "least", Currency: "CNY", Output: decimal.New(1, -6)}
				last.tokens.Output = uint64(rest.Shift(events.CostScale).IntPart())
			}
			if last.cost, err = ledger.Rate(last.price, last.tokens, 0); err != nil {
				t.Fatal(err)
			}
			bound.RequestID, bound.Tokens, bound.Cost = events.NewID(), last.tokens.Total(), last.cost
			if !ask(last, bound) {
				t.Fatalf("%s %s are left and cannot be used", rest, in.Unit)
			}
			bound.RequestID, bound.Tokens, bound.Cost = events.NewID(), 1, decimal.New(1, -events.CostScale)
			if ask(last, bound) {
				t.Fatal("there was more than all")
			}
			full++
		}
		for p := c.period(start); !p.Start.After(b.clock.now()); p = p.Next(c.zone) {
			if over := c.overage(t, p, used); !over.IsZero() {
				t.Fatalf("the invoice of %s has an overage of %s", p.Label, over)
			}
		}
	})
	if served == 0 || refused == 0 || full == 0 {
		t.Errorf("%d served, %d refused, %d full: nothing was shown", served, refused, full)
	}
}
