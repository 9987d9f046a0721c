package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// producer is a client of the events API: a keep-alive connection and a batch that
// is made once. Before each request only the ids in it are overwritten, so that
// next to nothing of the machine goes into making events.
type producer struct {
	client *http.Client
	token  string
	body   []byte
	idAt   []int // where the digits of each event's id begin
}

const (
	idDigits  = 16
	hexDigits = "0123456789abcdef"
)

// events counts the events of all producers of the process; an id is never reused.
var eventsMade atomic.Uint64

func newProducers(trace []Request, token string) []*producer {
	all := make([]*producer, apiClients)
	for i := range all {
		p := &producer{token: token, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1, WriteBufferSize: 64 << 10}}}
		p.build(newTraffic(trace, uint64(i), time.Now().Add(-time.Hour), time.Second))
		all[i] = p
	}
	return all
}

// build writes a batch as a producer would.
func (p *producer) build(t *traffic) {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range apiBatch {
		if i > 0 {
			b.WriteByte(',')
		}
		t.at = t.at.Add(t.step)
		request := t.trace[t.rand.IntN(len(t.trace))]
		model := trafficModels[t.rand.IntN(len(trafficModels))].model
		b.WriteString(`{"specversion":"1.0","type":"ai.usage","source":"//gateway.eu-1/pod-7","id":"`)
		p.idAt = append(p.idAt, b.Len())
		fmt.Fprintf(&b, `%s","time":%q,"datacontenttype":"application/json","data":{"model":%q,"input_tokens":%d,"cache_read_tokens":%d,"output_tokens":%d,"latency_ms":%d,"outcome":"completed"}}`,
			strings.Repeat("0", idDigits), t.at.UTC().Format("2006-01-02T15:04:05.000Z07:00"), model,
			request.Prompt, request.Prompt/4, request.Completion, 200+request.Completion*12)
	}
	b.WriteByte(']')
	p.body = b.Bytes()
}

// renew gives every event of the batch an id that was never used.
func (p *producer) renew() {
	first := eventsMade.Add(apiBatch) - apiBatch
	for i, at := range p.idAt {
		n := first + uint64(i)
		for d := at + idDigits - 1; d >= at; d-- {
			p.body[d] = hexDigits[n&15]
			n >>= 4
		}
	}
}

// post hands the batch in.
func (p *producer) post(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/events", bytes.NewReader(p.body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+p.token)
	request.Header.Set("Content-Type", "application/cloudevents-batch+json")
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusAccepted || !bytes.Contains(answer, fmt.Appendf(nil, `"accepted":%d,`, apiBatch)) {
		return fmt.Errorf("the events API answered %d: %.300s", response.StatusCode, answer)
	}
	return nil
}

// driven is what a number of batches took.
type driven struct {
	perS float64 // events
	took []time.Duration
}

// drive lets all producers post until so many batches are answered.
func (b *apiBench) drive(ctx context.Context, url string, batches int) (driven, error) {
	progress := b.o.Progress("batches")
	var next, done atomic.Int64
	took := make([]time.Duration, batches)
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, p := range b.producers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= batches {
					return nil
				}
				p.renew()
				began := time.Now()
				if err := p.post(ctx, url); err != nil {
					return err
				}
				took[i] = time.Since(began)
				progress(uint64(done.Add(1)), uint64(batches))
			}
		})
	}
	err := g.Wait()
	all := time.Since(began)
	for _, p := range b.producers {
		p.client.CloseIdleConnections()
	}
	if url == b.api && err == nil {
		b.accepted += batches * apiBatch
	}
	return driven{perS: float64(batches*apiBatch) / all.Seconds(), took: took}, err
}
