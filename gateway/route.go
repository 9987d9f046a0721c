package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"aione/catalog"

	"github.com/sony/gobreaker/v2"
)

// provider is an upstream with the state of its circuit.
type provider struct {
	Upstream
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}] // nil for none
}

// What a circuit is told about an attempt; nil is good news.
var (
	errUnhealthy = errors.New("the upstream failed")
	errUntold    = errors.New("the attempt was given up before the upstream could show")
)

// allow asks the circuit; done must be called once, with what came of it.
func (p *provider) allow() (done func(error), ok bool) {
	if p.breaker == nil {
		return func(error) {}, true
	}
	done, err := p.breaker.Allow()
	return done, err == nil
}

// routes are the configured upstreams; one that is named in several routes has
// one circuit.
type routes struct {
	byModel    map[string][]*provider
	byProvider map[string][]*provider
	fallback   []*provider
	sandbox    []*provider
}

func newRoutes(c Config) (routes, error) {
	circuits := map[string]*gobreaker.TwoStepCircuitBreaker[struct{}]{}
	compile := func(us []Upstream) ([]*provider, error) {
		var ps []*provider
		for _, u := range us {
			if u.Dialect == "" {
				u.Dialect = DialectOpenAI
			}
			if u.Weight == 0 {
				u.Weight = 1
			}
			if err := u.check(); err != nil {
				return nil, err
			}
			id := u.Name + "\n" + u.BaseURL
			if circuits[id] == nil {
				circuits[id] = newBreaker(c, u)
			}
			ps = append(ps, &provider{Upstream: u, breaker: circuits[id]})
		}
		return ps, nil
	}
	table := func(routes map[string]Route, of string) (map[string][]*provider, error) {
		m := map[string][]*provider{}
		for name, r := range routes {
			if len(r.Upstreams) == 0 {
				return nil, fmt.Errorf("the route of %s %s has no upstream", of, name)
			}
			ps, err := compile(r.Upstreams)
			if err != nil {
				return nil, fmt.Errorf("the route of %s %s: %w", of, name, err)
			}
			m[name] = ps
		}
		return m, nil
	}
	var r routes
	var errs [4]error
	r.byModel, errs[0] = table(c.Routes, "model")
	r.byProvider, errs[1] = table(c.Providers, "provider")
	if c.Default.BaseURL != "" {
		r.fallback, errs[2] = compile([]Upstream{c.Default})
	}
	c.Sandbox.Dialect = DialectAny
	r.sandbox, errs[3] = compile([]Upstream{c.Sandbox})
	for _, p := range r.sandbox {
		p.breaker = nil // faults there are asked for
	}
	return r, errors.Join(errs[:]...)
}

func newBreaker(c Config, u Upstream) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: u.Name, Timeout: c.Breaker.OpenFor,
		IsExcluded:  func(err error) bool { return errors.Is(err, errUntold) },
		ReadyToTrip: func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= c.Breaker.Failures },
		OnStateChange: func(name string, from, to gobreaker.State) {
			c.Logger.Warn("the circuit of an upstream changed", "upstream", slog.AnyValue(u), "from", from.String(), "to", to.String())
		},
	})
}

// of are the providers of a model.
func (r *routes) of(m catalog.Model, sandbox bool) []*provider {
	if sandbox {
		return r.sandbox
	}
	if ps, ok := r.byModel[m.ID]; ok {
		return ps
	}
	if ps, ok := r.byProvider[m.Provider]; ok {
		return ps
	}
	return r.fallback
}

// speaking are the providers to which there is a way from a client's dialect.
func speaking(ps []*provider, d Dialect) []*provider {
	var can []*provider
	for _, p := range ps {
		if wireTo(d, p.Dialect) != nil {
			can = append(can, p)
		}
	}
	return can
}

// attempt is one try at one upstream.
type attempt struct {
	Upstream // with its Model always set
	of       *provider
	wire     wire
	begun    time.Time
	report   func(error) // to its circuit; only the first counts
}

// choose takes one of the providers by weight whose circuit is closed, or lets
// one through to see; nil if all are open.
func (x *exchange) choose(from []*provider) *attempt {
	from = slices.Clone(from)
	for len(from) > 0 {
		total := 0
		for _, p := range from {
			total += p.Weight
		}
		n, i := x.gateway.config.IntN(total), 0
		for n >= from[i].Weight {
			n -= from[i].Weight
			i++
		}
		if a := x.try(from[i]); a != nil {
			return a
		}
		from = slices.Delete(from, i, i+1)
	}
	return nil
}

// try is an attempt at a provider; nil if its circuit is open.
func (x *exchange) try(p *provider) *attempt {
	done, ok := p.allow()
	if !ok {
		return nil
	}
	a := &attempt{Upstream: p.Upstream, of: p, wire: wireTo(x.client.dialect(), p.Dialect)}
	var once sync.Once
	a.report = func(err error) { once.Do(func() { done(err) }) }
	if a.Model == "" {
		a.Model = x.model.ID
	}
	return a
}
