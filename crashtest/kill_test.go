package crashtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/analytics"
	"aione/events"
	"aione/gateway"
)

// TestKillLoop kills every kind of process with SIGKILL, again and again, while
// clients chat, and then accounts for every single request.
func TestKillLoop(t *testing.T) {
	platformTest(t)
	r := random(t)
	kills, pauseMax, clients := 25, 4*time.Second, 8
	if testing.Short() {
		kills, pauseMax, clients = 3, 2*time.Second, 4
	}
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	orphans := p.orphans(log, uuid.MustParse(acme.ID), 20)
	p.serve("AIONE_SWEEP_EVERY=500ms")
	ingest := p.service("ingest", "AIONE_LEASE_TTL=2s")
	invoicer := p.service("invoicer", "AIONE_INVOICE_SCHEDULE=@every 1s")

	load := p.load(clients, acme.chat, r)
	load.impatient.Store(true)
	victims := map[string]func() bool{
		"api": p.killer(p.api), "ingest": p.killer(ingest), "invoicer": p.killer(invoicer), "engines": p.killer(p.engines),
		"clickhouse": func() bool {
			pid := p.chdb()
			return pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
		},
	}
	calm(t, load)
	var told []string
	for _, victim := range plan(r, slices.Sorted(maps.Keys(victims)), kills) {
		if r.IntN(4) > 0 { // else together with the one before
			time.Sleep(between(r, 100*time.Millisecond, pauseMax))
		}
		for began := time.Now(); !victims[victim](); time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > startWithin {
				t.Fatalf("%s is not there to be killed", victim)
			}
		}
		told = append(told, victim)
	}
	t.Logf("killed: %s", strings.Join(told, " "))
	for _, role := range p.roles {
		if role.process(startWithin) == nil {
			t.Fatalf("%s does not come back", role.name)
		}
	}
	calm(t, load)
	attempts := load.end()
	p.settle(log, projection)
	p.noDeaths()

	truth := readTruth(t, log)
	for _, id := range orphans {
		if u, ok := truth.settled[id]; !ok || u.Outcome != events.OutcomeAbandoned {
			t.Errorf("a request whose gateway died long ago is %+v, want it settled as abandoned by the API's own sweeper", u)
		}
		delete(truth.admitted, id) // judged here; the clients know nothing of them
	}
	p.judgeAll(acme, attempts, truth, orphans)
}

// judgeAll runs the oracle, the auditor and the API over the same facts.
func (p *platform) judgeAll(who tenant, attempts []attempt, tr truth, orphans []uuid.UUID) {
	p.t.Helper()
	p.serve()
	got, want := p.apiTotals(who.management), tr.expected()
	if got.String() != want.String() {
		p.t.Errorf("the API says %s,\nthe log %s", got, want)
	}
	rows := p.rows()
	for _, id := range orphans {
		delete(tr.settled, id)
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return slices.Contains(orphans, r.id) })
	p.judge(uuid.MustParse(who.ID), attempts, tr, rows)
	v := p.verify()
	answered, abandoned := 0, 0
	problems := map[string]int{}
	for _, a := range attempts {
		if a.answered {
			answered++
			continue
		}
		problem := strings.NewReplacer(p.url, "").Replace(a.problem)
		problems[problem[max(0, len(problem)-60):]]++
	}
	for _, u := range tr.settled {
		if u.Outcome == events.OutcomeAbandoned {
			abandoned++
		}
	}
	p.t.Logf("%d requests: %d answered, %d admitted and not answered, of them %d abandoned; %d never admitted; %d copies in the log; verify: %+v",
		len(attempts), answered, len(tr.admitted)-answered, abandoned, len(attempts)-len(tr.admitted), tr.copies, v.Shards)
	for problem, n := range problems {
		p.t.Logf("not answered, %d times: … %s", n, problem)
	}
	if answered == 0 {
		p.t.Error("no request was answered: the load proves nothing")
	}
}

// plan shuffles so many victims that each kind gets its share.
func plan(r *rand.Rand, kinds []string, n int) []string {
	var out []string
	for len(out) < n {
		r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		out = append(out, kinds[:min(len(kinds), n-len(out))]...)
	}
	return out
}

