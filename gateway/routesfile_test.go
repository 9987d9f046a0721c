package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aione/gateway"
)

// secretKey must never be in an error.
const secretKey = "sk-provider-secret-000111222"

const routesText = `# who serves what
upstreams:
  openai:
    url: https://api.openai.com/v1
    key_env: OPENAI_API_KEY
  mirror:
    url: http://10.0.0.7:8000/v1
    insecure: true
    key_file: keys/mirror
  anthropic:
    url: https://api.anthropic.com/v1
    dialect: anthropic
    key_in_clear: ` + secretKey + `

models:
  gpt-4.1:
    - {upstream: openai, weight: 3}
    - {upstream: mirror, model: llama-3.3-70b}

providers:
  anthropic: [{upstream: anthropic}]

default:
  - upstream: openai
`

// readRoutes reads a file beside keys/mirror, with one environment variable set.
func readRoutes(t *testing.T, text string) (gateway.Routing, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"routes.yaml": text, "keys/mirror": "mirror-key\n", "keys/empty": "\n", "keys/two": "one\ntwo\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	getenv := func(name string) string {
		return map[string]string{"OPENAI_API_KEY": "openai-key"}[name]
	}
	return gateway.ReadRouting(filepath.Join(dir, "routes.yaml"), getenv)
}

func TestReadRouting(t *testing.T) {
	t.Parallel()
	openai := gateway.Upstream{Name: "openai", BaseURL: "https://api.openai.com/v1", Dialect: gateway.DialectOpenAI, APIKey: "openai-key", Weight: 1}
	mirror := gateway.Upstream{Name: "mirror", BaseURL: "http://10.0.0.7:8000/v1", Dialect: gateway.DialectOpenAI, APIKey: "mirror-key", Insecure: true, Weight: 1, Model: "llama-3.3-70b"}
	claude := gateway.Upstream{Name: "anthropic", BaseURL: "https://api.anthropic.com/v1", Dialect: gateway.DialectAnthropic, APIKey: secretKey, Weight: 1}
	most := openai
	most.Weight = 3
	want := map[string][]gateway.Upstream{"gpt-4.1": {most, mirror}, "anthropic": {claude}, "": {openai}}
	asJSON := `{"upstreams":{"openai":{"url":"https://api.openai.com/v1","key_env":"OPENAI_API_KEY"},
	 "mirror":{"url":"http://10.0.0.7:8000/v1","insecure":true,"key_file":"keys/mirror"},
	 "anthropic":{"url":"https://api.anthropic.com/v1","dialect":"anthropic","key_in_clear":"` + secretKey + `"}},
	 "models":{"gpt-4.1":[{"upstream":"openai","weight":3},{"upstream":"mirror","model":"llama-3.3-70b"}]},
	 "providers":{"anthropic":[{"upstream":"anthropic"}]},"default":[{"upstream":"openai"}]}`
	for _, text := range []string{routesText, asJSON} {
		r, err := readRoutes(t, text)
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]gateway.Route{"gpt-4.1": r.Routes["gpt-4.1"], "anthropic": r.Providers["anthropic"], "": r.Default} {
			if len(got.Upstreams) != len(want[name]) {
				t.Fatalf("%q: %v", name, got)
			}
			for i, u := range got.Upstreams {
				if u != want[name][i] {
					t.Errorf("%q[%d]: %v", name, i, u)
				}
			}
		}
		if len(r.Routes) != 1 || len(r.Providers) != 1 {
			t.Errorf("%d models, %d providers", len(r.Routes), len(r.Providers))
		}
		if printed := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(printed, secretKey) {
			t.Errorf("a routing prints a key: %s", printed)
		}
	}
}

// TestRoutesExample: what the documentation shows works.
func TestRoutesExample(t *testing.T) {
	t.Parallel()
	r, err := gateway.ReadRouting("../docs/routes.yaml", func(name string) string { return "key-in-" + name })
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Routes) == 0 || len(r.Providers) == 0 || r.Providers["anthropic"].Upstreams[0].APIKey != "key-in-ANTHROPIC_API_KEY" || len(r.Default.Upstreams) != 1 {
		t.Errorf("%v", r)
	}
}

