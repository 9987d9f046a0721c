package analytics

import (
	"context"
	"testing"
)

// Events that are counted while a rebuild is at work are in the rows that it makes:
// once it has the shard for itself, it takes in what has come since.
func TestRebuildTakesInWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := crashLog(t, r, seedOf(t))
	r.ingest()
	report, err := Rebuild{Store: r.store, Log: r.log, Alone: func(context.Context) (func(), error) {
		c.publish(r, 3) // the last that the other writer does
		r.ingest()
		return func() {}, nil
	}}.Run(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Same || !report.Exchanged || report.Rows != c.oracle.rows {
		t.Fatalf("rebuild of %d rows: %+v", c.oracle.rows, report)
	}
	r.wantExactly(c)
}
