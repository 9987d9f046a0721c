package billing_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/events"
	"aione/ledger"
)

func amount(s string) ledger.Amount {
	a, err := ledger.ParseAmount(s)
	if err != nil {
		panic(err)
	}
	return a
}

func (w *world) key(k string) billing.By {
	by := w.by()
	by.Key, by.Reason = k, "as agreed"
	return by
}

// must is for commands that have to succeed.
func must[T any](t interface{ Fatal(...any) }) func(out billing.Outcome[T], err error) T {
	return func(out billing.Outcome[T], err error) T {
		if err != nil {
			t.Fatal(err)
		}
		return out.Result
	}
}

// account is an org's money as "prepaid promo owed".
func (n *node) account(t *testing.T, org billing.Org) string {
	t.Helper()
	a, err := n.book.Account(org.ID)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(a.Prepaid.Format(org.Currency), " ", a.Promo.Format(org.Currency), " ", a.Owed.Format(org.Currency))
}

// records are the ledger's records of some types, in order.
func (w *world) records(types ...string) (found []events.Record) {
	w.Helper()
	end, err := w.log.LedgerEnd(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	for {
		w.mu.Lock()
		all := w.ledger
		w.mu.Unlock()
		if uint64(len(all)) < end {
			time.Sleep(time.Millisecond)
			continue
		}
		for _, r := range all {
			if slices.Contains(types, r.Type) {
				found = append(found, r)
			}
		}
		return found
	}
}

func typesOf(rs []events.Record) (types []string) {
	for _, r := range rs {
		types = append(types, r.Type)
	}
	return types
}

// One month of an org that has credits: they pay first, then a payment, and all of
// it is in the log with who and why.
func TestCreditsAndPaymentsPayInvoices(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("5"), Source: "welcome"}, w.key("a")))
	if got := n.account(t, org); got != "0.00 5.00 0.00" {
		t.Errorf("after the grant: %s", got)
	}
	w.use(n, org, "2023-11-10T00:00:00Z") // 18.00
	w.use(n, org, "2023-11-11T00:00:00Z")
	w.run(n)
	inv, err := n.book.LastInvoice(org.ID)
	if err != nil || inv.Total.Format("CNY") != "31.00" || inv.Status != ledger.StatusIssued || inv.CreditsApplied.Format("CNY") != "5.00" {
		t.Fatalf("%s of %s is %s: %v", inv.Total, inv.Number, inv.Status, err)
	}
	if got := n.account(t, org); got != "0.00 0.00 31.00" {
		t.Errorf("after the invoice: %s", got)
	}
	paid := must[ledger.Payment](t)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("40"), Reference: "bank 1"}, w.key("b")))
	if len(paid.Allocations) != 1 || paid.Overpaid.Format("CNY") != "9.00" {
		t.Errorf("the payment is %+v", paid)
	}
	s, err := n.book.Standing(org.ID, inv.ID)
	if err != nil || s.Status(ledger.Date{Year: 2030, Month: 1, Day: 1}) != ledger.StatusPaid || len(s.Payments) != 1 || s.Payments[0].Reference != "bank 1" {
		t.Errorf("the invoice stands at %+v, %v", s, err)
	}
	must[ledger.Refund](t)(n.Refund(w.ctx, org.ID, billing.Refund{Amount: amount("9")}, w.key("c")))
	if got := n.account(t, org); got != "0.00 0.00 0.00" {
		t.Errorf("after the refund: %s", got)
	}
	if _, err := n.Refund(w.ctx, org.ID, billing.Refund{Amount: amount("1")}, w.by()); !errors.Is(err, ledger.ErrTooMuch) {
		t.Errorf("a refund of what is not there: %v", err)
	}
	if got := typesOf(w.records(billing.TypeInvoicePaid, billing.TypeInvoiceIssued, billing.TypePaymentReceived, billing.TypeRefunded, billing.TypeCreditGranted)); strings.Join(got, " ") !=
		"credit.granted invoice.issued invoice.paid payment.received payment.refunded" {
		t.Errorf("records %v", got)
	}
	changes, total, err := n.book.Changes(org.ID, 1, 3)
	if err != nil || total < 6 || changes[0].Type != billing.TypeRefunded || changes[0].Actor != "test" || changes[0].Reason != "as agreed" {
		t.Errorf("the last changes of %d are %+v, %v", total, changes, err)
	}
	w.mustVerify(n)
	w.mustVerify(w.node())
}

