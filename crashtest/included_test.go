package crashtest

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"aione/ledger"
)

// tenIncluded is enough for ten requests of 1010 tokens, the last with its bound, and
// for the estimates of a few that were killed; an eleventh does not fit.
const tenIncluded = 10_600

// blocked is a key of an org whose plan includes ten requests and blocks.
func (p *platform) blocked() *budgeted {
	p.t.Helper()
	acme := p.tenant("Acme")
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		p.t.Fatal(err)
	}
	// The plan begins today: of its month's tokens the days that are left are included.
	period := ledger.PeriodOf(time.Now(), zone)
	end := period.LastDay().AddDays(1)
	of, days := period.FirstDay().DaysUntil(end), ledger.DateOf(time.Now(), zone).DaysUntil(end)
	month := (tenIncluded*of + days - 1) / days
	p.aione(nil, "admin", "plan", "publish", "ten", "Ten", "--overage", "block", "--included-tokens", fmt.Sprint(month))
	p.aione(nil, "admin", "plan", "assign", "Acme", "ten")
	p.serve()
	return &budgeted{p: p, key: acme.chat, urls: []string{p.url}, apis: []*role{p.api}}
}

// TestPlanThatBlocksSurvivesKill uses half of what a plan includes, kills, and finds
// the other half, at once and not a request more; then nothing is let in, however
// often the API is killed.
func TestPlanThatBlocksSurvivesKill(t *testing.T) {
	platformTest(t)
	p := newPlatform(t)
	p.installCatalog()
	ingest := p.service("ingest")
	b := p.blocked()
	spend := func(n int) {
		t.Helper()
		for i := range n {
			if served, _ := b.send(0, 0); !served {
				t.Fatalf("request %d of %d is not served", i+1, n)
			}
		}
	}
	spend(3)
	log, projection := p.log()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	if err := projection.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	ingest.stop(t, syscall.SIGKILL, startWithin) // from here on only the log knows
	spend(2)
	b.killInFlight(0, 2)
	if served := b.rush(40); served != 5 {
		t.Errorf("%d requests were served of the 5 that are left", served)
	}
	b.killInFlight(0, 0)
	if served := b.rush(10); served != 0 {
		t.Errorf("%d requests were served of what is used up", served)
	}
	used, whole := uint64(0), 0
	for _, u := range readTruth(t, log).settled {
		if used += u.Tokens.Total(); u.Tokens.Total() == 1010 {
			whole++
		}
	}
	if whole != 10 || used > tenIncluded {
		t.Errorf("the log has %d whole requests and %d tokens, want ten and no more than %d", whole, used, tenIncluded)
	}
	var list []struct{ Scope, Limit, Spent string }
	p.aione(&list, "admin", "budget", "list", "Acme")
	for _, at := range list {
		if at.Scope == "included_tokens" && at.Limit == fmt.Sprint(tenIncluded) && at.Spent == fmt.Sprint(used) {
			return
		}
	}
	t.Errorf("aione admin budget list says %+v, the log %d", list, used)
}
