package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"aione/embedded"
)

func kill(t *testing.T, c *embedded.ClickHouse) {
	t.Helper()
	if err := c.KillChild(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// oracle knows, for every INSERT, what it may have left behind.
type oracle struct {
	mu     sync.Mutex
	acked  map[uint64]bool // by batch: answered as done
	failed int
}

const crashBatchRows = 500

// Acknowledged INSERTs are there once and whole, the others once and whole or
// not at all, however often the child is killed.
func TestKilledChildLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	e := embedded.OpenPrivate(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE t (batch UInt64, i UInt64) ENGINE = MergeTree ORDER BY batch SETTINGS non_replicated_deduplication_window = 0")
	const kills = 6
	over := make(chan struct{})
	known := &oracle{acked: map[uint64]bool{}}
	var nextBatch atomic.Uint64
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() {
			for !closed(over) {
				batch := nextBatch.Add(1)
				known.note(batch, insertBatch(e.DSN, batch))
			}
		})
	}
	var badReads atomic.Int64
	work.Go(func() {
		for !closed(over) {
			// A read either fails or is right; it is never a shortened answer.
			var rows, batches uint64
			err := conn.QueryRow(context.Background(), "SELECT count(), uniqExact(batch) FROM t").Scan(&rows, &batches)
			if err == nil && rows != batches*crashBatchRows {
				badReads.Add(1)
			}
		}
	})
	for range kills {
		if err := e.ClickHouse.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		kill(t, e.ClickHouse)
	}
	if err := e.ClickHouse.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(over)
	work.Wait()
	if got := e.ClickHouse.Restarts(); got == 0 || got > kills {
		t.Errorf("%d restarts after %d kills", got, kills)
	}
	if n := badReads.Load(); n > 0 {
		t.Errorf("%d reads saw part of an INSERT", n)
	}
	known.check(t, open(t, e.DSN))
}

func insertBatch(dsn string, batch uint64) error {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(insertSettings()))
	b, err := conn.PrepareBatch(ctx, "INSERT INTO t")
	if err != nil {
		return err
	}
	for i := range crashBatchRows {
		if err := b.Append(batch, uint64(i)); err != nil {
			return err
		}
	}
	return b.Send()
}

func (o *oracle) note(batch uint64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked[batch] = err == nil
	if err != nil {
		o.failed++
	}
}

func (o *oracle) check(t *testing.T, conn clickhouse.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT batch, count(), uniqExact(i) FROM t GROUP BY batch")
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]bool{}
	for rows.Next() {
		var batch, count, unique uint64
		if err := rows.Scan(&batch, &count, &unique); err != nil {
			t.Fatal(err)
		}
		found[batch] = true
		if count != crashBatchRows || unique != crashBatchRows {
			t.Errorf("batch %d has %d rows, %d different", batch, count, unique)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	acked := 0
	for batch, ok := range o.acked {
		if ok {
			acked++
			if !found[batch] {
				t.Errorf("batch %d was acknowledged and is lost", batch)
			}
		}
	}
	t.Logf("%d batches: %d acknowledged, %d failed, %d found", len(o.acked), acked, o.failed, len(found))
	if acked == 0 {
		t.Error("nothing was ever acknowledged")
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A request made while there is no child waits for the next one.
func TestRequestsWaitForTheNextChild(t *testing.T) {
	t.Parallel()
	e := embedded.OpenPrivate(t)
	conn := open(t, e.DSN)
	mustExec(t, conn, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a", "INSERT INTO t VALUES (1)")
	kill(t, e.ClickHouse)
	if err := e.ClickHouse.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if n := number(t, open(t, e.DSN), "SELECT count() FROM t"); n != 1 {
		t.Errorf("%d rows", n)
	}
	eventually(t, "the restart is counted", func() bool { return e.ClickHouse.Restarts() == 1 })
}

// A query the killed child was answering ends in an error, not in fewer rows.
func TestAnswerOfAKilledChildIsAnError(t *testing.T) {
	t.Parallel()
	e := embedded.OpenPrivate(t)
	rows, err := open(t, e.DSN).Query(t.Context(), "SELECT number FROM numbers(50000000)")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for rows.Next() {
		if count++; count == 1000 {
			kill(t, e.ClickHouse)
		}
	}
	if rows.Err() == nil {
		t.Errorf("%d rows and no error", count)
	}
}

// A parent killed by the system takes its child along, and the next process
// finds everything that was acknowledged.
func TestKilledParentLeavesTheDirectoryFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+dir)
	parent.Stderr = os.Stderr
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Process.Kill()
	var pid int
	var dsn string
	if _, err := fmt.Fscan(output, &pid, &dsn); err != nil {
		t.Fatal(err)
	}
	mustExec(t, open(t, dsn), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a", "INSERT INTO t VALUES (7)")

	start := func() (*embedded.ClickHouse, error) {
		return embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{DataDir: filepath.Join(dir, "clickhouse")})
	}
	_, err = start()
	if !errors.Is(err, embedded.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint(parent.Process.Pid)) {
		t.Errorf("a held data directory: %v", err)
	}
	_, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: filepath.Join(dir, "nats"), Port: embedded.NATSPortNone})
	if !errors.Is(err, embedded.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint(parent.Process.Pid)) {
		t.Errorf("a held store directory: %v", err)
	}
	parent.Process.Kill()
	parent.Wait()
	again, err := start()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if alive(pid) {
		t.Error("the engine outlived its parent")
	}
	if n := number(t, open(t, again.DSN()), "SELECT sum(a) FROM t"); n != 7 {
		t.Errorf("sum %d", n)
	}
}

// alive does not count a process that is dead and only not yet waited for.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestCloseAndReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log strings.Builder
	for round := range uint64(2) {
		c, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{
			DataDir: dir, MemoryMaxBytes: 1 << 30, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		conn := open(t, c.DSN())
		mustExec(t, conn, "CREATE TABLE IF NOT EXISTS t (a UInt64) ENGINE = MergeTree ORDER BY a", "INSERT INTO t VALUES (1)")
		if n := number(t, conn, "SELECT count() FROM t"); n != round+1 {
			t.Errorf("round %d: %d rows", round, n)
		}
		if n := number(t, conn, "SELECT toUInt64(value) FROM system.server_settings WHERE name = 'max_server_memory_usage'"); n != 1<<30 {
			t.Errorf("memory limit %d", n)
		}
		pid := c.ChildPID()
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		if alive(pid) {
			t.Error("the child runs after Close")
		}
	}
	if strings.Contains(log.String(), "died") {
		t.Errorf("an orderly end was logged as a crash: %s", log.String())
	}
}

func TestClickHouseDoesNotStart(t *testing.T) {
	t.Parallel()
	notALibrary := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(notALibrary, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options embedded.ClickHouseOptions
		says    string
	}{
		"NoDirectory":   {embedded.ClickHouseOptions{}, "DataDir is required"},
		"NotALibrary":   {embedded.ClickHouseOptions{DataDir: t.TempDir(), Library: notALibrary}, "load the ClickHouse library"},
		"FileAsDataDir": {embedded.ClickHouseOptions{DataDir: notALibrary}, "ClickHouse cannot use"},
	} {
		t.Run(name, func(t *testing.T) {
			started, err := embedded.StartClickHouse(t.Context(), c.options)
			if err == nil {
				started.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}
