package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aione/embedded"
	"aione/node"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }

// startEngines runs `aione engines` on a directory until the test ends.
func startEngines(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"engines", "--data", dir}, io.Discard, os.Stderr) }()
	t.Cleanup(func() { stop(); <-ended })
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, ok := node.RunningEndpoints(dir); ok {
			return dir
		}
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("aione engines: exit %d", code)
		default:
		}
		if time.Now().After(until) {
			t.Fatal("the engines do not start")
		}
	}
}

// Commands say what to do about what they refuse, and scripts can read what they
// print even where there is nothing.
func TestCommandsSayWhatToDo(t *testing.T) {
	dir := startEngines(t)
	for _, c := range []struct {
		args         string // by spaces
		code         int
		stdout, says string // all of it trimmed, unless it ends in …; part of standard error
	}{
		{"admin org list --json", 0, "[]", ""},
		{"quarantine list --json", 0, "[]", ""},
		{"quarantine replay --all", 0, "Nothing that cannot be read is in quarantine.", ""},
		{"quarantine replay --all --json", 0, "{}", ""},
		{"admin org create Acme", 0, "org …", ""},
		{"admin invoice list Acme --json", 0, "[]", ""},
		{"admin invoice list Nobody", 1, "", "`aione admin org list` shows all"},
		{"admin invoice show INV-1", 1, "", "invoice \"INV-1\": not found; `aione admin invoice list ORG` shows what there is"},
		{"explain 00000000-0000-0000-0000-000000000001 1", 1, "", "`aione admin invoice list ORG`"},
		{"admin plan assign Acme team", 1, "", "plan \"team\": not found; `aione admin plan list` shows what there is"},
		{"admin org profile Acme --tax VAT=6", 1, "", "say --set"},
		{"admin org profile Acme --terms-days 0", 1, "", "say --set"},
		{"admin org profile Acme --bill-to-address Street", 1, "", "say --set"},
		{"admin org profile Acme --low-balance 1", 1, "", "say --set"},
		{"admin org profile Acme", 0, "Profile of Acme…", ""},
		{"admin org profile Acme --set --tax VAT=6", 0, "Profile of Acme…", ""},
		{"admin webhook create Acme https://example.com/ --events invoice.issued,invoice.sent", 1, "", "--events: \"invoice.sent\" is none of "},
		{"admin webhook create Acme https://example.com/ --events invoice.sent", 1, "", "credit_note.issued"},
		{"verify --json", 0, "{\n  \"ok\": true,…", ""},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(strings.Fields(c.args), "--data", dir), &stdout, &stderr)
		printed, want := strings.TrimSpace(stdout.String()), c.stdout
		if start, ok := strings.CutSuffix(want, "…"); ok && strings.HasPrefix(printed, start) {
			want = printed
		}
		if code != c.code || printed != want || !strings.Contains(stderr.String(), c.says) || c.says == "" && stderr.String() != "" {
			t.Errorf("aione %s: exit %d, printed %q and said %q; want %d, %q and %q", c.args, code, printed, stderr.String(), c.code, c.stdout, c.says)
		}
		if strings.HasPrefix(c.args, "verify") && strings.Contains(printed, "null") {
			t.Errorf("verify prints what is null: %s", printed)
		}
	}
}

// Only what runs a platform begins one: a command in the wrong directory says so
// and leaves nothing there.
func TestCommandsBeginNoPlatform(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "typo")
	for _, command := range []string{"verify", "rebuild", "quarantine list", "admin org list", "admin org create Acme", "explain INV-1 1", "export focus Acme"} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(strings.Fields(command), "--data", dir), &stdout, &stderr)
		if said := stderr.String(); code != 1 || stdout.String() != "" || !strings.Contains(said, "no platform in "+dir) || !strings.Contains(said, "aione up") {
			t.Errorf("aione %s: exit %d, printed %q and said %q", command, code, stdout.String(), said)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory was made: %v", err)
	}
}

// What a key or a plan may use is kept by standard ids, whatever the models were
// called: the gateway compares with these.
func TestModelsByAlias(t *testing.T) {
	dir := startEngines(t)
	aione := func(args string) (stdout, stderr string, code int) {
		var out, err bytes.Buffer
		code = run(t.Context(), append(strings.Fields(args), "--data", dir), &out, &err)
		return out.String(), err.String(), code
	}
	for _, args := range []string{"admin catalog install", "admin org create Acme", "admin team create Acme Lab",
		"admin key create Acme Lab one --models haiku-4-5,gpt-4o,claude-haiku-4-5", "admin plan publish lab Lab --models haiku-4-5"} {
		if _, stderr, code := aione(args); code != 0 {
			t.Fatalf("aione %s: exit %d, %s", args, code, stderr)
		}
	}
	type models struct {
		ModelsAllowed []string `json:"models_allowed"`
	}
	for _, c := range []struct {
		list string
		want []string
	}{{"admin key list Acme --json", []string{"claude-haiku-4-5", "gpt-4o"}}, {"admin plan list --json", []string{"claude-haiku-4-5"}}} {
		stdout, stderr, code := aione(c.list)
		var shown []struct {
			models
			Plan models `json:"plan"`
		}
		err := json.Unmarshal([]byte(stdout), &shown)
		if err != nil || code != 0 || len(shown) != 1 || !slices.Equal(slices.Concat(shown[0].ModelsAllowed, shown[0].Plan.ModelsAllowed), c.want) {
			t.Errorf("aione %s: exit %d, %s%s, %v; want models %q", c.list, code, stdout, stderr, err, c.want)
		}
	}
	for _, args := range []string{"admin key create Acme Lab two --models gpt-4o,gpt-4oo", "admin plan publish lab Lab --models gpt-4oo"} {
		if _, stderr, code := aione(args); code != 1 || !strings.Contains(stderr, `"gpt-4oo"`) || !strings.Contains(stderr, "`aione admin catalog list`") {
			t.Errorf("aione %s: exit %d, %s", args, code, stderr)
		}
	}
}
