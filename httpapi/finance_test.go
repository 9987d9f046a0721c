package httpapi

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// creditNoteOf credits a fen of an invoice and returns the note's id.
func (r *rig) creditNoteOf(x tenant, invoice uuid.UUID) uuid.UUID {
	r.t.Helper()
	by := byTest(r)
	by.Reason = "a fen too much"
	note, err := r.commands.CreditNote(r.ctx, x.org.ID, invoice, []ledger.CreditLine{{Line: 1, Amount: must(ledger.ParseAmount("0.01"))}}, by)
	if err != nil {
		r.t.Fatal(err)
	}
	return note.Result.ID
}

// office is a rig with an operator, seen by a finance department.
type office struct {
	*rig
	x    tenant
	root string
	org  string // path of the org for operators
}

func newOffice(t *testing.T) *office {
	t.Helper()
	p := &office{rig: newRig(t, embedded.Open(t), func(c *Config) { c.Lines = c.Usage.(Lines) })}
	p.clock.set(time.Date(2026, 10, 1, 1, 0, 0, 0, time.UTC))
	p.x = p.tenant("acme", "")
	p.root = p.token(p.x, keys.ScopeAdmin)
	p.org = "/admin/v1/orgs/" + p.x.org.ID.String()
	return p
}

// ok sends a command and decodes its answer.
func (p *office) ok(method, path, body string, status int, into any, headers ...string) answer {
	p.t.Helper()
	a := p.send(method, path, p.root, body, headers...)
	if a.status != status {
		p.t.Fatalf("%s %s %s = %d %s", method, path, body, a.status, a.body)
	}
	if into != nil {
		a.into(p.t, into)
	}
	return a
}

// use publishes and counts usage.
func (p *office) use(model string, at time.Time, tokens events.Tokens) {
	p.t.Helper()
	p.publish(p.usageOf(p.x, model, at, tokens))
	p.ingest()
}

// closeMonth issues the invoice of October and returns it as the org sees it.
func (p *office) closeMonth() invoiceDetail {
	p.t.Helper()
	p.clock.set(testNow)
	var run invoiceRunResponse
	p.ok("POST", "/admin/v1/invoices/run", "", http.StatusOK, &run)
	if len(run.Issued) != 1 || run.Failed != 0 {
		p.t.Fatalf("run = %+v", run)
	}
	return p.invoice(run.Issued[0].ID)
}

func (p *office) invoice(id uuid.UUID) invoiceDetail {
	p.t.Helper()
	var d invoiceDetail
	a := p.get("/api/v1/billing/invoices/"+id.String(), p.x.token)
	a.into(p.t, &d)
	return d
}

const salesBody = `{"code":"sales","name":"Sales","monthly_fee":"100","included_tokens":1000000,"discount_pct":"10","commitment":"20","discount_amount":"1.5","included_amount":"2",` +
	`"charges":[{"name":"mini","model":"graduated","models":["gpt-4o-mini"],"buckets":["input","output"],"tiers":[{"up_to":500000,"unit_price":"3"},{"unit_price":"2","flat_fee":"0.5"}]}]}`

