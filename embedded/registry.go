package embedded

import (
	"context"
	"errors"
	"sync"
)

// errKilled is the cause with which KILL QUERY ends a request.
var errKilled = errors.New("killed")

// registry holds the requests that run, by the client's query id.
type registry struct {
	mu      sync.Mutex
	queries map[string]*running
}

type running struct {
	cancel context.CancelCauseFunc
	gone   chan struct{}
}

// add lists a query until done is called. Like ClickHouse it refuses an id that
// runs already, so that a retry cannot overtake the attempt before it.
func (r *registry) add(id string, cancel context.CancelCauseFunc) (done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.queries[id]; taken {
		return nil, exceptionf(codeSameQueryID, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", "Query with id = %s is already running", id)
	}
	q := &running{cancel: cancel, gone: make(chan struct{})}
	r.queries[id] = q
	return func() {
		r.mu.Lock()
		delete(r.queries, id)
		r.mu.Unlock()
		close(q.gone)
	}, nil
}

// kill ends a query; the channel is closed once it is gone. nil: no such query.
func (r *registry) kill(id string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	q, ok := r.queries[id]
	if !ok {
		return nil
	}
	q.cancel(errKilled)
	return q.gone
}
