package main

import (
	"context"
	"errors"
	"fmt"

	"aione/analytics"
)

type quarantineCmd struct {
	List   quarantineListCmd   `cmd:"" default:"1" help:"List what was set aside, oldest first."`
	Replay quarantineReplayCmd `cmd:"" help:"Publish what was set aside once more."`
}

type quarantineListCmd struct {
	Limit int `default:"100" help:"How many to list."`
}

// Run lists the quarantine.
func (c *quarantineListCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	items, err := n.Projection.Quarantine(ctx, c.Limit)
	if err != nil {
		return err
	}
	return out.result(items, func() {
		if len(items) == 0 {
			out.say("Nothing is in quarantine.")
			return
		}
		var rows [][]string
		for _, q := range items {
			rows = append(rows, []string{fmt.Sprintf("%d/%d/%d", q.Shard, q.Seq, q.Idx), q.Kind, q.RecordedAt.Format("2006-01-02 15:04:05"), q.EventID.String(), q.Reason})
		}
		out.table("Quarantine (replay with: aione quarantine replay SHARD/SEQ/IDX)", []string{"place", "kind", "recorded (UTC)", "event", "reason"}, rows)
	})
}

type quarantineReplayCmd struct {
	Places []string `arg:"" optional:"" help:"SHARD/SEQ/IDX of what to replay."`
	All    bool     `help:"Replay all undecodable events. Conflicts are replayed only by name: each is a decision."`
}

// Run replays.
func (c *quarantineReplayCmd) Run(ctx context.Context, g *globals, out *output) error {
	if len(c.Places) == 0 && !c.All {
		return errors.New("name what to replay, or --all; `aione quarantine list` shows what there is")
	}
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	const all = 1 << 20
	items, err := n.Projection.Quarantine(ctx, all)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, p := range c.Places {
		wanted[p] = true
	}
	replayed, staying := map[string]int{}, 0
	for _, q := range items {
		place := fmt.Sprintf("%d/%d/%d", q.Shard, q.Seq, q.Idx)
		if !wanted[place] && !(c.All && q.Kind == "undecodable") {
			continue
		}
		delete(wanted, place)
		events, err := analytics.Replay(ctx, n.Log, q)
		if errors.Is(err, analytics.ErrStillUndecodable) && c.All {
			staying++
			out.say("%s stays: %v", place, err)
			continue
		}
		if err != nil {
			return err
		}
		replayed[place] = events
		out.say("%s replayed: %d events", place, events)
	}
	for place := range wanted {
		return fmt.Errorf("%s is not in quarantine", place)
	}
	return out.result(replayed, func() {
		if len(replayed)+staying == 0 {
			out.say("Nothing that cannot be read is in quarantine.")
		}
	})
}
