package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"

	"aione/analytics"
	"aione/events"
)

// platform is the services on one data directory.
type platform struct {
	t       testing.TB
	dir     string
	env     []string // of every command beside the engines
	natsURL string
	dsn     string
	engines *role
	api     *role
	roles   []*role
	url     string // of the API, the same over all restarts
}

// cleanEnv is the environment without settings of the platform, apart from where
// the ClickHouse library is.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		mine := strings.HasPrefix(name, "AIONE_") && name != "AIONE_CHDB_LIB" && name != "AIONE_CACHE_DIR"
		if !mine && name != "NATS_URL" && name != "CLICKHOUSE_DSN" {
			env = append(env, v)
		}
	}
	return env
}

// freePort is a port that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

const startWithin = 30 * time.Second

// newPlatform starts the engines.
func newPlatform(t testing.TB) *platform {
	t.Helper()
	p := &platform{t: t, dir: t.TempDir()}
	natsPort, clickhousePort := freePort(t), freePort(t)
	p.natsURL = fmt.Sprintf("nats://127.0.0.1:%d", natsPort)
	p.dsn = fmt.Sprintf("http://127.0.0.1:%d/aione", clickhousePort)
	p.env = append(cleanEnv(), "AIONE_DATA="+p.dir, "NATS_URL="+p.natsURL, "CLICKHOUSE_DSN="+p.dsn)
	t.Cleanup(func() { // after the roles have ended: the last cleanup that runs is the first registered
		if t.Failed() {
			for _, r := range p.roles {
				r.dump(t)
			}
		}
	})
	p.engines = p.add(&role{name: "aione", env: cleanEnv(),
		args: []string{"engines", "--data", p.dir, "--json", "--nats-port", strconv.Itoa(natsPort), "--clickhouse-port", strconv.Itoa(clickhousePort)},
		ready: func(e *process) error {
			if _, err := e.firstLine(startWithin); err != nil {
				return err
			}
			var at struct {
				NATS       string `json:"nats_url"`
				ClickHouse string `json:"clickhouse_dsn"`
				PID        int    `json:"pid"`
			}
			if err := json.NewDecoder(strings.NewReader(waitJSON(e))).Decode(&at); err != nil {
				return fmt.Errorf("aione engines --json: %w", err)
			}
			if at.NATS != p.natsURL || at.ClickHouse != p.dsn || at.PID != e.pid() {
				return fmt.Errorf("aione engines --json says %+v, want %s, %s and %d", at, p.natsURL, p.dsn, e.pid())
			}
			return nil
		}})
	if p.engines.process(startWithin) == nil {
		t.Fatal("the engines do not start")
	}
	return p
}

// waitJSON is the whole first object that a process prints.
func waitJSON(p *process) string {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && p.running(); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(p.stdout.String(), "\n}\n") {
			break
		}
	}
	return p.stdout.String()
}

// add runs a role until the end of the test.
func (p *platform) add(r *role) *role {
	p.roles = append(p.roles, r)
	r.run()
	p.t.Cleanup(func() { r.stop(p.t, syscall.SIGKILL, 20*time.Second) })
	return r
}

// service adds ingest or invoicer.
func (p *platform) service(name string, env ...string) *role {
	return p.add(&role{name: name, env: append(append([]string{}, p.env...), env...)})
}

// serve adds the API, on a port that stays its own.
func (p *platform) serve(env ...string) {
	p.t.Helper()
	port := freePort(p.t)
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	p.url = url
	p.api = p.add(&role{name: "api", env: append(append([]string{fmt.Sprintf("AIONE_HTTP=127.0.0.1:%d", port)}, p.env...), env...),
		ready: func(a *process) error {
			line, err := a.firstLine(startWithin)
			if err == nil && line != url {
				err = fmt.Errorf("api says it serves at %s, want %s", line, url)
			}
			return err
		}})
	if p.api.process(startWithin) == nil {
		p.t.Fatal("the API does not start")
	}
}

// command runs an aione command to its end.
type command struct {
	code           int
	stdout, stderr string
}

const commandWithin = 2 * time.Minute

