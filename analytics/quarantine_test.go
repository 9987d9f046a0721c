package analytics

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/zeebo/xxh3"

	"aione/events"
)

// upgraded is the log as a later version reads it: what needed a newer reader
// is understood. Nothing in the log itself has changed.
type upgraded struct {
	*events.Log
	formats bool // it knows envelope format 2, too
}

func (l upgraded) UsageAt(ctx context.Context, shard int, seq uint64) (events.Message, error) {
	m, err := l.Log.UsageAt(ctx, shard, seq)
	if err != nil {
		return m, err
	}
	m.Data = bytes.Clone(m.Data)
	if l.formats && m.Data[0] == 2 {
		m.Data[0] = 1
	}
	if at := bytes.Index(m.Data, newerFields); at >= 0 {
		m.Data[at+1] = 1 // min_reader: this one
		binary.LittleEndian.PutUint64(m.Data[1:], xxh3.Hash(m.Data[9:]))
	}
	return m, nil
}

func (r *rig) quarantine(want int) []Quarantined {
	r.t.Helper()
	items, err := r.store.Quarantine(r.ctx, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(items) != want {
		r.t.Fatalf("%d in quarantine, want %d: %+v", len(items), want, items)
	}
	return items
}

func (r *rig) replay(log ReplayLog, q Quarantined, want int) {
	r.t.Helper()
	n, err := Replay(r.ctx, log, q)
	if err != nil || n != want {
		r.t.Fatalf("replay of %+v: %d events, %v; want %d", q, n, err, want)
	}
	r.ingest()
}

func TestQuarantineReplaysAConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(8, 1, simStart)
	u := g.next()
	other := u
	other.Tokens.Output += 7
	r.publish(u, g.next(), other, g.next()) // nothing behind it waits
	r.ingest()
	r.wantDispositions(map[string]uint64{"counted": 3, "conflict": 1})
	q := r.quarantine(1)[0]
	if q.Kind != "conflict" || q.OrgID != u.OrgID || q.EventID != u.ID || q.Seq != 1 || q.Idx != 2 || q.Reason == "" || q.RecordedAt.IsZero() {
		t.Fatalf("in quarantine: %+v", q)
	}
	r.replay(r.log, q, 1)
	r.wantDispositions(map[string]uint64{"counted": 4, "conflict": 1})
	r.replay(r.log, q, 1) // once more: a copy
	r.wantDispositions(map[string]uint64{"counted": 4, "conflict": 1, "duplicate": 1})
	r.wantAudit()
	if report := r.rebuild(true); !report.Same {
		t.Fatalf("a rebuild differs: %+v", report)
	}
}

func TestQuarantineReplaysANewerEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(9, 1, simStart)
	before, after := readable(g.next()), readable(g.next())
	r.publishRaw(seal(before.bytes, newer(g.next()), after.bytes))
	r.publish(g.next())
	r.ingest()
	r.wantDispositions(map[string]uint64{"counted": 3, "undecodable": 1})
	q := r.quarantine(1)[0]
	if q.Kind != "undecodable" || q.OrgID != uuid.Nil || q.Seq != 1 || q.Idx != 1 {
		t.Fatalf("in quarantine: %+v", q)
	}
	if n, err := Replay(r.ctx, r.log, q); !errors.Is(err, ErrStillUndecodable) || n != 0 {
		t.Fatalf("replay by this version: %d, %v; want ErrStillUndecodable", n, err)
	}
	r.replay(upgraded{Log: r.log}, q, 1)
	r.wantDispositions(map[string]uint64{"counted": 4, "undecodable": 1})
	r.replay(upgraded{Log: r.log}, q, 1)
	r.wantDispositions(map[string]uint64{"counted": 4, "undecodable": 1, "duplicate": 1})
	r.wantAudit()
}

// An unreadable first event is not taken for an unreadable envelope: replaying it
// does not publish its neighbours.
func TestQuarantineReplaysTheFirstEventAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(10, 1, simStart)
	r.publishRaw(seal(newer(g.next()), readable(g.next()).bytes))
	r.ingest()
	q := r.quarantine(1)[0]
	if n, err := Replay(r.ctx, r.log, q); !errors.Is(err, ErrStillUndecodable) || n != 0 {
		t.Fatalf("replay by this version: %d, %v; want ErrStillUndecodable", n, err)
	}
	r.replay(upgraded{Log: r.log}, q, 1)
	r.wantDispositions(map[string]uint64{"counted": 2, "undecodable": 1})
}

// An envelope of a later format is one row, and all its events once they can be
// read; what still cannot be read does not keep the others.
func TestQuarantineReplaysAWholeEnvelope(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newUsageGen(11, 1, simStart)
	cut := readable(g.next()).bytes[:10]
	message := seal(readable(g.next()).bytes, cut, readable(g.next()).bytes)
	message[0] = 2
	r.publishRaw(message)
	r.publishRaw([]byte("no envelope at all"))
	r.publish(g.next())
	r.ingest()
	r.wantDispositions(map[string]uint64{"counted": 1, "undecodable": 2})
	items := r.quarantine(2)
	for _, q := range items {
		if n, err := Replay(r.ctx, r.log, q); !errors.Is(err, ErrStillUndecodable) || n != 0 {
			t.Fatalf("replay by this version: %d, %v; want ErrStillUndecodable", n, err)
		}
	}
	if n, err := Replay(r.ctx, upgraded{r.log, true}, items[0]); !errors.Is(err, ErrStillUndecodable) || n != 2 {
		t.Fatalf("replay of two readable events and one cut short: %d, %v", n, err)
	}
	r.ingest()
	r.wantDispositions(map[string]uint64{"counted": 3, "undecodable": 2})
	r.wantAudit()
}
