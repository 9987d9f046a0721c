package analytics

import (
	"testing"
	"time"
)

func TestIngestEachEventOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(1, 4, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	us := g.take(5000)
	for i := 0; i < len(us); i += 250 {
		r.publish(us[i : i+250]...)
	}
	// copies: in the same envelope, in later ones, and of another body
	other := us[7]
	other.Tokens.Output++
	r.publish(us[10], us[11], us[11], g.next(), us[4999], other)
	r.ingest()
	r.wantDispositions(map[string]uint64{"counted": 5001, "duplicate": 4, "conflict": 1})
	// and again after a restart, months later as far as the filter knows
	r.publish(us[0], us[2500], other)
	r.ingest()
	r.wantDispositions(map[string]uint64{"counted": 5001, "duplicate": 6, "conflict": 2})
	if c := r.checkpoint(); c.Seq != r.end() || c.Rows != 5009 || c.First != 1 {
		t.Fatalf("checkpoint = %+v, want rows 5009 up to sequence %d", c, r.end())
	}
	r.wantAudit()
}
