package events

import (
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// RecordVersion is the newest record format this build writes and understands.
const RecordVersion = 1

// Record is one entry of the LEDGER stream: orgs, keys, prices, plans, money. It
// names who did what and why; Data belongs to the package that owns Type.
type Record struct {
	ID      uuid.UUID       `json:"id"`
	Type    string          `json:"type"` // e.g. "org.created"
	Version int             `json:"version"`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor"`            // who: "cli:alice", "invoicer", "key:…"
	Reason  string          `json:"reason,omitempty"` // why, in the actor's words
	Data    json.RawMessage `json:"data"`

	Seq     uint64 `json:"-"` // stream sequence; 0 before it is appended
	Subject string `json:"-"`

	// More records follow that were appended with this one, by one call. A read model
	// that must not show part of what was one decision waits for the last of them.
	More bool `json:"-"`
}

// ErrNewerRecord is returned when a record was written by a newer version that
// this build does not understand.
var ErrNewerRecord = errors.New("record was written by a newer version")

// NewRecord mints a record around data.
func NewRecord(typ string, at time.Time, actor, reason string, data any) (Record, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Record{}, fmt.Errorf("encode %s: %w", typ, err)
	}
	return Record{ID: NewID(), Type: typ, Version: RecordVersion, At: at.UTC(), Actor: actor, Reason: reason, Data: raw}, nil
}

// Into decodes Data.
func (r Record) Into(v any) error {
	if r.Version > RecordVersion {
		return fmt.Errorf("%s at ledger sequence %d has version %d, this build knows %d: %w", r.Type, r.Seq, r.Version, RecordVersion, ErrNewerRecord)
	}
	if err := json.Unmarshal(r.Data, v); err != nil {
		return fmt.Errorf("decode %s at ledger sequence %d: %w", r.Type, r.Seq, err)
	}
	return nil
}

// Subjects of the LEDGER stream. A subject is the unit of optimistic
// concurrency: one entity, one subject.
func OrgSubject(org uuid.UUID) string      { return "LEDGER.org." + org.String() }
func KeySubject(org, key uuid.UUID) string { return "LEDGER.key." + org.String() + "." + key.String() }

// KeysSubject names the subjects of all keys of an org, for Append.ExpectOn and
// LastOn: whoever makes a key must know how many there are.
func KeysSubject(org uuid.UUID) string { return "LEDGER.key." + org.String() + ".*" }

// PepperSubject carries the fingerprint of a version of the keys' pepper, once.
func PepperSubject(version int32) string { return "LEDGER.pepper." + strconv.Itoa(int(version)) }

func PriceSubject(model string) string    { return "LEDGER.price." + subjectToken(model) }
func JournalSubject(org uuid.UUID) string { return "LEDGER.journal." + org.String() }
func RunSubject(org uuid.UUID, p string) string {
	return "LEDGER.run." + org.String() + "." + subjectToken(p)
}

// SeriesSubject carries the numbers of a legal entity's invoices in a year.
func SeriesSubject(entity string, year int) string {
	return fmt.Sprintf("LEDGER.series.%s.%04d", subjectToken(entity), year)
}

// subjectToken makes any text one subject token; different texts stay different.
func subjectToken(s string) string {
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(s)))
}
