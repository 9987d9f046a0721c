package embedded

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is the part of testing.TB that Open needs; *testing.T and *testing.B are
// one. Naming it here keeps package testing out of the binaries.
type TB interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Failed() bool
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Engines are real engines for one test, with nothing in them.
type Engines struct {
	NATS       *NATS       // on a directory of its own
	ClickHouse *ClickHouse // shared by the tests of a process, unless private
	DSN        string      // of Database
	Database   string      // fresh, of this test alone
}

const testStartMax = time.Minute

// shared is the one ClickHouse child of a test process: starting one costs half
// a second and a few hundred MB, a database costs nothing.
var shared struct {
	once       sync.Once
	clickHouse *ClickHouse
	dir        string
	err        error
}

// TestMain runs a package's tests; its exit code is for os.Exit:
//
//	func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }
//
// Every test package that opens engines needs it: the engine's child is the
// test binary itself, and the shared engine must end with the tests.
//
// Tests wait for engines, mostly, so more of them may run at once than there are
// processors; a -parallel that is given wins, as it is parsed after.
//
// Of the tests named leftToFull see LeaveToFull.
func TestMain(m interface{ Run() int }, leftToFull ...string) int {
	RunChildIfAsked()
	if parallel := flag.Lookup("test.parallel"); !flag.Parsed() && parallel.Value.String() == parallel.DefValue {
		if err := parallel.Value.Set("4"); err != nil {
			panic(err)
		}
	}
	LeaveToFull(leftToFull...)
	code := m.Run()
	if shared.clickHouse != nil {
		shared.clickHouse.Close()
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	return code
}

// LeaveToFull leaves the named tests out of a short run that names none by -run or
// -skip: those that take longest, and of what they show a short run shows a part by
// others. It parses the flags.
func LeaveToFull(tests ...string) {
	flag.Parse()
	if len(tests) == 0 || flag.Lookup("test.short").Value.String() != "true" || flag.Lookup("test.run").Value.String() != "" {
		return
	}
	skip := flag.Lookup("test.skip")
	if skip.Value.String() != "" {
		return
	}
	if err := skip.Value.Set("^(" + strings.Join(tests, "|") + ")$"); err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "left to a full run: %s\n", strings.Join(tests, ", "))
}

// Open gives a test a NATS of its own and a fresh database in the ClickHouse
// that the tests of this process share. The database is dropped if the test
// passes; otherwise its name is logged. Without the library the test fails.
func Open(tb TB) *Engines {
	tb.Helper()
	return (&Engines{NATS: OpenNATS(tb), ClickHouse: sharedClickHouse(tb)}).withDatabase(tb)
}

// OpenPrivate is Open with a ClickHouse of the test's own, for tests that kill
// its child.
func OpenPrivate(tb TB) *Engines {
	tb.Helper()
	return (&Engines{NATS: OpenNATS(tb), ClickHouse: OpenPrivateClickHouse(tb)}).withDatabase(tb)
}

// OpenNATS gives a test a NATS of its own that listens on no port.
func OpenNATS(tb TB) *NATS {
	tb.Helper()
	dir := tb.TempDir()
	if parent := memoryDir(); parent != "" {
		var err error
		if dir, err = os.MkdirTemp(parent, "aione-nats-*"); err != nil {
			tb.Fatalf("%v", err)
		}
		tb.Cleanup(func() { os.RemoveAll(dir) })
	}
	n, err := StartNATS(NATSOptions{StoreDir: dir, Port: NATSPortNone})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(n.Close)
	return n
}

// OpenClickHouse gives a test a fresh database in the shared ClickHouse.
func OpenClickHouse(tb TB) *Engines {
	tb.Helper()
	return (&Engines{ClickHouse: sharedClickHouse(tb)}).withDatabase(tb)
}

// OpenPrivateClickHouse gives a test a ClickHouse of its own.
func OpenPrivateClickHouse(tb TB) *ClickHouse {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testStartMax)
	defer cancel()
	c, err := StartClickHouse(ctx, ClickHouseOptions{DataDir: tb.TempDir()})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func sharedClickHouse(tb TB) *ClickHouse {
	tb.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp(memoryDir(), "aione-clickhouse-*"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), testStartMax)
		defer cancel()
		shared.clickHouse, shared.err = StartClickHouse(ctx, ClickHouseOptions{DataDir: shared.dir})
	})
	if shared.err != nil {
		tb.Fatalf("%v", shared.err)
	}
	return shared.clickHouse
}

// memoryBytesMin is more than a short run of all packages keeps at once.
const memoryBytesMin = 2 << 30

// memoryDir is where a short run keeps what its engines share: making and removing
// files there takes no part of a test's time. Empty: where a full run has it, on disk.
func memoryDir() string {
	const dir = "/dev/shm"
	short := flag.Lookup("test.short")
	var at syscall.Statfs_t
	if short == nil || short.Value.String() != "true" || syscall.Statfs(dir, &at) != nil || at.Bavail*uint64(at.Bsize) < memoryBytesMin {
		return ""
	}
	return dir
}

func (e *Engines) withDatabase(tb TB) *Engines {
	tb.Helper()
	e.Database = "test_" + strings.ToLower(rand.Text()[:12])
	e.DSN = e.ClickHouse.DSNFor(e.Database)
	if err := e.ClickHouse.exec("CREATE DATABASE " + e.Database); err != nil {
		tb.Fatalf("make a database for the test: %v", err)
	}
	if e.ClickHouse != shared.clickHouse {
		return e // its directory goes with the test
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the test's database is %s", e.Database)
			return
		}
		if err := e.ClickHouse.exec("DROP DATABASE IF EXISTS " + e.Database + " SYNC"); err != nil {
			tb.Logf("drop the test's database: %v", err)
		}
	})
	return e
}

// exec runs a statement of this file's own.
func (c *ClickHouse) exec(sql string) error {
	address := "http://" + c.listener.Addr().String() + "/?query=" + url.QueryEscape(sql)
	response, err := http.Post(address, "text/plain", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", body)
	}
	return err
}

// KillChild kills the engine's process as a crash would, and returns once that
// was noticed; the supervisor then starts the next one.
func (c *ClickHouse) KillChild(ctx context.Context) error {
	killed := 0
	for {
		pid := c.ChildPID()
		switch {
		case killed == 0 && pid > 0:
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("kill the engine: %w", err)
			}
			killed = pid
		case killed != 0 && pid != killed:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill the engine: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}
