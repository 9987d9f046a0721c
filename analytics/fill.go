package analytics

import (
	"context"
	"fmt"
	"time"

	"aione/events"
)

// filler decodes envelopes into batches. A batch ends when it has enough rows,
// when the next envelope lies in another partition, when it is old enough, or at
// the end of the input; while the inserter is busy it goes on filling.
type filler struct {
	in   *Ingester
	out  chan<- *batch
	free <-chan *batch

	decoder events.Decoder
	usages  []events.Usage
	b       *batch // nil between two batches
	old     bool   // b has waited for BatchAge
	timer   *time.Timer
}

func (f *filler) run(ctx context.Context, messages <-chan events.Message) error {
	f.timer = time.NewTimer(f.in.BatchAge)
	defer f.timer.Stop()
	for {
		var ready chan<- *batch // nil, and so never chosen, until the batch is old enough
		if f.b != nil && f.old {
			ready = f.out
		}
		select {
		case ready <- f.b:
			f.b = nil
		case <-f.timer.C:
			f.old = true
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-messages:
			if !ok {
				return f.send(ctx)
			}
			if err := f.take(ctx, m); err != nil {
				return err
			}
		}
	}
}

// send hands the batch, if there is one, to the inserter.
func (f *filler) send(ctx context.Context) error {
	if f.b == nil {
		return nil
	}
	select {
	case f.out <- f.b:
		f.b = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take adds one envelope, whole, to the batch it belongs to.
func (f *filler) take(ctx context.Context, m events.Message) error {
	in := f.in
	at := m.At
	if in.recordedAtOf != nil {
		at = in.recordedAtOf(m)
	}
	if in.recordedAt.Before(at) { // the log's clock may step back, the partition key must not
		in.recordedAt = at
	}
	if f.b != nil && f.b.month != month(in.recordedAt) {
		if err := f.send(ctx); err != nil {
			return err
		}
	}
	if f.b == nil {
		select {
		case f.b = <-f.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.b.rows.reset()
		f.b.first, f.b.month, f.old = m.Seq, month(in.recordedAt), false
		f.timer.Reset(in.BatchAge)
	}
	f.decode(m)
	if f.b.rows.len() >= in.BatchRows {
		return f.send(ctx)
	}
	return nil
}

// month is the partition of an instant. Both sides must agree on it to the last
// millisecond: times of the log are UTC, and so is the column.
func month(t time.Time) int {
	t = t.UTC()
	return t.Year()*12 + int(t.Month())
}

// decode appends the rows of one envelope to the batch.
func (f *filler) decode(m events.Message) {
	in, r := f.in, &f.b.rows
	f.b.last = m.Seq
	in.seenTo = max(in.seenTo, m.Seq)
	p := place{shard: in.Shard, seq: m.Seq, recordedAt: in.recordedAt}
	usages, bad, err := f.decoder.Envelope(m.Data, f.usages[:0])
	f.usages = usages
	if err != nil {
		in.Logger.Error("an envelope cannot be read; it is set aside", "shard", in.Shard, "seq", m.Seq, "error", err)
		r.addUndecodable(p, fmt.Errorf("%s%w", envelopeReason, err))
		return
	}
	for i := range usages {
		p.idx = i
		if len(bad) > 0 && bad[0].Idx == i {
			in.Logger.Error("an event cannot be read; it is set aside", "shard", in.Shard, "seq", m.Seq, "idx", i, "error", bad[0].Err)
			r.addUndecodable(p, bad[0].Err)
			bad = bad[1:]
			continue
		}
		row := r.len()
		r.add(p, &usages[i])
		if in.seen.Add(r.idHash[row]) {
			r.suspects = append(r.suspects, row)
		}
	}
}
