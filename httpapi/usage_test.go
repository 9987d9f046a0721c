package httpapi

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

func date(t testing.TB, s string) ledger.Date {
	t.Helper()
	return ledger.DateOf(must(time.Parse(time.DateOnly, s)), time.UTC)
}

func TestUsageRowsAndPaging(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	at := testNow.Add(-time.Hour)
	retried := r.usageOf(x, "gpt-4o-mini", at, events.Tokens{})
	retried.Retried, retried.Outcome, retried.HTTPStatus = true, events.OutcomeUpstreamError, 500
	r.publish(
		r.usageOf(x, "gpt-4o", at, events.Tokens{Input: 1000, CacheRead: 200, CacheWrite5m: 30, CacheWrite1h: 4, Output: 500, Reasoning: 60}),
		r.usageOf(x, "gpt-4o-mini", at, events.Tokens{Input: 7}),
		r.usageOf(x, "gpt-4o", at.AddDate(0, 0, -1), events.Tokens{Output: 9}),
		r.usageOf(other, "gpt-4o", at, events.Tokens{Input: 1 << 30}),
		retried,
	)
	r.ingest()

	a := r.get("/api/v1/obs/usage?group_by=day,model&group_by=team", x.token)
	cost := "0.0605232"
	want := `[` +
		`{"date":"2026-11-14","model":"gpt-4o","team_id":"` + x.team.ID.String() + `","key_id":null,"requests":1,"prompt_tokens":0,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":9,"reasoning_tokens":0,"total_tokens":9,"images":0,"cost_rmb":"0.000648","error_count":0,"retries":0},` +
		`{"date":"2026-11-15","model":"gpt-4o","team_id":"` + x.team.ID.String() + `","key_id":null,"requests":1,"prompt_tokens":1234,"cached_tokens":200,"cache_write_tokens":34,"completion_tokens":560,"reasoning_tokens":60,"total_tokens":1794,"images":0,"cost_rmb":"` + cost + `","error_count":0,"retries":0},` +
		`{"date":"2026-11-15","model":"gpt-4o-mini","team_id":"` + x.team.ID.String() + `","key_id":null,"requests":1,"prompt_tokens":7,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":0,"reasoning_tokens":0,"total_tokens":7,"images":0,"cost_rmb":"0.00000756","error_count":0,"retries":1}]`
	// 1000×18 + 200×9 + 34×18 + 560×72, per million
	cost = must(ledger.Rate(must(r.catalog.PriceAt("gpt-4o", at)), events.Tokens{Input: 1034, CacheRead: 200, Output: 560}, 0)).String()
	want = strings.Replace(want, "0.0605232", cost, 1)
	if a.status != http.StatusOK || a.body != want {
		t.Fatalf("usage = %d\n%s\nwant\n%s", a.status, a.body, want)
	}
	if got := a.header.Get("X-Total-Count"); got != "3" {
		t.Errorf("X-Total-Count = %q", got)
	}

	var rows []usageRow
	a = r.get("/api/v1/obs/usage?group_by=day,model&page=2&page_size=2", x.token)
	a.into(t, &rows)
	if len(rows) != 1 || *rows[0].Model != "gpt-4o-mini" || a.header.Get("X-Total-Count") != "3" {
		t.Errorf("page 2 = %s of %s", a.body, a.header.Get("X-Total-Count"))
	}
	path := "</api/v1/obs/usage?group_by=day%2Cmodel&page=1&page_size=2>"
	if got, want := a.header.Get("Link"), path+`; rel="first", `+path+`; rel="prev", `+strings.Replace(path, "page=1", "page=2", 1)+`; rel="last"`; got != want {
		t.Errorf("Link = %s\nwant %s", got, want)
	}
	a = r.get("/api/v1/obs/usage?group_by=day,model&page=9&page_size=2", x.token)
	if a.body != "[]" || a.header.Get("X-Total-Count") != "3" {
		t.Errorf("past the end: %s of %s", a.body, a.header.Get("X-Total-Count"))
	}

	for query, requests := range map[string]uint64{
		"":                                 3, // the last seven days, in one row
		"?model=gpt-4o":                    2,
		"?team_id=" + x.team.ID.String():   3,
		"?key_id=" + x.key.ID.String():     3,
		"?start_date=2026-11-15":           2,
		"?end_date=2026-11-14":             1,
		"?model=a%5Cb'%22%25":              0, // a backslash, quotes: text, not syntax
		"?start_date=&end_date=&page&size": 3,
	} {
		a := r.get("/api/v1/obs/usage"+query, x.token)
		rows = nil
		a.into(t, &rows)
		var got uint64
		for _, row := range rows {
			got += row.Requests
			if row.Date != nil || row.Model != nil || row.TeamID != nil || row.KeyID != nil {
				t.Errorf("%s: a group that was not asked for: %s", query, a.body)
			}
		}
		if got != requests || len(rows) != min(int(requests), 1) {
			t.Errorf("%s: %s, want %d requests", query, a.body, requests)
		}
	}
}

