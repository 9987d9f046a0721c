package node

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Whoever has the shards for itself is not disturbed by the writers it took them
// from, and these go on afterwards.
func TestAloneStopsTheWriters(t *testing.T) {
	n, api, first := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	writing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Ingest(writing, IngestConfig{BatchAge: time.Millisecond, LeaseTTL: time.Second}) }()
	defer func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	chat := func() {
		t.Helper()
		post(t, api.URL+"/v1/chat/completions", first.ChatKey, `{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}`)
	}
	rows := func() uint64 {
		t.Helper()
		c, err := n.Projection.Checkpoint(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		return c.Rows
	}
	chat()
	if err := n.Projection.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	release, err := n.Alone(ctx, rebuildLease)
	if err != nil {
		t.Fatal(err)
	}
	before := rows()
	chat()
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := rows(); got != before {
			t.Fatalf("%d rows became %d beside a writer that has the shard for itself", before, got)
		}
	}
	release()
	if err := n.Projection.CaughtUp(ctx); err != nil {
		t.Fatalf("after the release the rows do not reach the log's end: %v", err)
	}
}
