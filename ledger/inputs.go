package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// InputsQuery asks for the usage that an invoice has to count. A usage row of
// OrgID belongs to the answer when
//
//	occurred_at < End
//	AND stream_seq <= Cut
//	AND NOT (occurred_at < Start AND stream_seq <= PreviousCut)
//	AND it is counted (no copy of an event already counted, not set aside)
//	AND it is not sandbox usage
//
// It is late when occurred_at < Start: it belongs to a period that was closed at
// PreviousCut, before the row arrived. As cuts of an org never fall, each row is
// in the answer of exactly one of the org's periods.
type InputsQuery struct {
	OrgID       uuid.UUID
	Start       time.Time // UTC, inclusive
	End         time.Time // UTC, exclusive
	Cut         uint64    // sequence in the org's USAGE stream; rows after it are not counted yet
	PreviousCut uint64    // cut of the org's previous period, 0 when there is none
	Timezone    string    // IANA zone of the org, for Quantity.Origin only
}

// Quantity is the usage of one group: rows are grouped by model, price version
// and origin.
type Quantity struct {
	Model        string `json:"model"`
	PriceVersion string `json:"price_version"`

	// Late usage occurred before InputsQuery.Start. Origin is then the label
	// ("2023-11") of the calendar month of occurred_at in InputsQuery.Timezone, and
	// empty otherwise.
	Late   bool   `json:"late"`
	Origin string `json:"origin,omitempty"`

	Tokens   events.Tokens   `json:"tokens"`   // sums
	Images   uint64          `json:"images"`   // sum
	Requests uint64          `json:"requests"` // number of rows
	Cost     decimal.Decimal `json:"cost"`     // exact sum of the costs stamped on the rows
}

// Inputs is the answer to an InputsQuery. The order of Quantities has no meaning:
// Bill sorts them.
type Inputs struct {
	Quantities []Quantity `json:"quantities"`
	Rows       uint64     `json:"rows"` // all rows counted, = Σ Requests

	// RowsDigest identifies the exact set of rows. It must not depend on their
	// order. This package only stores and hashes it; it may be empty.
	RowsDigest string `json:"rows_digest,omitempty"`
}

// ErrInputs is returned when Inputs contradict themselves: the source that
// counted them is broken.
var ErrInputs = errors.New("invoice inputs contradict themselves")

// sorted returns the quantities in their one canonical order, checked.
func (in Inputs) sorted() ([]Quantity, error) {
	qs := slices.Clone(in.Quantities)
	slices.SortFunc(qs, compareQuantities)
	rows := uint64(0)
	for i, q := range qs {
		switch {
		case i > 0 && compareQuantities(qs[i-1], q) == 0:
			return nil, fmt.Errorf("%w: %s %s %q occurs twice", ErrInputs, q.Model, q.PriceVersion, q.Origin)
		case q.Late != (q.Origin != ""):
			return nil, fmt.Errorf("%w: %s late is %t but its origin is %q", ErrInputs, q.Model, q.Late, q.Origin)
		case q.Requests == 0:
			return nil, fmt.Errorf("%w: %s %s has no rows", ErrInputs, q.Model, q.PriceVersion)
		case q.Cost.IsNegative():
			return nil, fmt.Errorf("%w: %s %s has a negative cost %s", ErrInputs, q.Model, q.PriceVersion, q.Cost)
		}
		rows += q.Requests
		if rows < q.Requests {
			return nil, fmt.Errorf("%w: the number of rows overflows", ErrInputs)
		}
	}
	if rows != in.Rows {
		return nil, fmt.Errorf("%w: %d rows in all, but the groups have %d", ErrInputs, in.Rows, rows)
	}
	return qs, nil
}

// compareQuantities orders usage in time before late usage, older origins first.
func compareQuantities(a, b Quantity) int {
	return cmp.Or(
		cmp.Compare(a.Origin, b.Origin),
		cmp.Compare(a.Model, b.Model),
		cmp.Compare(a.PriceVersion, b.PriceVersion),
	)
}
