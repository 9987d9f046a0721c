package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"aione/analytics"
	"aione/billing"
	"aione/catalog"
	"aione/documents"
	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Keys says whose token a secret is: keys.Set.
type Keys interface {
	Verify(secret string, now time.Time) (*keys.Key, error)
	// Lookup returns keys.ErrUnknownKey also for a key of another org. Keys that were
	// deleted are found: they have used something.
	Lookup(org, id uuid.UUID) (*keys.Key, error)
}

// KeyCommands list and change keys: keys.Set. An *keys.FieldError says what is
// wrong with a command.
type KeyCommands interface {
	// APIKeys are those of a page, oldest first, and how many there are in all.
	APIKeys(org uuid.UUID, offset, most int) (part []*keys.Key, total int)
	// Get returns keys.ErrUnknownKey also for a key of another org, or deleted.
	Get(org, id uuid.UUID) (*keys.Key, error)
	Create(ctx context.Context, log keys.Appender, in keys.CreateInput) (*keys.Key, string, error)
	Update(ctx context.Context, log keys.Appender, in keys.UpdateInput) (*keys.Key, error)
	Rotate(ctx context.Context, log keys.Appender, in keys.RotateInput) (*keys.Key, string, error)
	Disable(ctx context.Context, log keys.Appender, in keys.ChangeInput) (*keys.Key, error)
	Enable(ctx context.Context, log keys.Appender, in keys.ChangeInput) (*keys.Key, error)
	Delete(ctx context.Context, log keys.Appender, in keys.ChangeInput) error
}

// Ledger is where commands write: events.Log.
type Ledger interface {
	Append(ctx context.Context, as ...events.Append) ([]uint64, error)
	LastOn(ctx context.Context, subject string) (r events.Record, ok bool, err error)
}

// Orgs is what is known of orgs: billing.Book. Those asked for one return billing.ErrNotFound
// when there is no such org.
type Orgs interface {
	Org(id uuid.UUID) (billing.Org, error)
	Zone(id uuid.UUID) (*time.Location, error)
	Teams(orgID uuid.UUID) ([]billing.Team, error)
	// Orgs are all of them, oldest first.
	Orgs() []billing.Org
}

// Upcoming drafts the invoices of open periods: billing.Invoicer.
type Upcoming interface {
	// Upcoming returns ledger.ErrNothingToBill when there is no usage yet.
	Upcoming(ctx context.Context, orgID uuid.UUID) (ledger.Invoice, error)
	// Drafts are those of all open periods, the oldest first: the ended ones in their
	// grace, and the current one.
	Drafts(ctx context.Context, orgID uuid.UUID) ([]ledger.Invoice, error)
}

// Usage answers from the rows: analytics.Projection. Any error means that there
// is no answer now.
type Usage interface {
	EachUsage(ctx context.Context, q analytics.UsageQuery, each func(r analytics.UsageRow, total uint64) error) error
	Dashboard(ctx context.Context, q analytics.DashboardQuery) (analytics.Dashboard, error)
	Watermark(ctx context.Context, org uuid.UUID) (analytics.Watermark, error)
	// TeamQuantities is what in counts by team.
	TeamQuantities(ctx context.Context, in ledger.InputsQuery) ([]ledger.TeamQuantity, error)
}

// Catalog says which models there are and what they cost: catalog.Catalog.
type Catalog interface {
	Resolve(name string) (catalog.Model, bool)
	StandardIDs(names []string) (ids []string, unknown []int)
	// Prices are all versions of a model, oldest first.
	Prices(modelID string) []catalog.Price
	// ModelsAt are all models with their prices at an instant.
	ModelsAt(at time.Time) []catalog.ModelInfo
}

// Publisher makes usage durable: events.Log. A nil error means fsynced.
type Publisher interface {
	Publish(ctx context.Context, us []events.Usage) error
}

