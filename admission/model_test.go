package admission

import (
	"context"
	"errors"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/keys"
)

// ledgerModel is the naive truth: decimals in maps, no queue, no months cached.
type ledgerModel struct {
	limit map[uuid.UUID]decimal.Decimal // of budgets, and of balances under the org's id + 1
	spent map[modelKey]decimal.Decimal
	held  map[modelKey]decimal.Decimal
}

type modelKey struct {
	account uuid.UUID
	month   string
}

func balanceOf(org uuid.UUID) uuid.UUID { org[0] ^= 0xff; return org }

func (m *ledgerModel) keys(k keys.Key, at time.Time) []modelKey {
	month := at.In(shanghai.Location).Format("2006-01")
	return []modelKey{{balanceOf(k.OrgID), "ever"}, {k.OrgID, month}, {k.TeamID, month}, {k.ID, month}}
}

// never and now say whether a bound fits, ever and at once.
func (m *ledgerModel) judge(k keys.Key, at time.Time, cost decimal.Decimal) (now, ever bool) {
	now, ever = true, true
	for _, a := range m.keys(k, at) {
		limit, ok := m.limit[a.account]
		if !ok {
			continue
		}
		ever = ever && !m.spent[a].Add(cost).GreaterThan(limit)
		now = now && !m.spent[a].Add(m.held[a]).Add(cost).GreaterThan(limit)
	}
	return now, ever
}

func (m *ledgerModel) move(k keys.Key, at time.Time, held, spent decimal.Decimal) {
	for _, a := range m.keys(k, at) {
		m.held[a] = m.held[a].Add(held)
		m.spent[a] = m.spent[a].Add(spent)
	}
}

type modelHold struct {
	hold Hold
	c    Claim
}

// Whatever is claimed, settled, refused, set and credited, over months: what is
// refused could never have fitted, what waits does not fit now or is behind
// another, what is let in fits, and every sum is the model's.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, func(c *Config) { c.Wait = 1000 * time.Hour })
			m := &ledgerModel{limit: map[uuid.UUID]decimal.Decimal{}, spent: map[modelKey]decimal.Decimal{}, held: map[modelKey]decimal.Decimal{}}
			runModel(rt, t, b, m)
		})
	})
}

func runModel(rt *rapid.T, t *testing.T, b *box, m *ledgerModel) {
	all := []keys.Key{keyOf(1, 1), keyOf(1, 2), keyOf(1, 3)}
	org := all[0].OrgID
	b.credit(1, "0") // opens the balance
	m.limit[balanceOf(org)] = decimal.Decimal{}
	var holds []modelHold
	type waiting struct {
		c      Claim
		done   chan error
		hold   *Hold
		cancel context.CancelFunc
	}
	var waits []waiting
	money := rapid.Map(rapid.Int64Range(0, 40), func(n int64) decimal.Decimal { return decimal.New(n, -1) })
	// settleWaits sorts those that have been decided.
	settleWaits := func() {
		synctest.Wait()
		left := waits[:0]
		for _, w := range waits {
			select {
			case err := <-w.done:
				var r *Refusal
				switch {
				case err == nil:
					holds = append(holds, modelHold{*w.hold, w.c})
					m.move(*w.c.Key, w.c.At, w.c.Cost, decimal.Decimal{})
				case errors.As(err, &r):
					if _, ever := m.judge(*w.c.Key, w.c.At, w.c.Cost); ever {
						rt.Fatalf("%s was refused to %s though it could still fit", w.c.Cost, w.c.Key.ID)
					}
				case !errors.Is(err, context.Canceled):
					rt.Fatal(err)
				}
			default:
				left = append(left, w)
			}
		}
		waits = left
		if len(waits) > 0 {
			if now, _ := m.judge(*waits[0].c.Key, waits[0].c.At, waits[0].c.Cost); now {
				rt.Fatalf("the first in the queue waits for %s though it fits", waits[0].c.Cost)
			}
		}
	}
	check := func() {
		for k, limit := range m.limit {
			for a := range m.spent {
				if a.account == k && m.spent[a].Add(m.held[a]).GreaterThan(limit) {
					rt.Fatalf("account %s: spent %s and held %s over %s", k, m.spent[a], m.held[a], limit)
				}
			}
		}
		for _, k := range all {
			for _, s := range []struct {
				scope Scope
				id    uuid.UUID
				in    int
			}{{ScopeBalance, org, 0}, {ScopeOrg, org, 1}, {ScopeTeam, k.TeamID, 2}, {ScopeKey, k.ID, 3}} {
				a := m.keys(k, b.clock.now())[s.in]
				got, err := b.Standing(org, s.scope, s.id, b.clock.now())
				if err != nil || !got.Spent.Equal(m.spent[a]) || !got.Held.Equal(m.held[a]) {
					rt.Fatalf("%s stands at %s + %s, the model at %s + %s (%v)", s.scope, got.Spent, got.Held, m.spent[a], m.held[a], err)
				}
			}
		}
	}
	rt.Repeat(map[string]func(*rapid.T){
		"claim": func(rt *rapid.T) {
			c := claim(rapid.SampledFrom(all).Draw(rt, "key"), b.clock.now(), "0")
			c.Cost = money.Draw(rt, "cost")
			now, ever := m.judge(*c.Key, c.At, c.Cost)
			ctx, cancel := context.WithCancel(context.Background())
			w := waiting{c: c, done: make(chan error, 1), hold: new(Hold), cancel: cancel}
			go func() {
				h, err := b.Reserve(ctx, c)
				*w.hold = h
				w.done <- err
			}()
			synctest.Wait()
			switch {
			case len(waits) > 0 || !now:
			case len(w.done) == 0:
				rt.Fatalf("%s fits and waits all the same", c.Cost)
			}
			if !ever && len(w.done) == 0 {
				rt.Fatalf("%s waits though it can never fit", c.Cost)
			}
			waits = append(waits, w)
			settleWaits()
		},
		"settle": func(rt *rapid.T) {
			if len(holds) == 0 {
				return
			}
			i := rapid.IntRange(0, len(holds)-1).Draw(rt, "hold")
			h := holds[i]
			holds = append(holds[:i], holds[i+1:]...)
			cost := decimal.NewFromBigInt(big.NewInt(rapid.Int64Range(0, h.c.Cost.Shift(12).IntPart()).Draw(rt, "cost")), -12)
			m.move(*h.c.Key, h.c.At, h.c.Cost.Neg(), cost)
			h.hold.Settle(10, cost)
			settleWaits()
		},
		"budget": func(rt *rapid.T) {
			k := rapid.SampledFrom(all).Draw(rt, "key")
			at := rapid.SampledFrom([]struct {
				scope Scope
				id    uuid.UUID
			}{{ScopeOrg, org}, {ScopeTeam, k.TeamID}, {ScopeKey, k.ID}}).Draw(rt, "account")
			limit := money.Draw(rt, "limit")
			for a := range m.spent { // never lowered under what is spent or held: that is another rule
				if a.account == at.id && limit.LessThan(m.spent[a].Add(m.held[a])) {
					return
				}
			}
			m.limit[at.id] = limit
			b.budget(1, at.scope, at.id, limit.String())
			settleWaits()
		},
		"credit": func(rt *rapid.T) {
			c := money.Draw(rt, "credit")
			m.limit[balanceOf(org)] = m.limit[balanceOf(org)].Add(c)
			b.credit(1, c.String())
			settleWaits()
		},
		"leave": func(rt *rapid.T) {
			if len(waits) > 0 {
				waits[rapid.IntRange(0, len(waits)-1).Draw(rt, "who")].cancel()
				settleWaits()
			}
		},
		"pass": func(rt *rapid.T) {
			b.clock.add(time.Duration(rapid.IntRange(1, 12*24).Draw(rt, "hours")) * time.Hour)
			for i := 0; i < len(holds); i++ { // nothing is on its way for longer than a month
				if b.clock.now().Sub(holds[i].c.At) > 20*24*time.Hour {
					h := holds[i]
					holds = append(holds[:i], holds[i+1:]...)
					i--
					m.move(*h.c.Key, h.c.At, h.c.Cost.Neg(), decimal.Decimal{})
					h.hold.Settle(0, decimal.Decimal{})
				}
			}
			settleWaits()
		},
		"": func(*rapid.T) { check() },
	})
	for _, w := range waits {
		w.cancel()
	}
	for len(holds) > 0 {
		h := holds[0]
		holds = holds[1:]
		m.move(*h.c.Key, h.c.At, h.c.Cost.Neg(), h.c.Cost)
		h.hold.Settle(1, h.c.Cost)
		settleWaits()
	}
	check()
}

