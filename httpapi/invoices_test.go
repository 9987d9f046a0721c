package httpapi

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

// seedInvoice is the example of the published page, field by field in its order.
const seedInvoice = `{
        "id": "497f6eca-6276-4993-bfeb-53cbbbba6f08",
        "invoice_no": "string",
        "org_id": "a40f5d1f-d889-42e9-94ea-b9b33585fc6b",
        "period_start": "2019-08-24",
        "period_end": "2019-08-24",
        "total": "string",
        "status": "string",
        "due_date": "2019-08-24",
        "created_at": "2019-08-24T14:15:22.123Z"
    }`

// shape is the fields of a JSON object in order, each with the form of its value.
func shape(t *testing.T, object string) (fields []string) {
	t.Helper()
	forms := []struct{ name, pattern string }{
		{"uuid", `^"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"$`},
		{"date", `^"\d{4}-\d\d-\d\d"$`},
		{"instant", `^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$`},
		{"string", `^".*"$`},
	}
	d := json.NewDecoder(strings.NewReader(object))
	must(d.Token())
	for d.More() {
		name := must(d.Token()).(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			t.Fatal(err)
		}
		form := "other"
		for _, f := range forms {
			if regexp.MustCompile(f.pattern).Match(raw) {
				form = f.name
				break
			}
		}
		fields = append(fields, name+":"+form)
	}
	return fields
}

func TestInvoices(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	r.clock.set(time.Date(2026, 9, 10, 0, 0, 0, 0, time.UTC))
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	for month := range 2 {
		at := time.Date(2026, time.September, 15, 0, 0, 0, 0, time.UTC).AddDate(0, month, 0)
		tokens := events.Tokens{Input: 1_000_000, Output: 10_000 * uint64(month+1)}
		r.publish(r.usageOf(x, "gpt-4o", at, tokens), r.usageOf(other, "gpt-4o", at, tokens))
		if month == 1 { // came after September was closed
			r.publish(r.usageOf(x, "gpt-4o-mini", at.AddDate(0, -1, 0), events.Tokens{Input: 1_000_000}))
		}
		r.ingest()
		r.clock.set(time.Date(2026, time.October, 1, 8, 30, 15, 123e6, time.UTC).AddDate(0, month, 0))
		if report, err := r.invoicer.RunDue(r.ctx, r.clock.Now()); err != nil || len(report.Issued) != 2 {
			t.Fatalf("run %d issued %d: %v", month, len(report.Issued), err)
		}
	}

	a := r.get("/api/v1/billing/invoices", x.token)
	var raw []json.RawMessage
	a.into(t, &raw)
	if a.status != http.StatusOK || len(raw) != 2 || a.header.Get("X-Total-Count") != "2" || a.header.Get("X-Metering-Behind") != "0" {
		t.Fatalf("invoices = %d %s, %v", a.status, a.body, a.header)
	}
	// The example shows that "string" may be any string, and total a decimal one.
	if got, want := strings.Join(shape(t, string(raw[0])), " "), strings.Join(shape(t, seedInvoice), " "); got != want {
		t.Errorf("an invoice has\n%s, the published one\n%s", got, want)
	}
	var list []invoiceSummary
	a.into(t, &list)
	newest := list[0]
	want := invoiceSummary{
		ID: ledger.InvoiceID(x.org.ID, "2026-10"), InvoiceNo: newest.InvoiceNo, OrgID: x.org.ID,
		PeriodStart: "2026-10-01", PeriodEnd: "2026-10-31", Total: "20.52", Status: "issued",
		DueDate: "2026-12-01", CreatedAt: "2026-11-01T08:30:15.123Z",
	}
	if newest != want || !strings.HasPrefix(newest.InvoiceNo, "INV-AIONE-2026-") || list[1].PeriodEnd != "2026-09-30" {
		t.Errorf("newest = %+v\nwant %+v", newest, want)
	}

	a = r.get("/api/v1/billing/invoices?page=2&page_size=1", x.token)
	list = nil
	a.into(t, &list)
	if len(list) != 1 || list[0].PeriodStart != "2026-09-01" || !strings.Contains(a.header.Get("Link"), `page=1&page_size=1>; rel="prev"`) {
		t.Errorf("page 2 = %s, %s", a.body, a.header.Get("Link"))
	}
	if a := r.get("/api/v1/billing/invoices?page=3&page_size=1", x.token); a.body != "[]" || a.header.Get("X-Total-Count") != "2" {
		t.Errorf("past the end = %s", a.body)
	}

	path := "/api/v1/billing/invoices/" + newest.ID.String()
	if a := r.get(path, other.token); a.status != http.StatusNotFound || a.body != `{"detail":"not found"}` {
		t.Errorf("another org's invoice = %d %s", a.status, a.body)
	}
	checkDetail(t, r.get(path, x.token), newest)
	a = r.get(path, x.token, "Accept", "text/csv")
	records, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil || len(records) != 4 || records[3][5] != "2026-09" || records[3][9] != "1.08" {
		t.Errorf("as CSV: %v\n%s", err, a.body)
	}
}

