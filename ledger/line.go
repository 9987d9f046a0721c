package ledger

import (
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// LineKind says what a line is for. The names cross the wire.
type LineKind string

const (
	LineUsage      LineKind = "usage"       // a bucket at list price; late with an Origin
	LineTier       LineKind = "tier"        // usage at a charge's tier
	LineIncluded   LineKind = "included"    // below zero: included tokens, or the included amount
	LineCommitment LineKind = "commitment"  // true-up to the commitment
	LineFee        LineKind = "fee"         // monthly fee of a segment of this period
	LineFeeCharged LineKind = "fee_charged" // below zero: what the previous invoice charged of this period in advance
	LineFeeAdvance LineKind = "fee_advance" // monthly fee of the next period
	LineAdjustment LineKind = "adjustment"  // what the terms of its Origin make of late usage, less the late lines
	LineDiscount   LineKind = "discount"    // below zero
	LineTax        LineKind = "tax"         // on top
	LineCredit     LineKind = "credit"      // below zero: a grant pays
	LineCarried    LineKind = "carried"     // what was below zero, carried to the org's prepaid balance
)

// Line is one line of an invoice. Amounts add up to the invoice's total: what
// lowers it is below zero.
type Line struct {
	Kind         LineKind        `json:"kind"`
	Model        string          `json:"model"`
	Bucket       Bucket          `json:"bucket"`
	PriceVersion string          `json:"price_version"`     // of usage at list price
	Origin       string          `json:"origin,omitempty"`  // label of the closed period that late usage occurred in; empty for usage in time
	Segment      int             `json:"segment,omitempty"` // index of the segment of the line's period
	Name         string          `json:"name,omitempty"`    // of the charge, plan, tax or grant
	Tier         int             `json:"tier,omitempty"`    // of the charge, from 1 on
	Quantity     uint64          `json:"quantity"`
	Unit         Unit            `json:"unit"`
	UnitPrice    decimal.Decimal `json:"unit_price"`        // per 1,000,000 tokens, per image, request or package
	FlatFee      Amount          `json:"flat_fee,omitzero"` // of the tier
	Days         int             `json:"days,omitempty"`    // prorated: Base × Days ÷ OfDays
	OfDays       int             `json:"of_days,omitempty"` // days of the period
	Pct          decimal.Decimal `json:"pct,omitzero"`      // of Base
	Base         Amount          `json:"base,omitzero"`     // what is prorated, or what Pct is of
	GrantID      uuid.UUID       `json:"grant_id,omitzero"` // of the credit used
	Exact        Amount          `json:"exact"`             // not rounded; = Amount where a ratio was rounded
	Amount       Amount          `json:"amount"`            // rounded once
}

// Late reports whether the line adjusts a period that was closed before its
// usage arrived.
func (l Line) Late() bool { return l.Origin != "" }

// account is what a line of the taxable base earns, and the code of its booking.
func (l *Line) account() (Account, Code) {
	switch l.Kind {
	case LineFee, LineFeeCharged, LineFeeAdvance:
		return RevenueFee, CodeFee
	case LineCommitment:
		return RevenueCommitment, CodeCommitment
	case LineDiscount:
		return Discounts, CodeDiscount
	}
	if l.Late() {
		return RevenueUsage, CodeLateUsage
	}
	return RevenueUsage, CodeUsage
}

// taxable reports whether a line belongs to what tax is charged on.
func (l *Line) taxable() bool {
	switch l.Kind {
	case LineTax, LineCredit, LineCarried:
		return false
	}
	return true
}
