package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"aione/events"
)

// Log is the part of the event log that a Deliverer uses: events.Log.
type Log interface {
	Ledger
	// RecordAt is the record at a sequence of the ledger.
	RecordAt(ctx context.Context, seq uint64) (events.Record, error)
	WaitLease(ctx context.Context, o events.LeaseOptions) (*events.Lease, error)
}

// Config of a Deliverer. The first six fields are required.
type Config struct {
	Log     Log
	Book    *Book // something must be feeding its Apply
	Secrets *Secrets
	Now     func() time.Time // the machine's clock: the lease goes by it
	Logger  *slog.Logger
	Holder  string // names this process in the lease

	Destinations Destinations
	Attempts     int           // at the same time; default 128
	RecordEvery  time.Duration // how long an outcome may wait for others; default 1 s
	LeaseTTL     time.Duration // how long a dead process holds up delivery; default 10 s
}

const (
	attemptsDefault    = 128
	recordEveryDefault = time.Second
	leaseTTLDefault    = 10 * time.Second

	leaseName   = "webhooks"
	shiftPause  = 5 * time.Second // after an error
	releaseMax  = 2 * time.Second
	announceMax = 5 // tries
)

// Deliverer sends messages for as long as it runs, one process at a time.
type Deliverer struct{ c Config }

// NewDeliverer checks the configuration.
func NewDeliverer(c Config) (*Deliverer, error) {
	if c.Log == nil || c.Book == nil || c.Secrets == nil || c.Now == nil || c.Logger == nil || c.Holder == "" {
		return nil, errors.New("webhooks: a deliverer needs a log, a book, secrets, a clock, a logger and a name")
	}
	if c.Attempts < 1 {
		c.Attempts = attemptsDefault
	}
	if c.RecordEvery <= 0 {
		c.RecordEvery = recordEveryDefault
	}
	if c.LeaseTTL <= 0 {
		c.LeaseTTL = leaseTTLDefault
	}
	return &Deliverer{c}, nil
}

var (
	errLeaseLost = errors.New("the lease of the webhooks went to another process")
	errOvertaken = errors.New("another process records deliveries")
)

// Run delivers until ctx ends, whenever this process has the lease; then it lets
// attempts end, records them and returns ctx's error. What it cannot do now it
// tries again.
func (d *Deliverer) Run(ctx context.Context) error {
	for {
		lease, err := d.c.Log.WaitLease(ctx, events.LeaseOptions{Name: leaseName, Holder: d.c.Holder, TTL: d.c.LeaseTTL, Now: d.c.Now})
		if err == nil {
			err = d.deliverWhile(ctx, lease)
			release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseMax)
			if err := lease.Release(release); err != nil {
				d.c.Logger.Warn("the lease of the webhooks was not given back; it expires by itself", "error", err)
			}
			cancel()
		}
		switch {
		case ctx.Err() != nil:
			if err != nil && !errors.Is(err, ctx.Err()) {
				d.c.Logger.Warn("webhook deliveries were not recorded; they are repeated", "error", err)
			}
			return ctx.Err()
		case errors.Is(err, errLeaseLost):
			d.c.Logger.Info("webhooks are delivered by another process now")
			continue
		}
		d.c.Logger.Warn("webhooks are not delivered", "error", err, "again_in", shiftPause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(shiftPause):
		}
	}
}

// deliverWhile delivers for as long as the lease is held.
func (d *Deliverer) deliverWhile(ctx context.Context, lease *events.Lease) error {
	held, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() {
		select {
		case <-lease.Lost():
			cancel()
		case <-held.Done():
		}
	}()
	// What the holder before has recorded comes first.
	end, err := d.c.Log.LedgerEnd(ctx)
	if err == nil {
		err = d.c.Book.WaitFor(ctx, end)
	}
	if err == nil {
		err = d.announce(ctx)
	}
	if err != nil {
		return err
	}
	s := newShift(d.c, lease)
	defer d.c.Book.unwatch()
	return s.run(ctx, held)
}

// announce tells the log of types that it does not know yet, so that every replay
// of it makes the same messages, whatever the build.
func (d *Deliverer) announce(ctx context.Context) error {
	for range announceMax {
		last := d.c.Book.last(announcedSubject)
		types := d.c.Book.unannounced()
		if len(types) == 0 {
			return nil
		}
		r, err := events.NewRecord(recordAnnounced, d.c.Now(), actor, "a build that knows these types delivers", announcedData{types})
		if err != nil {
			return err
		}
		if _, err = d.c.Log.Append(ctx, events.Append{Subject: announcedSubject, Record: r, ExpectLast: last}); err != nil && !errors.Is(err, events.ErrConflict) {
			return fmt.Errorf("announce types of events: %w", err)
		}
		end, err := d.c.Log.LedgerEnd(ctx)
		if err == nil {
			err = d.c.Book.WaitFor(ctx, end)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("announce types of events: %w", events.ErrConflict)
}
