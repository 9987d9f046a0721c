package analytics

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/ledger"
)

// One question about many orgs, each with periods, cuts and spans of its own, is
// answered as each alone would be, and as a recount has it.
func TestInputsOfManyOrgs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := seedOf(t)
	c := newChaos(seed, 100)
	random := rand.New(rand.NewPCG(seed, 3))
	var cuts []uint64
	for range 3 {
		c.publish(r, rounds(8, 30))
		cuts = append(cuts, r.end())
	}
	r.ingest()
	instant := func(from, to time.Time) time.Time {
		return from.Add(time.Duration(random.Int64N(int64(to.Sub(from))))).Truncate(time.Millisecond).UTC()
	}
	for range rounds(5, 40) {
		var qs []ledger.InputsQuery
		for _, org := range append(slices.Clone(c.orgs), uuid.New()) {
			q := ledger.InputsQuery{OrgID: org, Cut: cuts[1+random.IntN(2)]}
			q.Start = instant(simStart, simEnd)
			q.End = instant(q.Start, simEnd.Add(time.Hour))
			if random.IntN(2) == 0 {
				q.PreviousCut = cuts[0]
			}
			if random.IntN(2) == 0 {
				q.LateFrom = instant(simStart.Add(-time.Hour), q.Start)
			}
			if random.IntN(2) == 0 {
				q.PaidFrom = instant(simStart, simEnd)
			}
			closed := instant(simStart.Add(-time.Hour), q.Start)
			q.Spans = []ledger.Span{{Start: closed, Origin: "2026-01"}, {Start: q.Start}, {Start: instant(q.Start, q.End), Segment: 1}}
			qs = append(qs, q)
		}
		asked := 0
		err := r.store.EachInputs(r.ctx, qs, func(i int, in ledger.Inputs) error {
			if i != asked {
				t.Errorf("the answer to question %d comes in place %d", i, asked)
			}
			asked++
			want := r.wantInputs(c.oracle.counted, qs[i])
			if in.RowsDigest != want.RowsDigest || in.Rows != want.Rows || !in.Paid.Equal(want.Paid) || in.TooLateRows != want.TooLateRows ||
				len(in.Quantities) != len(want.Quantities) {
				t.Errorf("among others %+v, alone %+v", in, want)
			}
			return nil
		})
		if err != nil || asked != len(qs) {
			t.Fatalf("%d answers to %d questions, %v", asked, len(qs), err)
		}
	}
}

// The order of SortOrgs is the table's: that is what it is for.
func TestSortOrgsIsTheOrderOfTheTable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ids := make([]uuid.UUID, 200)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var sorted []uuid.UUID
	r.scan("SELECT arraySort(arrayMap(x -> toUUID(x), "+uuidsParam(ids)+"))", &sorted)
	r.store.SortOrgs(ids)
	if !slices.Equal(ids, sorted) {
		t.Error("ClickHouse has another order")
	}
}
