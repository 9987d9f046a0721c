package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"

	"aione/analytics"
	"aione/embedded"
	"aione/events"
)

// rig is the engines of one measurement, as `aione up` has them: NATS in this
// process with an fsync for every message, ClickHouse in a child.
type rig struct {
	options    Options
	dir        string
	clickHouse *embedded.ClickHouse
	nats       *embedded.NATS
	conn       *nats.Conn
	log        *events.Log
	stores     []*analytics.Store
}

// openRig starts ClickHouse, and the event log if withLog says so.
func openRig(ctx context.Context, o Options, m *Machine, withLog bool) (_ *rig, err error) {
	r := &rig{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.dir, err = os.MkdirTemp(o.Dir, "aione-bench-*"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	r.clickHouse, err = embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{DataDir: filepath.Join(r.dir, "clickhouse"), Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	m.ClickHouse = r.clickHouse.Version()
	if !withLog {
		return r, nil
	}
	if r.nats, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: filepath.Join(r.dir, "nats"), Port: embedded.NATSPortNone}); err != nil {
		return nil, err
	}
	if r.conn, err = r.nats.Conn(nats.MaxReconnects(-1)); err != nil {
		return nil, err
	}
	r.log, err = events.Open(ctx, r.conn, events.Options{Logger: o.Logger})
	return r, err
}

// store opens a database of the given name, with the tables of production.
func (r *rig) store(ctx context.Context, database string) (*analytics.Store, error) {
	s, err := analytics.Open(ctx, r.clickHouse.DSNFor(database), r.options.Logger)
	if err == nil {
		r.stores = append(r.stores, s)
	}
	return s, err
}

// driver connects to a database with nothing of ours in between.
func (r *rig) driver(database string) (driver.Conn, error) {
	return connect(r.clickHouse.DSNFor(database))
}

func connect(dsn string) (driver.Conn, error) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	return clickhouse.Open(options)
}

// close stops everything and removes the directory.
func (r *rig) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeMax)
	defer cancel()
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close(ctx))
	}
	for _, s := range r.stores {
		errs = append(errs, s.Close())
	}
	if r.clickHouse != nil {
		errs = append(errs, r.clickHouse.Close())
	}
	if r.conn != nil {
		r.conn.Close()
	}
	if r.nats != nil {
		r.nats.Close()
	}
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}

func clickHouseVersion(ctx context.Context, dsn string) (version string, err error) {
	conn, err := connect(dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return "", fmt.Errorf("ask ClickHouse for its version: %w", err)
	}
	return version, nil
}

// logBytesPerEvent is what the log takes on disk for an event.
func (r *rig) logBytesPerEvent(n int) (float64, error) {
	var total int64
	err := filepath.WalkDir(filepath.Join(r.dir, "nats"), func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure the log: %w", err)
	}
	return round(float64(total)/float64(n), 1), nil
}
