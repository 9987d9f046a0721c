package events

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// Requests that come one after the other within a linger share a message too, and
// the first of them waits no longer than that.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const linger, requests = admitLinger, 100
		messages := 0
		c := newCommitter(nil, "ADMITTED", 1<<20, testBound, testBound, linger)
		c.publish = func(context.Context, *nats.Msg) error { messages++; return nil }
		var callers sync.WaitGroup
		for range requests {
			p := onePending()
			if err := c.submit(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			callers.Go(func() {
				if err := p.wait(t.Context()); err != nil || time.Since(at) > linger {
					t.Errorf("%v after %s", err, time.Since(at))
				}
			})
			time.Sleep(linger / 10)
		}
		callers.Wait()
		if messages < requests/11 || messages > requests/9 {
			t.Errorf("%d requests in %d messages", requests, messages)
		}

		// Whoever is in a hurry waits for nothing, before it is there and after.
		for _, early := range []bool{true, false} {
			p, at := onePending(), time.Now()
			if early {
				c.hurryUp()
			}
			if err := c.submit(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if !early {
				synctest.Wait() // the loop lingers
				c.hurryUp()
				c.hurryUp() // two at once are one, and one is left for the next
			}
			if err := p.wait(t.Context()); err != nil || time.Since(at) > 0 {
				t.Errorf("in a hurry: %v after %s", err, time.Since(at))
			}
		}
		if err := c.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
