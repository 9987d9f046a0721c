// Command api serves the chat gateway, usage, dashboards and invoices.
//
// It holds flags only; the role is node's.
package main

import (
	"context"
	"fmt"
	"os"

	"aione/node"
	"aione/process"
)

type config struct {
	node.EngineConfig
	node.ServeConfig
	node.KeyConfig
	node.AuditConfig
	Pepper  string `env:"AIONE_PEPPER" help:"Secret of the keys' hashes, base64, 32 bytes or more; or several as VERSION:BASE64, with commas between, of which the highest makes new keys. Default: made once and kept in the data directory."`
	Verbose bool   `short:"v" help:"Log what happens inside."`
}

func main() {
	var c config
	process.Main("api", "Serves the chat gateway, usage, dashboards and invoices.", &c, func(ctx context.Context) error {
		n, err := node.Open(ctx, node.Config{Engines: c.EngineConfig, Logger: process.Logger(os.Stderr, c.Verbose), Pepper: c.Pepper, Keys: c.KeyConfig})
		if err != nil {
			return err
		}
		defer n.Close()
		api, err := n.Listen(c.ServeConfig)
		if err != nil {
			return err
		}
		fmt.Println(api.URL)
		return n.Run(ctx, api.Run, func(ctx context.Context) error { return n.Audit(ctx, c.AuditConfig) })
	})
}
