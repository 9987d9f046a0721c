// Command ingest copies the usage log into ClickHouse rows, exactly once.
//
// It holds flags only; the role is node's.
package main

import (
	"context"
	"os"

	"aione/node"
	"aione/process"
)

type config struct {
	node.EngineConfig
	node.IngestConfig
	Verbose bool `short:"v" help:"Log what happens inside."`
}

func main() {
	var c config
	process.Main("ingest", "Copies the usage log into ClickHouse rows, exactly once.", &c, func(ctx context.Context) error {
		n, err := node.Open(ctx, node.Config{Engines: c.EngineConfig, Logger: process.Logger(os.Stderr, c.Verbose), NoKeys: true})
		if err != nil {
			return err
		}
		defer n.Close()
		return n.Run(ctx, func(ctx context.Context) error { return n.Ingest(ctx, c.IngestConfig) })
	})
}
