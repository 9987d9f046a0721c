package analytics

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"aione/events"
)

// auditOn goes on from an audit.
func (r *rig) auditOn(before ShardAudit) ShardAudit {
	r.t.Helper()
	a, err := r.store.AuditOn(r.ctx, r.log, before, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// Audits that go on from each other say in the end what one of everything says.
func TestAuditOnAddsUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := newChaos(seedOf(t), 200)
	a := r.audit() // of nothing
	month := time.Date(2026, 1, 31, 20, 0, 0, 0, time.UTC)
	for range rounds(3, 12) {
		c.publish(r, 12)
		month = month.Add(9 * 24 * time.Hour) // rows of several partitions
		r.ingest(func(in *Ingester) { in.recordedAtOf = func(events.Message) time.Time { return month } })
		a = r.auditOn(a)
		if again := r.auditOn(a); len(a.Differences)+len(again.Differences) > 0 || again.Rows != a.Rows || again.Through != a.Through {
			t.Fatalf("the audit finds %q, then %q and %d of %d rows", a.Differences, again.Differences, again.Rows, a.Rows)
		}
	}
	whole := r.wantAudit()
	if a.Events != whole.Events || a.Envelopes != whole.Envelopes || a.Rows != whole.Rows || !a.Cost.Equal(whole.Cost) ||
		a.Through != whole.Through || !maps.Equal(a.Dispositions, whole.Dispositions) {
		t.Errorf("step by step %+v, at once %+v", a, whole)
	}
}

// What is wrong with what is new is found, and rows that came or went anywhere.
func TestAuditOnNamesWhatIsNew(t *testing.T) {
	t.Parallel()
	const update, remove = "ALTER TABLE usage_events UPDATE %s WHERE %s SETTINGS mutations_sync = 2", "ALTER TABLE usage_events DELETE WHERE %s SETTINGS mutations_sync = 2"
	r := newRig(t)
	g := newUsageGen(5, 3, simStart)
	old := g.take(40)
	r.publish(old[:20]...)
	r.publish(old[20:]...)
	r.ingest()
	before := r.wantAudit()
	fresh := g.take(20)
	r.publish(fresh...)
	r.publish(old[3], fresh[7], g.next())
	r.ingest()
	r.exec("CREATE TABLE good ENGINE = Memory AS SELECT * FROM usage_events")
	for name, c := range map[string]struct{ tamper, want string }{
		"nothing":                         {"", ""},
		"a missing new row":               {fmt.Sprintf(remove, "stream_seq = 3 AND idx = 5"), "sequence 3 has 20 events in the log and 19 rows"},
		"a changed new cost":              {fmt.Sprintf(update, "cost = cost + toDecimal64('0.000000000001', 12)", "stream_seq = 3 AND idx = 5"), "sequence 3: its rows cost"},
		"an old row that is missing":      {fmt.Sprintf(remove, "stream_seq = 1 AND idx = 5"), "62 rows in all, 63 of them belong"},
		"an old row that is there twice":  {"INSERT INTO usage_events SELECT * FROM usage_events WHERE stream_seq = 1 AND idx = 5", "64 rows in all, 63 of them belong"},
		"a copy of an old one, counted":   {fmt.Sprintf(update, "disposition = 'counted'", "stream_seq = 4 AND idx = 0"), "1 event ids are counted more than once"},
		"a new event set aside":           {fmt.Sprintf(update, "disposition = 'duplicate'", "stream_seq = 3 AND idx = 9"), "rows are set aside as copies of an event that is not counted"},
		"rows that end before the others": {fmt.Sprintf(remove, "stream_seq >= 2"), "rows go up to sequence 1, and went up to 2 before"},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			r.exec("TRUNCATE TABLE usage_events")
			r.exec("INSERT INTO usage_events SELECT * FROM good")
			if c.tamper != "" {
				r.exec(c.tamper)
			}
			differences := strings.Join(r.auditOn(before).Differences, "\n")
			if !strings.Contains(differences, c.want) || c.want == "" && differences != "" {
				t.Fatalf("the audit says %q, want %q", differences, c.want)
			}
		})
	}
}
