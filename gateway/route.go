package gateway

import (
	"cmp"
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

// circuit is what fails as one: an upstream, however many routes name it.
type circuit struct{ name, baseURL string }

// routes are the configured upstreams; one that is named in several routes has
// one circuit.
type routes struct {
	byModel    map[string][]*provider
	byProvider map[string][]*provider
	fallback   []*provider
	sandbox    []*provider
	circuits   map[circuit]*gobreaker.TwoStepCircuitBreaker[struct{}]
}

// newRoutes checks r and makes routes of it. A circuit that was there before goes
// on as it is.
func newRoutes(c *Config, r Routing, before map[circuit]*gobreaker.TwoStepCircuitBreaker[struct{}]) (*routes, error) {
	n := &routes{byModel: map[string][]*provider{}, byProvider: map[string][]*provider{}, circuits: map[circuit]*gobreaker.TwoStepCircuitBreaker[struct{}]{}}
	var errs []error
	compile := func(of string, route Route) (ps []*provider) {
		if len(route.Upstreams) == 0 {
			errs = append(errs, fmt.Errorf("%s has no upstream", of))
		}
		for _, u := range route.Upstreams {
			p, err := n.provider(c, u, before)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", of, err))
			}
			ps = append(ps, p)
		}
		return ps
	}
	for name, route := range r.Routes {
		n.byModel[name] = compile("the route of model "+name, route)
	}
	for name, route := range r.Providers {
		n.byProvider[name] = compile("the route of provider "+name, route)
	}
	if len(r.Default.Upstreams) > 0 {
		n.fallback = compile("the default route", r.Default)
	}
	sandbox := c.Sandbox
	sandbox.Dialect = DialectAny
	n.sandbox = compile("the sandbox", Route{[]Upstream{sandbox}})
	for _, p := range n.sandbox {
		p.breaker = nil // faults there are asked for
	}
	return n, errors.Join(errs...)
}

func (n *routes) provider(c *Config, u Upstream, before map[circuit]*gobreaker.TwoStepCircuitBreaker[struct{}]) (*provider, error) {
	u.Dialect = cmp.Or(u.Dialect, DialectOpenAI)
	u.Weight = cmp.Or(u.Weight, 1)
	id := circuit{u.Name, u.BaseURL}
	if n.circuits[id] == nil {
		if n.circuits[id] = before[id]; n.circuits[id] == nil {
			n.circuits[id] = newBreaker(c, u)
		}
	}
	return &provider{Upstream: u, breaker: n.circuits[id]}, u.check()
}

func newBreaker(c *Config, u Upstream) *gobreaker.TwoStepCircuitBreaker[struct{}] {
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
