package analytics

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

// spendOf is what an independent count of the log says.
func spendOf(counted []placed, asked []SpendOf, upTo uint64) map[string]string {
	sums := map[string]decimal.Decimal{}
	for _, p := range counted {
		for i, a := range asked {
			if p.seq <= upTo && p.OrgID == a.OrgID && !p.OccurredAt.Before(a.From) && p.OccurredAt.Before(a.To) {
				k := fmt.Sprint(i, p.TeamID, p.KeyID)
				sums[k] = sums[k].Add(p.Cost)
				sums[k+" tokens"] = sums[k+" tokens"].Add(decimal.NewFromUint64(p.Tokens.Total()))
			}
		}
	}
	return costTexts(sums)
}

// costTexts leaves sums of nothing out.
func costTexts(sums map[string]decimal.Decimal) map[string]string {
	texts := map[string]string{}
	for k, v := range sums {
		if !v.IsZero() {
			texts[k] = v.String()
		}
	}
	return texts
}

func (r *rig) spend(asked []SpendOf, upTo uint64) map[string]string {
	r.t.Helper()
	sums := map[string]decimal.Decimal{}
	err := r.store.EachSpend(r.ctx, asked, []uint64{upTo}, func(s SpendRow) error {
		k := fmt.Sprint(s.Asked, s.TeamID, s.KeyID)
		if _, twice := sums[k]; twice {
			return fmt.Errorf("%s is told twice", k)
		}
		sums[k], sums[k+" tokens"] = s.Cost, decimal.NewFromUint64(s.Tokens)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return costTexts(sums)
}

// Whatever is asked for, to the millisecond, up to whatever sequence: the spend is
// that of the log. Copies, conflicts and sandbox usage are in it too, and cost nothing.
func TestSpendEqualsRecount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := newChaos(seedOf(t), 200)
	for range rounds(2, 4) {
		c.publish(r, 25)
		r.ingest()
	}
	begin := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	instants := rapid.Custom(func(t *rapid.T) time.Time {
		step := rapid.SampledFrom([]time.Duration{time.Millisecond, 15 * time.Minute, 24 * time.Hour}).Draw(t, "step")
		return begin.Add(time.Duration(rapid.Int64Range(-10, int64(62*24*time.Hour/step)).Draw(t, "at")) * step)
	})
	var nonzero int
	rapid.Check(t, func(t *rapid.T) {
		asked := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) SpendOf {
			return SpendOf{OrgID: rapid.SampledFrom(c.orgs).Draw(t, "org"), From: instants.Draw(t, "from"), To: instants.Draw(t, "to")}
		}), 1, 6).Draw(t, "asked")
		upTo := rapid.Uint64Range(0, r.end()+2).Draw(t, "upTo")
		got, want := r.spend(asked, upTo), spendOf(c.oracle.counted, asked, upTo)
		nonzero += len(want)
		if !maps.Equal(got, want) {
			t.Fatalf("%+v up to %d: %v, want %v", asked, upTo, got, want)
		}
	})
	if !testing.Short() && nonzero == 0 {
		t.Error("nothing was asked for that cost anything")
	}
	// Balances have no end, and orgs without usage no answer.
	forEver := time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC)
	asked := []SpendOf{{OrgID: c.orgs[0], From: begin.Add(3 * time.Millisecond), To: forEver}, {OrgID: uuid.New(), From: begin, To: forEver}}
	if got, want := r.spend(asked, r.end()), spendOf(c.oracle.counted, asked, r.end()); !maps.Equal(got, want) || len(want) == 0 {
		t.Errorf("since ever: %v, want %v", got, want)
	}
}

// More orgs than one query takes.
func TestSpendOfManyOrgs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(3, 200, simStart)
	us := g.take(1000)
	var placedAt []placed
	r.publish(us...)
	for _, u := range us {
		placedAt = append(placedAt, placed{seq: 1, Usage: u})
	}
	r.ingest()
	var asked []SpendOf
	for i := range 3 * spendOrgsMax {
		org := uuid.New()
		if i%7 == 0 {
			org = g.orgs[i%len(g.orgs)]
		}
		asked = append(asked, SpendOf{OrgID: org, From: simStart, To: simEnd})
	}
	if got, want := r.spend(asked, r.end()), spendOf(placedAt, asked, r.end()); !maps.Equal(got, want) || len(want) == 0 {
		t.Errorf("%d sums, want %d", len(got), len(want))
	}
}

// What arrives while the question is answered is not in the answer. ClickHouse is
// made to dawdle between one look at the table and the next.
func TestSpendWhileEventsArrive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(4, 1, simStart)
	first := g.take(100)
	r.publish(first...)
	r.ingest()
	upTo := r.end()
	want := decimal.Zero
	for _, u := range first {
		want = want.Add(u.Cost)
	}
	settings := maps.Clone(spendSettings)
	settings["merge_tree_storage_snapshot_sleep_ms"] = 20
	q := spendQuery{upTo: []uint64{upTo}, places: map[uuid.UUID]int{}}
	q.add(0, SpendOf{OrgID: g.orgs[0], From: simStart.AddDate(0, 0, -1), To: simEnd})
	stop, stopped := make(chan struct{}), make(chan struct{})
	in := r.ingester()
	in.Until, in.BatchAge = 0, time.Millisecond
	ended := r.run(in)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if err := r.log.Publish(r.ctx, g.take(5)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for range rounds(3, 60) {
		got := decimal.Zero
		if err := r.store.eachSpend(r.ctx, settings, q, func(s SpendRow) error { got = got.Add(s.Cost); return nil }); err != nil {
			t.Fatal(err)
		}
		if !got.Equal(want) {
			t.Fatalf("spend up to %d is %s, want %s", upTo, got, want)
		}
	}
	close(stop)
	<-stopped
	ended()
	if r.checkpoint().Seq == upTo {
		t.Error("nothing arrived meanwhile")
	}
}

// Most of it comes from the projection.
func TestSpendUsesTheProjection(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(5, 2, simStart)
	r.publish(g.take(500)...)
	r.ingest()
	q := spendQuery{upTo: []uint64{1}, places: map[uuid.UUID]int{}}
	q.add(0, SpendOf{OrgID: g.orgs[0], From: simStart, To: simEnd})
	if plan := r.explain(selectSpend, q.params()); !strings.Contains(plan, "attempts_by_quarter_hour") {
		t.Errorf("the plan is\n%s", plan)
	}
}

// A request counts once however often it was attempted, and only chat requests do.
func TestRequestsSince(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(6, 1, simStart)
	us := g.take(30)
	us[3].OperationID, us[4].OperationID = us[2].ID, us[2].ID
	us[5].Sandbox, us[5].Cost = true, decimal.Zero
	us[6].Producer = "elsewhere"
	r.publish(us...)
	r.ingest()
	for i, want := range map[int]uint64{0: 27, 2: 25, 3: 25, 5: 24, 6: 23, 29: 1} {
		if got, err := r.store.RequestsSince(r.ctx, g.orgs[0], us[i].OccurredAt); err != nil || got != want {
			t.Errorf("since request %d: %d (%v), want %d", i, got, err, want)
		}
	}
}
