package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"

	"aione/billing"
	"aione/documents"
	"aione/ledger"
)

type exportCmd struct {
	Focus   exportFocusCmd   `cmd:"" help:"Cost and usage of an org by FOCUS, as CSV."`
	Journal exportJournalCmd `cmd:"" help:"Journals of an org for an accounting system, as CSV."`
	CSV     exportCSVCmd     `cmd:"" name:"csv" help:"The lines of an invoice, as CSV."`
}

// exportTo is where an export goes.
type exportTo struct {
	Out string `short:"o" help:"File to write. Default: standard output."`
	BOM bool   `name:"bom" help:"Begin with a byte order mark, for spreadsheets that take it for another encoding else."`
}

// exportDays is which days of an org an export is about.
type exportDays struct {
	exportTo
	Org  string `arg:"" help:"Org, by name or id."`
	From string `help:"First day, YYYY-MM-DD in the org's zone. Default: a year before the last."`
	To   string `help:"Last day, inclusive. Default: today."`
}

func (c *exportDays) selection(s *session) (billing.Org, documents.Selection, error) {
	org, err := s.org(c.Org)
	if err != nil {
		return org, documents.Selection{}, err
	}
	x := documents.Selection{OrgID: org.ID}
	if x.Zone, err = s.Book.Zone(org.ID); err != nil {
		return org, x, err
	}
	if x.Anchor, err = s.Book.Anchor(org.ID); err != nil {
		return org, x, err
	}
	x.Last = ledger.DateOf(s.Clock(), x.Zone)
	for _, day := range []struct {
		text, flag string
		to         *ledger.Date
	}{{c.To, "to", &x.Last}, {c.From, "from", &x.First}} {
		if day.flag == "from" {
			x.First = x.Last.AddDays(-365)
		}
		if day.text == "" {
			continue
		}
		if err := day.to.UnmarshalText([]byte(day.text)); err != nil {
			return org, x, fmt.Errorf("--%s: %w", day.flag, err)
		}
	}
	if x.Last.Before(x.First) {
		return org, x, fmt.Errorf("the export would end on %s, before it starts on %s", x.Last, x.First)
	}
	return org, x, nil
}

// write writes an export where it goes. A file is there when all of it is, and what
// was there before stays until then.
func (c *exportTo) write(out *output, export func(w io.Writer) error) error {
	if c.Out == "" {
		if out.json {
			return fmt.Errorf("an export is CSV: name a file with --out to have it beside --json")
		}
		return c.marked(out.stdout, export)
	}
	path := c.Out + ".part"
	at, err := os.Stat(c.Out)
	device := err == nil && !at.Mode().IsRegular()
	if device { // a pipe or a terminal is written to, not replaced
		path = c.Out
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	err = errors.Join(c.marked(f, export), f.Close())
	switch {
	case device:
	case err == nil:
		err = os.Rename(path, c.Out)
	default:
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return err
	}
	return out.result(map[string]string{"file": c.Out}, func() { out.say("%s", c.Out) })
}

func (c *exportTo) marked(w io.Writer, export func(w io.Writer) error) error {
	if c.BOM {
		if _, err := io.WriteString(w, "\ufeff"); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
	}
	return export(w)
}

type exportFocusCmd struct{ exportDays }

// Run exports FOCUS.
func (c *exportFocusCmd) Run(ctx context.Context, g *globals, out *output) error {
	s, err := g.admin(ctx, out, "")
	if err != nil {
		return err
	}
	defer s.Close()
	org, x, err := c.selection(s)
	if err != nil {
		return err
	}
	teams, err := s.Book.Teams(org.ID)
	if err != nil {
		return err
	}
	names := make(map[uuid.UUID]string, len(teams))
	for _, t := range teams {
		names[t.ID] = t.Name
	}
	from := documents.FocusSources{
		TeamNames: names,
		Maker: func(model string) string {
			m, _ := s.Catalog.Resolve(model)
			return m.Provider
		},
		UsedByTeam: func(inv ledger.Invoice) ([]ledger.TeamQuantity, error) {
			return s.Projection.TeamQuantities(ctx, s.Book.InputsQueryOf(inv))
		},
	}
	return c.write(out, func(w io.Writer) error { return documents.Focus(w, s.Book, x, from) })
}

type exportJournalCmd struct {
	exportDays
	Chart string `type:"existingfile" help:"JSON file with your account codes and names by kind of account, such as {\"cash\":{\"code\":\"1002\",\"name\":\"Bank\"}}. What it leaves out has the usual numbers of Chinese companies."`
}

// Run exports journals.
func (c *exportJournalCmd) Run(ctx context.Context, g *globals, out *output) error {
	chart := documents.DefaultChart()
	if c.Chart != "" {
		body, err := os.ReadFile(c.Chart)
		if err != nil {
			return fmt.Errorf("read the chart of accounts: %w", err)
		}
		if chart, err = documents.ParseChart(body); err != nil {
			return fmt.Errorf("read the chart of accounts in %s: %w", c.Chart, err)
		}
	}
	s, err := g.admin(ctx, out, "")
	if err != nil {
		return err
	}
	defer s.Close()
	_, x, err := c.selection(s)
	if err != nil {
		return err
	}
	return c.write(out, func(w io.Writer) error { return documents.Journals(w, s.Book, x, chart) })
}

type exportCSVCmd struct {
	exportTo
	Invoice string `arg:"" help:"Number or id."`
}

// Run exports the lines of an invoice.
func (c *exportCSVCmd) Run(ctx context.Context, g *globals, out *output) error {
	s, inv, err := g.invoiceOf(ctx, out, "", c.Invoice)
	if err != nil {
		return err
	}
	defer s.Close()
	return c.write(out, func(w io.Writer) error { return documents.InvoiceCSV(w, inv) })
}
