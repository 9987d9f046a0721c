package events

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// NewID mints an id: a UUIDv7 (RFC 9562), so ids sort roughly by time of birth.
// Call it once for each thing, at its source, before the first attempt to write it.
func NewID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		// The system's random source is gone; an id that may repeat would bill wrongly.
		panic("events: no randomness for an id: " + err.Error())
	}
	return id
}

// DeriveID gives the id of a thing that has a name already: equal names give
// equal ids on every machine and at every time (UUIDv8, the first 122 free bits
// of SHA-256 over the length-prefixed parts). The kind keeps different uses of
// the same names apart.
func DeriveID(kind string, parts ...[]byte) uuid.UUID {
	h := sha256.New()
	var size [8]byte
	write := func(b []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	write([]byte(kind))
	for _, p := range parts {
		write(p)
	}
	var id uuid.UUID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // RFC 9562 variant
	return id
}

// ProducerEventID is the id of an event that another system reports: CloudEvents
// promises that source and id together are unique, and an org is never able to
// collide with another's.
func ProducerEventID(orgID uuid.UUID, source, id string) uuid.UUID {
	return DeriveID("producer-event", orgID[:], []byte(source), []byte(id))
}
