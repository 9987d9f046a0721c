package billing

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"aione/ledger"
)

// Verdict is what Verify found.
type Verdict struct {
	AppliedSeq  uint64 // ledger sequence that the book was at
	Orgs        int
	Runs        int
	Invoices    int
	CreditNotes int
	Entries     int      // journals of all kinds
	Legacy      int      // invoices from before journals were chained: not recomputed
	Findings    []string // empty: all is proved
}

// OK reports whether nothing is wrong.
func (v Verdict) OK() bool { return len(v.Findings) == 0 }

func (v *Verdict) find(format string, args ...any) {
	v.Findings = append(v.Findings, fmt.Sprintf(format, args...))
}

// Verify proves everything in the book again: each invoice comes out of its inputs
// as the same bytes; each credit note, payment, credit and correction is what would
// be decided on the org's money as it stood; the journals of an org are one
// unbroken chain and sum to zero; nothing stays accrued after an invoice; what is
// said of invoices and credits is the fold of all this; admission was told the
// right balance; the runs of an org follow each other without gap or step back, run
// and invoice name each other; and the numbers of each series are 1, 2, 3 … It
// trusts no check made when the records were written.
func Verify(b *Book) Verdict {
	// One moment of the book: records are only ever added to these slices, so
	// copies of their headers are enough.
	b.mu.RLock()
	v := Verdict{AppliedSeq: b.applied, Orgs: len(b.order)}
	audits := make([]orgAudit, 0, len(b.order))
	for _, id := range b.order {
		audits = append(audits, newOrgAudit(b.orgs[id]))
	}
	series := make(map[seriesKey][]Numbered)
	keys := b.keysOf()
	for _, key := range keys {
		series[key] = b.series[key]
	}
	b.mu.RUnlock()

	numbers := make(map[uuid.UUID]string) // by invoice or credit note
	for _, key := range keys {
		v.verifySeries(key, series[key], numbers)
	}
	for i := range audits {
		v.verifyRuns(&audits[i])
		v.verifyMoney(&audits[i], numbers)
	}
	if len(numbers) != v.Invoices+v.CreditNotes {
		v.find("%d numbers were given to %d invoices and %d credit notes", len(numbers), v.Invoices, v.CreditNotes)
	}
	return v
}

// orgAudit is what the book says of an org at one moment.
type orgAudit struct {
	org       Org
	runs      []Run
	entries   []ledger.Entry
	legacy    map[uuid.UUID]bool
	invoices  []ledger.InvoiceState
	credits   []ledger.Credit
	balance   balance
	broken    error
	position  ledger.Amount
	positionE error
}

func newOrgAudit(a *account) orgAudit {
	o := orgAudit{org: a.org, runs: a.runs, entries: a.entries, legacy: a.legacy, credits: a.state.Credits(), balance: a.balance, broken: a.broken}
	for _, inv := range a.invoices {
		if s, ok := a.state.Invoice(inv.ID); ok {
			o.invoices = append(o.invoices, s)
		}
	}
	o.position, o.positionE = a.position()
	return o
}

func (v *Verdict) verifySeries(key seriesKey, given []Numbered, numbers map[uuid.UUID]string) {
	number := ledger.InvoiceNumber
	if key.kind == SeriesCreditNotes {
		number = ledger.CreditNoteNumber
	}
	for i, n := range given {
		if n.N != uint64(i)+1 {
			v.find("series %s %s %d: number %d comes in place %d", key.kind, key.legalEntity, key.year, n.N, i+1)
		}
		if numbers[n.InvoiceID] != "" {
			v.find("document %s has two numbers", n.InvoiceID)
		}
		numbers[n.InvoiceID] = number(n.LegalEntity, n.Year, n.N)
	}
}

func (v *Verdict) verifyRuns(a *orgAudit) {
	var last Run
	invoiced := 0
	var spent ledger.Amount
	var err error
	for i, run := range a.runs {
		v.Runs++
		if spent, err = spent.Add(run.BalanceSpent); err != nil {
			v.find("org %s: run %s: %v", a.org.ID, run.Period.Label, err)
		}
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
		inv := a.invoice(run.InvoiceID)
		if inv == nil {
			v.find("org %s: run %s names invoice %s, which does not exist", a.org.ID, run.Period.Label, run.InvoiceID)
			continue
		}
		if inv.Cut != run.Cut || inv.PreviousCut != run.PreviousCut || inv.Period != run.Period || inv.Number != run.Number {
			v.find("org %s: invoice %s and run %s disagree", a.org.ID, inv.Number, run.Period.Label)
		}
	}
	for _, e := range a.entries {
		if e.Invoice != nil && e.Invoice.Correction == nil {
			invoiced--
		}
	}
	if invoiced != 0 {
		v.find("org %s: %d more runs made an invoice than there are invoices", a.org.ID, invoiced)
	}
	if spent.Cmp(a.balance.invoiced) != 0 {
		v.find("org %s: the runs say that the balance paid %s, the book %s", a.org.ID, spent, a.balance.invoiced)
	}
}

