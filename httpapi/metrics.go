package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"aione/analytics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics of one server, in a registry of its own.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	accepted prometheus.Counter
	rejected prometheus.Counter
	refused  *prometheus.CounterVec
}

func newMetrics(more []prometheus.Collector) (*metrics, error) {
	ingested := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aione_ingest_events_total", Help: "Usage events from other producers, by what became of them.",
	}, []string{"result"})
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aione_http_requests_total", Help: "Requests by route, method and status; 499: the client left.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aione_http_request_duration_seconds", Help: "From the request's header to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"route"}),
		accepted: ingested.WithLabelValues("accepted"),
		rejected: ingested.WithLabelValues("rejected"),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aione_http_refused_total", Help: "Requests refused because an org had as many of a kind in work as one may: requests, queries (of usage) or events.",
		}, []string{"of"}),
	}
	registry := prometheus.NewRegistry()
	for _, c := range append([]prometheus.Collector{ingested, m.requests, m.seconds, m.refused}, more...) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("httpapi: register metrics: %w", err)
		}
	}
	// One collector that fails must not take the others along.
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	return m, nil
}

// observe counts a request. Labels take few values: an attacker chooses neither
// the route nor the method that is counted.
func (m *metrics) observe(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		method = "other"
	}
	if status == 0 {
		status = http.StatusOK // net/http answers so when a handler says nothing
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// Metering is the part of analytics.Projection that its lag is read from.
type Metering interface {
	Checkpoint(ctx context.Context, shard int) (analytics.Checkpoint, error)
}

// meteringCollector reads the lag of the projection when it is asked.
type meteringCollector struct {
	rows Metering
	log  analytics.LogEnd

	up, seq, behind *prometheus.Desc
}

// NewMeteringCollector tells /metrics how far each shard is counted. It asks
// ClickHouse and the log at each scrape, for two seconds at most; when they do
// not answer aione_metering_up is 0 and the other figures are missing, not zero.
func NewMeteringCollector(rows Metering, log analytics.LogEnd) prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("aione_metering_"+name, help, []string{"shard"}, nil)
	}
	return &meteringCollector{
		rows: rows, log: log,
		up:     desc("up", "1 when the lag of the shard can be read."),
		seq:    desc("counted_seq", "Sequence of the last envelope counted."),
		behind: desc("behind_envelopes", "Envelopes in the log that are not counted yet."),
	}
}

// Describe implements prometheus.Collector.
func (c *meteringCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.seq
	out <- c.behind
}

// Collect implements prometheus.Collector.
func (c *meteringCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), checkWithin)
	defer cancel()
	for shard := range c.log.Shards() {
		label := strconv.Itoa(shard)
		gauge := func(d *prometheus.Desc, v uint64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), label)
		}
		at, err := c.rows.Checkpoint(ctx, shard) // before the end: see analytics.Projection.Watermark
		if err != nil {
			gauge(c.up, 0)
			continue
		}
		end, _, err := c.log.UsageEnd(ctx, shard)
		if err != nil {
			gauge(c.up, 0)
			continue
		}
		gauge(c.up, 1)
		gauge(c.seq, at.Seq)
		gauge(c.behind, analytics.Watermark{Seq: at.Seq, End: end}.Behind())
	}
}
