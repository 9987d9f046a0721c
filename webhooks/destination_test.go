package webhooks

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestURLs(t *testing.T) {
	const ok = ""
	cases := []struct{ url, want, inDevelopment string }{
		{"https://example.com/hook?token=a%20b", ok, ok},
		{"https://example.com:443", ok, ok},
		{"HTTPS://Example.COM./", ok, ok},
		{"https://xn--bcher-kva.example/", ok, ok},
		{"https://93.184.215.14/", ok, ok},
		{"https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/", ok, ok},
		{"https://127.0.0.1/", "has an address that is not public", ok},
		{"https://127.0.0.1:8443/", "has a port that is not allowed", ok},
		{"http://127.0.0.1:8080/", "does not begin with https://", ok},
		{"http://[::1]:8080/", "does not begin with https://", ok},
		{"http://localhost/", "does not begin with https://", "does not begin with https://"},
		{"http://example.com/", "does not begin with https://", "does not begin with https://"},
	}
	for _, raw := range []string{"", "example.com/hook", "/hook", "https://", "https:///hook", "mailto:a@b.example", "https:example.com", "://x", "https://exa mple.com/", "https://%31%32%37.0.0.1.%00/", "https://[::1/"} {
		cases = append(cases, struct{ url, want, inDevelopment string }{raw, "is not a URL", "is not a URL"})
	}
	for raw, want := range map[string]string{
		"https://user@example.com/": "has a user or password in it", "https://u:p@example.com/": "has a user or password in it",
		"https://example.com/#x": "has a fragment", "https://example.com/#": "has a fragment",
		"https://example.com:22/": "has a port that is not allowed", "https://example.com:0/": "has a port that is not allowed",
		"https://example.com:99999/": "has a port that is not allowed",
		"ftp://example.com/":         "does not begin with https://", "file://example.com/etc/passwd": "does not begin with https://",
		"gopher://127.0.0.1/":                              "does not begin with https://",
		"https://2130706433/":                              "has a host that is not", // 127.0.0.1 to some resolvers, as the next five
		"https://0x7f000001/":                              "has a host that is not",
		"https://0x7f.1/":                                  "has a host that is not",
		"https://017700000001/":                            "has a host that is not",
		"https://127.1/":                                   "has a host that is not",
		"https://127.0.0.1./":                              "has a host that is not",
		"https://bücher.example/":                          "has a host that is not",
		"https://a..example/":                              "has a host that is not",
		"https://example.com/" + strings.Repeat("x", 2048): "has more than 2048 bytes",
		"https://10.0.0.1/":                                "has an address that is not public",
		"https://[::ffff:10.0.0.1]/":                       "has an address that is not public",
		"https://[fe80::1%25eth0]/":                        "has an address that is not public",
	} {
		cases = append(cases, struct{ url, want, inDevelopment string }{raw, want, want})
	}
	for _, c := range cases {
		for d, want := range map[bool]string{false: c.want, true: c.inDevelopment} {
			got := Destinations{AllowLoopback: d}.check(c.url)
			if (got == ok) != (want == ok) || !strings.HasPrefix(got, want) {
				t.Errorf("%q, in development %t: %q, want %q", c.url, d, got, want)
			}
		}
	}
}

// forbidden are addresses that nothing may be sent to, in production.
var forbidden = []string{
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
	"169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	"100.100.100.200", "168.63.129.16", // metadata of clouds
	"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.215.14", "::127.0.0.1", "::ffff:0:127.0.0.1",
	"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2001:20::1",
	"2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
}

