package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is a log that a test may read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// leaky is a provider that repeats what it was sent: key, prompt and all, in every
// kind of failure.
func leaky(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	told := fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body)
	quoted, _ := json.Marshal(told)
	switch r.PathValue("how") {
	case "refuse":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":{"message":%s,"code":%s}}`, quoted, quoted)
	case "fail":
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, told)
	case "redirect":
		w.Header().Set("Location", "http://127.0.0.1:1/"+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusFound)
	default:
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", told)
	}
}

// secretRig is a running node, everything that it logs, and everything that it
// answers.
type secretRig struct {
	t       *testing.T
	api     string
	answers bytes.Buffer
}

// send asks for something; what is answered is kept, unless it is to be secret.
func (s *secretRig) send(method, path, body string, secret bool, headers ...string) []byte {
	s.t.Helper()
	req, err := http.NewRequest(method, s.api+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !secret {
		fmt.Fprintf(&s.answers, "%s %s = %s %v\n%s\n", method, path[:min(len(path), 30)], res.Status, res.Header, answer)
	}
	return answer
}

// chats sends a key every way there is, to every model, plain and streaming.
func (s *secretRig) chats(key, prompt string) {
	s.t.Helper()
	for _, stream := range []string{"false", "true"} {
		for _, model := range []string{"gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "claude-haiku-4-5", key} {
			chat := `{"model":"` + model + `","max_tokens":9,"stream":` + stream + `,"messages":[{"role":"user","content":"` + prompt + `"}]}`
			s.send("POST", "/v1/chat/completions", chat, false, "Authorization", "Bearer "+key)
			s.send("POST", "/v1/messages", chat, false, "X-Api-Key", key)
			s.send("POST", "/v1/chat/completions", chat[:len(chat)-5], false, "Authorization", "bearer  "+key)
			s.send("POST", "/v1/chat/completions", chat, false, "Authorization", "Basic "+key)
		}
	}
	generate := `{"contents":[{"parts":[{"text":"` + prompt + `"}]}]}`
	s.send("POST", "/v1beta/models/gemini-2.5-flash:generateContent?key="+key, generate, false)
	s.send("POST", "/v1/models/"+key+":streamGenerateContent?alt=sse", generate, false, "X-Goog-Api-Key", key)
	s.send("GET", "/v1/models", "", false, "Authorization", "Bearer "+key)
	s.send("GET", "/v1/"+key, "", false, "Authorization", "Bearer "+key)
}

// TestNoSecretLeaks runs real traffic with every kind of secret, and looks for each
// in all that is logged, answered, and on disk: event log, rows and whatever else.
func TestNoSecretLeaks(t *testing.T) {
	providers := http.NewServeMux()
	providers.HandleFunc("/{how}/v1/{rest...}", leaky)
	bad := httptest.NewServer(providers)
	t.Cleanup(bad.Close)
	good, _, _ := provider(t, "provider-key-of-the-good-one-0123456789")
	secrets := map[string]string{
		"provider key in the environment": "provider-key-in-the-environment-0123456789",
		"provider key in a file":          "provider-key-in-a-file-0123456789",
		"provider key in clear":           "provider-key-in-clear-0123456789",
		"provider key of a good one":      "provider-key-of-the-good-one-0123456789",
		"pepper":                          base64.StdEncoding.EncodeToString([]byte("a pepper of more than 32 bytes, for this test")),
		"prompt":                          "a prompt that is nobody else's business",
	}
	dir := t.TempDir()
	t.Setenv("TEST_PROVIDER_KEY", secrets["provider key in the environment"])
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(secrets["provider key in a file"]), 0o600); err != nil {
		t.Fatal(err)
	}
	routes := fmt.Sprintf(`
upstreams:
  refuse: {url: "%[1]s/refuse/v1", key_env: TEST_PROVIDER_KEY, dialect: any}
  fail: {url: "%[1]s/fail/v1", key_file: key, dialect: any}
  redirect: {url: "%[1]s/redirect/v1", key_in_clear: %[2]s, dialect: any}
  garbage: {url: "%[1]s/garbage/v1", key_env: TEST_PROVIDER_KEY, dialect: any}
  gone: {url: "http://127.0.0.1:1/v1", key_file: key, dialect: any}
  good: {url: %[3]q, key_in_clear: %[4]s, dialect: any}
models:
  gpt-4o: [{upstream: refuse}]
  gpt-4o-mini: [{upstream: fail}, {upstream: gone}]
  gpt-4.1: [{upstream: redirect}]
  gpt-4.1-mini: [{upstream: garbage}]
default: [{upstream: good}]
`, bad.URL, secrets["provider key in clear"], good, secrets["provider key of a good one"])
	file := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
		t.Fatal(err)
	}
	data, logged := t.TempDir(), &lockedBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, err := Open(ctx, Config{Engines: EngineConfig{DataDir: data, Shards: 1, Replicas: 1}, Pepper: secrets["pepper"],
		Logger: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	first, err := n.Bootstrap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	secrets["first key"], secrets["management token"] = first.ChatKey, first.ManagementToken
	api, err := n.Listen(ServeConfig{Addr: "127.0.0.1:0", RoutesFile: file, SweepEvery: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- n.Run(ctx, api.Run, func(ctx context.Context) error {
			return n.Ingest(ctx, IngestConfig{BatchRows: 1000, BatchAge: 20 * time.Millisecond, LeaseTTL: 10 * time.Second})
		})
	}()
	s := &secretRig{t: t, api: api.URL}
	s.traffic(first, secrets)
	if err := n.Projection.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	if end, _, err := n.Log.UsageEnd(ctx, 0); err != nil || end == 0 {
		t.Fatalf("the usage log ends at %d (%v)", end, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	for name, secret := range secrets {
		for where, text := range map[string][]byte{"the log": logged.b.Bytes(), "an answer": s.answers.Bytes()} {
			if i := bytes.Index(text, []byte(secret)); i >= 0 {
				t.Errorf("the %s is in %s: %s", name, where, text[max(0, i-200):i+20])
			}
		}
	}
	if !bytes.Contains(logged.b.Bytes(), []byte("the upstream failed")) || s.answers.Len() < 10_000 {
		t.Error("there was no traffic to look at")
	}
	lookOnDisk(t, data, secrets)
}

// traffic uses every secret, rightly and wrongly.
func (s *secretRig) traffic(first Bootstrap, secrets map[string]string) {
	token := []string{"Authorization", "Bearer " + first.ManagementToken}
	mint := func(name string) (id string) {
		var k struct{ ID, Key string }
		if err := json.Unmarshal(s.send("POST", "/api/v1/gateway/keys", `{"name":"x"}`, true, token...), &k); err != nil || k.Key == "" {
			s.t.Fatalf("mint a key: %+v, %v", k, err)
		}
		secrets[name] = k.Key
		return k.ID
	}
	rotated, disabled, deleted := mint("rotated key"), mint("disabled key"), mint("deleted key")
	var again struct{ Key string }
	if err := json.Unmarshal(s.send("PUT", "/api/v1/gateway/keys/"+rotated+"/rotate", "", true, token...), &again); err != nil || again.Key == "" {
		s.t.Fatalf("rotate a key: %v", err)
	}
	secrets["new key"] = again.Key
	s.send("PUT", "/api/v1/gateway/keys/"+disabled+"/disable", "", false, token...)
	s.send("DELETE", "/api/v1/gateway/keys/"+deleted, "", false, token...)
	secrets["key that is wrong"] = first.ChatKey[:len(first.ChatKey)-1] + "."
	for _, name := range []string{"first key", "rotated key", "new key", "disabled key", "deleted key", "key that is wrong", "management token"} {
		s.chats(secrets[name], secrets["prompt"])
		for _, path := range []string{"/api/v1/gateway/keys", "/api/v1/gateway/keys/" + rotated, "/api/v1/obs/usage", "/api/v1/obs/dashboard", "/api/v1/billing/account",
			"/api/v1/gateway/keys/" + secrets[name], "/api/v1/obs/usage?key_id=" + secrets[name], "/admin/v1/orgs"} {
			s.send("GET", path, "", false, "Authorization", "Bearer "+secrets[name])
		}
	}
	for _, path := range []string{"/metrics", "/readyz", "/openapi.json", "/" + first.ChatKey} {
		s.send("GET", path, "", false)
	}
}

// lookOnDisk reads every file of the data directory but those that are there to
// keep a secret, which nobody else may read.
func lookOnDisk(t *testing.T, dir string, secrets map[string]string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if d.Name() == "bootstrap.json" {
			info, err := d.Info()
			if err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("%s is %s", path, info.Mode())
			}
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for name, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("the %s is in %s", name, path)
			}
		}
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("%d files were read, %v", files, err)
	}
}
