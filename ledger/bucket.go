package ledger

import (
	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
)

// Unit is what a quantity counts.
type Unit string

const (
	UnitTokens   Unit = "tokens" // priced per 1,000,000
	UnitImages   Unit = "images"
	UnitRequests Unit = "requests"
)

// Bucket is one separately priced part of usage. Buckets are disjoint.
type Bucket string

const (
	BucketInput        Bucket = "input"
	BucketCacheRead    Bucket = "cache_read"
	BucketCacheWrite5m Bucket = "cache_write_5m"
	BucketCacheWrite1h Bucket = "cache_write_1h"
	BucketOutput       Bucket = "output"
	BucketReasoning    Bucket = "reasoning"
	BucketImages       Bucket = "images"
	BucketRequests     Bucket = "requests"
)

// Of is what an event with these tokens and images has in the bucket: 1 of
// requests, 0 of a bucket that does not exist.
func (b Bucket) Of(t events.Tokens, images uint64) uint64 {
	return b.sumOf(&Quantity{Tokens: t, Images: images, Requests: 1})
}

// sumOf is what a quantity has in the bucket.
func (b Bucket) sumOf(q *Quantity) uint64 {
	for i := range buckets {
		if buckets[i].name == b {
			return buckets[i].quantity(&q.Tokens, q.Images, q.charged())
		}
	}
	return 0
}

// buckets says for each bucket where its price and its quantity are. Their order
// is the order of invoice lines.
var buckets = [...]struct {
	name     Bucket
	unit     Unit
	price    func(*catalog.Price) decimal.Decimal
	quantity func(t *events.Tokens, images, requests uint64) uint64
}{
	{BucketInput, UnitTokens,
		func(p *catalog.Price) decimal.Decimal { return p.Input },
		func(t *events.Tokens, _, _ uint64) uint64 { return t.Input }},
	{BucketCacheRead, UnitTokens,
		func(p *catalog.Price) decimal.Decimal { return p.CacheRead },
		func(t *events.Tokens, _, _ uint64) uint64 { return t.CacheRead }},
	{BucketCacheWrite5m, UnitTokens,
		func(p *catalog.Price) decimal.Decimal { return p.CacheWrite5m },
		func(t *events.Tokens, _, _ uint64) uint64 { return t.CacheWrite5m }},
	{BucketCacheWrite1h, UnitTokens,
		func(p *catalog.Price) decimal.Decimal { return p.CacheWrite1h },
		func(t *events.Tokens, _, _ uint64) uint64 { return t.CacheWrite1h }},
	{BucketOutput, UnitTokens,
		func(p *catalog.Price) decimal.Decimal { return p.Output },
		func(t *events.Tokens, _, _ uint64) uint64 { return t.Output }},
	{BucketReasoning, UnitTokens,
		func(p *catalog.Price) decimal.Decimal { return p.Reasoning },
		func(t *events.Tokens, _, _ uint64) uint64 { return t.Reasoning }},
	{BucketImages, UnitImages,
		func(p *catalog.Price) decimal.Decimal { return p.Image },
		func(_ *events.Tokens, images, _ uint64) uint64 { return images }},
	{BucketRequests, UnitRequests,
		func(p *catalog.Price) decimal.Decimal { return p.Request },
		func(_ *events.Tokens, _, requests uint64) uint64 { return requests }},
}
