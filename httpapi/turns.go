package httpapi

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"aione/keys"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	// errTooManyRequests is returned when an org has as many requests in work as one
	// org may.
	errTooManyRequests = errors.New("too many requests of one org at once")
	// errTooManyIntakes is returned when an org has as many requests with events in
	// work as one org may, and has waited for its turn.
	errTooManyIntakes = errors.New("too many requests with events of one org at once")
	// errTooManyQueries is returned when an org has as many questions about usage in
	// work as one org may.
	errTooManyQueries = errors.New("too many questions of one org at once")
	// errQueriesBusy is returned when all orgs together have.
	errQueriesBusy = errors.New("too many questions at once")
)

// turns bound how many requests of a kind are in work, of all orgs and of each, so
// that one org cannot take all turns.
type turns struct {
	atOnce, perOrg int // atOnce 0: no bound
	busy, tooMany  error

	refused prometheus.Counter // for what an org has too many of

	mu   sync.Mutex
	all  int
	orgs map[uuid.UUID]int
}

func (t *turns) take(org uuid.UUID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.orgs[org] >= t.perOrg:
		t.refused.Inc()
		return t.tooMany
	case t.atOnce > 0 && t.all >= t.atOnce:
		return t.busy
	}
	if t.orgs == nil {
		t.orgs = map[uuid.UUID]int{}
	}
	t.all++
	t.orgs[org]++
	return nil
}

func (t *turns) giveBack(org uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.orgs[org]--; t.orgs[org] == 0 {
		delete(t.orgs, org)
	}
}

// let lets a request through to h when there is a turn for it.
func (t *turns) let(h authorised) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		if err := t.take(caller.OrgID); err != nil {
			return err
		}
		defer t.giveBack(caller.OrgID)
		return h(w, r, caller)
	}
}

// lanes are turns that are waited for, by each org in a lane of its own.
type lanes struct {
	each    int // turns of a lane
	tooMany error
	refused prometheus.Counter

	mu   sync.Mutex
	orgs map[uuid.UUID]*lane
}

type lane struct {
	turns chan struct{} // one token for each that is taken
	users int           // those who wait too
}

// enter waits for a turn of an org until ctx ends.
func (l *lanes) enter(ctx context.Context, org uuid.UUID) (leave func(), err error) {
	l.mu.Lock()
	at := l.orgs[org]
	if at == nil {
		at = &lane{turns: make(chan struct{}, l.each)}
		l.orgs[org] = at
	}
	at.users++
	l.mu.Unlock()
	gone := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if at.users--; at.users == 0 {
			delete(l.orgs, org)
		}
	}
	select {
	case at.turns <- struct{}{}:
		return func() { <-at.turns; gone() }, nil
	case <-ctx.Done():
		gone()
		l.refused.Inc()
		return nil, l.tooMany
	}
}

// newTurns makes the turns of all requests, of questions about usage, each of which
// may read many rows and hold its answer for minutes, and of requests with events.
func (s *Server) newTurns() {
	l, refused := s.limits, s.metrics.refused
	s.requests = &turns{perOrg: l.RequestsPerOrg, tooMany: errTooManyRequests, refused: refused.WithLabelValues("requests")}
	s.queries = &turns{perOrg: l.QueriesPerOrg, atOnce: l.QueriesAtOnce, tooMany: errTooManyQueries, busy: errQueriesBusy, refused: refused.WithLabelValues("queries")}
	s.intakes = &lanes{each: l.EventsPerOrg, tooMany: errTooManyIntakes, refused: refused.WithLabelValues("events"), orgs: map[uuid.UUID]*lane{}}
}
