package embedded_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"aione/embedded"
)

// insertSettings are how the ingester writes: at once, one block, one part.
func insertSettings() clickhouse.Settings {
	return clickhouse.Settings{
		"async_insert": 0, "deduplicate_insert": "disable",
		"max_insert_block_size": 2_000_000, "min_insert_block_size_rows": 2_000_000, "min_insert_block_size_bytes": 1 << 30,
	}
}

func settingsInURL(sql string) url.Values {
	values := url.Values{"query": {sql}}
	for name, value := range insertSettings() {
		values.Set(name, fmt.Sprint(value))
	}
	return values
}

// nativeBlock is rows consecutive numbers in a column n.
func nativeBlock(from, rows int) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(rows))
	b = append(b, "\x01n\x06UInt64"...)
	for i := range rows {
		b = binary.LittleEndian.AppendUint64(b, uint64(from+i))
	}
	return b
}

const activeParts = "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = ? AND active"

func TestOneInsertIsOnePart(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	const rows = 200_000
	t.Run("Batch", func(t *testing.T) {
		mustExec(t, conn, "CREATE TABLE batch (seq UInt64, org LowCardinality(String), amount Decimal(38, 12)) ENGINE = MergeTree ORDER BY seq SETTINGS fsync_after_insert = 1")
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(insertSettings()))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO batch")
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if err := batch.Append(uint64(i), "org", "0.000000000001"); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%.0f rows/s by clickhouse-go", rows/time.Since(start).Seconds())
		if n, p := number(t, conn, "SELECT count() FROM batch"), number(t, conn, activeParts, "batch"); n != rows || p != 1 {
			t.Errorf("%d rows in %d parts", n, p)
		}
	})
	t.Run("ManyBlocks", func(t *testing.T) {
		mustExec(t, conn, "CREATE TABLE blocks (n UInt64) ENGINE = MergeTree ORDER BY n")
		var body bytes.Buffer
		for from := 0; from < rows; from += 7_000 {
			body.Write(nativeBlock(from, min(7_000, rows-from)))
		}
		status, header, answer := post(t, e.DSN, settingsInURL("INSERT INTO blocks FORMAT Native"), &body)
		if status != http.StatusOK || !strings.Contains(header.Get("X-ClickHouse-Summary"), `"written_rows":"200000"`) {
			t.Fatalf("%d %s %v", status, answer, header)
		}
		if n, p := number(t, conn, "SELECT uniqExact(n) FROM blocks"), number(t, conn, activeParts, "blocks"); n != rows || p != 1 {
			t.Errorf("%d rows in %d parts", n, p)
		}
	})
	t.Run("OtherFormatsAndEncodings", func(t *testing.T) {
		mustExec(t, conn, "CREATE TABLE other (n UInt64) ENGINE = MergeTree ORDER BY n")
		for sql, body := range map[string]string{
			"INSERT INTO other FORMAT CSV":         "1\n2\n",
			"INSERT INTO other VALUES":             "(3),(4)",
			"INSERT INTO other FORMAT JSONEachRow": `{"n":5}`,
			"":                                     "INSERT INTO other VALUES (6)",
		} {
			if status, _, answer := post(t, e.DSN, settingsInURL(sql), strings.NewReader(body)); status != http.StatusOK {
				t.Errorf("%s: %d %s", sql, status, answer)
			}
		}
		for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionGZIP, clickhouse.CompressionDeflate} {
			options, err := clickhouse.ParseDSN(e.DSN)
			if err != nil {
				t.Fatal(err)
			}
			options.Compression = &clickhouse.Compression{Method: method, Level: 3}
			packed, err := clickhouse.Open(options)
			if err != nil {
				t.Fatal(err)
			}
			batch, err := packed.PrepareBatch(t.Context(), "INSERT INTO other")
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(batch.Append(uint64(10)), batch.Send(), packed.Close()); err != nil {
				t.Errorf("%v: %v", method, err)
			}
		}
		if sum := number(t, conn, "SELECT sum(n) FROM other"); sum != 1+2+3+4+5+6+10+10 {
			t.Errorf("sum %d", sum)
		}
	})
}

// The rate is reported, not judged.
func TestInsertRate(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE rate (n UInt64) ENGINE = MergeTree ORDER BY n")
	const blockRows, inserts = 500_000, 4
	block := nativeBlock(0, blockRows)
	start := time.Now()
	for range inserts {
		if status, _, answer := post(t, e.DSN, settingsInURL("INSERT INTO rate FORMAT Native"), bytes.NewReader(block)); status != http.StatusOK {
			t.Fatal(status, answer)
		}
	}
	t.Logf("%.0f rows/s", blockRows*inserts/time.Since(start).Seconds())
	if n := number(t, conn, "SELECT count() FROM rate"); n != blockRows*inserts {
		t.Errorf("%d rows", n)
	}
}

