package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"time"

	"aione/node"
)

// EventsAPI says how many events producers can hand in over HTTP. An answer of 202
// means that all of them are fsynced in the log. The clients run in this process,
// on the same cores: the ceiling is what they reach against a server that reads
// the same bodies and throws them away.
type EventsAPI struct {
	EventsPerS float64 `json:"events_per_s"` // durable; ingest off, which other processes may do
	P50MS      float64 `json:"p50_ms"`       // of a batch
	P99MS      float64 `json:"p99_ms"`
	MaxMS      float64 `json:"max_ms"`
	MBPerS     float64 `json:"mb_per_s"` // of JSON
	Ratio      float64 `json:"ratio"`    // to the ceiling, median of the rounds

	CeilingPerS float64 `json:"ceiling_events_per_s"` // read and thrown away
	Batch       int     `json:"batch"`
	Clients     int     `json:"clients"`
	Events      int     `json:"events"`
	BatchBytes  int     `json:"batch_bytes"`

	CPUUS        float64 `json:"cpu_us_per_event"` // of this process: clients, server, log
	CeilingCPUUS float64 `json:"ceiling_cpu_us_per_event"`
	// ClientShare is at most the clients' part of CPUUS: it counts the sockets and
	// net/http on both sides.
	ClientShare float64 `json:"client_share_max"`

	// With the ingester running beside it, as `aione up` does.
	WithIngestPerS  float64 `json:"with_ingest_events_per_s"`
	WithIngestP99MS float64 `json:"with_ingest_p99_ms"`
	CatchUpMS       float64 `json:"with_ingest_catch_up_ms"` // until the rows held all of it
}

const (
	apiEvents  = 3_000_000 // of all rounds together
	apiBatch   = 1000
	apiClients = 8
	apiRounds  = 3
)

func measureEventsAPI(ctx context.Context, o Options, m *Machine) (_ *EventsAPI, err error) {
	p, err := newPlatform(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.open(ctx, m, ""); err != nil {
		return nil, err
	}
	first, err := p.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	api, err := p.serve(ctx, node.ServeConfig{})
	if err != nil {
		return nil, err
	}
	sink, closeSink, err := startServer(sinkHandler())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeSink()) }()
	b := &apiBench{n: p.Node, o: o, api: api, sink: sink, producers: newProducers(o.Trace, first.ManagementToken)}
	return b.run(ctx)
}

// sinkHandler is the ceiling: the same server settings, a handler that reads.
func sinkHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"accepted":%d,"rejected":[]}`, apiBatch)
	})
}

type apiBench struct {
	n         *node.Node
	o         Options
	api, sink string
	producers []*producer
	accepted  int
}

func (b *apiBench) run(ctx context.Context) (*EventsAPI, error) {
	batches := max(apiClients, b.o.size(apiEvents)/apiBatch/apiRounds)
	e := &EventsAPI{Batch: apiBatch, Clients: apiClients, Events: batches * apiBatch * apiRounds, BatchBytes: len(b.producers[0].body)}
	if _, err := b.drive(ctx, b.api, 2*apiClients); err != nil { // connections, pools, buffers
		return nil, err
	}
	var rates, ceilings, ratios []float64
	var took []time.Duration
	var cpu, ceilingCPU time.Duration
	for i := range apiRounds {
		b.o.Step(fmt.Sprintf("round %d of %d: %d batches of %d to the API, then to a server that only reads", i+1, apiRounds, batches, apiBatch))
		was := cpuOf(os.Getpid())
		ours, err := b.drive(ctx, b.api, batches)
		if err != nil {
			return nil, err
		}
		now := cpuOf(os.Getpid())
		bare, err := b.drive(ctx, b.sink, batches)
		if err != nil {
			return nil, err
		}
		cpu, ceilingCPU = cpu+now-was, ceilingCPU+cpuOf(os.Getpid())-now
		rates, ceilings = append(rates, ours.perS), append(ceilings, bare.perS)
		ratios, took = append(ratios, ours.perS/bare.perS), append(took, ours.took...)
	}
	e.EventsPerS, e.CeilingPerS, e.Ratio = round(median(rates), 0), round(median(ceilings), 0), round(median(ratios), 3)
	e.P50MS, e.P99MS, e.MaxMS = millis(quantile(took, 0.50)), millis(quantile(took, 0.99)), millis(slices.Max(took))
	e.MBPerS = round(e.EventsPerS/apiBatch*float64(e.BatchBytes)/1e6, 1)
	e.CPUUS = round(float64(cpu.Microseconds())/float64(e.Events), 3)
	e.CeilingCPUUS = round(float64(ceilingCPU.Microseconds())/float64(e.Events), 3)
	if e.CPUUS > 0 {
		e.ClientShare = round(min(1, e.CeilingCPUUS/e.CPUUS), 3)
	}
	return e, b.runWithIngest(ctx, e, batches)
}

// runWithIngest measures once more while the rows are written, and counts them.
func (b *apiBench) runWithIngest(ctx context.Context, e *EventsAPI, batches int) error {
	b.o.Step("the same with the ingester beside it")
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- b.n.Ingest(running, node.IngestConfig{BatchRows: 100_000, BatchAge: 200 * time.Millisecond, LeaseTTL: 10 * time.Second})
	}()
	err := b.n.Projection.CaughtUp(ctx) // with what came before
	if err == nil {
		var with driven
		if with, err = b.drive(ctx, b.api, batches); err == nil {
			e.WithIngestPerS, e.WithIngestP99MS = round(with.perS, 0), millis(quantile(with.took, 0.99))
			began := time.Now()
			err = b.n.Projection.CaughtUp(ctx)
			e.CatchUpMS = millis(time.Since(began))
		}
	}
	stop()
	if ingestErr := <-ended; !errors.Is(ingestErr, context.Canceled) {
		err = errors.Join(err, ingestErr)
	}
	if err != nil {
		return err
	}
	c, err := b.n.Projection.Contents(ctx, 0, math.MaxUint64)
	if err == nil && (c.Counted != uint64(b.accepted) || c.Rows != c.Counted) {
		err = fmt.Errorf("the API accepted %d events, all different; of %d rows %d are counted", b.accepted, c.Rows, c.Counted)
	}
	return err
}
