package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"aione/events"
)

// Appender is the part of the event log that this package writes to.
type Appender interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
}

// By says who changes the catalog, when and why.
type By struct {
	Actor  string // e.g. "cli:alice"
	Reason string
	At     time.Time // now
}

// Publication is a price to publish. Price.Version is assigned.
type Publication struct {
	Price Price
	// Backdate lets the very first version of a model start before By.At, so that
	// imported usage has a price. Later versions never may: history is not repriced.
	Backdate bool
}

// MaxPrice bounds each price of a version (exclusive).
var MaxPrice = decimal.New(1_000_000_000, 0)

// Errors of PublishPrice and RegisterModel, besides events.ErrConflict when
// another writer changed the model first.
var (
	// ErrInvalidPrice is returned when a price breaks a rule of this package.
	ErrInvalidPrice = errors.New("invalid price")
	// ErrInvalidModel is returned when a model breaks a rule of this package.
	ErrInvalidModel = errors.New("invalid model")
	// ErrRepricesHistory is returned when a price would start in the past, or no
	// later than the model's latest version.
	ErrRepricesHistory = errors.New("price would change history")
)

// RegisterModel adds a model, or replaces what is known of it; the same again
// writes nothing. It returns when this catalog shows the change, so something
// must be feeding Apply.
func (c *Catalog) RegisterModel(ctx context.Context, log Appender, m Model, by By) error {
	s := c.current.Load()
	old := s.byModel[m.ID]
	if old == nil {
		old = &entry{}
	}
	m.CreatedAt = by.At.UTC().Truncate(time.Millisecond)
	if old.registered {
		m.CreatedAt = old.model.CreatedAt
	}
	if err := s.checkModel(m); err != nil {
		return err
	}
	if old.registered && sameModel(old.model, m) {
		return nil
	}
	return c.write(ctx, log, m.ID, old.lastSeq, record{TypeModelRegistered, m}, by)
}

func sameModel(a, b Model) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Provider == b.Provider && a.ContextLength == b.ContextLength && a.MaxOutputTokens == b.MaxOutputTokens &&
		a.Enabled == b.Enabled && a.CreatedAt.Equal(b.CreatedAt) && slices.Equal(a.Aliases, b.Aliases)
}

func (s *snapshot) checkModel(m Model) error {
	for _, text := range append([]string{m.ID, m.Name, m.Provider}, m.Aliases...) {
		// A price version adds "@<n>" to the id and must keep to the same limit.
		if text == "" || len(text) > events.MaxTextBytes-24 || !utf8.ValidString(text) || strings.ContainsAny(text, "@\x00\r\n") {
			return fmt.Errorf("%w: %.50q is no good as id, name, provider or alias", ErrInvalidModel, text)
		}
	}
	if owner, taken := s.aliases[m.ID]; taken {
		return fmt.Errorf("%w: id %q is an alias of %s", ErrInvalidModel, m.ID, owner)
	}
	for i, alias := range m.Aliases {
		if owner, taken := s.aliases[alias]; taken && owner != m.ID {
			return fmt.Errorf("%w: alias %q belongs to %s", ErrInvalidModel, alias, owner)
		}
		if e, taken := s.byModel[alias]; taken && e.registered {
			return fmt.Errorf("%w: alias %q is a model's id", ErrInvalidModel, alias)
		}
		if slices.Contains(m.Aliases[:i], alias) {
			return fmt.Errorf("%w: alias %q is given twice", ErrInvalidModel, alias)
		}
	}
	return nil
}