// An amount is its decimal, exactly, or is refused.
func TestAmounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (decimal.Decimal, amount) {
			n := new(big.Int)
			n.SetString(rapid.StringMatching(`-?[1-9][0-9]{0,36}`).Draw(t, name), 10)
			d := decimal.NewFromBigInt(n, -12)
			if rapid.Bool().Draw(t, "short") {
				d = decimal.New(rapid.Int64Range(-1e9, 1e9).Draw(t, "coefficient"), rapid.Int32Range(-12, 8).Draw(t, "exponent"))
			}
			a, err := amountOf(d)
			if err != nil || !a.decimal().Equal(d) {
				t.Fatalf("%s reads back as %s (%v)", d, a.decimal(), err)
			}
			return d, a
		}
		x, a := draw("x")
		y, b := draw("y")
		if !a.plus(b).decimal().Equal(x.Add(y)) || !a.minus(b).decimal().Equal(x.Sub(y)) || a.less(b) != x.LessThan(y) {
			t.Fatalf("%s and %s", x, y)
		}
		if n := rapid.IntRange(1, 9).Draw(t, "n"); !a.negative() {
			p := a.part(n).decimal().Mul(decimal.NewFromInt(int64(n)))
			if p.GreaterThan(x) || x.Sub(p).GreaterThan(decimal.New(int64(n), -12)) {
				t.Fatalf("a %d-th of %s", n, x)
			}
		}
	})
	for _, d := range []decimal.Decimal{dec("1e26"), dec("-1e26"), decimal.New(1, 999999999), dec("0.0000000000001"), decimal.New(1, -999999999)} {
		if _, err := amountOf(d); err == nil {
			t.Errorf("%d × 10^%d is taken", d.CoefficientInt64(), d.Exponent())
		}
	}
	if a, err := amountUp(decimal.New(1, -999999999)); err != nil || a != (amount{lo: 1}) {
		t.Errorf("next to nothing, up, is %s (%v)", a.decimal(), err)
	}
	for s, want := range map[string]string{"0.0000000000001": "0.000000000001", "-0.0000000000001": "0", "1": "1"} {
		if a, err := amountUp(dec(s)); err != nil || !a.decimal().Equal(dec(want)) {
			t.Errorf("%s up is %s (%v), want %s", s, a.decimal(), err, want)
		}
	}
	if amountMost.plus(amount{lo: 1}) != amountMost || amountLeast.minus(amount{lo: 1}) != amountLeast || (amount{}).minus(amountLeast) != amountMost ||
		amountLeast.minus(amountLeast) != (amount{}) || (amount{hi: -2}).minus(amountMost) != amountLeast {
		t.Error("sums do not saturate")
	}
}
