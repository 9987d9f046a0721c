package crashtest

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFinanceCommands is a month end on the command line, beside running services:
// plan, profile, credit, invoice, its documents and arithmetic, payment, credit
// note, correction, and the audit trail.
func TestFinanceCommands(t *testing.T) {
	platformTest(t)
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	p.serve()
	p.service("ingest", "AIONE_LEASE_TTL=2s")
	from, to := lastMonth(t)
	p.post(acme.management, usageOf(random(t), 200, from, to))
	say := func(want string, args ...string) string {
		t.Helper()
		c := runAione(t, p.env, args...)
		if c.code != 0 || !strings.Contains(c.stdout, want) {
			t.Fatalf("aione %s: exit %d, want %q\n%s%s", strings.Join(args, " "), c.code, want, c.stdout, c.stderr)
		}
		return c.stdout
	}
	refuse := func(want string, args ...string) {
		t.Helper()
		c := runAione(t, p.env, args...)
		oneSentence(t, strings.Join(args, " "), c.code, c.stderr, "aione: ", want)
	}
	charges := filepath.Join(t.TempDir(), "charges.json")
	if err := os.WriteFile(charges, []byte(`[{"name":"output","model":"graduated","buckets":["output"],"tiers":[{"up_to":1000,"unit_price":"60"},{"unit_price":"50"}]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	publish := []string{"admin", "plan", "publish", "team", "Team", "--fee", "199", "--included-tokens", "1000", "--discount-pct", "10", "--charges", charges}
	say("version 1 is published", publish...)
	say("version 1 is published", publish...) // the same again is the same version
	say("Acme has plan team", "admin", "plan", "assign", "Acme", "team")
	say("199.00", "admin", "plan", "list")
	say("Acme 贸易", "admin", "org", "profile", "Acme", "--set", "--bill-to-name", "Acme 贸易", "--bill-to-address", "1 Main Street, Shanghai", "--tax", "VAT=6", "--terms-days", "14")
	say("VAT 6 % on top", "admin", "org", "profile", "Acme")
	refuse("U+1F600", "admin", "org", "profile", "Acme", "--set", "--bill-to-name", "😀")
	say("AIone Ltd.", "admin", "entity", "set", "AIONE", "--name", "AIone Ltd.", "--bank-holder", "AIone Ltd.", "--bank-name", "Bank", "--bank-account", "1")
	say("AIone Ltd.", "admin", "entity", "list")
	grant := []string{"admin", "credit", "grant", "Acme", "5", "--expires", "2099-01-01T00:00:00Z", "--source", "welcome", "--key", "welcome"}
	say("promotional credit", grant...)
	say("nothing was done now", grant...)
	refuse("idempotency key", "admin", "credit", "grant", "Acme", "6", "--key", "welcome")
	say("prepaid credit", "admin", "credit", "topup", "Acme", "1", "--source", "TT-0")
	say("welcome", "admin", "credit", "list", "Acme")
	refuse("no credit has expired", "admin", "credit", "expire", "Acme")

	p.aione(nil, "admin", "invoice", "run", "--grace", "0s")
	var list []struct{ ID, Number, Currency string }
	p.aione(&list, "admin", "invoice", "list", "Acme")
	if len(list) != 1 {
		t.Fatalf("%d invoices", len(list))
	}
	number := list[0].Number
	p.checkFinanceDocuments(number, say)
	say("total", "admin", "invoice", "show", number)
	refuse("not found", "admin", "invoice", "show", "INV-NOBODY-2026-000001")
	say("for "+number, "admin", "payment", "add", "Acme", "1.5", "--reference", "TT-1", "--invoice", number, "--key", "TT-1")
	say("TT-1", "admin", "payment", "list", "Acme")
	refuse("more than there is", "admin", "refund", "Acme", "1000000", "--reason", "no")
	refuse("needs a reason", "admin", "invoice", "rerate", number, "--tax", "VAT=6")
	say("Nothing was written", "admin", "--reason", "VAT was forgotten", "invoice", "rerate", number, "--tax", "VAT=6")
	fixed := say("replaces it", "admin", "--reason", "VAT was forgotten", "invoice", "rerate", number, "--tax", "VAT=6", "--apply")
	note := fixed[strings.Index(fixed, "CN-"):]
	note = note[:strings.IndexByte(note, ':')]
	other := fixed[strings.Index(fixed, "invoice INV-AIONE")+len("invoice "):]
	if i := strings.LastIndex(fixed, "INV-AIONE"); i >= 0 {
		other = fixed[i:]
	}
	other = other[:strings.IndexByte(other, ' ')]
	say("void", "admin", "invoice", "show", number)
	say("VAT", "admin", "invoice", "show", other)
	file := filepath.Join(t.TempDir(), "note.pdf")
	say(file, "admin", "invoice", "pdf", note, "-o", file)
	wantPDF(t, file)
	say("credit note CN-", "admin", "--reason", "goodwill", "invoice", "credit-note", other, "--line", "1=0.01")
	refuse("it is void", "admin", "--reason", "no", "invoice", "void", number)
	say("written off", "admin", "--reason", "insolvent", "invoice", "write-off", other)
	say("goodwill", "admin", "org", "changes", "Acme")
	say("team", "admin", "org", "account", "Acme")
	focus := say(note, "export", "focus", "Acme")
	if rows, err := csv.NewReader(strings.NewReader(focus)).ReadAll(); err != nil || len(rows) < 10 {
		t.Errorf("FOCUS has %d rows: %v", len(rows), err)
	}
	if !regexp.MustCompile(`,[0-9a-f-]{36},team,`).MatchString(focus) {
		t.Errorf("FOCUS has no row of the team:\n%s", focus)
	}
	p.checkVoid(say, refuse)
	p.checkWebhookCommands(say, refuse)
	p.verify()
}

// checkVoid voids an invoice of an org of its own, once, and exports the journals
// with account codes of one's own.
func (p *platform) checkVoid(say func(string, ...string) string, refuse func(string, ...string)) {
	t := p.t
	t.Helper()
	beta := p.tenant("Beta")
	from, to := lastMonth(t)
	p.post(beta.management, usageOf(random(t), 50, from, to))
	p.aione(nil, "admin", "invoice", "run", "--grace", "0s")
	var list []struct{ Number string }
	p.aione(&list, "admin", "invoice", "list", "Beta")
	if len(list) != 1 {
		t.Fatalf("%d invoices", len(list))
	}
	number := list[0].Number
	refuse("needs a reason: say --reason", "admin", "invoice", "void", number)
	refuse("needs a reason", "admin", "invoice", "write-off", number)
	refuse(`expected "<invoice>"`, "admin", "invoice", "void", "--reason", "no")
	refuse("not found", "admin", "invoice", "void", "INV-NOBODY-2026-000001", "--reason", "no")
	refuse("not found", "admin", "invoice", "void", "00000000-0000-0000-0000-000000000001", "--reason", "no")
	var note, again struct {
		Number        string
		Full          bool
		Reason        string
		InvoiceNumber string `json:"invoice_number"`
	}
	void := []string{"admin", "invoice", "void", number, "--reason", "twice sold", "--key", "void-1"}
	p.aione(&note, void...)
	if !note.Full || note.InvoiceNumber != number || note.Reason != "twice sold" || !strings.HasPrefix(note.Number, "CN-") {
		t.Fatalf("void says %+v", note)
	}
	p.aione(&again, void...)
	if again != note {
		t.Errorf("the same again says %+v, want %+v", again, note)
	}
	say("nothing was done now", void...)
	refuse(number+": invoice is not open: it is void", "admin", "invoice", "void", number, "--reason", "twice sold")
	say(", void", "admin", "invoice", "show", number)
	focus := say(note.Number, "export", "focus", "Beta")
	if strings.Count(focus, number) == 0 || strings.Count(focus, ",team,") < 2 {
		t.Errorf("FOCUS of a void invoice:\n%s", focus)
	}
	dir := t.TempDir()
	chart, out := filepath.Join(dir, "chart.json"), filepath.Join(dir, "journal.csv")
	for body, want := range map[string]string{`{"csh":{"code":"1"}}`: "no kind of account", `[]`: "JSON object such as", `{"accrued":{"name":"x"}}`: "no account code for accrued"} {
		if err := os.WriteFile(chart, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		refuse(want, "export", "journal", "Beta", "--chart", chart, "-o", out)
	}
	if err := os.WriteFile(chart, []byte(`{"accrued":{"code":"4711","name":"Unbilled"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	say(`,4711,Unbilled,accrued:`, "export", "journal", "Beta", "--chart", chart)
	var file struct{ File string }
	p.aione(&file, "export", "journal", "Beta", "--chart", chart, "-o", out)
	if body, err := os.ReadFile(out); file.File != out || err != nil || !bytes.Contains(body, []byte(",4711,Unbilled,")) || !bytes.Contains(body, []byte(note.Number)) {
		t.Errorf("%s has %q, %v", file.File, body, err)
	}
	refuse("no such file", "export", "journal", "Beta", "--chart", filepath.Join(dir, "nothing.json"))
	say("/dev/null", "export", "focus", "Beta", "-o", "/dev/null")
	if at, err := os.Stat("/dev/null"); err != nil || at.Mode().IsRegular() {
		t.Fatalf("/dev/null is a file now: %v", err)
	}
	refuse("write the export", "export", "focus", "Beta", "-o", filepath.Join(dir, "nowhere", "focus.csv"))
	refuse("name a file with --out", "export", "journal", "Beta", "--json")
	if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) > 0 {
		t.Errorf("exports left %q: %v", left, err)
	}
}

// checkWebhookCommands sets an endpoint up, changes it and takes it away.
func (p *platform) checkWebhookCommands(say func(string, ...string) string, refuse func(string, ...string)) {
	p.t.Helper()
	const url = "http://127.0.0.1:9/hook"
	refuse("https://", "admin", "webhook", "create", "Acme", url)
	say("whsec_", "admin", "webhook", "create", "Acme", url, "--webhook-loopback", "--events", "invoice.issued,invoice.paid")
	refuse("has this URL already", "admin", "webhook", "create", "Acme", url, "--webhook-loopback")
	var list []struct{ ID string }
	p.aione(&list, "admin", "webhook", "list", "Acme")
	if len(list) != 1 {
		p.t.Fatalf("%d endpoints", len(list))
	}
	id := list[0].ID
	say("message msg_", "admin", "webhook", "test", "Acme", id)
	say("webhook.test", "admin", "webhook", "deliveries", "Acme", id)
	say("disabled: on holiday", "admin", "--reason", "on holiday", "webhook", "disable", "Acme", id)
	refuse("disabled", "admin", "webhook", "test", "Acme", id)
	say("enabled", "admin", "webhook", "enable", "Acme", id)
	say("messages are sent again", "admin", "webhook", "replay", "Acme", id, "--since", "2026-01-01T00:00:00Z")
	say("whsec_", "admin", "webhook", "rotate", "Acme", id)
	say("is deleted", "admin", "webhook", "delete", "Acme", id)
	refuse("not found", "admin", "webhook", "enable", "Acme", id)
}

// checkFinanceDocuments explains a line, and writes each document of an invoice.
func (p *platform) checkFinanceDocuments(number string, say func(string, ...string) string) {
	t := p.t
	t.Helper()
	say("events are behind it", "explain", number, "1")
	var told struct {
		Steps  []string
		Events []struct{ ID string }
		Total  int `json:"events_total"`
	}
	p.aione(&told, "explain", number, "1", "--events", "3")
	if len(told.Steps) == 0 || len(told.Events) != 3 || told.Total < 3 {
		t.Errorf("explained by %+v", told)
	}
	dir := t.TempDir()
	pdf := filepath.Join(dir, "invoice.pdf")
	say(number, "admin", "invoice", "pdf", number, "-o", pdf, "--lang", "en")
	wantPDF(t, pdf)
	if lines := say(number, "export", "csv", number, "--bom"); !strings.HasPrefix(lines, "\ufeffinvoice_no,") {
		t.Errorf("CSV begins with %.40q", lines)
	}
	journal := filepath.Join(dir, "journal.csv")
	say(journal, "export", "journal", "Acme", "-o", journal)
	if body, err := os.ReadFile(journal); err != nil || !bytes.Contains(body, []byte(number)) {
		t.Errorf("the journals do not name %s: %v", number, err)
	}
}

func wantPDF(t testing.TB, file string) {
	t.Helper()
	if body, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(body, []byte("%PDF-")) {
		t.Errorf("%s is no PDF: %v", file, err)
	}
}
