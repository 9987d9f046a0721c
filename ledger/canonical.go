package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/shopspring/decimal"

	"aione/catalog"
)

// The canonical encoding is part of what an invoice promises: it must not change
// for invoices that exist. Each field is written in a fixed order, texts with
// their length, lists with their count, decimals in their shortest notation, so
// that no two different invoices share an encoding. It never passes through
// JSON, whose encoders are free to change.
const (
	canonicalInputsTag  = "aione.invoice-inputs.v2"
	canonicalInvoiceTag = "aione.invoice.v2"
	canonicalJournalTag = "aione.journal.v1"
)

type canonical struct{ b []byte }

func (c *canonical) uint(n uint64) { c.b = binary.BigEndian.AppendUint64(c.b, n) }

func (c *canonical) int(n int) { c.uint(uint64(n)) }

func (c *canonical) bool(b bool) {
	if b {
		c.uint(1)
	} else {
		c.uint(0)
	}
}

func (c *canonical) text(s string) {
	c.uint(uint64(len(s)))
	c.b = append(c.b, s...)
}

func (c *canonical) bytes(b []byte) { c.text(string(b)) }

func (c *canonical) decimal(d decimal.Decimal) { c.text(d.String()) }

func (c *canonical) amount(a Amount) { c.decimal(a.d) }

func (c *canonical) time(t time.Time) { c.text(t.UTC().Format(time.RFC3339Nano)) }

// list writes the count of a list, and each of its members.
func list[T any](c *canonical, members []T, write func(*T)) {
	c.int(len(members))
	for i := range members {
		write(&members[i])
	}
}

func (c *canonical) period(p *Period) {
	c.text(p.Label)
	c.time(p.Start)
	c.time(p.End)
	c.int(p.anchor())
}

func (c *canonical) price(p *catalog.Price) {
	c.text(p.Version)
	c.text(p.Model)
	c.time(p.EffectiveFrom)
	c.text(p.Currency)
	for _, b := range buckets {
		c.decimal(b.price(p))
	}
}

func (c *canonical) quantity(q *Quantity) {
	c.text(q.Model)
	c.text(q.PriceVersion)
	c.text(q.Origin)
	c.int(q.Segment)
	for _, b := range buckets {
		c.uint(b.quantity(&q.Tokens, q.Images, q.Requests))
	}
	if q.Empty > 0 { // invoices from before they were told apart have none
		c.text("empty")
		c.uint(q.Empty)
	}
	c.decimal(q.Cost)
}

func (c *canonical) segment(s *Segment) {
	c.text(s.First.String())
	c.int(s.Days)
	c.time(s.Start)
	c.time(s.End)
	c.text(s.PlanCode)
	t := &s.Terms
	c.amount(t.MonthlyFee)
	c.uint(t.IncludedTokens)
	c.amount(t.IncludedAmount)
	list(c, t.Charges, c.charge)
	c.amount(t.Commitment)
	c.decimal(t.DiscountPct)
	c.amount(t.DiscountAmount)
	c.text(string(t.OveragePolicy))
}

func (c *canonical) charge(ch *Charge) {
	c.text(ch.Name)
	c.text(string(ch.Model))
	list(c, ch.Models, func(m *string) { c.text(*m) })
	list(c, ch.Buckets, func(b *Bucket) { c.text(string(*b)) })
	list(c, ch.Tiers, func(t *Tier) {
		c.uint(t.UpTo)
		c.decimal(t.UnitPrice)
		c.amount(t.FlatFee)
	})
	c.uint(ch.PackageSize)
	c.amount(ch.PackagePrice)
	c.uint(ch.FreeUnits)
}

func (c *canonical) origin(o *Origin) {
	c.period(&o.Period)
	list(c, o.Segments, c.segment)
	list(c, o.Billed, c.quantity)
}

func (c *canonical) taxRate(r *TaxRate) {
	c.text(r.Name)
	c.decimal(r.Pct)
	c.bool(r.Inclusive)
}

func (c *canonical) taxAmount(t *TaxAmount) {
	c.taxRate(&t.TaxRate)
	c.amount(t.Base)
	c.amount(t.Amount)
}

