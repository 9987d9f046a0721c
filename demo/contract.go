package demo

import (
	"fmt"
	"math/big"
	"sort"
	"strings"
)

// contract is what an org has agreed to, as the recount knows it. Amounts are fen.
type contract struct {
	plan       string // code; empty: pay as you go
	fee        int64  // a month, in advance
	included   uint64 // tokens a month
	pct, vat   int64  // discount on usage; tax on top
	promo      int64  // given, used first
	topUp      int64  // paid in advance
	days, of   int64  // of the month under the plan
	paidByBank bool   // the invoice is paid when it has come
}

// contracts are those of the orgs: a plan with everything, pay as you go, and
// prepaid. The first org's plan begins with the day in its zone on which the demo
// begins, the 17th of November.
var contracts = []contract{
	{plan: "team", fee: 199_00, included: 300_000, pct: 10, vat: 6, promo: 50_00, days: 14, of: 30},
	{paidByBank: true},
	{topUp: 1000_00},
}

// lineKey names an invoice line.
type lineKey struct{ kind, model, version, bucket string }

// expectedLine is an invoice line by the recount.
type expectedLine struct {
	quantity uint64
	fen      *big.Int
}

// expectedInvoice is what an org must be billed.
type expectedInvoice struct {
	lines                             map[lineKey]expectedLine
	subtotal, discount, tax           *big.Int
	creditsApplied, total, creditLeft *big.Int
}

var buckets = []string{"input", "cache_read", "output", "reasoning"}

// price is that of a bucket.
func (p unitPrices) price(bucket string) *big.Rat {
	return map[string]*big.Rat{"input": p.input, "cache_read": p.cacheRead, "output": p.output, "reasoning": p.reasoning}[bucket]
}

// bill works an invoice out from quantities and contract: usage at list price, less
// what is included, less the discount; fees; tax on all; credits. Each line is
// rounded once.
func (c contract) bill(quantity map[lineKey]uint64, priceOf func(version string) unitPrices) expectedInvoice {
	b := expectedInvoice{lines: map[lineKey]expectedLine{}, subtotal: new(big.Int), discount: new(big.Int), tax: new(big.Int)}
	usage := new(big.Int)
	keys := sortedLines(quantity)
	add := func(k lineKey, quantity uint64, fen, sum *big.Int) {
		if fen.Sign() != 0 || quantity != 0 {
			b.lines[k] = expectedLine{quantity, fen}
			sum.Add(sum, fen)
		}
	}
	for _, k := range keys {
		add(k, quantity[k], fen(amount(quantity[k], priceOf(k.version).price(k.bucket))), usage)
	}
	for i, share := range shares(keys, quantity, c.included*uint64(c.days)/uint64(max(c.of, 1))) {
		k := keys[i]
		off := fen(amount(share, priceOf(k.version).price(k.bucket)))
		k.kind = "included"
		add(k, share, off.Neg(off), usage)
	}
	b.discount = fen(big.NewRat(c.pct, 100).Mul(big.NewRat(c.pct, 100), yuan(usage)))
	add(lineKey{kind: "discount"}, 0, new(big.Int).Neg(b.discount), new(big.Int))
	b.subtotal.Set(usage)
	add(lineKey{kind: "fee"}, 0, fen(big.NewRat(c.fee*c.days, 100*max(c.of, 1))), b.subtotal)
	add(lineKey{kind: "fee_advance"}, 0, big.NewInt(c.fee), b.subtotal)
	net := new(big.Int).Sub(b.subtotal, b.discount)
	b.tax = fen(new(big.Rat).Mul(big.NewRat(c.vat, 100), yuan(net)))
	add(lineKey{kind: "tax"}, 0, b.tax, new(big.Int))
	gross := net.Add(net, b.tax)
	credit := big.NewInt(c.promo + c.topUp)
	b.creditsApplied = new(big.Int).Set(credit)
	if credit.Cmp(gross) > 0 {
		b.creditsApplied.Set(gross)
	}
	add(lineKey{kind: "credit"}, 0, new(big.Int).Neg(b.creditsApplied), new(big.Int))
	b.total, b.creditLeft = gross.Sub(gross, b.creditsApplied), credit.Sub(credit, b.creditsApplied)
	return b
}

func yuan(fen *big.Int) *big.Rat { return new(big.Rat).SetFrac(fen, big.NewInt(100)) }

// sortedLines are the lines of usage in the order of an invoice.
func sortedLines(quantity map[lineKey]uint64) []lineKey {
	place := func(k lineKey) string {
		return fmt.Sprint(k.model, "\x00", k.version, "\x00", strings.Index(strings.Join(buckets, " "), k.bucket)+100)
	}
	keys := make([]lineKey, 0, len(quantity))
	for k := range quantity {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return place(keys[i]) < place(keys[j]) })
	return keys
}

// shares split included tokens over lines in proportion to their quantities, in
// whole tokens: each gets what the division gives, and what is left goes to those
// with the largest remainders, the first ones of equals. Lines of nothing are left out.
func shares(keys []lineKey, quantity map[lineKey]uint64, included uint64) map[int]uint64 {
	sum := new(big.Int)
	for _, k := range keys {
		sum.Add(sum, new(big.Int).SetUint64(quantity[k]))
	}
	total := new(big.Int).SetUint64(included)
	if total.Cmp(sum) > 0 {
		total.Set(sum)
	}
	out := map[int]uint64{}
	if sum.Sign() == 0 {
		return out
	}
	rests, left := make([]*big.Int, len(keys)), new(big.Int).Set(total)
	for i, k := range keys {
		share, rest := new(big.Int).QuoRem(new(big.Int).Mul(total, new(big.Int).SetUint64(quantity[k])), sum, new(big.Int))
		out[i], rests[i] = share.Uint64(), rest
		left.Sub(left, share)
	}
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return rests[order[a]].Cmp(rests[order[b]]) > 0 })
	for i := range int(left.Int64()) {
		out[order[i]]++
	}
	for i, n := range out {
		if n == 0 {
			delete(out, i)
		}
	}
	return out
}
