package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/admission"
	"aione/events"
	"aione/node"
)

// admissionBench lets requests in, one after the other.
type admissionBench struct {
	n       *node.Node
	o       Options
	secrets []string // of the hot keys
}

func (b *admissionBench) run(ctx context.Context, a *Admission) error {
	b.o.Step(fmt.Sprintf("the first request of each of %d keys takes allowances from the log", a.HotKeys))
	began := time.Now()
	if err := b.firstUse(ctx, a); err != nil {
		return err
	}
	a.FirstUseMS = round(millis(time.Since(began))/float64(a.Orgs), 3)
	b.o.Step(fmt.Sprintf("%d rounds of requests of %d keys", admissionRounds, a.HotKeys))
	var both, fastest, verify, settle, allocs, parallel []float64
	for range admissionRounds {
		r, err := b.round(ctx, rand.Perm(a.HotKeys))
		if err != nil {
			return err
		}
		fastest = append(fastest, r.fastest)
		both, verify, settle, allocs = append(both, r.both), append(verify, r.verify), append(settle, r.settle), append(allocs, r.allocs)
		p, err := b.onEveryCore(ctx, rand.Perm(a.HotKeys))
		if err != nil {
			return err
		}
		parallel = append(parallel, p)
	}
	a.US, a.VerifyUS, a.SettleUS = round(median(both), 3), round(median(verify), 3), round(median(settle), 3)
	a.P5US = round(median(fastest), 3)
	a.ReserveUS = round(a.US-a.VerifyUS, 3)
	a.AllocsEach, a.ParallelUS = round(median(allocs), 1), round(median(parallel), 3)
	return nil
}

// firstUse lets one request of each hot key in, those of an org at once.
func (b *admissionBench) firstUse(ctx context.Context, a *Admission) error {
	errs := make(chan error, a.HotKeys)
	const orgsAtOnce = 64
	for from := 0; from < a.Orgs; from += orgsAtOnce {
		var clients sync.WaitGroup
		for i := range b.secrets {
			if org := i % a.Orgs; org < from || org >= from+orgsAtOnce {
				continue
			}
			clients.Go(func() {
				h, err := b.letIn(ctx, arrival{b.secrets[i], events.NewID()})
				if err != nil {
					errs <- err
					return
				}
				h.Settle(1200, admissionCost)
			})
		}
		clients.Wait()
	}
	close(errs)
	return <-errs
}

// admissionRound is what one request took, in µs.
type admissionRound struct{ both, fastest, verify, settle, allocs float64 }

// timedTogether is how many requests are timed as one. Figures are medians over
// these: they say more than a mean on a machine that others use too.
const timedTogether = 128

// round lets one request of each key in, in the order given, so many at a time.
func (b *admissionBench) round(ctx context.Context, order []int) (r admissionRound, err error) {
	var both, verify, settle []float64
	holds := make([]admission.Hold, 0, admissionBatch)
	some := make([]arrival, 0, timedTogether)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for keys := range slices.Chunk(order, timedTogether) {
		some = b.arrivals(some[:0], keys)
		began := time.Now()
		for _, one := range some {
			h, err := b.letIn(ctx, one)
			if err != nil {
				return r, err
			}
			holds = append(holds, h)
		}
		both = append(both, usEach(began, len(some)))
		if len(holds) < admissionBatch {
			continue
		}
		began = time.Now()
		for _, h := range holds {
			h.Settle(1200, admissionCost)
		}
		settle, holds = append(settle, usEach(began, len(holds))), holds[:0]
	}
	runtime.ReadMemStats(&after)
	began := time.Now()
	for _, h := range holds {
		h.Settle(1200, admissionCost)
	}
	if len(holds) > 0 {
		settle = append(settle, usEach(began, len(holds)))
	}
	for keys := range slices.Chunk(order, timedTogether) {
		some = b.arrivals(some[:0], keys)
		began := time.Now()
		for _, one := range some {
			if _, err := b.n.Keys.Verify(one.secret, time.Now()); err != nil {
				return r, err
			}
		}
		verify = append(verify, usEach(began, len(some)))
	}
	slices.Sort(both)
	r.both, r.fastest, r.verify, r.settle = median(both), both[len(both)/20], median(verify), median(settle)
	r.allocs = float64(after.Mallocs-before.Mallocs)/float64(len(order)) - 1 // the copy of the secret
	return r, nil
}

func usEach(began time.Time, n int) float64 {
	return float64(time.Since(began)) / float64(time.Microsecond) / float64(n)
}

// arrival is a request as it comes from the network: its secret has just been read,
// and the gateway has given it an id.
type arrival struct {
	secret string
	id     uuid.UUID
}

func (b *admissionBench) arrivals(some []arrival, keys []int) []arrival {
	for _, key := range keys {
		some = append(some, arrival{strings.Clone(b.secrets[key]), events.NewID()})
	}
	return some
}

// letIn is what is measured.
func (b *admissionBench) letIn(ctx context.Context, r arrival) (admission.Hold, error) {
	now := time.Now()
	k, err := b.n.Keys.Verify(r.secret, now)
	if err != nil {
		return nil, err
	}
	return b.n.Limits.Reserve(ctx, admission.Claim{Key: k, Model: "m", At: now.Truncate(time.Millisecond), Now: now, RequestID: r.id, Tokens: 2000, Cost: admissionBound})
}

// onEveryCore does the same on all cores at once; the keys are shared out.
func (b *admissionBench) onEveryCore(ctx context.Context, order []int) (us float64, err error) {
	cores := runtime.NumCPU()
	parts := make([][]float64, cores)
	var g errgroup.Group
	for core := range cores {
		mine := order[core*len(order)/cores : (core+1)*len(order)/cores]
		g.Go(func() error {
			some, holds := make([]arrival, 0, timedTogether), make([]admission.Hold, 0, timedTogether)
			for keys := range slices.Chunk(mine, timedTogether) {
				some, holds = b.arrivals(some[:0], keys), holds[:0]
				began := time.Now()
				for _, one := range some {
					h, err := b.letIn(ctx, one)
					if err != nil {
						return err
					}
					holds = append(holds, h)
				}
				parts[core] = append(parts[core], usEach(began, len(some)))
				for _, h := range holds {
					h.Settle(1200, admissionCost)
				}
			}
			return nil
		})
	}
	err = g.Wait()
	return median(slices.Concat(parts...)), err
}
