package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// Log is where admissions and usage become durable: events.Log. A nil error
// means fsynced; any other may mean that the event is in the log all the same.
type Log interface {
	Admit(ctx context.Context, a events.Admission) error
	// Hurry says that somebody waits for an admission.
	Hurry()
	Publish(ctx context.Context, us []events.Usage) error
}

// Keys says whose key a secret is: keys.Set.
type Keys interface {
	Verify(secret string, now time.Time) (*keys.Key, error)
}

// Catalog says what can be called and what it costs: catalog.Catalog.
type Catalog interface {
	// Resolve turns a name a client may send, standard id or alias, into a model.
	Resolve(name string) (catalog.Model, bool)
	// PriceAt returns catalog.ErrNoPrice when no price of the model is in force.
	PriceAt(model string, at time.Time) (catalog.Price, error)
	Models() []catalog.Model
}

// Plans says what orgs have agreed to.
type Plans interface {
	// Currency is what an org is billed in: usage priced in another could never be
	// invoiced. ok is false for an org that there is not.
	Currency(org uuid.UUID) (currency string, ok bool)
	// AllowsModel says whether an org's plan has a model, by its standard id.
	AllowsModel(org uuid.UUID, model string, at time.Time) bool
}

// RateFunc computes the exact cost of tokens and images at a price.
type RateFunc func(p catalog.Price, t events.Tokens, images uint64) (decimal.Decimal, error)

// Upstream is a provider that serves models.
type Upstream struct {
	Name    string  // recorded as the provider of each usage event
	BaseURL string  // up to and with the version, e.g. https://api.openai.com/v1
	Dialect Dialect // default OpenAI's
	APIKey  string  // sent the way of the dialect; empty sends none
	Model   string  // what this upstream calls the model; empty means its standard id
	Weight  int     // its share of a route's requests; default 1
	// Insecure allows plain http to another machine: whoever is between the two
	// reads prompts and the API key.
	Insecure bool
}

// LogValue never logs the API key.
func (u Upstream) LogValue() slog.Value { return slog.StringValue(u.Name + " at " + u.BaseURL) }

// Format never prints the API key, whatever the verb.
func (u Upstream) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s at %s", u.Name, u.BaseURL) }

// check refuses what would send a key or a prompt where nobody meant it to go.
func (u Upstream) check() error {
	at, err := url.Parse(u.BaseURL)
	switch {
	case u.Name == "" || u.BaseURL == "":
		return errors.New("an upstream needs a name and a base URL")
	case len(u.Name) > events.MaxTextBytes:
		return fmt.Errorf("the name of an upstream has more than %d bytes", events.MaxTextBytes)
	case err != nil || at.Host == "" || at.User != nil || at.RawQuery != "" || at.Fragment != "":
		return fmt.Errorf("the base URL of upstream %s must be scheme, host and path, without user, query or fragment", u.Name)
	case at.Scheme != "https" && at.Scheme != "http":
		return fmt.Errorf("the base URL of upstream %s must begin with https:// or http://", u.Name)
	case at.Scheme == "http" && !u.Insecure && !isLoopback(at.Hostname()):
		return fmt.Errorf("the base URL of upstream %s is plain http to another machine; use https, or allow it with Insecure", u.Name)
	case hasMetadata(at.Hostname()):
		return fmt.Errorf("the base URL of upstream %s is an address where clouds serve credentials", u.Name)
	case u.Weight < 0:
		return fmt.Errorf("the weight of upstream %s is negative", u.Name)
	}
	if err := u.Dialect.check(); err != nil {
		return fmt.Errorf("upstream %s: %w", u.Name, err)
	}
	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func hasMetadata(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && servesCredentials(ip)
}

// metadata are addresses outside the link-local networks where clouds serve
// credentials too.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon, by IPv6
	netip.MustParseAddr("fd20:ce::254"),    // Google, by IPv6
}

func servesCredentials(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLinkLocalUnicast() || slices.Contains(metadata, ip)
}

// noMetadata refuses to connect to what a name may resolve to all the same.
func noMetadata(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil && servesCredentials(at.Addr()) {
		return fmt.Errorf("%s is an address where clouds serve credentials", at.Addr())
	}
	return err
}

// Route is who serves a model. A request goes to one of the upstreams that speak
// its dialect, or to which it can be translated, by their weights; if that fails
// before the client has received anything, to another.
type Route struct {
	Upstreams []Upstream
}

// Routing is who serves which model. Gateway.Reroute replaces it.
type Routing struct {
	Routes    map[string]Route // by standard model id
	Providers map[string]Route // by the catalog's provider, for models without a route of their own
	Default   Route            // for models with neither; without upstreams there is none
}

