package billing_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"aione/billing"
	"aione/events"
	"aione/ledger"
)

func TestCreateOrgIsIdempotent(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	org := billing.Org{ID: events.NewID(), Name: "acme"}
	first, err := n.CreateOrg(w.ctx, org, w.by())
	if err != nil {
		t.Fatal(err)
	}
	if first.Timezone != "Asia/Shanghai" || first.Currency != "CNY" || first.LegalEntity != "AIONE" || !first.CreatedAt.Equal(w.clock()) {
		t.Errorf("defaults: %+v", first)
	}
	w.setClock("2024-02-01T00:00:00Z")
	stale := billing.Commands{Log: w.log, Book: w.node().book}
	if again, err := stale.CreateOrg(w.ctx, org, w.by()); err != nil || again != first {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	other := org
	other.Currency = "USD"
	if _, err := n.CreateOrg(w.ctx, other, w.by()); !errors.Is(err, billing.ErrExists) {
		t.Errorf("other content: %v, want ErrExists", err)
	}
	if end, _ := w.log.LedgerEnd(w.ctx); end != 1 {
		t.Errorf("%d records, want 1", end)
	}
}

func TestCreateOrgRefuses(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	for name, change := range map[string]func(*billing.Org){
		"no id":        func(o *billing.Org) { o.ID = [16]byte{} },
		"no name":      func(o *billing.Org) { o.Name = "" },
		"blank name":   func(o *billing.Org) { o.Name = " a" },
		"machine zone": func(o *billing.Org) { o.Timezone = "Local" },
		"no zone":      func(o *billing.Org) { o.Timezone = "Mars/Olympus" },
		"path as zone": func(o *billing.Org) { o.Timezone = "../../etc/passwd" },
		"no currency":  func(o *billing.Org) { o.Currency = "XXX" },
		"entity":       func(o *billing.Org) { o.LegalEntity = "a-b" },
	} {
		org := billing.Org{ID: events.NewID(), Name: "acme"}
		change(&org)
		if _, err := n.CreateOrg(w.ctx, org, w.by()); !errors.Is(err, billing.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if end, _ := w.log.LedgerEnd(w.ctx); end != 0 {
		t.Errorf("%d records were written", end)
	}
}

func TestTeamsFromManyWriters(t *testing.T) {
	w := newWorld(t)
	nodes := []*node{w.node(), w.node()}
	org := w.newOrg(nodes[0], "acme", "2023-11-01T00:00:00Z")
	var done sync.WaitGroup
	for i := range 16 {
		done.Go(func() {
			team := billing.Team{ID: events.DeriveID("test", []byte{byte(i / 2)}), OrgID: org.ID, Name: fmt.Sprint("team ", i/2)}
			if _, err := nodes[i%2].CreateTeam(w.ctx, team, w.by()); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	w.mustVerify(nodes[0])
	teams, err := nodes[0].book.Teams(org.ID)
	if err != nil || len(teams) != 8 {
		t.Errorf("%d teams, %v; want 8: each was created by two writers", len(teams), err)
	}
	stranger := billing.Team{ID: events.NewID(), OrgID: events.NewID(), Name: "lost"}
	if _, err := nodes[0].CreateTeam(w.ctx, stranger, w.by()); !errors.Is(err, billing.ErrNotFound) {
		t.Errorf("team without org: %v, want ErrNotFound", err)
	}
	renamed := teams[0]
	renamed.Name = "other"
	if _, err := nodes[0].CreateTeam(w.ctx, renamed, w.by()); !errors.Is(err, billing.ErrExists) {
		t.Errorf("same id, other name: %v, want ErrExists", err)
	}
}

func TestBookIsWalled(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	mine := w.newOrg(n, "mine", "2023-11-01T00:00:00Z")
	theirs := w.newOrg(n, "theirs", "2023-11-01T00:00:00Z")
	team, err := n.CreateTeam(w.ctx, billing.Team{ID: events.NewID(), OrgID: theirs.ID, Name: "a"}, w.by())
	if err != nil {
		t.Fatal(err)
	}
	w.use(n, theirs, "2023-11-10T00:00:00Z")
	w.run(n)
	inv, err := n.book.LastInvoice(theirs.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, errInvoice := n.book.Invoice(mine.ID, inv.ID)
	_, errTeam := n.book.Team(mine.ID, team.ID)
	_, errLast := n.book.LastInvoice(mine.ID)
	_, errOrg := n.book.Org(inv.ID)
	for _, err := range []error{errInvoice, errTeam, errLast, errOrg} {
		if !errors.Is(err, billing.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
	if _, err := n.book.Invoice(theirs.ID, inv.ID); err != nil {
		t.Error(err)
	}
}

func TestInvoicesArePaged(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-07-10T00:00:00Z")
	for month := 7; month <= 11; month++ {
		w.use(n, org, fmt.Sprintf("2023-%02d-15T00:00:00Z", month))
	}
	w.run(n)
	for page, want := range map[int][]string{1: {"2023-11", "2023-10"}, 2: {"2023-09", "2023-08"}, 3: {"2023-07"}, 4: nil, 1 << 62: nil} {
		invoices, total, err := n.book.Invoices(org.ID, page, 2)
		var labels []string
		for _, inv := range invoices {
			labels = append(labels, inv.Period.Label)
		}
		if err != nil || total != 5 || fmt.Sprint(labels) != fmt.Sprint(want) {
			t.Errorf("page %d: %v of %d, %v; want %v", page, labels, total, err, want)
		}
	}
}

func TestBookAppliesARecordOnce(t *testing.T) {
	b := billing.NewBook()
	rec, err := events.NewRecord(billing.TypeOrgCreated, instant("2023-11-01T00:00:00Z"), "test", "", billing.Org{ID: events.NewID(), Name: "a", Timezone: "UTC", Currency: "CNY", LegalEntity: "A"})
	if err != nil {
		t.Fatal(err)
	}
	rec.Seq = 3
	for range 2 {
		if err := b.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.Orgs()) != 1 || b.AppliedSeq() != 3 {
		t.Errorf("%d orgs at %d", len(b.Orgs()), b.AppliedSeq())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := b.WaitFor(ctx, 4); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	rec.Seq, rec.Version = 4, events.RecordVersion+1
	if err := b.Apply(rec); !errors.Is(err, events.ErrNewerRecord) {
		t.Errorf("got %v, want ErrNewerRecord", err)
	}
}

// Verify must see what is wrong, not only say that all is well.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	n := w.node()
	w.install(n)
	org := w.newOrg(n, "acme", "2023-09-10T00:00:00Z")
	w.use(n, org, "2023-09-15T00:00:00Z")
	w.use(n, org, "2023-11-15T00:00:00Z")
	must[ledger.Grant](t)(n.TopUp(w.ctx, org.ID, billing.TopUp{Amount: amount("3")}, w.by()))
	must[ledger.Grant](t)(n.GrantCredit(w.ctx, org.ID, billing.Promotion{Amount: amount("2"), ExpiresAt: w.clock().AddDate(0, 0, 1)}, w.by()))
	w.run(n)
	must[ledger.Payment](t)(n.Pay(w.ctx, org.ID, billing.Payment{Amount: amount("20")}, w.by()))
	last, _ := n.book.LastInvoice(org.ID)
	must[ledger.CreditNote](t)(n.CreditNote(w.ctx, org.ID, last.ID, []ledger.CreditLine{{Line: 1, Amount: amount("1")}}, w.key("")))
	var records []events.Record
	ctx, cancel := context.WithCancel(w.ctx)
	end, _ := w.log.LedgerEnd(w.ctx)
	_ = w.log.Follow(ctx, 0, func(r events.Record) error {
		if records = append(records, r); r.Seq == end {
			cancel()
		}
		return nil
	})
	verdict := func(change func(*events.Record)) billing.Verdict {
		b := billing.NewBook()
		for _, r := range records {
			change(&r)
			if err := b.Apply(r); err != nil {
				t.Fatal(err)
			}
		}
		return billing.Verify(b)
	}
	if v := verdict(func(*events.Record) {}); !v.OK() || v.Invoices != 2 || v.Runs != 3 || v.CreditNotes != 1 || v.Entries != 6 {
		t.Fatalf("untouched: %+v", v)
	}
	for name, change := range map[string]func(*events.Record){
		"amount":        edit(billing.TypeInvoiceIssued, func(d *ledger.Entry) { d.Invoice.Total = ledger.AmountFromInt(1) }),
		"journal":       edit(billing.TypeInvoiceIssued, func(d *ledger.Entry) { d.Journal.Transfers = nil }),
		"number":        edit(billing.TypeNumbered, func(d *billing.Numbered) { d.N++ }),
		"cut":           edit(billing.TypeInvoiced, func(d *billing.Run) { d.Cut++ }),
		"empty run":     edit(billing.TypeClosedEmpty, func(d *billing.Run) { d.Period.Start = d.Period.Start.Add(time.Second) }),
		"foreign run":   edit(billing.TypeInvoiced, func(d *billing.Run) { d.InvoiceID = events.NewID() }),
		"payment":       edit(billing.TypePaymentReceived, func(e *ledger.Entry) { e.Payment.Amount = amount("21") }),
		"allocation":    edit(billing.TypePaymentReceived, func(e *ledger.Entry) { e.Payment.Allocations[0].Amount = amount("1") }),
		"lost payment":  rename(billing.TypePaymentReceived, "other"),
		"grant":         edit(billing.TypeCreditGranted, func(e *ledger.Entry) { e.Grant.ExpiresAt = e.Grant.GrantedAt.AddDate(9, 0, 0) }),
		"lost grant":    rename(billing.TypeCreditGranted, "other"),
		"credit note":   edit(billing.TypeCreditNoteIssued, func(e *ledger.Entry) { e.CreditNote.Reason = "another" }),
		"lost note":     rename(billing.TypeCreditNoteIssued, "other"),
		"chain":         edit(billing.TypeCreditNoteIssued, func(e *ledger.Entry) { e.Journal.Previous[0]++ }),
		"told balance":  edit("balance.credited", func(d *map[string]any) { (*d)["amount"] = "1" }),
		"spent balance": edit(billing.TypeInvoiced, func(d *billing.Run) { d.BalanceSpent = amount("1") }),
		"lost invoice":  rename(billing.TypeInvoiceIssued, billing.TypeNothingIssued),
		"lost number":   rename(billing.TypeNumbered, "other"),
		"lost run":      rename(billing.TypeClosedEmpty, "other"),
		"changed price": edit(billing.TypeInvoiceIssued, func(d *ledger.Entry) { d.Invoice.Prices[0].Input = d.Invoice.Exact.Decimal().Neg() }),
	} {
		if verdict(change).OK() {
			t.Errorf("%s: nothing was found", name)
		}
	}
}

func edit[T any](typ string, change func(*T)) func(*events.Record) {
	return func(r *events.Record) {
		if r.Type != typ {
			return
		}
		var data T
		if err := r.Into(&data); err != nil {
			panic(err)
		}
		change(&data)
		changed, err := events.NewRecord(typ, r.At, r.Actor, r.Reason, data)
		if err != nil {
			panic(err)
		}
		r.Data = changed.Data
	}
}

func rename(from, to string) func(*events.Record) {
	return func(r *events.Record) {
		if r.Type == from {
			r.Type = to
		}
	}
}
