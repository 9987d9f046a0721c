package httpapi

import (
	"net/http"
	"time"

	"aione/catalog"
	"aione/keys"

	"github.com/shopspring/decimal"
)

// modelInfo is a model with the prices in force now. Prices are null while none
// is: the model cannot be called then.
type modelInfo struct {
	ID               string  `json:"id"`
	Name             string  `json:"name"`
	Provider         string  `json:"provider"`
	ContextLength    uint64  `json:"context_length" doc:"Tokens."`
	InputPrice       *string `json:"input_price" format:"decimal" doc:"Per 1,000,000 tokens, as are the others."`
	OutputPrice      *string `json:"output_price" format:"decimal"`
	CachedInputPrice *string `json:"cached_input_price" format:"decimal"`
	CacheWritePrice  *string `json:"cache_write_price" format:"decimal"`
	ImagePrice       *string `json:"image_price" format:"decimal" doc:"Per image."`
	Currency         *string `json:"currency" doc:"ISO 4217."`
	PriceVersion     *string `json:"price_version"`
	EffectiveFrom    *string `json:"effective_from" format:"date-time"`
	Enabled          bool    `json:"enabled"`
}

type modelListResponse struct {
	Items []modelInfo `json:"items"`
	Total int         `json:"total" minimum:"0"`
}

func newModelInfo(m catalog.ModelInfo) modelInfo {
	return modelInfo{
		ID: m.ID, Name: m.Name, Provider: m.Provider, ContextLength: m.ContextLength, Enabled: m.Enabled,
		InputPrice: decimalOrNull(m.InputPrice), OutputPrice: decimalOrNull(m.OutputPrice),
		CachedInputPrice: decimalOrNull(m.CachedInputPrice), CacheWritePrice: decimalOrNull(m.CacheWritePrice),
		ImagePrice: decimalOrNull(m.ImagePrice), Currency: m.Currency, PriceVersion: m.PriceVersion, EffectiveFrom: whenOrNull(m.EffectiveFrom),
	}
}

func decimalOrNull(d *decimal.Decimal) *string {
	if d == nil {
		return nil
	}
	text := d.String()
	return &text
}

func whenOrNull(t *time.Time) *string {
	if t == nil {
		return nil
	}
	return instantOrNull(*t)
}

// listModels serves GET /api/v1/gateway/models.
func (s *Server) listModels(w http.ResponseWriter, _ *http.Request, _ *keys.Key) error {
	list := modelListResponse{Items: []modelInfo{}}
	for _, m := range s.config.Catalog.ModelsAt(s.config.Now()) {
		list.Items = append(list.Items, newModelInfo(m))
	}
	list.Total = len(list.Items)
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *Server) modelRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/api/v1/gateway/models", id: "listGatewayModels", tag: tagModels, summary: "List Models",
		doc:   "Every model of the platform with the prices in force now.",
		scope: keys.ScopeUsageRead, serve: s.listModels, answer: success{of: modelListResponse{}},
	}}
}
