package billing

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"aione/ledger"
)

// Verdict is what Verify found.
type Verdict struct {
	AppliedSeq uint64 // ledger sequence that the book was at
	Orgs       int
	Runs       int
	Invoices   int
	Findings   []string // empty: all is proved
}

// OK reports whether nothing is wrong.
func (v Verdict) OK() bool { return len(v.Findings) == 0 }

func (v *Verdict) find(format string, args ...any) {
	v.Findings = append(v.Findings, fmt.Sprintf(format, args...))
}

// Verify proves everything in the book again: each invoice comes out of its
// inputs as the same bytes, each journal is the invoice's and sums to zero, the
// runs of an org follow each other without gap or step back, run and invoice
// name each other, and the numbers of each series are 1, 2, 3 … It trusts no
// check made when the records were written.
func Verify(b *Book) Verdict {
	// One moment of the book: records are only ever added to these slices, so
	// copies of their headers are enough.
	b.mu.RLock()
	v := Verdict{AppliedSeq: b.applied, Orgs: len(b.order)}
	accounts := make([]account, 0, len(b.order))
	for _, id := range b.order {
		a := *b.orgs[id]
		a.journals = make(map[uuid.UUID]ledger.Journal, len(a.journals))
		for id, j := range b.orgs[a.org.ID].journals {
			a.journals[id] = j
		}
		accounts = append(accounts, a)
	}
	series := make(map[seriesKey][]Numbered)
	keys := b.keysOf()
	for _, key := range keys {
		series[key] = b.series[key]
	}
	b.mu.RUnlock()

	numbers := make(map[uuid.UUID]string) // by invoice
	for _, key := range keys {
		v.verifySeries(key, series[key], numbers)
	}
	for i := range accounts {
		v.verifyRuns(&accounts[i])
		v.verifyInvoices(&accounts[i], numbers)
	}
	if len(numbers) != v.Invoices {
		v.find("%d numbers were given to %d invoices", len(numbers), v.Invoices)
	}
	return v
}

func (v *Verdict) verifySeries(key seriesKey, given []Numbered, numbers map[uuid.UUID]string) {
	for i, n := range given {
		if n.N != uint64(i)+1 {
			v.find("series %s %d: number %d comes in place %d", key.legalEntity, key.year, n.N, i+1)
		}
		if numbers[n.InvoiceID] != "" {
			v.find("invoice %s has two numbers", n.InvoiceID)
		}
		numbers[n.InvoiceID] = ledger.InvoiceNumber(n.LegalEntity, n.Year, n.N)
	}
}

func (v *Verdict) verifyRuns(a *account) {
	var last Run
	invoiced := 0
	for i, run := range a.runs {
		v.Runs++
		if i > 0 && !run.Period.Start.Equal(last.Period.End) {
			v.find("org %s: run %s does not start where %s ends", a.org.ID, run.Period.Label, last.Period.Label)
		}
		if run.PreviousCut != last.Cut || run.Cut < run.PreviousCut {
			v.find("org %s: run %s counts from %d to %d, the one before it up to %d", a.org.ID, run.Period.Label, run.PreviousCut, run.Cut, last.Cut)
		}
		last = run
		if run.Empty() {
			continue
		}
		invoiced++
		at := slices.IndexFunc(a.invoices, func(inv ledger.Invoice) bool { return inv.ID == run.InvoiceID })
		if at < 0 {
			v.find("org %s: run %s names invoice %s, which does not exist", a.org.ID, run.Period.Label, run.InvoiceID)
			continue
		}
		if inv := a.invoices[at]; inv.Cut != run.Cut || inv.PreviousCut != run.PreviousCut || inv.Period != run.Period || inv.Number != run.Number {
			v.find("org %s: invoice %s and run %s disagree", a.org.ID, inv.Number, run.Period.Label)
		}
	}
	if invoiced != len(a.invoices) {
		v.find("org %s: %d runs made an invoice, but there are %d", a.org.ID, invoiced, len(a.invoices))
	}
}

func (v *Verdict) verifyInvoices(a *account, numbers map[uuid.UUID]string) {
	for _, inv := range a.invoices {
		v.Invoices++
		if inv.OrgID != a.org.ID || inv.ID != ledger.InvoiceID(inv.OrgID, inv.Period.Label) {
			v.find("invoice %s: its id is not that of its org and period", inv.Number)
		}
		if numbers[inv.ID] != inv.Number {
			v.find("invoice %s: the series knows it as %q", inv.Number, numbers[inv.ID])
		}
		if err := ledger.Prove(inv); err != nil {
			v.find("%v", err)
		}
		want, err := ledger.InvoiceJournal(inv)
		if err != nil {
			v.find("invoice %s: %v", inv.Number, err)
			continue
		}
		got := a.journals[inv.ID]
		if err := got.Check(); err != nil {
			v.find("invoice %s: %v", inv.Number, err)
		}
		if !sameJournal(got, want) {
			v.find("invoice %s: its journal does not book its lines", inv.Number)
		}
	}
}

func sameJournal(a, b ledger.Journal) bool {
	return a.ID == b.ID && a.CauseID == b.CauseID && slices.EqualFunc(a.Transfers, b.Transfers, func(x, y ledger.Transfer) bool {
		return x.ID == y.ID && x.Debit == y.Debit && x.Credit == y.Credit && x.Amount.Cmp(y.Amount) == 0 &&
			x.Currency == y.Currency && x.Code == y.Code && x.At.Equal(y.At)
	})
}
