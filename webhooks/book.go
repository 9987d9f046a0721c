package webhooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// What is remembered. Bounds of what waits are bounds of what a dead endpoint can
// cost; what is past them is listed as dead, or forgotten once it has ended.
const (
	waitingMax  = 10_000 // messages of an endpoint that wait; a further one is dead at once
	endedMax    = 1_000  // deliveries of an endpoint remembered after their end: that many delivered, that many dead
	messagesMax = 10_000 // messages of an org that can be replayed, the newest
)

// Book is the read model of endpoints and deliveries. It is safe for concurrent
// use. What it returns is the caller's.
type Book struct {
	types     []string
	translate Translate

	mu        sync.RWMutex
	applied   uint64
	changed   chan struct{} // closed and replaced by every Apply
	announced map[string]bool
	orgs      map[uuid.UUID]*tenant
	lastOn    map[string]uint64 // last sequence on each of our subjects
	// fresh are deliveries that became due by records since the last takeFresh; only
	// while somebody delivers.
	fresh   []key
	watched bool
}

// tenant is an org that has or had an endpoint. What happened before is not kept.
type tenant struct {
	endpoints map[uuid.UUID]*endpoint
	deleted   map[uuid.UUID]bool
	messages  []*message // oldest first
	byID      map[uuid.UUID]*message
}

// message tells of one record. Its content is read from the log when it is sent.
type message struct {
	id  uuid.UUID
	seq uint64 // of the record in the ledger
	typ string
	at  time.Time
}

type endpoint struct {
	Endpoint
	secrets    []secretVersion      // the newest first
	deliveries map[uint64]*delivery // by the message's sequence
	waiting    int
	ended      map[Status][]*delivery // oldest end first; may hold ones that were replayed since
}

// key names one delivery of a message to an endpoint: the first, or a replay.
type key struct {
	org, endpoint uuid.UUID
	seq           uint64 // of the message
	round         uint64 // sequence of the replay's record; 0 for the first delivery
}

type delivery struct {
	*message
	round    uint64
	status   Status
	attempts int
	code     int
	err      string
	last     time.Time
	next     time.Time
}

// NewBook is an empty book; feed it the ledger's records by Apply. Types are all
// that translate can give.
func NewBook(types []string, translate Translate) (*Book, error) {
	for _, typ := range types {
		if typ == "" || typ == TypeTest || len(typ) > events.MaxTextBytes {
			return nil, fmt.Errorf("webhooks: %.50q cannot be a type of events", typ)
		}
	}
	if translate == nil {
		return nil, errors.New("webhooks: a translation of records is needed")
	}
	types = slices.Clone(types)
	slices.Sort(types)
	return &Book{
		types: slices.Compact(types), translate: translate, changed: make(chan struct{}),
		announced: map[string]bool{}, orgs: map[uuid.UUID]*tenant{}, lastOn: map[string]uint64{},
	}, nil
}

// EventTypes are the types an endpoint can want, sorted.
func (b *Book) EventTypes() []string { return slices.Clone(b.types) }

