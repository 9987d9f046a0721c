package billing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/admission"
	"aione/billing"
	"aione/events"
	"aione/ledger"
)

// checks bounds the runs of the state machine: each writes to a real log.
func checks(t *testing.T, few, many int) {
	n := many
	if testing.Short() {
		n = few
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set("rapid.checks", f.DefValue) })
	}
}

// machine does to an org's money whatever can be done, in any order, by several
// processes, some of which die at the worst moment.
type machine struct {
	*rapid.T
	w     *world
	nodes []*node
	org   billing.Org
	used  []events.Usage
	from  int // rows of the world before this org's
}

func (m *machine) node() *node { return m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(m.T, "node")] }

func (m *machine) amount() ledger.Amount {
	return ledger.AmountFromInt(rapid.Int64Range(1, 60).Draw(m.T, "amount"))
}

// by is a command of a key that no other command has, asked for twice.
func (m *machine) by() billing.By {
	by := m.w.by()
	by.Reason = "why not"
	if rapid.Bool().Draw(m.T, "with a key") {
		by.Key = events.NewID().String()
	}
	return by
}

// ok takes what may happen and fails on anything else.
func (m *machine) ok(err error, may ...error) bool {
	if err == nil {
		return true
	}
	for _, e := range may {
		if errors.Is(err, e) {
			return false
		}
	}
	m.Fatal(err)
	return false
}

// again asks for the same once more, elsewhere: it must be answered the same.
func again[T any](m *machine, by billing.By, first billing.Outcome[T], do func(*node) (billing.Outcome[T], error)) {
	if by.Key == "" {
		return
	}
	second, err := do(m.node())
	x, errX := json.Marshal(first.Result)
	var read T // an empty list may come back as none
	errX = errors.Join(errX, json.Unmarshal(x, &read))
	x, _ = json.Marshal(read)
	y, errY := json.Marshal(second.Result)
	if err := errors.Join(err, errX, errY); err != nil || !second.Replayed || !bytes.Equal(x, y) {
		m.Fatalf("asked again: %s, %v; want %s", y, err, x)
	}
}

func (m *machine) use(*rapid.T) {
	days := rapid.SampledFrom([]int64{0, 0, 3, 75}).Draw(m.T, "at most so many days ago")
	back := time.Duration(rapid.Int64Range(0, days*int64(24*time.Hour)).Draw(m.T, "back")).Truncate(time.Second)
	at := m.w.clock().Add(-back)
	m.used = append(m.used, m.w.use(m.nodes[0], m.org, at.Format(time.RFC3339)))
}

// copy sends what was used once more, now or long after: the same event, and another
// one under its id.
func (m *machine) copy(*rapid.T) {
	if len(m.used) == 0 {
		return
	}
	u := rapid.SampledFrom(m.used).Draw(m.T, "event")
	m.w.publish(u, u)
	if rapid.Bool().Draw(m.T, "and another") {
		u.Tokens.Input *= 2
		u.Cost = u.Cost.Add(u.Cost)
		m.w.publish(u)
	}
}

func (m *machine) topUp(*rapid.T) {
	n, by, ask := m.node(), m.by(), billing.TopUp{Amount: m.amount()}
	out, err := n.TopUp(m.w.ctx, m.org.ID, ask, by)
	m.ok(err)
	again(m, by, out, func(n *node) (billing.Outcome[ledger.Grant], error) { return n.TopUp(m.w.ctx, m.org.ID, ask, by) })
}

func (m *machine) grant(*rapid.T) {
	expires := m.w.clock().Add(time.Duration(rapid.Int64Range(1, 60).Draw(m.T, "days")) * 24 * time.Hour)
	_, err := m.node().GrantCredit(m.w.ctx, m.org.ID, billing.Promotion{Amount: m.amount(), ExpiresAt: expires}, m.by())
	m.ok(err)
}

func (m *machine) pay(*rapid.T) {
	n, by, ask := m.node(), m.by(), billing.Payment{Amount: m.amount()}
	out, err := n.Pay(m.w.ctx, m.org.ID, ask, by)
	if m.ok(err) {
		again(m, by, out, func(n *node) (billing.Outcome[ledger.Payment], error) { return n.Pay(m.w.ctx, m.org.ID, ask, by) })
	}
}

func (m *machine) refund(*rapid.T) {
	_, err := m.node().Refund(m.w.ctx, m.org.ID, billing.Refund{Amount: m.amount()}, m.by())
	m.ok(err, ledger.ErrTooMuch)
}

// invoice is any invoice of the org; false when there is none.
func (m *machine) invoice() (ledger.Invoice, bool) {
	invoices, total, err := m.nodes[0].book.Invoices(m.org.ID, 1, 100)
	if m.ok(err); total == 0 {
		return ledger.Invoice{}, false
	}
	return invoices[rapid.IntRange(0, total-1).Draw(m.T, "invoice")], true
}

