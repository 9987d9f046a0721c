package events

import (
	"encoding/binary"
	"fmt"
	"time"

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
		if i == 0 && cap(dst)-len(dst) < n {
			grown := make([]Usage, len(dst), len(dst)+n)
			copy(grown, dst)
			dst = grown
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
	fAdmissionDeadline protowire.Number = 2 // milliseconds

	maxDeadlineMS = 24 * 60 * 60 * 1000
)

func appendAdmission(b []byte, a *Admission) []byte {
	b = protowire.AppendTag(b, fAdmissionUsage, protowire.BytesType)
	b = protowire.AppendBytes(b, AppendUsage(nil, &a.Estimate))
	b = protowire.AppendTag(b, fAdmissionDeadline, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(a.Deadline.Milliseconds()))
}

// Admissions decodes the body of a message of the admissions stream.
func (d *Decoder) Admissions(b []byte) ([]Admission, error) {
	var out []Admission
	err := openEnvelope(b, func(i, n int, event []byte) error {
		var a Admission
		for len(event) > 0 {
			f, typ, n := protowire.ConsumeTag(event)
			if n < 0 {
				return fmt.Errorf("%w: admission %d: %v", ErrUndecodable, i, protowire.ParseError(n))
			}
			event = event[n:]
			switch {
			case f == fAdmissionUsage && typ == protowire.BytesType:
				v, n := protowire.ConsumeBytes(event)
				if n < 0 {
					return fmt.Errorf("%w: admission %d: %v", ErrUndecodable, i, protowire.ParseError(n))
				}
				if err := d.Usage(v, &a.Estimate); err != nil {
					return fmt.Errorf("admission %d: %w", i, err)
				}
				event = event[n:]
			case f == fAdmissionDeadline && typ == protowire.VarintType:
				v, n := protowire.ConsumeVarint(event)
				if n < 0 {
					return fmt.Errorf("%w: admission %d: %v", ErrUndecodable, i, protowire.ParseError(n))
				}
				a.Deadline = time.Duration(min(v, maxDeadlineMS)) * time.Millisecond
				event = event[n:]
			default:
				n := protowire.ConsumeFieldValue(f, typ, event)
				if n < 0 {
					return fmt.Errorf("%w: admission %d: %v", ErrUndecodable, i, protowire.ParseError(n))
				}
				event = event[n:]
			}
		}
		a.ID = a.Estimate.ID
		out = append(out, a)
		return nil
	})
	return out, err
}
