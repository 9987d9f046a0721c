// Package migrations holds the ClickHouse tables and puts them in place.
//
// Invariants: a file is one idempotent statement and is never edited once it has
// been released; files apply in the order of their names; a server too old for
// them is refused before anything is created. Tables are projections of the event
// log: a column that is 0 in earlier rows, or a projection inside the parts, may be
// added while they are written and read; any other change of shape is a new table
// that is rebuilt from the log, never a repair of rows.
//
// It never drops a table and never reads one but its own.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed *.sql
var files embed.FS

// MinVersion is the oldest ClickHouse that the tables have been proven on: they
// need projections that hold part offsets, which older servers do not have.
var MinVersion = Version{26, 7}

// ErrTooOld is returned when the server is older than MinVersion. Nothing has
// been created.
var ErrTooOld = errors.New("ClickHouse is too old")

// inBackground: a start does not wait until merges that are at work are done, as
// what a change does to the parts would.
var inBackground = clickhouse.Settings{"alter_sync": 0, "mutations_sync": 0}

// Version is a ClickHouse release.
type Version struct{ Major, Minor uint64 }

// String is "major.minor".
func (v Version) String() string {
	return strconv.FormatUint(v.Major, 10) + "." + strconv.FormatUint(v.Minor, 10)
}

func (v Version) before(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Apply creates the database that opt names, if it is missing, and the tables
// that are missing in it. Projections that parts from before lack are made in the
// background; until then answers come from rows, and are the same. It is idempotent,
// also when several processes call it at once. The error wraps ErrTooOld for a server
// older than MinVersion.
func Apply(ctx context.Context, opt *clickhouse.Options) error {
	return apply(ctx, opt, MinVersion)
}

func apply(ctx context.Context, opt *clickhouse.Options, need Version) error {
	database := opt.Auth.Database
	if database == "" {
		database = "default"
	}
	bootstrap := *opt
	bootstrap.Auth.Database = "default"
	conn, err := clickhouse.Open(&bootstrap)
	if err != nil {
		return fmt.Errorf("connect to ClickHouse: %w", err)
	}
	defer conn.Close()
	if err := checkVersion(ctx, conn, need); err != nil {
		return err
	}
	named := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"db": database}))
	current, err := isCurrent(named, conn)
	if err != nil {
		return fmt.Errorf("look at the tables of database %s: %w", database, err)
	}
	if !current {
		if err := conn.Exec(named, "CREATE DATABASE IF NOT EXISTS {db:Identifier}"); err != nil {
			return fmt.Errorf("create database %s: %w", database, err)
		}
	}
	target, err := clickhouse.Open(opt)
	if err != nil {
		return fmt.Errorf("connect to ClickHouse database %s: %w", database, err)
	}
	defer target.Close()
	background := clickhouse.Context(ctx, clickhouse.WithSettings(inBackground))
	if !current {
		if err := run(background, target); err != nil {
			return fmt.Errorf("migrate database %s: %w", database, err)
		}
	}
	if err := materialize(background, target); err != nil {
		return fmt.Errorf("make the projections of database %s: %w", database, err)
	}
	return nil
}

// isCurrent says whether the table has the projections that the last file leaves, and
// no other: each file changes them, and a statement does all it says or nothing. It
// spares most starts 80 ms of statements that do nothing.
func isCurrent(ctx context.Context, conn driver.Conn) (bool, error) {
	var have []string
	err := conn.QueryRow(ctx, `
SELECT arraySort(groupArray(name)) FROM system.projections
WHERE database = {db:String} AND table = 'usage_events'`).Scan(&have)
	return slices.Equal(have, slices.Sorted(maps.Keys(materializations))), err
}

// run applies every file. ctx has the settings inBackground.
func run(ctx context.Context, conn driver.Conn) error {
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	for _, name := range names {
		statement, err := files.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read migration %s: %w", name, err)
		}
		if err := conn.Exec(ctx, string(statement)); err != nil {
			return fmt.Errorf("apply migration %s: %w", name, err)
		}
	}
	return nil
}

// What a part has is in one row, or a merge between two looks would be taken for a
// projection that is missing.
const selectMissing = `
SELECT DISTINCT p.name
FROM system.projections AS p CROSS JOIN system.parts AS part
WHERE p.database = currentDatabase() AND p.table = 'usage_events'
    AND part.database = currentDatabase() AND part.table = 'usage_events' AND part.active AND part.rows > 0
    AND NOT has(part.projections, p.name)
    AND NOT arrayExists(c -> position(c, concat('MATERIALIZE PROJECTION ', p.name)) > 0,
        (SELECT groupArray(command) FROM system.mutations WHERE database = currentDatabase() AND table = 'usage_events' AND NOT is_done))
ORDER BY p.name`

// materialize has projections made for the parts that lack them, in the background:
// parts stay as they are until their successors are whole. What is being made is not
// asked for again. ctx has the settings inBackground.
func materialize(ctx context.Context, conn driver.Conn) error {
	found, err := conn.Query(ctx, selectMissing)
	if err != nil {
		return err
	}
	defer found.Close()
	var names []string
	for found.Next() {
		var name string
		if err := found.Scan(&name); err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := found.Err(); err != nil {
		return err
	}
	for _, name := range names {
		statement, ours := materializations[name]
		if !ours { // somebody else's, who may want it for new parts only
			continue
		}
		if err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// materializations are the statements that make each of our projections for the
// parts that lack it.
var materializations = map[string]string{
	"checkpoint":                      "ALTER TABLE usage_events MATERIALIZE PROJECTION checkpoint",
	"by_id":                           "ALTER TABLE usage_events MATERIALIZE PROJECTION by_id",
	"attempts_by_quarter_hour":        "ALTER TABLE usage_events MATERIALIZE PROJECTION attempts_by_quarter_hour",
	"attempt_latency_by_quarter_hour": "ALTER TABLE usage_events MATERIALIZE PROJECTION attempt_latency_by_quarter_hour",
	"attempt_ttft_by_quarter_hour":    "ALTER TABLE usage_events MATERIALIZE PROJECTION attempt_ttft_by_quarter_hour",
}

// checkVersion asks with the oldest words ClickHouse knows.
func checkVersion(ctx context.Context, conn driver.Conn, need Version) error {
	var text string
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&text); err != nil {
		return fmt.Errorf("ask ClickHouse for its version: %w", err)
	}
	have, err := parseVersion(text)
	if err != nil {
		return err
	}
	if have.before(need) {
		return fmt.Errorf("%w: the server is %s, the tables need %s or newer", ErrTooOld, text, need)
	}
	return nil
}

func parseVersion(text string) (Version, error) {
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 {
		return Version{}, fmt.Errorf("ClickHouse reports version %q", text)
	}
	major, err1 := strconv.ParseUint(parts[0], 10, 32)
	minor, err2 := strconv.ParseUint(parts[1], 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return Version{}, fmt.Errorf("ClickHouse reports version %q: %w", text, err)
	}
	return Version{major, minor}, nil
}
