package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sessionsDefault = 8

	restartWaitMin = 50 * time.Millisecond
	restartWaitMax = 2 * time.Second
	// A child that lived this long was healthy: the next wait starts small.
	healthyAfter = 10 * time.Second

	closeWaitMax = childDrainMax + 3*time.Second

	childLogLinesMax = 200 // per incarnation
)

// ClickHouseOptions say where and how StartClickHouse runs. Only DataDir is
// required.
type ClickHouseOptions struct {
	DataDir        string
	Library        string // default: FindLibrary
	Port           int    // default: a free port on loopback
	Sessions       int    // statements at once; more wait. Default 8
	MemoryMaxBytes int64  // of the engine; default what it finds right (90 % of RAM)
	Logger         *slog.Logger
}

// ClickHouse is a supervised engine child. Its methods are safe for concurrent
// use.
type ClickHouse struct {
	config   childConfig
	log      *slog.Logger
	listener *net.TCPListener
	lock     *dirLock

	version  atomic.Value // string
	pid      atomic.Int64
	restarts atomic.Int64

	closeOnce sync.Once
	stop      chan struct{} // closed by Close
	stopped   chan struct{} // closed when no child runs any more
}

// StartClickHouse starts the engine on DataDir and returns when it answers. It
// returns ErrHeld if another process runs on DataDir and ErrNoLibrary if the
// engine is not installed. ctx bounds the start only.
func StartClickHouse(ctx context.Context, options ClickHouseOptions) (*ClickHouse, error) {
	if _, nested := os.LookupEnv(childEnv); nested {
		// Without this a main that forgot the call would start itself for ever.
		return nil, errors.New("start ClickHouse: main must call embedded.RunChildIfAsked first")
	}
	if options.DataDir == "" {
		return nil, errors.New("start ClickHouse: DataDir is required")
	}
	if options.Library == "" {
		library, err := FindLibrary()
		if err != nil {
			return nil, err
		}
		options.Library = library
	}
	if options.Sessions <= 0 {
		options.Sessions = sessionsDefault
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := lockDir(options.DataDir, "ClickHouse")
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: options.Port})
	if err != nil {
		lock.release()
		return nil, fmt.Errorf("listen for ClickHouse: %w", err)
	}
	c := &ClickHouse{
		config: childConfig{
			DataDir: options.DataDir, Library: options.Library,
			Sessions: options.Sessions, MemoryMaxBytes: options.MemoryMaxBytes,
		},
		log:      options.Logger.With("component", "clickhouse"),
		listener: listener, lock: lock,
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	first := make(chan error, 1)
	go c.supervise(first)
	select {
	case err = <-first:
	case <-ctx.Done():
		err = fmt.Errorf("start ClickHouse: %w", ctx.Err())
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// DSN is what clickhouse-go opens. It stays the same across restarts.
func (c *ClickHouse) DSN() string { return c.DSNFor("default") }

// DSNFor is DSN with another database.
func (c *ClickHouse) DSNFor(database string) string {
	return "http://" + c.listener.Addr().String() + "/" + database
}

// Version is the ClickHouse version of the engine, such as 26.7.2.1.
func (c *ClickHouse) Version() string { return c.version.Load().(string) }

// ChildPID is the engine's process now, or 0 while it is being restarted. To
// end it use KillChild: a signal to process 0 goes to the caller's own group.
func (c *ClickHouse) ChildPID() int { return int(c.pid.Load()) }

// Restarts counts how often the engine died and was started again.
func (c *ClickHouse) Restarts() int { return int(c.restarts.Load()) }

// Ping waits until the engine answers a query or ctx ends. During a restart the
// request waits in the socket's backlog.
func (c *ClickHouse) Ping(ctx context.Context) error {
	address := "http://" + c.listener.Addr().String() + "/?query=SELECT+1"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("ping ClickHouse: %w", err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ping ClickHouse: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil || response.StatusCode != http.StatusOK || string(body) != "1\n" {
		return fmt.Errorf("ping ClickHouse: status %d, answer %q: %w", response.StatusCode, body, err)
	}
	return nil
}

// Close stops the engine: running queries get a few seconds, then it is killed.
// It waits until the child is gone and is safe to call more than once.
func (c *ClickHouse) Close() error {
	c.closeOnce.Do(func() {
		close(c.stop)
		<-c.stopped
		c.listener.Close()
		c.lock.release()
	})
	return nil
}

// supervise keeps one child running until Close. The first start is reported on
// first and not retried: a wrong library or directory is the caller's to mend.
func (c *ClickHouse) supervise(first chan<- error) {
	// The kernel kills the child when the thread that started it ends, so this
	// goroutine keeps its thread for itself until the last child is gone.
	runtime.LockOSThread()
	defer close(c.stopped)
	wait := restartWaitMin
	for started := false; ; {
		born := time.Now()
		child, err := c.start()
		if err == nil {
			err = child.waitReady(c.stop)
		}
		if err == nil { // before anybody is told that it runs
			c.version.Store(child.version)
			c.pid.Store(int64(child.cmd.Process.Pid))
		}
		if !started {
			first <- err
			started = err == nil
		}
		if child != nil {
			err = errors.Join(err, child.wait(c.stop))
			c.pid.Store(0)
		}
		if !started || c.stopping() {
			return
		}
		if time.Since(born) > healthyAfter {
			wait = restartWaitMin
		}
		c.log.Error("the ClickHouse engine died and is started again", "error", err, "wait", wait)
		select {
		case <-c.stop:
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, restartWaitMax)
		c.restarts.Add(1)
	}
}

func (c *ClickHouse) stopping() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// child is one incarnation of the engine's process.
type child struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	status  *os.File
	exited  chan struct{}
	exit    error // after exited
	version string
}

// start must run on the supervisor's locked thread.
func (c *ClickHouse) start() (*child, error) {
	binary, err := childBinary()
	if err != nil {
		return nil, fmt.Errorf("find this binary to run it as the engine: %w", err)
	}
	config, err := json.Marshal(c.config)
	if err != nil {
		return nil, fmt.Errorf("write the child's configuration: %w", err)
	}
	listener, err := c.listener.File()
	if err != nil {
		return nil, fmt.Errorf("hand down the listening socket: %w", err)
	}
	defer listener.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the status pipe: %w", err)
	}
	defer statusWrite.Close()

	cmd := exec.Command(binary)
	cmd.Args = []string{"aione-clickhouse"} // for ps
	cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	cmd.ExtraFiles = []*os.File{listener, statusWrite, c.lock.file}
	cmd.SysProcAttr = childProcess()
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		statusRead.Close()
		return nil, fmt.Errorf("make the child's pipe: %w", err)
	}
	logged := &lineLog{log: c.log}
	cmd.Stdout, cmd.Stderr = logged, logged
	if err := cmd.Start(); err != nil {
		statusRead.Close()
		return nil, fmt.Errorf("start the ClickHouse engine: %w", err)
	}
	ch := &child{cmd: cmd, stdin: stdin, status: statusRead, exited: make(chan struct{})}
	go func() {
		ch.exit = cmd.Wait()
		close(ch.exited)
	}()
	return ch, nil
}

