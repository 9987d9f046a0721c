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
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

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

// nativeBlock is rows consecutive numbers in a column value. Its header is 16
// bytes long, for 128 rows or more.
func nativeBlock(from, rows int) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(rows))
	b = append(b, "\x05value\x06UInt64"...)
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
		mustExec(t, conn, "CREATE TABLE blocks (value UInt64) ENGINE = MergeTree ORDER BY value")
		var body bytes.Buffer
		for from := 0; from < rows; from += 7_000 {
			body.Write(nativeBlock(from, min(7_000, rows-from)))
		}
		status, header, answer := post(t, e.DSN, settingsInURL("INSERT INTO blocks FORMAT Native"), &body)
		if status != http.StatusOK || !strings.Contains(header.Get("X-ClickHouse-Summary"), `"written_rows":"200000"`) {
			t.Fatalf("%d %s %v", status, answer, header)
		}
		if n, p := number(t, conn, "SELECT uniqExact(value) FROM blocks"), number(t, conn, activeParts, "blocks"); n != rows || p != 1 {
			t.Errorf("%d rows in %d parts", n, p)
		}
	})
}

func TestInsertFormatsAndEncodings(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE other (value UInt64) ENGINE = MergeTree ORDER BY value")
	for sql, body := range map[string]string{
		"INSERT INTO other FORMAT CSV":         "1\n2\n",
		"INSERT INTO other VALUES":             "(3),(4)",
		"INSERT INTO other FORMAT JSONEachRow": `{"value":5}`,
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
	if sum := number(t, conn, "SELECT sum(value) FROM other"); sum != 1+2+3+4+5+6+10+10 {
		t.Errorf("sum %d", sum)
	}
}

// The rate is reported, not judged.
func TestInsertRate(t *testing.T) {
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE rate (value UInt64) ENGINE = MergeTree ORDER BY value")
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
	t.Parallel()
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE half (value UInt64) ENGINE = MergeTree ORDER BY value")
	block := nativeBlock(0, 1000)
	// Whole blocks that fill the pieces in which a body is handed to the engine,
	// so that all of them are with the engine when the body breaks off.
	handedOver := bytes.Repeat(nativeBlock(0, 8190), 32)
	if len(handedOver) != 2<<20 {
		t.Fatalf("%d bytes are not whole pieces", len(handedOver))
	}
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
		"WithLengthHandedOver":   {"Content-Length: 10000000\r\n\r\n", handedOver},
		"ChunkedHandedOver":      {"Transfer-Encoding: chunked\r\n\r\n", fmt.Appendf(nil, "%x\r\n%s\r\n", len(handedOver), handedOver)},
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
}

// A body that net/http finds whole can still hold half of the data.
func TestTruncatedInsertInsertsNothing(t *testing.T) {
	t.Parallel()
	e := embedded.OpenClickHouse(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE half (value UInt64) ENGINE = MergeTree ORDER BY value")
	block := nativeBlock(0, 1000)
	handedOver := bytes.Repeat(nativeBlock(0, 8190), 32)
	t.Run("TruncatedBlock", func(t *testing.T) {
		status, _, _ := post(t, e.DSN, settingsInURL("INSERT INTO half FORMAT Native"), bytes.NewReader(block[:777]))
		if n := number(t, conn, "SELECT count() FROM half"); status == http.StatusOK || n != 0 {
			t.Errorf("status %d, %d rows", status, n)
		}
	})
	t.Run("TruncatedGzip", func(t *testing.T) {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		writer.Write(handedOver)
		writer.Flush()
		values := settingsInURL("INSERT INTO half FORMAT Native")
		values.Set("database", e.Database)
		request, err := http.NewRequest(http.MethodPost, strings.TrimSuffix(e.DSN, e.Database)+"?"+values.Encode(), &packed)
		if err != nil {
			t.Fatal(err)
		}
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
		"CREATE TABLE parted (value UInt64) ENGINE = MergeTree PARTITION BY value % 10 ORDER BY value",
		"CREATE TABLE checked (value UInt64, CONSTRAINT small CHECK value < 100) ENGINE = MergeTree ORDER BY value")
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
	t.Parallel()
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

// killing is a query id that a test runs a query under and kills.
type killing struct {
	*embedded.Engines
	conn driver.Conn
	id   string
}

func newKilling(t *testing.T) killing {
	t.Helper()
	e := embedded.OpenClickHouse(t)
	return killing{e, open(t, e.DSN), e.Database + "'s \\ query"}
}

func (k killing) listed(t *testing.T) uint64 {
	t.Helper()
	return number(t, k.conn, "SELECT count() FROM system.processes WHERE query_id = ?", k.id)
}

func (k killing) waitListed(t *testing.T) {
	t.Helper()
	eventually(t, "the query is listed", func() bool { return k.listed(t) == 1 })
}

func (k killing) kill(t *testing.T) {
	t.Helper()
	if err := k.conn.Exec(t.Context(), "KILL QUERY WHERE query_id = ? SYNC", k.id); err != nil {
		t.Fatal(err)
	}
	if n := k.listed(t); n != 0 {
		t.Errorf("listed %d times after a synchronous kill", n)
	}
}

func TestKillSelect(t *testing.T) {
	t.Parallel()
	k := newKilling(t)
	t.Run("NotThere", k.kill)
	t.Run("Select", func(t *testing.T) {
		failed := make(chan error, 1)
		go func() {
			failed <- k.conn.Exec(clickhouse.Context(t.Context(), clickhouse.WithQueryID(k.id)), endless)
		}()
		k.waitListed(t)
		wantCode(t, k.conn.Exec(clickhouse.Context(t.Context(), clickhouse.WithQueryID(k.id)), "SELECT 1"), 216)
		k.kill(t)
		wantCode(t, <-failed, 394)
	})
	t.Run("SelectWhoseClientDoesNotRead", func(t *testing.T) {
		rows, err := k.conn.Query(clickhouse.Context(t.Context(), clickhouse.WithQueryID(k.id)), "SELECT number FROM numbers(50000000)")
		if err != nil {
			t.Fatal(err)
		}
		k.kill(t)
		count := 0
		for rows.Next() {
			count++
		}
		if rows.Err() == nil || count >= 50_000_000 {
			t.Errorf("%d rows of a killed SELECT, and no error", count)
		}
	})
	t.Run("ByParameter", func(t *testing.T) {
		err := k.conn.Exec(t.Context(), "KILL QUERY WHERE query_id = {id:String} SYNC", clickhouse.Named("id", k.id))
		if err != nil {
			t.Error(err)
		}
	})
}

func TestKillInsert(t *testing.T) {
	t.Parallel()
	k := newKilling(t)
	mustExec(t, k.conn, "CREATE TABLE killed (value UInt64) ENGINE = MergeTree ORDER BY value")
	t.Run("InsertThatWaitsForItsClient", func(t *testing.T) {
		values := settingsInURL("INSERT INTO killed FORMAT Native")
		values.Set("query_id", k.id)
		values.Set("database", k.Database)
		body, client := io.Pipe()
		defer client.Close()
		answered := make(chan int, 1)
		go func() {
			response, err := http.Post(strings.TrimSuffix(k.DSN, k.Database)+"?"+values.Encode(), "", body)
			if err != nil {
				answered <- 0
				return
			}
			response.Body.Close()
			answered <- response.StatusCode
		}()
		go client.Write(nativeBlock(0, 200_000))
		k.waitListed(t)
		k.kill(t)
		if status := <-answered; status == http.StatusOK {
			t.Error("a killed INSERT was answered as done")
		}
		if n := number(t, k.conn, "SELECT count() FROM killed"); n != 0 {
			t.Errorf("%d rows of a killed INSERT", n)
		}
	})
	t.Run("InsertThatCommits", func(t *testing.T) {
		mustExec(t, k.conn, "CREATE TABLE slow (value UInt64, s UInt8 MATERIALIZED sleepEachRow(0.002)) ENGINE = MergeTree ORDER BY value")
		values := settingsInURL("INSERT INTO slow (value) FORMAT Native")
		values.Set("query_id", k.id)
		answered := make(chan int, 1)
		go func() {
			status, _, _ := post(t, k.DSN, values, bytes.NewReader(nativeBlock(0, 1000)))
			answered <- status
		}()
		k.waitListed(t)
		time.Sleep(300 * time.Millisecond)
		k.kill(t)
		if status := <-answered; status == http.StatusOK {
			t.Error("a killed INSERT was answered as done")
		}
		if n := number(t, k.conn, "SELECT count() FROM slow"); n != 0 && n != 1000 {
			t.Errorf("%d rows of a killed INSERT", n)
		}
		// The client's connection outlives the kill, or is seen to be closed.
		for range 3 {
			if status, _, answer := post(t, k.DSN, url.Values{"query": {"SELECT 1"}}, nil); status != http.StatusOK {
				t.Errorf("after a kill: %d %s", status, answer)
			}
		}
	})
}

// hold runs an INSERT that is never sent its data, until ctx ends, and returns
// once it has a session: it is asked for the data only then.
func hold(ctx context.Context, t *testing.T, e *embedded.Engines, id string) (ended <-chan error) {
	t.Helper()
	values := settingsInURL("INSERT INTO held FORMAT Native")
	values.Set("database", e.Database)
	values.Set("query_id", id)
	asked, over := make(chan struct{}), make(chan error, 1)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { close(asked) }})
	data, client := io.Pipe()
	context.AfterFunc(ctx, func() { client.CloseWithError(ctx.Err()) }) // net/http waits for it
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(e.DSN, e.Database)+"?"+values.Encode(), data)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Expect", "100-continue")
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			err = errors.New(response.Status)
			response.Body.Close()
		}
		over <- err
	}()
	select {
	case <-asked:
	case err := <-over:
		t.Fatalf("%s ended before it had a session: %v", id, err)
	}
	return over
}

// More queries than sessions wait for their turn, or until their client gives up.
func TestWaitingForASession(t *testing.T) {
	t.Parallel()
	e := embedded.OpenPrivate(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE held (value UInt64) ENGINE = MergeTree ORDER BY value")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // so that a hang fails, with a word
	defer cancel()
	var killed <-chan error
	for i := range 8 {
		killed = hold(ctx, t, e, fmt.Sprint("hold", i))
	}
	brief, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if err := e.ClickHouse.Ping(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("all sessions are held, and a query ended with %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- e.ClickHouse.Ping(ctx) }()
	if err := conn.Exec(ctx, "KILL QUERY WHERE query_id = 'hold7' SYNC"); err != nil {
		t.Fatalf("KILL QUERY must not wait for a session: %v", err)
	}
	if err := <-killed; err == nil || err.Error() != "500 Internal Server Error" {
		t.Errorf("the killed INSERT ended with %v", err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("a session is free, yet: %v", err)
	}
}
