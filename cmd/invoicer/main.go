// Command invoicer closes the periods that have ended and issues their invoices.
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
	node.InvoiceConfig
	node.AuditConfig
	Verbose bool `short:"v" help:"Log what happens inside."`
}

func main() {
	var c config
	process.Main("invoicer", "Closes the periods that have ended and issues their invoices.", &c, func(ctx context.Context) error {
		n, err := node.Open(ctx, node.Config{Engines: c.EngineConfig, Logger: process.Logger(os.Stderr, c.Verbose), NoKeys: true})
		if err != nil {
			return err
		}
		defer n.Close()
		return n.Run(ctx,
			func(ctx context.Context) error { return n.Invoice(ctx, c.InvoiceConfig) },
			func(ctx context.Context) error { return n.Audit(ctx, c.AuditConfig) })
	})
}
