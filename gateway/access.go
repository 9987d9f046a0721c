package gateway

import (
	"net/http"
	"net/netip"
	"time"

	"aione/keys"
)

// authenticate finds the key of a request and checks that it may chat, and from
// there.
func (g *Gateway) authenticate(c client, r *http.Request, now time.Time) (*keys.Key, *apiError) {
	secret := c.secret(r)
	if secret == "" {
		return nil, errNoKey
	}
	key, err := g.config.Keys.Verify(secret, now)
	if err != nil {
		return nil, keyError(secret, err)
	}
	if !key.Has(keys.ScopeChat) {
		return nil, scopeError(keys.ScopeChat)
	}
	if len(key.AllowedIPs) > 0 && !key.AllowsIP(g.clientIP(r)) {
		return nil, addressNotAllowed(keys.Mask(secret))
	}
	return key, nil
}

// clientIP is where a request comes from: the peer, or, if that is one of our
// proxies, the last address in X-Forwarded-For that is not. What stands before it
// is the client's own word. The zero address is in no prefix.
func (g *Gateway) clientIP(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return keys.TrustedProxies(g.config.TrustedProxies).ClientIP(peer.Addr(), r.Header.Values("X-Forwarded-For"))
}
