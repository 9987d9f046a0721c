package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"aione/analytics"
)

// Ingest compares the way from the log to queryable rows with a bare insert loop
// of the same rows into the same table of the same ClickHouse.
type Ingest struct {
	Ratio        float64 `json:"ratio"` // ours to the ceiling, median of the rounds
	EventsPerS   float64 `json:"events_per_s"`
	CeilingPerS  float64 `json:"ceiling_events_per_s"`
	Events       int     `json:"events"`
	Envelopes    uint64  `json:"envelopes"`
	BatchRows    int     `json:"batch_rows"`
	Rounds       []Round `json:"rounds"`
	PublishPerS  float64 `json:"publish_events_per_s"` // into the log beforehand, fsynced
	LogBytesEach float64 `json:"log_bytes_per_event"`

	// CPURatio is the ceiling's processor time to ours: unlike rates it hardly depends
	// on what else runs. Ours may still be as fast, on two cores: it does two things at
	// once.
	CPURatio        float64 `json:"cpu_ratio"`
	CPUUS           float64 `json:"cpu_us_per_event"` // ours: this process (the log's server in it) and ClickHouse
	CPUGoUS         float64 `json:"cpu_go_us_per_event"`
	CPUClickHouseUS float64 `json:"cpu_clickhouse_us_per_event"`
	// The same of the ceiling: ClickHouse's share is the floor for any client.
	CeilingCPUGoUS         float64 `json:"ceiling_cpu_go_us_per_event"`
	CeilingCPUClickHouseUS float64 `json:"ceiling_cpu_clickhouse_us_per_event"`

	HeapPeakBytes  uint64  `json:"heap_peak_bytes"` // of this process while ours ran, less what there was before
	FilterBytes    uint64  `json:"filter_bytes"`
	FilterPerEvent float64 `json:"filter_bytes_per_event"`

	VisibleP50MS float64   `json:"visible_p50_ms"` // at VisibleLoad
	VisibleP99MS float64   `json:"visible_p99_ms"`
	VisibleMaxMS float64   `json:"visible_max_ms"`
	VisibleLoad  int       `json:"visible_load_events_per_s"`
	Visible      []Visible `json:"visible"` // at this and other loads
}

// Round is one pair of runs, each into a database of its own.
type Round struct {
	EventsPerS  float64 `json:"events_per_s"`
	CeilingPerS float64 `json:"ceiling_events_per_s"`
	Ratio       float64 `json:"ratio"`
	// How many INSERTs each made: the ingester does not wait for a full batch while
	// ClickHouse is idle.
	Inserts        uint64 `json:"inserts"`
	CeilingInserts uint64 `json:"ceiling_inserts"`
}

const (
	ingestEvents = 500_000 // each is ingested and inserted ingestRounds times
	ingestRounds = 3

	database = "aione"
	closeMax = 20 * time.Second
)

func measureIngest(ctx context.Context, o Options, m *Machine) (_ *Ingest, err error) {
	r, err := openRig(ctx, o, m, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	in := &Ingest{Events: o.size(ingestEvents), BatchRows: analytics.DefaultBatchRows}
	if in.PublishPerS, err = r.preload(ctx, in.Events); err != nil {
		return nil, err
	}
	if in.Envelopes, _, err = r.log.UsageEnd(ctx, 0); err != nil {
		return nil, err
	}
	if in.LogBytesEach, err = r.logBytesPerEvent(in.Events); err != nil {
		return nil, err
	}
	o.Step("once without a clock: whoever runs first pays for memory that the others find")
	if _, err := r.ingestInto(ctx, "warm", in.Envelopes); err != nil {
		return nil, err
	}
	var sums ingestSums
	for i := range ingestRounds {
		o.Step(fmt.Sprintf("round %d of %d: ingest, then the bare loop", i+1, ingestRounds))
		if err := r.round(ctx, in, i, &sums); err != nil {
			return nil, err
		}
	}
	in.sum(&sums)
	if err := r.visibleAt(ctx, in); err != nil {
		return nil, err
	}
	return in, nil
}

// ingestSums is what the rounds add up.
type ingestSums struct{ ours, bare cpuSplit }

// cpuSplit is processor time of this process and of ClickHouse.
type cpuSplit struct{ self, clickHouse time.Duration }

func (c cpuSplit) total() time.Duration { return c.self + c.clickHouse }

func (r *rig) cpu() cpuSplit {
	return cpuSplit{self: cpuOf(os.Getpid()), clickHouse: cpuOf(r.clickHouse.ChildPID())}
}

func (c *cpuSplit) addSince(was, now cpuSplit) {
	c.self += now.self - was.self
	c.clickHouse += now.clickHouse - was.clickHouse
}

// round ingests the log into one fresh database and inserts the same rows by the
// bare loop into another, and sees to it that both tables hold the same.
func (r *rig) round(ctx context.Context, in *Ingest, n int, sums *ingestSums) error {
	ours, err := r.store(ctx, fmt.Sprintf("ours_%d", n))
	if err != nil {
		return err
	}
	theirName := fmt.Sprintf("bare_%d", n)
	theirs, err := r.store(ctx, theirName)
	if err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	heap := watchHeap()
	was := r.cpu()
	oursTook, filter, err := r.ingest(ctx, ours, in.Envelopes)
	sums.ours.addSince(was, r.cpu())
	peak := heap()
	if err != nil {
		return err
	}
	in.HeapPeakBytes, in.FilterBytes = max(in.HeapPeakBytes, peak), max(in.FilterBytes, filter)

	batches, err := r.bareBatches(ctx, in.Envelopes, in.BatchRows)
	if err != nil {
		return err
	}
	conn, err := r.driver(theirName)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := r.settle(ctx); err != nil {
		return err
	}
	was = r.cpu()
	bareTook, err := insertBareLoop(ctx, conn, batches)
	sums.bare.addSince(was, r.cpu())
	if err != nil {
		return err
	}
	if err := sameRows(ctx, ours, theirs, in); err != nil {
		return err
	}
	pair := Round{EventsPerS: perSecond(in.Events, oursTook), CeilingPerS: perSecond(in.Events, bareTook)}
	pair.Ratio = round(pair.EventsPerS/pair.CeilingPerS, 3)
	if pair.Inserts, err = inserts(ctx, conn, fmt.Sprintf("ours_%d", n)); err != nil {
		return err
	}
	if pair.CeilingInserts, err = inserts(ctx, conn, theirName); err != nil {
		return err
	}
	in.Rounds = append(in.Rounds, pair)
	return nil
}

// inserts counts the parts that INSERTs made, merged since or not: ClickHouse
// keeps those for minutes.
func inserts(ctx context.Context, conn driver.Conn, database string) (n uint64, err error) {
	err = conn.QueryRow(ctx, "SELECT uniqExact(name) FROM system.parts WHERE database = ? AND level = 0", database).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the inserts: %w", err)
	}
	return n, nil
}