// A body that ends early must insert nothing, wherever it is cut: inside a
// block, and, which no parser can see, exactly between two.
func TestHalfSentInsertInsertsNothing(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE half (n UInt64) ENGINE = MergeTree ORDER BY n")
	block := nativeBlock(0, 1000)
	host := strings.TrimPrefix(strings.TrimSuffix(e.DSN, "/"+e.Database), "http://")
	values := settingsInURL("INSERT INTO half FORMAT Native")
	values.Set("database", e.Database)
	for name, c := range map[string]struct {
		framing string
		body    []byte
	}{
		"WithLengthInsideABlock": {"Content-Length: 1000000\r\n\r\n", block[:777]},
		"WithLengthAtABlockEnd":  {"Content-Length: 1000000\r\n\r\n", block},
		"ChunkedInsideABlock":    {"Transfer-Encoding: chunked\r\n\r\n", fmt.Appendf(nil, "%x\r\n%s\r\n", 777, block[:777])},
		"ChunkedAtABlockEnd":     {"Transfer-Encoding: chunked\r\n\r\n", fmt.Appendf(nil, "%x\r\n%s\r\n", len(block), block)},
		"ChunkedTwoBlocks":       {"Transfer-Encoding: chunked\r\n\r\n", bytes.Repeat(fmt.Appendf(nil, "%x\r\n%s\r\n", len(block), block), 2)},
		"NothingAtAll":           {"Transfer-Encoding: chunked\r\n\r\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			socket, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			fmt.Fprintf(socket, "POST /?%s HTTP/1.1\r\nHost: %s\r\n%s%s", values.Encode(), host, c.framing, c.body)
			// Half-closing keeps the way back open, so the answer can be seen.
			socket.(*net.TCPConn).CloseWrite()
			answer, _ := io.ReadAll(socket)
			if bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
				t.Errorf("answered %q", answer)
			}
			if n := number(t, conn, "SELECT count() FROM half"); n != 0 {
				t.Errorf("%d rows inserted", n)
			}
		})
	}
	t.Run("TruncatedBlock", func(t *testing.T) {
		status, _, _ := post(t, e.DSN, settingsInURL("INSERT INTO half FORMAT Native"), bytes.NewReader(block[:777]))
		if n := number(t, conn, "SELECT count() FROM half"); status == http.StatusOK || n != 0 {
			t.Errorf("status %d, %d rows", status, n)
		}
	})
	t.Run("TruncatedGzip", func(t *testing.T) {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		writer.Write(block)
		writer.Flush()
		request, _ := http.NewRequest(http.MethodPost, "http://"+host+"/?"+values.Encode(), &packed)
		request.Header.Set("Content-Encoding", "gzip")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if n := number(t, conn, "SELECT count() FROM half"); response.StatusCode == http.StatusOK || n != 0 {
			t.Errorf("status %d, %d rows", response.StatusCode, n)
		}
	})
	t.Run("EmptyBody", func(t *testing.T) {
		status, header, _ := post(t, e.DSN, settingsInURL("INSERT INTO half FORMAT Native"), strings.NewReader(""))
		if status == http.StatusOK || header.Get("X-ClickHouse-Exception-Code") != "108" {
			t.Errorf("status %d, %v", status, header)
		}
	})
}

// An error that only the commit meets must reach the client.
func TestInsertFailsAtItsEnd(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn,
		"CREATE TABLE parted (n UInt64) ENGINE = MergeTree PARTITION BY n % 10 ORDER BY n",
		"CREATE TABLE checked (n UInt64, CONSTRAINT small CHECK n < 100) ENGINE = MergeTree ORDER BY n")
	values := settingsInURL("INSERT INTO parted FORMAT Native")
	values.Set("max_partitions_per_insert_block", "1")
	status, header, answer := post(t, e.DSN, values, bytes.NewReader(nativeBlock(0, 1000)))
	if status == http.StatusOK || header.Get("X-ClickHouse-Exception-Code") != "252" {
		t.Errorf("too many partitions: %d %s", status, answer)
	}
	status, _, answer = post(t, e.DSN, settingsInURL("INSERT INTO checked FORMAT Native"), bytes.NewReader(nativeBlock(0, 101)))
	if status == http.StatusOK {
		t.Errorf("constraint: %d %s", status, answer)
	}
	if n := number(t, conn, "SELECT (SELECT count() FROM parted) + (SELECT count() FROM checked)"); n != 0 {
		t.Errorf("%d rows inserted", n)
	}
}

const endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func TestCancelledQueryEnds(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	for name, sql := range map[string]string{"Streamed": endless, "Whole": "CREATE TABLE endless ENGINE = Memory AS " + endless} {
		t.Run(name, func(t *testing.T) {
			id := e.Database + name
			alive := func() bool {
				return number(t, conn, "SELECT count() FROM system.processes WHERE query_id = ?", id) == 1
			}
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() { failed <- conn.Exec(clickhouse.Context(ctx, clickhouse.WithQueryID(id)), sql) }()
			eventually(t, "the query runs under the client's id", alive)
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			eventually(t, "the abandoned query is gone", func() bool { return !alive() })
		})
	}
}

