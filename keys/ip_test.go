package keys_test

import (
	"net/netip"
	"strings"
	"testing"

	"aione/keys"

	"pgregory.net/rapid"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestAllowsIP(t *testing.T) {
	for _, x := range []struct {
		allowed string // comma-separated
		from    string // empty: the zero address
		want    bool
	}{
		{"", "1.2.3.4", true},
		{"", "::1", true},
		{"", "", true},
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.0.0.0/8", "", false},
		{"10.0.0.0/8", "::ffff:10.1.2.3", true}, // a dual-stack socket shows IPv4 like this
		{"10.0.0.0/8", "::10.1.2.3", false},     // IPv4-compatible is another address
		{"10.0.0.0/8", "2001:db8::1", false},
		{"::ffff:10.0.0.0/104", "10.1.2.3", true},
		{"::ffff:10.1.2.3", "10.1.2.3", true},
		{"::ffff:10.1.2.3", "::ffff:10.1.2.4", false},
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.8", false},
		{"192.0.2.7,198.51.100.0/24", "198.51.100.200", true},
		{"192.0.2.7/32", "192.0.2.7", true},
		{"0.0.0.0/0", "203.0.113.1", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "203.0.113.1", false}, // all of IPv6 is none of IPv4
		{"2001:db8::/32", "2001:db8:ffff::1", true},
		{"2001:db8::/32", "2001:db9::1", false},
		{"2001:db8::1", "2001:DB8:0:0::1", true},
		{"fe80::/10", "fe80::1%eth0", true}, // a link-local peer carries its zone
	} {
		k := keys.Grants{}
		if x.allowed != "" {
			for text := range strings.SplitSeq(x.allowed, ",") {
				p, err := keys.ParsePrefix(text)
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				k.AllowedIPs = append(k.AllowedIPs, p)
			}
		}
		if got := k.AllowsIP(addr(x.from)); got != x.want {
			t.Errorf("allowed %q, from %q: %t", x.allowed, x.from, got)
		}
	}
}

func TestParsePrefixRefusesGarbage(t *testing.T) {
	for _, s := range []string{
		"", " ", "x", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/08",
		"10.0.0.1/8", "2001:db8::1/32", "::ffff:10.1.2.3/104", "::ffff:0:0/90", "fe80::1%eth0", "fe80::%eth0/10", "1.2.3.4:80", "[::1]", "::1/129",
		"localhost", "*", "10.*", "0x0a.0.0.1", "167772161", "10.0.0.0-10.0.0.9", "10.0.0.0/255.0.0.0", strings.Repeat("1", 1<<16),
	} {
		if p, err := keys.ParsePrefix(s); err == nil {
			t.Errorf("%.40q is %s", s, p)
		} else if len(s) > 3 && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats %.40q", s)
		}
	}
}

// TestAllowedIPsReadBack says that what is shown is what was meant.
func TestAllowedIPsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 4, 4), rapid.SliceOfN(rapid.Byte(), 16, 16)).Draw(t, "address")
		a, _ := netip.AddrFromSlice(raw)
		a = a.Unmap()
		p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
		k := keys.Grants{AllowedIPs: []netip.Prefix{p}}
		got, err := keys.ParsePrefix(k.AllowedIPStrings()[0])
		if err != nil || got != p {
			t.Fatalf("%s shows as %v and reads as %v, %v", p, k.AllowedIPStrings(), got, err)
		}
		if !k.AllowsIP(a) || a.Is4() && !k.AllowsIP(netip.AddrFrom16(a.As16())) {
			t.Fatalf("%s does not allow %s", p, a)
		}
	})
	if s := (&keys.Grants{}).AllowedIPStrings(); s == nil || len(s) > 0 {
		t.Errorf("no list shows as %#v", s)
	}
}

func TestClientIP(t *testing.T) {
	trusted := keys.TrustedProxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, x := range []struct {
		peer      string
		forwarded []string
		want      string // empty: the zero address
	}{
		{"203.0.113.9", nil, "203.0.113.9"},
		{"203.0.113.9", []string{"1.1.1.1"}, "203.0.113.9"}, // nobody vouches for the header
		{"10.0.0.1", nil, "10.0.0.1"},
		{"10.0.0.1", []string{""}, "10.0.0.1"},
		{"::ffff:10.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"}, // the client wrote 1.1.1.1 itself
		{"10.0.0.1", []string{"1.1.1.1", "203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"10.0.0.1", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"10.0.0.1", []string{"[2001:db9::1]:4711"}, "2001:db9::1"},
		{"10.0.0.1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"2001:db8::5", []string{"2001:db9::1"}, "2001:db9::1"},
		{"10.0.0.1", []string{"1.1.1.1, unknown"}, ""},
		{"10.0.0.1", []string{"1.1.1.1, <script>, 10.0.0.2"}, ""},
	} {
		if got := trusted.ClientIP(addr(x.peer), x.forwarded); got != addr(x.want) {
			t.Errorf("peer %s, forwarded %q: %s, want %q", x.peer, x.forwarded, got, x.want)
		}
	}
	// With no proxies the header is never read.
	if got := (keys.TrustedProxies)(nil).ClientIP(addr("10.0.0.1"), []string{"1.1.1.1"}); got != addr("10.0.0.1") {
		t.Errorf("no trusted proxies: %s", got)
	}
}