// An invoice that credits pay in full is paid at once.
func TestPaidByCreditsAtOnce(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	must[ledger.Grant](t)(n.TopUp(w.ctx, org.ID, billing.TopUp{Amount: amount("100")}, billing.By{Actor: "test", At: instant("2023-11-03T00:00:00Z")}))
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.run(n)
	if inv, err := n.book.LastInvoice(org.ID); err != nil || inv.Status != ledger.StatusPaid || !inv.Total.IsZero() {
		t.Errorf("%s is %s, %v", inv.Total, inv.Status, err)
	}
	if got := typesOf(w.records(billing.TypeInvoicePaid)); len(got) != 1 {
		t.Errorf("records %v", got)
	}
	w.mustVerify(n)
}

func TestIdempotencyKeys(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	ask := billing.TopUp{Amount: amount("50"), Reference: "bank 7"}
	first, err := n.TopUp(w.ctx, org.ID, ask, w.key("k"))
	if err != nil || first.Replayed {
		t.Fatalf("%+v, %v", first, err)
	}
	end, _ := w.log.LedgerEnd(w.ctx)
	w.setClock("2024-05-05T05:05:05Z")
	for name, n := range map[string]*node{"the same process": n, "one that has only the log": w.node()} {
		again, err := n.TopUp(w.ctx, org.ID, ask, w.key("k"))
		if err != nil || !again.Replayed || fmt.Sprint(again.Result) != fmt.Sprint(first.Result) {
			t.Errorf("%s: %+v, %v; want %+v", name, again, err, first.Result)
		}
		if _, err := n.TopUp(w.ctx, org.ID, billing.TopUp{Amount: amount("51"), Reference: "bank 7"}, w.key("k")); !errors.Is(err, billing.ErrIdempotency) {
			t.Errorf("%s, another amount: %v", name, err)
		}
		if _, err := n.Refund(w.ctx, org.ID, billing.Refund{Amount: amount("50")}, w.key("k")); !errors.Is(err, billing.ErrIdempotency) {
			t.Errorf("%s, another command: %v", name, err)
		}
		otherwise := w.key("k")
		otherwise.Reason = "not as agreed"
		if _, err := n.TopUp(w.ctx, org.ID, ask, otherwise); !errors.Is(err, billing.ErrIdempotency) {
			t.Errorf("%s, another reason: %v", name, err)
		}
	}
	if after, _ := w.log.LedgerEnd(w.ctx); after != end {
		t.Errorf("%d records were written", after-end)
	}
	other := w.newOrg(n, "other", "2023-11-02T00:00:00Z")
	if out, err := n.TopUp(w.ctx, other.ID, ask, w.key("k")); err != nil || out.Replayed {
		t.Errorf("another org's key: %+v, %v", out, err)
	}
	for _, key := range []string{strings.Repeat("k", 256), "a\nb", "ö"} {
		if _, err := n.TopUp(w.ctx, org.ID, ask, w.key(key)); !errors.Is(err, billing.ErrInvalid) {
			t.Errorf("key %.10q: %v", key, err)
		}
	}
	w.mustVerify(n)
}

// Many processes ask for the same with the same key: it is done once.
func TestIdempotencyKeysUnderRaces(t *testing.T) {
	w := newWorld(t)
	nodes := []*node{w.node(), w.node(), w.node()}
	org := w.newOrg(nodes[0], "acme", "2023-11-02T00:00:00Z")
	var done sync.WaitGroup
	outs, errs := make([]billing.Outcome[ledger.Grant], 24), make([]error, 24)
	for i := range outs {
		done.Go(func() {
			outs[i], errs[i] = nodes[i%3].TopUp(w.ctx, org.ID, billing.TopUp{Amount: amount("7")}, w.key(fmt.Sprint(i%4)))
		})
	}
	done.Wait()
	fresh := 0
	for i, out := range outs {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if !out.Replayed {
			fresh++
		}
	}
	if got := nodes[0].account(t, org); fresh != 4 || got != "28.00 0.00 0.00" {
		t.Errorf("%d were done, the account is %s; want 4 of 7.00", fresh, got)
	}
	w.mustVerify(nodes[1])
}

