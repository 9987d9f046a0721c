package analytics

import (
	"testing"
	"time"

	"aione/events"
)

// parts lists the active parts as partition and rows, oldest first, that inserts
// have made (no merge yet).
func (r *rig) parts() (partitions []string, rows []uint64) {
	r.t.Helper()
	found, err := r.store.conn.Query(r.ctx, `SELECT partition, rows FROM system.parts
		WHERE database = currentDatabase() AND table = 'usage_events' AND active ORDER BY min_block_number`)
	if err != nil {
		r.t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var partition string
		var n uint64
		if err := found.Scan(&partition, &n); err != nil {
			r.t.Fatal(err)
		}
		partitions, rows = append(partitions, partition), append(rows, n)
	}
	if err := found.Err(); err != nil {
		r.t.Fatal(err)
	}
	return partitions, rows
}

// The log's time stamps cross a month, step back across it and go on: every
// INSERT is of one partition, partitions never go back, nothing is lost.
func TestBatchAcrossAMonthBoundary(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("SYSTEM STOP MERGES usage_events")
	c := newChaos(seedOf(t), 20)
	c.publish(r, 12)
	midnight := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	at := func(m events.Message) time.Time {
		return map[uint64]time.Time{
			4: midnight.Add(-time.Nanosecond), 5: midnight, 6: midnight.Add(-time.Hour), // the clock steps back
			7: midnight.Add(time.Second), 8: midnight.AddDate(0, 0, -20), 9: midnight.AddDate(0, 1, 0), // a month goes by
			10: midnight, 11: midnight.AddDate(0, 1, 0).Add(time.Hour), 12: midnight.AddDate(0, 1, 0).In(time.FixedZone("west", -8*3600)),
		}[m.Seq]
	}
	r.ingest(func(in *Ingester) {
		in.BatchAge = time.Minute // only months and the end cut batches
		in.recordedAtOf = func(m events.Message) time.Time {
			if m.Seq < 4 {
				return midnight.Add(-time.Hour)
			}
			return at(m)
		}
	})
	partitions, rows := r.parts()
	if want := []string{"(0,202603)", "(0,202604)", "(0,202605)"}; len(partitions) != 3 || partitions[0] != want[0] || partitions[1] != want[1] || partitions[2] != want[2] {
		t.Fatalf("parts of %v with %v rows, want one each of %v", partitions, rows, want)
	}
	var steps uint64
	r.scan(`SELECT countIf(recorded_at < before) FROM
		(SELECT recorded_at, lagInFrame(recorded_at) OVER (ORDER BY stream_seq, idx) AS before FROM usage_events)`, &steps)
	if steps != 0 {
		t.Fatalf("recorded_at steps back %d times", steps)
	}
	r.wantExactly(c)
}

// Were a batch ever of two partitions, the server would refuse it whole.
func TestInsertOfTwoPartitionsIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var batch rows
	for i, u := range newUsageGen(15, 1, simStart).take(10) {
		batch.add(place{seq: 1, idx: i, recordedAt: simStart.AddDate(0, i/5, 0)}, &u)
	}
	if err := r.store.insert(r.ctx, "", &batch, forEver); err == nil {
		t.Fatal("an insert of two partitions was taken")
	}
	if c := r.checkpoint(); c.Rows != 0 {
		t.Fatalf("%d rows of it landed", c.Rows)
	}
}

// A restart must clamp to where the rows were, or the checkpoint's partition
// would not be the last.
func TestClockStepsBackAcrossARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := newChaos(seedOf(t), 20)
	midnight := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{midnight.Add(time.Minute), midnight.Add(-time.Minute)} {
		c.publish(r, 3)
		r.ingest(func(in *Ingester) { in.recordedAtOf = func(events.Message) time.Time { return at } })
	}
	var first, last time.Time
	r.scan("SELECT min(recorded_at), max(recorded_at) FROM usage_events", &first, &last)
	if !first.Equal(midnight.Add(time.Minute)) || !last.Equal(first) {
		t.Fatalf("recorded from %s to %s, want all at %s", first, last, midnight.Add(time.Minute))
	}
	r.wantExactly(c)
}

// However large its rows, a batch is one part: one INSERT lands whole or not.
func TestBatchIsOnePart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("SYSTEM STOP MERGES usage_events")
	g := newUsageGen(12, 3, simStart)
	long := string(make([]byte, 500))
	n := rounds(5_000, 150_000)
	for left := n; left > 0; left -= 5000 {
		us := g.take(5000)
		for i := range us {
			us[i].ExternalID = us[i].ID.String() + long[:events.MaxTextBytes-40]
		}
		r.publish(us...)
	}
	r.ingest(func(in *Ingester) { in.BatchAge, in.BatchRows = time.Minute, n })
	if partitions, rows := r.parts(); len(rows) != 1 || rows[0] != uint64(n) {
		t.Fatalf("parts of %v with %v rows, want one of %d", partitions, rows, n)
	}
}

// A batch is bounded: its rows by BatchRows and one envelope, and there are two.
func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec("SYSTEM STOP MERGES usage_events")
	const envelope, batch = 300, 1000
	g := newUsageGen(13, 3, simStart)
	for range 20 {
		var frames [][]byte
		for range envelope {
			frames = append(frames, readable(g.next()).bytes)
		}
		r.publishRaw(seal(frames...))
	}
	r.ingest(func(in *Ingester) { in.BatchAge, in.BatchRows = time.Minute, batch })
	_, rows := r.parts()
	for i, n := range rows {
		if n >= batch+envelope || n < batch && i < len(rows)-1 {
			t.Fatalf("batches of %v rows, want at least %d and less than one envelope more", rows, batch)
		}
	}
}

func TestInsertColumnsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	found, err := r.store.conn.Query(r.ctx, "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'usage_events' AND default_kind != 'MATERIALIZED' ORDER BY position")
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	i := 0
	for ; found.Next(); i++ {
		var name, kind string
		if err := found.Scan(&name, &kind); err != nil {
			t.Fatal(err)
		}
		if i >= len(insertColumns) || insertColumns[i].Name != name || string(insertColumns[i].Type) != kind {
			t.Errorf("column %d of the table is %s %s, and not so in insertColumns", i, name, kind)
		}
	}
	if i != len(insertColumns) || found.Err() != nil {
		t.Fatalf("the table has %d columns, insertColumns %d (%v)", i, len(insertColumns), found.Err())
	}
}
