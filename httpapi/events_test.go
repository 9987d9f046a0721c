package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// event is a CloudEvent with id and data; more replaces or adds attributes.
func event(id, data string, more ...string) string {
	attributes := []string{"specversion", `"1.0"`, "type", `"ai.usage"`, "source", `"//test"`, "id", `"` + id + `"`}
	for i := 0; i < len(more); i += 2 {
		replaced := false
		for j := 0; j < len(attributes); j += 2 {
			if attributes[j] == more[i] {
				attributes[j+1], replaced = more[i+1], true
			}
		}
		if !replaced {
			attributes = append(attributes, more[i], more[i+1])
		}
	}
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i < len(attributes); i += 2 {
		if attributes[i+1] != "" {
			fmt.Fprintf(&b, "%q:%s,", attributes[i], attributes[i+1])
		}
	}
	if data == "" {
		return strings.TrimSuffix(b.String(), ",") + "}"
	}
	return b.String() + `"data":` + data + "}"
}

func (r *rig) post(token, body string) answer {
	r.t.Helper()
	return r.do("POST", "/api/v1/events", token, body, "Content-Type", eventBatchType)
}

// inLog reads back the events of the log.
func (r *rig) inLog() []events.Usage {
	r.t.Helper()
	end, _, err := r.log.UsageEnd(r.ctx, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	var decoder events.Decoder
	var us []events.Usage
	for seq := uint64(1); seq <= end; seq++ {
		m := must(r.log.UsageAt(r.ctx, 0, seq))
		var bad []events.BadEvent
		us, bad, err = decoder.Envelope(m.Data, us)
		if err != nil || len(bad) > 0 {
			r.t.Fatalf("sequence %d: %v %v", seq, err, bad)
		}
	}
	return us
}

func TestEventsAreStampedAndDurable(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x := r.tenant("acme", "")
	team2 := must(r.commands.CreateTeam(r.ctx, teamOf(x, "second"), byTest(r)))
	body := "[" + strings.Join([]string{
		event("a", `{"model":"gpt-4o","input_tokens":1,"cache_read_tokens":2,"cache_write_5m_tokens":3,"cache_write_1h_tokens":4,"output_tokens":5,"reasoning_tokens":6,"images":7,"latency_ms":8,"outcome":"timeout","provider":"mine","team_id":"`+team2.ID.String()+`","key_id":"`+x.key.ID.String()+`"}`,
			"time", `"2026-11-14T12:00:00.1239+08:00"`, "datacontenttype", `"application/json"`, "subject", `{"any":["thing"]}`, "traceparent", `"x"`),
		event(`\u0062\"`, `{"m\u006fdel":"haiku-4-5","output_tokens":1000000,"images":null,"outcome":null}`, "time", "null"),
	}, ",") + "]"
	a := r.post(x.ingest, body)
	if a.status != http.StatusAccepted || a.body != `{"accepted":2,"rejected":[]}` {
		t.Fatalf("events = %d %s", a.status, a.body)
	}
	us := r.inLog()
	tokens := events.Tokens{Input: 1, CacheRead: 2, CacheWrite5m: 3, CacheWrite1h: 4, Output: 5, Reasoning: 6}
	price := must(r.catalog.PriceAt("gpt-4o", testNow))
	want := events.Usage{
		ID: events.ProducerEventID(x.org.ID, "//test", "a"), OrgID: x.org.ID, TeamID: team2.ID, KeyID: x.key.ID,
		Model: "gpt-4o", Provider: "mine", PriceVersion: "gpt-4o@1", Currency: "CNY",
		OccurredAt: time.Date(2026, 11, 14, 4, 0, 0, 123e6, time.UTC), Tokens: tokens, Images: 7, Cost: must(ledger.Rate(price, tokens, 7)),
		Outcome: events.OutcomeTimeout, Source: events.SourceReported, LatencyMS: 8, Producer: "//test", ExternalID: "a",
	}
	want.OperationID = want.ID
	if len(us) != 2 || !us[0].Cost.Equal(want.Cost) || us[0].Cost.IsZero() {
		t.Fatalf("in the log: %+v", us)
	}
	us[0].Cost = want.Cost
	if us[0] != want {
		t.Errorf("in the log\n%+v, want\n%+v", us[0], want)
	}
	b := us[1]
	if b.ExternalID != `b"` || b.Model != "claude-haiku-4-5" || b.Provider != "anthropic" || !b.TimeAssigned || !b.OccurredAt.Equal(testNow) ||
		b.Cost.String() != "36" || b.TeamID != x.team.ID || b.KeyID != uuid.Nil || b.Outcome != events.OutcomeCompleted || b.Sandbox {
		t.Errorf("in the log: %+v", b)
	}

	one := r.do("POST", "/api/v1/events", x.ingest, event("c", `{"model":"gpt-4o","input_tokens":1}`), "Content-Type", oneEventType+"; charset=utf-8")
	if one.status != http.StatusAccepted || len(r.inLog()) != 3 {
		t.Errorf("one event = %d %s", one.status, one.body)
	}
	if a := r.post(x.ingest, " [ ] "); a.status != http.StatusAccepted || a.body != `{"accepted":0,"rejected":[]}` {
		t.Errorf("no events = %d %s", a.status, a.body)
	}
	// A sandbox is priced, to show that it could be, and costs nothing.
	_, sandbox, err := r.keys.Create(r.ctx, r.log, keys.CreateInput{OrgID: x.org.ID, Name: "sandbox", Scopes: []keys.Scope{keys.ScopeIngest}, Sandbox: true, Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.post(sandbox, "["+event("s", `{"model":"gpt-4o","input_tokens":1}`)+"]"); a.status != http.StatusAccepted {
		t.Fatal(a.body)
	}
	if us := r.inLog(); !us[3].Sandbox || !us[3].Cost.IsZero() || us[3].PriceVersion != "gpt-4o@1" {
		t.Errorf("sandbox usage = %+v", us[3])
	}
}

type rejectedEvent struct{ event, detail string }

// rejectedEvents are each wrong in one way; other is another org.
func rejectedEvents(other tenant) []rejectedEvent {
	const good = `{"model":"gpt-4o","input_tokens":1}`
	at := func(d time.Duration) string { return `"` + testNow.Add(d).Format(time.RFC3339Nano) + `"` }
	long := strings.Repeat("x", 513)
	return []rejectedEvent{
		{event("1", good, "specversion", `"0.3"`), "specversion"},
		{event("1", good, "specversion", ``), "required"},
		{event("1", good, "type", `"ai.other"`), "type"},
		{event("1", good, "type", `7`), "must be a string"},
		{event("1", good, "type", ``), "required"},
		{event("1", good, "source", `""`), "source"},
		{event("1", good, "source", `null`), "required"},
		{event("1", good, "source", `"`+long+`"`), "source"},
		{event("1", good, "id", ``), "required"},
		{event("1", good, "id", `"`+long+`"`), "id:"},
		{event("1", good, "id", `{"a":1}`), "must be a string"},
		{event("1", good, "time", `"yesterday"`), "time"},
		{event("1", good, "time", `"2026-02-30T00:00:00Z"`), "time"},
		{event("1", good, "time", `"2026-11-15T00:00:00"`), "time"},
		{event("1", good, "time", at(5*time.Minute+time.Second)), "future"},
		{event("1", good, "time", at(-401*24*time.Hour)), "oldest"},
		{event("1", good, "time", `"0001-01-01T00:00:00Z"`), "oldest"},
		{event("1", good, "datacontenttype", `"text/xml"`), "datacontenttype"},
		{event("1", good, "data_base64", `"e30="`), "data_base64"},
		{event("1", ``), "required"},
		{event("1", `null`), "must be a JSON object"},
		{event("1", `[1]`), "must be a JSON object"},
		{event("1", `{}`), "data.model"},
		{event("1", `{"input_tokens":1}`), "data.model"},
		{event("1", `{"model":null,"input_tokens":1}`), "data.model"},
		{event("1", `{"model":7,"input_tokens":1}`), "must be a string"},
		{event("1", `{"model":"gpt-4o"}`), "none of the token buckets"},
		{event("1", `{"model":"gpt-4o","input_tokens":null}`), "none of the token buckets"},
		{event("1", `{"model":"GPT-4o","input_tokens":1}`), "not a model"},
		{event("1", `{"model":"","input_tokens":1}`), "not a model"},
		{event("1", `{"model":"dollar-model","input_tokens":1}`), "priced in USD"},
		{event("1", `{"model":"new-model","input_tokens":1}`, "time", at(-48*time.Hour)), "no price at 2026-11-13T04:30:00.000Z"},
		{event("1", `{"model":"gpt-4o","input_token":1}`), `no member "input_token"`},
		{event("1", `{"model":"gpt-4o","prompt_tokens":1,"output_tokens":1}`), `no member "prompt_tokens"`},
		{event("1", `{"model":"gpt-4o","input_tokens":-1}`), "integers"},
		{event("1", `{"model":"gpt-4o","input_tokens":1.0}`), "integers"},
		{event("1", `{"model":"gpt-4o","input_tokens":1e3}`), "integers"},
		{event("1", `{"model":"gpt-4o","input_tokens":"1"}`), "integers"},
		{event("1", `{"model":"gpt-4o","input_tokens":true}`), "integers"},
		{event("1", `{"model":"gpt-4o","input_tokens":[1]}`), "integers"},
		{event("1", `{"model":"gpt-4o","input_tokens":1099511627777}`), "1099511627776"},
		{event("1", `{"model":"gpt-4o","input_tokens":18446744073709551617}`), "integers"},
		{event("1", `{"model":"gpt-4o","images":1048577}`), "1048576"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"latency_ms":4294967296}`), "4294967295"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"outcome":"failed"}`), "outcome"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"outcome":""}`), "outcome"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"provider":"`+long+`"}`), "provider"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"team_id":"`+other.team.ID.String()+`"}`), "not a team"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"team_id":"x"}`), "not a team"},
		{event("1", `{"model":"gpt-4o","input_tokens":1,"key_id":"`+other.key.ID.String()+`"}`), "not a key"},
		{event("1", `{"model":"gpt-4o","input_tokens":1099511627776,"output_tokens":1099511627776}`), "costs more"},
		{`7`, "JSON object"},
		{`null`, "JSON object"},
		{`[{"id":"1"}]`, "JSON object"},
	}
}