func TestKillQuery(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE killed (n UInt64) ENGINE = MergeTree ORDER BY n")
	id := e.Database + "'s \\ query"
	listed := func() uint64 { return number(t, conn, "SELECT count() FROM system.processes WHERE query_id = ?", id) }
	kill := func(t *testing.T) {
		t.Helper()
		if err := conn.Exec(t.Context(), "KILL QUERY WHERE query_id = ? SYNC", id); err != nil {
			t.Fatal(err)
		}
		if n := listed(); n != 0 {
			t.Errorf("listed %d times after a synchronous kill", n)
		}
	}
	t.Run("NotThere", kill)
	t.Run("Select", func(t *testing.T) {
		failed := make(chan error, 1)
		go func() {
			failed <- conn.Exec(clickhouse.Context(t.Context(), clickhouse.WithQueryID(id)), endless)
		}()
		eventually(t, "the query is listed", func() bool { return listed() == 1 })
		wantCode(t, conn.Exec(clickhouse.Context(t.Context(), clickhouse.WithQueryID(id)), "SELECT 1"), 216)
		kill(t)
		wantCode(t, <-failed, 394)
	})
	t.Run("InsertThatWaitsForItsClient", func(t *testing.T) {
		values := settingsInURL("INSERT INTO killed FORMAT Native")
		values.Set("query_id", id)
		values.Set("database", e.Database)
		body, client := io.Pipe()
		defer client.Close()
		answered := make(chan int, 1)
		go func() {
			response, err := http.Post(strings.TrimSuffix(e.DSN, e.Database)+"?"+values.Encode(), "", body)
			if err != nil {
				answered <- 0
				return
			}
			response.Body.Close()
			answered <- response.StatusCode
		}()
		go client.Write(nativeBlock(0, 200_000))
		eventually(t, "the INSERT is listed", func() bool { return listed() == 1 })
		kill(t)
		if status := <-answered; status == http.StatusOK {
			t.Error("a killed INSERT was answered as done")
		}
		if n := number(t, conn, "SELECT count() FROM killed"); n != 0 {
			t.Errorf("%d rows of a killed INSERT", n)
		}
	})
	t.Run("InsertThatCommits", func(t *testing.T) {
		mustExec(t, conn, "CREATE TABLE slow (n UInt64, s UInt8 MATERIALIZED sleepEachRow(0.002)) ENGINE = MergeTree ORDER BY n")
		values := settingsInURL("INSERT INTO slow (n) FORMAT Native")
		values.Set("query_id", id)
		answered := make(chan int, 1)
		go func() {
			status, _, _ := post(t, e.DSN, values, bytes.NewReader(nativeBlock(0, 1000)))
			answered <- status
		}()
		eventually(t, "the INSERT is listed", func() bool { return listed() == 1 })
		time.Sleep(300 * time.Millisecond)
		kill(t)
		if status := <-answered; status == http.StatusOK {
			t.Error("a killed INSERT was answered as done")
		}
		if n := number(t, conn, "SELECT count() FROM slow"); n != 0 && n != 1000 {
			t.Errorf("%d rows of a killed INSERT", n)
		}
		// The client's connection outlives the kill, or is seen to be closed.
		for range 3 {
			if status, _, answer := post(t, e.DSN, url.Values{"query": {"SELECT 1"}}, nil); status != http.StatusOK {
				t.Errorf("after a kill: %d %s", status, answer)
			}
		}
	})
	t.Run("ByParameter", func(t *testing.T) {
		err := conn.Exec(t.Context(), "KILL QUERY WHERE query_id = {id:String} SYNC", clickhouse.Named("id", id))
		if err != nil {
			t.Error(err)
		}
	})
}

// More queries than sessions wait for their turn; one that gives up is told.
func TestWaitingForASession(t *testing.T) {
	e := embedded.OpenPrivate(t)
	conn := open(t, e.DSN)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 8 {
		go conn.Exec(clickhouse.Context(ctx, clickhouse.WithQueryID(fmt.Sprint("hog", i))), endless+fmt.Sprintf(" SETTINGS max_threads = %d", 1))
	}
	eventually(t, "all sessions are busy", func() bool {
		brief, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		return e.ClickHouse.Ping(brief) != nil
	})
	if err := conn.Exec(t.Context(), "KILL QUERY WHERE query_id = 'hog3' SYNC"); err != nil {
		t.Fatalf("KILL QUERY must not wait for a session: %v", err)
	}
	if err := e.ClickHouse.Ping(t.Context()); err != nil {
		t.Errorf("a session is free, yet: %v", err)
	}
}
