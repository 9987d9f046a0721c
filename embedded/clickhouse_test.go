package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/embedded"
)

// open connects as the rest of the project does: clickhouse-go and a DSN.
func open(t *testing.T, dsn string) driver.Conn {
	t.Helper()
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func mustExec(t *testing.T, conn driver.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// number is the one UInt64 of a query.
func number(t *testing.T, conn driver.Conn, sql string, args ...any) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func wantCode(t *testing.T, err error, code int32) {
	t.Helper()
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) || exception.Code != code {
		t.Fatalf("got error %v, want code %d", err, code)
	}
}

// post speaks plain HTTP to the engine, for what clickhouse-go would not send.
func post(t *testing.T, dsn string, parameters url.Values, body io.Reader) (status int, header http.Header, answer string) {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	parameters.Set("database", strings.TrimPrefix(address.Path, "/"))
	address.Path, address.RawQuery = "/", parameters.Encode()
	response, err := http.Post(address.String(), "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

func TestStatements(t *testing.T) {
	t.Parallel()
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	ctx := t.Context()

	t.Run("Version", func(t *testing.T) {
		version, err := conn.ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		if got := version.Version.String(); !strings.HasPrefix(e.ClickHouse.Version(), got) || got == "0.0.0" {
			t.Errorf("clickhouse-go sees version %s, the engine is %s", got, e.ClickHouse.Version())
		}
		if err := conn.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("AtomicDatabaseAndExchange", func(t *testing.T) {
		other := e.Database + "_other"
		mustExec(t, conn,
			"CREATE DATABASE "+other,
			"CREATE TABLE "+other+".x (a UInt64) ENGINE = MergeTree ORDER BY a",
			"CREATE TABLE "+other+".y (a UInt64) ENGINE = MergeTree ORDER BY a",
			"INSERT INTO "+other+".x VALUES (1), (2)",
			"EXCHANGE TABLES "+other+".x AND "+other+".y")
		if n := number(t, conn, "SELECT count() FROM "+other+".y"); n != 2 {
			t.Errorf("y has %d rows after the exchange, want 2", n)
		}
		var kind string
		if err := conn.QueryRow(ctx, "SELECT engine FROM system.databases WHERE name = ?", other).Scan(&kind); err != nil || kind != "Atomic" {
			t.Errorf("database engine %q, %v", kind, err)
		}
		mustExec(t, conn, "DROP DATABASE "+other+" SYNC")
	})
	t.Run("Projection", func(t *testing.T) {
		mustExec(t, conn,
			`CREATE TABLE p (seq UInt64, org LowCardinality(String), v Decimal(38, 12),
				PROJECTION last (SELECT max(seq), count())) ENGINE = MergeTree ORDER BY (org, seq)`,
			"INSERT INTO p SELECT number, toString(number % 10), 1 FROM numbers(1000)")
		forced := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"force_optimize_projection": 1, "optimize_use_projections": 1}))
		var last, rows uint64
		if err := conn.QueryRow(forced, "SELECT max(seq), count() FROM p").Scan(&last, &rows); err != nil || last != 999 || rows != 1000 {
			t.Errorf("through the projection: max %d, count %d, %v", last, rows, err)
		}
		err := conn.QueryRow(forced, "SELECT sum(v) FROM p").Err()
		if err == nil {
			t.Error("force_optimize_projection did not reach the engine: a query without a projection ran")
		}
	})
}

func TestParametersAndSettings(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	ctx := t.Context()
	mustExec(t, conn, "CREATE TABLE p ENGINE = MergeTree ORDER BY seq AS SELECT number AS seq FROM numbers(1000)")
	t.Run("Parameters", func(t *testing.T) {
		id := uuid.New()
		hard := "tab\t quote' back\\slash\nnew \"x\" `y` {z:String} 中文"
		var gotID uuid.UUID
		var gotText string
		var rows uint64
		err := conn.QueryRow(ctx, "SELECT {id:UUID}, {text:String}, (SELECT count() FROM {table:Identifier})",
			clickhouse.Named("id", id.String()), clickhouse.Named("text", hard), clickhouse.Named("table", "p")).Scan(&gotID, &gotText, &rows)
		if err != nil || gotID != id || gotText != hard || rows != 1000 {
			t.Errorf("got %v %q %d, %v", gotID, gotText, rows, err)
		}
	})
	t.Run("EmptyAnswer", func(t *testing.T) {
		rows, err := conn.Query(ctx, "SELECT seq FROM p WHERE 0")
		if err != nil {
			t.Fatal(err)
		}
		if rows.Next() || rows.Err() != nil {
			t.Errorf("a row, or %v, from an empty answer", rows.Err())
		}
	})
	t.Run("SettingsReachTheEngine", func(t *testing.T) {
		for name, value := range map[string]any{
			"async_insert": 0, "max_insert_block_size": 4096, "min_insert_block_size_rows": 77,
			"min_insert_block_size_bytes": 78, "deduplicate_insert": "disable", "optimize_use_projections": 0,
			"max_execution_time": 9, "max_threads": 1, "max_memory_usage": 123456789,
		} {
			set := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{name: value}))
			var got string
			if err := conn.QueryRow(set, "SELECT value FROM system.settings WHERE name = ?", name).Scan(&got); err != nil || got != fmt.Sprint(value) {
				t.Errorf("%s = %q, want %v (%v)", name, got, value, err)
			}
		}
	})
}

