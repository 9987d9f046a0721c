package httpapi

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"aione/billing"
	"aione/catalog"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// terms are what the events of one request are judged by. Everything asked of a
// read model is asked once for each model, team or key that the request names.
type terms struct {
	server   *Server
	caller   *keys.Key
	org      billing.Org
	now      time.Time // of receipt
	oldest   time.Time
	newest   time.Time
	offers   map[string]*offer  // by the name that an event gave
	ours     map[uuid.UUID]bool // teams
	keys     map[uuid.UUID]bool // looked up so far
	texts    map[string]string  // one copy of each source and provider
	lastSeen *offer             // batches name one model many times in a row
	template events.Usage
}

// offer is a model with its price versions.
type offer struct {
	name   string // that an event gave
	model  catalog.Model
	found  bool
	prices []catalog.Price // oldest first
}

func (s *Server) newTerms(caller *keys.Key) (*terms, error) {
	org, err := s.config.Orgs.Org(caller.OrgID)
	if err != nil {
		return nil, err
	}
	now := s.config.Now().UTC().Truncate(time.Millisecond)
	return &terms{
		server: s, caller: caller, org: org, now: now,
		oldest: now.Add(-s.limits.EventAge), newest: now.Add(s.limits.EventAhead),
		offers: map[string]*offer{}, keys: map[uuid.UUID]bool{}, texts: map[string]string{},
		template: events.Usage{
			OrgID: org.ID, TeamID: caller.TeamID, Outcome: events.OutcomeCompleted, Source: events.SourceReported,
			Sandbox: caller.Sandbox,
		},
	}, nil
}

// intern is one string for all equal texts of the request.
func (t *terms) intern(b []byte) string {
	s, ok := t.texts[string(b)]
	if !ok {
		s = string(b)
		t.texts[s] = s
	}
	return s
}

// offer finds what a model's name means.
func (t *terms) offer(name []byte) *offer {
	if t.lastSeen != nil && t.lastSeen.name == string(name) {
		return t.lastSeen
	}
	o, ok := t.offers[string(name)]
	if !ok {
		o = &offer{name: string(name)}
		if o.model, o.found = t.server.config.Catalog.Resolve(o.name); o.found {
			o.prices = t.server.config.Catalog.Prices(o.model.ID)
		}
		t.offers[o.name] = o
	}
	t.lastSeen = o
	return o
}

// priceAt is the version in force at an instant, as catalog.Catalog.PriceAt has
// it; nil when there is none.
func (o *offer) priceAt(at time.Time) *catalog.Price {
	for i := range slices.Backward(o.prices) {
		if !at.Before(o.prices[i].EffectiveFrom) {
			return &o.prices[i]
		}
	}
	return nil
}

// ownTeam reports whether a team is the org's.
func (t *terms) ownTeam(id uuid.UUID) (bool, error) {
	if t.ours == nil {
		teams, err := t.server.config.Orgs.Teams(t.org.ID)
		if err != nil {
			return false, err
		}
		t.ours = make(map[uuid.UUID]bool, len(teams))
		for _, team := range teams {
			t.ours[team.ID] = true
		}
	}
	return t.ours[id], nil
}

// ownKey reports whether a key is the org's, whatever its status.
func (t *terms) ownKey(id uuid.UUID) (bool, error) {
	ours, ok := t.keys[id]
	if !ok {
		_, err := t.server.config.Keys.Lookup(t.org.ID, id)
		if err != nil && !errors.Is(err, keys.ErrUnknownKey) {
			return false, err
		}
		ours = err == nil
		t.keys[id] = ours
	}
	return ours, nil
}

// rate stamps the price in force when the event occurred. What it returns is why
// the event is rejected: nothing is billed at a price nobody knows.
func (t *terms) rate(u *events.Usage, o *offer) string {
	if !o.found {
		return fmt.Sprintf("data.model: %.100q is not a model of this platform", o.name)
	}
	price := o.priceAt(u.OccurredAt)
	if price == nil {
		return fmt.Sprintf("data.model: %s has no price at %s", o.model.ID, instant(u.OccurredAt))
	}
	// One foreign amount would keep the org's whole invoice from being issued.
	if price.Currency != t.org.Currency {
		return fmt.Sprintf("data.model: %s is priced in %s, the organisation pays in %s", o.model.ID, price.Currency, t.org.Currency)
	}
	u.Model, u.PriceVersion, u.Currency = o.model.ID, price.Version, price.Currency
	if u.Provider == "" {
		u.Provider = o.model.Provider
	}
	cost, err := ledger.Rate(*price, u.Tokens, u.Images)
	if err != nil {
		return "data: the usage costs more than one event may"
	}
	if !u.Sandbox {
		u.Cost = cost
	}
	return ""
}
