package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"

	"aione/analytics"
	"aione/billing"
	"aione/catalog"
	"aione/embedded"
	"aione/events"
)

// world is a ledger of its own over the rows that all worlds share.
type world struct {
	rig      *rig
	nats     *embedded.NATS
	conn     *nats.Conn
	log      *events.Log
	book     *billing.Book
	catalog  *catalog.Catalog
	usageEnd uint64 // sequence of the last row

	heapPeak, heapGrown uint64
	cpu                 cpuSplit
}

// usageLog is the event log, but for where its usage ends: the rows were made
// inside ClickHouse and are in no log.
type usageLog struct {
	*events.Log
	end uint64
}

// UsageEnd is the sequence of the last row.
func (l usageLog) UsageEnd(context.Context, int) (uint64, time.Time, error) {
	return l.end, time.Time{}, nil
}

// closeMonths makes a world with the first n orgs, closes their month, and checks
// that every row is on an invoice.
func (r *rig) closeMonths(ctx context.Context, store *analytics.Store, n int, rows uint64, measured func(time.Duration, *world)) (err error) {
	checkpoint, err := store.Checkpoint(ctx, 0)
	if err != nil {
		return err
	}
	w, err := r.openWorld(ctx, fmt.Sprintf("nats-%d", n), checkpoint.Seq)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	following, stop := context.WithCancel(ctx)
	var follower sync.WaitGroup
	defer follower.Wait()
	defer stop()
	failed := make(chan error, 1)
	follower.Go(func() {
		if err := w.log.Follow(following, 1, w.apply); following.Err() == nil {
			failed <- err
		}
	})
	if err := w.found(ctx, n); err != nil {
		return err
	}
	now := invoiceMonth.AddDate(0, 1, 1)
	invoicer := &billing.Invoicer{Log: usageLog{w.log, w.usageEnd}, Book: w.book, Prices: w.catalog, Logger: r.options.Logger,
		Usage: analytics.Projection{Store: store, Log: w.log}, Clock: func() time.Time { return now }}
	held := heapHeld()
	heap, before, began := watchHeap(), r.cpu(), time.Now()
	report, err := invoicer.RunDue(ctx, now)
	took := time.Since(began)
	if err != nil {
		return err
	}
	w.cpu.addSince(before, r.cpu())
	w.heapPeak = heap()
	w.heapGrown = max(heapHeld(), held) - held
	if report.Invoices != n {
		return fmt.Errorf("the run issued %d invoices for %d orgs", report.Invoices, n)
	}
	measured(took, w)
	select {
	case err := <-failed:
		return err
	default:
		return w.check(ctx, n, rows)
	}
}

func (r *rig) openWorld(ctx context.Context, dir string, usageEnd uint64) (_ *world, err error) {
	w := &world{rig: r, book: billing.NewBook(), catalog: catalog.New(), usageEnd: usageEnd}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	if w.nats, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: filepath.Join(r.dir, dir), Port: embedded.NATSPortNone}); err != nil {
		return nil, err
	}
	if w.conn, err = w.nats.Conn(nats.MaxReconnects(-1)); err != nil {
		return nil, err
	}
	w.log, err = events.Open(ctx, w.conn, events.Options{Logger: r.options.Logger})
	return w, err
}

func (w *world) apply(r events.Record) error { return errors.Join(w.catalog.Apply(r), w.book.Apply(r)) }

// foundersAtOnce is how many orgs are created at once: they share the log's fsyncs.
const foundersAtOnce = 64

// found publishes the prices that the rows were made with and creates the orgs.
func (w *world) found(ctx context.Context, n int) error {
	at := invoiceMonth.Add(time.Hour)
	by := catalog.By{Actor: "bench", Reason: "bench", At: at}
	for _, model := range invoiceModels {
		m := catalog.Model{ID: model, Name: model, Provider: "provider", ContextLength: 1 << 20, Enabled: true}
		if err := w.catalog.RegisterModel(ctx, w.log, m, by); err != nil {
			return err
		}
		p := catalog.Price{Model: model, Currency: "CNY", EffectiveFrom: invoiceMonth.AddDate(0, 0, -1),
			Input: decimal.New(18, 0), Output: decimal.New(72, 0)}
		if _, err := w.catalog.PublishPrice(ctx, w.log, catalog.Publication{Price: p, Backdate: true}, by); err != nil {
			return err
		}
	}
	progress := w.rig.options.Progress("orgs")
	commands := billing.Commands{Log: w.log, Book: w.book}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(foundersAtOnce)
	for i := range n {
		g.Go(func() error {
			org := billing.Org{ID: dashboardOrg(i), Name: fmt.Sprintf("org %d", i), Timezone: "UTC", Currency: "CNY"}
			_, err := commands.CreateOrg(gctx, org, billing.By{Actor: "bench", Reason: "bench", At: at})
			progress(uint64(i+1), uint64(n))
			return err
		})
	}
	return g.Wait()
}

// check sees to it that the invoices count every row, once.
func (w *world) check(ctx context.Context, n int, want uint64) error {
	end, err := w.log.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	if err := w.book.WaitFor(ctx, end); err != nil {
		return err
	}
	rows := uint64(0)
	for i := range n {
		inv, err := w.book.LastInvoice(dashboardOrg(i))
		if err != nil {
			return err
		}
		rows += inv.Inputs.Rows
	}
	if rows != want {
		return fmt.Errorf("the invoices count %d rows of %d", rows, want)
	}
	return nil
}

func (w *world) close(ctx context.Context) error {
	var err error
	if w.log != nil {
		err = w.log.Close(ctx)
	}
	if w.conn != nil {
		w.conn.Close()
	}
	if w.nats != nil {
		w.nats.Close()
	}
	return err
}

// heapHeld is the heap that is in use after a collection.
func heapHeld() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