// TestAMonthOfFinance is a month as a finance department sees it: plan, profile,
// credit, invoice, its documents, payment, and the audit trail.
func TestAMonthOfFinance(t *testing.T) {
	p := newOffice(t)
	var plan publishedPlan
	p.ok("POST", "/admin/v1/plans", salesBody, http.StatusCreated, &plan)
	if plan.PlanVersion != 1 || plan.Plan.MonthlyFee != "100.00" || len(plan.Plan.Charges) != 1 || *plan.Plan.Charges[0].Tiers[0].UpTo != 500_000 {
		t.Fatalf("published = %+v", plan)
	}
	var assigned planDetailResponse
	p.ok("PUT", p.org+"/plan", `{"code":"sales","reason":"signed"}`, http.StatusOK, &assigned)
	if assigned.PlanVersion == nil || *assigned.PlanVersion != 1 || assigned.Commitment != "20.00" || assigned.DiscountPct != "10.00" {
		t.Errorf("assigned = %+v", assigned)
	}
	p.ok("PUT", p.org+"/billing-profile", `{"bill_to":{"name":"Acme 贸易","address":["1 Main Street"],"tax_id":"9131"},"tax_rates":[{"name":"VAT","pct":"6"}],"terms_days":14}`, http.StatusOK, nil)
	p.ok("PUT", "/admin/v1/legal-entities/AIONE", `{"name":"AIone Ltd.","bank":{"account_name":"AIone","bank_name":"Bank","account_number":"1"},"note":"Danke"}`, http.StatusOK, nil)
	var credit grantedCredit
	const gift = `{"kind":"promotional","amount":"50","expires_at":"2027-01-01T00:00:00Z","source":"welcome"}`
	first := p.ok("POST", p.org+"/credits", gift, http.StatusCreated, &credit, "Idempotency-Key", "gift")
	if again := p.ok("POST", p.org+"/credits", gift, http.StatusCreated, nil, "Idempotency-Key", "gift"); again.body != first.body || again.header.Get(replayedHeader) != "true" {
		t.Errorf("the same gift again = %s %v", again.body, again.header)
	}
	if other := p.send("POST", p.org+"/credits", p.root, strings.Replace(gift, "50", "51", 1), "Idempotency-Key", "gift"); other.status != http.StatusConflict {
		t.Errorf("another gift under the key = %d %s", other.status, other.body)
	}
	// Another process has never heard of the key; the ledger has.
	req := must(http.NewRequest("POST", p.org+"/credits", strings.NewReader(strings.Replace(gift, "50", "51", 1))))
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + p.root}, "Idempotency-Key": {"gift"}}
	if w := serve(must(New(p.config)), req); w.Code != http.StatusConflict {
		t.Errorf("another gift under the key after a restart = %d %s", w.Code, w.Body)
	}
	at := time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC)
	p.use("gpt-4o", at, events.Tokens{Input: 2_000_000, Output: 500_000})
	p.use("gpt-4o-mini", at, events.Tokens{Input: 700_000})
	p.clock.set(time.Date(2026, 10, 31, 16, 0, 1, 0, time.UTC)) // the month is over, and not closed
	var drafts []invoiceDetail
	p.get("/api/v1/billing/invoices/drafts", p.x.token).into(t, &drafts)
	if len(drafts) == 0 || drafts[0].PeriodEnd != "2026-10-31" || drafts[0].Status != "draft" || drafts[0].InvoiceNo != "" {
		t.Fatalf("drafts = %+v", drafts)
	}
	inv := p.closeMonth()
	if inv.Total != drafts[0].Total || len(inv.Lines) != len(drafts[0].Lines) {
		t.Errorf("the draft comes to %s, the invoice to %s", drafts[0].Total, inv.Total)
	}
	if inv.Status != "issued" || inv.DueDate != "2026-11-29" || inv.AmountDue != inv.Total || len(inv.Taxes) != 1 || inv.CreditsApplied != "50.00" {
		t.Errorf("invoice = %+v", inv)
	}
	kinds := map[string]int{}
	for _, l := range inv.Lines {
		kinds[l.Kind]++
	}
	for kind, n := range map[string]int{"tier": 2, "fee": 1, "fee_advance": 1, "discount": 2, "tax": 1, "credit": 1, "usage": 2, "included": 3} {
		if kinds[kind] != n {
			t.Errorf("%d lines of kind %s, want %d: %v", kinds[kind], kind, n, kinds)
		}
	}
	p.checkDocuments(inv)
	p.checkExplained(inv)
	p.payAndCheck(inv)
}

