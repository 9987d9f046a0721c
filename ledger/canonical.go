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
	canonicalInputsTag  = "aione.invoice-inputs.v1"
	canonicalInvoiceTag = "aione.invoice.v1"
)

type canonical struct{ b []byte }

func (c *canonical) uint(n uint64) { c.b = binary.BigEndian.AppendUint64(c.b, n) }

func (c *canonical) text(s string) {
	c.uint(uint64(len(s)))
	c.b = append(c.b, s...)
}

func (c *canonical) decimal(d decimal.Decimal) { c.text(d.String()) }

func (c *canonical) time(t time.Time) { c.text(t.UTC().Format(time.RFC3339Nano)) }

func (c *canonical) period(p Period) {
	c.text(p.Label)
	c.time(p.Start)
	c.time(p.End)
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
	for _, b := range buckets {
		c.uint(b.quantity(&q.Tokens, q.Images, q.Requests))
	}
	c.decimal(q.Cost)
}

func (c *canonical) line(l *Line) {
	c.text(l.Model)
	c.text(string(l.Bucket))
	c.text(l.PriceVersion)
	c.text(l.Origin)
	c.uint(l.Quantity)
	c.text(string(l.Unit))
	c.decimal(l.UnitPrice)
	c.decimal(l.Exact.d)
	c.decimal(l.Amount.d)
}

// inputs writes all that the lines depend on.
func (c *canonical) inputs(inv *Invoice) {
	c.text(canonicalInputsTag)
	c.text(inv.OrgID.String())
	c.text(inv.LegalEntity)
	c.text(inv.Currency)
	c.period(inv.Period)
	c.uint(inv.Cut)
	c.uint(inv.PreviousCut)
	c.uint(uint64(len(inv.Prices)))
	for i := range inv.Prices {
		c.price(&inv.Prices[i])
	}
	c.uint(inv.Inputs.Rows)
	c.text(inv.Inputs.RowsDigest)
	c.uint(uint64(len(inv.Inputs.Quantities)))
	for i := range inv.Inputs.Quantities {
		c.quantity(&inv.Inputs.Quantities[i])
	}
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
	c.text(inv.ID.String())
	c.text(inv.Number)
	c.inputs(&inv)
	c.text(inv.InputHash.String())
	c.time(inv.CreatedAt)
	c.text(inv.CreatedOn.String())
	c.uint(uint64(inv.TermsDays))
	c.text(inv.DueDate.String())
	c.uint(uint64(len(inv.Lines)))
	for i := range inv.Lines {
		c.line(&inv.Lines[i])
	}
	c.decimal(inv.Exact.d)
	c.decimal(inv.Total.d)
	return c.b
}

const canonicalJournalTag = "aione.journal.v1"

// chainHash is over all fields but Hash.
func (j *Journal) chainHash() Hash {
	var c canonical
	c.text(canonicalJournalTag)
	c.uint(j.Seq)
	c.b = append(c.b, j.Previous[:]...)
	c.b = append(c.b, j.ID[:]...)
	c.b = append(c.b, j.CauseID[:]...)
	c.b = append(c.b, j.CauseHash[:]...)
	c.uint(uint64(len(j.Transfers)))
	for i := range j.Transfers {
		c.transfer(&j.Transfers[i])
	}
	return sha256.Sum256(c.b)
}

func (c *canonical) transfer(t *Transfer) {
	c.b = append(c.b, t.ID[:]...)
	c.text(string(t.Debit))
	c.text(string(t.Credit))
	c.decimal(t.Amount.d)
	c.text(t.Currency)
	c.text(string(t.Code))
	c.bool(t.Reversal)
	c.time(t.At)
}

func (c *canonical) bool(b bool) {
	if b {
		c.uint(1)
	} else {
		c.uint(0)
	}
}
