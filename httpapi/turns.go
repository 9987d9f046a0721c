package httpapi

import (
	"errors"
	"net/http"
	"sync"

	"aione/keys"

	"github.com/google/uuid"
)

var (
	// errTooManyQueries is returned when an org has as many questions about usage in
	// work as one org may.
	errTooManyQueries = errors.New("too many questions of one org at once")
	// errQueriesBusy is returned when all orgs together have.
	errQueriesBusy = errors.New("too many questions at once")
)

// turns bound how many questions about usage are in work: each may read many rows
// and hold its answer for minutes. One org cannot take all turns.
type turns struct {
	mu   sync.Mutex
	all  int
	orgs map[uuid.UUID]int
}

func (t *turns) take(org uuid.UUID, l Limits) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.orgs[org] >= l.QueriesPerOrg:
		return errTooManyQueries
	case t.all >= l.QueriesAtOnce:
		return errQueriesBusy
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

// inTurn lets a question through to h when there is a turn for it.
func (s *Server) inTurn(h authorised) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller keys.Key) error {
		if err := s.turns.take(caller.OrgID, s.limits); err != nil {
			return err
		}
		defer s.turns.giveBack(caller.OrgID)
		return h(w, r, caller)
	}
}