// ingestInto is ingest into a database of the given name.
func (r *rig) ingestInto(ctx context.Context, database string, through uint64) (time.Duration, error) {
	store, err := r.store(ctx, database)
	if err != nil {
		return 0, err
	}
	took, _, err := r.ingest(ctx, store, through)
	return took, err
}

// ingest runs an ingester over the whole log.
func (r *rig) ingest(ctx context.Context, store *analytics.Store, through uint64) (took time.Duration, filterBytes uint64, err error) {
	in := &analytics.Ingester{Log: r.log, Store: store, Until: through, Logger: r.options.Logger}
	began := time.Now()
	err = in.Run(ctx)
	return time.Since(began), in.MemoryBytes(), err
}

// sameRows is what makes the comparison one: both loops wrote the same.
func sameRows(ctx context.Context, ours, theirs *analytics.Store, in *Ingest) error {
	a, err := ours.Contents(ctx, 0, in.Envelopes)
	if err != nil {
		return err
	}
	b, err := theirs.Contents(ctx, 0, in.Envelopes)
	if err != nil {
		return err
	}
	if a.Digest != b.Digest || a.Counted != b.Counted || a.Counted != uint64(in.Events) {
		return fmt.Errorf("the ceiling inserted other rows: ours are %+v, theirs %+v", a, b)
	}
	return nil
}

// settle waits, within bounds, until ClickHouse merges nothing, so that the run
// that follows does not pay for the one before.
func (r *rig) settle(ctx context.Context) error {
	conn, err := r.driver("default")
	if err != nil {
		return err
	}
	defer conn.Close()
	for deadline := time.Now().Add(settleMax); time.Now().Before(deadline); {
		var merges uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM system.merges").Scan(&merges); err != nil {
			return fmt.Errorf("wait for merges: %w", err)
		}
		if merges == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	runtime.GC()
	return nil
}

const settleMax = 3 * time.Second

// watchHeap follows the heap in use until the function it returns is called, which
// says by how much it was over the beginning.
func watchHeap() func() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before, peak := read(), uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				peak = max(peak, read())
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-stopped
		return peak - min(before, peak)
	}
}

func (in *Ingest) sum(s *ingestSums) {
	var ours, ceiling, ratios []float64
	for _, r := range in.Rounds {
		ours, ceiling, ratios = append(ours, r.EventsPerS), append(ceiling, r.CeilingPerS), append(ratios, r.Ratio)
	}
	in.EventsPerS, in.CeilingPerS, in.Ratio = median(ours), median(ceiling), median(ratios)
	each := func(d time.Duration) float64 {
		return round(float64(d)/float64(time.Microsecond)/float64(in.Events*len(in.Rounds)), 3)
	}
	in.CPUGoUS, in.CPUClickHouseUS = each(s.ours.self), each(s.ours.clickHouse)
	in.CPUUS = round(in.CPUGoUS+in.CPUClickHouseUS, 3)
	in.CeilingCPUGoUS, in.CeilingCPUClickHouseUS = each(s.bare.self), each(s.bare.clickHouse)
	in.CPURatio = round(float64(s.bare.total())/float64(max(1, s.ours.total())), 3)
	in.FilterPerEvent = round(float64(in.FilterBytes)/float64(in.Events), 2)
}
