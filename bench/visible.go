package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"aione/analytics"
	"aione/events"
)

// Visible says how long an event takes from the call that publishes it to a query
// that counts it, while events keep coming at a steady rate.
type Visible struct {
	Load    int     `json:"load_events_per_s"` // what was asked for
	Reached float64 `json:"reached_events_per_s"`
	Events  int     `json:"events"`
	P50MS   float64 `json:"p50_ms"`
	P99MS   float64 `json:"p99_ms"`
	MaxMS   float64 `json:"max_ms"`
	// DurableP50MS is the part of it until the log had fsynced the event.
	DurableP50MS float64 `json:"durable_p50_ms"`
}

// The loads. The headline is half of what ingest has just done: there the machine
// has little left, since publishing, making the events and polling want their
// share of the same cores.
const (
	lightLoad  = 2_000  // events/s
	someLoad   = 50_000 // events/s: four billion a day
	lightLasts = 3 * time.Second
	someLasts  = 3 * time.Second
	halfLasts  = 5 * time.Second

	visibleEach      = 100 * time.Microsecond // a small --size publishes for this long an event instead
	visibleCallsPerS = 100
	visiblePoll      = 10 * time.Millisecond
	visibleWaitMax   = 20 * time.Second
)

// visibleAt measures at all the loads.
func (r *rig) visibleAt(ctx context.Context, in *Ingest) error {
	half := int(in.EventsPerS / 2)
	in.VisibleLoad = half
	for _, load := range []struct {
		rate  int
		lasts time.Duration
	}{{lightLoad, lightLasts}, {min(someLoad, half), someLasts}, {half, halfLasts}} {
		r.options.Step(fmt.Sprintf("publish to queryable at %d events/s", load.rate))
		v, err := r.measureVisible(ctx, load.rate, min(load.lasts, time.Duration(in.Events)*visibleEach))
		if err != nil {
			return err
		}
		in.Visible = append(in.Visible, v)
	}
	headline := in.Visible[len(in.Visible)-1]
	in.VisibleP50MS, in.VisibleP99MS, in.VisibleMaxMS = headline.P50MS, headline.P99MS, headline.MaxMS
	return nil
}

// call is one publish: one envelope, since nothing else publishes.
type call struct {
	due     time.Time // when it was to begin: waiting for a late one before it counts
	durable time.Duration
	events  int
}

// measureVisible publishes at a rate while an ingester with production's settings
// runs, and polls how far the rows reach.
func (r *rig) measureVisible(ctx context.Context, rate int, lasting time.Duration) (Visible, error) {
	v := Visible{Load: rate}
	store, err := r.store(ctx, "visible")
	if err != nil {
		return v, err
	}
	// The log so far is not of interest, but the rows must begin with it: an
	// ingester starts where the rows end.
	before, _, err := r.log.UsageEnd(ctx, 0)
	if err != nil {
		return v, err
	}
	if _, _, err := r.ingest(ctx, store, before); err != nil {
		return v, err
	}
	if err := r.settle(ctx); err != nil {
		return v, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var wait sync.WaitGroup
	var ingestErr error
	wait.Go(func() {
		in := &analytics.Ingester{Log: r.log, Store: store, Logger: r.options.Logger}
		if err := in.Run(running); !errors.Is(err, context.Canceled) {
			ingestErr = err
		}
	})
	seen := make(chan []sighting, 1)
	over := make(chan struct{})
	wait.Go(func() { seen <- pollCheckpoint(running, over, store, before) })
	// The start of an ingester, which loads its filter, is another question: one
	// event goes first.
	first := make([]events.Usage, 1)
	newTraffic(r.options.Trace, before, time.Now(), time.Millisecond).fill(first)
	err = r.log.Publish(ctx, first)
	before++
	if err == nil {
		err = awaitSeq(ctx, store, before)
	}
	var calls []call
	var took time.Duration
	if err == nil {
		calls, took, err = r.publishAt(ctx, rate, lasting)
	}
	if err == nil {
		err = awaitSeq(ctx, store, before+uint64(len(calls)))
	}
	close(over)
	sightings := <-seen
	stop()
	wait.Wait()
	if err = errors.Join(err, ingestErr); err != nil {
		return v, err
	}
	end, _, err := r.log.UsageEnd(ctx, 0)
	if err != nil || end != before+uint64(len(calls)) {
		return v, fmt.Errorf("%d calls made envelopes %d to %d: an envelope is not a call (%w)", len(calls), before+1, end, err)
	}
	return v.sum(calls, sightings, before, took)
}

// publishAt publishes at a steady rate, one call at a time.
func (r *rig) publishAt(ctx context.Context, rate int, lasting time.Duration) ([]call, time.Duration, error) {
	each := max(1, rate/visibleCallsPerS)
	pause := time.Duration(float64(time.Second) * float64(each) / float64(rate))
	began := time.Now()
	t := newTraffic(r.options.Trace, uint64(rate), began, pause/time.Duration(each))
	us := make([]events.Usage, each)
	var calls []call
	for due := began; due.Before(began.Add(lasting)); due = due.Add(pause) {
		t.fill(us)
		time.Sleep(time.Until(due))
		if err := r.log.Publish(ctx, us); err != nil {
			return nil, 0, err
		}
		calls = append(calls, call{due: due, durable: time.Since(due), events: each})
	}
	return calls, time.Since(began), nil
}

// sighting is a checkpoint and when its answer was there.
type sighting struct {
	seq uint64
	at  time.Time
}

// pollCheckpoint notes every step of the rows until it is over, and then once more:
// on a busy machine a poll takes long, and the last step must be among them.
func pollCheckpoint(ctx context.Context, over <-chan struct{}, store *analytics.Store, last uint64) []sighting {
	var seen []sighting
	tick := time.NewTicker(visiblePoll)
	defer tick.Stop()
	for more := true; more && ctx.Err() == nil; {
		select {
		case <-over:
			more = false
		case <-tick.C:
		}
		// A poll that fails is one that saw nothing; if all do, sum finds no sighting.
		if c, err := store.Checkpoint(ctx, 0); err == nil && c.Seq > last {
			last = c.Seq
			seen = append(seen, sighting{c.Seq, time.Now()})
		}
	}
	return seen
}

// awaitSeq waits until the rows reach a sequence.
func awaitSeq(ctx context.Context, store *analytics.Store, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, visibleWaitMax)
	defer cancel()
	for {
		c, err := store.Checkpoint(ctx, 0)
		if err != nil {
			return fmt.Errorf("wait for the rows to reach envelope %d: %w", seq, err)
		}
		if c.Seq >= seq {
			return nil
		}
		time.Sleep(5 * visiblePoll)
	}
}

// sum gives every event the time of the first sighting at or past its envelope.
func (v Visible) sum(calls []call, seen []sighting, before uint64, took time.Duration) (Visible, error) {
	var visible, durable []time.Duration
	for i, c := range calls {
		seq := before + 1 + uint64(i)
		at, _ := slices.BinarySearchFunc(seen, seq, func(s sighting, seq uint64) int { return int(int64(s.seq) - int64(seq)) })
		if at == len(seen) {
			return v, fmt.Errorf("envelope %d was never seen in the rows", seq)
		}
		visible, durable = append(visible, seen[at].at.Sub(c.due)), append(durable, c.durable)
		v.Events += c.events
	}
	v.Reached = perSecond(v.Events, took)
	v.P50MS, v.P99MS, v.MaxMS = millis(quantile(visible, 0.50)), millis(quantile(visible, 0.99)), millis(slices.Max(visible))
	v.DurableP50MS = millis(quantile(durable, 0.50))
	return v, nil
}
