package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// attempt is one chat request as its client saw it. Nothing is sent twice: who
// gets no answer asks anew, under another number.
type attempt struct {
	n      uint64 // its number; the prompt tokens say it too
	model  string
	stream bool

	prompt, completion, cached, reasoning uint64

	answered bool      // completely, and well
	id       uuid.UUID // the answer's x-request-id, if its header arrived
	problem  string    // why it was not answered
}

// promptBase keeps the numbers that stand for requests apart from estimates,
// which count a handful of words.
const promptBase = 10_000

var loadModels = []string{"gpt-4o", "deepseek-chat"}

// load is a number of clients that send one request after the other.
type load struct {
	p    *platform
	key  string
	next atomic.Uint64

	impatient atomic.Bool // one client in twenty hangs up before the end

	mu       sync.Mutex
	attempts []attempt
	clients  sync.WaitGroup
	stop     context.CancelFunc
	halt     chan struct{} // closed: no new requests, those in flight go on
	haltOnce sync.Once
}

// attemptWithin is longer than the gateway needs to give up on the log.
const attemptWithin = 40 * time.Second

func (p *platform) load(clients int, key string, r *rand.Rand) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{p: p, key: key, stop: cancel, halt: make(chan struct{})}
	for range clients {
		mine := rand.New(rand.NewPCG(r.Uint64(), 1))
		l.clients.Go(func() { l.client(ctx, mine) })
	}
	p.t.Cleanup(func() { l.stop(); l.end() })
	return l
}

// end lets requests in flight end and returns all attempts.
func (l *load) end() []attempt {
	l.haltOnce.Do(func() { close(l.halt) })
	l.clients.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempts
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.attempts {
		if a.answered {
			n++
		}
	}
	return n
}

func (l *load) client(ctx context.Context, r *rand.Rand) {
	for {
		select {
		case <-l.halt:
			return
		case <-time.After(between(r, time.Millisecond, 30*time.Millisecond)):
		}
		a := attempt{n: l.next.Add(1), model: loadModels[r.IntN(len(loadModels))], stream: r.IntN(2) == 0}
		a.prompt, a.completion = promptBase+a.n, 1+r.Uint64N(300)
		if r.IntN(3) == 0 {
			a.cached, a.reasoning = r.Uint64N(a.prompt), r.Uint64N(a.completion)
		}
		patience := attemptWithin
		if l.impatient.Load() && r.IntN(20) == 0 {
			patience = between(r, time.Millisecond, 300*time.Millisecond)
		}
		l.send(ctx, &a, r.IntN(60), patience)
		if !a.answered { // like any client that retries
			time.Sleep(50 * time.Millisecond)
		}
		l.mu.Lock()
		l.attempts = append(l.attempts, a)
		l.mu.Unlock()
	}
}

func (l *load) send(ctx context.Context, a *attempt, pauseMS int, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	simulate := map[string]any{"prompt_tokens": a.prompt, "completion_tokens": a.completion, "cached_tokens": a.cached, "reasoning_tokens": a.reasoning}
	if a.stream {
		simulate["chunk_ms"], simulate["chunks"] = pauseMS, 6
	} else {
		simulate["latency_ms"] = pauseMS
	}
	body, err := json.Marshal(map[string]any{
		"model":    a.model,
		"messages": []map[string]string{{"role": "user", "content": fmt.Sprintf("request number %d", a.n)}},
		"stream":   a.stream, "stream_options": map[string]bool{"include_usage": true},
		"simulate": simulate,
	})
	if err != nil {
		panic(err) // maps of numbers and words
	}
	status, header, answer, err := l.p.call(ctx, http.MethodPost, "/v1/chat/completions", l.key, "application/json", body)
	if header != nil {
		a.id, _ = uuid.Parse(header.Get("X-Request-Id")) // zero if there is none: the oracle tells
	}
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,`, a.prompt, a.completion)
	switch {
	case err != nil:
		a.problem = err.Error()
	case status != http.StatusOK:
		a.problem = fmt.Sprintf("status %d: %.200s", status, answer)
	case a.stream && !bytes.HasSuffix(answer, []byte("data: [DONE]\n\n")):
		a.problem = "the stream ended without [DONE]"
	case !bytes.Contains(answer, []byte(usage)):
		a.problem = fmt.Sprintf("the answer does not say %s: %.500s", usage, answer)
	default:
		a.answered = true
	}
}
