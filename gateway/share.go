package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// shares count the requests of each org in flight, so that one cannot take all
// places. They hold nothing of orgs that have none, and are in parts, so that orgs
// stay off each other's locks.
type shares [shareParts]share

const shareParts = 64

type share struct {
	mu   sync.Mutex
	orgs map[uuid.UUID]int
	_    [48]byte // up to a cache line
}

// of is the part of an org: ids are random at their ends.
func (s *shares) of(org uuid.UUID) *share { return &s[org[len(org)-1]%shareParts] }

// take takes a place for a request of an org that has less than most.
func (s *shares) take(org uuid.UUID, most int) bool {
	p := s.of(org)
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.orgs[org]
	if n >= most {
		return false
	}
	if p.orgs == nil {
		p.orgs = map[uuid.UUID]int{}
	}
	p.orgs[org] = n + 1
	return true
}

func (s *shares) giveBack(org uuid.UUID) {
	p := s.of(org)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.orgs[org]--; p.orgs[org] == 0 {
		delete(p.orgs, org)
	}
}

// refusals count the requests that were turned away for want of a place.
type refusals struct{ all, org atomic.Uint64 }

// Refusals are how many requests were turned away because as many were in flight as
// may be: of all orgs, or of theirs.
type Refusals struct{ InFlight, OrgInFlight uint64 }

// Refusals are those since New.
func (g *Gateway) Refusals() Refusals {
	return Refusals{InFlight: g.refused.all.Load(), OrgInFlight: g.refused.org.Load()}
}

// errShare is for an org that has as many requests in flight as one may have.
var errShare = (&Refusal{Kind: InFlight, Scope: "organisation", RetryAfter: time.Second}).answer()

// unreadWithin is how long the rest of a body is waited for whose request has its
// answer already: the server reads a bit of it, so that the connection can be used
// again and the answer is not lost.
const unreadWithin = 5 * time.Second

// leaveUnread bounds how long a client that is turned away can hold its connection
// with a body that does not come.
func (g *Gateway) leaveUnread(w http.ResponseWriter) {
	// A socket's deadline is on the real clock; the next request gets another.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(min(unreadWithin, g.config.Timeouts.Body)))
}
