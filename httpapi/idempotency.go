package httpapi

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"

	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
)

// idempotencyKey makes a command repeatable. Every command here can be repeated
// by itself: what it makes is named by the key or by its content, and the ledger
// knows it. The key also keeps a client from meaning two things by one name.
var idempotencyKey = param{
	kind: textParam, name: "Idempotency-Key", header: true,
	doc: "Makes the request repeatable: a UUID, say. The same key with another request is a 409.",
}

const idempotencyKeyBytesMax = 255

// idempotencyKey reads the header; "" when there is none.
func (p *params) idempotencyKey(r *http.Request) string {
	values := r.Header.Values(idempotencyKey.name)
	refuse := func(typ, msg string) string {
		p.problems = append(p.problems, problem{Loc: []any{"header", idempotencyKey.name}, Msg: msg, Type: typ})
		return ""
	}
	switch {
	case len(values) == 0:
		return ""
	case len(values) > 1:
		return refuse("repeated", "the header may be given once")
	case values[0] == "" || len(values[0]) > idempotencyKeyBytesMax:
		return refuse("string_too_long", "the value must have 1 to 255 characters")
	case strings.ContainsFunc(values[0], func(c rune) bool { return c < ' ' || c > '~' }):
		return refuse("string_pattern_mismatch", "the value must be printable ASCII")
	}
	return values[0]
}

// claim names a command by who sent it, where to, and the key; empty without one.
type claim string

func claimOf(r *http.Request, caller *keys.Key, key string) claim {
	if key == "" {
		return ""
	}
	return claim(caller.OrgID.String() + "\x00" + r.Method + "\x00" + r.URL.Path + "\x00" + key)
}

// id is the id of what the command makes: new without a key, else the same each
// time.
func (c claim) id(kind string) uuid.UUID {
	if c == "" {
		return events.NewID()
	}
	return deriveID("admin-"+kind, string(c))
}

// print tells two requests of one path apart.
type print [sha256.Size]byte

func fingerprint(r *http.Request, content []byte) print {
	return sha256.Sum256(append([]byte(r.URL.RawQuery+"\x00"), content...))
}

// errKeyReused is returned when an idempotency key comes with another request.
var errKeyReused = errors.New("the Idempotency-Key was used for another request")

// claims remember which request each idempotency key was for: the last ones, in
// this process. What is forgotten is the refusal of another request only; that
// nothing is done twice rests on the ledger.
type claims struct {
	mu    sync.Mutex
	made  map[claim]print
	order []claim // the oldest first, a ring
	next  int
}

const claimsMax = 10_000

// claim returns errKeyReused if the name was claimed for another request.
func (c *claims) claim(name claim, p print) error {
	if name == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.made[name]; ok {
		if old != p {
			return errKeyReused
		}
		return nil
	}
	if c.made == nil {
		c.made = map[claim]print{}
	}
	if len(c.order) < claimsMax {
		c.order = append(c.order, name)
	} else {
		delete(c.made, c.order[c.next])
		c.order[c.next], c.next = name, (c.next+1)%claimsMax
	}
	c.made[name] = p
	return nil
}

// readCommand reads the body of an operator's command and claims its key. A body
// that the schema refuses claims nothing.
func (s *Server) readCommand(w http.ResponseWriter, r *http.Request, caller *keys.Key, v any) (claim, error) {
	p := queryOf(r)
	key := p.idempotencyKey(r)
	if err := p.err(); err != nil {
		return "", err
	}
	raw, _, err := s.readRaw(w, r, v)
	if err != nil {
		return "", err
	}
	name := claimOf(r, caller, key)
	return name, s.claims.claim(name, fingerprint(r, raw))
}