// Config of a Gateway. Log, Keys, Catalog, Rate and Sandbox are required.
type Config struct {
	Log     Log
	Keys    Keys
	Catalog Catalog
	Rate    RateFunc
	Limiter Limiter // nil for no limits
	Plans   Plans   // nil: every plan has every model, and every currency

	Routing
	// Sandbox is the simulated provider: where sandbox keys go, always. It is taken
	// to speak every dialect, is tried once, and has no circuit breaker.
	Sandbox Upstream

	Retry   Retry
	Breaker Breaker

	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed

	BodyBytesMax   int64 // of a request; default 16 MiB
	AnswerBytesMax int64 // of a plain answer; default 64 MiB
	EventBytesMax  int   // of one event of a stream; default 8 MiB
	MaxInFlight    int   // requests at once, drained ones too; default 4096
	OrgInFlightMax int   // the same of one org; default a quarter of MaxInFlight
	// CompletionTokensMax is what is claimed from the limits for an answer when neither
	// the request nor the catalog says how long it may be; less if the model's context
	// is less; default 32768. A model that writes more is billed what it wrote.
	CompletionTokensMax uint64

	Timeouts Timeouts

	Transport http.RoundTripper // to the upstreams; default one tuned for many streams
	Now       func() time.Time  // default time.Now; stamps events; durations are measured by the machine's own clock
	IntN      func(n int) int   // chooses among upstreams and spreads pauses; default math/rand/v2; safe for concurrent use
	Logger    *slog.Logger      // default slog.Default()
}

// Timeouts bound every wait of the gateway, so that the Deadline of an admission
// is a promise: after it the gateway has given up for certain.
type Timeouts struct {
	Body      time.Duration // reading the request; default 1 min
	FirstByte time.Duration // request sent to first byte of the answer, each attempt; default 3 min
	Idle      time.Duration // between two pieces of an answer; default 1 min
	Total     time.Duration // first request sent to last byte, all attempts; default 15 min
	Drain     time.Duration // reading on after the client has left; default 1 min
	Write     time.Duration // one write to a client; then it counts as gone; default 30 s
	Admit     time.Duration // making the admission durable; default 10 s
	Publish   time.Duration // making the usage durable, retries included; default 10 s
}

// Retry bounds the attempts at one request. An attempt is followed by another
// only while the client has received nothing.
type Retry struct {
	Attempts int           // at most, the first included; default 3
	Pause    time.Duration // before an upstream is tried again; doubles, half of it by chance; default 200 ms
	PauseMax time.Duration // default 3 s; a provider that asks for longer is not waited for
}

// Breaker takes an upstream out of all routes while it fails.
type Breaker struct {
	Failures int           // in a row that open it; default 10
	OpenFor  time.Duration // then one request is let through to see; default 15 s
}

// settleMargin covers what a gateway's own bounds do not: an event that the log
// still writes after we stopped waiting for it (events.Options.ConfirmWithin must
// be well below), and clocks that differ.
const settleMargin = 2 * time.Minute

// complete checks a configuration and fills in the defaults.
func (c *Config) complete() error {
	if c.Log == nil || c.Keys == nil || c.Catalog == nil || c.Rate == nil || c.Sandbox.BaseURL == "" {
		return errors.New("gateway: Log, Keys, Catalog, Rate and Sandbox are required")
	}
	c.BodyBytesMax = orDefault(c.BodyBytesMax, 16<<20)
	c.AnswerBytesMax = orDefault(c.AnswerBytesMax, 64<<20)
	c.EventBytesMax = orDefault(c.EventBytesMax, 8<<20)
	c.MaxInFlight = orDefault(c.MaxInFlight, 4096)
	c.OrgInFlightMax = orDefault(c.OrgInFlightMax, max(c.MaxInFlight/4, 1))
	c.CompletionTokensMax = orElse(c.CompletionTokensMax, 32<<10)
	c.Timeouts.complete()
	c.Retry.Attempts = orDefault(c.Retry.Attempts, 3)
	c.Retry.Pause = orDefault(c.Retry.Pause, 200*time.Millisecond)
	c.Retry.PauseMax = orDefault(c.Retry.PauseMax, 3*time.Second)
	c.Breaker.Failures = orDefault(c.Breaker.Failures, 10)
	c.Breaker.OpenFor = orDefault(c.Breaker.OpenFor, 15*time.Second)
	if c.Transport == nil {
		c.Transport = newTransport(c.MaxInFlight)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.IntN == nil {
		c.IntN = rand.IntN
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func (t *Timeouts) complete() {
	t.Body = orDefault(t.Body, time.Minute)
	t.FirstByte = orDefault(t.FirstByte, 3*time.Minute)
	t.Idle = orDefault(t.Idle, time.Minute)
	t.Total = orDefault(t.Total, 15*time.Minute)
	t.Drain = orDefault(t.Drain, time.Minute)
	t.Write = orDefault(t.Write, 30*time.Second)
	t.Admit = orDefault(t.Admit, 10*time.Second)
	t.Publish = orDefault(t.Publish, 10*time.Second)
}

// deadline is how long after its admission a request may still be settled here:
// the limits are asked, twice at most, and the admission is written, each within
// Admit.
func (t *Timeouts) deadline() time.Duration {
	return t.Total + t.Drain + 2*t.Write + 3*t.Admit + t.Publish + settleMargin
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// newTransport keeps a connection for every request in flight: the default of
// two per host would dial anew for nearly every request.
func newTransport(maxInFlight int) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: noMetadata}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: maxInFlight,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		ReadBufferSize:      16 << 10,
		WriteBufferSize:     16 << 10, // most requests in one write
		DisableCompression:  true,     // answers pass through as they are
	}
}