func TestUsageDaysAreTheOrgs(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	at := time.Date(2026, 11, 14, 17, 40, 0, 0, time.UTC)
	for zone, want := range map[string][2]string{ // the day, and the hour it is asked for by
		"Asia/Shanghai":    {"2026-11-15", "2026-11-14T17:00:00Z"},
		"UTC":              {"2026-11-14", "2026-11-14T17:00:00Z"},
		"America/New_York": {"2026-11-14", "2026-11-14T17:00:00Z"},
		"Asia/Kathmandu":   {"2026-11-14", "2026-11-14T17:15:00Z"}, // UTC+5:45
		"Pacific/Auckland": {"2026-11-15", "2026-11-14T17:00:00Z"},
	} {
		x := r.tenant("org in "+zone, zone)
		r.publish(r.usageOf(x, "gpt-4o", at, events.Tokens{Input: 1}))
		r.ingest()
		for group, date := range map[string]string{"day": want[0], "hour": want[1]} {
			var rows []usageRow
			r.get("/api/v1/obs/usage?group_by="+group+"&start_date="+want[0]+"&end_date="+want[0], x.token).into(t, &rows)
			if len(rows) != 1 || *rows[0].Date != date {
				t.Errorf("%s by %s: %+v, want one row of %s", zone, group, rows, date)
			}
		}
		var d dashboardAnswer
		r.get("/api/v1/obs/dashboard?range_days=2", x.token).into(t, &d)
		if n := len(d.Tech.DailyTrend); n != 2 || d.Tech.TotalRequests != 1 {
			t.Errorf("%s: dashboard of two days has %d days and %d requests", zone, n, d.Tech.TotalRequests)
		}
	}
}

func TestStartOfDay(t *testing.T) {
	for _, c := range []struct{ zone, day, want string }{
		{"UTC", "2026-11-15", "2026-11-15T00:00:00Z"},
		{"Asia/Shanghai", "2026-11-15", "2026-11-14T16:00:00Z"},
		{"Asia/Kathmandu", "2026-11-15", "2026-11-14T18:15:00Z"},
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"}, // clocks skip from 00:00 to 01:00
		{"America/Havana", "2026-11-01", "2026-11-01T04:00:00Z"},    // 00:00 comes twice: the first
		{"Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"},      // a day that never was
		{"Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"},
		{"Pacific/Kiritimati", "2026-11-15", "2026-11-14T10:00:00Z"},
		{"Pacific/Pago_Pago", "2026-11-15", "2026-11-15T11:00:00Z"},
	} {
		if got := startOfDay(date(t, c.day), must(time.LoadLocation(c.zone))); got.UTC().Format(time.RFC3339) != c.want {
			t.Errorf("%s in %s starts at %s, want %s", c.day, c.zone, got.UTC().Format(time.RFC3339), c.want)
		}
	}
}

func TestUsageCSV(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x := r.tenant("acme", "")
	var us []events.Usage
	const hours = 24 * 20
	for i := range hours { // more rows than a page has
		u := r.usageOf(x, "gpt-4o", testNow.Add(-time.Duration(i+1)*time.Hour), events.Tokens{Input: uint64(i)})
		if i == 0 {
			u.Model = `=HYPERLINK("http://evil","x")` // what a row may hold if a catalog is careless
		}
		us = append(us, u)
	}
	r.publish(us...)
	r.ingest()
	query := "/api/v1/obs/usage?group_by=hour,model&start_date=2026-10-25&end_date=2026-11-15"
	a := r.get(query, x.token, "Accept", "text/csv")
	records, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil || a.status != http.StatusOK || a.header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Fatalf("%d %s: %v\n%.500s", a.status, a.header.Get("Content-Type"), err, a.body)
	}
	if len(records) != hours+1 || a.header.Get("X-Total-Count") != fmt.Sprint(hours) {
		t.Fatalf("%d records, total %s", len(records), a.header.Get("X-Total-Count"))
	}
	if strings.Join(records[0], " ") != strings.Join(usageColumns, " ") {
		t.Errorf("header = %v", records[0])
	}
	if last := records[hours]; last[1] != `'=HYPERLINK("http://evil","x")` {
		t.Errorf("a formula is still one: %v", last)
	}
	if a.header.Get("X-Metering-Behind") != "0" {
		t.Errorf("no watermark: %v", a.header)
	}
	a = r.get(query+"&page=2&page_size=3", x.token, "Accept", "text/csv")
	if n := strings.Count(a.body, "\r\n"); n != 4 {
		t.Errorf("a page of three has %d lines: %s", n, a.body)
	}
	a = r.get("/api/v1/obs/usage?model=none", x.token, "Accept", "application/xml, text/csv;q=0.9, */*")
	if a.body != strings.Join(usageColumns, ",")+"\r\n" {
		t.Errorf("nothing used = %q", a.body)
	}
}

