package sdktest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/keys"
	"aione/node"
	"aione/npm"
	"aione/simulator"
)

var (
	//go:embed npm/package.json
	manifest []byte
	//go:embed npm/package-lock.json
	lock []byte
)

const (
	installMax = 5 * time.Minute // the first run fetches 10 MB
	clientMax  = 2 * time.Minute
	countedMax = 20 * time.Second
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m, "TestOfficialSDKs")) }

// modules is the directory of the installed SDKs.
func modules(t *testing.T) string {
	t.Helper()
	install := npm.Install{
		What: "the official SDKs", Name: fmt.Sprintf("sdks-%x", sha256.Sum256(lock))[:20],
		Manifest: manifest, Lock: lock, Witness: "node_modules/openai/package.json",
	}
	ctx, cancel := context.WithTimeout(t.Context(), installMax)
	defer cancel()
	if err := install.Ensure(ctx, t.Output()); err != nil {
		t.Fatal(err)
	}
	dir, err := install.Dir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "node_modules")
}

// platform is everything that `aione up` runs, in this process.
type platform struct {
	url, token string
	operator   string // a token
	org        string
}

// routes sends some models to providers that speak but their own dialect, so that
// clients of others are translated; the built-in one would understand all as they
// are.
const routes = `
upstreams:
  simulated: {url: %[1]q, dialect: any}
  openai: {url: %[1]q}
  anthropic: {url: %[1]q, dialect: anthropic}
  google: {url: %[1]q, dialect: gemini}
models:
  claude-haiku-4-5: [{upstream: anthropic}]
  gemini-2.5-flash-image: [{upstream: google}]
  gemini-2.5-pro: [{upstream: google}]
  deepseek-chat: [{upstream: openai}]
default: [{upstream: simulated}]
`

// up starts the platform for one test.
func up(t *testing.T) platform {
	t.Helper()
	provider := httptest.NewServer(simulator.New(simulator.Config{}))
	t.Cleanup(provider.Close)
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, routes, provider.URL+"/v1"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n, err := node.Open(ctx, node.Config{Engines: node.EngineConfig{DataDir: t.TempDir(), Shards: 1, Replicas: 1}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	first, err := n.Bootstrap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	api, err := n.Listen(node.ServeConfig{Addr: "127.0.0.1:0", RoutesFile: file, SweepEvery: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	_, operator, err := n.Keys.Create(ctx, n.Log, keys.CreateInput{OrgID: first.OrgID, TeamID: first.TeamID, Name: "operator", Scopes: []keys.Scope{keys.ScopeAdmin}, Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ingest := func(ctx context.Context) error {
		return n.Ingest(ctx, node.IngestConfig{BatchRows: 1000, BatchAge: 50 * time.Millisecond, LeaseTTL: 10 * time.Second})
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, api.Run, ingest) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, n.Close()); err != nil {
			t.Error(err)
		}
	})
	return platform{url: api.URL, token: first.ManagementToken, operator: operator, org: first.OrgID.String()}
}

// do asks the platform with a token: the operator's for what is the operator's.
func (p platform) do(t *testing.T, method, path, body string, into any) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	token := p.token
	if strings.HasPrefix(path, "/admin/") {
		token = p.operator
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s, %v", method, path, resp.Status, answer, err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatalf("%s %s: %s: %v", method, path, answer, err)
	}
	return resp.Header
}

type apiKey struct{ ID, Key string }

func (p platform) mint(t *testing.T, more string) (k apiKey) {
	t.Helper()
	p.do(t, http.MethodPost, "/api/v1/gateway/keys", `{"name":"sdk"`+more+`}`, &k)
	return k
}

// told is what a client was told that it used.
type told struct {
	Requests   uint64 `json:"requests"`
	Prompt     uint64 `json:"prompt_tokens"`
	Completion uint64 `json:"completion_tokens"`
}

// drive runs one client to its end; each of its cases is a test.
func (p platform) drive(t *testing.T, script, modules string) (key apiKey, said told) {
	key = p.mint(t, "")
	disabled := p.mint(t, "")
	p.do(t, http.MethodPut, "/api/v1/gateway/keys/"+disabled.ID+"/disable", "", &struct{}{})
	broke := p.mint(t, "")
	p.do(t, http.MethodPut, "/admin/v1/orgs/"+p.org+"/keys/"+broke.ID+"/budget", `{"budget_limit":"0.000001"}`, &struct{}{})
	given, err := json.Marshal(map[string]string{
		"url": p.url, "key": key.Key, "disabled": disabled.Key, "broke": broke.Key, "limited": p.mint(t, `,"rpm_limit":1`).Key, "wrong": "sk-nex-" + strings.Repeat("x", 49),
	})
	if err != nil {
		t.Fatal(err)
	}
	// Modules are looked for beside a script and above: so both come together.
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("clients")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clientMax)
	defer cancel()
	node := exec.CommandContext(ctx, "node", filepath.Join(dir, script))
	var out, complaints bytes.Buffer
	node.Env = append(os.Environ(), "SDKTEST="+string(given))
	node.Stdout, node.Stderr = &out, &complaints
	if err := node.Run(); err != nil {
		t.Fatalf("node %s: %v\n%s%s", script, err, &out, &complaints)
	}
	ended := false
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var line struct {
			Case  string
			Error *string
			Told  *told
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("%s says %q", script, lines.Text())
			continue
		}
		if line.Told != nil {
			ended, said = true, *line.Told
			continue
		}
		t.Run(line.Case, func(t *testing.T) {
			if line.Error != nil {
				t.Error(*line.Error)
			}
		})
	}
	if !ended {
		t.Errorf("%s ended early: %s", script, &complaints)
	}
	return key, said
}

// counted waits until everything is counted, and returns what was billed to a key.
func (p platform) counted(t *testing.T, key string) (u told) {
	t.Helper()
	for end := time.Now().Add(countedMax); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var rows []told
		header := p.do(t, http.MethodGet, "/api/v1/obs/usage?key_id="+key, "", &rows)
		if header.Get("X-Metering-Behind") == "0" && len(rows) == 1 {
			return rows[0]
		}
	}
	t.Fatalf("the usage was not counted within %s", countedMax)
	return u
}

func TestOfficialSDKs(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatalf("the official SDKs need Node.js: %v", err)
	}
	modules := modules(t)
	p := up(t)
	for _, script := range []string{"openai.mjs", "anthropic.mjs", "genai.mjs"} {
		t.Run(strings.TrimSuffix(script, ".mjs"), func(t *testing.T) {
			key, said := p.drive(t, script, modules)
			billed := p.counted(t, key.ID)
			if billed.Prompt != said.Prompt || billed.Completion != said.Completion || billed.Requests < said.Requests || said.Requests == 0 {
				t.Errorf("the SDK was told of %+v, and %+v are billed", said, billed)
			}
		})
	}
}
