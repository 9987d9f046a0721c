package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"aione/httpapi"
)

// checks are what /readyz asks.
func (n *Node) checks() []httpapi.Check {
	return []httpapi.Check{
		httpapi.LogCheck(n.Log),
		{Name: "disk", Fails: "the disk of the event log is full, or cannot be written to", Run: func(context.Context) error { return n.Engines.Check() }},
		httpapi.FollowerCheck("ledger", n.Log, n.Book),
		httpapi.PingCheck("clickhouse", n.Projection.Ping),
		{Name: "limits", Fails: "what has been spent is not known yet, or this process has no place among its replicas", Run: func(context.Context) error { return n.Limits.Ready() }},
	}
}

// collector tells /metrics how far metering is.
func (n *Node) collector() prometheus.Collector {
	return httpapi.NewMeteringCollector(n.Projection, n.Log)
}
