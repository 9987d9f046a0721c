package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// NATSPortNone makes the server listen on no port: Conn is the only way in.
	NATSPortNone = -1

	natsPayloadMaxDefault = 8 << 20
	natsReadyWaitMax      = 30 * time.Second

	// natsDiskHeadroomBytes stays free of JetStream, so that a full store is
	// its own error (10023, insufficient resources) before the disk is full.
	natsDiskHeadroomBytes = 64 << 20

	// Below this much room the next messages may not fit on the disk.
	natsDiskFullBytes = 2 * natsPayloadMaxDefault
)

// NATSOptions say where and how StartNATS runs. Only StoreDir is required.
type NATSOptions struct {
	StoreDir string
	Host     string // default 127.0.0.1
	Port     int    // 0 picks a free port; NATSPortNone listens on none

	PayloadMaxBytes int32 // default 8 MiB
	StoreMaxBytes   int64 // JetStream on disk; default what the disk has, less a headroom
	MemoryMaxBytes  int64 // JetStream in memory; default 256 MiB

	Logger *slog.Logger // default: says nothing
}

// NATS is a running server. Its methods are safe for concurrent use.
type NATS struct {
	options NATSOptions
	log     *slog.Logger
	lock    *dirLock

	mu     sync.Mutex // guards the server, which watch may replace
	server *server.Server
	report *natsReport

	closeOnce sync.Once
	stop      chan struct{} // closed by Close
	watched   chan struct{} // closed when watch has ended
}

// StartNATS starts a server on StoreDir and returns when it answers. It returns
// ErrHeld if another process runs on StoreDir: nats-server itself would start
// there and damage the streams.
func StartNATS(options NATSOptions) (*NATS, error) {
	if options.StoreDir == "" {
		return nil, errors.New("start NATS: StoreDir is required")
	}
	lock, err := lockDir(options.StoreDir, "NATS")
	if err != nil {
		return nil, err
	}
	srv, report, err := startServer(options)
	if err != nil {
		lock.release()
		return nil, err
	}
	if options.Port == 0 { // the same one after a restart
		options.Port = srv.Addr().(*net.TCPAddr).Port
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	n := &NATS{options: options, log: options.Logger.With("component", "nats"), lock: lock, server: srv, report: report,
		stop: make(chan struct{}), watched: make(chan struct{})}
	go n.watch()
	return n, nil
}

func startServer(options NATSOptions) (*server.Server, *natsReport, error) {
	if err := checkWritable(options.StoreDir); err != nil {
		return nil, nil, dirError("NATS", options.StoreDir, err)
	}
	config, err := natsConfig(options)
	if err != nil {
		return nil, nil, err
	}
	srv, err := server.NewServer(config)
	if err != nil {
		return nil, nil, fmt.Errorf("configure NATS on %s: %w", options.StoreDir, err)
	}
	report := &natsReport{failed: make(chan struct{})}
	srv.SetLogger(report, false, false)
	go srv.Start()
	if !report.ready(srv) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, nil, fmt.Errorf("start NATS on %s: %s", options.StoreDir, report.last())
	}
	return srv, report, nil
}

func natsConfig(options NATSOptions) (*server.Options, error) {
	config := &server.Options{
		ServerName: "aione",
		Host:       options.Host,
		Port:       options.Port,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   options.StoreDir,
		// Acknowledged means on disk. Coalescing in the event log pays for it.
		SyncAlways:         true,
		MaxPayload:         options.PayloadMaxBytes,
		JetStreamMaxStore:  options.StoreMaxBytes,
		JetStreamMaxMemory: options.MemoryMaxBytes,
	}
	if config.Host == "" {
		config.Host = "127.0.0.1"
	}
	switch options.Port {
	case 0:
		config.Port = server.RANDOM_PORT
	case NATSPortNone:
		config.Port, config.DontListen = 0, true
	}
	if config.MaxPayload == 0 {
		config.MaxPayload = natsPayloadMaxDefault
	}
	// A pending limit below the payload limit is refused by the server.
	config.MaxPending = max(server.MAX_PENDING_SIZE, 2*int64(config.MaxPayload))
	if config.JetStreamMaxMemory == 0 {
		config.JetStreamMaxMemory = 256 << 20
	}
	if config.JetStreamMaxStore == 0 {
		bytes, err := storeLimitBytes(options.StoreDir)
		if err != nil {
			return nil, err
		}
		config.JetStreamMaxStore = bytes
	}
	return config, nil
}

