package node

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Gauges of the auditor. Before its first audit they are missing, not zero.
var (
	auditOK       = prometheus.NewDesc("aione_audit_ok", "1 when the last audit proved the chain from the log to the invoices, 0 when it found differences.", nil, nil)
	auditFindings = prometheus.NewDesc("aione_audit_findings", "Differences that the last audit found.", nil, nil)
	auditAt       = prometheus.NewDesc("aione_audit_timestamp_seconds", "When the last audit began.", nil, nil)
	auditThrough  = prometheus.NewDesc("aione_audit_through_seq", "Sequence of the last envelope that was compared.", []string{"shard"}, nil)
)

// Describe implements prometheus.Collector.
func (a *Auditor) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{auditOK, auditFindings, auditAt, auditThrough} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (a *Auditor) Collect(out chan<- prometheus.Metric) {
	last := a.seen()
	if last == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ok := 1.0
	if len(last.findings) > 0 {
		ok = 0
	}
	gauge(auditOK, ok)
	gauge(auditFindings, float64(len(last.findings)))
	gauge(auditAt, float64(last.at.Unix()))
	for shard := range last.shards {
		gauge(auditThrough, float64(last.shards[shard].Through), strconv.Itoa(shard))
	}
}
