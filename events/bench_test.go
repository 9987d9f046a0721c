package events

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"aione/embedded"
)

// benchLog is the deployment of one machine: the server in process, on disk, an
// fsync for every message.
func benchLog(b *testing.B) *Log {
	b.Helper()
	n, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: b.TempDir(), Port: embedded.NATSPortNone})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	nc, err := n.Conn(nats.MaxReconnects(-1))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	l, err := Open(bounded(b), nc, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close(bounded(b)) })
	return l
}

// BenchmarkPublish measures durable events a second at the log.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct{ publishers, events int }{{1, 1}, {64, 1}, {512, 1}, {8, 1000}} {
		b.Run(fmt.Sprintf("publishers=%d/events=%d", c.publishers, c.events), func(b *testing.B) {
			l := benchLog(b)
			ctx := b.Context()
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error, c.publishers)
			for range c.publishers {
				us := someUsages(c.events)
				go func() {
					for left.Add(-1) >= 0 {
						if err := l.Publish(ctx, us); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range c.publishers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N*c.events)/b.Elapsed().Seconds(), "events/s")
			if end, _, err := l.UsageEnd(ctx, 0); err == nil {
				b.ReportMetric(float64(b.N*c.events)/float64(end), "events/message")
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	u := someUsage(orgA)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		cost, err := u.check()
		if err != nil {
			b.Fatal(err)
		}
		buf = appendUsage(buf[:0], &u, cost)
	}
	b.ReportMetric(float64(len(buf)), "bytes/event")
}

func BenchmarkDecoder(b *testing.B) {
	const n = 1000
	body := SealUsage(someUsages(n))
	var d Decoder
	var us []Usage
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if us, _, err = d.Envelope(body, us[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
}

func BenchmarkDigest(b *testing.B) {
	u := someUsage(orgA)
	b.ReportAllocs()
	for b.Loop() {
		u.Digest()
	}
}