func TestForbiddenAddresses(t *testing.T) {
	d := Destinations{Ports: []uint16{443, 8443}}
	for _, a := range forbidden {
		if d.dialable(netip.AddrPortFrom(netip.MustParseAddr(a), 443)) == nil {
			t.Errorf("%s may be connected to", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "93.184.215.14", "172.32.0.1", "100.128.0.1", "9.255.255.255", "2606:4700::1111", "2a00:1450:4001::1"} {
		for _, port := range []uint16{443, 8443} {
			if err := d.dialable(netip.AddrPortFrom(netip.MustParseAddr(a), port)); err != nil {
				t.Errorf("%s: %v", a, err)
			}
		}
		for _, port := range []uint16{0, 22, 80, 4222, 6379, 8123} {
			if d.dialable(netip.AddrPortFrom(netip.MustParseAddr(a), port)) == nil {
				t.Errorf("port %d may be connected to", port)
			}
		}
	}
	for _, network := range []string{"udp", "unix", "tcp", "ip4"} {
		if d.control(network, "1.1.1.1:443", nil) == nil {
			t.Errorf("network %s may be used", network)
		}
	}
}

// nameServer answers every question with the next of its lists of addresses.
type nameServer struct {
	answers [][]string
	asked   atomic.Int32 // for addresses of version 4
}

// resolver is a real one that asks the name server.
func (n *nameServer) resolver(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := n.answer(buffer[:size]); err == nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *nameServer) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil, errors.New("not a question")
	}
	q := m.Questions[0]
	list := n.answers[min(int(n.asked.Load()), len(n.answers)-1)]
	if q.Type == dnsmessage.TypeA {
		n.asked.Add(1)
	}
	m.Response, m.Additionals = true, nil
	for _, a := range list {
		addr := netip.MustParseAddr(a)
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	return m.Pack()
}

func portOfServer(t *testing.T, s *httptest.Server) uint16 {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

// A name that stands for addresses inside is not connected to, whatever it stood
// for before: not one byte arrives at a server that would take it.
func TestNameThatPointsInside(t *testing.T) {
	victim := &receiver{}
	victim.Server = httptest.NewUnstartedServer(victim.handler(nil))
	accepted := make(chan struct{}, 100)
	victim.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			accepted <- struct{}{}
		}
	}
	victim.StartTLS()
	t.Cleanup(victim.Close)
	port := portOfServer(t, victim.Server)
	for _, inside := range [][]string{{"127.0.0.1"}, {"::1"}, {"10.0.0.1", "127.0.0.1"}, {"::ffff:127.0.0.1"}, {"169.254.169.254", "::1", "127.0.0.1"}, {"2002:7f00:1::", "64:ff9b::7f00:1"}, {"0.0.0.0"}} {
		names := &nameServer{answers: [][]string{inside}}
		d := Destinations{Ports: []uint16{port}, Resolver: names.resolver(t)}
		_, err := d.client(5*time.Second).Post(fmt.Sprintf("https://inside.example:%d/", port), "text/plain", nil)
		if err == nil || reasonOf(err) != "the host has no public address that may be connected to" {
			t.Errorf("%v: %v", inside, err)
		}
		if names.asked.Load() == 0 {
			t.Error("the name was not looked up")
		}
	}
	if len(accepted) != 0 || len(victim.got()) != 0 {
		t.Errorf("%d connections to a server inside", len(accepted))
	}
}

// The same name, good when the endpoint was made and on its first delivery, then
// pointing elsewhere.
func TestRebindingName(t *testing.T) {
	r := &receiver{}
	server := httptest.NewUnstartedServer(r.handler(nil))
	server.Config.SetKeepAlivesEnabled(false) // so that each delivery looks the name up
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	names := &nameServer{answers: [][]string{{"127.0.0.1"}, {"169.254.169.254", "10.0.0.1"}}}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	port := portOfServer(t, server)
	w := newWorld(t)
	d := Destinations{AllowLoopback: true, Ports: []uint16{port}, Resolver: names.resolver(t), RootCAs: roots}
	w.commands.Destinations, w.config.Destinations = d, d
	w.deliver()
	e, secret := w.create(fmt.Sprintf("https://example.com:%d/", port)) // as the certificate says
	w.happen("thing.born", 1)
	w.settled(e, 1)
	w.happen("thing.born", 1)
	var second Delivery
	eventually(t, "it failed", func() bool { second = w.deliveries(e, "")[0]; return second.Attempts == 1 })
	if second.Status != StatusWaiting || second.Error != "the host has no public address that may be connected to" {
		t.Errorf("%+v", second)
	}
	if calls := r.got(); len(calls) != 1 || verify(t, secret, calls[0]) != nil {
		t.Errorf("%d calls", len(calls))
	}
	// An untrusted certificate.
	w.config.Destinations.RootCAs = nil
	names = &nameServer{answers: [][]string{{"127.0.0.1"}}}
	w.config.Destinations.Resolver = names.resolver(t)
	_, err := w.config.Destinations.client(5*time.Second).Post(e.URL, "text/plain", nil)
	if err == nil || reasonOf(err) != "the TLS certificate is not valid for the host" {
		t.Error(err)
	}
}

func TestNoProxyIsUsed(t *testing.T) {
	if loopback.client(time.Second).Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy of the environment would be used, and would make the connections")
	}
}

func TestReasonsSayNothingOfOurs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plain := receive(t, nil)
	unknown := &nameServer{answers: [][]string{{}}}
	d := Destinations{AllowLoopback: true, Resolver: unknown.resolver(t)}
	for url, want := range map[string]string{
		"http://" + silent.Addr().String() + "/?token=t": "no answer in time",
		"http://" + closed.Addr().String() + "/?token=t": "connection refused",
		"https" + strings.TrimPrefix(plain.URL, "http"):  "the answer is not TLS",
		"https://unknown.example/?token=t":               "the host has no public address that may be connected to",
	} {
		_, err := d.client(300*time.Millisecond).Post(url, "text/plain", nil)
		if err == nil || reasonOf(err) != want {
			t.Errorf("%s: %v", url, err)
		}
	}
}