// PublishPrice adds the next price version of a registered model. It returns
// when this catalog shows it, so something must be feeding Apply.
func (c *Catalog) PublishPrice(ctx context.Context, log Appender, pub Publication, by By) (Price, error) {
	p := pub.Price
	e := c.current.Load().byModel[p.Model]
	if e == nil || !e.registered {
		return Price{}, fmt.Errorf("%w %.100q", ErrUnknownModel, p.Model)
	}
	p.Version = fmt.Sprintf("%s@%d", p.Model, len(e.prices)+1)
	p.EffectiveFrom = p.EffectiveFrom.UTC()
	if err := checkPrice(&p); err != nil {
		return Price{}, err
	}
	now := by.At.UTC().Truncate(time.Millisecond)
	if n := len(e.prices); n > 0 {
		latest := e.prices[n-1]
		if p.Currency != latest.Currency {
			return Price{}, fmt.Errorf("%w: %s is priced in %s, not %s", ErrInvalidPrice, p.Model, latest.Currency, p.Currency)
		}
		if !p.EffectiveFrom.After(latest.EffectiveFrom) {
			return Price{}, fmt.Errorf("%w: %s holds from %s on, the new price must start later", ErrRepricesHistory, latest.Version, latest.EffectiveFrom)
		}
	}
	if p.EffectiveFrom.Before(now) && !(pub.Backdate && len(e.prices) == 0) {
		return Price{}, fmt.Errorf("%w: %s is before now, %s", ErrRepricesHistory, p.EffectiveFrom, now)
	}
	if err := c.write(ctx, log, p.Model, e.lastSeq, record{TypePricePublished, p}, by); err != nil {
		return Price{}, err
	}
	return p, nil
}

// checkPrice checks a version by itself.
func checkPrice(p *Price) error {
	if len(p.Currency) != 3 || strings.Trim(p.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return fmt.Errorf("%w: currency %.10q is not three capital letters", ErrInvalidPrice, p.Currency)
	}
	if y := p.EffectiveFrom.Year(); y < 2000 || y > 2200 || !p.EffectiveFrom.Equal(p.EffectiveFrom.Truncate(time.Millisecond)) {
		return fmt.Errorf("%w: it starts at %s; want whole milliseconds between 2000 and 2200", ErrInvalidPrice, p.EffectiveFrom)
	}
	for _, f := range [...]struct {
		name  string
		price *decimal.Decimal
	}{
		{"input", &p.Input}, {"cache_read", &p.CacheRead}, {"cache_write_5m", &p.CacheWrite5m}, {"cache_write_1h", &p.CacheWrite1h},
		{"output", &p.Output}, {"reasoning", &p.Reasoning}, {"image", &p.Image}, {"request", &p.Request},
	} {
		d := *f.price
		switch {
		case d.Exponent() < -64 || d.Exponent() > 9: // first: a huge exponent makes the other checks slow
			return fmt.Errorf("%w: %s has exponent %d", ErrInvalidPrice, f.name, d.Exponent())
		case d.IsNegative() || d.Cmp(MaxPrice) >= 0:
			return fmt.Errorf("%w: %s %s is not in [0, %s)", ErrInvalidPrice, f.name, d, MaxPrice)
		case !d.Truncate(PriceScaleMax).Equal(d):
			return fmt.Errorf("%w: %s %s has more than %d decimal places", ErrInvalidPrice, f.name, d, PriceScaleMax)
		}
		// One form for one price: fewer digits to carry, and Rate's fast path.
		*f.price = d.Truncate(PriceScaleMax)
	}
	return nil
}

type record struct {
	typ  string
	data any
}

// write appends to the model's subject and waits until this catalog shows it.
func (c *Catalog) write(ctx context.Context, log Appender, modelID string, lastSeq uint64, r record, by By) error {
	rec, err := events.NewRecord(r.typ, by.At, by.Actor, by.Reason, r.data)
	if err != nil {
		return err
	}
	seqs, err := log.Append(ctx, events.Append{Subject: events.PriceSubject(modelID), Record: rec, ExpectLast: lastSeq})
	if err != nil {
		return fmt.Errorf("%s of %s: %w", r.typ, modelID, err)
	}
	return c.WaitFor(ctx, seqs[0])
}
