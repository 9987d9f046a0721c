package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"
)

const (
	driverConcurrency = 48
	quarter           = 15 * time.Minute
	requestTimeout    = time.Minute
)

// driver sends the trace as chat requests.
type driver struct {
	url    string
	clock  *Clock
	cast   []actor
	root   string // the operator's token
	client *http.Client
}

func newDriver(url string, clock *Clock, cast []actor, root string) *driver {
	return &driver{url: url, clock: clock, cast: cast, root: root, client: &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: driverConcurrency, MaxConnsPerHost: driverConcurrency},
	}}
}

// drive sends every row at its own time of the platform's clock, many at once,
// but lets all of a quarter of an hour end before the next begins: so each
// request falls into the quarter that the recount puts it in.
func (d *driver) drive(ctx context.Context, all []play, sent func(n int)) error {
	for len(all) > 0 {
		until := all[0].At.Truncate(quarter).Add(quarter)
		n := 0
		for n < len(all) && all[n].At.Before(until) {
			n++
		}
		if err := d.quarter(ctx, all[:n], sent); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (d *driver) quarter(ctx context.Context, ps []play, sent func(n int)) error {
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	next := 0
	take := func() (play, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(ps) {
			return play{}, false
		}
		next++
		d.clock.MoveTo(ps[next-1].At)
		return ps[next-1], true
	}
	for range driverConcurrency {
		g.Go(func() error {
			for {
				p, ok := take()
				if !ok {
					return nil
				}
				if err := d.chat(ctx, d.cast[p.org].keys[p.team], p); err != nil {
					return fmt.Errorf("row %d of the trace: %w", p.index+1, err)
				}
				sent(1)
			}
		})
	}
	return g.Wait()
}

// chat sends one request and checks the usage that the client is shown.
func (d *driver) chat(ctx context.Context, key string, p play) error {
	body, err := json.Marshal(map[string]any{
		"model":    p.model,
		"messages": []map[string]string{{"role": "user", "content": fmt.Sprintf("row %d of the trace", p.index+1)}},
		"stream":   p.stream, "stream_options": map[string]bool{"include_usage": true},
		"simulate": map[string]uint64{"prompt_tokens": p.Prompt, "completion_tokens": p.Completion, "cached_tokens": p.cached, "reasoning_tokens": p.reasoning},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	if p.stream && !bytes.HasSuffix(answer, []byte("data: [DONE]\n\n")) {
		return fmt.Errorf("the stream ended without [DONE]")
	}
	want := fmt.Sprintf(`"prompt_tokens":%d,`, p.Prompt)
	if !bytes.Contains(answer, []byte(want)) {
		return fmt.Errorf("the answer does not say %s", want)
	}
	return nil
}

// get asks the API and decodes its answer.
func (d *driver) get(ctx context.Context, token, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, res.Status, body)
	}
	// snake_case names go into CamelCase fields
	if err := jsonv2.Unmarshal(body, into, jsonv2.MatchCaseInsensitiveNames(true)); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}