func TestWatermark(t *testing.T) {
	engines := embedded.OpenPrivate(t)
	r := newRig(t, engines)
	x := r.tenant("acme", "")
	paths := []string{"/api/v1/obs/usage", "/api/v1/obs/dashboard", "/api/v1/billing/invoices", "/api/v1/billing/invoices/upcoming"}
	marks := func(want ...string) {
		t.Helper()
		for _, path := range paths {
			a := r.get(path, x.token)
			got := []string{a.header.Get("X-Metering-Counted-Seq"), a.header.Get("X-Metering-Behind")}
			if a.status != http.StatusOK || strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s = %d, counted and behind %v, want %v: %s", path, a.status, got, want, a.body)
			}
			through := a.header.Get("X-Metering-Counted-Through")
			if _, err := time.Parse(time.RFC3339, through); (want[0] == "0") != (through == "") || through != "" && err != nil {
				t.Errorf("%s: counted through %q", path, through)
			}
		}
	}
	marks("0", "0") // nothing used
	r.publish(r.usageOf(x, "gpt-4o", testNow, events.Tokens{Input: 1}))
	marks("0", "1") // nothing counted
	if a := r.get("/api/v1/obs/usage", x.token); a.body != "[]" {
		t.Errorf("usage that is not counted = %s", a.body)
	}
	r.ingest()
	marks("1", "0")
	r.publish(r.usageOf(x, "gpt-4o", testNow, events.Tokens{Input: 1}))
	r.publish(r.usageOf(x, "gpt-4o", testNow, events.Tokens{Input: 1}))
	marks("1", "2")
	if a := r.get("/readyz", ""); a.status != http.StatusOK {
		t.Errorf("readyz = %d %s", a.status, a.body)
	}
	if a := r.get("/metrics", ""); !strings.Contains(a.body, `aione_metering_behind_envelopes{shard="0"} 2`) {
		t.Errorf("metrics have no lag: %s", a.body)
	}

	engines.ClickHouse.Close() // and with it, all that is counted
	for _, path := range []string{"/api/v1/obs/usage", "/api/v1/obs/dashboard", "/api/v1/billing/invoices/upcoming"} {
		for _, accept := range []string{"application/json", "text/csv"} {
			a := r.get(path, x.token, "Accept", accept)
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.body != `{"detail":"usage data cannot be read now"}` {
				t.Errorf("%s without ClickHouse = %d, retry after %q: %s", path, a.status, a.header.Get("Retry-After"), a.body)
			}
		}
	}
	a := r.get("/api/v1/billing/invoices", x.token)
	if a.status != http.StatusOK || a.body != "[]" || a.header.Get("X-Metering-Behind") != "unknown" {
		t.Errorf("invoices without ClickHouse = %d, behind %q: %s", a.status, a.header.Get("X-Metering-Behind"), a.body)
	}
	a = r.get("/readyz", "")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"clickhouse":"it does not answer"`) || !strings.Contains(a.body, `"log":"ok"`) {
		t.Errorf("readyz without ClickHouse = %d %s", a.status, a.body)
	}
	a = r.get("/metrics", "")
	if !strings.Contains(a.body, `aione_metering_up{shard="0"} 0`) || strings.Contains(a.body, "aione_metering_behind_envelopes{") ||
		!strings.Contains(a.body, `aione_http_requests_total{method="GET",route="/api/v1/obs/usage",status="503"} 2`) {
		t.Errorf("metrics without ClickHouse: %s", a.body)
	}
	if !strings.Contains(r.logged.String(), "usage is unavailable") {
		t.Errorf("the cause is not in the log: %s", r.logged)
	}
	// what does not need rows goes on
	if a := r.do("POST", "/api/v1/events", x.ingest, benchBatch(3, "down"), "Content-Type", eventBatchType); a.status != http.StatusAccepted {
		t.Errorf("events without ClickHouse = %d %s", a.status, a.body)
	}
}
