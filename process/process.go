// Package process is what the programs of this module have around them: signals,
// flags, logging and the exit code.
package process

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // zones must not depend on what the machine has installed

	"github.com/alecthomas/kong"

	"aione/embedded"
)

// Main is the main function of a program that has one role: it reads flags and
// environment into config, a pointer to a struct with kong's tags, and calls run,
// which returns soon after its context ends. An error is printed and the exit code
// is 1; flags that are wrong end the program with kong's words and 80.
func Main(name, description string, config any, run func(context.Context) error) {
	embedded.RunChildIfAsked()
	ctx := Context()
	kong.Parse(config, kong.Name(name), kong.Description(description))
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// Context ends with the first SIGINT or SIGTERM. A second one ends the process at
// once.
func Context() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop()
	}()
	return ctx
}

// Logger writes warnings and errors to w, and if verbose what happens besides.
func Logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