func (a *orgAudit) invoice(id uuid.UUID) *ledger.Invoice {
	for i := range a.entries {
		if inv := a.entries[i].Invoice; inv != nil && inv.ID == id {
			return inv
		}
	}
	return nil
}

// verifyMoney folds the org's entries once more, deciding and proving each.
func (v *Verdict) verifyMoney(a *orgAudit, numbers map[uuid.UUID]string) {
	if a.broken != nil {
		v.find("%v", a.broken)
	}
	s := ledger.NewState(a.org.ID, a.org.Currency)
	journals := make([]ledger.Journal, len(a.entries))
	for i := range a.entries {
		e := &a.entries[i]
		v.Entries++
		journals[i] = e.Journal
		if err := e.Journal.Check(); err != nil {
			v.find("org %s: %v", a.org.ID, err)
		}
		if err := s.Apply(*e); err != nil {
			v.find("org %s: %v", a.org.ID, err)
		}
		switch {
		case e.Invoice != nil:
			v.verifyInvoice(a, e.Invoice, numbers)
			if accrued := s.Balance(ledger.Accrued(a.org.ID)); !accrued.IsZero() {
				v.find("org %s: %s stay accrued after invoice %s", a.org.ID, accrued, e.Invoice.Number)
			}
		case e.CreditNote != nil:
			v.CreditNotes++
			if numbers[e.CreditNote.ID] != e.CreditNote.Number {
				v.find("credit note %s: the series knows it as %q", e.CreditNote.Number, numbers[e.CreditNote.ID])
			}
		}
	}
	if err := ledger.VerifyChain(journals); err != nil {
		v.find("org %s: %v", a.org.ID, err)
	}
	v.verifyState(a, s)
}

func (v *Verdict) verifyInvoice(a *orgAudit, inv *ledger.Invoice, numbers map[uuid.UUID]string) {
	v.Invoices++
	want := ledger.InvoiceID(inv.OrgID, inv.Period.Label)
	if inv.Correction != nil {
		want = ledger.CorrectedInvoiceID(inv.OrgID, inv.Period.Label, inv.Correction.N)
	}
	if inv.OrgID != a.org.ID || inv.ID != want {
		v.find("invoice %s: its id is not that of its org and period", inv.Number)
	}
	if numbers[inv.ID] != inv.Number {
		v.find("invoice %s: the series knows it as %q", inv.Number, numbers[inv.ID])
	}
	if a.legacy[inv.ID] {
		v.Legacy++
		return
	}
	if err := ledger.Prove(*inv); err != nil {
		v.find("%v", err)
	}
}

// verifyState compares what the book says with the fold, and the fold with what
// admission was told.
func (v *Verdict) verifyState(a *orgAudit, s *ledger.State) {
	for _, said := range a.invoices {
		is, ok := s.Invoice(said.Invoice.ID)
		if !ok || is.Due.Cmp(said.Due) != 0 || is.Paid.Cmp(said.Paid) != 0 || is.WrittenOff.Cmp(said.WrittenOff) != 0 || is.Void != said.Void {
			v.find("invoice %s: the book says %s are due, its journals %s", said.Invoice.Number, said.Due, is.Due)
		}
	}
	if !slices.EqualFunc(a.credits, s.Credits(), func(x, y ledger.Credit) bool {
		return x.Grant.ID == y.Grant.ID && x.Remaining.Cmp(y.Remaining) == 0
	}) {
		v.find("org %s: the book's credits are not those of its journals", a.org.ID)
	}
	sums := make(map[string]ledger.Amount)
	s.Balances().All(func(account ledger.Account, currency string, balance ledger.Amount) {
		sum, err := sums[currency].Add(balance)
		if err != nil {
			v.find("org %s: %v", a.org.ID, err)
		}
		sums[currency] = sum
	})
	for currency, sum := range sums {
		if !sum.IsZero() {
			v.find("org %s: its journals sum to %s %s", a.org.ID, sum, currency)
		}
	}
	if !a.balance.settled || a.positionE != nil {
		return
	}
	told, err := a.position.Add(a.balance.invoiced)
	if err != nil || told.Cmp(a.balance.credited) != 0 {
		v.find("org %s: admission was told of %s, its money and invoices come to %s", a.org.ID, a.balance.credited, told)
	}
}
