package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// agree enters what the orgs have agreed to, as an operator does: over HTTP.
func (s *show) agree(ctx context.Context) error {
	s.options.Step("publish a plan; enter who invoices, who is invoiced, a promotional credit and a top-up")
	type call struct {
		method, path string
		body         any
	}
	type object = map[string]any
	calls := []call{{http.MethodPut, "/admin/v1/legal-entities/AIONE", object{
		"name": "爱万智能科技（上海）有限公司 AIone Ltd.", "address": []string{"上海市浦东新区张江路 88 号", "Shanghai 201203, China"}, "tax_id": "91310115MA1K4XXXX7",
		"bank": object{"account_name": "爱万智能科技（上海）有限公司", "bank_name": "招商银行上海张江支行", "account_number": "1219 0000 1234 567", "swift": "CMBCCNBS"},
	}}}
	for i, c := range contracts {
		org := "/admin/v1/orgs/" + s.cast[i].org.ID.String()
		profile := object{"bill_to": object{"name": s.cast[i].org.Name, "address": []string{s.cast[i].org.Timezone}}}
		if c.vat > 0 {
			profile["tax_rates"] = []object{{"name": "VAT", "pct": fmt.Sprint(c.vat)}}
		}
		calls = append(calls, call{http.MethodPut, org + "/billing-profile", profile})
		if c.plan != "" {
			calls = append(calls, call{http.MethodPost, "/admin/v1/plans", object{"code": c.plan, "name": "Team", "monthly_fee": yuanText(c.fee),
				"included_tokens": c.included, "discount_pct": fmt.Sprint(c.pct)}}, call{http.MethodPut, org + "/plan", object{"code": c.plan}})
		}
		if c.promo > 0 {
			calls = append(calls, call{http.MethodPost, org + "/credits", object{"kind": "promotional", "amount": yuanText(c.promo), "source": "welcome",
				"expires_at": "2024-03-31T16:00:00Z", "reason": "new customer"}})
		}
		if c.topUp > 0 {
			calls = append(calls, call{http.MethodPost, org + "/credits", object{"kind": "prepaid", "amount": yuanText(c.topUp), "source": "bank transfer TT-1"}})
		}
	}
	for _, c := range calls {
		if err := s.driver.order(ctx, c.method, c.path, c.body); err != nil {
			return err
		}
	}
	return nil
}

func yuanText(fen int64) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

// order sends an operator's command, which must succeed.
func (d *driver) order(ctx context.Context, method, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	status, answer, err := d.fetch(req, d.root)
	if err == nil && status != http.StatusOK && status != http.StatusCreated {
		err = fmt.Errorf("status %d: %s", status, answer)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (d *driver) fetch(req *http.Request, token string) (status int, body []byte, err error) {
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := d.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// settle records the payments that came in, and compares where each org's money
// stands then.
func (s *show) settle(ctx context.Context, wanted []expectedInvoice) error {
	s.options.Step("record a payment, write the PDFs, explain a line")
	for i, c := range contracts {
		a, seen := &s.cast[i], &s.report.Orgs[i]
		status := "issued"
		if wanted[i].total.Sign() == 0 {
			status = "paid" // by credits, at once
		}
		s.checks.equal("statuses", a.org.Name, seen.Invoice.Status, status)
		if c.paidByBank {
			payment := map[string]any{"amount": seen.Invoice.Total, "reference": "bank transfer TT-2", "reason": "statement of the 2nd"}
			if err := s.driver.order(ctx, http.MethodPost, "/admin/v1/orgs/"+a.org.ID.String()+"/payments", payment); err != nil {
				return err
			}
			status = "paid"
		}
		var inv invoice
		if err := s.driver.get(ctx, a.token, "/api/v1/billing/invoices/"+seen.Invoice.ID, &inv); err != nil {
			return err
		}
		s.checks.equal("statuses", a.org.Name+" after the payments", inv.Status, status)
		seen.Invoice = inv
		if err := s.driver.get(ctx, a.token, "/api/v1/billing/account", &seen.Account); err != nil {
			return err
		}
		left := [...]string{fenText(wanted[i].creditLeft), "0.00"}
		if c.topUp == 0 {
			left[0], left[1] = left[1], left[0]
		}
		s.checks.equal("what is left of credits", a.org.Name+" prepaid", seen.Account.PrepaidBalance, left[0])
		s.checks.equal("what is left of credits", a.org.Name+" promotional", seen.Account.PromotionalBalance, left[1])
		owed := "0.00"
		if status == "issued" {
			owed = fenText(wanted[i].total)
		}
		s.checks.equal("what is owed", a.org.Name, seen.Account.AmountOwed, owed)
		if err := s.writePDF(ctx, a, seen); err != nil {
			return err
		}
	}
	return s.explain(ctx)
}

// writePDF keeps the invoice that the org can download.
func (s *show) writePDF(ctx context.Context, a *actor, seen *OrgReport) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/billing/invoices/"+seen.Invoice.ID, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/pdf")
	status, pdf, err := s.driver.fetch(req, a.token)
	if err != nil {
		return fmt.Errorf("download an invoice: %w", err)
	}
	s.checks.equal("invoices as PDF", a.org.Name, fmt.Sprint(status, bytes.HasPrefix(pdf, []byte("%PDF-"))), "200 true")
	if err := os.MkdirAll(s.options.Documents, 0o755); err != nil {
		return fmt.Errorf("keep the invoices: %w", err)
	}
	seen.PDF = filepath.Join(s.options.Documents, seen.Invoice.InvoiceNo+".pdf")
	if err := os.WriteFile(seen.PDF, pdf, 0o644); err != nil {
		return fmt.Errorf("keep the invoices: %w", err)
	}
	return nil
}

// explain asks how a line of the first org's invoice comes about: what is included,
// or else its first.
func (s *show) explain(ctx context.Context) error {
	inv := s.report.Orgs[0].Invoice
	n := 1
	for i, l := range inv.Lines {
		if l.Kind == "included" {
			n = i + 1
			break
		}
	}
	var told struct{ Steps []string }
	err := s.driver.get(ctx, s.cast[0].token, fmt.Sprintf("/api/v1/billing/invoices/%s/lines/%d/explain", inv.ID, n), &told)
	s.report.Explained = told.Steps
	s.checks.equal("a line is explained", inv.InvoiceNo, strings.Contains(strings.Join(told.Steps, "\n"), inv.InvoiceNo), true)
	return err
}
