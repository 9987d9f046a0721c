package documents

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/ledger"
)

var accountKinds = []string{
	ledger.KindReceivable, ledger.KindAccrued, ledger.KindPrepaid, ledger.KindPromo, ledger.KindRevenue, ledger.KindDiscount, ledger.KindTax,
	ledger.KindCash, ledger.KindRounding, ledger.KindWriteOff, ledger.KindPromoExpense, ledger.KindBreakage,
}

func exportJournals(t rapid.TB, chart Chart, entries ...JournalEntry) []map[string]string {
	t.Helper()
	var out bytes.Buffer
	x := must(NewJournalExport(&out, chart, must(time.LoadLocation("Asia/Shanghai"))))
	for _, e := range entries {
		if err := x.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, rows := parseCSV(t, out.String())
	return rows
}

// checkBooks checks that debit is credit in each currency of each entry.
func checkBooks(t rapid.TB, rows []map[string]string) {
	t.Helper()
	sums := make(map[string]decimal.Decimal)
	for _, row := range rows {
		if (row["debit"] == "") == (row["credit"] == "") || row["account_code"] == "" || row["kind"] == "" {
			t.Errorf("a row is a debit or a credit of a known account, not %v", row)
		}
		for column, sign := range map[string]int64{"debit": 1, "credit": -1} {
			if row[column] != "" {
				key := row["journal_id"] + row["entry_no"] + row["currency"]
				sums[key] = sums[key].Add(decimal.RequireFromString(row[column]).Mul(decimal.NewFromInt(sign)))
			}
		}
	}
	for key, sum := range sums {
		if !sum.IsZero() {
			t.Errorf("entry %s is off by %s", key, sum)
		}
	}
}

func TestJournalOfAnInvoice(t *testing.T) {
	inv := wholeInvoice(t)
	j, err := ledger.InvoiceJournal(inv)
	if err != nil {
		t.Fatal(err)
	}
	rows := exportJournals(t, DefaultChart(), JournalEntry{Journal: j, Cause: inv.Number})
	if len(rows) != 2*len(j.Transfers) {
		t.Fatalf("%d rows of %d transfers", len(rows), len(j.Transfers))
	}
	checkBooks(t, rows)
	owed := decimal.Decimal{}
	for _, row := range rows {
		if row["account"] == string(ledger.Receivable(inv.OrgID)) {
			owed = owed.Add(decimal.RequireFromString("0" + row["debit"])).Sub(decimal.RequireFromString("0" + row["credit"]))
		}
		if row["date"] != "2023-12-01" || row["cause"] != inv.Number || row["currency"] != "CNY" || row["journal_id"] != j.ID.String() {
			t.Errorf("row = %v", row)
		}
	}
	if !owed.Equal(inv.Total.Decimal()) {
		t.Errorf("the books say that %s is owed, the invoice %s", owed, inv.Total)
	}
	first := rows[0]
	if first["account_code"] != "1122.90" || first["kind"] != ledger.KindAccrued || first["debit"] != "2222.222202" || first["entry_no"] != "1" || first["memo"] != "usage" {
		t.Errorf("first row = %v", first)
	}
}

// Dates are those of the zone: eight in the evening in London is the next day in
// Shanghai.
func TestJournalDates(t *testing.T) {
	j := oneTransfer(ledger.CodePayment, ledger.Cash, ledger.Receivable(uuid.New()), "12.5", "CNY")
	j.Transfers[0].At = time.Date(2023, 12, 31, 20, 0, 0, 0, time.UTC)
	row := exportJournals(t, DefaultChart(), JournalEntry{Journal: j})[0]
	if row["date"] != "2024-01-01" || row["debit"] != "12.50" || row["account_code"] != "1002" || row["cause"] != j.CauseID.String() {
		t.Errorf("row = %v", row)
	}
	j.Transfers[0].Debit, j.Transfers[0].Credit, j.Transfers[0].Reversal = j.Transfers[0].Credit, j.Transfers[0].Debit, true
	if row := exportJournals(t, DefaultChart(), JournalEntry{Journal: j})[0]; row["memo"] != "payment (reversal)" {
		t.Errorf("memo = %q", row["memo"])
	}
}

func oneTransfer(code ledger.Code, debit, credit ledger.Account, sum, currency string) ledger.Journal {
	return ledger.Journal{ID: uuid.New(), CauseID: uuid.New(), Transfers: []ledger.Transfer{{
		ID: uuid.New(), Debit: debit, Credit: credit, Amount: amount(sum), Currency: currency, Code: code, At: time.Date(2023, 12, 1, 0, 0, 0, 0, time.UTC),
	}}}
}

func TestJournalRefusals(t *testing.T) {
	org := uuid.New()
	good := oneTransfer(ledger.CodePayment, ledger.Cash, ledger.Receivable(org), "1", "CNY")
	for name, c := range map[string]struct {
		journal ledger.Journal
		chart   Chart
		want    error
	}{
		"a way that is not allowed": {oneTransfer(ledger.CodePayment, ledger.Receivable(org), ledger.Cash, "1", "CNY"), DefaultChart(), ledger.ErrJournal},
		"an amount below zero":      {oneTransfer(ledger.CodePayment, ledger.Cash, ledger.Receivable(org), "-1", "CNY"), DefaultChart(), ledger.ErrJournal},
		"no code for an account":    {good, Chart{ledger.KindCash: {"1002", "Cash"}}, ErrChart},
		"an empty code":             {good, DefaultChart().With(Chart{ledger.KindReceivable: {}}), ErrChart},
	} {
		var out bytes.Buffer
		x := must(NewJournalExport(&out, c.chart, time.UTC))
		if err := x.Add(JournalEntry{Journal: c.journal}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if _, rows := parseCSV(t, out.String()); len(rows) != 0 {
			t.Errorf("%s: half of it was written: %v", name, rows)
		}
	}
}

func TestChart(t *testing.T) {
	chart := DefaultChart()
	codes := make(map[string]string)
	for _, kind := range accountKinds {
		a := chart[kind]
		if a.Code == "" || a.Name == "" {
			t.Errorf("the chart has no account for %s", kind)
		}
		if other, taken := codes[a.Code]; taken {
			t.Errorf("%s and %s have one code", kind, other)
		}
		codes[a.Code] = kind
	}
	mine := chart.With(Chart{ledger.KindCash: {"100201", "招商银行"}})
	if mine[ledger.KindCash].Name != "招商银行" || mine[ledger.KindTax] != chart[ledger.KindTax] || chart[ledger.KindCash].Code != "1002" {
		t.Errorf("with a code of its own: %v, and before: %v", mine, chart)
	}
}

// A chart says what a company numbers otherwise; what cannot be meant is refused.
func TestParseChart(t *testing.T) {
	chart := must(ParseChart([]byte(`{"cash":{"code":"1002.01","name":"Our bank"}}`)))
	if got, want := chart[ledger.KindCash], (ChartAccount{"1002.01", "Our bank"}); got != want || len(chart) != len(DefaultChart()) ||
		chart[ledger.KindTax] != DefaultChart()[ledger.KindTax] {
		t.Errorf("chart = %v", chart)
	}
	for text, want := range map[string]string{
		`[]`: "JSON object such as", ``: "JSON object such as", `{"cash":"1002"}`: "JSON object such as", `{} {}`: "more behind it",
		`{"cash":{"code":"1","nam":"x"}}`: "JSON object such as", `{"csh":{"code":"1"}}`: `"csh", but accrued,`, `{"cash":{"name":"x"}}`: "no account code for cash",
	} {
		if _, err := ParseChart([]byte(text)); !errors.Is(err, ErrChart) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
