package node

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"aione/gateway"
)

// routing is who serves which model: the routes file, or one provider for all.
func (n *Node) routing(c ServeConfig, simulated gateway.Upstream) (gateway.Routing, error) {
	upstream := simulated
	switch {
	case c.RoutesFile != "" && c.UpstreamURL != "":
		return gateway.Routing{}, errors.New("name the providers once: in the routes file, or by --upstream-url")
	case c.RoutesFile != "":
		return n.readRouting(c.RoutesFile)
	case c.UpstreamURL != "":
		upstream = gateway.Upstream{Name: c.UpstreamAs, BaseURL: c.UpstreamURL, APIKey: c.UpstreamKey, Dialect: gateway.Dialect(c.UpstreamDialect)}
	}
	return gateway.Routing{Default: gateway.Route{Upstreams: []gateway.Upstream{upstream}}}, nil
}

// readRouting warns of names that the catalog does not know, or not yet: a typing
// error there would serve nobody in silence.
func (n *Node) readRouting(path string) (gateway.Routing, error) {
	r, err := gateway.ReadRouting(path, os.Getenv)
	if err != nil {
		return r, err
	}
	models, providers := map[string]bool{}, map[string]bool{}
	for _, m := range n.Catalog.Models() {
		models[m.ID], providers[m.Provider] = true, true
	}
	for name := range r.Routes {
		if !models[name] {
			n.Logger.Warn("a route is for a model that the catalog does not have", "model", name)
		}
	}
	for name := range r.Providers {
		if !providers[name] {
			n.Logger.Warn("a route is for a provider of which the catalog has no model", "provider", name)
		}
	}
	return r, nil
}

// rerouteOnHangup reads the routes file again each time the process gets SIGHUP,
// until ctx ends. A file that is refused changes nothing. Without a routes file
// the signal does what it does to any process.
func (a *API) rerouteOnHangup(ctx context.Context) {
	if a.routes == "" {
		return
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		r, err := a.node.readRouting(a.routes)
		if err == nil {
			err = a.gateway.Reroute(r)
		}
		if err != nil {
			a.node.Logger.Error("the routes stay as they were", "error", err)
			continue
		}
		a.node.Logger.Info("the routes were read again", "file", a.routes)
	}
}
