package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"aione/admission"
	"aione/billing"
	"aione/gateway"
	"aione/httpapi"
	"aione/ledger"
	"aione/simulator"
)

// ServeConfig of the API role: gateway, usage, dashboards, invoices.
type ServeConfig struct {
	Addr        string `name:"http" env:"AIONE_HTTP" default:"127.0.0.1:8080" help:"Address of the API."`
	RoutesFile  string `name:"routes" env:"AIONE_ROUTES" type:"path" help:"File that says which providers serve which models; read again on SIGHUP. Default: --upstream-url serves all."`
	UpstreamURL string `name:"upstream-url" env:"AIONE_UPSTREAM_URL" help:"Provider of all models, up to and with /v1. Default: the built-in simulated provider."`
	UpstreamKey string `name:"upstream-key" env:"AIONE_UPSTREAM_KEY" help:"API key of the provider."`
	UpstreamAs  string `name:"upstream-name" env:"AIONE_UPSTREAM_NAME" default:"upstream" help:"Name of the provider in usage events."`

	UpstreamDialect string         `name:"upstream-dialect" env:"AIONE_UPSTREAM_DIALECT" default:"openai" enum:"openai,anthropic,gemini" help:"What the provider speaks."`
	TrustedProxies  []netip.Prefix `name:"trusted-proxies" env:"AIONE_TRUSTED_PROXIES" help:"Networks whose X-Forwarded-For is believed."`

	PlacesConfig
	WebhookConfig
	RunGrace   time.Duration `name:"run-grace" env:"AIONE_INVOICE_GRACE" default:"1h" help:"How long an ended period stays open when an operator asks for a run."`
	RunLateAge time.Duration `name:"run-late-age" env:"AIONE_LATE_AGE_MAX" default:"2160h" help:"How long before its period usage may have occurred to be billed as late when an operator asks for a run."`
	RunTerms   int           `name:"run-payment-terms" env:"AIONE_PAYMENT_TERMS_DAYS" default:"30" help:"Days until an invoice is due that an operator's run issues."`
	SweepEvery time.Duration `name:"sweep-every" env:"AIONE_SWEEP_EVERY" default:"1m" help:"How often requests of gateways that died are looked for."`
}

// drainTimeout is how long requests in flight may take once the process stops.
const drainTimeout = 30 * time.Second

// API is the API role, listening.
type API struct {
	URL string // of the API

	node     *Node
	routes   string // their file; empty for none
	webhooks WebhookConfig
	gateway  *gateway.Gateway
	limits   *limiting // nil until the limits are at work
	sweeper  *gateway.Sweeper
	servers  []*http.Server
	serving  errgroup.Group
	failures chan error
}

// Listen starts the API role. A taken port is an error here.
func (n *Node) Listen(c ServeConfig) (_ *API, err error) {
	a := &API{node: n, webhooks: c.WebhookConfig, routes: c.RoutesFile, failures: make(chan error, 2)}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	sandboxURL, err := a.serve("127.0.0.1:0", simulator.New(simulator.Config{}))
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	sandbox := gateway.Upstream{Name: "simulator", BaseURL: sandboxURL + "/v1", Dialect: gateway.DialectAny}
	routing, err := n.routing(c, sandbox)
	if err != nil {
		return nil, err
	}
	a.gateway, err = gateway.New(gateway.Config{Limiter: limiter{n.Limits}, Plans: plans{n.Book}, Log: n.Log, Keys: n.Keys, Catalog: n.Catalog, Rate: ledger.Rate,
		MaxInFlight: c.InFlightMax, OrgInFlightMax: c.OrgInFlightMax, Routing: routing, Sandbox: sandbox, TrustedProxies: c.TrustedProxies, Now: n.Clock, Logger: n.Logger})
	if err != nil {
		return nil, err
	}
	a.sweeper = &gateway.Sweeper{Admissions: n.Log, Settled: n.Projection, Publisher: n.Log,
		Checkpoint: n.sweeperPosition(), Now: n.Clock, Logger: n.Logger, Every: c.SweepEvery}
	commands := billing.Commands{Log: n.Log, Book: n.Book, Prices: n.Catalog}
	invoicer := n.Invoicer(InvoiceConfig{Grace: c.RunGrace, LateAge: c.RunLateAge, TermsDays: c.RunTerms})
	api, err := httpapi.New(httpapi.Config{
		Keys: n.Keys, Orgs: n.Book, Books: n.Book, Accounts: n.Book, Profiles: n.Book, Upcoming: invoicer,
		Finance: commands, PlanCatalog: n.Book, Webhooks: n.Webhooks, WebhookCommands: n.WebhookCommands(c.WebhookConfig),
		KeyCommands: n.Keys, Plans: n.Book, Ledger: n.Log, PriceList: n.Catalog,
		Tenants: commands, Assigner: commands, InvoiceRun: invoicer,
		Budgets: admission.Commands{Log: n.Log, Limiter: n.Limits}, Standings: n.Limits, Allowances: allowances{n}, Lines: n.Projection, Audits: n.Auditor,
		Usage: n.Projection, Catalog: n.Catalog, Log: n.Log, Gateway: a.gateway.Routes(),
		Checks: n.checks(), Collectors: append(placesCollectors(a.gateway), n.collector(), n.Auditor), Now: n.Clock, Logger: n.Logger,
	})
	if err != nil {
		return nil, err
	}
	if a.URL, err = a.serve(c.Addr, api); err != nil {
		return nil, fmt.Errorf("start the API: %w; --http or AIONE_HTTP says where else", err)
	}
	// From here on /readyz says what is still missing.
	if a.limits, err = n.startLimits(context.Background()); err != nil {
		return nil, err
	}
	if n.Engines.endpoints != "" {
		return a, n.Engines.announce(n.dataDir, a.URL)
	}
	return a, nil
}

// serve listens at once and answers in the background.
func (a *API) serve(addr string, h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	s := httpapi.NewHTTPServer(addr, h)
	a.servers = append(a.servers, s)
	a.serving.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.failures <- err
		}
		return nil
	})
	return "http://" + l.Addr().String(), nil
}

// Run serves until ctx ends, then stops gracefully: no new requests, those in
// flight settled, the providers' side last.
func (a *API) Run(ctx context.Context) error {
	while, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { a.rerouteOnHangup(while) })
	beside.Go(func() {
		if err := a.sweeper.Run(while); while.Err() == nil {
			a.node.Logger.Error("the sweeper ended", "error", err)
		}
	})
	beside.Go(func() { a.node.announce(while) })
	beside.Go(func() {
		if err := a.node.Deliver(while, a.webhooks); while.Err() == nil {
			a.node.Logger.Error("webhooks are not delivered any more", "error", err)
		}
	})
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-a.failures:
	case err = <-a.limits.ended:
		a.limits.ended <- err // for close
		err = fmt.Errorf("the limits cannot be kept any further: %w", err)
	}
	stop()
	beside.Wait()
	return errors.Join(err, a.close())
}

func (a *API) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var errs []error
	for i := len(a.servers) - 1; i >= 0; i-- { // the API before the provider it talks to
		errs = append(errs, a.servers[i].Shutdown(ctx))
		if i == len(a.servers)-1 && a.gateway != nil {
			errs = append(errs, a.gateway.Close(ctx))
			if a.limits != nil {
				errs = append(errs, a.limits.close(ctx))
			}
		}
	}
	errs = append(errs, a.serving.Wait())
	return errors.Join(errs...)
}