// runAione runs the operator's command line.
func runAione(t testing.TB, env []string, args ...string) command {
	t.Helper()
	c, err := start("aione", env, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.signal(syscall.SIGKILL)
	code := c.wait(t, commandWithin)
	if bare := strings.ReplaceAll(c.stdout.String()+c.stderr.String(), "\r\n", "\n"); strings.Contains(bare, "\r") { // CSV ends lines with both
		t.Errorf("aione %s draws a progress bar where nobody watches", strings.Join(args, " "))
	}
	return command{code: code, stdout: c.stdout.String(), stderr: c.stderr.String()}
}

// goName is the name of a member that nobody named for JSON.
var goName = regexp.MustCompile(`(?m)^ *"[A-Z]\w*":`)

// aione runs a command that has to succeed, and decodes what it prints.
func (p *platform) aione(into any, args ...string) {
	p.t.Helper()
	c := runAione(p.t, p.env, append(args, "--json")...)
	if c.code != 0 {
		p.t.Fatalf("aione %s: exit %d\n%s%s", strings.Join(args, " "), c.code, c.stdout, c.stderr)
	}
	if name := goName.FindString(c.stdout); name != "" {
		p.t.Errorf("aione %s prints %s, which is no name of ours", strings.Join(args, " "), name)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(c.stdout), into); err != nil {
		p.t.Fatalf("aione %s printed %q: %v", strings.Join(args, " "), c.stdout, err)
	}
}

// tenant is an org with one team and its keys, made by the command line.
type tenant struct {
	name       string
	ID         string `json:"id"`
	chat       string
	management string
}

// tenant creates an org with keys.
func (p *platform) tenant(name string) tenant {
	p.t.Helper()
	out := tenant{name: name}
	var key struct {
		Key string `json:"key"`
	}
	p.aione(&out, "admin", "org", "create", name, "--reason", "crashtest")
	p.aione(nil, "admin", "team", "create", name, "team")
	p.aione(&key, "admin", "key", "create", name, "team", "chat")
	out.chat = key.Key
	p.aione(&key, "admin", "key", "create", name, "team", "reader", "--scopes", "ingest,usage:read,billing:read")
	out.management = key.Key
	return out
}

// installCatalog installs models and prices, twice: the second changes nothing.
func (p *platform) installCatalog() {
	p.t.Helper()
	var did struct {
		Installed int `json:"installed"`
	}
	p.aione(&did, "admin", "catalog", "install")
	if did.Installed == 0 {
		p.t.Fatal("no model was installed")
	}
	p.aione(&did, "admin", "catalog", "install")
	if did.Installed != 0 {
		p.t.Fatalf("a second install of the catalog installed %d models", did.Installed)
	}
}

// verify runs `aione verify`, which has to be content.
func (p *platform) verify() verification {
	p.t.Helper()
	var v verification
	c := runAione(p.t, p.env, "verify", "--json")
	if err := json.Unmarshal([]byte(c.stdout), &v); err != nil {
		p.t.Fatalf("aione verify: exit %d, printed %q: %s", c.code, c.stdout, c.stderr)
	}
	if c.code != 0 || !v.OK {
		p.t.Errorf("aione verify: exit %d, ok %v, problems:\n%s", c.code, v.OK, strings.Join(v.Problems, "\n"))
	}
	return v
}

type verification struct {
	OK     bool
	Shards []struct {
		Through, Events, Rows uint64
		Dispositions          map[string]uint64
	}
	Ledger   struct{ Orgs, Runs, Invoices int }
	Problems []string
}

// get asks the API and decodes the answer.
func (p *platform) get(token, path string, into any) http.Header {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	status, header, body, err := p.call(ctx, http.MethodGet, path, token, "", nil)
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("GET %s: status %d, %v: %s", path, status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		p.t.Fatalf("GET %s: %v: %s", path, err, body)
	}
	return header
}

func (p *platform) call(ctx context.Context, method, path, token, contentType string, body []byte) (int, http.Header, []byte, error) {
	return callAt(ctx, p.url, method, path, token, contentType, body)
}

func callAt(ctx context.Context, url, method, path, token, contentType string, body []byte) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, answer, err
}

// clickhouse opens a connection of the test's own.
func (p *platform) clickhouse() driver.Conn {
	p.t.Helper()
	options, err := clickhouse.ParseDSN(p.dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// log opens the event log, and its projection, beside the services.
func (p *platform) log() (*events.Log, analytics.Projection) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	nc, err := nats.Connect(p.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(nc.Close)
	log, err := events.Open(ctx, nc, events.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	store, err := analytics.Open(ctx, p.dsn, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		store.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := log.Close(ctx); err != nil {
			p.t.Logf("close the log: %v", err)
		}
	})
	return log, analytics.Projection{Store: store, Log: log}
}

// chdb is the pid of the ClickHouse child, 0 while there is none.
func (p *platform) chdb() int {
	e := p.engines.process(0)
	if e == nil {
		return 0
	}
	return childOf(e.pid(), "aione-clickhouse")
}
