package keys

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// allowedIPsMax bounds a key's list, which is searched on each request.
const allowedIPsMax = 256

// mappedBits is how much of an IPv4-mapped IPv6 address, ::ffff:a.b.c.d, is not
// the IPv4 address.
const mappedBits = 96

// ParsePrefix reads an address or a CIDR, as allowed_ips has them. An address
// becomes the prefix of itself, an IPv4-mapped one becomes IPv4. It refuses zones
// and a CIDR with bits set past its length: 10.0.0.1/8 may mean one host or
// sixteen million. The error does not repeat s.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("is not an address or CIDR")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("is not an address or CIDR")
	}
	if p.Addr().Is4In6() {
		if p.Bits() < mappedBits {
			return netip.Prefix{}, fmt.Errorf("mixes IPv4 and IPv6 addresses: write them apart")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("has bits set past its length: for the network write %s", p.Masked())
	}
	return p, nil
}

// parseAllowedIPs reads a list, without repetitions.
func parseAllowedIPs(texts []string) ([]netip.Prefix, error) {
	const field = "allowed_ips"
	if len(texts) > allowedIPsMax {
		return nil, &FieldError{field, fmt.Sprintf("has more than %d items", allowedIPsMax)}
	}
	var list []netip.Prefix
	for i, text := range texts {
		p, err := ParsePrefix(text)
		if err != nil {
			return nil, &FieldError{field, fmt.Sprintf("item %d %v", i+1, err)}
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list, nil
}

// AllowsIP reports whether the key may be used from an address. IPv4-mapped
// addresses count as IPv4, zones are ignored. The zero address, somebody
// unknown, is allowed only where everybody is.
func (g *Grants) AllowsIP(a netip.Addr) bool {
	if len(g.AllowedIPs) == 0 {
		return true
	}
	return containsIP(g.AllowedIPs, a)
}

func containsIP(list []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// AllowedIPStrings are the allowed addresses and CIDRs, as ParsePrefix reads
// them: a single address without its length. Never nil.
func (g *Grants) AllowedIPStrings() []string {
	texts := make([]string, len(g.AllowedIPs))
	for i, p := range g.AllowedIPs {
		texts[i] = p.String()
		if p.IsSingleIP() {
			texts[i] = p.Addr().String()
		}
	}
	return texts
}

// TrustedProxies are the addresses whose word about a client's address is taken.
type TrustedProxies []netip.Prefix

// ClientIP is the address a request comes from. peer is the other end of the
// connection, forwarded the values of X-Forwarded-For in their order. Each proxy
// appends the address it was called from, so the list is read from its end, and
// only as long as the address read last is a trusted proxy's: whatever stands
// further left may be the client's invention. It returns the zero address, which
// AllowsIP treats as a stranger, if a trusted proxy passes on what is no address.
func (t TrustedProxies) ClientIP(peer netip.Addr, forwarded []string) netip.Addr {
	client := peer.Unmap().WithZone("")
	if !containsIP(t, client) {
		return client
	}
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for _, hop := range slices.Backward(hops) {
		if hop = strings.TrimSpace(hop); hop == "" {
			continue
		}
		a, err := netip.ParseAddr(hop)
		if err != nil {
			// Some proxies add the port.
			ap, err := netip.ParseAddrPort(hop)
			if err != nil {
				return netip.Addr{}
			}
			a = ap.Addr()
		}
		client = a.Unmap().WithZone("")
		if !containsIP(t, client) {
			return client
		}
	}
	return client
}
