package gateway_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aione/events"
	"aione/gateway"
	"aione/keys"
)

// another is the key of another org.
func (b *bench) another() string {
	b.t.Helper()
	_, secret, err := b.keys.Create(b.t.Context(), b.log, keys.CreateInput{OrgID: events.NewID(), Name: "another", Actor: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	return secret
}

// mustHaveShare checks that an org has its whole share to use, and no more: so many
// requests at once, in whatever order those before have ended.
func (b *bench) mustHaveShare(secret string, share int) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		release := make(chan struct{})
		b.hold(&b.tap.onAdmit, release)
		var served, refused atomic.Int64
		var all sync.WaitGroup
		for range share + 1 {
			all.Go(func() {
				switch a := b.ask(secret, body(true, `{}`)); a.status {
				case http.StatusOK:
					served.Add(1)
				case http.StatusTooManyRequests:
					if refused.Add(1) == 1 {
						close(release) // all the others are held
					}
				default:
					b.t.Errorf("%d %s", a.status, a.raw)
				}
			})
		}
		all.Wait()
		b.tap.onAdmit.Store(nil)
		if served.Load() == int64(share) && refused.Load() == 1 {
			return
		}
		if time.Now().After(end) || served.Load() > int64(share) {
			b.t.Fatalf("%d requests at once, %d refused, want %d", served.Load(), refused.Load(), share)
		}
	}
}

// TestOneOrgCannotTakeAllPlaces: one org floods with slow streams, in all dialects;
// of another all requests are served.
func TestOneOrgCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	const places, share = 12, 3 // a quarter, by default
	b := newBench(t, func(c *gateway.Config) { c.MaxInFlight = places })
	other := b.another()
	var refused, served atomic.Int64
	flooding, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for i := range 3 * places {
		s := speeches[i%len(speeches)]
		flood.Go(func() {
			for flooding.Err() == nil {
				a := s.ask(b, b.secret, ask{stream: true, simulate: `{"completion_tokens":6,"chunks":6,"chunk_ms":40}`})
				switch {
				case a.status == http.StatusOK:
					served.Add(1)
				case a.status != http.StatusTooManyRequests || a.code != "rate_limit_exceeded" || a.header.Get("Retry-After") != "1" || !strings.Contains(a.raw, "requests at once"):
					t.Errorf("%s: %d %s %v", s.dialect, a.status, a.raw, a.header)
				default:
					refused.Add(1)
				}
			}
		})
	}
	for end := time.Now().Add(20 * time.Second); refused.Load() < places && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for i := range 30 {
		if a := b.ask(other, body(i%2 == 0, `{}`)); a.status != http.StatusOK || a.failure != nil {
			t.Errorf("another org's request %d: %d %s", i+1, a.status, a.raw)
		}
	}
	stop()
	flood.Wait()
	if got, want := b.gateway.Refusals(), (gateway.Refusals{OrgInFlight: uint64(refused.Load())}); got != want || served.Load() == 0 {
		t.Errorf("%+v are counted, want %+v; %d served", got, want, served.Load())
	}
	b.mustHaveShare(b.secret, share)
}

// panicking is a limiter that panics for prompts of a kind.
type panicking struct{ *books }

func (p panicking) Reserve(ctx context.Context, c gateway.Claim) (gateway.Hold, error) {
	if c.Model == "claude-opus-4-6" {
		panic(http.ErrAbortHandler) // as any other, but the server does not shout
	}
	return p.books.Reserve(ctx, c)
}

// TestPlacesComeBack: however requests end, their places are free again.
func TestPlacesComeBack(t *testing.T) {
	t.Parallel()
	const share = 4
	b := newBench(t, func(c *gateway.Config) {
		c.OrgInFlightMax, c.Limiter = share, panicking{&books{}}
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ends := map[string]func(*rand.Rand){
		"whole":     func(r *rand.Rand) { b.ask(b.secret, body(r.IntN(2) == 0, `{}`)) },
		"failed":    func(r *rand.Rand) { b.ask(b.secret, body(r.IntN(2) == 0, `{"status":500}`)) },
		"cut":       func(*rand.Rand) { b.ask(b.secret, body(true, `{"cut_after_chunks":1}`)) },
		"no JSON":   func(*rand.Rand) { b.ask(b.secret, `{"model"`) },
		"no model":  func(*rand.Rand) { b.ask(b.secret, `{"model":"none","messages":[{}]}`) },
		"no key":    func(*rand.Rand) { b.ask("sk-nex-"+strings.Repeat("x", 40), body(true, `{}`)) },
		"no scope":  func(*rand.Rand) { b.ask(b.finance, body(true, `{}`)) },
		"half body": func(*rand.Rand) { b.dribble(b.secret).Close() },
		"leaves": func(r *rand.Rand) {
			ctx, leave := context.WithTimeout(t.Context(), time.Duration(r.IntN(60))*time.Millisecond)
			defer leave()
			if resp, err := http.DefaultClient.Do(b.request(ctx, b.secret, body(true, `{"completion_tokens":8,"chunks":8,"chunk_ms":10}`))); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		},
		"panic": func(*rand.Rand) {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a kept connection would be tried again
			if resp, err := client.Do(b.request(t.Context(), b.secret, strings.Replace(body(false, `{}`), `"small"`, `"claude-opus-4-6"`, 1))); err == nil {
				if resp.StatusCode != http.StatusTooManyRequests {
					t.Errorf("a panic is answered %d", resp.StatusCode)
				}
				resp.Body.Close()
			}
		},
	}
	var all sync.WaitGroup
	for name, end := range ends {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(len(name))))
			for range 8 {
				end(r)
			}
		})
	}
	all.Wait()
	b.mustHaveShare(b.secret, share)
}

// dribble sends a request without the end of its body.
func (b *bench) dribble(secret string) net.Conn {
	b.t.Helper()
	conn := must(net.Dial("tcp", strings.TrimPrefix(b.url, "http://")))
	must(fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{", secret))
	return conn
}

// TestSlowBodies: a body that does not come holds no place without a key, none beyond
// the org's share with one, and nothing for long.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	const places, share = 4, 2
	b := newBench(t, func(c *gateway.Config) {
		c.MaxInFlight, c.OrgInFlightMax, c.Timeouts.Body = places, share, time.Second
	})
	other := b.another()
	answered := func(conn net.Conn, status string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		head := make([]byte, 12)
		if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 "+status {
			t.Errorf("answered %q, %v, want %s", head, err, status)
		}
		conn.Close()
	}
	var strangers, ours []net.Conn
	for range 5 * places {
		strangers = append(strangers, b.dribble("sk-nex-nobody"))
	}
	for range share {
		ours = append(ours, b.dribble(b.secret))
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // until they hold their places
		if a := b.ask(b.secret, body(false, `{}`)); a.status == http.StatusTooManyRequests {
			break
		} else if a.status != http.StatusOK || time.Now().After(end) {
			t.Fatalf("%d %s", a.status, a.raw)
		}
	}
	for range 5 {
		if a := b.ask(other, body(false, `{}`)); a.status != http.StatusOK {
			t.Errorf("another org: %d %s", a.status, a.raw)
		}
	}
	for _, conn := range strangers {
		answered(conn, "401")
	}
	for _, conn := range ours {
		answered(conn, "400")
	}
	b.mustHaveShare(b.secret, share)
}
