package catalog

import (
	"time"

	"github.com/shopspring/decimal"
)

// ModelInfo is a model with the price in force at an instant, as clients see it.
// Token prices are per 1,000,000 tokens. What only a price can say is nil when
// none is in force: the model cannot be called then.
type ModelInfo struct {
	ID               string           `json:"id"`
	Name             string           `json:"name"`
	Provider         string           `json:"provider"`
	ContextLength    uint64           `json:"context_length"` // tokens
	InputPrice       *decimal.Decimal `json:"input_price"`
	OutputPrice      *decimal.Decimal `json:"output_price"`
	CachedInputPrice *decimal.Decimal `json:"cached_input_price"`
	CacheWritePrice  *decimal.Decimal `json:"cache_write_price"` // kept for 5 minutes
	ImagePrice       *decimal.Decimal `json:"image_price"`       // per image
	Currency         *string          `json:"currency"`
	PriceVersion     *string          `json:"price_version"`
	EffectiveFrom    *time.Time       `json:"effective_from"`
	Enabled          bool             `json:"enabled"`
}

// ModelsAt are the registered models by id, disabled ones included, with the
// prices in force at an instant.
func (c *Catalog) ModelsAt(at time.Time) []ModelInfo {
	models := c.Models()
	infos := make([]ModelInfo, len(models))
	for i, m := range models {
		infos[i] = ModelInfo{ID: m.ID, Name: m.Name, Provider: m.Provider, ContextLength: m.ContextLength, Enabled: m.Enabled}
		if p, err := c.PriceAt(m.ID, at); err == nil {
			infos[i].price(p)
		}
	}
	return infos
}

func (m *ModelInfo) price(p Price) {
	m.InputPrice, m.OutputPrice, m.CachedInputPrice, m.CacheWritePrice, m.ImagePrice = &p.Input, &p.Output, &p.CacheRead, &p.CacheWrite5m, &p.Image
	m.Currency, m.PriceVersion, m.EffectiveFrom = &p.Currency, &p.Version, &p.EffectiveFrom
}
