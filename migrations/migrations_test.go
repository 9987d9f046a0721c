package migrations

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"aione/embedded"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }

// engine is a real ClickHouse, options for a database that is not there yet, and
// a connection to look around with.
func engine(t *testing.T) (context.Context, *clickhouse.Options, driver.Conn) {
	t.Helper()
	engines := embedded.OpenClickHouse(t)
	options, err := clickhouse.ParseDSN(engines.DSN)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	missing := *options
	missing.Auth.Database = engines.Database + "_new"
	t.Cleanup(func() {
		if err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+missing.Auth.Database+" SYNC"); err != nil {
			t.Error(err)
		}
		conn.Close()
		cancel()
	})
	return ctx, &missing, conn
}

func names(t *testing.T, ctx context.Context, conn driver.Conn, query string) []string {
	t.Helper()
	var out []string
	if err := conn.QueryRow(ctx, "SELECT groupArray(name) FROM ("+query+" ORDER BY name)").Scan(&out); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

func TestApplyIsIdempotentAndKeepsRows(t *testing.T) {
	ctx, options, conn := engine(t)
	for range 3 {
		if err := Apply(ctx, options); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(ctx, "INSERT INTO "+options.Auth.Database+".usage_events (stream_seq) VALUES (1)"); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, ctx, conn, "SELECT name FROM system.tables WHERE database = '"+options.Auth.Database+"'"); !slices.Equal(got, []string{"usage_events"}) {
		t.Fatalf("tables = %q", got)
	}
	var rows uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM "+options.Auth.Database+".usage_events").Scan(&rows); err != nil || rows != 3 {
		t.Fatalf("%d rows, %v; want those of all three rounds", rows, err)
	}
	var asked uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.mutations WHERE command LIKE '%MATERIALIZE%' AND database = '"+options.Auth.Database+"'").Scan(&asked); err != nil || asked != 0 {
		t.Fatalf("projections that are there were asked for %d times, %v", asked, err)
	}
	want := slices.Sorted(maps.Keys(materializations))
	if got := names(t, ctx, conn, "SELECT name FROM system.projections WHERE database = '"+options.Auth.Database+"'"); !slices.Equal(got, want) {
		t.Errorf("projections = %q, and there are statements to make %q", got, want)
	}
}

// A table that an earlier release left, or that has lost a projection, is not taken for
// one that has all.
func TestApplyMakesWhatIsMissing(t *testing.T) {
	ctx, options, conn := engine(t)
	database := options.Auth.Database
	table := database + ".usage_events"
	run := func(statement string) {
		t.Helper()
		if err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	applied := func(after string) {
		t.Helper()
		if err := Apply(ctx, options); err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		got := names(t, ctx, conn, "SELECT name FROM system.projections WHERE database = '"+database+"'")
		if want := slices.Sorted(maps.Keys(materializations)); !slices.Equal(got, want) {
			t.Errorf("after %s: projections = %q, want %q", after, got, want)
		}
	}
	entries, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for released := range entries {
		run("CREATE DATABASE " + database)
		for _, e := range entries[:released] {
			text, err := files.ReadFile(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			run(strings.Replace(string(text), "usage_events", table, 1))
		}
		applied(fmt.Sprintf("the first %d files", released))
		run("ALTER TABLE " + table + " DROP PROJECTION attempts_by_quarter_hour")
		applied("the loss of a projection")
		run("DROP DATABASE " + database + " SYNC")
	}
}

func TestApplyByManyAtOnce(t *testing.T) {
	ctx, options, conn := engine(t)
	var g errgroup.Group
	for range 8 {
		g.Go(func() error { return Apply(ctx, options) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, ctx, conn, "SELECT name FROM system.tables WHERE database = '"+options.Auth.Database+"'"); !slices.Equal(got, []string{"usage_events"}) {
		t.Fatalf("tables = %q", got)
	}
}

func TestApplyRefusesAServerThatIsTooOld(t *testing.T) {
	ctx, options, conn := engine(t)
	var have string
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&have); err != nil {
		t.Fatal(err)
	}
	err := apply(ctx, options, Version{99, 1})
	if !errors.Is(err, ErrTooOld) || !strings.Contains(err.Error(), have) || !strings.Contains(err.Error(), "99.1") {
		t.Fatalf("error %v, want ErrTooOld with %s and 99.1", err, have)
	}
	if got := names(t, ctx, conn, "SELECT name FROM system.databases WHERE name = '"+options.Auth.Database+"'"); len(got) > 0 {
		t.Fatalf("a server that was refused has database %q", got)
	}
	if err := apply(ctx, options, MinVersion); err != nil {
		t.Fatal(err)
	}
}

// A file that was released is one statement, which may run again and again.
func TestEveryMigrationIsOneIdempotentStatement(t *testing.T) {
	entries, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "-- ") || !strings.Contains(string(text), "IF NOT EXISTS") || strings.Contains(string(text), ";\n") {
			t.Errorf("%s: want a first comment that says why, IF NOT EXISTS and one statement", e.Name())
		}
	}
	if len(entries) == 0 {
		t.Fatal("there are no migrations")
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]Version{
		"26.7.2.1":               {26, 7},
		"26.7":                   {26, 7},
		"24.8.14.10459.altinity": {24, 8},
		"25.3.1-lts":             {25, 3},
		"18.16.1":                {18, 16},
		"1.1.54318":              {1, 1},
		"26":                     {},
		"":                       {},
		"v26.7.1":                {},
		"26.x":                   {},
		"-1.2":                   {},
		"99999999999.1":          {},
	} {
		got, err := parseVersion(text)
		if got != want || (err != nil) != (want == Version{}) {
			t.Errorf("parseVersion(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	ascending := []Version{{1, 1}, {18, 16}, {26, 0}, {26, 6}, {26, 7}, {26, 10}, {27, 0}, {100, 0}}
	for i, v := range ascending {
		for j, w := range ascending {
			if v.before(w) != (i < j) {
				t.Errorf("%s before %s is %t", v, w, v.before(w))
			}
		}
	}
}
