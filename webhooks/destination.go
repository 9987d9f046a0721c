package webhooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Destinations say where deliveries may go: to public addresses, by https. The
// zero value is right for production.
type Destinations struct {
	Ports []uint16 // default 443
	// AllowLoopback is for development: 127.0.0.0/8 and ::1 on any port, also by http.
	AllowLoopback bool
	Resolver      *net.Resolver  // default the system's
	RootCAs       *x509.CertPool // default the system's

	// dial replaces the network in tests of virtual time, which stands still while
	// somebody waits for a real one.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	urlBytesMax           = 2048
	responseHeaderMax     = 16 << 10
	responseBodyMax       = 4 << 10 // read so that the connection can be used again; never kept
	idleConnectionsMax    = 256
	idleConnectionTimeout = 30 * time.Second
)

// cloudMetadata are addresses that are public by their number, and are not.
var cloudMetadata = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32")} // Azure

func (d Destinations) ports() []uint16 {
	if len(d.Ports) == 0 {
		return []uint16{443}
	}
	return d.Ports
}

// check says why a URL is none to deliver to, or "". What a name stands for is
// checked when it is dialled: it may be something else each time.
func (d Destinations) check(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case len(raw) > urlBytesMax:
		return "has more than " + strconv.Itoa(urlBytesMax) + " bytes"
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "is not a URL"
	case u.User != nil:
		return "has a user or password in it"
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return "has a fragment"
	}
	host := u.Hostname()
	addr, notAddr := netip.ParseAddr(host)
	loopback := d.AllowLoopback && notAddr == nil && addr.IsLoopback()
	port, ok := portOf(u)
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback):
		return "does not begin with https://"
	case !ok || !loopback && !slices.Contains(d.ports(), port):
		return "has a port that is not allowed"
	case notAddr == nil && d.dialable(netip.AddrPortFrom(addr, port)) != nil:
		return "has an address that is not public"
	case notAddr != nil && !isHostname(host):
		return "has a host that is not a name or an address (write it in ASCII)"
	}
	return ""
}

func portOf(u *url.URL) (port uint16, ok bool) {
	text := u.Port()
	if text == "" {
		return map[string]uint16{"https": 443, "http": 80}[u.Scheme], true
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n > 0
}

// isHostname refuses what some resolvers read as an address, e.g. 0x7f.1.
func isHostname(host string) bool {
	host = strings.TrimSuffix(host, ".")
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return len(host) <= 253 && (last[0] < '0' || last[0] > '9')
}

// dialable returns an error unless an address may be connected to.
func (d Destinations) dialable(to netip.AddrPort) error {
	if d.AllowLoopback && to.Addr().IsLoopback() {
		return nil
	}
	return ssrf.New(ssrf.WithPorts(d.ports()...), ssrf.WithDeniedV4Prefixes(cloudMetadata...)).SafeAddrPort(to)
}

// control is called with the address that is about to be connected to: nothing
// that a name server says can come between the check and the connection.
func (d Destinations) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return ssrf.ErrProhibitedNetwork
	}
	return d.dialable(to)
}

// client makes the one client of all attempts. It has no proxy, follows nothing
// and unpacks nothing.
func (d Destinations) client(timeout time.Duration) *http.Client {
	if d.dial == nil {
		d.dial = (&net.Dialer{Timeout: timeout, Control: d.control, Resolver: d.Resolver}).DialContext
	}
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            d.dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.RootCAs},
			TLSHandshakeTimeout:    timeout,
			MaxIdleConns:           idleConnectionsMax,
			MaxIdleConnsPerHost:    endpointAttemptsMax,
			IdleConnTimeout:        idleConnectionTimeout,
			MaxResponseHeaderBytes: responseHeaderMax,
			DisableCompression:     true,
		},
	}
}

// reasonOf says in fixed words why a request failed: an error may hold the URL or
// addresses of our network. A name that does not exist and one that stands for a
// forbidden address read the same, so that nobody can find out the names in it.
func reasonOf(err error) string {
	var dns *net.DNSError
	var badCertificate *tls.CertificateVerificationError
	var slow net.Error
	switch {
	case errors.As(err, &dns), errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedPort), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return "the host has no public address that may be connected to"
	case errors.As(err, &badCertificate):
		return "the TLS certificate is not valid for the host"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the answer is not TLS"
	case errors.As(err, &slow) && slow.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	}
	return "the connection failed or broke off"
}
