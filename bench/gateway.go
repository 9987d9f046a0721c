package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"aione/httpapi"
	"aione/node"
	"aione/simulator"
)

// Gateway says what it costs to authenticate, admit, meter and settle each chat
// request, every one with its admission and its usage fsynced. The ceiling is a
// bare httputil.ReverseProxy on chi, which does none of it, before the same
// simulated provider. Clients, provider and proxy run in this process, on the same
// cores; ingest is off, which other processes may do.
type Gateway struct {
	Ratio8   float64 `json:"ratio_8"`   // of requests a second to the ceiling's, 8 connections; median of the rounds
	Ratio256 float64 `json:"ratio_256"` // 256 connections

	// Added to a request that arrives when it is due, at half of the rate that the
	// gateway reached with 8 connections; the provider answers at once.
	AddedP50MS float64 `json:"added_p50_ms"`
	AddedP99MS float64 `json:"added_p99_ms"`
	// Added to a chunk of a stream, from the provider's write to the client's read.
	ChunkUS    float64 `json:"chunk_us"` // median
	ChunkP99US float64 `json:"chunk_p99_us"`

	PerS8   GatewayRate `json:"connections_8"`
	PerS256 GatewayRate `json:"connections_256"`
	Half    GatewayLoad `json:"half_load"`

	PromptBytes int `json:"prompt_bytes"`
	Chunks      int `json:"chunks"`
	Requests    int `json:"requests"` // that the gateway served, each one event in the log
}

// GatewayRate is what both reach with a number of connections.
type GatewayRate struct {
	PerS        float64 `json:"requests_per_s"`
	CeilingPerS float64 `json:"ceiling_requests_per_s"`
	P50MS       float64 `json:"p50_ms"`
	P99MS       float64 `json:"p99_ms"`
	CeilingP99  float64 `json:"ceiling_p99_ms"`
	// CPU of this process: clients, provider and sockets are in both.
	CPUUS        float64 `json:"cpu_us_per_request"`
	CeilingCPUUS float64 `json:"ceiling_cpu_us_per_request"`
}

// GatewayLoad is latency at a rate.
type GatewayLoad struct {
	PerS         float64 `json:"requests_per_s"`
	P50MS        float64 `json:"p50_ms"`
	P99MS        float64 `json:"p99_ms"`
	CeilingP50MS float64 `json:"ceiling_p50_ms"`
	CeilingP99MS float64 `json:"ceiling_p99_ms"`
	// What a record waits for this disk at that rate, see disk: of the latency that the
	// gateway adds this much is no choice of it.
	DiskP50MS float64 `json:"disk_p50_ms"`
	DiskP99MS float64 `json:"disk_p99_ms"`
}

const (
	gatewayRequests = 60_000 // of all rounds together, of each side
	gatewayRounds   = 9
	gatewayWarm     = 500

	// Short turns: whatever else the machine does disturbs both alike.
	loadRounds = 40
	loadLasts  = 200 * time.Millisecond

	streamsAtOnce = 4
	streamRounds  = 6
	streamChunks  = 200
	chunkPause    = 2 * time.Millisecond
)

func measureGateway(ctx context.Context, o Options, m *Machine) (_ *Gateway, err error) {
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
	provider, stopProvider, err := startServer(providerHandler())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopProvider()) }()
	proxy, stopProxy, err := startServer(bareProxy(provider))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopProxy()) }()
	api, err := p.serve(ctx, node.ServeConfig{UpstreamURL: provider + "/v1", UpstreamAs: "bench", UpstreamDialect: "openai"})
	if err != nil {
		return nil, err
	}
	prompt := typicalPrompt(o.Trace)
	b := &gatewayBench{n: p.Node, o: o, gateway: newCaller(api, first.ChatKey, prompt), ceiling: newCaller(proxy, first.ChatKey, prompt)}
	return b.run(ctx)
}

// startServer serves h with the settings that the API has.
func startServer(h http.Handler) (at string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start a server: %w", err)
	}
	s := httpapi.NewHTTPServer("", h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return "http://" + l.Addr().String(), func() error {
		err := s.Close()
		if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	}, nil
}

// providerHandler is the simulated provider, but for streams: their chunks say when
// they were written.
func providerHandler() http.Handler {
	simulated := simulator.New(simulator.Config{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" { // as the gateway asks, and our client
			streamStamped(w, r)
			return
		}
		simulated.ServeHTTP(w, r)
	})
}

// bareProxy is what anybody would write who wants no metering.
func bareProxy(provider string) http.Handler {
	target, err := url.Parse(provider)
	if err != nil {
		panic("bench: the address of our own server cannot be read: " + err.Error())
	}
	proxy := &httputil.ReverseProxy{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 4096},
		FlushInterval: -1, // streams pass at once
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}
	r := chi.NewRouter()
	r.HandleFunc("/*", func(w http.ResponseWriter, r *http.Request) {
		// Else the server closes the request's body when the answer begins. A transport
		// that has not yet seen the end of it, as on a busy machine, then cuts the answer.
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	})
	return r
}

// typicalPrompt is a text of as many words as the trace's median request.
func typicalPrompt(trace []Request) string {
	var tokens []float64
	for _, r := range trace {
		tokens = append(tokens, float64(r.Prompt))
	}
	return strings.Repeat(" word", max(1, int(median(tokens))))
}

type gatewayBench struct {
	n                *node.Node
	o                Options
	gateway, ceiling *caller
}