// Config of a Server. Keys, Orgs, Books, Accounts, Profiles, Usage, Catalog, Log and Now are
// required.
type Config struct {
	Keys     Keys
	Orgs     Orgs
	Books    documents.Books // of billing: what is issued and booked; billing.ErrNotFound also for what is another org's
	Upcoming Upcoming        // nil: the route is not there
	Usage    Usage
	Catalog  Catalog
	Log      Publisher
	Gateway  http.Handler // serves /v1 and /v1beta as it is; nil: not there

	// Accounts and Profiles are required too: money of orgs, and who invoices them how.
	Accounts Accounts
	Profiles Profiles

	// Finance serves the operator's routes of money; it needs PlanCatalog, Plans and
	// Assigner. nil: they are not there.
	Finance     Finance
	PlanCatalog PlanCatalog

	// Webhooks and WebhookCommands serve the routes of webhooks. nil: they are not there.
	Webhooks        Webhooks
	WebhookCommands WebhookCommands

	// KeyCommands serve the routes of API keys, Plans that of the plan, Tenants,
	// Assigner, PriceList and InvoiceRun those of the operator, Budgets those of budgets
	// and limits, Audits that of the auditor's verdict, Lines the events behind an
	// invoice line. With nil the routes are not there. KeyCommands and PriceList need
	// Ledger, Budgets needs Standings.
	KeyCommands KeyCommands
	Plans       Plans
	Tenants     Tenants
	Assigner    Assigner
	PriceList   PriceList
	InvoiceRun  InvoiceRun
	Budgets     Budgets
	Standings   Standings
	Audits      Audits
	Lines       Lines
	Ledger      Ledger
	// Allowances know budgets, balances and limits. nil: there are none.
	Allowances Allowances

	Checks     []Check                // of /readyz
	Collectors []prometheus.Collector // more for /metrics, such as NewMeteringCollector
	Now        func() time.Time
	Logger     *slog.Logger // default slog.Default()

	Limits Limits
}

// Limits bound what a request may take. Zero fields get the defaults.
type Limits struct {
	AnswerWithin time.Duration // of an ordinary request; default 1 min
	ExportWithin time.Duration // of a CSV export; default 10 min

	BodyBytes int64 // of a body that is not events; default 256 KiB

	UsageDays int // of one usage question; default 366
	HourDays  int // the same when grouped by hour; default 31

	QueriesAtOnce int // questions about usage that are worked on at once; default 64
	QueriesPerOrg int // the same of one org; default 16

	RequestsPerOrg int // requests of one org with a token that are worked on at once, chat aside; default 256

	EventBytes    int64         // of a body of events; default 16 MiB
	EventsBatch   int           // events in one; default 10,000
	EventsAtOnce  int           // requests with events that are worked on at once, each holding its body; default 64
	EventsPerOrg  int           // those of one org; default a quarter of EventsAtOnce
	EventsWait    time.Duration // how long a further one waits for its turn; default 5 s
	EventAge      time.Duration // how long ago an event may have occurred; default 400 days
	EventAhead    time.Duration // how far in the future, for clocks that differ; default 5 min
	PublishWithin time.Duration // making events durable, retries included; default 40 s, longer than the log retries
}

const day = 24 * time.Hour

