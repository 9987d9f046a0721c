package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"aione/node"
)

// platform is a whole node that serves its API in this process, on engines and in a
// directory of its own; ingest is off, which other processes may do.
type platform struct {
	*node.Node
	options Options
	dir     string
	started time.Duration // what open took: engines, and the whole ledger read
	stop    func() error  // of what serves; nil while nothing does
}

// newPlatform makes the directory.
func newPlatform(o Options) (*platform, error) {
	dir, err := os.MkdirTemp(o.Dir, "aione-bench-*")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return &platform{options: o, dir: dir}, nil
}

// open starts the engines and a process on what they hold. The pepper is base64;
// default: one that the node makes.
func (p *platform) open(ctx context.Context, m *Machine, pepper string) (err error) {
	began := time.Now()
	engines := node.EngineConfig{DataDir: p.dir, Shards: 1, Replicas: 1}
	if p.Node, err = node.Open(ctx, node.Config{Engines: engines, Pepper: pepper, Logger: p.options.Logger}); err != nil {
		return err
	}
	p.started = time.Since(began)
	m.ClickHouse, err = clickHouseVersion(ctx, p.Engines.ClickHouseDSN)
	return err
}

// serve starts the API and returns where it is.
func (p *platform) serve(ctx context.Context, c node.ServeConfig) (url string, err error) {
	c.Addr, c.SweepEvery = "127.0.0.1:0", time.Minute
	api, err := p.Listen(c)
	if err != nil {
		return "", err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(running, api.Run) }()
	p.stop = func() error {
		stop()
		return <-ended
	}
	return api.URL, nil
}

// stopServing ends what serve started.
func (p *platform) stopServing() error {
	if p.stop == nil {
		return nil
	}
	stop := p.stop
	p.stop = nil
	return stop()
}

// close stops everything and removes the directory.
func (p *platform) close() error {
	err := p.stopServing()
	if p.Node != nil {
		err = errors.Join(err, p.Close())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