func TestEventsRejectedOneByOne(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	const good = `{"model":"gpt-4o","input_tokens":1}`
	cases := rejectedEvents(other)
	var batch, want []string
	for i, c := range cases {
		a := r.post(x.ingest, "["+c.event+"]")
		var got eventsAnswer
		a.into(t, &got)
		if a.status != http.StatusUnprocessableEntity || got.Accepted != 0 || len(got.Rejected) != 1 || !strings.Contains(got.Rejected[0].Detail, c.detail) {
			t.Errorf("%s = %d %s, want %q", c.event, a.status, a.body, c.detail)
		}
		if len(got.Detail) != 1 || fmt.Sprint(got.Detail[0].Loc) != "[body]" {
			t.Errorf("%s: not an HTTPValidationError: %s", c.event, a.body)
		}
		batch = append(batch, c.event, event(fmt.Sprint("good-", i), good))
		want = append(want, fmt.Sprint(2*i))
	}
	if n := len(r.inLog()); n != 0 {
		t.Fatalf("%d rejected events are in the log", n)
	}
	a := r.post(x.ingest, "["+strings.Join(batch, ",\n")+"]")
	var got eventsAnswer
	a.into(t, &got)
	var indexes []string
	for _, rejected := range got.Rejected {
		indexes = append(indexes, fmt.Sprint(rejected.Index))
	}
	if a.status != http.StatusAccepted || got.Accepted != len(cases) || strings.Join(indexes, " ") != strings.Join(want, " ") || got.Detail != nil {
		t.Errorf("mixed = %d %s", a.status, a.body)
	}
	for i, u := range r.inLog() {
		if u.ExternalID != fmt.Sprint("good-", i) || u.Tokens != (events.Tokens{Input: 1}) || u.Producer != "//test" || u.Images != 0 || u.KeyID != uuid.Nil {
			t.Errorf("an event took something from a rejected one: %+v", u)
		}
	}
}

