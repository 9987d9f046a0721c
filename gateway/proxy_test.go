package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"aione/gateway"
)

// BenchmarkProxy compares the gateway, durable metering on, with a bare reverse
// proxy to the same simulated provider.
func BenchmarkProxy(bm *testing.B) {
	for _, stream := range []bool{false, true} {
		for _, kind := range []string{"reverse proxy", "gateway"} {
			bm.Run(fmt.Sprintf("stream=%v/%s", stream, kind), func(bm *testing.B) {
				var upstream string
				b := newBench(bm, func(c *gateway.Config) { upstream = c.Default.Upstreams[0].BaseURL })
				to := b.url
				if kind == "reverse proxy" {
					target := must(url.Parse(upstream))
					target.Path = ""
					proxy := &httputil.ReverseProxy{
						Transport:     &http.Transport{MaxIdleConnsPerHost: 256},
						FlushInterval: -1,
						Rewrite: func(r *httputil.ProxyRequest) {
							r.SetURL(target)
							r.Out.Header.Set("Authorization", "Bearer "+upstreamKey)
						},
					}
					s := httptest.NewServer(proxy)
					bm.Cleanup(s.Close)
					to = s.URL
				}
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
				bm.SetParallelism(32)
				bm.ReportAllocs()
				bm.ResetTimer()
				bm.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						req := b.request(bm.Context(), b.secret, body(stream, counted))
						req.URL.Host = must(url.Parse(to)).Host
						resp := must(client.Do(req))
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != http.StatusOK {
							bm.Errorf("status %d", resp.StatusCode)
						}
					}
				})
				bm.StopTimer()
				client.CloseIdleConnections()
			})
		}
	}
}
