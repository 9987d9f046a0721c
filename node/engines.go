package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"aione/embedded"
)

// EngineConfig says where NATS and ClickHouse are. With neither URL set, both
// run embedded on DataDir.
type EngineConfig struct {
	DataDir        string `name:"data" env:"AIONE_DATA" default:"data" help:"Directory of the embedded engines, keys' pepper and endpoints." type:"path"`
	NATSURL        string `name:"nats-url" env:"NATS_URL" help:"NATS servers to use instead of the embedded one."`
	ClickHouseDSN  string `name:"clickhouse-dsn" env:"CLICKHOUSE_DSN" help:"ClickHouse to use instead of the embedded one, for example clickhouse://host:9000/aione."`
	NATSPort       int    `name:"nats-port" env:"AIONE_NATS_PORT" default:"0" help:"Port of the embedded NATS on 127.0.0.1, so that other services find it again after a restart. Default: a free one."`
	ClickHousePort int    `name:"clickhouse-port" env:"AIONE_CLICKHOUSE_PORT" default:"0" help:"The same for the embedded ClickHouse."`

	Shards   int `name:"shards" env:"AIONE_SHARDS" default:"1" help:"Usage streams; fixed when the log is created."`
	Replicas int `name:"replicas" env:"AIONE_REPLICAS" default:"1" help:"Replicas of each stream; 3 in a cluster."`
}

// Engines are NATS and ClickHouse, embedded or not.
type Engines struct {
	NATS          *nats.Conn
	ClickHouseDSN string

	NATSURL  string // for other processes on this machine
	Embedded bool   // this process runs at least one of them

	nats       *embedded.NATS
	clickhouse *embedded.ClickHouse
	endpoints  string // file that tells others where the embedded ones are; empty if none
}

// Endpoints tell other processes on the machine where a running node is.
type Endpoints struct {
	NATSURL       string `json:"nats_url"`
	ClickHouseDSN string `json:"clickhouse_dsn"`
	HTTPURL       string `json:"http_url,omitempty"`
	PID           int    `json:"pid"`
}

const database = "aione"

// natsDir is there from a node's first start on.
func natsDir(dataDir string) string { return filepath.Join(dataDir, "nats") }

// endpointsFile is private to the user: whoever reads it can write the log.
func endpointsFile(dataDir string) string { return filepath.Join(dataDir, "endpoints.json") }

// OpenEngines connects to what c names and starts what it does not name.
func OpenEngines(ctx context.Context, c EngineConfig, logger *slog.Logger) (_ *Engines, err error) {
	e := &Engines{ClickHouseDSN: c.ClickHouseDSN, NATSURL: c.NATSURL}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if c.NATSURL == "" || c.ClickHouseDSN == "" {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("make the data directory: %w", err)
		}
		e.Embedded = true
	}
	if c.NATSURL == "" {
		if e.nats, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: natsDir(c.DataDir), Port: c.NATSPort, Logger: logger}); err != nil {
			return nil, fmt.Errorf("start the embedded NATS: %w", err)
		}
		roomForCommits()
		e.NATSURL = e.nats.URL()
		e.NATS, err = e.nats.Conn(natsOptions(logger)...)
	} else {
		e.NATS, err = nats.Connect(c.NATSURL, natsOptions(logger)...)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if c.ClickHouseDSN == "" {
		e.clickhouse, err = embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{DataDir: filepath.Join(c.DataDir, "clickhouse"), Port: c.ClickHousePort, Logger: logger})
		if err != nil {
			return nil, fmt.Errorf("start the embedded ClickHouse: %w", err)
		}
		e.ClickHouseDSN = e.clickhouse.DSNFor(database)
	}
	if e.nats != nil && e.clickhouse != nil {
		if err := e.announce(c.DataDir, ""); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// natsOptions reconnect for ever: the log being out of reach is waited for.
func natsOptions(logger *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name("aione"), nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("connection to NATS lost", "error", err)
			}
		}),
		// Without it the client prints to standard error by itself.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Info("the NATS client reports", "error", err)
		}),
	}
}

// announce writes the endpoints file.
func (e *Engines) announce(dataDir, httpURL string) error {
	body, err := json.MarshalIndent(Endpoints{NATSURL: e.NATSURL, ClickHouseDSN: e.ClickHouseDSN, HTTPURL: httpURL, PID: os.Getpid()}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the endpoints: %w", err)
	}
	file := endpointsFile(dataDir)
	if err := os.WriteFile(file+".new", append(body, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the endpoints: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write the endpoints: %w", err)
	}
	e.endpoints = file
	return nil
}

// RunningEndpoints reads where a node on dataDir is, and whether its NATS answers.
func RunningEndpoints(dataDir string) (Endpoints, bool) {
	var at Endpoints
	body, err := os.ReadFile(endpointsFile(dataDir))
	if err != nil || json.Unmarshal(body, &at) != nil {
		return Endpoints{}, false
	}
	nc, err := nats.Connect(at.NATSURL, nats.Timeout(time.Second), nats.NoReconnect())
	if err != nil {
		return Endpoints{}, false
	}
	nc.Close()
	return at, true
}

// JoinRunning fills in the engines of a node that runs on the same data
// directory, if there is one, so that a command works beside it.
func (c EngineConfig) JoinRunning() EngineConfig {
	if c.NATSURL != "" || c.ClickHouseDSN != "" {
		return c
	}
	if at, ok := RunningEndpoints(c.DataDir); ok {
		c.NATSURL, c.ClickHouseDSN = at.NATSURL, at.ClickHouseDSN
	}
	return c
}

// Begun reports whether there is a platform to work on: other servers are named, or
// a node has been on DataDir.
func (c EngineConfig) Begun() bool {
	if c.NATSURL != "" {
		return true
	}
	_, err := os.Stat(natsDir(c.DataDir))
	return err == nil
}

// Restarts counts how often the embedded ClickHouse has died and come back.
func (e *Engines) Restarts() int {
	if e.clickhouse == nil {
		return 0
	}
	return e.clickhouse.Restarts()
}

// Check says what keeps the embedded log from taking events, such as a full disk.
// A log elsewhere is not its matter.
func (e *Engines) Check() error {
	if e.nats == nil {
		return nil
	}
	return e.nats.Check()
}

// Close stops what this process runs: ClickHouse, then the log's connection, then
// the log itself. It is idempotent.
func (e *Engines) Close() error {
	var errs []error
	if e.endpoints != "" {
		if err := os.Remove(e.endpoints); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the endpoints: %w", err))
		}
	}
	if e.clickhouse != nil {
		errs = append(errs, e.clickhouse.Close())
	}
	if e.NATS != nil {
		e.NATS.Close()
	}
	if e.nats != nil {
		e.nats.Close()
	}
	return errors.Join(errs...)
}
