package ledger

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// What lines of usage and tiers bill is all the usage there is, each part once for
// a line, once for all the tiers of a charge.
func TestUsageOfLinesIsTheUsage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Bill(drawBillInput(t))
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		type place struct {
			model, version, origin string
			segment                int
			bucket                 Bucket
		}
		billed := map[place]uint64{}
		charges := map[string]bool{}
		for i, l := range inv.Lines {
			parts := inv.UsageOf(i + 1)
			if l.Kind == LineTier {
				key := l.Name + string(rune(l.Segment))
				if charges[key] {
					continue
				}
				charges[key] = true
			} else if l.Kind == LineUsage && (len(parts) != 1 || parts[0].Quantity != l.Quantity) {
				t.Fatalf("line %d over %d is for %+v", i+1, l.Quantity, parts)
			} else if l.Kind != LineUsage && parts != nil {
				t.Fatalf("a line of kind %s is for usage", l.Kind)
			}
			for _, p := range parts {
				billed[place{p.Model, p.PriceVersion, p.Origin, p.Segment, p.Bucket}] += p.Quantity
			}
		}
		for _, q := range inv.Inputs.Quantities {
			for _, b := range buckets {
				at := place{q.Model, q.PriceVersion, q.Origin, q.Segment, b.name}
				want := b.quantity(&q.Tokens, q.Images, q.Requests-q.Empty)
				if got := billed[at]; got != want && !(b.unit == UnitRequests && got == 0) {
					t.Fatalf("%+v: lines bill %d of %d", at, got, want)
				}
				delete(billed, at)
			}
		}
		if len(billed) > 0 {
			t.Fatalf("lines bill what was not used: %v", billed)
		}
	})
}