// Endpoints are the endpoints of an org, oldest first.
func (b *Book) Endpoints(org uuid.UUID) []Endpoint {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := []Endpoint{}
	if t := b.orgs[org]; t != nil {
		for _, e := range t.endpoints {
			list = append(list, e.public())
		}
	}
	slices.SortFunc(list, func(a, b Endpoint) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list
}

// Endpoint is an endpoint of an org; ErrNotFound also when it is another org's.
func (b *Book) Endpoint(org, id uuid.UUID) (Endpoint, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, err := b.find(org, id)
	if err != nil {
		return Endpoint{}, err
	}
	return e.public(), nil
}

func (e *endpoint) public() Endpoint {
	p := e.Endpoint
	p.Events = slices.Clone(p.Events)
	return p
}

// find looks an endpoint up; the caller holds the lock.
func (b *Book) find(org, id uuid.UUID) (*endpoint, error) {
	if t := b.orgs[org]; t != nil && t.endpoints[id] != nil {
		return t.endpoints[id], nil
	}
	return nil, fmt.Errorf("webhook endpoint %s: %w", id, ErrNotFound)
}

// Deliveries is a page (the first is 1) of an endpoint's deliveries, the newest
// message first, and how many there are in all: those that wait, and of those that
// ended the last. Status is one of the statuses, or "" for all. ErrNotFound when
// the org has no such endpoint.
func (b *Book) Deliveries(org, id uuid.UUID, status Status, page, pageSize int) (list []Delivery, total int, err error) {
	if page < 1 || pageSize < 1 {
		return nil, 0, &FieldError{"page", "begins at 1, and so does page_size"}
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, err := b.find(org, id)
	if err != nil {
		return nil, 0, err
	}
	var found []*delivery
	for _, d := range e.deliveries {
		if status == "" || d.status == status {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b *delivery) int { return cmp.Compare(b.seq, a.seq) })
	total = len(found)
	if page > total/pageSize+1 { // also keeps the product below from overflowing
		return nil, total, nil
	}
	for _, d := range found[min((page-1)*pageSize, total):min(page*pageSize, total)] {
		list = append(list, d.public())
	}
	return list, total, nil
}

func (d *delivery) public() Delivery {
	return Delivery{
		MessageID: formatMessageID(d.id), Type: d.typ, HappenedAt: d.at,
		Status: d.status, Attempts: d.attempts, HTTPStatus: d.code, Error: d.err, LastAttemptAt: d.last, NextAttemptAt: d.next,
	}
}

// AppliedSeq is the ledger sequence of the last record applied.
func (b *Book) AppliedSeq() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.applied
}

// WaitFor returns when the record of a ledger sequence has been applied, or with
// ctx's error.
func (b *Book) WaitFor(ctx context.Context, seq uint64) error {
	for {
		applied, changed := b.state()
		if applied >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the webhooks to reach ledger sequence %d, they are at %d: %w", seq, applied, ctx.Err())
		}
	}
}

// state is how far the book is, and what is closed when it goes on.
func (b *Book) state() (applied uint64, changed <-chan struct{}) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.applied, b.changed
}

// last is the last sequence on a subject: what an append decided on this book
// expects there.
func (b *Book) last(subject string) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.lastOn[subject]
}

// unannounced are the types that the log does not know yet.
func (b *Book) unannounced() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(b.types), func(typ string) bool { return b.announced[typ] })
}

// watch returns everything that waits for endpoints that are not disabled, and has
// what becomes due from now on kept for takeFresh.
func (b *Book) watch() []key {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watched, b.fresh = true, nil
	for org, t := range b.orgs {
		for _, e := range t.endpoints {
			b.refresh(org, e)
		}
	}
	all := b.fresh
	b.fresh = nil
	return all
}

func (b *Book) unwatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watched, b.fresh = false, nil
}

func (b *Book) takeFresh() []key {
	b.mu.Lock()
	defer b.mu.Unlock()
	fresh := b.fresh
	b.fresh = nil
	return fresh
}

// due says when a delivery is to be attempted; false if it is not to be. A first
// attempt is due now at the latest: the clock of whoever wrote the record may be
// ahead.
func (b *Book) due(k key, now time.Time) (time.Time, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, _ := b.attemptable(k)
	switch {
	case d == nil:
		return time.Time{}, false
	case d.attempts == 0 && d.next.After(now):
		return now, true
	}
	return d.next, true
}

// attemptable finds a delivery that is to be attempted; the caller holds the lock.
func (b *Book) attemptable(k key) (*delivery, *endpoint) {
	e, err := b.find(k.org, k.endpoint)
	if err != nil || e.Disabled {
		return nil, nil
	}
	d := e.deliveries[k.seq]
	if d == nil || d.round != k.round || d.status != StatusWaiting {
		return nil, nil
	}
	return d, e
}

// job is what an attempt needs to know.
type job struct {
	key
	url      string
	secrets  []secretVersion
	message  message
	attempts int // before this one
}

// job gives the attempt of a delivery; false if it is not to be attempted.
func (b *Book) job(k key) (job, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, e := b.attemptable(k)
	if d == nil {
		return job{}, false
	}
	return job{key: k, url: e.URL, secrets: slices.Clone(e.secrets), message: *d.message, attempts: d.attempts}, true
}
