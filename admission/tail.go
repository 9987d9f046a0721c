package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// tail reads the end of one usage shard. Only one goroutine may follow it.
type tail struct {
	limiter *Limiter
	shard   int
	counted uint64 // up to here usage is known from the rows
	count   func(*events.Usage) error
	mu      sync.Mutex // held while an envelope is counted
	read    atomic.Uint64
	seen    recent
	decoder events.Decoder
	usage   []events.Usage
	stuck   int // attempts at one event
}

func newTail(l *Limiter, shard int, counted uint64) *tail {
	t := &tail{limiter: l, shard: shard, counted: counted, count: l.count}
	// A copy of an event, written again by a retry, must not count although the first
	// lies before the checkpoint: so those shortly before are read too.
	t.read.Store(counted - min(counted, overlap))
	return t
}

// overlap is how many envelopes before the checkpoint are looked at for ids.
const overlap = 2048

// follow reads up to a sequence.
func (t *tail) follow(ctx context.Context, end uint64) error {
	if t.read.Load() >= end {
		return nil
	}
	reader, err := t.limiter.past.log.ReadUsage(ctx, t.shard, t.read.Load()+1)
	if err != nil {
		return err
	}
	defer reader.Stop()
	for t.read.Load() < end {
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if err := t.take(m); err != nil {
			return err
		}
	}
	return nil
}

// endless is past every sequence.
const endless = 1 << 63

// readPause is the time between attempts to read a log that is out of reach.
const readPause = 250 * time.Millisecond

// run follows the shard until ctx ends or the log has a gap.
func (t *tail) run(ctx context.Context) error {
	for {
		err := t.follow(ctx, endless)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, events.ErrGap):
			return err
		}
		t.limiter.logger.Warn("the reader of usage restarts", "shard", t.shard, "at", t.read.Load(), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readPause):
		}
	}
}

// stuckMax is how often an event of an org that is not known yet is tried again:
// for a few seconds, because the ledger may be a little behind the usage log.
const stuckMax = 40

// take counts one envelope. What cannot be decoded is not billed either: the
// ingester keeps it aside and reports it.
func (t *tail) take(m events.Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	us, _, err := t.decoder.Envelope(m.Data, t.usage[:0])
	if err != nil {
		t.limiter.logger.Error("an envelope of usage cannot be read; its spend is not counted", "shard", m.Shard, "sequence", m.Seq, "error", err)
	}
	t.usage = us
	for i := range us {
		if us[i].ID == uuid.Nil || !t.seen.add(us[i].OrgID, us[i].ID) || m.Seq <= t.counted {
			continue
		}
		if err := t.count(&us[i]); err != nil {
			err = fmt.Errorf("count usage %s at shard %d sequence %d: %w", us[i].ID, m.Shard, m.Seq, err)
			if t.stuck++; t.stuck < stuckMax {
				t.seen.forget(us[i].OrgID, us[i].ID)
				return err
			}
			t.limiter.logger.Error("usage is left out until the next start", "error", err)
		}
		t.stuck = 0
	}
	t.read.Store(m.Seq)
	return nil
}

// count takes one usage event of the log: it settles the hold it stands for, was
// counted by Settle already, or is somebody else's.
func (l *Limiter) count(u *events.Usage) error {
	cost, err := amountOf(u.Cost)
	if err != nil {
		return err
	}
	o := l.org(u.OrgID)
	o.mu.Lock()
	defer o.mu.Unlock()
	if h := o.holds.get(u.ID); h != nil {
		h.correct(u.Tokens.Total())
		h.settle(cost, u.Tokens.Total())
		return nil
	}
	if _, ours := o.unread[u.ID]; ours {
		delete(o.unread, u.ID)
		o.countUnread(u, cost)
		return nil
	}
	if u.Sandbox || cost.isZero() && o.included == nil {
		return nil
	}
	return o.spend(l, u.TeamID, u.KeyID, u.OccurredAt, cost, u.Tokens.Total())
}

// recent remembers the ids of the last events of a shard: at least recentMin of
// them. A copy that lies further apart in the log, which the rows recognise for
// ever, is counted again here until the next start: it errs towards refusing.
type recent struct {
	now, before map[[32]byte]struct{}
}

const recentMin = 1 << 17

// add reports whether the id is new.
func (r *recent) add(org, id uuid.UUID) bool {
	k := recentKey(org, id)
	if _, ok := r.now[k]; ok {
		return false
	}
	_, old := r.before[k]
	if r.now == nil || len(r.now) >= recentMin {
		r.before, r.now = r.now, make(map[[32]byte]struct{}, len(r.now))
	}
	r.now[k] = struct{}{}
	return !old
}

func (r *recent) forget(org, id uuid.UUID) { delete(r.now, recentKey(org, id)) }

func recentKey(org, id uuid.UUID) (k [32]byte) {
	copy(k[:16], org[:])
	copy(k[16:], id[:])
	return k
}