func TestEventsRefusedWhole(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) {
		c.Limits.EventsBatch, c.Limits.EventBytes = 3, 4000
	})
	x := r.tenant("acme", "")
	good := event("1", `{"model":"gpt-4o","input_tokens":1}`)
	four := "[" + strings.Repeat(good+",", 3) + good + "]"
	for _, c := range []struct {
		name, body, contentType, encoding string
		status                            int
		want                              string
	}{
		{"empty", ``, eventBatchType, "", 422, `"json_invalid"`},
		{"cut", `[` + good, eventBatchType, "", 422, `"json_invalid"`},
		{"cut in an event", `[` + good[:50], eventBatchType, "", 422, `"json_invalid"`},
		{"trailing comma", `[` + good + `,]`, eventBatchType, "", 422, `"json_invalid"`},
		{"more", `[` + good + `] x`, eventBatchType, "", 422, `"json_invalid"`},
		{"two", good + good, oneEventType, "", 422, `"json_invalid"`},
		{"not an array", good, eventBatchType, "", 422, `"list_type"`},
		{"a name twice", `[` + good + `,` + event("1", `{"model":"gpt-4o","input_tokens":1,"input_tokens":2}`) + `]`, eventBatchType, "", 422, `duplicate`},
		{"a name twice, once escaped", `[` + event("1", `{"model":"gpt-4o","input_tokens":1,"input_token\u0073":2}`) + `]`, eventBatchType, "", 422, `duplicate`},
		{"not UTF-8", `[` + strings.Replace(good, "gpt", "\xff", 1) + `]`, eventBatchType, "", 422, `"json_invalid"`},
		{"half a surrogate", `[` + strings.Replace(good, "gpt", `\ud800`, 1) + `]`, eventBatchType, "", 422, `"json_invalid"`},
		{"too many", four, eventBatchType, "", 422, `"too_long"`},
		{"too large", strings.Repeat(" ", 4001), eventBatchType, "", 413, `4000 bytes`},
		{"JSON", `[` + good + `]`, "application/json", "", 415, ``},
		{"no type", `[` + good + `]`, "", "", 415, ``},
		{"other charset", `[` + good + `]`, eventBatchType + "; charset=latin1", "", 415, ``},
		{"compressed", `[` + good + `]`, eventBatchType, "gzip", 415, ``},
	} {
		a := r.do("POST", "/api/v1/events", x.ingest, c.body, "Content-Type", c.contentType, "Content-Encoding", c.encoding)
		if a.status != c.status || !strings.Contains(a.body, c.want) || !strings.HasPrefix(a.body, `{"detail":`) {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.status)
		}
	}
	// a body that does not say how large it is
	req := must(http.NewRequest("POST", r.server.URL+"/api/v1/events", endless{}))
	req.Header.Set("Authorization", "Bearer "+x.ingest)
	req.Header.Set("Content-Type", eventBatchType)
	if resp, err := r.server.Client().Do(req); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("an endless body = %v, %v", resp, err)
	}
	if n := len(r.inLog()); n != 0 {
		t.Errorf("%d events of refused requests are in the log", n)
	}
	if a := r.post(x.ingest, "["+good+","+good+","+good+"]"); a.status != http.StatusAccepted {
		t.Errorf("as many as may be = %d %s", a.status, a.body)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestEventsCountOnce(t *testing.T) {
	r := newRig(t, embedded.Open(t))
	x, other := r.tenant("acme", ""), r.tenant("rival", "")
	a, b := event("a", `{"model":"gpt-4o","input_tokens":1000000}`), event("b", `{"model":"gpt-4o","output_tokens":1}`)
	elsewhere := event("a", `{"model":"gpt-4o","input_tokens":1000000}`, "source", `"//other"`)
	for _, body := range []string{"[" + a + "," + b + "," + a + "]", "[" + a + "]", "[" + elsewhere + "]"} {
		if got := r.post(x.ingest, body); got.status != http.StatusAccepted {
			t.Fatal(got.body)
		}
		r.clock.set(r.clock.Now().Add(time.Hour)) // no time given: a later receipt is no other event
		r.ingest()
	}
	if got := r.post(other.ingest, "["+a+"]"); got.status != http.StatusAccepted {
		t.Fatal(got.body)
	}
	r.ingest()
	var rows []usageRow
	r.get("/api/v1/obs/usage", x.token).into(t, &rows)
	if len(rows) != 1 || rows[0].Requests != 3 || rows[0].CostRMB != "36.000072" {
		t.Errorf("counted %+v, want three events", rows)
	}
	rows = nil
	r.get("/api/v1/obs/usage", other.token).into(t, &rows)
	if len(rows) != 1 || rows[0].Requests != 1 {
		t.Errorf("another org's event of the same name: %+v", rows)
	}
}

// stubLog answers as a log in trouble does; a real one takes 30 s to say so.
type stubLog func(ctx context.Context, us []events.Usage) error

func (l stubLog) Publish(ctx context.Context, us []events.Usage) error { return l(ctx, us) }

func TestEventsInDoubt(t *testing.T) {
	var fail error
	entered, leave := make(chan struct{}), make(chan struct{})
	log := stubLog(func(ctx context.Context, us []events.Usage) error {
		if fail == nil {
			close(entered)
			<-leave
		}
		return fail
	})
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)}, func(c *Config) { c.Log, c.Limits.EventsAtOnce, c.Limits.EventsWait = log, 1, 20*time.Millisecond })
	x, y := r.tenant("acme", ""), r.tenant("rival", "")
	body := "[" + event("a", `{"model":"gpt-4o","input_tokens":1}`) + "]"
	for _, c := range []struct {
		err    error
		detail string
	}{
		{fmt.Errorf("publish: %w", events.ErrUnknown), "counted once"},
		{fmt.Errorf("publish: %w", context.DeadlineExceeded), "counted once"},
		{fmt.Errorf("publish: %w", events.ErrFull), "full"},
		{fmt.Errorf("publish: %w", events.ErrClosed), "counted once"},
	} {
		fail = c.err
		a := r.post(x.ingest, body)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, c.detail) {
			t.Errorf("%v = %d %s", c.err, a.status, a.body)
		}
	}
	fail = nil
	done := make(chan answer)
	go func() { done <- r.post(x.ingest, body) }()
	<-entered
	if a := r.post(x.ingest, body); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("one too many of an org = %d %s", a.status, a.body)
	}
	if a := r.post(y.ingest, body); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("one too many = %d %s", a.status, a.body)
	}
	close(leave)
	if a := <-done; a.status != http.StatusAccepted {
		t.Errorf("the one in work = %d %s", a.status, a.body)
	}
}