// What clickhouse-go writes it must read back unchanged, sparse columns too.
func TestTypesRoundTrip(t *testing.T) {
	t.Parallel()
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, `CREATE TABLE types (
		n UInt64, id UUID, at DateTime64(3, 'UTC'), day Date, amount Decimal(38, 12), low LowCardinality(String),
		maybe Nullable(String), list Array(LowCardinality(String)), counts Map(LowCardinality(String), UInt64),
		kind Enum8('a' = 1, 'b' = 2), yes Bool, fixed FixedString(4), mostly UInt32
	) ENGINE = MergeTree ORDER BY n SETTINGS ratio_of_defaults_for_sparse_serialization = 0.5`)
	type row struct {
		N      uint64            `ch:"n"`
		ID     uuid.UUID         `ch:"id"`
		At     time.Time         `ch:"at"`
		Day    time.Time         `ch:"day"`
		Amount decimal.Decimal   `ch:"amount"`
		Low    string            `ch:"low"`
		Maybe  *string           `ch:"maybe"`
		List   []string          `ch:"list"`
		Counts map[string]uint64 `ch:"counts"`
		Kind   string            `ch:"kind"`
		Yes    bool              `ch:"yes"`
		Fixed  string            `ch:"fixed"`
		Mostly uint32            `ch:"mostly"`
	}
	text := "中文 \x00 text"
	day := time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)
	want := make([]row, 1000)
	for i := range want {
		want[i] = row{N: uint64(i), ID: uuid.New(), At: day.Add(time.Duration(i) * time.Millisecond), Day: day,
			Amount: decimal.New(int64(i)-500, -12), Low: fmt.Sprint("org", i%3), List: []string{"x", "y"}[:i%3%2+1],
			Counts: map[string]uint64{"in": uint64(i)}, Kind: "b", Yes: i%2 == 0, Fixed: "four"}
		if i%2 == 0 {
			want[i].Maybe = &text
		}
		if i == 7 {
			want[i].Mostly = 7
		}
	}
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO types")
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if err := batch.AppendStruct(&want[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "OPTIMIZE TABLE types FINAL")
	var got []row
	if err := conn.Select(t.Context(), &got, "SELECT * FROM types ORDER BY n"); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows", len(got))
	}
	for i := range want {
		if !got[i].Amount.Equal(want[i].Amount) {
			t.Fatalf("row %d: amount %v, want %v", i, got[i].Amount, want[i].Amount)
		}
		got[i].Amount, got[i].At, got[i].Day = want[i].Amount, got[i].At.UTC(), got[i].Day.UTC()
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("row %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func TestErrorsCarryTheirCode(t *testing.T) {
	t.Parallel()
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE t (a UInt64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a")
	for _, c := range []struct {
		sql      string
		settings clickhouse.Settings
		code     int32
	}{
		{sql: "SELEC 1", code: 62},
		{sql: "SELECT * FROM nowhere", code: 60},
		{sql: "SELECT nothing", code: 47},
		{sql: "DROP TABLE nowhere", code: 60},
		{sql: "SELECT 1; SELECT 2", code: 62},
		{sql: "DROP TABLE IF EXISTS x; DROP TABLE t", code: 62},
		{sql: "INSERT INTO t VALUES (11)", code: 469},
		{sql: "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1", settings: clickhouse.Settings{"max_execution_time": 1, "max_threads": 1}, code: 159},
		{sql: "SELECT 1", settings: clickhouse.Settings{"no_such_setting": 1}, code: 115},
		{sql: "KILL QUERY WHERE query_id IN ('a')", code: 48},
	} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(c.settings))
		t.Run(c.sql, func(t *testing.T) { wantCode(t, conn.Exec(ctx, c.sql), c.code) })
	}
	if n := number(t, conn, "SELECT count() FROM t"); n != 0 {
		t.Errorf("%d rows came through", n)
	}
	t.Run("WrongDatabase", func(t *testing.T) {
		err := open(t, e.ClickHouse.DSNFor("nowhere`; DROP DATABASE "+e.Database)).Ping(t.Context())
		if err == nil {
			t.Error("an unknown database was opened")
		}
		if n := number(t, conn, "SELECT count() FROM t"); n != 0 {
			t.Error("the table is gone")
		}
	})
	t.Run("MidStream", func(t *testing.T) {
		rows, err := conn.Query(t.Context(), "SELECT number, throwIf(number = 4000000) FROM numbers(5000000)")
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for rows.Next() {
			seen++
		}
		if rows.Err() == nil {
			t.Fatalf("%d rows and no error from a query that failed half-way", seen)
		}
		t.Log(seen, rows.Err())
	})
}

