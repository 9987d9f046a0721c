package documents

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// What was paid and credited in part is not asked for again.
func TestPDFAsksForWhatIsDue(t *testing.T) {
	draft := exampleInvoice(t)
	draft.Number, draft.Status = "", ledger.StatusDraft
	s := ledger.NewState(draft.OrgID, draft.Currency)
	apply := func(e ledger.Entry, err error) {
		t.Helper()
		if err == nil {
			err = s.Apply(e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(s.IssueInvoice(draft, "INV-AIONE-2023-000007"))
	at := draft.CreatedAt.Add(time.Hour)
	shown := func(want, not []string) {
		t.Helper()
		standing, ok := s.Invoice(draft.ID)
		if !ok {
			t.Fatal("there is no invoice")
		}
		settled, err := SettledOf(standing)
		if err != nil {
			t.Fatal(err)
		}
		inv := *standing.Invoice
		inv.Status = standing.Status(inv.CreatedOn)
		b, err := InvoicePDF(inv, settled, exampleParties(), English)
		if err != nil {
			t.Fatal(err)
		}
		page := readPDF(t, b)[0]
		for _, text := range want {
			if !page.has(text) {
				t.Errorf("%s: it does not say %q", inv.Status, text)
			}
		}
		for _, text := range not {
			if page.has(text) {
				t.Errorf("%s: it says %q", inv.Status, text)
			}
		}
	}
	shown([]string{"Amount due", "CNY 2,222,259.33"}, []string{"Amount paid", "Amount credited"})
	apply(s.Pay(ledger.Payment{ID: uuid.UUID{1}, Amount: amount("222259.33"), At: at}))
	shown([]string{"Amount due", "CNY 2,000,000.00", "CNY 2,222,259.33", "Amount paid", "-222,259.33"}, []string{"Amount credited"})
	apply(s.CreditNote(draft.ID, ledger.CreditRequest{Number: "CN-1", At: at, On: draft.CreatedOn, Reason: "goodwill",
		Lines: []ledger.CreditLine{{Line: 1, Amount: amount("1")}}}))
	note, _ := s.Invoice(draft.ID)
	shown([]string{"Amount due", "CNY " + grouped(note.Due.Format("CNY")), "Amount paid", "Amount credited"}, nil)
	apply(s.Pay(ledger.Payment{ID: uuid.UUID{2}, Amount: note.Due, At: at}))
	shown([]string{"Paid", "CNY 2,222,259.33"}, []string{"Amount due", "Amount paid"})

	if _, err := InvoicePDF(*note.Invoice, Settled{Paid: amount("2222259.34")}, exampleParties(), English); !errors.Is(err, ErrSums) {
		t.Errorf("more than the total is paid: %v", err)
	}
}