// waitReady waits for the child's status line, its death, or stop.
func (ch *child) waitReady(stop <-chan struct{}) error {
	lines := make(chan string, 1)
	go func() {
		defer ch.status.Close()
		line, _ := bufio.NewReader(ch.status).ReadString('\n')
		lines <- line
	}()
	select {
	case <-stop:
		return errors.New("closed while the ClickHouse engine was starting")
	case line := <-lines:
		var status childStatus
		if err := json.Unmarshal([]byte(line), &status); err != nil {
			return errors.New("the ClickHouse engine died while starting; does main call embedded.RunChildIfAsked first?")
		}
		if status.Error != "" {
			return errors.New(status.Error)
		}
		ch.version = status.Version
		return nil
	}
}

// wait returns when the child is gone, helping it along once stop is closed.
func (ch *child) wait(stop <-chan struct{}) error {
	select {
	case <-ch.exited:
	case <-stop:
		ch.stdin.Close()
		select {
		case <-ch.exited:
		case <-time.After(closeWaitMax):
			ch.cmd.Process.Kill()
			<-ch.exited
		}
	}
	return ch.exit
}

// lineLog passes what the engine prints to the log, up to a bound.
type lineLog struct {
	log   *slog.Logger
	lines int
}

func (l *lineLog) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l.lines++
		switch line = strings.TrimSpace(line); {
		case line == "" || l.lines > childLogLinesMax:
		case l.lines == childLogLinesMax:
			l.log.Warn("the engine prints too much; the rest is not logged")
		default:
			l.log.Warn("the engine says", "line", line[:min(len(line), 2000)])
		}
	}
	return len(p), nil
}