// TestRoutesFileRefused: what is wrong is named with its line, and no key is shown.
func TestRoutesFileRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"key_in_clear", "key", `routes.yaml:[13:5] unknown field "key"`},
		{"key_in_clear: ", "key_env: X\n    key_in_clear: ", "routes.yaml:11: upstreams.anthropic: name the key once"},
		{"key_env: OPENAI_API_KEY", "key_env: NOT_SET", "routes.yaml:5: upstreams.openai.key_env: the environment variable NOT_SET is not set"},
		{"keys/mirror", "keys/none", "routes.yaml:9: upstreams.mirror.key_file: open "},
		{"keys/mirror", "keys/empty", "routes.yaml:9: upstreams.mirror.key_file: the file is empty"},
		{"keys/mirror", "keys/two", "routes.yaml:9: upstreams.mirror.key_file: the key holds characters"},
		{"insecure: true", "insecure: false", "upstreams.mirror: the base URL of upstream mirror is plain http"},
		{"insecure: true", "insecure: " + secretKey, "routes.yaml:[8:15] cannot unmarshal string"},
		{"https://api.openai.com/v1", "https://user:" + secretKey + "@api.openai.com/v1", "upstreams.openai: the base URL"},
		{"https://api.openai.com/v1", "https://169.254.169.254/v1", "upstreams.openai: the base URL"},
		{"dialect: anthropic", "dialect: cohere", `upstreams.anthropic: upstream anthropic: dialect "cohere"`},
		{"weight: 3", "weight: 0", "routes.yaml:17: models.gpt-4.1[0].weight: a weight is"},
		{"weight: 3", "weight: heavy", "routes.yaml:[17:34]"},
		{"upstream: mirror", "upstream: mirrror", `routes.yaml:18: models.gpt-4.1[1].upstream: there is no upstream "mirrror"`},
		{"[{upstream: anthropic}]", "[]", "routes.yaml:21: providers.anthropic: the route has no upstream"},
		{"[{upstream: anthropic}]", "[{}]", "routes.yaml:21: providers.anthropic[0]: an upstream is missing"},
		{"  gpt-4.1:", "  gpt-4.1: []\n  gpt-4.1:", `mapping key "gpt-4.1" already defined`},
		{"providers:", "vendors:", `unknown field "vendors"`},
		{"default:", "---\ndefault:", "must hold one document"},
		{routesText, "", "must hold one document"},
		{routesText, "upstreams: {}", "default: there is no route"},
		{routesText, strings.Repeat("#", 1<<20+1), "more than"},
	} {
		text := strings.Replace(routesText, c.old, c.new, 1)
		_, err := readRoutes(t, text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s → %.80s: %v, want %s", c.old, c.new, err, c.want)
		} else if strings.Contains(err.Error(), secretKey) {
			t.Errorf("%s → %.80s: the error shows a key: %v", c.old, c.new, err)
		}
	}
	if _, err := readRoutes(t, strings.NewReplacer("weight: 3", "weight: -1", "insecure: true", "insecure: false").Replace(routesText)); err == nil || strings.Count(err.Error(), "routes.yaml:") != 2 {
		t.Errorf("two faults: %v", err)
	}
}

// TestReroute: requests go where the routes say now; a refused change changes nothing.
func TestReroute(t *testing.T) {
	t.Parallel()
	one, two := newFlaky(t), newFlaky(t)
	b := newBench(t, func(c *gateway.Config) {
		c.Default, c.Retry.Attempts, c.Breaker.Failures = only(one.upstream("one", 1)), 1, 2
	})
	provider := func() string { return b.usage(speeches[0].ask(b, b.secret, ask{}).id).Provider }
	if p := provider(); p != "one" {
		t.Fatal(p)
	}
	if err := b.gateway.Reroute(gateway.Routing{Default: only(gateway.Upstream{Name: "bad", BaseURL: "ftp://x"})}); err == nil {
		t.Error("a bad route was taken")
	}
	if p := provider(); p != "one" {
		t.Error(p)
	}
	if err := b.gateway.Reroute(gateway.Routing{Routes: map[string]gateway.Route{"small": only(two.upstream("two", 1))}}); err != nil {
		t.Fatal(err)
	}
	if p := provider(); p != "two" {
		t.Error(p)
	}
	if a := speeches[0].ask(b, b.secret, ask{model: "renamed"}); a.status != 503 || a.code != "no_upstream" {
		t.Errorf("a model whose route is gone: %d %s", a.status, a.raw)
	}
	two.fails(500, -1)
	for range 2 {
		speeches[0].ask(b, b.secret, ask{})
	}
	if err := b.gateway.Reroute(gateway.Routing{Default: only(two.upstream("two", 5))}); err != nil {
		t.Fatal(err)
	}
	calls := two.calls.Load()
	if a := speeches[0].ask(b, b.secret, ask{}); a.status != 503 || two.calls.Load() != calls {
		t.Errorf("an open circuit was forgotten: %d", a.status)
	}
}
