package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/shopspring/decimal"

	"aione/events"
)

// TestHelp asks every command for its help.
func TestHelp(t *testing.T) {
	platformTest(t)
	for _, command := range []string{"", "up", "demo", "verify", "rebuild", "quarantine", "quarantine list", "quarantine replay",
		"admin", "admin org", "admin org create", "admin org list", "admin team", "admin team create", "admin team list",
		"admin key", "admin key create", "admin key list", "admin key disable", "admin key enable",
		"admin catalog", "admin catalog install", "admin catalog list", "admin catalog price", "admin invoice", "admin invoice run", "admin invoice list",
		"admin invoice show", "admin invoice pdf", "admin invoice void", "admin invoice credit-note", "admin invoice write-off", "admin invoice rerate",
		"admin plan publish", "admin plan assign", "admin plan list", "admin entity set", "admin entity list", "admin org profile", "admin org account", "admin org changes",
		"admin credit grant", "admin credit topup", "admin credit list", "admin credit expire", "admin payment add", "admin payment list", "admin refund",
		"admin webhook create", "admin webhook list", "admin webhook disable", "admin webhook enable", "admin webhook delete", "admin webhook rotate",
		"admin webhook test", "admin webhook deliveries", "admin webhook replay", "explain", "export", "export focus", "export journal", "export csv",
		"admin budget", "admin budget set", "admin budget list", "admin limits", "admin limits set", "admin credit-limit", "admin credit-limit set",
		"bench", "engines", "engine", "engine install", "engine path"} {
		c := runAione(t, cleanEnv(), append(strings.Fields(command), "--help")...)
		if want := strings.TrimSpace("Usage: aione " + command); c.code != 0 || !strings.HasPrefix(c.stdout, want) || c.stderr != "" {
			t.Errorf("aione %s --help: exit %d, stderr %q, stdout %.100q, want %q", command, c.code, c.stderr, c.stdout, want)
		}
	}
	for _, service := range []string{"api", "ingest", "invoicer"} {
		p, err := start(service, cleanEnv(), "--help")
		if err != nil {
			t.Fatal(err)
		}
		if code := p.wait(t, startWithin); code != 0 || !strings.HasPrefix(p.stdout.String(), "Usage: "+service) {
			t.Errorf("%s --help: exit %d, %.100q", service, code, p.stdout)
		}
	}
}

// oneSentence fails unless a command said what is wrong, and no more: no stack,
// no usage of forty lines, and its name before it.
func oneSentence(t testing.TB, what string, code int, stderr string, want ...string) {
	t.Helper()
	said := strings.TrimSpace(stderr)
	if code == 0 || code == 2 && strings.Contains(said, "goroutine ") || code < 0 {
		t.Errorf("%s: exit %d: %s", what, code, said)
	}
	if strings.Count(said, "\n") > 0 || !strings.Contains(said, ": ") {
		t.Errorf("%s says %q, want one line", what, said)
	}
	for _, part := range want {
		if !strings.Contains(said, part) {
			t.Errorf("%s says %q, want %q in it", what, said, part)
		}
	}
}