func (m *machine) takeBack(*rapid.T) {
	inv, ok := m.invoice()
	if !ok {
		return
	}
	var lines []ledger.CreditLine
	if rapid.Bool().Draw(m.T, "in part") {
		lines = []ledger.CreditLine{{Line: 1, Amount: m.amount()}}
	}
	_, err := m.node().CreditNote(m.w.ctx, m.org.ID, inv.ID, lines, m.by())
	if by := m.by(); !m.ok(err, ledger.ErrNotOpen, ledger.ErrTooMuch, ledger.ErrRequest) {
		_, err = m.node().WriteOff(m.w.ctx, m.org.ID, inv.ID, by)
		m.ok(err, ledger.ErrNotOpen)
	}
}

func (m *machine) correct(*rapid.T) {
	inv, ok := m.invoice()
	if !ok {
		return
	}
	n, by := m.node(), m.by()
	ask := billing.ReRate{InvoiceID: inv.ID, Terms: &ledger.Terms{DiscountPct: decimal.New(rapid.Int64Range(0, 100).Draw(m.T, "discount"), 0)}}
	dry, err := n.ReRate(m.w.ctx, m.org.ID, ask, by)
	if !m.ok(err, billing.ErrInvalid) {
		return
	}
	out, err := n.Correct(m.w.ctx, m.org.ID, ask, dry.Hash, by)
	// Nothing that the invoice carried forward may be spent, or written off.
	if m.ok(err, ledger.ErrTooMuch, ledger.ErrNotOpen) {
		again(m, by, out, func(n *node) (billing.Outcome[billing.Corrected], error) {
			return n.Correct(m.w.ctx, m.org.ID, ask, dry.Hash, by)
		})
	}
}

func (m *machine) assign(*rapid.T) {
	terms := ledger.Terms{
		MonthlyFee: ledger.AmountFromInt(rapid.Int64Range(0, 40).Draw(m.T, "fee")), IncludedTokens: rapid.Uint64Range(0, 2_000_000).Draw(m.T, "included"),
		DiscountPct: decimal.New(rapid.Int64Range(0, 30).Draw(m.T, "discount"), 0), Commitment: ledger.AmountFromInt(rapid.Int64Range(0, 30).Draw(m.T, "commitment")),
	}
	_, err := m.node().AssignPlan(m.w.ctx, m.org.ID, billing.Plan{Code: "plan", Name: "Plan", Terms: terms}, m.by())
	m.ok(err, billing.ErrInvalid) // a plan may start later than now already
}

func (m *machine) profile(*rapid.T) {
	p := billing.Profile{TaxRates: []ledger.TaxRate{{Name: "VAT", Pct: decimal.New(rapid.Int64Range(0, 20).Draw(m.T, "tax"), 0), Inclusive: rapid.Bool().Draw(m.T, "inclusive")}}}
	_, err := m.node().SetProfile(m.w.ctx, m.org.ID, p, m.by())
	m.ok(err)
}

// creditLimit is admission's command: it may open the org's balance.
func (m *machine) creditLimit(*rapid.T) {
	rec, err := events.NewRecord(admission.TypeCreditLimitSet, m.w.clock(), "test", "", admission.CreditLimitSet{OrgID: m.org.ID, Amount: decimal.New(100, 0)})
	m.ok(err)
	_, err = m.w.log.Append(m.w.ctx, events.Append{Subject: admission.BudgetSubject(m.org.ID), Record: rec, Unchecked: true})
	m.ok(err)
	m.run(nil)
}

func (m *machine) pass(*rapid.T) {
	d := time.Duration(rapid.Int64Range(int64(time.Hour), int64(20*24*time.Hour)).Draw(m.T, "time")).Truncate(time.Millisecond)
	m.w.setClock(m.w.clock().Add(d).Format(time.RFC3339Nano))
}

// month is one in which nothing else happens.
func (m *machine) month(*rapid.T) {
	m.use(nil)
	m.w.setClock(m.w.clock().AddDate(0, 1, 0).Format(time.RFC3339Nano))
	m.use(nil)
	m.run(nil)
}

func (m *machine) run(*rapid.T) {
	_, err := m.node().RunDue(m.w.ctx, m.w.clock())
	m.ok(err)
}

func (m *machine) race(*rapid.T) {
	var done sync.WaitGroup
	errs := make([]error, len(m.nodes))
	for i, n := range m.nodes {
		done.Go(func() { _, errs[i] = n.RunDue(m.w.ctx, m.w.clock()) })
	}
	done.Wait()
	m.ok(errors.Join(errs...))
}

// crash has an invoicer die around a batch. What it wrote, others go on from.
func (m *machine) crash(*rapid.T) {
	n := m.node()
	hook := func(uuid.UUID, ledger.Period) error { return errCrash }
	if rapid.Bool().Draw(m.T, "after the batch") {
		n.Hooks.AfterBatch = hook
	} else {
		n.Hooks.BeforeBatch = hook
	}
	_, err := n.RunDue(m.w.ctx, m.w.clock())
	n.Hooks = billing.Hooks{}
	m.ok(err, errCrash)
}