// FuzzEvents: whatever the bytes, decoding ends, agrees with encoding/json on
// what is JSON, and what it accepts the log takes.
func FuzzEvents(f *testing.F) {
	r := newRig(f, &embedded.Engines{NATS: embedded.OpenNATS(f)})
	x := r.tenant("acme", "")
	caller := must(r.keys.Verify(x.ingest, r.clock.Now()))
	s := must(New(r.config))
	f.Add([]byte("[" + event("a", `{"model":"gpt-4o","input_tokens":1}`) + "]"))
	f.Add([]byte("[" + event("a", `{"model":"gpt-4o","output_tokens":1,"latency_ms":9,"outcome":"timeout"}`, "time", `"2026-11-14T12:00:00+08:00"`) + ",7]"))
	f.Add([]byte(`[{"data":{"team_id":"x","key_id":null,"\u006dodel":"haiku-4-5"}},[],null]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := &intake{}
		in.body.Write(body)
		if err := in.decode(must(s.newTerms(caller)), true, 100); err != nil {
			if _, ok := err.(validationErrors); !ok {
				t.Fatalf("%v", err)
			}
			return
		}
		var all []json.RawMessage
		if err := json.Unmarshal(body, &all); err != nil || len(all) != len(in.usage)+len(in.rejected) {
			t.Fatalf("%d accepted and %d rejected of %d: %v", len(in.usage), len(in.rejected), len(all), err)
		}
		for i := range in.usage {
			if err := in.usage[i].Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
