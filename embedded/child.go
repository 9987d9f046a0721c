package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// childEnv asks this binary to be the engine's child; its value is a childConfig.
const childEnv = "AIONE_CLICKHOUSE_CHILD"

// Files the parent hands down, in the order of exec.Cmd.ExtraFiles. The lock
// is not read: holding it keeps the directory ours until the child is dead too.
const (
	childListenerFD = 3
	childStatusFD   = 4
)

// childDrainMax bounds how long running queries may go on after a Close.
const childDrainMax = 5 * time.Second

type childConfig struct {
	DataDir        string
	Library        string
	Sessions       int
	MemoryMaxBytes int64
}

// childStatus is the one line a child writes when it serves or has given up.
type childStatus struct {
	Version string // of ClickHouse, when it serves
	Error   string
}

// RunChildIfAsked runs the ClickHouse engine and exits, if a parent started
// this process for that; otherwise it returns at once. Every main that may
// start ClickHouse calls it first, before flags are parsed.
func RunChildIfAsked() {
	asked, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	// A process the engine may start is not a child of this kind.
	os.Unsetenv(childEnv)
	status := os.NewFile(childStatusFD, "status")
	if err := runChild(asked, status); err != nil {
		json.NewEncoder(status).Encode(childStatus{Error: err.Error()})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(asked string, status io.WriteCloser) error {
	var config childConfig
	if err := json.Unmarshal([]byte(asked), &config); err != nil {
		return fmt.Errorf("read the child's configuration: %w", err)
	}
	listener, err := net.FileListener(os.NewFile(childListenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("take over the listening socket: %w", err)
	}
	engine, err := openEngine(config)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(status).Encode(childStatus{Version: engine.version}); err != nil {
		return fmt.Errorf("tell the parent that the engine serves: %w", err)
	}
	status.Close()

	web := &http.Server{
		Handler:           newFront(engine, config.Sessions),
		ReadHeaderTimeout: 30 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	orphaned := make(chan struct{})
	go func() {
		// The parent never writes: the end of the pipe is its wish or its death.
		io.Copy(io.Discard, os.Stdin)
		close(orphaned)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve ClickHouse's HTTP interface: %w", err)
	case <-orphaned:
	}
	ctx, cancel := context.WithTimeout(context.Background(), childDrainMax)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving: %w", err)
	}
	// Parts are on disk once their INSERT is answered, so there is nothing to
	// flush; leaving without the library's destructors cannot hang.
	return nil
}

// engine is the library opened on a data directory.
type engine struct {
	lib      *chdb
	keeper   *session // holds the engine open between requests
	pathArg  string
	version  string
	timezone string
	settings map[string]struct{}
}

func openEngine(config childConfig) (*engine, error) {
	lib, err := loadChdb(config.Library)
	if err != nil {
		return nil, err
	}
	lib.setSignalHandlersEnabled(0)
	path := filepath.Join(config.DataDir, "clickhouse")
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, dirError("ClickHouse", config.DataDir, err)
	}
	if err := checkWritable(path); err != nil {
		return nil, dirError("ClickHouse", config.DataDir, err)
	}
	e := &engine{lib: lib, pathArg: "--path=" + path, settings: map[string]struct{}{}}
	args := []string{e.pathArg}
	if config.MemoryMaxBytes > 0 {
		args = append(args, fmt.Sprintf("--max_server_memory_usage=%d", config.MemoryMaxBytes))
	}
	if e.keeper, err = lib.open(args...); err != nil {
		return nil, fmt.Errorf("open the ClickHouse data directory %s: %w", config.DataDir, err)
	}
	return e, e.learn()
}

// learn reads what the engine is once, before the first request.
func (e *engine) learn() error {
	identity, err := e.column("SELECT arrayJoin([version(), timezone()])")
	if err != nil || len(identity) != 2 {
		return fmt.Errorf("ask the engine for its version: %w", err)
	}
	e.version, e.timezone = identity[0], identity[1]
	names, err := e.column("SELECT name FROM system.settings")
	if err != nil {
		return fmt.Errorf("ask the engine for its settings: %w", err)
	}
	for _, name := range names {
		e.settings[name] = struct{}{}
	}
	return nil
}