// checkDocuments looks at the PDF and the exports.
func (p *office) checkDocuments(inv invoiceDetail) {
	t := p.t
	t.Helper()
	path := "/api/v1/billing/invoices/" + inv.ID.String()
	for _, lang := range []string{"", "?lang=zh", "?lang=en"} {
		a := p.get(path+lang, p.x.token, "Accept", "application/pdf")
		if a.status != http.StatusOK || !strings.HasPrefix(a.body, "%PDF-") || !strings.Contains(a.header.Get("Content-Disposition"), inv.InvoiceNo) {
			t.Errorf("PDF %s = %d %.100s", lang, a.status, a.body)
		}
		if again := p.get(path+lang, p.x.token, "Accept", "application/pdf"); again.body != a.body {
			t.Errorf("the PDF %s changes", lang)
		}
	}
	// Who is entered later does not change what was sent.
	before := p.get(path, p.x.token, "Accept", "application/pdf").body
	p.clock.set(testNow.Add(time.Second))
	p.ok("PUT", "/admin/v1/legal-entities/AIONE", `{"name":"Another Ltd."}`, http.StatusOK, nil)
	p.ok("PUT", p.org+"/billing-profile", `{"bill_to":{"name":"Somebody Else"}}`, http.StatusOK, nil)
	if after := p.get(path, p.x.token, "Accept", "application/pdf").body; after != before {
		t.Error("an issued invoice names those who were entered after it")
	}
	p.ok("PUT", p.org+"/billing-profile", `{"bill_to":{"name":"Acme 贸易"},"tax_rates":[{"name":"VAT","pct":"6"}]}`, http.StatusOK, nil)
	if a := p.get(path+"?lang=fr", p.x.token, "Accept", "application/pdf"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("lang=fr = %d %s", a.status, a.body)
	}
	if a := p.get(path+"?bom=true", p.x.token, "Accept", "text/csv"); !strings.HasPrefix(a.body, "\ufeffinvoice_no,") {
		t.Errorf("CSV = %.100s", a.body)
	}
	for _, root := range []string{"/api/v1/billing", p.org} {
		token := p.x.token
		if root == p.org {
			token = p.root
		}
		a := p.get(root+"/exports/focus?start_date=2026-10-01&end_date=2026-10-31", token)
		rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
		if err != nil || len(rows) < len(inv.Lines) {
			t.Errorf("FOCUS = %d %.200s, %v", a.status, a.body, err)
		}
		if want := "," + p.x.team.ID.String() + "," + p.x.team.Name + ","; !strings.Contains(a.body, want) {
			t.Errorf("FOCUS has no row of the team, %q:\n%s", want, a.body)
		}
		if a = p.get(root+"/exports/focus?start_date=2026-11-01", token); strings.Count(a.body, "\n") != 1 {
			t.Errorf("FOCUS of November = %.200s", a.body)
		}
		a = p.get(root+"/exports/journal?start_date=2026-11-01&end_date=2026-11-30", token)
		if !strings.Contains(a.body, inv.InvoiceNo) || !strings.Contains(a.body, "receivable") {
			t.Errorf("journal = %d %.300s", a.status, a.body)
		}
		if a = p.get(root+"/exports/journal?start_date=2026-11-02&end_date=2026-11-01", token); a.status != http.StatusUnprocessableEntity {
			t.Errorf("a range from back to front = %d %s", a.status, a.body)
		}
	}
}

// checkExplained asks for the arithmetic of each line.
func (p *office) checkExplained(inv invoiceDetail) {
	t := p.t
	t.Helper()
	var tiers uint64
	for _, l := range inv.Lines {
		if l.Kind == "tier" {
			tiers += l.Quantity
		}
	}
	for _, l := range inv.Lines {
		var behind []lineEvent
		p.get(fmt.Sprintf("/api/v1/billing/invoices/%s/lines/%d/events", inv.ID, l.N), p.x.token).into(t, &behind)
		var sum uint64
		for _, e := range behind {
			sum += e.Quantity
		}
		if want := map[string]uint64{"usage": l.Quantity, "tier": tiers}[l.Kind]; sum != want {
			t.Errorf("the events behind line %d, %s, come to %d, want %d", l.N, l.Kind, sum, want)
		}
		var e explanation
		p.get(fmt.Sprintf("/api/v1/billing/invoices/%s/lines/%d/explain", inv.ID, l.N), p.x.token).into(t, &e)
		if len(e.Steps) == 0 || e.Line.Amount != l.Amount || (e.Price != nil) != (l.PriceVersion != "") {
			t.Errorf("line %d is explained by %+v", l.N, e)
		}
	}
	if a := p.get(fmt.Sprintf("/api/v1/billing/invoices/%s/lines/%d/explain", inv.ID, len(inv.Lines)+1), p.x.token); a.status != http.StatusNotFound {
		t.Errorf("a line past the last = %d %s", a.status, a.body)
	}
}