// rows are the org's, with whether a run has counted each.
func (m *machine) rows() (counted, open []row) {
	m.w.usage.mu.Lock()
	defer m.w.usage.mu.Unlock()
	for _, r := range m.w.usage.rows[m.from:] {
		if r.OrgID != m.org.ID {
			continue
		}
		times := 0
		for _, run := range m.nodes[0].book.RunsOf(m.org.ID) {
			if r.OccurredAt.Before(run.Period.End) && r.seq <= run.Cut && (!r.OccurredAt.Before(run.Period.Start) || r.seq > run.PreviousCut) {
				times++
			}
		}
		switch times {
		case 0:
			open = append(open, r)
		case 1:
			counted = append(counted, r)
		default:
			m.Fatalf("usage of %s is counted by %d runs", r.OccurredAt, times)
		}
	}
	return counted, open
}

// check holds what must be true at any time.
func (m *machine) check(*rapid.T) {
	w, n := m.w, m.nodes[0]
	w.awaitCounted(m.org)
	end, err := w.log.LedgerEnd(w.ctx)
	m.ok(err)
	for _, n := range m.nodes {
		m.ok(n.book.WaitFor(w.ctx, end))
	}
	counted, open := m.rows()

	// Σ invoices = what the runs have counted, once.
	var rows uint64
	stamped := decimal.Decimal{}
	invoices, _, err := n.book.Invoices(m.org.ID, 1, 1000)
	m.ok(err)
	for _, inv := range invoices {
		if inv.Correction != nil {
			continue // it counts the same again
		}
		rows += inv.Inputs.Rows
		for _, q := range inv.Inputs.Quantities {
			stamped = stamped.Add(q.Cost)
		}
	}
	want := decimal.Decimal{}
	for _, r := range counted {
		want = want.Add(r.Cost)
	}
	if rows != uint64(len(counted)) || !stamped.Equal(want) {
		m.Fatalf("invoices count %d rows of %s, the runs %d of %s", rows, stamped, len(counted), want)
	}

	// What admission has left = prepaid + promotional - owed - usage not yet invoiced.
	a, err := n.book.Account(m.org.ID)
	m.ok(err)
	if a.Opened.IsZero() {
		return
	}
	left := a.Prepaid.Decimal().Add(a.Promo.Decimal()).Sub(a.Owed.Decimal())
	for _, r := range open {
		if !r.OccurredAt.Before(a.Opened) {
			left = left.Sub(r.Cost)
		}
	}
	if s := w.standing(n, m.org.ID); !s.Credit.Sub(s.Spent).Equal(left) {
		m.Fatalf("admission has %s left (credited %s, spent %s); the ledger has %s prepaid, %s promotional, %s owed: %s left with the open usage",
			s.Credit.Sub(s.Spent), s.Credit, s.Spent, a.Prepaid, a.Promo, a.Owed, left)
	}
}

func TestMoneyThroughAnything(t *testing.T) {
	checks(t, 4, 25)
	w := newWorld(t)
	nodes := []*node{w.node(), w.node()}
	w.install(nodes[0])
	rapid.Check(t, func(rt *rapid.T) {
		w.setClock("2023-11-05T00:00:00Z")
		m := &machine{T: rt, w: w, nodes: nodes, from: len(w.usage.rows)}
		m.org = w.newOrg(nodes[0], "acme", "2023-11-02T00:00:00Z")
		rt.Repeat(map[string]func(*rapid.T){
			"": m.check, "use": m.use, "use more": m.use, "copy": m.copy, "top up": m.topUp, "grant": m.grant, "pay": m.pay, "refund": m.refund,
			"take back": m.takeBack, "correct": m.correct, "assign": m.assign, "profile": m.profile, "credit limit": m.creditLimit,
			"pass": m.pass, "month": m.month, "run": m.run, "race": m.race, "crash": m.crash,
		})
		for _, n := range append(nodes, w.node()) {
			if v := billing.Verify(n.book); !v.OK() {
				rt.Fatal(v.Findings)
			}
		}
		m.toldOnce()
	})
}

// toldOnce holds that each credit note is in one record that tells of nothing else.
func (m *machine) toldOnce() {
	told := map[uuid.UUID]int{}
	for _, r := range m.w.records(billing.TypeCreditNoteIssued, billing.TypeCorrectionNote) {
		var entry ledger.Entry
		note := new(ledger.CreditNote)
		if r.Type == billing.TypeCreditNoteIssued {
			m.ok(r.Into(&entry))
			note = entry.CreditNote
		} else {
			m.ok(r.Into(note))
		}
		if note.OrgID == m.org.ID {
			told[note.ID]++
		}
	}
	notes, total, err := m.nodes[0].book.CreditNotes(m.org.ID, 1, 1000)
	m.ok(err)
	if len(notes) != total || len(told) != total {
		m.Fatalf("%d credit notes, %d of them are told of", total, len(told))
	}
	for _, note := range notes {
		if told[note.ID] != 1 {
			m.Fatalf("credit note %s is told of %d times", note.Number, told[note.ID])
		}
	}
}
