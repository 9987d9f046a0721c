package httpapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"aione/analytics"
	"aione/embedded"
	"aione/keys"

	"github.com/google/uuid"
)

// TestRequestsOfOneOrg: an org that holds as many requests as it may is refused more,
// whatever they ask for; others are served, and the places come back.
func TestRequestsOfOneOrg(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) {
		c.Limits.RequestsPerOrg = 2
		c.Usage = brokenUsage{
			each:  func(func(analytics.UsageRow, uint64) error) error { return nil },
			watch: func(context.Context) error { entered <- struct{}{}; <-leave; return nil },
		}
	})
	x, y := r.tenant("acme", ""), r.tenant("rival", "")
	writes, othersWrites := r.token(x, keys.ScopeKeysWrite), r.token(y, keys.ScopeKeysWrite)
	done := make(chan answer)
	for range 2 {
		go func() { done <- r.get("/api/v1/obs/usage", x.token) }()
		<-entered
	}
	for _, path := range []string{keysPath, keysPath + "/" + uuid.NewString()} {
		if a := r.get(path, writes); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s, a third request of one org = %d %s", path, a.status, a.body)
		}
	}
	if a := r.get(keysPath, othersWrites); a.status != http.StatusOK {
		t.Errorf("another org's = %d %s", a.status, a.body)
	}
	if a := r.get("/metrics", ""); !strings.Contains(a.body, `aione_http_refused_total{of="requests"} 2`) {
		t.Error("the refusals are not counted")
	}
	close(leave)
	for range 2 {
		if a := <-done; a.status != http.StatusOK {
			t.Errorf("one of two = %d %s", a.status, a.body)
		}
	}
	if a := r.get(keysPath, writes); a.status != http.StatusOK {
		t.Errorf("afterwards = %d %s", a.status, a.body)
	}
}

// TestEventsOfOneOrg: events whose body does not come hold no more than the org's
// share, and those without a token nothing; others are taken in.
func TestEventsOfOneOrg(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) {
		c.Limits.EventsAtOnce, c.Limits.EventsWait = 4, 50*time.Millisecond // one of each org
	})
	x, y := r.tenant("acme", ""), r.tenant("rival", "")
	slow := func(token string) net.Conn {
		conn := must(net.Dial("tcp", strings.TrimPrefix(r.server.URL, "http://")))
		t.Cleanup(func() { conn.Close() })
		must(fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n[", token, eventBatchType))
		return conn
	}
	send := func(token string) answer {
		return r.do("POST", "/api/v1/events", token, "[]", "Content-Type", eventBatchType)
	}
	for range 8 {
		slow("tk-nex-nobody")
		slow(x.token) // without the scope
	}
	held := slow(x.ingest)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		a := send(x.ingest)
		if a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" {
			break
		}
		if a.status != http.StatusAccepted || time.Now().After(end) {
			t.Fatalf("a second of one org = %d %s", a.status, a.body)
		}
	}
	for range 3 {
		waiting := slow(x.ingest)
		if a := send(y.ingest); a.status != http.StatusAccepted {
			t.Errorf("another org's = %d %s", a.status, a.body)
		}
		waiting.Close()
	}
	// Who has sent all gives the place back, and so does who is gone.
	must(io.WriteString(held, strings.Repeat(" ", 98)+"]"))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if a := send(x.ingest); a.status == http.StatusAccepted {
			break
		} else if time.Now().After(end) {
			t.Fatalf("afterwards = %d %s", a.status, a.body)
		}
	}
}

// TestKeysPerOrg: the route says what to do at the bound, and the rest goes on.
func TestKeysPerOrg(t *testing.T) {
	r := newBoundedRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, keys.Bounds{KeysPerOrgMax: 3, TokensPerOrgMax: 3})
	x := r.tenant("acme", "") // has one key, and two tokens
	token := r.token(x, keys.ScopeKeysWrite)
	var made keyResponse
	for range 2 {
		a := r.send("POST", keysPath, token, `{"name":"more"}`)
		if a.status != http.StatusOK {
			t.Fatal(a.status, a.body)
		}
		a.into(t, &made)
	}
	if a := r.send("POST", keysPath, token, `{"name":"too many"}`); a.status != http.StatusConflict || !strings.Contains(a.body, "delete one") {
		t.Errorf("one too many = %d %s", a.status, a.body)
	}
	path := keysPath + "/" + made.ID.String()
	for _, c := range [][3]string{{"PUT", path, `{"name":"renamed"}`}, {"PUT", path + "/rotate", ""}, {"PUT", path + "/disable", ""}, {"PUT", path + "/enable", ""}} {
		if a := r.send(c[0], c[1], token, c[2]); a.status != http.StatusOK {
			t.Errorf("%s at the bound = %d %s", c[1], a.status, a.body)
		}
	}
	if a := r.send("DELETE", path, token, ""); a.status != http.StatusNoContent {
		t.Fatal(a.status, a.body)
	}
	if a := r.send("POST", keysPath, token, `{"name":"in its place"}`); a.status != http.StatusOK {
		t.Errorf("in the place of a deleted one = %d %s", a.status, a.body)
	}
}

// TestKeysInPages: without parameters the answer is as it was before there were any.
func TestKeysInPages(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x := r.tenant("acme", "")
	token := r.token(x, keys.ScopeKeysWrite)
	want := []uuid.UUID{x.key.ID}
	for i := range 104 {
		r.clock.set(testNow.Add(time.Duration(i/3) * time.Second)) // some of one age
		k, _, err := r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, Name: "paged", Actor: "test"})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, k.ID)
	}
	page := func(query string) (list keyListResponse, a answer) {
		t.Helper()
		if a = r.get(keysPath+query, token); a.status != http.StatusOK {
			t.Fatalf("%s = %d %s", query, a.status, a.body)
		}
		a.into(t, &list)
		if list.Total != len(want) || a.header.Get("X-Total-Count") != fmt.Sprint(len(want)) {
			t.Errorf("%s: total %d, header %v", query, list.Total, a.header)
		}
		return list, a
	}
	same := func(query string, items []keyResponse, want []uuid.UUID) {
		t.Helper()
		if len(items) != len(want) {
			t.Errorf("%s: %d items, want %d", query, len(items), len(want))
			return
		}
		for i := range items {
			if items[i].ID != want[i] || items[i].Key != nil {
				t.Errorf("%s: item %d is %v", query, i, items[i])
			}
		}
	}
	all, _ := page("")
	same("", all.Items, want[:100])
	for _, size := range []int{1, 7, 100} {
		var items []keyResponse
		for next := fmt.Sprintf("?page_size=%d", size); next != ""; {
			list, a := page(next)
			items = append(items, list.Items...)
			next = nextQuery(a.header.Get("Link"))
		}
		same(fmt.Sprintf("pages of %d", size), items, want)
	}
	if list, _ := page("?page=1000000&page_size=100"); len(list.Items) != 0 {
		t.Errorf("far past the end: %d", len(list.Items))
	}
	for query, typ := range map[string]string{"?page=0": "greater_than_equal", "?page_size=101": "less_than_equal", "?page_size=0": "greater_than_equal", "?page=x": "int_parsing"} {
		if a := r.get(keysPath+query, token); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, typ) {
			t.Errorf("%s = %d %s", query, a.status, a.body)
		}
	}
}

// nextQuery is the query of the next page, or "" at the last.
func nextQuery(link string) string {
	for part := range strings.SplitSeq(link, ", ") {
		if at, ok := strings.CutSuffix(part, `>; rel="next"`); ok {
			_, query, _ := strings.Cut(at, "?")
			return "?" + query
		}
	}
	return ""
}
