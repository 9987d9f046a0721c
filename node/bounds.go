package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"aione/gateway"
	"aione/keys"
)

// KeyConfig bounds the keys of an org. Every process that makes keys should have the
// same; what is there already stays.
type KeyConfig struct {
	KeysMax   int `name:"org-keys-max" env:"AIONE_ORG_KEYS_MAX" default:"10000" help:"API keys of an org, without deleted ones."`
	TokensMax int `name:"org-tokens-max" env:"AIONE_ORG_TOKENS_MAX" default:"1000" help:"Management tokens of an org, without deleted ones."`
}

func (c KeyConfig) bounds() keys.Bounds {
	return keys.Bounds{KeysPerOrgMax: c.KeysMax, TokensPerOrgMax: c.TokensMax}
}

// PlacesConfig bounds chat requests in flight in one API process.
type PlacesConfig struct {
	InFlightMax    int `name:"in-flight-max" env:"AIONE_IN_FLIGHT_MAX" default:"4096" help:"Chat requests that are worked on at once."`
	OrgInFlightMax int `name:"org-in-flight-max" env:"AIONE_ORG_IN_FLIGHT_MAX" help:"The same of one org. Default: a quarter of --in-flight-max."`
}

// placesCollectors tell /metrics how many chat requests found no place.
func placesCollectors(g *gateway.Gateway) []prometheus.Collector {
	counter := func(of string, read func(gateway.Refusals) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "aione_gateway_refused_total", Help: "Chat requests refused because as many were in flight as may be, of all orgs or of theirs.",
			ConstLabels: prometheus.Labels{"of": of},
		}, func() float64 { return float64(read(g.Refusals())) })
	}
	return []prometheus.Collector{
		counter("all", func(r gateway.Refusals) uint64 { return r.InFlight }),
		counter("org", func(r gateway.Refusals) uint64 { return r.OrgInFlight }),
	}
}
