package documents

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"aione/ledger"
)

// ErrChart is returned when the chart of accounts has no code for a kind of
// account that a journal posts to, so that such a posting would be lost in the books,
// and when a chart cannot be read.
var ErrChart = errors.New("no account code")

// ChartAccount is what the accounting system calls a kind of account.
type ChartAccount struct {
	Code string `json:"code"`
	Name string `json:"name"`
}

// Chart gives the accounting system's account for each kind of account.
type Chart map[string]ChartAccount

// DefaultChart has the usual numbers of Chinese companies (Accounting Standards
// for Business Enterprises), with subaccounts behind a point. A company that
// numbers otherwise gives its own by With.
func DefaultChart() Chart {
	return Chart{
		ledger.KindCash:         {"1002", "Cash at bank"},
		ledger.KindReceivable:   {"1122", "Accounts receivable"},
		ledger.KindAccrued:      {"1122.90", "Accounts receivable, not invoiced"},
		ledger.KindPrepaid:      {"2203", "Advances from customers"},
		ledger.KindTax:          {"2221", "Taxes payable"},
		ledger.KindPromo:        {"2241.90", "Promotional credits outstanding"},
		ledger.KindRevenue:      {"6001", "Revenue"},
		ledger.KindDiscount:     {"6001.90", "Discounts given"},
		ledger.KindBreakage:     {"6051", "Other operating revenue, expired credits"},
		ledger.KindPromoExpense: {"6601", "Selling expenses, promotional credits"},
		ledger.KindRounding:     {"6603.90", "Rounding"},
		ledger.KindWriteOff:     {"6702", "Credit impairment losses"},
	}
}

// ParseChart reads the accounts that a company numbers otherwise than DefaultChart,
// a JSON object such as {"cash":{"code":"1002.01","name":"Our bank"}}, and gives the
// whole chart. It returns ErrChart for a kind of account that there is not, which
// would be left out in silence, or one without a code.
func ParseChart(body []byte) (Chart, error) {
	var own Chart
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	chart := DefaultChart()
	kinds := strings.Join(slices.Sorted(maps.Keys(chart)), ", ")
	err := d.Decode(&own)
	if err == nil && d.More() {
		err = errors.New("there is more behind it")
	}
	if err != nil {
		return nil, fmt.Errorf(`%w: a chart is a JSON object such as {"cash":{"code":"1002","name":"Bank"}}, with any of %s: %v`, ErrChart, kinds, err)
	}
	for kind, account := range own {
		if _, known := chart[kind]; !known {
			return nil, fmt.Errorf("%w: there is no kind of account %.40q, but %s", ErrChart, kind, kinds)
		}
		if account.Code == "" {
			return nil, fmt.Errorf("%w for %s", ErrChart, kind)
		}
	}
	return chart.With(own), nil
}

// With is the chart with some of its accounts given by another.
func (c Chart) With(other Chart) Chart {
	out := maps.Clone(c)
	maps.Copy(out, other)
	return out
}

var journalColumns = []string{
	"date", "journal_id", "entry_no", "account_code", "account_name", "account", "kind", "debit", "credit", "currency", "cause", "memo",
}

// JournalEntry is a journal as it goes to the books.
type JournalEntry struct {
	Journal ledger.Journal
	Cause   string // what people call the cause, e.g. the invoice's number; default its id
}

// JournalExport writes journals for an accounting system: two rows for each
// transfer, its debit and its credit, under the entry number of the transfer in
// its journal.
type JournalExport struct {
	table *Table
	chart Chart
	zone  *time.Location
}

// NewJournalExport begins an export. Dates are those of the zone.
func NewJournalExport(w io.Writer, chart Chart, zone *time.Location) (*JournalExport, error) {
	table, err := NewTable(w, journalColumns)
	if err != nil {
		return nil, fmt.Errorf("begin journal export: %w", err)
	}
	return &JournalExport{table: table, chart: chart, zone: zone}, nil
}

// Add writes one journal. It writes nothing of it and returns ledger.ErrJournal
// when it is not sound and balanced, and ErrChart when an account has no code.
func (x *JournalExport) Add(e JournalEntry) error {
	if err := e.Journal.Check(); err != nil {
		return fmt.Errorf("export journal %s: %w", e.Journal.ID, err)
	}
	var rows [][]string
	for i, t := range e.Journal.Transfers {
		memo := string(t.Code)
		if t.Reversal {
			memo += " (reversal)"
		}
		for _, side := range []struct {
			account       ledger.Account
			debit, credit string
		}{
			{t.Debit, t.Amount.Format(t.Currency), ""},
			{t.Credit, "", t.Amount.Format(t.Currency)},
		} {
			code, ok := x.chart[side.account.Kind()]
			if !ok || code.Code == "" {
				return fmt.Errorf("export journal %s: %w for %s", e.Journal.ID, ErrChart, side.account)
			}
			rows = append(rows, []string{
				ledger.DateOf(t.At, x.zone).String(), e.Journal.ID.String(), strconv.Itoa(i + 1), code.Code, code.Name,
				string(side.account), side.account.Kind(), side.debit, side.credit, t.Currency, cmp.Or(e.Cause, e.Journal.CauseID.String()), memo,
			})
		}
	}
	for _, row := range rows {
		if err := x.table.Row(row...); err != nil {
			return fmt.Errorf("export journal %s: %w", e.Journal.ID, err)
		}
	}
	return nil
}

// Close writes what is left; without it the export is not whole.
func (x *JournalExport) Close() error {
	if err := x.table.Close(); err != nil {
		return fmt.Errorf("end journal export: %w", err)
	}
	return nil
}
