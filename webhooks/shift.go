package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

const (
	actor = "webhooks" // in records that no person caused

	recordOutcomesMax = 256  // outcomes of a record
	openMax           = 4096 // deliveries whose last outcome is not in the book yet
	leasePoll         = 250 * time.Millisecond
	logRetry          = 5 * time.Second // after an attempt that the log being out of reach prevented
	endMax            = attemptTimeout + 10*time.Second
)

// shift is the time for which one process delivers. One goroutine owns all of it;
// only attempts run beside it.
type shift struct {
	Config
	commands Commands
	attempts *attempter
	lease    *events.Lease
	queue    *queue

	results     chan result             // has room for every attempt
	unrecorded  map[uuid.UUID][]outcome // by org
	count       int                     // of unrecorded
	oldest      time.Time               // when the first of them came
	unconfirmed []recorded              // in the log, perhaps not yet in the book; in the log's order
	last        map[uuid.UUID]uint64    // the delivery subject of an org, as far as we wrote it
}

// recorded is a record of outcomes that is in the log.
type recorded struct {
	seq  uint64
	keys []key
}

func newShift(c Config, lease *events.Lease) *shift {
	return &shift{
		Config:   c,
		commands: Commands{Log: c.Log, Book: c.Book, Secrets: c.Secrets, Destinations: c.Destinations},
		attempts: &attempter{log: c.Log, book: c.Book, secrets: c.Secrets, destinations: c.Destinations, client: c.Destinations.client(attemptTimeout), now: c.Now},
		lease:    lease, queue: newQueue(c.Attempts), results: make(chan result, c.Attempts),
		unrecorded: map[uuid.UUID][]outcome{}, last: map[uuid.UUID]uint64{},
	}
}

// run delivers until ctx ends, then lets what is under way end. When held ends it
// drops everything: another process goes on.
func (s *shift) run(ctx, held context.Context) error {
	defer s.attempts.client.CloseIdleConnections()
	for _, k := range s.Book.watch() {
		s.add(k)
	}
	for {
		applied, changed := s.Book.state()
		s.confirm(applied)
		for _, k := range s.Book.takeFresh() {
			s.add(k)
		}
		s.start(held)
		timer := time.NewTimer(s.sleep())
		var err error
		select {
		case <-ctx.Done():
			timer.Stop()
			return s.end(held)
		case <-held.Done():
			err = errLeaseLost
		case <-changed:
		case <-timer.C:
		case r := <-s.results:
			s.take(held, r)
		}
		timer.Stop()
		if err == nil && s.count > 0 && (s.count >= recordOutcomesMax || s.Now().Sub(s.oldest) >= s.RecordEvery) {
			err = s.record(held)
		}
		if err != nil {
			return err
		}
	}
}

// add queues a delivery for when it is due, if it is to be attempted.
func (s *shift) add(k key) {
	if due, ok := s.Book.due(k, s.Now()); ok {
		s.queue.add(k, due)
	}
}

// start begins the attempts that are due and have room. Without half of a lease's
// time ahead it begins none.
func (s *shift) start(held context.Context) {
	for s.lease.Valid() {
		k, ok := s.queue.next(s.Now())
		if !ok {
			return
		}
		j, ok := s.Book.job(k)
		if !ok { // replayed, deleted or disabled: the book makes fresh what is to be attempted later
			s.queue.skip(k)
			continue
		}
		go func() { s.results <- s.attempts.attempt(held, j) }()
	}
}

// sleep is how long nothing has to be done unless something comes.
func (s *shift) sleep() time.Duration {
	now, d := s.Now(), time.Hour
	if due, ok := s.queue.wait(); ok {
		d = min(d, due.Sub(now))
		if !s.lease.Valid() {
			d = max(d, leasePoll)
		}
	}
	if s.count > 0 {
		d = min(d, s.oldest.Add(s.RecordEvery).Sub(now))
	}
	return max(d, 0)
}

// take notes the result of an attempt; record writes it down.
func (s *shift) take(ctx context.Context, r result) {
	s.queue.done(r.key, r.none || r.outcome.Status != StatusDelivered)
	if r.none {
		s.queue.release(r.key)
		s.queue.add(r.key, s.Now().Add(logRetry))
		return
	}
	if s.count == 0 {
		s.oldest = s.Now()
	}
	s.count++
	s.unrecorded[r.org] = append(s.unrecorded[r.org], r.outcome)
	if r.gone {
		s.disable(ctx, r)
	}
}

// disable switches an endpoint off that answered 410. If that fails the message's
// next attempt brings it again.
func (s *shift) disable(ctx context.Context, r result) {
	if e, err := s.Book.Endpoint(r.org, r.endpoint); err != nil || e.URL != r.url {
		return // the answer was another URL's
	}
	by := By{Actor: actor, Reason: "the endpoint answered 410 Gone", At: s.Now()}
	if _, err := s.commands.Disable(ctx, r.org, r.endpoint, by); err != nil && !errors.Is(err, ErrNotFound) {
		s.Logger.Warn("a webhook endpoint that is gone was not disabled", "endpoint", r.endpoint, "error", err)
	}
}

// record writes down what is unrecorded. After an error the shift must end: the
// next one attempts again what it does not find in the log.
func (s *shift) record(ctx context.Context) error {
	for org, all := range s.unrecorded {
		for outcomes := range slices.Chunk(all, recordOutcomesMax) {
			if err := s.recordSome(ctx, org, outcomes); err != nil {
				return err
			}
		}
		delete(s.unrecorded, org)
	}
	s.count = 0
	return nil
}

func (s *shift) recordSome(ctx context.Context, org uuid.UUID, outcomes []outcome) error {
	r, err := events.NewRecord(recordAttempted, s.Now(), actor, "", attemptedData{org, outcomes})
	if err != nil {
		return err
	}
	subject := deliverySubject(org)
	seqs, err := s.Log.Append(ctx, events.Append{Subject: subject, Record: r, ExpectLast: max(s.last[org], s.Book.last(subject))})
	switch {
	case errors.Is(err, events.ErrConflict):
		return errOvertaken
	case err != nil:
		return fmt.Errorf("record webhook deliveries: %w", err)
	}
	done := recorded{seq: seqs[0]}
	for _, o := range outcomes {
		done.keys = append(done.keys, key{org, o.Endpoint, o.Seq, o.Round})
	}
	s.last[org] = done.seq
	s.unconfirmed = append(s.unconfirmed, done)
	return nil
}

// confirm lets go of what the book shows by now; what still waits is queued again.
func (s *shift) confirm(applied uint64) {
	for len(s.unconfirmed) > 0 && s.unconfirmed[0].seq <= applied {
		for _, k := range s.unconfirmed[0].keys {
			s.queue.release(k)
			s.add(k)
		}
		s.unconfirmed = s.unconfirmed[1:]
	}
}

// end waits for the attempts under way and records them, unless that takes longer
// than attempts may.
func (s *shift) end(held context.Context) error {
	held, cancel := context.WithTimeout(held, endMax)
	defer cancel()
	for s.queue.running > 0 {
		select {
		case <-held.Done():
			return fmt.Errorf("end webhook deliveries: %w", held.Err())
		case r := <-s.results:
			s.take(held, r)
		}
	}
	return s.record(held)
}