func TestCommandsOnMoneyRefuse(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	stranger := events.NewID()
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.run(n)
	inv, _ := n.book.LastInvoice(org.ID)
	end, _ := w.log.LedgerEnd(w.ctx)
	for name, x := range map[string]struct {
		do   func() error
		want error
	}{
		"unknown org": {func() error {
			_, err := n.TopUp(w.ctx, stranger, billing.TopUp{Amount: amount("1")}, w.by())
			return err
		}, billing.ErrNotFound},
		"nothing": {func() error { _, err := n.TopUp(w.ctx, org.ID, billing.TopUp{}, w.by()); return err }, ledger.ErrRequest},
		"part of a cent": {func() error {
			_, err := n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("0.001")}, w.by())
			return err
		}, ledger.ErrRequest},
		"negative": {func() error {
			_, err := n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("-1")}, w.by())
			return err
		}, ledger.ErrRequest},
		"of tomorrow": {func() error {
			_, err := n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("1"), At: w.clock().Add(time.Hour)}, w.by())
			return err
		}, billing.ErrInvalid},
		"for a foreign bill": {func() error {
			_, err := n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("1"), For: []uuid.UUID{stranger}}, w.by())
			return err
		}, ledger.ErrNotOpen},
		"nothing expired":      {func() error { _, err := n.ExpireCredits(w.ctx, org.ID, w.by()); return err }, ledger.ErrNothingExpired},
		"write off a stranger": {func() error { _, err := n.WriteOff(w.ctx, org.ID, stranger, w.key("")); return err }, billing.ErrNotFound},
		"without a reason":     {func() error { _, err := n.VoidInvoice(w.ctx, org.ID, inv.ID, w.by()); return err }, ledger.ErrRequest},
		"void a stranger":      {func() error { _, err := n.VoidInvoice(w.ctx, org.ID, stranger, w.key("")); return err }, billing.ErrNotFound},
		"credit a foreign line": {func() error {
			_, err := n.CreditNote(w.ctx, org.ID, inv.ID, []ledger.CreditLine{{Line: 2, Amount: amount("1")}}, w.key(""))
			return err
		}, ledger.ErrRequest},
		"credit too much": {func() error {
			_, err := n.CreditNote(w.ctx, org.ID, inv.ID, []ledger.CreditLine{{Line: 1, Amount: amount("19")}}, w.key(""))
			return err
		}, ledger.ErrTooMuch},
		"correct nothing": {func() error {
			_, err := n.ReRate(w.ctx, org.ID, billing.ReRate{InvoiceID: inv.ID}, w.key(""))
			return err
		}, billing.ErrInvalid},
		"correct to an unknown price": {func() error {
			_, err := n.ReRate(w.ctx, org.ID, billing.ReRate{InvoiceID: inv.ID, Prices: map[string]string{"gpt-4o@1": "gpt-4o@9"}}, w.key(""))
			return err
		}, billing.ErrInvalid},
	} {
		if err := x.do(); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	if after, _ := w.log.LedgerEnd(w.ctx); after != end {
		t.Errorf("%d records were written", after-end)
	}
	if _, err := n.book.Standing(stranger, inv.ID); !errors.Is(err, billing.ErrNotFound) {
		t.Errorf("another org's invoice: %v", err)
	}
}

func TestVoidingAndCreditNotes(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-10-02T00:00:00Z")
	w.use(n, org, "2023-10-10T00:00:00Z")
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.run(n)
	invoices, _, _ := n.book.Invoices(org.ID, 1, 10)
	part := must[ledger.CreditNote](t)(n.CreditNote(w.ctx, org.ID, invoices[1].ID, []ledger.CreditLine{{Line: 1, Amount: amount("3")}}, w.key("part")))
	void := must[ledger.CreditNote](t)(n.VoidInvoice(w.ctx, org.ID, invoices[0].ID, w.key("void")))
	if part.Number != "CN-AIONE-2023-000001" || void.Number != "CN-AIONE-2023-000002" || !void.Full || part.Full {
		t.Errorf("notes %+v, %+v", part, void)
	}
	if got := n.account(t, org); got != "0.00 0.00 15.00" {
		t.Errorf("the account is %s", got)
	}
	if inv, _ := n.book.Invoice(org.ID, invoices[0].ID); inv.Status != ledger.StatusVoid {
		t.Errorf("the void invoice is %s", inv.Status)
	}
	if s, err := n.book.Standing(org.ID, invoices[1].ID); err != nil || len(s.CreditNotes) != 1 || s.Due.Format("CNY") != "15.00" {
		t.Errorf("the credited invoice stands at %+v, %v", s, err)
	}
	if _, err := n.VoidInvoice(w.ctx, org.ID, invoices[0].ID, w.key("again")); !errors.Is(err, ledger.ErrNotOpen) {
		t.Errorf("void twice: %v", err)
	}
	if notes, total, err := n.book.CreditNotes(org.ID, 1, 1); err != nil || total != 2 || len(notes) != 1 || notes[0].ID != void.ID {
		t.Errorf("notes %d, %v", total, err)
	}
	if note, err := n.book.CreditNote(org.ID, part.ID); err != nil || note.Number != part.Number {
		t.Errorf("note %s, %v", note.Number, err)
	}
	if got := typesOf(w.records(billing.TypeInvoiceVoided)); len(got) != 1 {
		t.Errorf("records %v", got)
	}
	w.mustVerify(n)
}

