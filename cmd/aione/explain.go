package main

import (
	"context"
	"fmt"
	"time"

	"aione/catalog"
	"aione/ledger"
)

type explainCmd struct {
	Invoice string `arg:"" help:"Number or id."`
	Line    int    `arg:"" help:"Number of the line, from 1."`
	Events  int    `default:"10" help:"How many of the events behind it to show."`
}

// told is what is said of a line.
type told struct {
	Invoice string           `json:"invoice"`
	N       int              `json:"n"`
	Line    ledger.Line      `json:"line"`
	Steps   []string         `json:"steps"`
	Prices  []catalog.Price  `json:"prices"`
	Total   int              `json:"events_total"`
	Events  []explainedEvent `json:"events"`
}

type explainedEvent struct {
	Bucket ledger.Bucket `json:"bucket"`
	shownEvent
}

// Run explains a line.
func (c *explainCmd) Run(ctx context.Context, g *globals, out *output) error {
	s, inv, err := g.invoiceOf(ctx, out, "", c.Invoice)
	if err != nil {
		return err
	}
	defer s.Close()
	steps, err := ledger.Explain(inv, c.Line)
	if err != nil {
		return err
	}
	t := told{Invoice: inv.Number, N: c.Line, Line: inv.Lines[c.Line-1], Steps: steps, Prices: []catalog.Price{}, Events: []explainedEvent{}}
	if p, ok := inv.PriceOf(t.Line.PriceVersion); ok {
		t.Prices = append(t.Prices, p)
	}
	for _, part := range inv.UsageOf(c.Line) {
		found, total, err := s.Projection.LineEvents(ctx, s.Book.InputsQueryOf(inv), part, max(c.Events-len(t.Events), 0), 0)
		if err != nil {
			return err
		}
		t.Total += total
		for _, u := range found {
			t.Events = append(t.Events, explainedEvent{part.Bucket, newShownEvent(u)})
		}
	}
	return out.result(t, func() { out.explained(&t) })
}

// explained prints what is said of a line.
func (o *output) explained(t *told) {
	for i, step := range t.Steps {
		if i == 0 {
			o.say("%s", step)
			continue
		}
		o.say("  %s", step)
	}
	for _, p := range t.Prices {
		o.say("\nPrice version %s of %s, in force from %s, in %s per 1,000,000 tokens:", p.Version, p.Model, p.EffectiveFrom.Format(time.RFC3339), p.Currency)
		o.say("  input %s, cached input %s, output %s, reasoning %s", p.Input, p.CacheRead, p.Output, p.Reasoning)
	}
	if t.Total == 0 {
		return
	}
	var rows [][]string
	for _, e := range t.Events {
		rows = append(rows, []string{e.ID.String(), e.OccurredAt.Format("2006-01-02T15:04:05.000Z07:00"), e.Model, string(e.Bucket),
			thousands(e.Bucket.Of(e.Tokens, e.Images)), e.Cost.String()})
	}
	o.table(fmt.Sprintf("%s events are behind it, here %d", thousands(uint64(t.Total)), len(t.Events)),
		[]string{"event", "occurred", "model", "bucket", "quantity", "cost of the whole event"}, rows)
}