// storeLimitBytes is what the store may grow to: what it has plus what is free.
func storeLimitBytes(dir string) (int64, error) {
	freeBytes, err := diskFreeBytes(dir)
	if err != nil {
		return 0, err
	}
	usedBytes, err := dirSizeBytes(dir)
	if err != nil {
		return 0, fmt.Errorf("measure the NATS store %s: %w", dir, err)
	}
	if freeBytes <= natsDiskHeadroomBytes {
		return 0, dirError("NATS", dir, syscall.ENOSPC)
	}
	return usedBytes + freeBytes - natsDiskHeadroomBytes, nil
}

func diskFreeBytes(dir string) (int64, error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return 0, fmt.Errorf("ask how much room %s has: %w", dir, err)
	}
	return int64(disk.Bavail) * int64(disk.Bsize), nil
}

func dirSizeBytes(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// checkWritable writes and syncs a real file, because permission bits do not
// show a read-only mount or a full disk.
func checkWritable(dir string) error {
	file, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(make([]byte, 64<<10))
	return errors.Join(err, file.Sync(), file.Close())
}

// Conn opens a connection inside the process: no socket, and it works with
// NATSPortNone. The caller closes it.
func (n *NATS) Conn(opts ...nats.Option) (*nats.Conn, error) {
	conn, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(n)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS: %w", err)
	}
	return conn, nil
}

// URL is the address for other processes on this machine, or "" if the server
// listens on no port.
func (n *NATS) URL() string {
	if n.options.Port == NATSPortNone {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server.ClientURL()
}

// Close stops the server and waits until its store is closed. It is safe to
// call more than once.
func (n *NATS) Close() {
	n.closeOnce.Do(func() {
		close(n.stop)
		<-n.watched
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.lock.release()
	})
}

// natsReport keeps what the server last complained about, because its start
// returns no error.
type natsReport struct {
	mu     sync.Mutex
	text   string
	write  string // the first complaint about a write that failed
	once   sync.Once
	failed chan struct{} // closed by the first fatal complaint
}

// ready waits until the server answers or has given up.
func (r *natsReport) ready(srv *server.Server) bool {
	for deadline := time.Now().Add(natsReadyWaitMax); time.Now().Before(deadline); {
		if srv.ReadyForConnections(100 * time.Millisecond) {
			return true
		}
		select {
		case <-r.failed:
			return false
		default:
		}
	}
	return false
}

func (r *natsReport) keep(format string, v ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = fmt.Sprintf(format, v...)
	if _, why, ok := strings.Cut(r.text, natsWriteError); ok && r.write == "" {
		r.write = why
	}
}

func (r *natsReport) writeError() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write
}

func (r *natsReport) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.text == "" {
		return fmt.Sprintf("not ready within %s", natsReadyWaitMax)
	}
	return r.text
}

func (r *natsReport) Noticef(string, ...any) {}
func (r *natsReport) Debugf(string, ...any)  {}
func (r *natsReport) Tracef(string, ...any)  {}

func (r *natsReport) Warnf(format string, v ...any)  { r.keep(format, v...) }
func (r *natsReport) Errorf(format string, v ...any) { r.keep(format, v...) }

func (r *natsReport) Fatalf(format string, v ...any) {
	r.keep(format, v...)
	r.once.Do(func() { close(r.failed) })
}
