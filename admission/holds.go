package admission

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/google/uuid"
)

// holds are an org's requests on their way, by id. It is a table of our own because
// each request is looked for, put and removed once, and the orgs together do not fit
// a cache: a Go map waits for memory several times for one look, this one once. A
// request's id has 62 random bits, so it is its own hash.
type holds struct {
	chains []*hold // a power of two of them, or none; see hold.next
	n      int
}

const chainsMin = 8

func (t *holds) chain(id uuid.UUID) **hold {
	return &t.chains[int(binary.BigEndian.Uint64(id[8:])&uint64(len(t.chains)-1))]
}

// get is nil if there is no such request.
func (t *holds) get(id uuid.UUID) *hold {
	if t.n == 0 {
		return nil
	}
	h := *t.chain(id)
	for h != nil && h.id != id {
		h = h.next
	}
	return h
}

// put adds a request that is not there yet.
func (t *holds) put(h *hold) {
	if t.n >= len(t.chains) {
		old := slices.Collect(t.all())
		t.chains = make([]*hold, max(chainsMin, 2*len(t.chains)))
		for _, h := range old {
			t.link(h)
		}
	}
	t.link(h)
	t.n++
}

func (t *holds) link(h *hold) {
	chain := t.chain(h.id)
	h.next, *chain = *chain, h
}

func (t *holds) remove(id uuid.UUID) {
	if t.n == 0 {
		return
	}
	for at := t.chain(id); *at != nil; at = &(*at).next {
		if h := *at; h.id == id {
			*at, h.next = h.next, nil
			t.n--
			return
		}
	}
}

// all yields each request, in no order; the table must not be changed meanwhile.
func (t *holds) all() iter.Seq[*hold] {
	return func(yield func(*hold) bool) {
		for _, h := range t.chains {
			for ; h != nil; h = h.next {
				if !yield(h) {
					return
				}
			}
		}
	}
}