// checkDetail checks the invoice of October: two lines in time, one late.
func checkDetail(t *testing.T, a answer, summary invoiceSummary) {
	t.Helper()
	var inv invoiceDetail
	a.into(t, &inv)
	if got := (invoiceSummary{inv.ID, inv.InvoiceNo, inv.OrgID, inv.PeriodStart, inv.PeriodEnd, inv.Total, inv.Status, inv.DueDate, inv.CreatedAt}); got != summary {
		t.Errorf("invoice = %+v, in the list %+v", got, summary)
	}
	if len(inv.Lines) != 3 || inv.Subtotal != "19.44" || inv.Adjustments != "1.08" || inv.Discount != "0.00" || inv.Tax != "0.00" || inv.AmountDue != "20.52" ||
		inv.CreditsApplied != "0.00" || inv.Currency != "CNY" || inv.Cut <= inv.PreviousCut || len(inv.InputHash) != 64 || len(inv.Segments) != 1 || inv.Segments[0].Days != 31 {
		t.Fatalf("invoice = %s", a.body)
	}
	origin := "2026-09"
	for i, want := range []invoiceLine{
		{N: 1, Kind: "usage", Model: "gpt-4o", Bucket: "input", PriceVersion: "gpt-4o@1", Quantity: 1_000_000, Unit: "tokens", UnitPrice: "18", Exact: "18", Amount: "18.00"},
		{N: 2, Kind: "usage", Model: "gpt-4o", Bucket: "output", PriceVersion: "gpt-4o@1", Quantity: 20_000, Unit: "tokens", UnitPrice: "72", Exact: "1.44", Amount: "1.44"},
		{N: 3, Kind: "usage", Model: "gpt-4o-mini", Bucket: "input", PriceVersion: "gpt-4o-mini@1", Origin: &origin, Quantity: 1_000_000, Unit: "tokens", UnitPrice: "1.08", Exact: "1.08", Amount: "1.08"},
	} {
		if !reflect.DeepEqual(inv.Lines[i], want) {
			t.Errorf("line %d = %+v, want %+v", i+1, inv.Lines[i], want)
		}
	}
}

func TestUpcomingInvoice(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x := r.tenant("acme", "America/New_York")
	const path = "/api/v1/billing/invoices/upcoming"
	a := r.get(path, x.token)
	for _, want := range []string{`"total":"0.00"`, `"status":"draft"`, `"invoice_no":""`, `"lines":[]`, `"period_start":"2026-11-01"`, `"period_end":"2026-11-30"`} {
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("upcoming without usage = %d %s, want %s", a.status, a.body, want)
		}
	}
	r.publish(r.usageOf(x, "gpt-4o", testNow.Add(-time.Hour), events.Tokens{Output: 1_000_000}))
	r.ingest()
	if a = r.get(path, x.token); !strings.Contains(a.body, `"total":"72.00"`) || a.header.Get("X-Metering-Counted-Seq") != "1" {
		t.Errorf("upcoming = %s, %v", a.body, a.header)
	}
	if a = r.get("/api/v1/billing/invoices", x.token); a.body != "[]" {
		t.Errorf("a draft is listed: %s", a.body)
	}
}