// An invoice was billed at a wrong price and without tax. What it should have been
// is looked at first; then it is replaced.
func TestCorrections(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-11-02T00:00:00Z")
	w.use(n, org, "2023-11-10T00:00:00Z")
	w.run(n)
	old, _ := n.book.LastInvoice(org.ID)
	must[ledger.Payment](t)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("18")}, w.key("paid")))
	ask := billing.ReRate{InvoiceID: old.ID, Terms: &ledger.Terms{DiscountPct: decimal.New(50, 0)}, TaxRates: &[]ledger.TaxRate{{Name: "VAT", Pct: decimal.New(10, 0)}}}
	dry, err := n.ReRate(w.ctx, org.ID, ask, w.key(""))
	if err != nil || dry.Difference.Format("CNY") != "-8.10" { // 18.00 → 9.00 + 0.90
		t.Fatalf("the dry run says %s, %v", dry.Difference, err)
	}
	if got := n.account(t, org); got != "0.00 0.00 0.00" {
		t.Errorf("a dry run moved money: %s", got)
	}
	wrong := dry.Hash
	wrong[0]++
	if _, err := n.Correct(w.ctx, org.ID, ask, wrong, w.key("")); !errors.Is(err, billing.ErrChanged) {
		t.Errorf("another hash: %v", err)
	}
	w.setClock("2023-12-20T00:00:00Z") // time alone changes nothing
	out, err := n.Correct(w.ctx, org.ID, ask, dry.Hash, w.key("fix"))
	if err != nil {
		t.Fatal(err)
	}
	if c := out.Result; c.CreditNote.CreditNote.Number != "CN-AIONE-2023-000001" || c.Invoice.Invoice.Number != "INV-AIONE-2023-000002" ||
		c.Invoice.Invoice.CreditsApplied.Format("CNY") != "9.90" || !c.Invoice.Invoice.Total.IsZero() {
		t.Errorf("corrected by %s over %s and %s", c.CreditNote.CreditNote.Number, c.Invoice.Invoice.Total, c.Invoice.Invoice.Number)
	}
	if got := n.account(t, org); got != "8.10 0.00 0.00" { // paid 18.00, owed 9.90
		t.Errorf("the account is %s", got)
	}
	if again, err := n.Correct(w.ctx, org.ID, ask, dry.Hash, w.key("fix")); err != nil || !again.Replayed {
		t.Errorf("again: %v", err)
	}
	var note ledger.CreditNote
	if told := w.records(billing.TypeCorrectionNote); len(told) != 1 || told[0].Into(&note) != nil || note.ID != out.Result.CreditNote.CreditNote.ID {
		t.Errorf("%d records tell of credit notes, the last of %s", len(told), note.Number)
	}
	if _, err := n.ReRate(w.ctx, org.ID, ask, w.key("")); !errors.Is(err, billing.ErrInvalid) {
		t.Errorf("a second correction of the same invoice: %v", err)
	}
	if s, _ := n.book.Standing(org.ID, old.ID); s.ReplacedBy != out.Result.Invoice.Invoice.ID || !s.Void {
		t.Errorf("the old invoice stands at %+v", s)
	}
	// Late usage of the corrected month is billed by the corrected terms.
	w.use(n, org, "2023-11-12T00:00:00Z")
	w.setClock("2024-01-05T00:00:00Z")
	w.run(n)
	if inv, _ := n.book.LastInvoice(org.ID); inv.Adjustments.Format("CNY") != "9.00" || inv.Period.Label != "2023-12" {
		t.Errorf("%s adjusts by %s", inv.Period.Label, inv.Adjustments)
	}
	w.mustVerify(n)
	w.mustVerify(w.node())
}
