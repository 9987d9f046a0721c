package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aione/events"
)

// Model is something that can be called. ID is the standard name, case-sensitive.
type Model struct {
	ID            string `json:"id"`
	Name          string `json:"name"` // for people
	Provider      string `json:"provider"`
	ContextLength uint64 `json:"context_length"` // tokens
	// MaxOutputTokens is the most that one answer has, which is claimed from budgets for
	// a request that names no limit; 0 when nobody knows.
	MaxOutputTokens uint64    `json:"max_output_tokens,omitempty"`
	Aliases         []string  `json:"aliases,omitempty"`
	Enabled         bool      `json:"enabled"`
	CreatedAt       time.Time `json:"created_at"` // UTC, when it was first registered
}

// Types of the records this package writes, both on events.PriceSubject(model).
const (
	TypeModelRegistered = "model.registered" // Data: Model; a later one replaces it
	TypePricePublished  = "price.published"  // Data: Price
)

var (
	// ErrNoPrice is returned when a model has no price in force at an instant: it
	// cannot be called then, for nothing is free by accident.
	ErrNoPrice = errors.New("no price in force")
	// ErrUnknownModel is returned when a price is published for a model that is not
	// registered.
	ErrUnknownModel = errors.New("unknown model")
	// ErrCorrupt is returned by Apply when the log holds a price that would change
	// history. Publishing refuses such prices, so something else wrote it.
	ErrCorrupt = errors.New("price history in the log contradicts itself")
)

// entry is all that is known of one model. It is never changed once published.
type entry struct {
	model      Model
	registered bool
	prices     []Price // by EffectiveFrom, strictly rising
	lastSeq    uint64  // of the model's subject
}

// snapshot is one state of the catalog; readers hold it without a lock.
type snapshot struct {
	byModel   map[string]*entry
	byVersion map[string]Price
	aliases   map[string]string // alias to model id; whoever named it first has it
	applied   uint64            // ledger sequence
}

// Catalog is the read model of models and prices. Reads take no lock. It is safe
// for concurrent use.
type Catalog struct {
	current atomic.Pointer[snapshot]

	mu      sync.Mutex // serialises Apply
	changed chan struct{}
}

// New is an empty catalog; feed it the ledger's records by Apply.
func New() *Catalog {
	c := &Catalog{changed: make(chan struct{})}
	c.current.Store(&snapshot{byModel: map[string]*entry{}, byVersion: map[string]Price{}, aliases: map[string]string{}})
	return c
}

// Apply takes a record of the ledger, in the order of the log. Records of other
// packages only move AppliedSeq; records applied before are ignored.
func (c *Catalog) Apply(r events.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current.Load()
	if r.Seq <= old.applied {
		return nil
	}
	next := *old
	next.applied = r.Seq
	var err error
	switch r.Type {
	case TypeModelRegistered:
		err = next.register(r)
	case TypePricePublished:
		err = next.publish(r)
	}
	if err != nil {
		return fmt.Errorf("apply ledger sequence %d to the catalog: %w", r.Seq, err)
	}
	c.current.Store(&next)
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

func (s *snapshot) register(r events.Record) error {
	var m Model
	if err := r.Into(&m); err != nil {
		return err
	}
	e := s.edit(m.ID, r.Seq)
	if e.registered {
		m.CreatedAt = e.model.CreatedAt
	}
	e.model, e.registered = m, true
	s.aliases = maps.Clone(s.aliases)
	maps.DeleteFunc(s.aliases, func(_, id string) bool { return id == m.ID })
	for _, alias := range m.Aliases {
		if _, taken := s.aliases[alias]; !taken {
			s.aliases[alias] = m.ID
		}
	}
	return nil
}

func (s *snapshot) publish(r events.Record) error {
	var p Price
	if err := r.Into(&p); err != nil {
		return err
	}
	e := s.edit(p.Model, r.Seq)
	if n := len(e.prices); n > 0 && !p.EffectiveFrom.After(e.prices[n-1].EffectiveFrom) {
		return fmt.Errorf("%w: %s starts no later than %s", ErrCorrupt, p.Version, e.prices[n-1].Version)
	}
	if _, taken := s.byVersion[p.Version]; taken {
		return fmt.Errorf("%w: %s is published twice", ErrCorrupt, p.Version)
	}
	e.prices = append(slices.Clip(e.prices), p)
	s.byVersion = maps.Clone(s.byVersion)
	s.byVersion[p.Version] = p
	return nil
}

// edit puts a copy of the model's entry into a copy of the map.
func (s *snapshot) edit(modelID string, seq uint64) *entry {
	e := &entry{}
	if old, ok := s.byModel[modelID]; ok {
		*e = *old
	}
	e.lastSeq = seq
	s.byModel = maps.Clone(s.byModel)
	s.byModel[modelID] = e
	return e
}

// AppliedSeq is the ledger sequence of the last record applied.
func (c *Catalog) AppliedSeq() uint64 { return c.current.Load().applied }

// WaitFor returns when the record of a ledger sequence has been applied, or with
// ctx's error.
func (c *Catalog) WaitFor(ctx context.Context, seq uint64) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if c.AppliedSeq() >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the catalog to reach ledger sequence %d, it is at %d: %w", seq, c.AppliedSeq(), ctx.Err())
		}
	}
}

// PriceAt is the price version of a model in force at an instant. The model is
// named by its standard id; Resolve aliases first.
func (c *Catalog) PriceAt(modelID string, at time.Time) (Price, error) {
	if e, ok := c.current.Load().byModel[modelID]; ok {
		for _, p := range slices.Backward(e.prices) {
			if !at.Before(p.EffectiveFrom) {
				return p, nil
			}
		}
	}
	return Price{}, fmt.Errorf("%w for %.100q at %s", ErrNoPrice, modelID, at.UTC().Format(time.RFC3339))
}

// Price is a price version by its name.
func (c *Catalog) Price(version string) (Price, bool) {
	p, ok := c.current.Load().byVersion[version]
	return p, ok
}

// Prices are all versions of a model, oldest first. The slice is shared and
// never changes, a later version comes in another one: do not modify it.
func (c *Catalog) Prices(modelID string) []Price {
	if e, ok := c.current.Load().byModel[modelID]; ok {
		return slices.Clip(e.prices) // an append by mistake goes elsewhere
	}
	return nil
}

// Models are the registered models by id, disabled ones included.
func (c *Catalog) Models() []Model {
	var ms []Model
	for _, e := range c.current.Load().byModel {
		if e.registered {
			ms = append(ms, e.model)
		}
	}
	slices.SortFunc(ms, func(a, b Model) int { return strings.Compare(a.ID, b.ID) })
	return ms
}

// Resolve finds the model that a client means: by its standard id, else by an
// alias. Both are case-sensitive. A disabled model is found too; see Enabled.
func (c *Catalog) Resolve(name string) (Model, bool) {
	s := c.current.Load()
	if e, ok := s.byModel[name]; ok && e.registered {
		return e.model, true
	}
	if e, ok := s.byModel[s.aliases[name]]; ok && e.registered {
		return e.model, true
	}
	return Model{}, false
}

// StandardIDs are the ids of the models that names mean, see Resolve, each once;
// unknown are the indexes of those that mean none.
func (c *Catalog) StandardIDs(names []string) (ids []string, unknown []int) {
	for i, name := range names {
		m, ok := c.Resolve(name)
		switch {
		case !ok:
			unknown = append(unknown, i)
		case !slices.Contains(ids, m.ID):
			ids = append(ids, m.ID)
		}
	}
	return ids, unknown
}
