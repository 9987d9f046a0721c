package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aione/analytics"
)

// Rebuild compares making all rows anew from the log, while the old ones serve,
// with the first ingest of the same log.
type Rebuild struct {
	Ratio      float64 `json:"ratio"` // events/s of the whole rebuild to those of ingest, median of the rounds
	EventsPerS float64 `json:"events_per_s"`
	IngestPerS float64 `json:"ingest_events_per_s"`
	FillRatio  float64 `json:"fill_ratio"` // of the part that ingests, without comparison and exchange
	// CPURatio is the processor time of ingest to that of the whole rebuild, of this
	// process and ClickHouse: unlike rates it hardly depends on what else runs.
	CPURatio    float64        `json:"cpu_ratio"`
	Events      int            `json:"events"`
	Rounds      []RebuildRound `json:"rounds"`
	FilterBytes uint64         `json:"filter_bytes"`
}

// RebuildRound is one ingest into a fresh database and one rebuild of it.
type RebuildRound struct {
	IngestSeconds    float64 `json:"ingest_s"`
	FillSeconds      float64 `json:"fill_s"`             // of the rebuild, from its start
	CompareSeconds   float64 `json:"compare_exchange_s"` // both tables summed up, compared, exchanged, the old one dropped
	SumUpSeconds     float64 `json:"sum_up_s"`           // one table summed up, of the two that are compared; taken apart, afterwards
	Ratio            float64 `json:"ratio"`
	FillRatio        float64 `json:"fill_ratio"`
	CPURatio         float64 `json:"cpu_ratio"`
	SameAndExchanged bool    `json:"same_and_exchanged"`
}

const (
	rebuildEvents = 1_000_000
	rebuildRounds = 2
)

func measureRebuild(ctx context.Context, o Options, m *Machine) (_ *Rebuild, err error) {
	r, err := openRig(ctx, o, m, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	b := &Rebuild{Events: o.size(rebuildEvents)}
	if _, err := r.preload(ctx, b.Events); err != nil {
		return nil, err
	}
	var rates, ingestRates, ratios, fillRatios, cpuRatios []float64
	for i := range rebuildRounds {
		round, err := r.rebuildRound(ctx, b, i)
		if err != nil {
			return nil, err
		}
		b.Rounds = append(b.Rounds, round)
		rates = append(rates, float64(b.Events)/(round.FillSeconds+round.CompareSeconds))
		ingestRates = append(ingestRates, float64(b.Events)/round.IngestSeconds)
		ratios, fillRatios = append(ratios, round.Ratio), append(fillRatios, round.FillRatio)
		cpuRatios = append(cpuRatios, round.CPURatio)
	}
	b.EventsPerS, b.IngestPerS = round(median(rates), 0), round(median(ingestRates), 0)
	b.Ratio, b.FillRatio = round(median(ratios), 3), round(median(fillRatios), 3)
	b.CPURatio = round(median(cpuRatios), 3)
	return b, nil
}

func (r *rig) rebuildRound(ctx context.Context, b *Rebuild, n int) (RebuildRound, error) {
	var out RebuildRound
	store, err := r.store(ctx, fmt.Sprintf("live_%d", n))
	if err != nil {
		return out, err
	}
	end, _, err := r.log.UsageEnd(ctx, 0)
	if err != nil {
		return out, err
	}
	r.options.Step(fmt.Sprintf("round %d of %d: ingest %d events, then rebuild them", n+1, rebuildRounds, b.Events))
	if err := r.settle(ctx); err != nil {
		return out, err
	}
	var ingestCPU, rebuildCPU cpuSplit
	was := r.cpu()
	took, _, err := r.ingest(ctx, store, end)
	ingestCPU.addSince(was, r.cpu())
	if err != nil {
		return out, err
	}
	if err := r.settle(ctx); err != nil {
		return out, err
	}
	was = r.cpu()
	began := time.Now()
	var filled time.Time // called when the new rows have caught up
	alone := func(context.Context) (func(), error) {
		filled = time.Now()
		return func() {}, nil // nothing else writes here
	}
	report, err := analytics.Rebuild{Store: store, Log: r.log, Alone: alone, Progress: r.options.Progress("envelopes")}.Run(ctx)
	if err != nil {
		return out, err
	}
	ended := time.Now()
	rebuildCPU.addSince(was, r.cpu())
	if !report.Same || !report.Exchanged || report.Rows != uint64(b.Events) {
		return out, fmt.Errorf("the rebuilt rows are not the ingested ones: %+v", report)
	}
	if _, err := store.Contents(ctx, 0, end); err != nil {
		return out, err
	}
	summed := time.Since(ended)
	b.FilterBytes = max(b.FilterBytes, report.FilterBytes)
	ingest, fill, all := took.Seconds(), filled.Sub(began).Seconds(), ended.Sub(began).Seconds()
	return RebuildRound{IngestSeconds: round(ingest, 3), FillSeconds: round(fill, 3), CompareSeconds: round(all-fill, 3), SumUpSeconds: round(summed.Seconds(), 3),
		Ratio: round(ingest/all, 3), FillRatio: round(ingest/fill, 3),
		CPURatio: round(float64(ingestCPU.total())/float64(max(1, rebuildCPU.total())), 3), SameAndExchanged: true}, nil
}
