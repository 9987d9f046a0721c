package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"aione/catalog"
	"aione/events"
	"aione/keys"

	"github.com/go-json-experiment/json"
)

type modelList struct {
	Object string      `json:"object"`
	Data   []modelItem `json:"data"`
}

type modelItem struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// models lists what this key may use now, by standard id: enabled, routed, and
// with a price in force unless the key is a sandbox key.
func (g *Gateway) models(w http.ResponseWriter, r *http.Request) {
	now := g.config.Now()
	w.Header().Set("X-Request-Id", events.NewID().String())
	key, e := g.authenticate(openAI{}, r, now)
	if e != nil {
		writeError(w, openAI{}, e)
		return
	}
	list := modelList{Object: "list", Data: []modelItem{}}
	for _, m := range g.config.Catalog.Models() {
		if !m.Enabled || !g.allows(key, m.ID) || !g.callable(m, key) {
			continue
		}
		list.Data = append(list.Data, modelItem{ID: m.ID, Object: "model", Created: m.CreatedAt.Unix(), OwnedBy: m.Provider})
	}
	slices.SortFunc(list.Data, func(a, b modelItem) int { return cmp.Compare(a.ID, b.ID) })
	body, err := json.Marshal(list)
	if err != nil {
		g.logger.Error("list the models", "error", err)
		writeError(w, openAI{}, errInternal)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// allows reports whether a key and its org's plan have a model.
func (g *Gateway) allows(key *keys.Key, model string) bool {
	return key.AllowsModel(model) && (g.config.Plans == nil || g.config.Plans.AllowsModel(key.OrgID, model, g.config.Now()))
}

func (g *Gateway) callable(m catalog.Model, key *keys.Key) bool {
	if len(g.routes.Load().of(m, key.Sandbox)) == 0 {
		return false
	}
	if key.Sandbox {
		return true
	}
	_, err := g.price(key, m.ID, g.config.Now())
	return err == nil
}

// price is that in force, if it is one that the org can be billed in; else
// catalog.ErrNoPrice.
func (g *Gateway) price(key *keys.Key, model string, at time.Time) (catalog.Price, error) {
	p, err := g.config.Catalog.PriceAt(model, at)
	if err != nil || g.config.Plans == nil {
		return p, err
	}
	if currency, ok := g.config.Plans.Currency(key.OrgID); !ok || currency != p.Currency {
		return p, fmt.Errorf("%w: %s is priced in %s", catalog.ErrNoPrice, model, p.Currency)
	}
	return p, nil
}
