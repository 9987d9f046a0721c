package crashtest

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestCleanStop stops the services as a service manager does.
func TestCleanStop(t *testing.T) {
	platformTest(t)
	r := random(t)
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	ingest, invoicer := p.service("ingest"), p.service("invoicer")

	// SIGTERM: what is in flight ends as if nothing had happened.
	p.serve()
	slow := p.streams(acme.chat, r, 10, 300)
	time.Sleep(700 * time.Millisecond)
	began := time.Now()
	if code := p.api.stop(t, syscall.SIGTERM, startWithin); code != 0 {
		t.Errorf("the API ended with code %d after SIGTERM", code)
	}
	t.Logf("the API drained for %s", time.Since(began).Round(time.Millisecond))
	all := slow()
	for _, a := range all {
		if !a.answered {
			t.Errorf("request %d was in flight at SIGTERM and was not answered: %s", a.n, a.problem)
		}
	}

	// A second SIGTERM: at once. The requests are admitted, so none is free.
	p.serve()
	slow = p.streams(acme.chat, r, 3, 3000)
	time.Sleep(700 * time.Millisecond)
	last := p.api.retire()
	last.signal(syscall.SIGTERM)
	time.Sleep(300 * time.Millisecond)
	if !last.running() {
		t.Error("the API did not wait for requests in flight")
	}
	last.signal(syscall.SIGTERM)
	last.wait(t, 2*time.Second)
	if s, ok := last.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGTERM {
		t.Errorf("the API ended with %v after a second SIGTERM, want a death by it", last.cmd.ProcessState)
	}
	killed := slow()
	for i := range killed {
		if killed[i].answered {
			t.Errorf("request %d was answered by a process that was killed", killed[i].n)
		}
		killed[i].n, killed[i].prompt = killed[i].n+1000, killed[i].prompt+1000 // numbers of their own
	}
	all = append(all, killed...)

	p.settle(log, projection)
	truth := readTruth(t, log)
	if n := len(truth.settled); n != len(all) {
		t.Errorf("%d requests were admitted and %d are settled", len(all), n)
	}
	p.judgeAll(acme, all, truth, []uuid.UUID{})
	for _, role := range []*role{p.api, ingest, invoicer, p.engines} {
		if code := role.stop(t, syscall.SIGTERM, 15*time.Second); code != 0 {
			t.Errorf("%s ended with code %d after SIGTERM", role.name, code)
		}
	}
	p.noDeaths()
}

// streams sends slow streaming requests and returns how to wait for them.
func (p *platform) streams(key string, r *rand.Rand, n, chunkMS int) func() []attempt {
	l := &load{p: p, key: key}
	all := make([]attempt, n)
	var sending sync.WaitGroup
	for i := range all {
		all[i] = attempt{n: uint64(i + 1), model: "gpt-4o", stream: true, prompt: promptBase + uint64(i+1), completion: 6 + r.Uint64N(100)}
		sending.Go(func() { l.send(context.Background(), &all[i], chunkMS, attemptWithin) })
	}
	return func() []attempt {
		sending.Wait()
		return all
	}
}
