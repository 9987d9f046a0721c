package analytics

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"aione/events"
)

// Quarantined is an event that is in the log and has its row, but is not counted.
type Quarantined struct {
	Shard      int       `json:"shard"`
	Seq        uint64    `json:"seq"`
	Idx        int       `json:"idx"`
	Kind       string    `json:"kind"` // "conflict" or "undecodable"
	Reason     string    `json:"reason"`
	OrgID      uuid.UUID `json:"org_id"`   // zero when it cannot be read
	EventID    uuid.UUID `json:"event_id"` // zero when it cannot be read
	RecordedAt time.Time `json:"recorded_at"`
}

const selectQuarantine = `
SELECT shard, stream_seq, idx, toString(disposition), reason, org_id, event_id, recorded_at
FROM usage_events
WHERE disposition IN ('conflict', 'undecodable')
ORDER BY shard, stream_seq, idx
LIMIT {limit:UInt64}`

// Quarantine lists what was set aside, oldest first.
func (s *Store) Quarantine(ctx context.Context, limit int) ([]Quarantined, error) {
	found, err := s.conn.Query(s.query(ctx, clickhouse.Parameters{"limit": strconv.Itoa(limit)}), selectQuarantine)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	defer found.Close()
	var out []Quarantined
	for found.Next() {
		var q Quarantined
		var shard, idx uint16
		if err := found.Scan(&shard, &q.Seq, &idx, &q.Kind, &q.Reason, &q.OrgID, &q.EventID, &q.RecordedAt); err != nil {
			return nil, fmt.Errorf("list the quarantine: %w", err)
		}
		q.Shard, q.Idx = int(shard), int(idx)
		out = append(out, q)
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	return out, nil
}

// ReplayLog is what a replay reads and writes.
type ReplayLog interface {
	UsageAt(ctx context.Context, shard int, seq uint64) (events.Message, error)
	Publish(ctx context.Context, us []events.Usage) error
}

// ErrStillUndecodable is returned by Replay when this version cannot read the
// event, or one of the envelope's events, either. It stays where it is.
var ErrStillUndecodable = errors.New("this version cannot read it either")

// Replay publishes what was set aside at a place of the log once more, and says
// how many events that were. Bytes that an earlier version could not read are
// published under their own ids; an operator who replays a conflict says that it
// was real usage under a wrong id, so it gets an id derived from its place.
// Replaying twice is harmless: the second time they are copies.
func Replay(ctx context.Context, log ReplayLog, q Quarantined) (int, error) {
	m, err := log.UsageAt(ctx, q.Shard, q.Seq)
	if err != nil {
		return 0, err
	}
	var decoder events.Decoder
	usages, bad, err := decoder.Envelope(m.Data, nil)
	if err != nil {
		return 0, fmt.Errorf("replay shard %d sequence %d: %w: %w", q.Shard, q.Seq, ErrStillUndecodable, err)
	}
	unreadable := map[int]error{}
	for _, b := range bad {
		unreadable[b.Idx] = b.Err
	}
	whole := strings.HasPrefix(q.Reason, envelopeReason)
	var again []events.Usage
	var still error
	for i, u := range usages {
		if i != q.Idx && !whole {
			continue
		}
		if unreadable[i] != nil {
			still = unreadable[i] // the others are replayed whatever becomes of it
			continue
		}
		if q.Kind == "conflict" {
			var at [24]byte
			binary.BigEndian.PutUint64(at[:], uint64(q.Shard))
			binary.BigEndian.PutUint64(at[8:], q.Seq)
			binary.BigEndian.PutUint64(at[16:], uint64(q.Idx))
			u.ID = events.DeriveID("quarantine-replay", at[:])
		}
		again = append(again, u)
	}
	if err := log.Publish(ctx, again); err != nil {
		return 0, fmt.Errorf("replay shard %d sequence %d: %w", q.Shard, q.Seq, err)
	}
	if still != nil {
		return len(again), fmt.Errorf("replay shard %d sequence %d: %w: %w", q.Shard, q.Seq, ErrStillUndecodable, still)
	}
	return len(again), nil
}

// envelopeReason begins the reason of a row that stands, at index 0, for all
// events of an envelope that could not be opened; those counted since by rows of
// their own become copies when it is replayed.
const envelopeReason = "envelope: "
