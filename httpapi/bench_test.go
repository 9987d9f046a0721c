package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aione/embedded"
)

// benchBatch is a batch as a producer would send it.
func benchBatch(n int, prefix string) string {
	models := []string{"gpt-4o", "gpt-4o-mini", "claude-haiku-4-5"}
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"specversion":"1.0","type":"ai.usage","source":"//gateway.eu-1/pod-7","id":"%s-%06d","time":"%s","datacontenttype":"application/json",`+
			`"data":{"model":"%s","input_tokens":%d,"cache_read_tokens":%d,"output_tokens":%d,"reasoning_tokens":%d,"latency_ms":%d,"outcome":"completed"}}`,
			prefix, i, testNow.Add(-time.Duration(i)*time.Second).Format(time.RFC3339Nano), models[i/50%len(models)], 1000+i, i%700, 300+i, i%50, 800+i)
	}
	b.WriteByte(']')
	return b.String()
}

// BenchmarkDecodeBatch is everything but the network and the log: read, check,
// resolve, price and name 1,000 events.
func BenchmarkDecodeBatch(b *testing.B) {
	r := newRig(b, &embedded.Engines{NATS: embedded.OpenNATS(b)})
	x := r.tenant("bench", "")
	s := must(New(r.config))
	caller := must(r.keys.Verify(x.ingest, r.clock.Now()))
	const n = 1000
	body := benchBatch(n, "bench")
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		in := intakes.Get().(*intake)
		in.body.WriteString(body)
		if err := in.decode(must(s.newTerms(caller)), true, 10_000); err != nil {
			b.Fatal(err)
		}
		if len(in.usage) != n {
			b.Fatal(in.rejected)
		}
		in.release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
}

// BenchmarkPostEvents is the whole way of a batch of 1,000: client, loopback,
// server, and the log's fsync; 16 at once.
func BenchmarkPostEvents(b *testing.B) {
	r := newRig(b, &embedded.Engines{NATS: embedded.OpenNATS(b)})
	x := r.tenant("bench", "")
	const n, clients = 1000, 16
	bodies := make([]string, 2*clients) // made before: this is not about making them
	for i := range bodies {
		bodies[i] = benchBatch(n, fmt.Sprint("bench-", i))
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var round atomic.Uint64
	b.SetParallelism(clients / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := bodies[round.Add(1)%uint64(len(bodies))]
			req := must(http.NewRequest(http.MethodPost, r.server.URL+"/api/v1/events", strings.NewReader(body)))
			req.Header.Set("Authorization", "Bearer "+x.ingest)
			req.Header.Set("Content-Type", eventBatchType)
			resp, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(answer) != `{"accepted":1000,"rejected":[]}` {
				b.Errorf("%s, %v", answer, err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
	client.CloseIdleConnections()
}
