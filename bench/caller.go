package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"aione/events"
)

// caller is many clients of one chat API.
type caller struct {
	url, key string
	body     string
	stream   string
	client   *http.Client
	served   atomic.Int64
}

func newCaller(url, key, prompt string) *caller {
	body := `{"model":"gpt-4o","messages":[{"role":"user","content":"` + prompt + `"}],"max_tokens":200`
	return &caller{url: url + "/v1/chat/completions", key: key, body: body + "}", stream: body + `,"stream":true}`,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4096}}}
}

func (c *caller) post(ctx context.Context, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	if body == c.stream {
		req.Header.Set("Accept", "text/event-stream")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // as much as there is
		resp.Body.Close()
		return nil, fmt.Errorf("a chat request was answered %d: %s", resp.StatusCode, text)
	}
	c.served.Add(1)
	return resp, nil
}

func (c *caller) call(ctx context.Context) error {
	resp, err := c.post(ctx, c.body)
	if err != nil {
		return err
	}
	return drain(resp)
}

// called is what a number of requests took.
type called struct {
	perS, cpuUS float64
	took        []time.Duration
}

// calls makes requests as fast as a number of connections can.
func (c *caller) calls(ctx context.Context, requests, connections int) (called, error) {
	took := make([]time.Duration, requests)
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	cpu, began := cpuOf(os.Getpid()), time.Now()
	for range connections {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= requests {
					return nil
				}
				began := time.Now()
				if err := c.call(ctx); err != nil {
					return err
				}
				took[i] = time.Since(began)
			}
		})
	}
	err := g.Wait()
	all := time.Since(began)
	cpu = cpuOf(os.Getpid()) - cpu
	return called{perS: float64(requests) / all.Seconds(), cpuUS: float64(cpu.Microseconds()) / float64(requests), took: took}, err
}

// steadily makes calls at a steady rate, whatever becomes of those before. How long
// one took is counted from when it was due.
func steadily(ctx context.Context, perS float64, lasting time.Duration, call func(context.Context) error) ([]time.Duration, error) {
	n := int(perS * lasting.Seconds())
	took := make([]time.Duration, n)
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(float64(i) / perS * float64(time.Second)))
		time.Sleep(time.Until(due))
		g.Go(func() error {
			err := call(ctx)
			took[i] = time.Since(due)
			return err
		})
	}
	return took, g.Wait()
}

// stampedFrom is what the stamps of a stream count from.
var stampedFrom = time.Now()

const stamp = `"content":"`

// tailBytes is how much of a stream an error about it repeats.
const tailBytes = 1000

// streamStamped is a provider whose chunks say when they were written, in
// nanoseconds since stampedFrom.
func streamStamped(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	const head = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{`
	for range streamChunks {
		fmt.Fprintf(w, head+stamp+`%d"},"finish_reason":null}]}`+"\n\n", time.Since(stampedFrom).Nanoseconds())
		if control.Flush() != nil {
			return
		}
		time.Sleep(chunkPause)
	}
	fmt.Fprint(w, head+`},"finish_reason":"stop"}]}`+"\n\n"+
		`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":200,"total_tokens":209}}`+"\n\ndata: [DONE]\n\n")
}

// streams reads some streams at once and says how long each chunk was on its way.
func (c *caller) streams(ctx context.Context) ([]time.Duration, error) {
	took := make([][]time.Duration, streamsAtOnce)
	g, ctx := errgroup.WithContext(ctx)
	for i := range took {
		g.Go(func() (err error) {
			took[i], err = c.timed(ctx)
			return err
		})
	}
	err := g.Wait()
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	return all, err
}

func (c *caller) timed(ctx context.Context) (took []time.Duration, err error) {
	resp, err := c.post(ctx, c.stream)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var tail string // of what was read
	for lines.Scan() {
		if tail += lines.Text() + "\n"; len(tail) > tailBytes {
			tail = tail[len(tail)-tailBytes:]
		}
		_, rest, ok := strings.Cut(lines.Text(), stamp)
		if !ok {
			continue
		}
		arrived := time.Since(stampedFrom)
		digits, _, _ := strings.Cut(rest, `"`)
		sent, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read a stamp: %w", err)
		}
		took = append(took, arrived-time.Duration(sent))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read a stream after %d chunks: %w; it ended with %q", len(took), err, tail)
	}
	// The first waits for its admission: added_p50_ms tells of that.
	if len(took) != streamChunks {
		return nil, fmt.Errorf("a stream of %d chunks had %d and ended with %q", streamChunks, len(took), tail)
	}
	return took[1:], nil
}

// countUsage counts the events in the log up to a sequence.
func countUsage(ctx context.Context, log *events.Log, end uint64) (n int, err error) {
	r, err := log.ReadUsage(ctx, 0, 1)
	if err != nil {
		return 0, err
	}
	defer r.Stop()
	var d events.Decoder
	var us []events.Usage
	for {
		m, err := r.Next(ctx)
		if err != nil {
			return n, err
		}
		if us, _, err = d.Envelope(m.Data, us[:0]); err != nil {
			return n, err
		}
		n += len(us)
		if m.Seq == end {
			return n, nil
		}
	}
}
