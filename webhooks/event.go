package webhooks

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// Event is what a record of the ledger means to a customer.
type Event struct {
	OrgID uuid.UUID
	Type  string // e.g. "invoice.issued"
	Data  any    // becomes the body's "data"; must not change for the same record
}

// Translate makes an event of a record; false if it is none. It is called for every
// record of the ledger, those of older builds too, and again at each attempt, also
// concurrently. It must be quick and depend on nothing but the record, and for a
// type that is announced it must not begin to take records that it used to pass
// over.
type Translate func(events.Record) (Event, bool)

// TypeTest is the type of the message that Commands.Test sends. Endpoints get it
// whatever types they want.
const TypeTest = "webhook.test"

// messageID names the message that tells of a record: the same for each endpoint,
// attempt and replay.
func messageID(record uuid.UUID) uuid.UUID {
	return events.DeriveID("webhook-message", record[:])
}

const messagePrefix = "msg_"

func formatMessageID(id uuid.UUID) string { return messagePrefix + hex.EncodeToString(id[:]) }

func parseMessageID(s string) (id uuid.UUID, ok bool) {
	digits, ok := strings.CutPrefix(s, messagePrefix)
	if !ok || len(digits) != 2*len(id) {
		return uuid.Nil, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}

// bodyOf is the body of every attempt, as Standard Webhooks recommends; timestamp
// is when it happened, not when it is sent.
func bodyOf(e Event, at time.Time) ([]byte, error) {
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      any       `json:"data"`
	}{e.Type, at.UTC(), e.Data})
	if err != nil {
		return nil, fmt.Errorf("encode an event %s: %w", e.Type, err)
	}
	return body, nil
}
