package billing

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Defaults of a new org.
const (
	DefaultTimezone    = "Asia/Shanghai"
	DefaultCurrency    = "CNY"
	DefaultLegalEntity = "AIONE"
)

// Org is a tenant.
type Org struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	Timezone    string    `json:"timezone"`     // IANA; its calendar months are the billing periods
	Currency    string    `json:"currency"`     // ISO 4217, of all its invoices
	LegalEntity string    `json:"legal_entity"` // who invoices it; numbers are gapless per legal entity
	CreatedAt   time.Time `json:"created_at"`   // UTC
}

// Team is a cost centre in an org.
type Team struct {
	ID        uuid.UUID `json:"id"`
	OrgID     uuid.UUID `json:"org_id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"` // UTC
}

// Run is the closing of one period of an org.
type Run struct {
	OrgID       uuid.UUID     `json:"org_id"`
	Period      ledger.Period `json:"period"`
	Cut         uint64        `json:"cut"`          // usage up to this sequence was counted
	PreviousCut uint64        `json:"previous_cut"` // cut of the org's previous run, 0 for its first
	InvoiceID   uuid.UUID     `json:"invoice_id"`   // zero when there was nothing to bill
	Number      string        `json:"number,omitempty"`

	// Segments are those of a period without an invoice: late usage is billed by them.
	Segments []ledger.Segment `json:"segments,omitempty"`
	// BalanceSpent is the cost at list price of the usage counted here that the org's
	// balance at admission has paid for.
	BalanceSpent ledger.Amount `json:"balance_spent,omitzero"`
	// Late usage from before LateFrom was not billed: so many rows, for so much.
	LateFrom    time.Time     `json:"late_from,omitzero"`
	TooLateRows uint64        `json:"too_late_rows,omitempty"`
	TooLateCost ledger.Amount `json:"too_late_cost,omitzero"`

	RecordID uuid.UUID `json:"-"` // of the record that closed the period
}

// Empty reports whether the period was closed without an invoice.
func (r Run) Empty() bool { return r.InvoiceID == uuid.Nil }

// Types of the records this package writes.
const (
	TypeOrgCreated    = "org.created"         // on OrgSubject; Data: Org
	TypeTeamCreated   = "team.created"        // on OrgSubject; Data: Team
	TypeInvoiced      = "period.invoiced"     // on RunSubject; Data: Run
	TypeClosedEmpty   = "period.closed_empty" // on RunSubject; Data: Run
	TypeNumbered      = "invoice.numbered"    // on SeriesSubject; Data: Numbered
	TypeInvoiceIssued = "invoice.issued"      // on JournalSubject; Data: ledger.Entry, see Issued
	TypeNothingIssued = "invoice.none"        // on JournalSubject; Data: Run; orders an empty closing among the org's others
)

// Numbered gives numbers of a series to invoices, or to credit notes: N to the
// first, the ones after it to More.
type Numbered struct {
	Series      string    `json:"series,omitempty"` // empty: invoices; SeriesCreditNotes
	LegalEntity string    `json:"legal_entity"`
	Year        int       `json:"year"`
	N           uint64    `json:"n"` // 1 is the first
	OrgID       uuid.UUID `json:"org_id"`
	InvoiceID   uuid.UUID `json:"invoice_id"` // or the credit note's
	More        []Given   `json:"more,omitempty"`
}

// Given is what a number was given to.
type Given struct {
	OrgID     uuid.UUID `json:"org_id"`
	InvoiceID uuid.UUID `json:"invoice_id"`
}

// SeriesCreditNotes is the series of credit notes, each legal entity's own.
const SeriesCreditNotes = "CN"

// subject is where the numbers of a series are given.
func (k seriesKey) subject() string {
	if k.kind != "" { // no legal entity has a colon in its code
		return events.SeriesSubject(k.kind+":"+k.legalEntity, k.year)
	}
	return events.SeriesSubject(k.legalEntity, k.year)
}

// Issued is an invoice with its bookings: a ledger.Entry, as it is written.
type Issued struct {
	Invoice ledger.Invoice `json:"invoice"`
	Journal ledger.Journal `json:"journal"`
}

var (
	// ErrNotFound is returned when an org, team or invoice does not exist, or is
	// another org's: the two cannot be told apart from outside.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned when the id is taken by something with other content.
	ErrExists = errors.New("exists already, with other content")
	// ErrInvalid is returned when a field of a command is missing or senseless.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt is returned by Apply when the log contradicts itself.
	ErrCorrupt = errors.New("ledger records contradict each other")
)

const nameBytesMax = 256

var legalEntityForm = regexp.MustCompile(`^[A-Z0-9]{1,16}$`)

// complete fills in defaults and checks the rest.
func (o *Org) complete() error {
	if o.Timezone == "" {
		o.Timezone = DefaultTimezone
	}
	if o.Currency == "" {
		o.Currency = DefaultCurrency
	}
	if o.LegalEntity == "" {
		o.LegalEntity = DefaultLegalEntity
	}
	if o.ID == uuid.Nil {
		return fmt.Errorf("%w: org id is missing", ErrInvalid)
	}
	if err := checkName(o.Name); err != nil {
		return err
	}
	if _, err := zoneOf(o.Timezone); err != nil {
		return err
	}
	if _, ok := ledger.MinorUnits(o.Currency); !ok {
		return fmt.Errorf("%w: %.10q is no ISO 4217 currency in use", ErrInvalid, o.Currency)
	}
	if !legalEntityForm.MatchString(o.LegalEntity) {
		return fmt.Errorf("%w: legal entity %.20q is not 1 to 16 of A-Z and 0-9", ErrInvalid, o.LegalEntity)
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > nameBytesMax || !utf8.ValidString(name) || strings.TrimSpace(name) != name {
		return fmt.Errorf("%w: name %.50q is empty, over %d bytes, not UTF-8, or has blanks around it", ErrInvalid, name, nameBytesMax)
	}
	return nil
}

// zoneOf loads a zone by its IANA name, never the machine's own.
func zoneOf(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%w: time zone %q is not an IANA name", ErrInvalid, name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: time zone %.50q: %w", ErrInvalid, name, err)
	}
	return zone, nil
}
