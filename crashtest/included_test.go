package crashtest

import (
	"fmt"
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
	b.useUp(ingest)
	log, _ := p.log()
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
