package analytics

import (
	"testing"
	"time"
)

// benchRows is the size of the log that benchmarks read: enough for many batches.
func benchRows() int { return rounds(200_000, 2_000_000) }

// fillLog publishes n events in envelopes as a busy gateway makes them.
func fillLog(b *testing.B, r *rig, n int) {
	b.Helper()
	g := newUsageGen(1, 50, simStart)
	for left := n; left > 0; left -= 2000 {
		r.publish(g.take(min(left, 2000))...)
	}
}

// BenchmarkIngest reads a log into rows; BenchmarkBareInsert inserts the same
// rows in the same batches and does nothing else. Their ratio is what reading,
// decoding, recognising copies and minding crashes cost.
func BenchmarkIngest(b *testing.B) {
	r := newRig(b)
	n := benchRows()
	fillLog(b, r, n)
	for b.Loop() {
		r.exec("TRUNCATE TABLE usage_events")
		start := time.Now()
		r.ingest(func(in *Ingester) { in.BatchRows, in.BatchAge = DefaultBatchRows, DefaultBatchAge })
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "rows/s")
	}
}

func BenchmarkBareInsert(b *testing.B) {
	r := newRig(b)
	n := benchRows()
	g := newUsageGen(1, 50, simStart)
	var batches []*rows
	for done := 0; done < n; {
		batch := &rows{}
		for range min(DefaultBatchRows, n-done) {
			u := g.next()
			batch.add(place{seq: uint64(1 + done/2000), idx: done % 2000, recordedAt: simStart}, &u)
			done++
		}
		batches = append(batches, batch)
	}
	for b.Loop() {
		r.exec("TRUNCATE TABLE usage_events")
		start := time.Now()
		for _, batch := range batches {
			if err := r.store.insert(r.ctx, "", batch, forEver); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "rows/s")
	}
}

// BenchmarkRemember is the start of an ingester beside many rows.
func BenchmarkRemember(b *testing.B) {
	r := newRig(b)
	n := benchRows()
	fillLog(b, r, n)
	r.ingest(func(in *Ingester) { in.BatchRows, in.BatchAge = DefaultBatchRows, DefaultBatchAge })
	for b.Loop() {
		in := r.ingester()
		start := time.Now()
		if err := in.remember(r.ctx, in.Until); err != nil {
			b.Fatal(err)
		}
		if in.seen.Len() < uint64(n)*99/100 {
			b.Fatalf("the filter remembers %d of %d ids", in.seen.Len(), n)
		}
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/float64(n), "ns/id")
	}
}
