// Package catalog holds the models that can be called and what they cost from
// which instant on.
//
// Invariants: a price version is never edited, only superseded by one with a
// later EffectiveFrom; its prices have at most PriceScaleMax decimal places, so
// that tokens × price ÷ 1,000,000 is exact at events.CostScale; a model without
// a price in force is an error, never free.
//
// It does no I/O and reads no clock: records of the ledger come in by Apply, and
// every question names its instant.
package catalog

import (
	"time"

	"github.com/shopspring/decimal"
)

// PriceScaleMax is the number of decimal places a price per million tokens may
// have: 6 of its own and 6 of the division make events.CostScale.
const PriceScaleMax = 6

// Price is one price version of a model: what each bucket costs from
// EffectiveFrom until a later version of the model takes over. Token prices are
// per 1,000,000 tokens, Image per image, Request per request, all in Currency.
type Price struct {
	Version       string          `json:"version"` // "<model>@<n>", n counts from 1
	Model         string          `json:"model"`
	EffectiveFrom time.Time       `json:"effective_from"` // UTC
	Currency      string          `json:"currency"`       // ISO 4217
	Input         decimal.Decimal `json:"input"`
	CacheRead     decimal.Decimal `json:"cache_read"`
	CacheWrite5m  decimal.Decimal `json:"cache_write_5m"`
	CacheWrite1h  decimal.Decimal `json:"cache_write_1h"`
	Output        decimal.Decimal `json:"output"`
	Reasoning     decimal.Decimal `json:"reasoning"`
	Image         decimal.Decimal `json:"image"`
	Request       decimal.Decimal `json:"request"`
}