func TestInjection(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE victim (a UInt64) ENGINE = MergeTree ORDER BY a", "INSERT INTO victim VALUES (1)")
	evil := []string{
		"1; DROP TABLE victim", "1 --path=/tmp/elsewhere", "'; DROP TABLE victim; --", "1\x00--readonly=1",
		"`; DROP TABLE victim", "\\'; DROP TABLE victim --", "1\n2", "{a:UInt64}",
	}
	for _, value := range evil {
		for _, name := range []string{"max_threads", "log_comment", "default_format", "query_id", "client_protocol_version", "param_x"} {
			post(t, e.DSN, url.Values{"query": {"SELECT 1"}, name: {value}}, nil)
		}
		for _, name := range []string{value, "param_" + value, "param_x" + value, "max_threads=1 --" + value, "path", "logger.level", "session_id"} {
			status, _, answer := post(t, e.DSN, url.Values{"query": {"SELECT 1"}, name: {"1"}}, nil)
			if status == http.StatusOK {
				t.Errorf("the name %q was taken: %s", name, answer)
			}
		}
	}
	status, _, answer := post(t, e.DSN, url.Values{"query": {"SELECT {x:String}"}, "param_x": {"'; DROP TABLE victim; --"}}, nil)
	if status != http.StatusOK || answer != `\'; DROP TABLE victim; --`+"\n" {
		t.Errorf("%d %q", status, answer)
	}
	status, header, _ := post(t, e.DSN, url.Values{"query": {"SELECT 1"}, "max_threads": {"abc"}}, nil)
	if status == http.StatusOK || header.Get("X-ClickHouse-Exception-Code") == "" {
		t.Errorf("max_threads=abc: status %d, %v", status, header)
	}
	if n := number(t, conn, "SELECT count() FROM victim"); n != 1 {
		t.Errorf("victim has %d rows", n)
	}
}

func TestBrowserIsRefused(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	address, err := url.Parse(e.DSN)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*http.Request){
		"Origin":    func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"Fetch":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"Rebinding": func(r *http.Request) { r.Host = "evil.example" },
	} {
		request, err := http.NewRequest(http.MethodPost, "http://"+address.Host+"/", strings.NewReader("SELECT 1"))
		if err != nil {
			t.Fatal(err)
		}
		change(request)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d", name, response.StatusCode)
		}
	}
}

// A session's state ends with its request: the next one on the same client
// connection must not see it.
func TestRequestsShareNothing(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	post(t, e.DSN, url.Values{"query": {"SET max_threads = 3"}}, nil)
	post(t, e.DSN, url.Values{"query": {"USE system"}}, nil)
	_, _, answer := post(t, e.DSN, url.Values{"query": {"SELECT getSetting('max_threads') = 3, currentDatabase()"}}, nil)
	if want := "0\t" + e.Database + "\n"; answer != want {
		t.Errorf("got %q, want %q", answer, want)
	}
}

func TestFormats(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	for sql, want := range map[string]string{
		"SELECT number FROM numbers(3)":                         "0\n1\n2\n",
		"SELECT number AS n FROM numbers(2) FORMAT JSONEachRow": "{\"n\":0}\n{\"n\":1}\n",
		"SELECT 1 AS a FORMAT CSVWithNames":                     "\"a\"\n1\n",
		"SHOW TABLES":                                           "",
		"WITH 1 AS x SELECT x":                                  "1\n",
		"(SELECT 1)":                                            "1\n",
		"EXISTS TABLE nowhere":                                  "0\n",
	} {
		status, header, answer := post(t, e.DSN, url.Values{}, strings.NewReader(sql))
		if status != http.StatusOK || answer != want {
			t.Errorf("%s: %d %q, want %q", sql, status, answer, want)
		}
		if header.Get("X-ClickHouse-Query-Id") == "" || header.Get("X-ClickHouse-Format") == "" {
			t.Errorf("%s: headers %v", sql, header)
		}
	}
}

// residentBytes is what a process holds in memory now.
func residentBytes(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func TestBigResultStreams(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	number(t, conn, "SELECT count() FROM numbers(1000)")
	before := residentBytes(t, e.ClickHouse.ChildPID())
	rows, err := conn.Query(t.Context(), "SELECT number FROM numbers(5000000)")
	if err != nil {
		t.Fatal(err)
	}
	var count, sum, peak uint64
	for rows.Next() {
		var n uint64
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		count, sum = count+1, sum+n
		if count%500_000 == 0 {
			peak = max(peak, uint64(residentBytes(t, e.ClickHouse.ChildPID())))
		}
	}
	if rows.Err() != nil || count != 5_000_000 || sum != 5_000_000*4_999_999/2 {
		t.Fatalf("%d rows, sum %d, %v", count, sum, rows.Err())
	}
	// The answer is 40 MB; holding it whole would show.
	grown := int(peak) - before
	t.Logf("the child grew by %d KiB", grown>>10)
	if grown > 32<<20 {
		t.Errorf("the child grew by %d MiB while streaming", grown>>20)
	}
}