func (l *Limits) complete() {
	l.AnswerWithin = orDefault(l.AnswerWithin, time.Minute)
	l.ExportWithin = orDefault(l.ExportWithin, 10*time.Minute)
	l.BodyBytes = orDefault(l.BodyBytes, 256<<10)
	l.UsageDays = orDefault(l.UsageDays, 366)
	l.HourDays = orDefault(l.HourDays, 31)
	l.QueriesAtOnce = orDefault(l.QueriesAtOnce, 64)
	l.QueriesPerOrg = orDefault(l.QueriesPerOrg, 16)
	l.EventBytes = orDefault(l.EventBytes, 16<<20)
	l.EventsBatch = orDefault(l.EventsBatch, 10_000)
	l.EventsAtOnce = orDefault(l.EventsAtOnce, 64)
	l.EventsPerOrg = orDefault(l.EventsPerOrg, max(l.EventsAtOnce/4, 1))
	l.RequestsPerOrg = orDefault(l.RequestsPerOrg, 256)
	l.EventsWait = orDefault(l.EventsWait, 5*time.Second)
	l.EventAge = orDefault(l.EventAge, 400*day)
	l.EventAhead = orDefault(l.EventAhead, 5*time.Minute)
	l.PublishWithin = orDefault(l.PublishWithin, 40*time.Second)
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Server is the API as an http.Handler. It is safe for concurrent use.
type Server struct {
	config  Config
	limits  Limits
	logger  *slog.Logger
	metrics *metrics
	router  chi.Router

	schemas  schemas                // of bodies
	document func() ([]byte, error) // of OpenAPI; written when it is first asked for, as few processes are
	page     func() ([]byte, error) // the same for people

	requests *turns // all with a token
	queries  *turns // about usage
	intakes  *lanes // with events

	claims claims        // of idempotency keys
	intake chan struct{} // one token for each request with events in work
}

// New checks the configuration and makes a server.
func New(c Config) (*Server, error) {
	if c.Keys == nil || c.Orgs == nil || c.Books == nil || c.Accounts == nil || c.Profiles == nil || c.Usage == nil || c.Catalog == nil || c.Log == nil || c.Now == nil {
		return nil, errors.New("httpapi: Keys, Orgs, Books, Accounts, Profiles, Usage, Catalog, Log and Now are required")
	}
	if c.Finance != nil && (c.PlanCatalog == nil || c.Plans == nil || c.Assigner == nil) {
		return nil, errors.New("httpapi: Finance needs PlanCatalog, Plans and Assigner")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Ledger == nil && (c.KeyCommands != nil || c.PriceList != nil) {
		return nil, errors.New("httpapi: KeyCommands and PriceList need Ledger")
	}
	if (c.Webhooks == nil) != (c.WebhookCommands == nil) {
		return nil, errors.New("httpapi: Webhooks and WebhookCommands go together")
	}
	if c.Standings == nil && c.Budgets != nil {
		return nil, errors.New("httpapi: Budgets needs Standings")
	}
	c.Limits.complete()
	m, err := newMetrics(c.Collectors)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, limits: c.Limits, logger: c.Logger, metrics: m, intake: make(chan struct{}, c.Limits.EventsAtOnce)}
	s.newTurns()
	routes := s.table()
	var d *huma.OpenAPI
	d, s.schemas = describe(routes)
	s.document = sync.OnceValues(func() ([]byte, error) { return marshal(d) })
	s.page = sync.OnceValues(func() ([]byte, error) { return referencePage(d, routes) })
	s.router = s.newRouter(routes)
	return s, nil
}

func (s *Server) newRouter(routes []route) chi.Router {
	r := chi.NewRouter()
	r.Use(middleware.GetHead)
	r.NotFound(s.handle(s.notFound))
	r.MethodNotAllowed(s.handle(s.methodNotAllowed))

	s.mount(r, routes)
	return r
}

// ServeHTTP serves the API and, below /v1 and /v1beta, the gateway.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if root := gatewayRoot(r.URL.Path); root != "" && s.config.Gateway != nil {
		s.observed(root+"/*", secured(s.config.Gateway)).ServeHTTP(w, r)
		return
	}
	s.observed("", secured(s.router)).ServeHTTP(w, r)
}

func gatewayRoot(path string) string {
	for _, root := range [...]string{"/v1", "/v1beta"} {
		if strings.HasPrefix(path, root+"/") {
			return root
		}
	}
	return ""
}

// NewHTTPServer is an http.Server for h with every bound that does not depend on
// the route. Answers have none: chat streams last for minutes, and the routes of
// this package bound their own.
func NewHTTPServer(addr string, h http.Handler) *http.Server {
	return &http.Server{
		Addr: addr, Handler: h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute, // the body too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}
