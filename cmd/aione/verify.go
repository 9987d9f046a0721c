package main

import (
	"context"
	"fmt"
	"time"
)

type verifyCmd struct {
	Wait time.Duration `default:"30s" help:"How long to wait for rows that are still on their way."`
}

// Run proves log = rows = usage = invoices.
func (c *verifyCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	v, err := n.Verify(ctx, c.Wait, out.progress("compare log and rows"))
	if err != nil {
		return err
	}
	if err := out.result(v, func() { out.verification(v) }); err != nil {
		return err
	}
	if !v.OK {
		return errFailed
	}
	return nil
}

type rebuildCmd struct {
	CompareOnly bool `help:"Compare the new rows with the old ones, and leave the old ones in place."`
}

// Run makes the rows anew from the log.
func (c *rebuildCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	report, err := n.Rebuild(ctx, c.CompareOnly, out.progress("rebuild"))
	if err != nil {
		return err
	}
	return out.result(report, func() {
		var rows [][]string
		for _, s := range report.Shards {
			rows = append(rows,
				[]string{fmt.Sprint(s.Shard), "before", thousands(s.Before.Rows), thousands(s.Before.Counted), thousands(s.Before.Duplicates), s.Before.Cost.StringFixed(6), fmt.Sprintf("%016x", s.Before.Digest)},
				[]string{"", "after", thousands(s.After.Rows), thousands(s.After.Counted), thousands(s.After.Duplicates), s.After.Cost.StringFixed(6), fmt.Sprintf("%016x", s.After.Digest)})
		}
		out.table("Rows, before and after", []string{"shard", "", "rows", "counted", "duplicates", "cost", "digest"}, rows)
		switch {
		case report.Same:
			out.say("\nThe rows made anew from the log are identical to the old ones.")
		case report.Exchanged:
			out.say("\nThe old rows differed from the log. They have been replaced.")
		default:
			out.say("\nThe old rows differ from the log. Run without --compare-only to replace them.")
		}
	})
}
