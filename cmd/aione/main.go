// Command aione is the whole platform in one process, and its operator's command
// line.
//
//	aione up          NATS, ClickHouse, gateway, API, ingest and invoicer together
//	aione demo        a month of real traffic, from HTTP request to proven invoice
//	aione verify      proves log = rows = usage = invoices, or says what differs
//	aione rebuild     makes the rows anew from the log
//	aione quarantine  what was set aside, and its replay
//	aione admin       orgs, teams, keys, prices, plans, credits, payments, invoices, limits
//	aione explain     how a line of an invoice comes about
//	aione export      FOCUS, journals for the accounts, lines of an invoice
//	aione bench       measures, side by side with a ceiling
//	aione engines     only NATS and ClickHouse, for separate services
//	aione engine      installs the ClickHouse library
//
// It holds flags and output; what it does is done by the packages it
// calls.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"time"

	"github.com/alecthomas/kong"

	"aione/embedded"
	"aione/node"
	"aione/process"
)

// globals are flags of every command.
type globals struct {
	JSON    bool   `name:"json" help:"Print JSON instead of tables and progress."`
	Verbose bool   `short:"v" help:"Log what happens inside to standard error."`
	Pepper  string `env:"AIONE_PEPPER" help:"Secret of the keys' hashes, base64, 32 bytes or more; or several as VERSION:BASE64, with commas between, of which the highest makes new keys. Default: made once and kept in the data directory."`
	node.KeyConfig
	node.EngineConfig
}

type cli struct {
	globals

	Up         upCmd         `cmd:"" help:"Run everything in this process until it is stopped."`
	Demo       demoCmd       `cmd:"" help:"Send a real trace through the platform and prove the invoices."`
	Verify     verifyCmd     `cmd:"" help:"Prove log = rows = usage = invoices; exit 1 and say what differs."`
	Rebuild    rebuildCmd    `cmd:"" help:"Make the rows anew from the log, compare, exchange."`
	Quarantine quarantineCmd `cmd:"" help:"Events that were set aside."`
	Admin      adminCmd      `cmd:"" help:"Orgs, teams, keys, prices, plans, credits, payments, invoices, limits."`
	Explain    explainCmd    `cmd:"" help:"How a line of an invoice comes about, down to its events."`
	Export     exportCmd     `cmd:"" help:"Documents and tables for finance: FOCUS, journals, lines of an invoice."`
	Bench      benchCmd      `cmd:"" help:"Measure, side by side with a ceiling taken in the same run."`
	Engines    enginesCmd    `cmd:"" help:"Run only NATS and ClickHouse, for separate services."`
	Engine     engineCmd     `cmd:"" help:"The ClickHouse library."`
}

// errFailed is returned when a command has already said what is wrong.
var errFailed = errors.New("failed")

func main() {
	embedded.RunChildIfAsked()
	os.Exit(run(process.Context(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	out := &output{stdout: stdout, stderr: stderr}
	parser, err := kong.New(&c, kong.Name("aione"), kong.Writers(stdout, stderr),
		kong.Description("An LLM API platform whose bill can be proven."),
		kong.TypeMapper(reflect.TypeFor[time.Time](), kong.MapperFunc(decodeInstant)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(out))
	if err != nil {
		fmt.Fprintln(stderr, "aione:", err)
		return 2
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		parser.FatalIfErrorf(err)
	}
	out.json = c.JSON
	err = parsed.Run(&c.globals)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 130
	case !errors.Is(err, errFailed):
		fmt.Fprintln(stderr, "aione:", err)
	}
	return 1
}

// decodeInstant reads a flag that is an instant.
func decodeInstant(c *kong.DecodeContext, to reflect.Value) error {
	var text string
	if err := c.Scan.PopValueInto("time", &text); err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is not an instant like 2027-01-31T16:00:00Z or 2027-02-01T00:00:00+08:00", text)
	}
	to.Set(reflect.ValueOf(at))
	return nil
}

// logger is quiet unless asked: commands speak through their output.
func (g *globals) logger(stderr io.Writer) *slog.Logger { return process.Logger(stderr, g.Verbose) }

// open opens a node for the time of a command: beside a running one on the same
// data directory if there is one, else with engines of its own. It begins no
// platform: who is in the wrong directory would be shown an empty one in order.
func (g *globals) open(ctx context.Context, out *output) (*node.Node, error) {
	engines := g.EngineConfig.JoinRunning()
	if !engines.Begun() {
		return nil, fmt.Errorf("there is no platform in %s: begin one with `aione up`, or say with --data or AIONE_DATA where it is", g.DataDir)
	}
	return node.Open(ctx, node.Config{Engines: engines, Pepper: g.Pepper, Keys: g.KeyConfig, Logger: g.logger(out.stderr)})
}
