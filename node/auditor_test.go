package node

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"aione/analytics"
	"aione/billing"
	"aione/events"
)

// exec changes the rows behind everyone's back.
func (o *operator) exec(query string) {
	o.t.Helper()
	options, err := clickhouse.ParseDSN(o.node.Engines.ClickHouseDSN)
	if err != nil {
		o.t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		o.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec(context.Background(), query); err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
}

func (o *operator) audit(all bool) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := o.node.Auditor.Run(ctx, all); err != nil {
		o.t.Fatal(err)
	}
}

type verdict struct {
	Status     string   `json:"status"`
	Through    uint64   `json:"through_seq"`
	LedgerSeq  uint64   `json:"ledger_seq"`
	RowsAreLog bool     `json:"rows_are_log"`
	Inputs     bool     `json:"usage_is_invoice_inputs"`
	Journals   bool     `json:"journals_sum_to_zero"`
	Findings   []string `json:"findings"`
}

func (o *operator) verdict() (v verdict) {
	o.t.Helper()
	o.read("/api/v1/audit", &v)
	return v
}

func (o *operator) metrics() string {
	o.t.Helper()
	return o.ask(o.apis[0], http.MethodGet, "/metrics", "", "").body
}

// The auditor's verdict is proven, then broken, then proven again; while it is
// broken nobody is invoiced, and the org learns nothing of others from it.
func TestAuditorKeepsTheInvoicerHonest(t *testing.T) {
	t.Parallel()
	o := operate(t)
	if v := o.verdict(); v.Status != "pending" || strings.Contains(o.metrics(), "aione_audit_ok") {
		t.Fatalf("before the first audit: %+v", v)
	}
	chat := func(n int) {
		for range n {
			if a := o.ask(o.apis[0], http.MethodPost, speeches[0].path, o.first.ChatKey, speeches[0].body); a.status != http.StatusOK {
				t.Fatal(a.body)
			}
		}
		o.caughtUp()
	}
	chat(3)
	o.audit(false)
	first := o.verdict()
	if first.Status != "proven" || first.Through == 0 || first.LedgerSeq == 0 || !strings.Contains(o.metrics(), "aione_audit_ok 1") {
		t.Fatalf("%+v", first)
	}
	chat(2)
	o.audit(false)
	if v := o.verdict(); v.Status != "proven" || v.Through <= first.Through {
		t.Fatalf("%+v after %+v", v, first)
	}
	run := func() answer {
		return o.ask(o.apis[0], http.MethodPost, "/admin/v1/invoices/run", o.root, "")
	}
	if a := run(); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// An old row that costs less: what is new is well, all of it is not.
	o.exec("ALTER TABLE usage_events UPDATE cost = 0 WHERE stream_seq = 1 SETTINGS mutations_sync = 2")
	if o.audit(false); o.verdict().Status != "proven" {
		t.Fatal("an audit of what is new looks at what is old")
	}
	// A process that begins now looks at all of it before anybody is invoiced.
	if err := newAuditor(o.node).Sound(context.Background()); !errors.Is(err, ErrDiffers) {
		t.Fatalf("a process that has just begun: %v", err)
	}
	not := newAuditor(o.node)
	if not.off.Store(true); not.Sound(context.Background()) != nil {
		t.Fatal("a process that is not to audit does")
	}
	o.audit(true)
	v := o.verdict()
	if v.Status != "broken" || v.RowsAreLog || !v.Inputs || !v.Journals || len(v.Findings) != 1 || v.Findings[0] != rowsDiffer || !strings.Contains(o.metrics(), "aione_audit_ok 0") {
		t.Fatalf("%+v", v)
	}
	if a := run(); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "nothing is invoiced") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	_, err := o.node.Invoicer(InvoiceConfig{}).RunDue(context.Background(), o.node.Clock())
	if !errors.Is(err, billing.ErrUnproven) || !errors.Is(err, ErrDiffers) {
		t.Fatal(err)
	}
	// What is mended is found to be: after a broken verdict all is looked at.
	if _, err := o.node.Rebuild(context.Background(), false, nil); err != nil {
		t.Fatal(err)
	}
	if o.audit(false); o.verdict().Status != "proven" {
		t.Fatalf("%+v", o.verdict())
	}
	if a := run(); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// Findings are told to those they are about.
func TestFindingsAreTheirOwners(t *testing.T) {
	t.Parallel()
	o := operate(t)
	other, err := billing.Commands{Log: o.node.Log, Book: o.node.Book}.CreateOrg(context.Background(),
		billing.Org{ID: events.NewID(), Name: "other"}, billing.By{Actor: "test", At: o.node.Clock().UTC()})
	if err != nil {
		t.Fatal(err)
	}
	found := o.node.attribute([]string{
		"org " + o.first.OrgID.String() + ": run 2026-01 names invoice " + uuid.NewString() + ", which does not exist",
		"org " + other.ID.String() + ": 2 runs made an invoice, but there are 1",
		"series AIONE 2026: number 3 comes in place 2",
	})
	o.node.Auditor.last = &audit{at: o.node.Clock(), shards: make([]analytics.ShardAudit, o.node.Log.Shards()), findings: found}
	v := o.verdict()
	if v.Status != "broken" || v.Journals || !v.RowsAreLog || !v.Inputs || len(v.Findings) != 2 {
		t.Fatalf("%+v", v)
	}
	if text := strings.Join(v.Findings, "\n"); strings.Contains(text, other.ID.String()) || strings.Contains(text, "series") || !strings.Contains(text, ledgerDiffer) {
		t.Errorf("the org is told: %s", text)
	}
}
