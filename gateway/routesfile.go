package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// routesFile is a Routing as operators write it, in YAML or JSON.
type routesFile struct {
	Upstreams map[string]fileUpstream `yaml:"upstreams"`
	Models    map[string][]fileShare  `yaml:"models"`
	Providers map[string][]fileShare  `yaml:"providers"`
	Default   []fileShare             `yaml:"default"`
}

type fileUpstream struct {
	URL      string  `yaml:"url"`
	Dialect  Dialect `yaml:"dialect"`
	Insecure bool    `yaml:"insecure"`
	// Where the API key is; at most one of them.
	KeyEnv     string `yaml:"key_env"`
	KeyFile    string `yaml:"key_file"`
	KeyInClear string `yaml:"key_in_clear"`
}

type fileShare struct {
	Upstream string `yaml:"upstream"`
	Weight   *int   `yaml:"weight"`
	Model    string `yaml:"model"`
}

const (
	routesBytesMax = 1 << 20
	keyBytesMax    = 8 << 10
	weightMax      = 1000
)

// ReadRouting reads a routes file. An API key is named by an environment variable,
// which getenv looks up, or by a file, whose path is relative to the routes file.
// An error names the line and the member of everything that is wrong, and quotes
// no value that could be a key.
func ReadRouting(path string, getenv func(string) string) (Routing, error) {
	text, err := readAtMost(path, routesBytesMax)
	if err != nil {
		return Routing{}, fmt.Errorf("read the routes: %w", err)
	}
	r := &routesReader{name: filepath.Base(path), dir: filepath.Dir(path), getenv: getenv, upstreams: map[string]Upstream{}}
	var f routesFile
	if r.tree, err = parser.ParseBytes(text, 0); err == nil {
		err = yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&f)
	}
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(r.tree.Docs) != 1:
		return Routing{}, fmt.Errorf("read the routes: %s must hold one document", r.name)
	case err != nil:
		return Routing{}, fmt.Errorf("read the routes: %s:%s", r.name, yaml.FormatError(err, false, false))
	}
	routing := r.routing(&f)
	if len(r.wrong) > 0 {
		return Routing{}, fmt.Errorf("read the routes: %s", strings.Join(r.wrong, "\n"))
	}
	return routing, nil
}

func readAtMost(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, err
}

// routesReader collects what is wrong with a file.
type routesReader struct {
	name, dir string
	getenv    func(string) string
	tree      *ast.File
	upstreams map[string]Upstream
	wrong     []string
}

// place is where something stands in the file: names and indices from the root.
type place []any

func (p place) at(more ...any) place { return append(slices.Clone(p), more...) }

func (p place) String() string {
	var b strings.Builder
	for _, step := range p {
		if i, ok := step.(int); ok {
			fmt.Fprintf(&b, "[%d]", i)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		fmt.Fprint(&b, step)
	}
	return b.String()
}

// refuse notes what is wrong at a place, with the line of it or of what should
// hold it.
func (r *routesReader) refuse(at place, format string, args ...any) {
	line := 1
	for from := at; len(from) > 0; from = from[:len(from)-1] {
		path := (&yaml.PathBuilder{}).Root()
		for _, step := range from {
			if i, ok := step.(int); ok {
				path = path.Index(uint(i))
			} else {
				path = path.Child(fmt.Sprint(step))
			}
		}
		if node, err := path.Build().FilterFile(r.tree); err == nil {
			line = node.GetToken().Position.Line
			break
		}
	}
	r.wrong = append(r.wrong, fmt.Sprintf("%s:%d: %s: %s", r.name, line, at, fmt.Sprintf(format, args...)))
}

func (r *routesReader) routing(f *routesFile) Routing {
	for _, name := range slices.Sorted(maps.Keys(f.Upstreams)) {
		r.upstreams[name] = r.upstream(name, f.Upstreams[name])
	}
	if len(f.Models)+len(f.Providers)+len(f.Default) == 0 {
		r.refuse(place{"default"}, "there is no route; name models, providers or a default")
	}
	table := func(of string, routes map[string][]fileShare) map[string]Route {
		m := map[string]Route{}
		for _, name := range slices.Sorted(maps.Keys(routes)) {
			m[name] = r.route(place{of, name}, routes[name])
		}
		return m
	}
	routing := Routing{Routes: table("models", f.Models), Providers: table("providers", f.Providers)}
	if f.Default != nil {
		routing.Default = r.route(place{"default"}, f.Default)
	}
	return routing
}

func (r *routesReader) upstream(name string, f fileUpstream) Upstream {
	at := place{"upstreams", name}
	u := Upstream{Name: name, BaseURL: f.URL, Dialect: f.Dialect, Insecure: f.Insecure, APIKey: r.key(at, f)}
	if u.Dialect == "" {
		u.Dialect = DialectOpenAI
	}
	if err := u.check(); err != nil {
		r.refuse(at, "%s", err)
	}
	return u
}

// key finds the API key of an upstream; empty if it has none, or is refused.
func (r *routesReader) key(at place, f fileUpstream) (key string) {
	var err error
	switch {
	case f.KeyEnv != "" && f.KeyFile != "" || f.KeyInClear != "" && f.KeyEnv+f.KeyFile != "":
		err = errors.New("name the key once: by key_env, key_file or key_in_clear")
	case f.KeyInClear != "":
		at, key = at.at("key_in_clear"), f.KeyInClear
	case f.KeyEnv != "":
		at, key = at.at("key_env"), r.getenv(f.KeyEnv)
		if key == "" {
			err = fmt.Errorf("the environment variable %s is not set, or empty", f.KeyEnv)
		}
	case f.KeyFile != "":
		at = at.at("key_file")
		path := f.KeyFile
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.dir, path)
		}
		var b []byte
		b, err = readAtMost(path, keyBytesMax)
		if key = strings.TrimSpace(string(b)); err == nil && key == "" {
			err = errors.New("the file is empty")
		}
	}
	if strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		err = errors.New("the key holds characters that no key has: is it the right place?")
	}
	if err != nil {
		r.refuse(at, "%s", err)
	}
	return key
}

func (r *routesReader) route(at place, shares []fileShare) (route Route) {
	if len(shares) == 0 {
		r.refuse(at, "the route has no upstream")
	}
	for i, share := range shares {
		at := at.at(i)
		u, known := r.upstreams[share.Upstream]
		switch {
		case share.Upstream == "":
			r.refuse(at, "an upstream is missing")
		case !known:
			r.refuse(at.at("upstream"), "there is no upstream %q above", share.Upstream)
		}
		if u.Model, u.Weight = share.Model, 1; share.Weight != nil {
			if u.Weight = *share.Weight; u.Weight < 1 || u.Weight > weightMax {
				r.refuse(at.at("weight"), "a weight is a whole number from 1 to %d; leave out what is to get nothing", weightMax)
			}
		}
		route.Upstreams = append(route.Upstreams, u)
	}
	return route
}
