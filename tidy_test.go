// Package aione_test checks the rules of the house: what may import what, and
// what may not be written where. Each failure says why the rule is there.
package aione_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport lists, for each package, the packages of this module that it may
// import. Arrows point toward events; a package that is not listed is new and
// needs a place here first.
var mayImport = map[string][]string{
	"events":          {},
	"catalog":         {"events"},
	"keys":            {"events"},
	"ledger":          {"events", "catalog"},
	"billing":         {"events", "catalog", "ledger"},
	"documents":       {"events", "catalog", "ledger"},
	"webhooks":        {"events", "keys"},
	"migrations":      {},
	"analytics/idset": {},
	"analytics":       {"events", "ledger", "migrations", "analytics/idset"},
	"simulator":       {},
	"gateway":         {"events", "keys", "catalog"},
	"admission":       {"events", "keys", "ledger"},
	"httpapi":         {"events", "keys", "catalog", "ledger", "billing", "admission", "analytics", "gateway", "documents", "webhooks"},
	"npm":             {},
	"embedded":        {"npm"},
	"node":            {"admission", "embedded", "events", "keys", "catalog", "ledger", "billing", "analytics", "gateway", "httpapi", "simulator", "documents", "webhooks"},
	"demo":            {"events", "keys", "catalog", "billing", "node"},
	"bench":           {"embedded", "events", "keys", "catalog", "ledger", "billing", "admission", "analytics", "gateway", "httpapi", "simulator", "node"},
	"crashtest":       {},
	"sdktest":         {},
	"process":         {"embedded"},
	"cmd/ingest":      {"node", "process"},
	"cmd/api":         {"node", "process"},
	"cmd/invoicer":    {"node", "process"},
	"cmd/aione":       {"embedded", "events", "keys", "catalog", "ledger", "billing", "admission", "analytics", "documents", "webhooks", "node", "process", "demo", "bench"},
	".":               {},
}

// mayNotReach lists packages from outside that a package of ours may not import.
var mayNotReach = map[string]struct {
	imports []string
	why     string
}{
	"ledger":    {[]string{"net", "os", "database/sql", "github.com/nats-io", "github.com/ClickHouse"}, "the ledger is pure, so that it can be proven"},
	"documents": {[]string{"net/http", "os", "database/sql", "github.com/nats-io", "github.com/ClickHouse"}, "documents are rendered from what is given, nothing else"},
	"catalog":   {[]string{"net", "os", "github.com/nats-io", "github.com/ClickHouse"}, "the catalog does no I/O"},
	"analytics": {[]string{"github.com/nats-io"}, "analytics reads the log through package events"},
	"gateway":   {[]string{"github.com/ClickHouse", "github.com/nats-io"}, "a chat request must not depend on ClickHouse"},
	"billing":   {[]string{"github.com/ClickHouse", "github.com/nats-io"}, "billing writes through the event log and reads through interfaces"},
	"webhooks":  {[]string{"github.com/ClickHouse", "github.com/nats-io"}, "what customers are told follows from the event log alone"},
}

type sourceFile struct {
	path, pkg string
	test      bool
	text      string
	syntax    *ast.File
}

func sources(t *testing.T) ([]sourceFile, *token.FileSet) {
	t.Helper()
	fset := token.NewFileSet()
	var files []sourceFile
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" || path == "bin" || path == "data") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, sourceFile{path: path, pkg: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go"), text: string(text), syntax: syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, fset
}

func imports(f sourceFile) []string {
	var out []string
	for _, i := range f.syntax.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out = append(out, path)
		}
	}
	return out
}