// killer kills what a role runs now, even while it is starting; false if nothing
// runs.
func (p *platform) killer(r *role) func() bool {
	return func() bool {
		r.mu.Lock()
		var now *process
		if len(r.all) > 0 {
			now = r.all[len(r.all)-1]
		}
		r.mu.Unlock()
		if now == nil || !now.running() {
			return false
		}
		r.kill(now)
		return true
	}
}

// calm waits until answers flow.
func calm(t testing.TB, l *load) {
	t.Helper()
	have := l.answered()
	for began := time.Now(); l.answered() < have+20; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			l.mu.Lock()
			defer l.mu.Unlock()
			last := "nothing"
			if len(l.attempts) > 0 {
				last = l.attempts[len(l.attempts)-1].problem
			}
			t.Fatalf("no answers for a minute; the last problem: %s", last)
		}
	}
}

// orphans admits requests of a gateway that died ten minutes ago.
func (p *platform) orphans(log *events.Log, org uuid.UUID, n int) []uuid.UUID {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	var ids []uuid.UUID
	for i := range n {
		id := events.NewID()
		u := events.Usage{ID: id, OperationID: id, OrgID: org, Model: "gpt-4o", Provider: "simulator", PriceVersion: "gpt-4o@1", Currency: "CNY",
			OccurredAt: time.Now().UTC().Add(-10 * time.Minute).Truncate(time.Millisecond), Tokens: events.Tokens{Input: uint64(i + 1)},
			Cost: decimal.New(int64(i+1)*18, -6), Outcome: events.OutcomeAbandoned, Source: events.SourceEstimated, Producer: "gateway"}
		if err := log.Admit(ctx, events.Admission{ID: id, Estimate: u, Deadline: time.Minute}); err != nil {
			p.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// settle stops the API and settles what its dead predecessors have left. They are
// all gone for certain, so the sweeper's clock may run ahead of their deadlines;
// it goes on from the position that they have saved.
func (p *platform) settle(log *events.Log, projection analytics.Projection) {
	p.t.Helper()
	if !p.api.isEnded() {
		if code := p.api.stop(p.t, syscall.SIGTERM, startWithin); code != 0 {
			p.t.Errorf("the API ended with code %d after SIGTERM", code)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sweeper := &gateway.Sweeper{Admissions: log, Settled: projection, Publisher: log,
		Checkpoint: gateway.FileCheckpoint{Path: p.dir + "/sweeper"},
		Now:        func() time.Time { return time.Now().Add(events.MaxDeadline) }}
	swept, err := sweeper.Sweep(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	again := *sweeper
	again.Checkpoint = &forgetful{}
	if err := projection.CaughtUp(ctx); err != nil {
		p.t.Fatal(err)
	}
	second, err := again.Sweep(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if second.Abandoned != 0 {
		p.t.Errorf("a sweep from the start settles %d requests once more", second.Abandoned)
	}
	p.t.Logf("swept: %+v, then from the start: %+v", swept, second)
	if err := projection.CaughtUp(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// forgetful is a checkpoint that starts at the first admission.
type forgetful struct{ next uint64 }

func (f *forgetful) Load(context.Context) (uint64, error) { return f.next, nil }

func (f *forgetful) Save(_ context.Context, next uint64) error { f.next = next; return nil }

// youngMax is how old a process may be that dies because it could not start.
const youngMax = 15 * time.Second

// noDeaths fails for every process that ended by itself, unless it was starting
// while its engines were away: then a service manager starts it again.
func (p *platform) noDeaths() {
	p.t.Helper()
	for _, r := range p.roles {
		r.mu.Lock()
		for _, d := range r.deaths {
			what := fmt.Sprintf("%s ended by itself after %s (%v): %s", r.name, d.at.Sub(d.process.born).Round(time.Millisecond), d.process.err, d.process.stderr.tail(2))
			if r == p.engines || d.at.Sub(d.process.born) > youngMax {
				p.t.Error(what)
			} else {
				p.t.Log("tolerated: " + what)
			}
		}
		r.mu.Unlock()
	}
}
