package bench

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Invoices says how long the invoicer takes to close a month: of one org with half
// of all rows, and of all orgs that share the table, that one included. A run is
// what production does: it counts rows in ClickHouse, bills, proves each invoice and
// writes runs, numbers, invoices and journals, fsynced.
type Invoices struct {
	Orgs             int     `json:"orgs"`
	Rows             uint64  `json:"rows"`
	SecondsAllOrgs   float64 `json:"seconds_10k_orgs"` // of Orgs, which are 10,000 at the default size
	InvoicesPerS     float64 `json:"invoices_per_s"`
	HeapPeakBytes    uint64  `json:"heap_peak_bytes"`    // of this process during that run, over what there was before
	HeapPerOrgBytes  float64 `json:"heap_per_org_bytes"` // that the books grew by: invoices stay readable
	BigOrgRows       uint64  `json:"big_org_rows"`
	SecondsOneBigOrg float64 `json:"seconds_one_big_org"` // the same for that org alone, on a ledger of its own
	CPUGoMS          float64 `json:"cpu_go_ms_per_invoice"`
	CPUClickHouseMS  float64 `json:"cpu_clickhouse_ms_per_invoice"`
	FillSeconds      float64 `json:"fill_s"`
}

const (
	invoiceRows       = 20_000_000
	invoiceRowsPerOrg = 2000 // so that 20 million rows are 10,000 orgs
	invoiceSlices     = 20
	invoiceOrgsMin    = 2
)

// invoiceMonth is the month that is closed; all orgs live in UTC.
var invoiceMonth = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)

var invoiceModels = []string{"model-a", "model-b", "model-c", "model-d", "model-e", "model-f"}

//go:embed invoice_rows.sql
var insertInvoiceRows string

func measureInvoices(ctx context.Context, o Options, m *Machine) (_ *Invoices, err error) {
	r, err := openRig(ctx, o, m, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	store, err := r.store(ctx, database)
	if err != nil {
		return nil, err
	}
	in := &Invoices{Rows: uint64(o.size(invoiceRows))}
	in.Orgs = max(invoiceOrgsMin, int(in.Rows/invoiceRowsPerOrg))
	if err := r.fillInvoiceRows(ctx, in); err != nil {
		return nil, err
	}
	o.Step(fmt.Sprintf("close the month of one org with %d rows", in.BigOrgRows))
	if err := r.closeMonths(ctx, store, 1, in.BigOrgRows, func(took time.Duration, _ *world) { in.SecondsOneBigOrg = round(took.Seconds(), 2) }); err != nil {
		return nil, err
	}
	o.Step(fmt.Sprintf("close the month of %d orgs with %d rows", in.Orgs, in.Rows))
	return in, r.closeMonths(ctx, store, in.Orgs, in.Rows, func(took time.Duration, w *world) {
		in.SecondsAllOrgs, in.InvoicesPerS = round(took.Seconds(), 2), perSecond(in.Orgs, took)
		in.HeapPeakBytes, in.HeapPerOrgBytes = w.heapPeak, round(float64(w.heapGrown)/float64(in.Orgs), 0)
		in.CPUGoMS = round(millis(w.cpu.self)/float64(in.Orgs), 2)
		in.CPUClickHouseMS = round(millis(w.cpu.clickHouse)/float64(in.Orgs), 2)
	})
}

// fillInvoiceRows makes the month inside ClickHouse.
func (r *rig) fillInvoiceRows(ctx context.Context, in *Invoices) error {
	conn, err := r.driver(database)
	if err != nil {
		return err
	}
	defer conn.Close()
	r.options.Step(fmt.Sprintf("make %d rows of %d orgs inside ClickHouse", in.Rows, in.Orgs))
	perSlice := in.Rows / invoiceSlices
	in.Rows, in.BigOrgRows = perSlice*invoiceSlices, perSlice/2*invoiceSlices
	if int(perSlice-perSlice/2) < in.Orgs-1 {
		return fmt.Errorf("%d rows are too few", in.Rows)
	}
	took, err := r.fillSlices(ctx, conn, filling{
		insert: insertInvoiceRows, slices: invoiceSlices, rows: perSlice, from: invoiceMonth, span: invoiceMonth.AddDate(0, 1, 0).Sub(invoiceMonth),
		params: clickhouse.Parameters{"big": fmt.Sprint(perSlice / 2), "orgs": fmt.Sprint(in.Orgs - 1), "models": sqlTexts(invoiceModels)},
	})
	in.FillSeconds = round(took.Seconds(), 1)
	return err
}

// sqlTexts is an array parameter of texts without quotes in them.
func sqlTexts(texts []string) string { return "['" + strings.Join(texts, "','") + "']" }