func TestImportDirections(t *testing.T) {
	files, _ := sources(t)
	for _, f := range files {
		allowed, known := mayImport[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no place in the layout yet; add it to mayImport and docs/design.md", f.path, f.pkg)
			continue
		}
		if f.test {
			continue // tests may use what they need to have real parts
		}
		for _, path := range imports(f) {
			if ours, ok := strings.CutPrefix(path, "aione/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: %s may import %v only, so that the way of the data has one direction", f.path, ours, f.pkg, allowed)
			}
			ban := mayNotReach[f.pkg]
			for _, b := range ban.imports {
				if path == b || strings.HasPrefix(path, b+"/") {
					t.Errorf("%s imports %s: %s", f.path, path, ban.why)
				}
			}
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	files, _ := sources(t)
	comments, packages := map[string][]string{}, map[string]bool{}
	for _, f := range files {
		if f.test && f.pkg != "." {
			continue
		}
		packages[f.pkg] = true
		if f.syntax.Doc != nil && !strings.HasPrefix(f.syntax.Doc.Text(), "go:build") {
			comments[f.pkg] = append(comments[f.pkg], f.path)
		}
	}
	for pkg := range packages {
		if len(comments[pkg]) != 1 {
			t.Errorf("package %s has %d package comments (%v): there is one place that says what it holds", pkg, len(comments[pkg]), comments[pkg])
		}
	}
}

// moneyPackages never touch a binary fraction.
var moneyPackages = []string{"events", "ledger", "catalog", "billing", "admission", "documents"}

// mayUseFloats are the files there that do: where amounts are rounded, and where
// a page is measured in millimetres.
var mayUseFloats = regexp.MustCompile(`^(ledger/amount|documents/pdf\w*)\.go$`)

var bannedNearMoney = regexp.MustCompile(`\b(float32|float64|NewFromFloat\w*|InexactFloat64|ParseFloat)\b|\.(Div|DivRound|StringFixed|RoundBank|RoundCash)\(`)

func TestNoFloatsNearMoney(t *testing.T) {
	files, _ := sources(t)
	for _, f := range files {
		if f.test || !slices.Contains(moneyPackages, f.pkg) {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			code, _, _ := strings.Cut(line, "//")
			if m := bannedNearMoney.FindString(code); m != "" && !mayUseFloats.MatchString(f.path) {
				t.Errorf("%s:%d uses %s: money is exact decimals, divided nowhere and rounded in one place (ledger/amount.go)", f.path, i+1, m)
			}
		}
	}
}

// clockPackages may read the machine's clock: they are wiring, or measure real
// durations. Everything else is told the time.
var clockPackages = []string{"node", "embedded", "gateway", "demo", "bench", "crashtest", "cmd/aione", "cmd/api", "cmd/ingest", "cmd/invoicer"}

func TestClocksAreInjected(t *testing.T) {
	files, fset := sources(t)
	for _, f := range files {
		if f.test || slices.Contains(clockPackages, f.pkg) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Since" || s.Sel.Name == "Until") {
				if f.pkg == "httpapi" && s.Sel.Name == "Since" {
					return true // how long a request took, for /metrics
				}
				t.Errorf("%s reads the clock with time.%s: %s is told the time, so that it can be replayed and tested", fset.Position(s.Pos()), s.Sel.Name, f.pkg)
			}
			return true
		})
	}
}

const (
	fileLinesMax     = 500
	functionLinesMax = 70
)

func TestFilesAndFunctionsStayReadable(t *testing.T) {
	files, fset := sources(t)
	for _, f := range files {
		if n := strings.Count(f.text, "\n"); n > fileLinesMax && !f.test {
			t.Errorf("%s has %d lines: past %d there is a simpler shape", f.path, n, fileLinesMax)
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > functionLinesMax {
				t.Errorf("%s: %s has %d lines: past %d it does more than one thing", f.path, fn.Name.Name, n, functionLinesMax)
			}
		}
	}
}

// No run skips a test, but a short one those that its package names in TestMain.
func TestNoTestIsSkipped(t *testing.T) {
	files, _ := sources(t)
	for _, f := range files {
		if f.test && f.path != "tidy_test.go" && regexp.MustCompile(`\b(t|b|tb)\.Skip|"test\.(skip|run)"`).MatchString(f.text) {
			t.Errorf("%s skips a test: green by skipping proves nothing", f.path)
		}
	}
	there, left := testsOf(files), 0
	for _, f := range files {
		for _, call := range regexp.MustCompile(`\.(?:TestMain\(m, |LeaveToFull\()([^)]*)\)`).FindAllStringSubmatch(f.text, -1) {
			for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(call[1], -1) {
				if left++; !there[f.pkg+"."+name[1]] {
					t.Errorf("%s leaves %s to a full run, and there is no such test", f.path, name[1])
				}
			}
		}
	}
	if left == 0 {
		t.Error("no test is left to a full run: this test looks in the wrong place")
	}
}

// testsOf is the names of all tests, as package.TestName.
func testsOf(files []sourceFile) map[string]bool {
	there := map[string]bool{}
	for _, f := range files {
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(f.text, -1) {
			there[f.pkg+"."+m[1]] = true
		}
	}
	return there
}

// TestCrashTableNamesItsTests reads docs/design.md: a crash that nothing tries is a
// claim.
func TestCrashTableNamesItsTests(t *testing.T) {
	files, _ := sources(t)
	there := testsOf(files)
	design, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(design), "| crash |")
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(table, "\n")
	if !ok || len(lines) < 3 {
		t.Fatal("docs/design.md has no table of crashes")
	}
	for _, line := range lines[2:] {
		named := regexp.MustCompile("`([a-z/]+\\.Test\\w+)`").FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("%.60s… names no test: which one would fail?", line)
		}
		for _, n := range named {
			if !there[n[1]] {
				t.Errorf("%.60s… names %s, and there is no such test", line, n[1])
			}
		}
	}
}

func TestMigrationsAreNamedInOrder(t *testing.T) {
	names, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("migrations: %v, %v", names, err)
	}
	for i, name := range names {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(filepath.Base(name), want) {
			t.Errorf("%s should begin with %s: they apply in the order of their names, without gaps", name, want)
		}
	}
}

// A lock file pins by integrity hash and names no place on the network.
func TestLockFilesNameNoHost(t *testing.T) {
	locks, err := filepath.Glob("*/*/package-lock.json")
	if err != nil || len(locks) == 0 {
		t.Fatalf("lock files: %v, %v", locks, err)
	}
	for _, path := range locks {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"resolved"`) || strings.Contains(string(text), "://") {
			t.Errorf("%s says where a package comes from: packages are named, and pinned by their hash", path)
		}
		if !strings.Contains(string(text), `"integrity"`) {
			t.Errorf("%s pins nothing by its hash", path)
		}
	}
}
