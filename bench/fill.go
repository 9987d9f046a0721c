package bench

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"
)

// filling is rows that are made inside ClickHouse, a slice of time after the other.
type filling struct {
	insert string // of one slice
	slices int
	rows   uint64 // of a slice
	from   time.Time
	span   time.Duration // of all slices
	params clickhouse.Parameters
}

// fillSlices makes the rows, as many slices at once as there are cores. Merges are
// switched off: merging what a month of ingest has merged long ago would be
// measured instead.
func (r *rig) fillSlices(ctx context.Context, conn driver.Conn, f filling) (time.Duration, error) {
	if err := conn.Exec(ctx, "SYSTEM STOP MERGES"); err != nil {
		return 0, fmt.Errorf("stop merges: %w", err)
	}
	progress := r.options.Progress("rows")
	inputs, outputs := sampleParams(r.options.Trace)
	span := f.span / time.Duration(f.slices)
	began := time.Now()
	var done atomic.Uint64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i := range f.slices {
		g.Go(func() error {
			params := maps.Clone(f.params)
			maps.Copy(params, clickhouse.Parameters{
				"rows": fmt.Sprint(f.rows), "first_seq": fmt.Sprint(1 + uint64(i)*f.rows), "inputs": inputs, "outputs": outputs,
				"from_ms": fmt.Sprint(f.from.Add(time.Duration(i) * span).UnixMilli()), "span_ms": fmt.Sprint(span.Milliseconds()),
			})
			if err := conn.Exec(clickhouse.Context(gctx, clickhouse.WithParameters(params), clickhouse.WithSettings(onePart(f.rows))), f.insert); err != nil {
				return fmt.Errorf("make rows: %w", err)
			}
			progress(done.Add(f.rows), uint64(f.slices)*f.rows)
			return nil
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// onePart makes an INSERT of so many rows one thread, one block and so one part a
// partition, as those of the ingester are.
func onePart(rows uint64) clickhouse.Settings {
	return clickhouse.Settings{
		"max_threads": 1, "max_insert_threads": 1, "max_block_size": 1 << 16, "max_execution_time": 0,
		"min_insert_block_size_rows": rows, "min_insert_block_size_bytes": 0,
	}
}

// sampleParams is a sample of the trace as two array parameters.
func sampleParams(trace []Request) (inputs, outputs string) {
	const sample = 500 // parameters travel in the URL
	var in, out []string
	for i := range sample {
		request := trace[i*len(trace)/sample]
		in, out = append(in, fmt.Sprint(request.Prompt)), append(out, fmt.Sprint(request.Completion))
	}
	return "[" + strings.Join(in, ",") + "]", "[" + strings.Join(out, ",") + "]"
}
