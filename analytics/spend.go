package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

//go:embed spend.sql
var selectSpend string

// SpendOf asks for the usage of an org that occurred in [From, To), to the
// millisecond.
type SpendOf struct {
	OrgID    uuid.UUID
	From, To time.Time
}

// SpendRow is a part of the answer to the question with index Asked.
type SpendRow struct {
	Asked         int
	TeamID, KeyID uuid.UUID
	Cost          decimal.Decimal // exact
	Tokens        uint64          // of all buckets
}

// CountedShards is the last sequence of each shard that is in the rows.
func (p Projection) CountedShards(ctx context.Context) ([]uint64, error) {
	upTo := make([]uint64, p.Log.Shards())
	for shard := range upTo {
		c, err := p.Checkpoint(ctx, shard)
		if err != nil {
			return nil, err
		}
		upTo[shard] = c.Seq
	}
	return upTo, nil
}

// spendOrgsMax bounds the orgs of one query: their ids travel in the URL.
const spendOrgsMax = 500

// EachSpend calls each with the cost and tokens, by team and key, of what is asked for. It
// counts the rows up to sequence upTo of their shard and no further, whatever
// arrives meanwhile. An org may be asked about several times.
func (s *Store) EachSpend(ctx context.Context, asked []SpendOf, upTo []uint64, each func(SpendRow) error) error {
	var left []int // of asked
	for i := range asked {
		left = append(left, i)
	}
	for len(left) > 0 {
		q := spendQuery{upTo: upTo, places: map[uuid.UUID]int{}}
		later := left[:0]
		for _, i := range left {
			// A query tells its ranges apart by their org.
			if _, there := q.places[asked[i].OrgID]; there || len(q.places) == spendOrgsMax {
				later = append(later, i)
				continue
			}
			q.add(i, asked[i])
		}
		left = later
		if err := s.eachSpend(ctx, spendSettings, q, each); err != nil {
			return fmt.Errorf("spend of %d orgs: %w", len(q.places), err)
		}
	}
	return nil
}

// spendQuery is one range for each of some orgs.
type spendQuery struct {
	upTo   []uint64
	places map[uuid.UUID]int // in what was asked
	least  time.Time         // of all ranges

	orgs, edged        []uuid.UUID
	fromMS, toMS       []int64
	wholeFrom, wholeTo []int64 // seconds: the whole quarter hours of the range
}

const quarterHourSeconds = 15 * 60

func (q *spendQuery) add(place int, of SpendOf) {
	q.places[of.OrgID] = place
	if q.least.IsZero() || of.From.Before(q.least) {
		q.least = of.From
	}
	from, to := of.From.UnixMilli(), of.To.UnixMilli()
	const quarterHourMS = quarterHourSeconds * 1000
	wholeFrom, wholeTo := (from+quarterHourMS-1)/quarterHourMS, to/quarterHourMS
	if wholeFrom*quarterHourMS != from || wholeTo*quarterHourMS != to {
		q.edged = append(q.edged, of.OrgID)
	}
	q.orgs, q.fromMS, q.toMS = append(q.orgs, of.OrgID), append(q.fromMS, from), append(q.toMS, to)
	q.wholeFrom, q.wholeTo = append(q.wholeFrom, wholeFrom*quarterHourSeconds), append(q.wholeTo, wholeTo*quarterHourSeconds)
}

func (q *spendQuery) params() clickhouse.Parameters {
	return clickhouse.Parameters{
		"orgs": uuidsParam(q.orgs), "edged": uuidsParam(q.edged), "least": instantParam(q.least), "up_to": arrayParam(q.upTo),
		"from_ms": arrayParam(q.fromMS), "to_ms": arrayParam(q.toMS),
		"whole_from": arrayParam(q.wholeFrom), "whole_to": arrayParam(q.wholeTo),
	}
}

// spendSettings make the parts of the query see the same rows.
var spendSettings = clickhouse.Settings{
	"optimize_use_projections":                1,
	"enable_shared_storage_snapshot_in_query": 1,
	"max_execution_time":                      0, // only the caller's context bounds a start
}

func (s *Store) eachSpend(ctx context.Context, settings clickhouse.Settings, q spendQuery, each func(SpendRow) error) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithParameters(q.params()))
	found, err := s.conn.Query(ctx, selectSpend)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var org uuid.UUID
		var r SpendRow
		if err := found.Scan(&org, &r.TeamID, &r.KeyID, &r.Cost, &r.Tokens); err != nil {
			return err
		}
		r.Asked = q.places[org]
		if err := each(r); err != nil {
			return err
		}
	}
	return found.Err()
}

// uuidsParam is the text of an Array(UUID) query parameter.
func uuidsParam(ids []uuid.UUID) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("'" + id.String() + "'")
	}
	return b.String() + "]"
}

const selectRequestsSince = `
SELECT uniqExact(operation_id)
FROM usage_events
WHERE org_id = {org:UUID}
    AND occurred_at >= {from:DateTime64(3, 'UTC')}
    AND disposition IN ('counted', 'sandbox')
    AND producer = 'gateway'`

// RequestsSince is how many chat requests of an org, sandbox ones included, began
// at an instant or later and are counted. Attempts at one request are one.
func (s *Store) RequestsSince(ctx context.Context, org uuid.UUID, from time.Time) (uint64, error) {
	var n uint64
	ctx = s.query(ctx, clickhouse.Parameters{"org": org.String(), "from": milliParam(from)})
	if err := s.conn.QueryRow(ctx, selectRequestsSince).Scan(&n); err != nil {
		return 0, fmt.Errorf("requests of org %s: %w", org, err)
	}
	return n, nil
}
