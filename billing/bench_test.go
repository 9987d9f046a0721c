package billing_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"aione/analytics"
	"aione/billing"
	"aione/catalog"
	"aione/embedded"
	"aione/events"
)

var (
	benchOrgs = flag.Int("bench-orgs", 500, "orgs that the benchmark of an invoice run closes")
	benchRows = flag.Int("bench-rows", 500_000, "rows of usage that they have together")
)

// countedLog is a log whose usage lies in ClickHouse only.
type countedLog struct {
	*events.Log
	end uint64
}

func (l countedLog) UsageEnd(context.Context, int) (uint64, time.Time, error) {
	return l.end, time.Time{}, nil
}

// BenchmarkRunDue closes a month of many orgs over rows in a real ClickHouse and
// with a real log:
//
//	go test ./billing -run - -bench RunDue -benchtime 1x -bench-orgs 10000 -bench-rows 20000000
func BenchmarkRunDue(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		run := newBenchRun(b, *benchOrgs, *benchRows)

		runtime.GC()
		b.StartTimer()
		begun := time.Now()
		report, err := run.RunDue(b.Context(), run.Clock())
		if err != nil || report.Invoices != *benchOrgs {
			b.Fatalf("%d invoices, %v", report.Invoices, err)
		}
		b.ReportMetric(float64(*benchOrgs)/time.Since(begun).Seconds(), "invoices/s")
	}
}

func newBenchRun(b *testing.B, orgs, rows int) *billing.Invoicer {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	engines := embedded.Open(b)
	nc, err := engines.NATS.Conn()
	if err != nil {
		b.Fatal(err)
	}
	log, err := events.Open(ctx, nc, events.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	store, err := analytics.Open(ctx, engines.DSN, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	book, prices := billing.NewBook(), catalog.New()
	followed := make(chan error, 1)
	go func() {
		followed <- log.Follow(ctx, 0, func(r events.Record) error { return errors.Join(prices.Apply(r), book.Apply(r)) })
	}()
	b.Cleanup(func() {
		cancel()
		<-followed
		store.Close()
		log.Close(context.Background())
		nc.Close()
	})
	now := instant("2026-02-01T01:00:00+08:00")
	if _, err := prices.Install(ctx, log, catalog.Starter(), catalog.By{Actor: "bench", At: now}); err != nil {
		b.Fatal(err)
	}
	ids := benchOrgsIn(b, ctx, log, orgs)
	benchRowsOf(b, ctx, engines.DSN, ids, rows)
	end, err := log.LedgerEnd(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if err := book.WaitFor(ctx, end); err != nil {
		b.Fatal(err)
	}
	l := countedLog{log, uint64(rows)}
	return &billing.Invoicer{Log: l, Book: book, Prices: prices, Usage: analytics.Projection{Store: store, Log: l},
		Clock: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)}
}

func benchOrgsIn(b *testing.B, ctx context.Context, log *events.Log, n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	var batch []events.Append
	for i := range ids {
		ids[i] = events.NewID()
		org := billing.Org{ID: ids[i], Name: fmt.Sprint("org ", i), Timezone: "Asia/Shanghai", Currency: "CNY", LegalEntity: "AIONE", CreatedAt: instant("2026-01-01T00:00:00Z")}
		rec, err := events.NewRecord(billing.TypeOrgCreated, org.CreatedAt, "bench", "", org)
		if err != nil {
			b.Fatal(err)
		}
		if batch = append(batch, events.Append{Subject: events.OrgSubject(org.ID), Record: rec}); len(batch) == 500 || i == n-1 {
			if _, err := log.Append(ctx, batch...); err != nil {
				b.Fatal(err)
			}
			batch = nil
		}
	}
	return ids
}

// benchRowsOf writes rows of five models, with the exact cost of their tokens.
func benchRowsOf(b *testing.B, ctx context.Context, dsn string, ids []uuid.UUID, rows int) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		b.Fatal(err)
	}
	options.ReadTimeout = 10 * time.Minute
	conn, err := clickhouse.Open(options)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec(ctx, "CREATE TABLE bench_orgs (i UInt32, id UUID) ENGINE = Memory"); err != nil {
		b.Fatal(err)
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO bench_orgs")
	if err != nil {
		b.Fatal(err)
	}
	for i, id := range ids {
		if err := batch.Append(uint32(i), id); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		b.Fatal(err)
	}
	const partRows = 1_000_000
	for from := 0; from < rows; from += partRows {
		err := conn.Exec(ctx, fmt.Sprintf(`
			INSERT INTO usage_events (shard, stream_seq, idx, disposition, org_id, model, provider, price_version, currency, event_id, digest,
				occurred_at, recorded_at, input_tokens, output_tokens, cost, outcome, http_status)
			SELECT 0, number + 1, 0, 'counted', o.id, m.1, 'bench', concat(m.1, '@1'), 'CNY', generateUUIDv4(number), cityHash64(number),
				toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalSecond(number * 2000000 DIV %d), toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalSecond(number * 2000000 DIV %d),
				number %% 1000, number %% 700,
				toDecimal64(toDecimal128(number %% 1000, 12) * m.2 / 1000000 + toDecimal128(number %% 700, 12) * m.3 / 1000000, 12), 'completed', 200
			FROM (SELECT number, [('gpt-4o', toDecimal128('18', 2), toDecimal128('72', 2)), ('gpt-4o-mini', toDecimal128('1.08', 2), toDecimal128('4.32', 2)),
				('gpt-4.1', toDecimal128('14.4', 2), toDecimal128('57.6', 2)), ('gpt-5', toDecimal128('9', 2), toDecimal128('72', 2)),
				('o3', toDecimal128('14.4', 2), toDecimal128('57.6', 2))][number %% 5 + 1] AS m, toUInt32(cityHash64(number) %% %d) AS place FROM numbers(%d, %d)) AS n
			INNER JOIN bench_orgs AS o ON o.i = n.place`, rows, rows, len(ids), from, min(partRows, rows-from)))
		if err != nil {
			b.Fatal(err)
		}
	}
}