func (c *canonical) grant(g *Grant) {
	c.bytes(g.ID[:])
	c.text(string(g.Kind))
	c.amount(g.Amount)
	c.time(g.GrantedAt)
	c.time(g.ExpiresAt)
	c.int(g.Priority)
	c.text(g.Source)
}

func (c *canonical) grantUse(u *GrantUse) {
	c.bytes(u.GrantID[:])
	c.text(string(u.Kind))
	c.amount(u.Amount)
}

func (c *canonical) correction(k *Correction) {
	c.bool(k != nil)
	if k == nil {
		return
	}
	c.bytes(k.Replaces[:])
	c.text(k.Number)
	c.int(k.N)
	c.text(k.Reason)
	list(c, k.Repriced, func(r *Repriced) {
		c.text(r.Version)
		c.price(&r.Price)
	})
}

func (c *canonical) line(l *Line) {
	c.text(string(l.Kind))
	c.text(l.Model)
	c.text(string(l.Bucket))
	c.text(l.PriceVersion)
	c.text(l.Origin)
	c.int(l.Segment)
	c.text(l.Name)
	c.int(l.Tier)
	c.uint(l.Quantity)
	c.text(string(l.Unit))
	c.decimal(l.UnitPrice)
	c.amount(l.FlatFee)
	c.int(l.Days)
	c.int(l.OfDays)
	c.decimal(l.Pct)
	c.amount(l.Base)
	c.bytes(l.GrantID[:])
	c.amount(l.Exact)
	c.amount(l.Amount)
}

// inputs writes all that the lines depend on.
func (c *canonical) inputs(inv *Invoice) {
	c.text(canonicalInputsTag)
	c.bytes(inv.OrgID[:])
	c.text(inv.LegalEntity)
	c.text(inv.Currency)
	c.period(&inv.Period)
	c.time(inv.CreatedAt) // credits are usable at an instant
	c.uint(inv.Cut)
	c.uint(inv.PreviousCut)
	list(c, inv.Segments, c.segment)
	c.segment(&inv.Next)
	c.amount(inv.Advance)
	list(c, inv.TaxRates, c.taxRate)
	list(c, inv.Credits, func(cr *Credit) {
		c.grant(&cr.Grant)
		c.amount(cr.Remaining)
	})
	list(c, inv.Origins, c.origin)
	c.correction(inv.Correction)
	list(c, inv.Prices, c.price)
	c.uint(inv.Inputs.Rows)
	c.text(inv.Inputs.RowsDigest)
	list(c, inv.Inputs.Quantities, c.quantity)
}

func (inv Invoice) hashInputs() Hash {
	var c canonical
	c.inputs(&inv)
	return sha256.Sum256(c.b)
}

// CanonicalBytes is the whole invoice in its canonical encoding, Status aside:
// that is the one thing about it that changes.
func (inv Invoice) CanonicalBytes() []byte {
	var c canonical
	c.text(canonicalInvoiceTag)
	c.bytes(inv.ID[:])
	c.text(inv.Number)
	c.inputs(&inv)
	c.bytes(inv.InputHash[:])
	c.text(inv.CreatedOn.String())
	c.int(inv.TermsDays)
	c.text(inv.DueDate.String())
	list(&c, inv.Lines, c.line)
	list(&c, inv.Taxes, c.taxAmount)
	for _, a := range []Amount{inv.Exact, inv.Subtotal, inv.Adjustments, inv.Discount, inv.Tax, inv.TaxIncluded,
		inv.CreditsApplied, inv.Carried, inv.Total} {
		c.amount(a)
	}
	return c.b
}

// chainHash is over all fields but Hash.
func (j *Journal) chainHash() Hash {
	var c canonical
	c.text(canonicalJournalTag)
	c.uint(j.Seq)
	c.bytes(j.Previous[:])
	c.bytes(j.ID[:])
	c.bytes(j.CauseID[:])
	c.bytes(j.CauseHash[:])
	list(&c, j.Transfers, c.transfer)
	return sha256.Sum256(c.b)
}

func (c *canonical) transfer(t *Transfer) {
	c.bytes(t.ID[:])
	c.text(string(t.Debit))
	c.text(string(t.Credit))
	c.amount(t.Amount)
	c.text(t.Currency)
	c.text(string(t.Code))
	c.bool(t.Reversal)
	c.time(t.At)
}