// TestBadCommandLines is about people's mistakes.
func TestBadCommandLines(t *testing.T) {
	platformTest(t)
	nowhere := append(cleanEnv(), "NATS_URL=nats://127.0.0.1:1", "CLICKHOUSE_DSN=http://127.0.0.1:1/aione", "AIONE_DATA="+t.TempDir())
	for _, c := range []struct {
		command string
		env     string
		want    string
	}{
		{"aione verify --nope", "", "unknown flag --nope"},
		{"aione nope", "", "unexpected argument nope"},
		{"aione", "", "expected one of"},
		{"aione admin org create", "", `expected "<name>"`},
		{"aione admin key disable acme not-a-uuid", "", "<key>"},
		{"aione verify --wait soon", "", "--wait"},
		{"aione admin credit grant x 1 --expires 2027-01-31", "", `"2027-01-31" is not an instant like`},
		{"aione quarantine replay", "", "name what to replay, or --all"},
		{"aione admin org list", "", "connect to NATS"},
		{"api --nope", "", "unknown flag --nope"},
		{"api", "", "connect to NATS"},
		{"api", "AIONE_PEPPER=%%%", "pepper 1 is not base64"},
		{"ingest", "AIONE_LEASE_TTL=abc", "AIONE_LEASE_TTL"},
		{"ingest", "", "connect to NATS"},
		{"ingest --batch-rows ten", "", "--batch-rows"},
		{"invoicer --invoice-grace 1", "", "--invoice-grace"},
		{"invoicer", "", "connect to NATS"},
	} {
		words := strings.Fields(c.command)
		env := nowhere
		if c.env != "" {
			env = append(append([]string{}, nowhere...), c.env)
		}
		p, err := start(words[0], env, words[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		code := p.wait(t, startWithin)
		oneSentence(t, strings.TrimSpace(c.env+" "+c.command), code, p.stderr.String(), words[0]+": ", c.want)
		if p.stdout.String() != "" {
			t.Errorf("%s prints to standard output, where scripts read: %.200q", c.command, p.stdout)
		}
	}
}

// TestBadSettings is about settings that only a running platform can refuse.
func TestBadSettings(t *testing.T) {
	platformTest(t)
	p := newPlatform(t)
	p.installCatalog()
	for _, c := range []struct{ command, env, want string }{
		{"invoicer", "AIONE_INVOICE_SCHEDULE=now and then", "invoice schedule"},
		{"ingest", "AIONE_SHARDS=3", "the number of shards is fixed"},
		{"api", "AIONE_HTTP=127.0.0.1:99999", "--http or AIONE_HTTP says where else"},
		{"api", "AIONE_REPLICAS=3", "replicas"},
	} {
		s, err := start(c.command, append(append([]string{}, p.env...), c.env))
		if err != nil {
			t.Fatal(err)
		}
		oneSentence(t, c.env+" "+c.command, s.wait(t, startWithin), s.stderr.String(), c.command+": ", c.want)
	}
	here := append(cleanEnv(), "AIONE_DATA="+p.dir)
	c := runAione(t, here, "up")
	oneSentence(t, "a second node on the same directory", c.code, c.stderr, "aione: ", "in use by another process")
	c = runAione(t, append(cleanEnv(), "AIONE_DATA="+t.TempDir(), "AIONE_CHDB_LIB=/nonexistent"), "up")
	oneSentence(t, "a node without the library", c.code, c.stderr, "aione: ", "not installed", "/nonexistent")
	for _, args := range [][]string{{"admin", "org", "create", ""}, {"admin", "org", "create", "x", "--timezone", "Mars/Olympus"},
		{"admin", "org", "create", "x", "--currency", "zzz"}, {"admin", "team", "create", "nobody", "x"},
		{"admin", "key", "list", "nobody"}, {"admin", "key", "create", "nobody", "x", "y"}, {"quarantine", "replay", "0/1/0"}} {
		c := runAione(t, p.env, args...)
		oneSentence(t, strings.Join(args, " "), c.code, c.stderr, "aione: ")
	}
	// Beside running engines, found by the data directory alone.
	if c = runAione(t, here, "admin", "org", "list", "--json"); c.code != 0 {
		t.Errorf("admin beside the engines: exit %d: %s", c.code, c.stderr)
	}
}

// TestTamperedRows edits rows behind the platform's back: verify names each kind of
// damage, and a rebuild mends it while ingest goes on.
func TestTamperedRows(t *testing.T) {
	platformTest(t)
	r := random(t)
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	p.serve()
	p.service("ingest", "AIONE_LEASE_TTL=2s")
	load := p.load(4, acme.chat, r)
	conn := p.clickhouse()
	kinds := []struct{ name, sql, want string }{
		{"rows deleted", "ALTER TABLE usage_events DELETE WHERE stream_seq = 3 SETTINGS mutations_sync = 2", "sequence 3"},
		{"rows made cheaper", "ALTER TABLE usage_events UPDATE cost = 0 WHERE stream_seq = 5 SETTINGS mutations_sync = 2", "sequence 5"},
		{"rows doubled", "INSERT INTO usage_events SELECT * FROM usage_events WHERE stream_seq = 7", "sequence 7"},
	}
	for _, k := range kinds {
		calm(t, load) // and so more envelopes than any that is tampered with
		ctx, cancel := context.WithTimeout(context.Background(), startWithin)
		err := projection.CaughtUp(ctx)
		if err == nil {
			err = conn.Exec(ctx, k.sql)
		}
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		c := runAione(t, p.env, "verify", "--json")
		if c.code != 1 || !strings.Contains(c.stdout, k.want) {
			t.Errorf("verify after %s: exit %d, want 1 and %q:\n%s%s", k.name, c.code, k.want, c.stdout, c.stderr)
		}
		var told struct{ Same, Exchanged bool }
		p.aione(&told, "rebuild", "--compare-only")
		if told.Same || told.Exchanged {
			t.Errorf("rebuild --compare-only after %s says %+v", k.name, told)
		}
		for range 3 { // an operator's rebuild may die as well
			c, err := start("aione", p.env, "rebuild")
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(between(r, 20*time.Millisecond, 500*time.Millisecond))
			c.signal(syscall.SIGKILL)
			<-c.exited
			if c.err == nil {
				break // it was faster, and has mended the rows
			}
		}
		p.aione(&told, "rebuild")
		if !told.Exchanged {
			t.Errorf("rebuild after %s says %+v", k.name, told)
		}
		calm(t, load)
		p.verify()
	}
	attempts := load.end()
	p.settle(log, projection)
	p.noDeaths()
	p.judgeAll(acme, attempts, readTruth(t, log), []uuid.UUID{})
}

// TestQuarantine puts into the log what nobody can read, and the same id twice
// with two bodies.
func TestQuarantine(t *testing.T) {
	platformTest(t)
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	p.service("ingest")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	nc, err := nats.Connect(p.natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "USAGE.0", []byte("these bytes are no envelope")); err != nil {
		t.Fatal(err)
	}
	u := events.Usage{ID: events.NewID(), OrgID: uuid.MustParse(acme.ID), Model: "gpt-4o", Provider: "p", PriceVersion: "gpt-4o@1", Currency: "CNY",
		OccurredAt: time.Now().UTC().Truncate(time.Millisecond), Tokens: events.Tokens{Input: 1}, Cost: decimal.New(18, -6),
		Outcome: events.OutcomeCompleted, Source: events.SourceReported, Producer: "crashtest"}
	for input := range uint64(2) { // the second is a conflict
		u.Tokens.Input = input + 1
		if err := log.Publish(ctx, []events.Usage{u}); err != nil {
			t.Fatal(err)
		}
	}
	if err := projection.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Seq  uint64
		Kind string
	}
	p.aione(&list, "quarantine", "list")
	if fmt.Sprint(list) != "[{1 undecodable} {3 conflict}]" {
		t.Fatalf("quarantine list says %v", list)
	}
	c := runAione(t, p.env, "quarantine", "replay", "0/1/0")
	oneSentence(t, "replay of what cannot be read", c.code, c.stderr, "aione: ", "cannot read it either")
	c = runAione(t, p.env, "quarantine", "replay", "--all")
	if c.code != 0 || !strings.Contains(c.stdout, "0/1/0 stays") {
		t.Errorf("replay --all: exit %d: %s%s", c.code, c.stdout, c.stderr)
	}
	var replayed map[string]int
	for range 2 { // twice is once
		p.aione(&replayed, "quarantine", "replay", "0/3/0")
		if replayed["0/3/0"] != 1 {
			t.Errorf("the replay says %v, want one event", replayed)
		}
	}
	if err := projection.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	p.serve()
	if got := p.apiTotals(acme.management); got.requests != 2 || got.prompt != 3 {
		t.Errorf("after the replay the API says %s, want 2 requests with 3 prompt tokens", got)
	}
	p.verify()
	for _, command := range []string{"verify", "rebuild"} { // for people, but not on a terminal
		if c := runAione(t, p.env, command); c.code != 0 || c.stdout == "" {
			t.Errorf("%s: exit %d: %s%s", command, c.code, c.stdout, c.stderr)
		}
	}
}

// TestUp runs everything in one process, kills that, and starts it again.
func TestUp(t *testing.T) {
	platformTest(t)
	dir := t.TempDir()
	env := append(cleanEnv(), "AIONE_DATA="+dir, "AIONE_HTTP=127.0.0.1:0", "AIONE_LEASE_TTL=1s")
	type bootstrap struct {
		API   string `json:"api"`
		Chat  string `json:"chat_key"`
		Token string `json:"management_token"`
	}
	up := func() (*process, bootstrap) {
		t.Helper()
		p, err := start("aione", env, "up", "--json")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.signal(syscall.SIGKILL); <-p.exited })
		if _, err := p.firstLine(startWithin); err != nil {
			t.Fatal(err)
		}
		var b bootstrap
		if err := json.Unmarshal([]byte(waitJSON(p)), &b); err != nil {
			t.Fatalf("aione up --json printed %q: %v", p.stdout, err)
		}
		return p, b
	}
	chat := func(b bootstrap) {
		t.Helper()
		body := []byte(`{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}`)
		req, err := http.NewRequest(http.MethodPost, b.API+"/v1/chat/completions", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+b.Chat)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("chat: %s", res.Status)
		}
	}
	first, keys := up()
	chat(keys)
	c := runAione(t, env, "verify", "--json")
	if c.code != 0 {
		t.Errorf("verify beside a running node: exit %d: %s%s", c.code, c.stdout, c.stderr)
	}
	first.signal(syscall.SIGKILL)
	<-first.exited
	// What the killed node has said of itself must not mislead a command.
	if c = runAione(t, env, "verify", "--json"); c.code != 1 && c.code != 0 {
		t.Errorf("verify after a kill: exit %d: %s%s", c.code, c.stdout, c.stderr)
	}
	second, again := up()
	if again.Chat != keys.Chat || again.Token != keys.Token {
		t.Error("the second start shows other keys")
	}
	chat(again)
	if c = runAione(t, env, "verify", "--json"); c.code != 0 || !strings.Contains(c.stdout, `"counted": 2`) {
		t.Errorf("verify after the second start: exit %d, want 2 counted rows: %s%s", c.code, c.stdout, c.stderr)
	}
	second.signal(syscall.SIGTERM)
	if code := second.wait(t, startWithin); code != 0 {
		t.Errorf("aione up ended with code %d after SIGTERM: %s", code, second.stderr)
	}
	if _, err := os.Stat(dir + "/endpoints.json"); err == nil {
		t.Error("a node that has stopped still says where it is")
	}
}
