package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// What the events of the benches look like: orgs of a few teams and keys, the
// models of the starting catalog, token counts of the real trace.
const (
	trafficOrgs    = 20
	keysPerOrg     = 4
	trafficErrors  = 50 // one in so many fails
	trafficPerCall = 1000
	trafficCallers = 8
)

var trafficModels = []struct{ model, provider string }{
	{"gpt-4o", "openai"}, {"gpt-4o-mini", "openai"}, {"claude-sonnet-4-6", "anthropic"},
	{"deepseek-chat", "deepseek"}, {"qwen-max", "alibaba"}, {"gemini-2.5-flash", "google"},
}

// traffic makes usage events as the gateway mints them. It is not safe for
// concurrent use.
type traffic struct {
	trace []Request
	rand  *rand.Rand
	// The clock of the events: each occurs a little after the one before.
	at   time.Time
	step time.Duration
}

func newTraffic(trace []Request, seed uint64, from time.Time, step time.Duration) *traffic {
	return &traffic{trace: trace, rand: rand.New(rand.NewPCG(seed, 1)), at: from.UTC(), step: step}
}

// id is a UUID version 7 at the event's time, as events.NewID mints them.
func (t *traffic) id() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(t.at.UnixMilli())<<16|0x7000|t.rand.Uint64()&0xfff)
	binary.BigEndian.PutUint64(id[8:], t.rand.Uint64()&^(0xc0<<56)|0x80<<56)
	return id
}

// fill makes new events into us.
func (t *traffic) fill(us []events.Usage) {
	for i := range us {
		t.at = t.at.Add(t.step)
		org, key := t.rand.IntN(trafficOrgs), t.rand.IntN(keysPerOrg)
		model := trafficModels[t.rand.IntN(len(trafficModels))]
		request := t.trace[t.rand.IntN(len(t.trace))]
		first := 120 + uint32(request.Prompt/20) + t.rand.Uint32N(200)
		us[i] = events.Usage{
			OrgID: namedID("org", org, 0), TeamID: namedID("team", org, key%2), KeyID: namedID("key", org, key),
			Model: model.model, Provider: model.provider, PriceVersion: model.model + "@1", Currency: "CNY",
			OccurredAt: t.at.Truncate(time.Millisecond),
			Tokens:     events.Tokens{Input: request.Prompt, Output: request.Completion},
			Cost:       decimal.New(int64(request.Prompt)*18+int64(request.Completion)*72, -6),
			Outcome:    events.OutcomeCompleted, Source: events.SourceReported, HTTPStatus: 200,
			LatencyMS: first + uint32(request.Completion)*(8+t.rand.Uint32N(12)), TTFTMS: first, Stream: true, Producer: "gateway",
		}
		us[i].ID, us[i].OperationID = t.id(), t.id()
		if t.rand.IntN(trafficErrors) == 0 {
			us[i].Outcome, us[i].HTTPStatus = events.OutcomeUpstreamError, 502
			us[i].Tokens, us[i].Cost, us[i].TTFTMS = events.Tokens{}, decimal.Zero, 0
		}
	}
}

// namedID is the same for the same name: the org or key of every run.
func namedID(kind string, org, n int) (id uuid.UUID) {
	copy(id[:], fmt.Sprintf("%-4.4s%08d%04d", kind, org, n))
	return id
}

// preload publishes n events in calls of trafficPerCall, several at once so that
// they share messages as they do under load. They occur over the hours before now.
func (r *rig) preload(ctx context.Context, n int) (rate float64, err error) {
	r.options.Step(fmt.Sprintf("publish %d events to the log, fsynced", n))
	progress := r.options.Progress("events")
	calls := (n + trafficPerCall - 1) / trafficPerCall
	var next, done atomic.Int64
	var wait sync.WaitGroup
	errs := make(chan error, trafficCallers)
	began := time.Now()
	for range trafficCallers {
		wait.Go(func() {
			us := make([]events.Usage, trafficPerCall)
			for {
				call := int(next.Add(1)) - 1
				if call >= calls {
					return
				}
				part := us[:min(trafficPerCall, n-call*trafficPerCall)]
				step := preloadSpan / time.Duration(n)
				newTraffic(r.options.Trace, uint64(call), began.Add(-preloadSpan+time.Duration(call*trafficPerCall)*step), step).fill(part)
				if err := r.log.Publish(ctx, part); err != nil {
					errs <- err
					return
				}
				progress(uint64(done.Add(int64(len(part)))), uint64(n))
			}
		})
	}
	wait.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return perSecond(n, time.Since(began)), err
}

// preloadSpan is how long ago the first preloaded event occurred.
const preloadSpan = 6 * time.Hour
