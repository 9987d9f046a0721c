package analytics

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
)

// TestAuditNamesEachDifference tampers with the rows behind everyone's back.
func TestAuditNamesEachDifference(t *testing.T) {
	t.Parallel()
	const update, remove = "ALTER TABLE usage_events UPDATE %s WHERE %s SETTINGS mutations_sync = 2", "ALTER TABLE usage_events DELETE WHERE %s SETTINGS mutations_sync = 2"
	row := "stream_seq = 3 AND idx = 5"
	r := newRig(t)
	g := newUsageGen(5, 3, simStart)
	us := g.take(200)
	for i := 0; i < len(us); i += 20 {
		r.publish(us[i : i+20]...)
	}
	r.publish(us[3], us[3], g.next())
	r.ingest()
	r.wantAudit()
	r.exec("CREATE TABLE good ENGINE = Memory AS SELECT * FROM usage_events")
	with := func(replace string) string {
		return "INSERT INTO usage_events SELECT * REPLACE (" + replace + ") FROM (SELECT * FROM usage_events WHERE " + row + ")"
	}
	for name, c := range map[string]struct{ tamper, want string }{
		"a missing row":              {fmt.Sprintf(remove, row), "sequence 3 has 20 events in the log and 19 rows"},
		"a missing envelope":         {fmt.Sprintf(remove, "stream_seq = 3"), "sequence 3 has 20 events in the log and no rows"},
		"a missing end":              {fmt.Sprintf(remove, "stream_seq >= 8 AND NOT (stream_seq = 9 AND idx = 0)"), "sequence 8 has 20 events in the log and no rows"},
		"a doubled row":              {"INSERT INTO usage_events SELECT * FROM usage_events WHERE " + row, "sequence 3 has 20 events in the log and 21 rows"},
		"another row in its place":   {with("6 AS idx") + ";" + fmt.Sprintf(remove, row), "sequence 3 has 20 rows with 19 different indexes"},
		"a changed cost":             {fmt.Sprintf(update, "cost = cost + toDecimal64('0.000000000001', 12)", row), "sequence 3: its rows cost"},
		"a changed token count":      {fmt.Sprintf(update, "output_tokens = output_tokens + 1", row), "sequence 3: a column of its rows"},
		"a changed model":            {fmt.Sprintf(update, "model = 'cheap'", row), "sequence 3: a column of its rows"},
		"a changed price version":    {fmt.Sprintf(update, "price_version = 'cheap@1'", row), "sequence 3: a column of its rows"},
		"a changed digest":           {fmt.Sprintf(update, "digest = digest + 1", row), "sequence 3: the digest of its rows"},
		"a row before the log":       {with("0 AS stream_seq"), "sequence 0 is not in the log and has 1 rows"},
		"rows after the log":         {with("77 AS stream_seq"), "rows go up to sequence 77, but the log ends at 11"},
		"a counted copy":             {fmt.Sprintf(update, "disposition = 'counted'", "stream_seq = 11 AND disposition = 'duplicate'"), "1 event ids are counted more than once"},
		"an event set aside":         {fmt.Sprintf(update, "disposition = 'duplicate'", row), "rows are set aside as copies of an event that is not counted"},
		"an event given away":        {fmt.Sprintf(update, "disposition = 'sandbox'", row), "sequence 3 has 19 rows counted and 1 sandbox"},
		"an event called unreadable": {fmt.Sprintf(update, "disposition = 'undecodable'", row), "sequence 3 has 1 events that this version can read and that are not counted"},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			r.exec("TRUNCATE TABLE usage_events")
			r.exec("INSERT INTO usage_events SELECT * FROM good")
			for statement := range strings.SplitSeq(c.tamper, ";") {
				r.exec(statement)
			}
			differences := strings.Join(r.audit().Differences, "\n")
			if !strings.Contains(differences, c.want) {
				t.Fatalf("the audit says %q, want %q", differences, c.want)
			}
		})
	}
}

// What an earlier version could not read is no difference once it was replayed.
func TestAuditAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.publish(newUsageGen(5, 3, simStart).take(20)...)
	r.ingest()
	r.exec("ALTER TABLE usage_events UPDATE disposition = 'undecodable', reason = 'too new' WHERE idx = 5 SETTINGS mutations_sync = 2")
	if a := r.audit(); len(a.Differences) != 1 {
		t.Fatalf("differences %q, want one", a.Differences)
	}
	r.replay(r.log, r.quarantine(1)[0], 1)
	r.wantDispositions(map[string]uint64{"counted": 20, "undecodable": 1})
	r.wantAudit()
}

// A live system is audited while it runs: what arrives meanwhile is no difference.
func TestAuditWhileEventsArrive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(6, 3, simStart)
	stop, stopped := make(chan struct{}), make(chan struct{})
	in := r.ingester()
	in.Until = 0
	in.BatchAge = 1
	ended := r.run(in)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if err := r.log.Publish(r.ctx, g.take(20)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	r.eventually("something is counted", func() error {
		if in.Done() == 0 {
			return fmt.Errorf("nothing is")
		}
		return nil
	})
	for range rounds(2, 30) {
		r.wantAudit()
	}
	close(stop)
	<-stopped
	ended()
}

func TestContentsAreTheSameOnlyIfEveryColumnIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.publish(newUsageGen(7, 2, simStart).take(50)...)
	r.ingest()
	contents := func(table string) (c Contents) {
		params := clickhouse.Parameters{"shard": "0", "through": "1"}
		query := strings.Replace(selectContents, "FROM usage_events", "FROM "+table, 1)
		if err := r.store.conn.QueryRow(r.store.query(r.ctx, params), query).Scan(
			&c.Rows, &c.Counted, &c.Duplicates, &c.Conflicts, &c.Undecodable, &c.Digest, &c.Cost); err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := contents("usage_events")
	for _, c := range insertColumns {
		if c.Name == "insert_by" {
			continue // is not stored
		}
		if c.Name == "shard" || c.Name == "stream_seq" || c.Name == "id_hash" || c.Name == "reason" {
			continue // where it is; what the look-up goes by and audit's digest covers; why, in words
		}
		value := c.Name + " + 1"
		switch c.Type {
		case "UUID":
			value = "toUUID('" + uuid.NewString() + "')"
		case "String", "LowCardinality(String)":
			value = "concat(" + c.Name + ", 'x')"
		case "Bool":
			value = "NOT " + c.Name
		case "DateTime64(3, 'UTC')":
			value = c.Name + " + INTERVAL 1 MILLISECOND"
		}
		if strings.HasPrefix(c.Type, "Enum8") {
			value = "CAST(toInt8(" + c.Name + ") + 1, '" + strings.ReplaceAll(c.Type, "'", "''") + "')"
		}
		tampered := "(SELECT * REPLACE (if(idx = 7, " + value + ", " + c.Name + ") AS " + c.Name + ") FROM usage_events)"
		if after := contents(tampered); before.equal(after) {
			t.Errorf("%s can be changed unseen", c.Name)
		}
	}
}
