package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/encoding/protowire"
)

// An envelope is the body of one JetStream message that carries many events:
//
//	byte    format (1)
//	uint64  xxh3 of all that follows, little endian
//	uvarint number of events
//	then for each event: uvarint length, bytes
//
// The checksum makes a truncated or damaged envelope one clear error instead of
// a few wrong events.
const (
	envelopeFormat     = 1
	envelopeHeaderSize = 1 + 8

	// MaxEnvelopeEvents bounds the events of one envelope, so that the index of an
	// event within it fits 16 bits.
	MaxEnvelopeEvents = 1 << 14
)

// appendFrame appends one length-prefixed event.
func appendFrame(b, event []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(event)))
	return append(b, event...)
}

// sealEnvelope builds the message body around frames.
func sealEnvelope(count int, frames ...[]byte) []byte {
	size := envelopeHeaderSize + binary.MaxVarintLen64
	for _, f := range frames {
		size += len(f)
	}
	b := make([]byte, envelopeHeaderSize, size)
	b[0] = envelopeFormat
	b = binary.AppendUvarint(b, uint64(count))
	for _, f := range frames {
		b = append(b, f...)
	}
	binary.LittleEndian.PutUint64(b[1:], xxh3.Hash(b[envelopeHeaderSize:]))
	return b
}

// SealUsage is the envelope of the given events, for tools and tests that write
// the log directly. The caller has validated them.
func SealUsage(us []Usage) []byte {
	var frames, one []byte
	for i := range us {
		one = AppendUsage(one[:0], &us[i])
		frames = appendFrame(frames, one)
	}
	return sealEnvelope(len(us), frames)
}

// openEnvelope checks the envelope and calls each with every event in it.
func openEnvelope(b []byte, each func(i, n int, event []byte) error) error {
	if len(b) < envelopeHeaderSize+1 {
		return fmt.Errorf("%w: envelope of %d bytes", ErrUndecodable, len(b))
	}
	if b[0] != envelopeFormat {
		return fmt.Errorf("%w: envelope format %d, this build reads %d", ErrUndecodable, b[0], envelopeFormat)
	}
	sum := binary.LittleEndian.Uint64(b[1:])
	b = b[envelopeHeaderSize:]
	if xxh3.Hash(b) != sum {
		return fmt.Errorf("%w: envelope checksum differs (truncated or damaged)", ErrUndecodable)
	}
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > MaxEnvelopeEvents {
		return fmt.Errorf("%w: envelope of %d events", ErrUndecodable, count)
	}
	b = b[n:]
	for i := range int(count) {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return fmt.Errorf("%w: event %d of %d is cut short", ErrUndecodable, i, count)
		}
		if err := each(i, int(count), b[n:n+int(size)]); err != nil {
			return err
		}
		b = b[n+int(size):]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes after the last event", ErrUndecodable, len(b))
	}
	return nil
}

// BadEvent is an event of a readable envelope that could not be decoded.
type BadEvent struct {
	Idx int
	Err error // wraps ErrUndecodable or ErrNewerEvent
}

// Envelope decodes a message body. The events come in order, appended to dst; a
// bad one leaves a zero Usage in its place and a BadEvent, so indexes stay those
// of the envelope. An error means that nothing of the envelope can be read.
func (d *Decoder) Envelope(b []byte, dst []Usage) ([]Usage, []BadEvent, error) {
	start := len(dst)
	var bad []BadEvent
	err := openEnvelope(b, func(i, n int, event []byte) error {
		if i == 0 {
			dst = slices.Grow(dst, n)
		}
		dst = append(dst, Usage{})
		if err := d.Usage(event, &dst[len(dst)-1]); err != nil {
			dst[len(dst)-1] = Usage{}
			bad = append(bad, BadEvent{Idx: i, Err: err})
		}
		return nil
	})
	if err != nil {
		return dst[:start], nil, err
	}
	return dst, bad, nil
}

const (
	fAdmissionUsage    protowire.Number = 1
	fAdmissionDeadline protowire.Number = 2 // milliseconds, rounded up
)

func appendAdmission(b []byte, a *Admission) []byte {
	b = protowire.AppendTag(b, fAdmissionUsage, protowire.BytesType)
	b = protowire.AppendBytes(b, AppendUsage(nil, &a.Estimate))
	b = protowire.AppendTag(b, fAdmissionDeadline, protowire.VarintType)
	ms := (a.Deadline + time.Millisecond - 1) / time.Millisecond // up: settling early would bill a live request
	return protowire.AppendVarint(b, uint64(ms))
}

// Admissions decodes the body of a message of the admissions stream. The error
// joins what could not be decoded; the other admissions are returned with it,
// since each of them is a request that must not go free.
func (d *Decoder) Admissions(b []byte) ([]Admission, error) {
	var out []Admission
	var bad []error
	err := openEnvelope(b, func(i, n int, event []byte) error {
		a, err := d.admission(event)
		if err != nil {
			bad = append(bad, fmt.Errorf("admission %d of %d: %w", i, n, err))
			return nil
		}
		out = append(out, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, errors.Join(bad...)
}

func (d *Decoder) admission(b []byte) (Admission, error) {
	var a Admission
	for len(b) > 0 {
		f, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return a, fmt.Errorf("%w: %v", ErrUndecodable, protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case f == fAdmissionUsage && typ == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				if err := d.Usage(v, &a.Estimate); err != nil {
					return a, err
				}
			}
		case f == fAdmissionDeadline && typ == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				if v > uint64(MaxDeadline/time.Millisecond) {
					return a, fmt.Errorf("%w: deadline of %d ms", ErrUndecodable, v)
				}
				a.Deadline = time.Duration(v) * time.Millisecond
			}
		default:
			n = protowire.ConsumeFieldValue(f, typ, b)
		}
		if n < 0 {
			return a, fmt.Errorf("%w: field %d: %v", ErrUndecodable, f, protowire.ParseError(n))
		}
		b = b[n:]
	}
	if a.Estimate.ID == uuid.Nil {
		return a, fmt.Errorf("%w: no estimate", ErrUndecodable)
	}
	a.ID = a.Estimate.ID
	return a, nil
}
