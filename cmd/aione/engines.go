package main

import (
	"context"
	"io"
	"os"

	"aione/embedded"
	"aione/node"
)

type enginesCmd struct{}

// Run runs NATS and ClickHouse until it is stopped.
func (c *enginesCmd) Run(ctx context.Context, g *globals, out *output) error {
	e, err := node.OpenEngines(ctx, g.EngineConfig, g.logger(out.stderr))
	if err != nil {
		return err
	}
	defer e.Close()
	at := node.Endpoints{NATSURL: e.NATSURL, ClickHouseDSN: e.ClickHouseDSN, PID: os.Getpid()}
	err = out.result(at, func() {
		out.say("NATS_URL=%s", at.NATSURL)
		out.say("CLICKHOUSE_DSN=%s", at.ClickHouseDSN)
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

type engineCmd struct {
	Install engineInstallCmd `cmd:"" help:"Fetch the pinned ClickHouse library with npm into the cache, if it is not there."`
	Path    enginePathCmd    `cmd:"" help:"Print where the library is."`
}

type engineInstallCmd struct{}

// Run installs the library. It is idempotent.
func (c *engineInstallCmd) Run(ctx context.Context, out *output) error {
	var progress io.Writer = out.stderr
	path, err := embedded.InstallLibrary(ctx, progress)
	if err != nil {
		return err
	}
	return out.result(map[string]string{"library": path}, func() { out.say("%s", path) })
}

type enginePathCmd struct{}

// Run prints the library's path.
func (c *enginePathCmd) Run(out *output) error {
	path, err := embedded.FindLibrary()
	if err != nil {
		return err
	}
	return out.result(map[string]string{"library": path}, func() { out.say("%s", path) })
}
