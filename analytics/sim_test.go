package analytics

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"aione/ledger"
)

var errCrash = errors.New("the process dies here, says the test")

// crashes is a failpoint that hits at random steps: it fails the step, after
// which the ingester starts again by itself with its filter, or ends the process,
// of which a fresh ingester with a fresh filter is all that is left.
type crashes struct {
	rand  *rand.Rand
	oneIn int
	left  int // a run gets through in the end
	kill  context.CancelFunc
}

func (c *crashes) at(string) error {
	if c.left == 0 || c.rand.IntN(c.oneIn) > 0 {
		return nil
	}
	c.left--
	if c.rand.IntN(2) == 0 {
		c.kill()
	}
	return errCrash
}

// ingestThroughCrashes brings the rows to the end of the log, however often the
// process dies.
func (r *rig) ingestThroughCrashes(random *rand.Rand) {
	r.t.Helper()
	c := &crashes{rand: random, oneIn: 2 + random.IntN(6), left: 6}
	for {
		ctx, cancel := context.WithCancel(r.ctx)
		c.kill = cancel
		in := r.ingester()
		in.BatchRows, in.BatchAge = rounds(40, 1)+random.IntN(120), time.Duration(1+random.IntN(5))*time.Millisecond
		in.Failpoint = c.at
		err := in.Run(ctx)
		dead := ctx.Err() != nil
		cancel()
		if err == nil {
			return
		}
		if !dead {
			r.t.Fatal(err)
		}
	}
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	for _, permille := range []int{50, 10, 0}[:rounds(1, 3)] {
		t.Run(fmt.Sprintf("copies %d in 1000", permille), func(t *testing.T) {
			seed := seedOf(t)
			r := newRig(t)
			c := newChaos(seed, permille)
			random := rand.New(rand.NewPCG(seed, 99))
			var cuts []uint64
			for range rounds(1, 12) {
				c.publish(r, 1+random.IntN(25))
				r.ingestThroughCrashes(random)
				r.wantDispositions(c.oracle.dispositions)
				cuts = append(cuts, r.end())
			}
			r.wantOracle(c, cuts)
			before := r.answers(c)
			report := r.rebuild(false)
			if !report.Same || !report.Exchanged || report.Rows != c.oracle.rows {
				t.Fatalf("rebuild of %d rows: %+v", c.oracle.rows, report)
			}
			r.wantOracle(c, cuts)
			if after := r.answers(c); !reflect.DeepEqual(before, after) {
				t.Fatalf("answers before the rebuild %s\nand after it %s", before, after)
			}
		})
	}
}

var (
	simStart  = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	simMiddle = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	simEnd    = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

// wantOracle compares every answer there is with the naive model.
func (r *rig) wantOracle(c *chaos, cuts []uint64) {
	r.t.Helper()
	o := c.oracle
	r.wantDispositions(o.dispositions)
	if at := r.checkpoint(); at.First != 1 || at.Seq != o.seq || at.Rows != o.rows {
		r.t.Fatalf("checkpoint = %+v, want %d rows up to %d", at, o.rows, o.seq)
	}
	if a := r.wantAudit(); a.Rows != o.rows || a.Envelopes != o.seq || a.Events != o.rows {
		r.t.Fatalf("audit = %+v, want %d rows of %d envelopes", a, o.rows, o.seq)
	}
	us := o.usages()
	middle := cuts[len(cuts)/2]
	for _, org := range c.orgs[:rounds(1, len(c.orgs))] {
		for name, by := range map[string]Group{"day+model": {Day: true, Model: true}, "hour": {Hour: true}, "team+key": {Team: true, Key: true}, "none": {}} {
			r.wantUsage(us, UsageQuery{OrgID: org, From: simStart, To: simEnd, Zone: "UTC", By: by, Limit: 100_000}, name)
		}
		r.wantDashboard(us, DashboardQuery{OrgID: org, From: simStart, To: simEnd, Zone: "UTC"})
		first := ledger.InputsQuery{OrgID: org, Start: simStart, End: simMiddle, Cut: middle, Spans: halves(simStart, simMiddle, "")}
		second := ledger.InputsQuery{OrgID: org, Start: simMiddle, End: simEnd, Cut: o.seq, PreviousCut: middle,
			Spans: append(halves(simStart, simMiddle, "2026-02"), halves(simMiddle, simEnd, "")...)}
		n := r.wantInputs(o.counted, first).Rows + r.wantInputs(o.counted, second).Rows
		unknown := second
		unknown.Spans = halves(simMiddle, simEnd, "") // nobody says what the late usage is of
		r.wantInputs(o.counted, unknown)
		if want := len(within(us, org, simStart, simEnd)); int(n) != want {
			r.t.Fatalf("two invoices count %d rows of org %s, want %d", n, org, want)
		}
	}
}

// halves are the spans of a period whose plan changed in the middle.
func halves(start, end time.Time, origin string) []ledger.Span {
	return []ledger.Span{{Start: start, Origin: origin}, {Start: start.Add(end.Sub(start) / 2), Origin: origin, Segment: 1}}
}

// answers are what users see, as text.
func (r *rig) answers(c *chaos) string {
	r.t.Helper()
	text := ""
	for _, org := range c.orgs[:rounds(1, len(c.orgs))] {
		rows, total, err := r.store.Usage(r.ctx, UsageQuery{OrgID: org, From: simStart, To: simEnd, Zone: "Asia/Shanghai", By: Group{Hour: true, Model: true, Key: true}, Limit: 100_000})
		if err != nil {
			r.t.Fatal(err)
		}
		d, err := r.store.Dashboard(r.ctx, DashboardQuery{OrgID: org, From: simStart, To: simEnd, Zone: "Asia/Shanghai"})
		if err != nil {
			r.t.Fatal(err)
		}
		in, err := r.store.Inputs(r.ctx, ledger.InputsQuery{OrgID: org, Start: simMiddle, End: simEnd, Cut: c.oracle.seq, Spans: halves(simStart, simMiddle, "2026-02")})
		if err != nil {
			r.t.Fatal(err)
		}
		text += fmt.Sprintln(rows, total, d, in)
	}
	return text
}
