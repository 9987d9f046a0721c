package admission

import (
	"context"
	"encoding/binary"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/keys"
)

const (
	benchKeys = 1_000_000
	benchOrgs = 10_000
)

var loaded *Limiter
var loadedBytes uint64

func benchKey(n int) keys.Key {
	var k keys.Key
	org := n % benchOrgs
	binary.LittleEndian.PutUint64(k.ID[:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(k.ID[8:], uint64(n)+1)
	binary.LittleEndian.PutUint64(k.OrgID[8:], uint64(org)*0x9e3779b97f4a7c15)
	k.OrgID[0], k.TeamID = 1, k.OrgID
	k.TeamID[0] = byte(2 + n/benchOrgs%8)
	k.RPMLimit, k.TPMLimit = 1e9, 4e10
	return k
}

// load makes a limiter with a million keys, each with rates, a budget and spend of
// this month, of ten thousand orgs with balance, budget and plan.
func load(b *testing.B) *Limiter {
	b.Helper()
	if loaded != nil {
		return loaded
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l, err := New(Config{Zones: shanghai, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	limit := amount{hi: 1 << 20}
	began := time.Now()
	now := l.config.Now()
	for n := range benchKeys {
		k := benchKey(n)
		o := l.org(k.OrgID)
		o.rates = Rates{RPM: 1e9, TPM: 4e10}
		m := o.key(k.ID)
		m.limited, m.limit = true, limit
		o.budget.limited, o.budget.limit = true, limit
		t := o.team(k.TeamID)
		t.limited, t.limit = true, limit
		o.opened, o.balance.limited, o.balance.limit = true, true, limit
		if err := o.spend(l, k.TeamID, k.ID, now, amount{lo: 1}, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("loaded in %s", time.Since(began))
	l.ready.Store(true)
	runtime.GC()
	runtime.ReadMemStats(&after)
	loaded, loadedBytes = l, after.HeapAlloc-before.HeapAlloc
	return l
}

func oneRequest(b *testing.B, l *Limiter, k keys.Key, id *uuid.UUID, at time.Time) {
	binary.BigEndian.PutUint64(id[8:], binary.BigEndian.Uint64(id[8:])+1)
	h, err := l.Reserve(b.Context(), Claim{Key: &k, Model: "m", At: at, RequestID: *id, Tokens: 2000, Cost: benchBound})
	if err != nil {
		b.Fatal(err)
	}
	h.Settle(1200, benchCost)
}

var benchBound, benchCost = decimal.New(3_000_000_000, -12), decimal.New(1_234_567_890, -12)

// cpu is the processor time of this process, which a busy machine does not stretch.
func cpu(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// Reserve and Settle over a million keys, in an order that no cache likes.
func BenchmarkReserveSettle(b *testing.B) {
	l := load(b)
	b.ReportAllocs()
	at := time.Now()
	id := uuid.New()
	all := make([]keys.Key, 1<<16)
	for i := range all {
		all[i] = benchKey(i * 7919 % benchKeys)
	}
	n := 0
	used := cpu(b)
	for b.Loop() {
		n++
		oneRequest(b, l, all[n&(1<<16-1)], &id, at)
	}
	b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(loadedBytes)/benchKeys, "bytes/key")
}

func BenchmarkReserveSettleParallel(b *testing.B) {
	l := load(b)
	b.ReportAllocs()
	at := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		id := uuid.New()
		n := int(id[0])<<12 + int(id[1])
		for pb.Next() {
			n = (n + 7919) % benchKeys
			oneRequest(b, l, benchKey(n), &id, at)
		}
	})
}

// All requests of one org: they meet at its lock.
func BenchmarkReserveSettleOneOrgParallel(b *testing.B) {
	l := load(b)
	b.ReportAllocs()
	at := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		id := uuid.New()
		n := int(id[0])
		for pb.Next() {
			n++
			oneRequest(b, l, benchKey(n%100*benchOrgs), &id, at)
		}
	})
}

// counter takes records and forgets them.
type counter struct{ seq uint64 }

func (c *counter) Append(context.Context, ...events.Append) ([]uint64, error) {
	c.seq++
	return []uint64{c.seq}, nil
}

func (c *counter) LastOn(context.Context, string) (events.Record, bool, error) {
	return events.Record{}, false, nil
}

var secrets []string
var keySet *keys.Set

// The whole of what a request pays: whose key it is, its limits, its reservation.
func BenchmarkVerifyReserve(b *testing.B) {
	l := load(b)
	if keySet == nil {
		var err error
		if keySet, err = keys.NewSet(keys.Config{Peppers: []keys.Pepper{{Version: 1, Secret: make([]byte, 32)}}, Now: time.Now}); err != nil {
			b.Fatal(err)
		}
		log := &counter{}
		for n := range benchKeys {
			k := benchKey(n)
			_, secret, err := keySet.Create(b.Context(), log, keys.CreateInput{OrgID: k.OrgID, TeamID: k.TeamID, Name: "k", RPMLimit: 1e9, TPMLimit: 1e10, Actor: "bench"})
			if err != nil {
				b.Fatal(err)
			}
			if n%16 == 0 {
				secrets = append(secrets, secret)
			}
		}
	}
	b.ReportAllocs()
	at := time.Now()
	id := uuid.New()
	holds := make([]Hold, 0, 4096)
	n := 0
	used := cpu(b)
	for b.Loop() {
		n++
		key, err := keySet.Verify(secrets[n*7919%len(secrets)], at)
		if err != nil {
			b.Fatal(err)
		}
		binary.BigEndian.PutUint64(id[8:], uint64(n))
		h, err := l.Reserve(b.Context(), Claim{Key: key, Model: "m", At: at, RequestID: id, Tokens: 2000, Cost: benchBound})
		if err != nil {
			b.Fatal(err)
		}
		if holds = append(holds, h); len(holds) == cap(holds) {
			b.StopTimer()
			paused := cpu(b)
			for _, h := range holds {
				h.Settle(1200, benchCost)
			}
			holds = holds[:0]
			used += cpu(b) - paused
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(cpu(b)-used)/float64(b.N), "cpu-ns/op")
}

// manyRows is the spend of this month of a million keys.
type manyRows struct{}

func (manyRows) Counted(context.Context) ([]uint64, error) { return []uint64{0}, nil }

func (manyRows) EachSpend(_ context.Context, asked []SpendOf, _ []uint64, each func(SpendRow) error) error {
	index := map[uuid.UUID]int{}
	for i, a := range asked {
		index[a.OrgID] = i
	}
	for n := range benchKeys {
		k := benchKey(n)
		if err := each(SpendRow{Asked: index[k.OrgID], TeamID: k.TeamID, KeyID: k.ID, Cost: benchCost}); err != nil {
			return err
		}
	}
	return nil
}

func (manyRows) Settled(context.Context, []events.UsageKey) (map[events.UsageKey]bool, error) {
	return nil, nil
}

// noUsage is an empty usage log.
type noUsage struct{ UsageLog }

func (noUsage) Shards() int { return 1 }

func (noUsage) UsageEnd(context.Context, int) (uint64, time.Time, error) { return 0, time.Time{}, nil }

// Start-up: a million budgets from the ledger, then a million keys' spend from the
// rows. The log's and ClickHouse's own time is not in it.
func BenchmarkStart(b *testing.B) {
	records := make([]events.Record, benchKeys)
	seqs := map[uuid.UUID]uint64{}
	orgs := map[uuid.UUID]bool{}
	for n := range records {
		k := benchKey(n)
		orgs[k.OrgID] = true
		r, err := events.NewRecord(TypeBudgetSet, start, "bench", "", BudgetSet{OrgID: k.OrgID, Scope: ScopeKey, ID: k.ID, Amount: decp("100")})
		if err != nil {
			b.Fatal(err)
		}
		seqs[k.OrgID]++
		r.Seq, r.Subject = seqs[k.OrgID], BudgetSubject(k.OrgID)
		records[n] = r
	}
	h := History{Usage: noUsage{}, Spend: manyRows{}}
	for id := range orgs {
		h.Orgs = append(h.Orgs, id)
	}
	b.ResetTimer()
	for range b.N {
		l, err := New(Config{Zones: shanghai, Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		for _, r := range records {
			if err := l.Apply(r); err != nil {
				b.Fatal(err)
			}
		}
		applied := time.Now()
		if err := l.Restore(b.Context(), h); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(applied.Sub(began).Milliseconds()), "ms-apply")
		b.ReportMetric(float64(time.Since(applied).Milliseconds()), "ms-restore")
	}
}

// A usage event of the log that another process let in.
func BenchmarkCountForeign(b *testing.B) {
	l := load(b)
	b.ReportAllocs()
	at := time.Now()
	n := 0
	var seen recent
	for b.Loop() {
		n++
		k := benchKey(n * 7919 % benchKeys)
		u := events.Usage{ID: k.ID, OrgID: k.OrgID, TeamID: k.TeamID, KeyID: k.ID, OccurredAt: at, Cost: benchCost}
		seen.add(u.OrgID, u.ID)
		if err := l.count(&u); err != nil {
			b.Fatal(err)
		}
	}
}