func (b *gatewayBench) run(ctx context.Context) (*Gateway, error) {
	g := &Gateway{PromptBytes: len(b.gateway.body), Chunks: streamChunks}
	for _, c := range []*caller{b.gateway, b.ceiling} {
		if _, err := c.calls(ctx, gatewayWarm, 256); err != nil { // connections, pools, the vocabulary
			return nil, err
		}
	}
	var err error
	if g.Ratio8, g.PerS8, err = b.rates(ctx, 8); err != nil {
		return nil, err
	}
	if g.Ratio256, g.PerS256, err = b.rates(ctx, 256); err != nil {
		return nil, err
	}
	if err := b.added(ctx, g); err != nil {
		return nil, err
	}
	if err := b.chunks(ctx, g); err != nil {
		return nil, err
	}
	g.Requests = int(b.gateway.served.Load())
	end, _, err := b.n.Log.UsageEnd(ctx, 0)
	if err != nil {
		return nil, err
	}
	recorded, err := countUsage(ctx, b.n.Log, end)
	if err == nil && recorded != g.Requests {
		err = fmt.Errorf("the gateway served %d requests and recorded %d", g.Requests, recorded)
	}
	return g, err
}

// rates lets both serve as fast as they can, in turns.
func (b *gatewayBench) rates(ctx context.Context, connections int) (ratio float64, r GatewayRate, err error) {
	rounds := b.rounds(gatewayRounds)
	each := max(connections, b.o.size(gatewayRequests)/rounds/2)
	var ratios, ours, bare, cpu, bareCPU []float64
	var took, bareTook []time.Duration
	for i := range rounds {
		b.o.Step(fmt.Sprintf("round %d of %d: %d requests by %d connections to the gateway, then to a bare proxy", i+1, rounds, each, connections))
		one, err := b.gateway.calls(ctx, each, connections)
		if err != nil {
			return 0, r, err
		}
		two, err := b.ceiling.calls(ctx, each, connections)
		if err != nil {
			return 0, r, err
		}
		ratios = append(ratios, one.perS/two.perS)
		ours, bare = append(ours, one.perS), append(bare, two.perS)
		cpu, bareCPU = append(cpu, one.cpuUS), append(bareCPU, two.cpuUS)
		took, bareTook = append(took, one.took...), append(bareTook, two.took...)
	}
	return round(median(ratios), 3), GatewayRate{
		PerS: round(median(ours), 0), CeilingPerS: round(median(bare), 0), P50MS: millis(quantile(took, 0.50)), P99MS: millis(quantile(took, 0.99)),
		CeilingP99: millis(quantile(bareTook, 0.99)), CPUUS: round(median(cpu), 0), CeilingCPUUS: round(median(bareCPU), 0),
	}, nil
}

// added compares latencies at a steady rate, in turns.
func (b *gatewayBench) added(ctx context.Context, g *Gateway) (err error) {
	d, err := openDisk(b.o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	g.Half.PerS = round(g.PerS8.PerS/2, 0)
	b.o.Step(fmt.Sprintf("%.0f requests a second, half of what the gateway can do, to either, and as many records to the disk, in turns of %s", g.Half.PerS, b.lasting()))
	var all [3][]time.Duration
	for range b.rounds(loadRounds) {
		for i, call := range [...]func(context.Context) error{b.gateway.call, b.ceiling.call, d.call} {
			one, err := steadily(ctx, g.Half.PerS, b.lasting(), call)
			if err != nil {
				return err
			}
			all[i] = append(all[i], one...)
		}
	}
	took, bare, waits := all[0], all[1], all[2]
	g.Half.DiskP50MS, g.Half.DiskP99MS = millis(quantile(waits, 0.50)), millis(quantile(waits, 0.99))
	g.AddedP50MS, g.AddedP99MS = millis(quantile(took, 0.50)-quantile(bare, 0.50)), millis(quantile(took, 0.99)-quantile(bare, 0.99))
	g.Half.P50MS, g.Half.P99MS = millis(quantile(took, 0.50)), millis(quantile(took, 0.99))
	g.Half.CeilingP50MS, g.Half.CeilingP99MS = millis(quantile(bare, 0.50)), millis(quantile(bare, 0.99))
	return nil
}

// share is less than 1 for a smaller size.
func (b *gatewayBench) share() float64 {
	return math.Min(1, float64(b.o.size(gatewayRequests))/gatewayRequests)
}

// rounds are two at least, so that each follows another.
func (b *gatewayBench) rounds(of float64) int { return max(2, int(math.Ceil(b.share()*of))) }

func (b *gatewayBench) lasting() time.Duration {
	return max(time.Duration(b.share()*float64(loadLasts)), 20*time.Millisecond)
}

// chunks compares how long chunks of streams are on their way, in turns.
func (b *gatewayBench) chunks(ctx context.Context, g *Gateway) error {
	var p50s, p99s []float64
	rounds := b.rounds(streamRounds)
	for i := range rounds {
		b.o.Step(fmt.Sprintf("round %d of %d: %d streams of %d chunks through either", i+1, rounds, streamsAtOnce, streamChunks))
		ours, err := b.gateway.streams(ctx)
		if err != nil {
			return err
		}
		bare, err := b.ceiling.streams(ctx)
		if err != nil {
			return err
		}
		p50s = append(p50s, micros(quantile(ours, 0.50)-quantile(bare, 0.50)))
		p99s = append(p99s, micros(quantile(ours, 0.99)-quantile(bare, 0.99)))
	}
	g.ChunkUS, g.ChunkP99US = round(median(p50s), 1), round(median(p99s), 1)
	return nil
}

// drain reads a body to its end, so that its connection is used again.
func drain(resp *http.Response) error {
	_, err := io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
