package keys_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
)

func benchSet(b *testing.B) *keys.Set {
	b.Helper()
	s, err := keys.NewSet(keys.Config{Peppers: []keys.Pepper{pepper1}, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkVerify looks keys up in sets of different sizes, each time another
// one, so that the processor's caches do not flatter.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 1_000, 1_000_000} {
		s := benchSet(b)
		before := heap()
		secrets := fill(b, s, n)
		used := heap() - before
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			const batch = 500
			var batches []float64 // ns of one Verify
			began := time.Now()
			for b.Loop() {
				if _, err := s.Verify(secrets[i%len(secrets)], now); err != nil {
					b.Fatal(err)
				}
				if i++; i%batch == 0 {
					ended := time.Now()
					batches = append(batches, float64(ended.Sub(began))/batch)
					began = ended
				}
			}
			if len(batches) > 0 { // says more than the mean on a machine that others use too
				slices.Sort(batches)
				b.ReportMetric(batches[len(batches)/2], "median-ns/op")
				b.ReportMetric(batches[len(batches)/20], "p5-ns/op")
			}
			if n > 1 {
				b.ReportMetric(float64(used)/float64(n), "B/key")
			}
		})
		b.Run(fmt.Sprintf("keys=%d/parallel", n), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(n)
				for pb.Next() {
					if _, err := s.Verify(secrets[i%len(secrets)], now); err != nil {
						b.Error(err)
						return
					}
					i++
				}
			})
		})
		runtime.KeepAlive(s)
	}
}

// BenchmarkVerifyRefuses is what an attacker costs.
func BenchmarkVerifyRefuses(b *testing.B) {
	s := benchSet(b)
	secrets := fill(b, s, 1)
	other := fill(b, benchSet(b), 1)
	for name, secret := range map[string]string{"malformed": secrets[0][:len(secrets[0])-1] + "~", "unknown": other[0]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Verify(secret, now); err == nil {
					b.Fatal("let in")
				}
			}
		})
	}
}

func BenchmarkAllowsIP(b *testing.B) {
	k := keys.Grants{}
	for i := range 16 {
		p, err := keys.ParsePrefix(fmt.Sprintf("10.%d.0.0/16", i))
		if err != nil {
			b.Fatal(err)
		}
		k.AllowedIPs = append(k.AllowedIPs, p)
	}
	a := addr("10.15.3.4")
	for b.Loop() {
		if !k.AllowsIP(a) {
			b.Fatal("refused")
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fill puts n keys of 1,000 orgs into a set, and returns up to 100,000 of their
// secrets. Secrets and orgs are not counted as the set's memory.
func fill(b *testing.B, s *keys.Set, n int) []string {
	b.Helper()
	orgs := make([]uuid.UUID, 1000)
	for i := range orgs {
		orgs[i] = events.NewID()
	}
	var secrets []string
	for i := range n {
		id, org := events.NewID(), orgs[i%len(orgs)]
		secret, hash := keys.MintForTest(pepper1)
		data := map[string]any{
			"id": id, "org_id": org, "team_id": org, "name": fmt.Sprint("key ", i), "prefix": secret[:11],
			"hash": hex.EncodeToString(hash), "pepper_version": 1, "scopes": []string{"chat"},
		}
		raw, err := json.Marshal(data)
		if err != nil {
			b.Fatal(err)
		}
		r := events.Record{ID: id, Type: "key.created", Version: 1, At: now, Data: raw, Seq: uint64(i + 1), Subject: events.KeySubject(org, id)}
		if err := s.Apply(r); err != nil {
			b.Fatal(err)
		}
		if i%max(1, n/100_000) == 0 {
			secrets = append(secrets, secret)
		}
	}
	// In another order than memory's, and themselves side by side: as if they had just
	// come from the network.
	rand.Shuffle(len(secrets), func(i, j int) { secrets[i], secrets[j] = secrets[j], secrets[i] })
	all, size := strings.Join(secrets, ""), len(secrets[0])
	for i := range secrets {
		secrets[i] = all[i*size : (i+1)*size]
	}
	return secrets
}