// payAndCheck pays the invoice in two parts, the second too high.
func (p *office) payAndCheck(inv invoiceDetail) {
	t := p.t
	t.Helper()
	p.ok("POST", p.org+"/payments", `{"amount":"10","reference":"TT-1","invoice_ids":["`+inv.ID.String()+`"]}`, http.StatusCreated, nil)
	if got := p.invoice(inv.ID); got.Status != "issued" || got.AmountPaid != "10.00" || len(got.Payments) != 1 || got.Payments[0].Reference != "TT-1" {
		t.Errorf("paid in part = %+v", got)
	}
	p.clock.set(time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC))
	if got := p.invoice(inv.ID); got.Status != "overdue" {
		t.Errorf("after the due date it is %s", got.Status)
	}
	var account billingAccountResponse
	p.get("/api/v1/billing/account", p.x.token).into(t, &account)
	if account.Status != "overdue" || account.AmountOwed != p.invoice(inv.ID).AmountDue {
		t.Errorf("account = %+v", account)
	}
	var paid paymentItem
	p.ok("POST", p.org+"/payments", `{"amount":"`+inv.Total+`"}`, http.StatusCreated, &paid)
	if got := p.invoice(inv.ID); paid.Overpaid != "10.00" || got.Status != "paid" || got.AmountDue != "0.00" {
		t.Errorf("paid = %+v, %+v", paid, got)
	}
	p.get("/api/v1/billing/account", p.x.token).into(t, &account)
	if account.Status != "active" || account.Balance != "10.00" || account.PrepaidBalance != "10.00" || account.AmountOwed != "0.00" {
		t.Errorf("account = %+v", account)
	}
	var list []invoiceSummary
	p.get("/api/v1/billing/invoices", p.x.token).into(t, &list)
	if list[0].Status != "paid" {
		t.Errorf("listed as %s", list[0].Status)
	}
	if a := p.send("POST", p.org+"/refunds", p.root, `{"amount":"10.01","reason":"no"}`); a.status != http.StatusConflict {
		t.Errorf("a refund of too much = %d %s", a.status, a.body)
	}
	p.ok("POST", p.org+"/refunds", `{"amount":"10","reason":"asked for it"}`, http.StatusCreated, nil)
	for path, want := range map[string]string{"/credits": `"kind":"promotional"`, "/payments": `"TT-1"`, "/credit-notes": `[]`, "/changes": `"asked for it"`, "/invoices": inv.InvoiceNo, "/billing-profile": `"VAT"`, "/plan": `"sales"`} {
		if a := p.get(p.org+path, p.root); a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%s = %d %s", path, a.status, a.body)
		}
		switch path {
		case "/credits", "/payments", "/credit-notes":
			if a := p.get("/api/v1/billing"+path, p.x.token); a.status != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("%s as the org = %d %s", path, a.status, a.body)
			}
		}
	}
}

// TestPuttingInvoicesRight credits, corrects and voids.
func TestPuttingInvoicesRight(t *testing.T) {
	p := newOffice(t)
	p.use("gpt-4o", time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC), events.Tokens{Output: 1_000_000})
	inv := p.closeMonth()
	admin := "/admin/v1/invoices/" + inv.ID.String()
	var note creditNoteDetail
	p.ok("POST", admin+"/credit-notes", `{"lines":[{"line":1,"amount":"2"}],"reason":"outage"}`, http.StatusCreated, &note)
	if note.Total != "2.00" || note.OffDue != "2.00" || note.Full || !strings.HasPrefix(note.CreditNoteNo, "CN-AIONE-2026-") {
		t.Errorf("credit note = %+v", note)
	}
	if got := p.invoice(inv.ID); got.AmountDue != "70.00" || len(got.CreditNotes) != 1 || got.Total != "72.00" {
		t.Errorf("credited in part = %+v", got)
	}
	path := "/api/v1/billing/credit-notes/" + note.ID.String()
	if a := p.get(path, p.x.token, "Accept", "application/pdf"); a.status != http.StatusOK || !strings.HasPrefix(a.body, "%PDF-") {
		t.Errorf("PDF of a credit note = %d %.200s", a.status, a.body)
	}
	if a := p.get(path, p.x.token); a.status != http.StatusOK || !strings.Contains(a.body, `"reason":"outage"`) {
		t.Errorf("credit note = %d %s", a.status, a.body)
	}
	for _, c := range []struct{ path, body, want string }{
		{"/credit-notes", `{"lines":[{"line":1,"amount":"70.01"}],"reason":"too much"}`, `409`},
		{"/credit-notes", `{"lines":[{"line":9,"amount":"1"}],"reason":"no such line"}`, `422`},
		{"/credit-notes", `{"lines":[],"reason":"nothing"}`, `422`},
		{"/credit-notes", `{"lines":[{"line":1,"amount":"1"}],"reason":""}`, `422`},
		{"/void", `{}`, `422`},
		{"/void", `{"reason":"credited in part already"}`, `409`},
		{"/re-rate", `{"prices":[{"from":"gpt-4o@1","to":"gpt-9@1"}],"reason":"x"}`, `422`},
	} {
		if a := p.send("POST", admin+c.path, p.root, c.body); fmt.Sprint(a.status) != c.want {
			t.Errorf("%s %s = %d %s", c.path, c.body, a.status, a.body)
		}
	}
	if a := p.send("POST", "/admin/v1/invoices/"+uuid.NewString()+"/void", p.root, `{"reason":"x"}`); a.status != http.StatusNotFound {
		t.Errorf("void of no invoice = %d %s", a.status, a.body)
	}
}

