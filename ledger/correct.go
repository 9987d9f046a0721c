package ledger

import (
	"github.com/google/uuid"

	"aione/catalog"
)

// Correction says why an invoice is billed again, and what was put right. The
// invoice that it is on replaces a void one and counts the same usage.
type Correction struct {
	Replaces uuid.UUID  `json:"replaces"` // the void invoice
	Number   string     `json:"number"`   // its number
	N        int        `json:"n"`        // of the period's corrected invoices, from 1 on
	Reason   string     `json:"reason"`
	Repriced []Repriced `json:"repriced,omitempty"` // by version
}

// Repriced bills the usage stamped with a price version at another price. What
// was stamped must still be what its own version gives.
type Repriced struct {
	Version string        `json:"version"`
	Price   catalog.Price `json:"price"` // of the same model; its Version is another
}
