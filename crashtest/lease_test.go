package crashtest

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestTwoOfEach runs two ingesters and two invoicers, and stops the ingester that
// holds the lease for longer than the lease lasts, while the load goes on. Then it
// lets it go on, as a machine does that has come back from a pause.
func TestTwoOfEach(t *testing.T) {
	platformTest(t)
	r := random(t)
	const stops, clients = 6, 8
	const ttl = 2 * time.Second
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	p.serve()
	var ingesters []*role
	for range 2 {
		// Many small batches: the holder is stopped in the middle of one, often.
		ingesters = append(ingesters, p.service("ingest", "AIONE_LEASE_TTL="+ttl.String(), "AIONE_BATCH_AGE=1ms"))
		p.service("invoicer", "AIONE_INVOICE_SCHEDULE=@every 1s")
	}
	load := p.load(clients, acme.chat, r)
	calm(t, load)
	for range stops {
		time.Sleep(between(r, 100*time.Millisecond, time.Second))
		holder := p.leaseHolder(ingesters)
		holder.signal(syscall.SIGSTOP)
		before := p.rowsThrough(projection)
		for began := time.Now(); p.leaseHolder(ingesters) == holder || p.rowsThrough(projection) == before; time.Sleep(50 * time.Millisecond) {
			if time.Since(began) > startWithin {
				t.Fatalf("the other ingester does not take over and write rows within %s", startWithin)
			}
		}
		holder.signal(syscall.SIGCONT)
	}
	calm(t, load)
	attempts := load.end()
	p.settle(log, projection)
	p.noDeaths()
	p.judgeAll(acme, attempts, readTruth(t, log), []uuid.UUID{})
}

// leaseHolder waits until one of the ingesters holds the lease.
func (p *platform) leaseHolder(ingesters []*role) *process {
	p.t.Helper()
	nc, err := nats.Connect(p.natsURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	seen := "nothing"
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		kv, err := js.KeyValue(ctx, "LEASES")
		if err != nil {
			continue // nobody has made it yet
		}
		entry, err := kv.Get(ctx, "ingest-0")
		if err != nil {
			seen = err.Error()
			continue // free just now
		}
		seen = string(entry.Value())
		holder, _, _ := strings.Cut(seen, "\n") // host/pid, for people to read
		_, pid, _ := strings.Cut(holder, "/")
		for _, r := range ingesters {
			if now := r.process(0); now != nil && strconv.Itoa(now.pid()) == pid {
				return now
			}
		}
	}
	p.t.Fatalf("no ingester takes the lease within %s; last seen: %s", startWithin, seen)
	return nil
}

// rowsThrough is the last sequence that is in rows.
func (p *platform) rowsThrough(projection interface {
	CountedShard(context.Context, int) (uint64, error)
}) uint64 {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	seq, err := projection.CountedShard(ctx, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	return seq
}

// TestFrozenClickHouse stops ClickHouse itself for longer than the lease lasts,
// and kills the ingester whose insert it has not read yet: that insert is carried
// out once ClickHouse goes on, when the next ingester is at work already.
func TestFrozenClickHouse(t *testing.T) {
	platformTest(t)
	r := random(t)
	const freezes, clients = 6, 8
	const ttl = 1500 * time.Millisecond
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	p.serve()
	var ingesters []*role
	for range 2 {
		ingesters = append(ingesters, p.service("ingest", "AIONE_LEASE_TTL="+ttl.String(), "AIONE_BATCH_AGE=1ms"))
	}
	load := p.load(clients, acme.chat, r)
	calm(t, load)
	for range freezes {
		time.Sleep(between(r, 100*time.Millisecond, 700*time.Millisecond))
		holder := p.leaseHolder(ingesters)
		pid := p.chdb()
		if pid == 0 {
			t.Fatal("ClickHouse does not run")
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(between(r, 50*time.Millisecond, 300*time.Millisecond))
		for _, role := range ingesters {
			if role.process(0) == holder {
				role.kill(holder)
			}
		}
		time.Sleep(ttl + between(r, 0, time.Second))
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	calm(t, load)
	attempts := load.end()
	p.settle(log, projection)
	p.noDeaths()
	p.judgeAll(acme, attempts, readTruth(t, log), []uuid.UUID{})
}
