package catalog

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
)

// starterJSON is a catalog to begin with: current public models under the names
// their providers give them. Its prices are examples and no offer: public list
// prices of the lowest tier, where they are in dollars at 7.2 CNY. The operator
// supersedes them by PublishPrice before the first customer. They start in 2020,
// so that imported usage finds a price. Providers count a picture's tokens as output
// as well, so its price is what the list price adds to theirs. A fee per request is
// that of the smallest search context.
//
//go:embed starter.json
var starterJSON []byte

// StarterEntry is a model with its first price.
type StarterEntry struct {
	Model Model `json:"model"`
	Price Price `json:"price"`
}

// Starter is the catalog that ships with the program. Its prices are examples,
// for the operator to replace.
func Starter() []StarterEntry {
	var entries []StarterEntry
	if err := json.Unmarshal(starterJSON, &entries); err != nil {
		panic("catalog: starter.json does not parse: " + err.Error()) // compiled in, and tested
	}
	for i := range entries {
		entries[i].Price.Model = entries[i].Model.ID
	}
	return entries
}

// Install registers the entries' models and publishes their first prices,
// backdated as they say. What is there already stays as it is, so it may be run
// again and again, also after an error. It returns how many models it added to
// or gave a price.
func (c *Catalog) Install(ctx context.Context, log Appender, entries []StarterEntry, by By) (installed int, err error) {
	for _, entry := range entries {
		e := c.current.Load().byModel[entry.Model.ID]
		if e != nil && e.registered && len(e.prices) > 0 {
			continue
		}
		if e == nil || !e.registered {
			if err := c.RegisterModel(ctx, log, entry.Model, by); err != nil {
				return installed, fmt.Errorf("install %s: %w", entry.Model.ID, err)
			}
		}
		if _, err := c.PublishPrice(ctx, log, Publication{Price: entry.Price, Backdate: true}, by); err != nil {
			return installed, fmt.Errorf("install %s: %w", entry.Model.ID, err)
		}
		installed++
	}
	return installed, nil
}
