package httpapi

import (
	"net/http"
	"testing"
	"time"

	"aione/events"
)

// A line that a correction bills at another price is explained with that price.
func TestExplainedAtTheCorrectedPrice(t *testing.T) {
	p := newOffice(t)
	p.use("gpt-4o", time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC), events.Tokens{Output: 1_000_000})
	inv := p.closeMonth()
	var price priceResponse
	p.ok("POST", "/admin/v1/prices", `{"model":"gpt-4o","effective_from":"2027-01-01T00:00:00Z","currency":"CNY","input":"18","output":"60"}`, http.StatusCreated, &price)
	admin, why := "/admin/v1/invoices/"+inv.ID.String(), `"prices":[{"from":"gpt-4o@1","to":"`+price.Version+`"}],"reason":"the new list applies"`
	var dry reRateResponse
	p.ok("POST", admin+"/re-rate", `{`+why+`}`, http.StatusOK, &dry)
	var done correctResponse
	p.ok("POST", admin+"/correct", `{`+why+`,"agreed":"`+dry.Hash+`"}`, http.StatusCreated, &done)
	for id, want := range map[string]string{inv.ID.String(): "72", done.Invoice.ID.String(): "60"} {
		var e explanation
		p.get("/api/v1/billing/invoices/"+id+"/lines/1/explain", p.x.token).into(t, &e)
		if e.Price == nil || e.Price.Output != want || e.Price.Version != e.Line.PriceVersion {
			t.Errorf("it should be explained at %s: %+v", want, e)
		}
	}
}