// TestCorrection voids an invoice and issues another in its place, and not if it
// has become another one meanwhile.
func TestCorrection(t *testing.T) {
	p := newOffice(t)
	p.use("gpt-4o", time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC), events.Tokens{Output: 1_000_000})
	inv := p.closeMonth()
	admin := "/admin/v1/invoices/" + inv.ID.String()
	var dry reRateResponse
	const remedy = `"terms":{"discount_pct":"25"},"tax_rates":[{"name":"VAT","pct":"6"}]`
	p.ok("POST", admin+"/re-rate", `{`+remedy+`,"reason":"the contract says 25 %"}`, http.StatusOK, &dry)
	if dry.Difference != "-14.76" || dry.Invoice.Total != "57.24" || dry.Invoice.Status != "draft" || len(dry.Hash) != 64 {
		t.Fatalf("dry run = %+v", dry)
	}
	if got := p.invoice(inv.ID); got.Status != "issued" {
		t.Fatalf("a dry run made it %s", got.Status)
	}
	agree := func(hash string) string {
		return `{` + remedy + `,"agreed":"` + hash + `","reason":"the contract says 25 %"}`
	}
	if a := p.send("POST", admin+"/correct", p.root, agree(strings.Repeat("0", 64))); a.status != http.StatusConflict {
		t.Errorf("a hash of nothing = %d %s", a.status, a.body)
	}
	var done correctResponse
	p.ok("POST", admin+"/correct", agree(dry.Hash), http.StatusCreated, &done)
	old, replacing := p.invoice(inv.ID), p.invoice(done.Invoice.ID)
	if done.CreditNote == nil || !done.CreditNote.Full || old.Status != "void" || text(old.ReplacedBy) != done.Invoice.ID.String() ||
		text(replacing.Replaces) != inv.ID.String() || replacing.Total != "57.24" {
		t.Errorf("corrected = %+v\n%+v\n%+v", done, old, replacing)
	}
	if a := p.send("POST", "/admin/v1/invoices/"+done.Invoice.ID.String()+"/write-off", p.root, `{"reason":"insolvent"}`); a.status != http.StatusCreated || !strings.Contains(a.body, `"amount":"57.24"`) {
		t.Errorf("write-off = %d %s", a.status, a.body)
	}
	if got := p.invoice(done.Invoice.ID); got.Status != "paid" || got.AmountPaid != "0.00" || got.AmountWritten != "57.24" || got.AmountDue != "0.00" {
		t.Errorf("written off, it is %s: %s paid, %s written off, %s due", got.Status, got.AmountPaid, got.AmountWritten, got.AmountDue)
	}
	query := url.Values{"start_date": {"2026-10-01"}, "end_date": {"2026-11-30"}}
	a := p.get("/api/v1/billing/exports/focus?"+query.Encode(), p.x.token)
	for _, want := range []string{inv.InvoiceNo, done.CreditNote.CreditNoteNo, done.Invoice.InvoiceNo} {
		if !strings.Contains(a.body, want) {
			t.Errorf("FOCUS lacks %s:\n%s", want, a.body)
		}
	}
}

// TestPartiesThatCannotBeShown: what the font lacks is refused when it is entered;
// an org whose very name it lacks gets no PDF, and is told why.
func TestPartiesThatCannotBeShown(t *testing.T) {
	p := newOffice(t)
	if a := p.send("PUT", p.org+"/billing-profile", p.root, `{"bill_to":{"name":"😀 Ltd."}}`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `["body","bill_to"]`) {
		t.Errorf("a name that cannot be shown = %d %s", a.status, a.body)
	}
	if a := p.send("PUT", "/admin/v1/legal-entities/AIONE", p.root, `{"name":"😀 Ltd."}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("an issuer that cannot be shown = %d %s", a.status, a.body)
	}
	p.x = p.tenant("😀", "")
	a := p.get("/api/v1/billing/invoices/upcoming", p.x.token, "Accept", "application/pdf")
	if a.status != http.StatusConflict || !strings.Contains(a.body, "U+1F600") {
		t.Errorf("PDF for 😀 = %d %.200s", a.status, a.body)
	}
	if !bytes.Contains([]byte(p.get("/api/v1/billing/invoices/upcoming", p.x.token).body), []byte(`"draft"`)) {
		t.Error("its draft cannot be had as JSON either")
	}
}
