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
		const linger, requests = time.Millisecond, 100
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
		if err := c.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
