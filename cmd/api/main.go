// Command api serves the chat gateway, usage, dashboards and invoices.
//
// It holds flags, signals and exit codes only; the role is node's.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // zones must not depend on what the machine has installed

	"github.com/alecthomas/kong"

	"aione/embedded"
	"aione/node"
)

type config struct {
	node.EngineConfig
	node.ServeConfig
	node.KeyConfig
	node.AuditConfig
	Pepper  string `env:"AIONE_PEPPER" help:"Secret of the keys' hashes, base64, 32 bytes or more. Default: made once and kept in the data directory."`
	Verbose bool   `short:"v" help:"Log what happens inside."`
}

func main() {
	embedded.RunChildIfAsked()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	var c config
	kong.Parse(&c, kong.Name("api"), kong.Description("Serves the chat gateway, usage, dashboards and invoices."))
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// run runs the role until ctx ends.
func run(ctx context.Context, c config) error {
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	n, err := node.Open(ctx, node.Config{Engines: c.EngineConfig, Logger: logger, Pepper: c.Pepper, Keys: c.KeyConfig})
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
}
