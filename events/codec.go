package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/encoding/protowire"
)

// The wire format of one event is a protocol-buffers message (usage.proto has
// the schema for readers in other languages). Two rules keep readers and writers
// of different versions together:
//
//   - A field that changes nothing about a bill is simply added: older readers
//     skip what they do not know.
//   - A field that changes what is billed raises min_reader: an older reader
//     then sets the event aside under ErrNewerEvent instead of billing it wrongly.
const usageReader = 1 // the newest min_reader this build understands

// ErrUndecodable is returned when bytes in the log are not a whole envelope or
// event: truncated, damaged, or of a format this build never knew.
var ErrUndecodable = errors.New("undecodable")

// ErrNewerEvent is returned when an event says that a reader of this version
// would bill it wrongly. It can be replayed after an upgrade.
var ErrNewerEvent = errors.New("event needs a newer reader")

// Field numbers of usage.proto; never reused.
const (
	fMinReader protowire.Number = iota + 1
	fID
	fOperationID
	fOrgID
	fTeamID
	fKeyID
	fModel
	fProvider
	fPriceVersion
	fCurrency
	fOccurredAtMS
	fTimeAssigned
	fInput
	fCacheRead
	fCacheWrite5m
	fCacheWrite1h
	fOutput
	fReasoning
	fImages
	fCostE12
	fOutcome
	fSource
	fHTTPStatus
	fLatencyMS
	fTTFTMS
	fStream
	fSandbox
	fProducer
	fExternalID
)

// costDigitsMax is how many digits a coefficient below MaxCost × 10^CostScale has.
const costDigitsMax = 18

// costCoefficient is cost × 10^CostScale, exactly.
func costCoefficient(cost decimal.Decimal) (uint64, error) {
	if cost.Exponent() != -CostScale { // ours have it; others are brought to it, or refused
		truncated := cost.Truncate(CostScale)
		if !truncated.Equal(cost) {
			return 0, fmt.Errorf("cost %s has more than %d decimal places", cost, CostScale)
		}
		cost = truncated.Add(decimal.New(0, -CostScale))
	}
	if cost.IsNegative() || cost.NumDigits() > costDigitsMax {
		return 0, fmt.Errorf("cost %s is not in [0, %s)", cost, MaxCost)
	}
	return uint64(cost.CoefficientInt64()), nil
}

// AppendUsage appends the wire form of u. The caller has validated u.
func AppendUsage(b []byte, u *Usage) []byte {
	cost, err := costCoefficient(u.Cost)
	if err != nil {
		panic("events: AppendUsage of an event that was not validated: " + err.Error())
	}
	id := func(f protowire.Number, v uuid.UUID) {
		if v != uuid.Nil {
			b = protowire.AppendTag(b, f, protowire.BytesType)
			b = protowire.AppendBytes(b, v[:])
		}
	}
	text := func(f protowire.Number, v string) {
		if v != "" {
			b = protowire.AppendTag(b, f, protowire.BytesType)
			b = protowire.AppendString(b, v)
		}
	}
	num := func(f protowire.Number, v uint64) {
		if v != 0 {
			b = protowire.AppendTag(b, f, protowire.VarintType)
			b = protowire.AppendVarint(b, v)
		}
	}
	id(fID, u.ID)
	if u.OperationID != u.ID {
		id(fOperationID, u.OperationID)
	}
	id(fOrgID, u.OrgID)
	id(fTeamID, u.TeamID)
	id(fKeyID, u.KeyID)
	text(fModel, u.Model)
	text(fProvider, u.Provider)
	text(fPriceVersion, u.PriceVersion)
	text(fCurrency, u.Currency)
	num(fOccurredAtMS, uint64(u.OccurredAt.UnixMilli()))
	num(fTimeAssigned, protowire.EncodeBool(u.TimeAssigned))
	num(fInput, u.Tokens.Input)
	num(fCacheRead, u.Tokens.CacheRead)
	num(fCacheWrite5m, u.Tokens.CacheWrite5m)
	num(fCacheWrite1h, u.Tokens.CacheWrite1h)
	num(fOutput, u.Tokens.Output)
	num(fReasoning, u.Tokens.Reasoning)
	num(fImages, u.Images)
	num(fCostE12, cost)
	num(fOutcome, uint64(u.Outcome))
	num(fSource, uint64(u.Source))
	num(fHTTPStatus, uint64(u.HTTPStatus))
	num(fLatencyMS, uint64(u.LatencyMS))
	num(fTTFTMS, uint64(u.TTFTMS))
	num(fStream, protowire.EncodeBool(u.Stream))
	num(fSandbox, protowire.EncodeBool(u.Sandbox))
	text(fProducer, u.Producer)
	text(fExternalID, u.ExternalID)
	return b
}

// Decoder turns bytes of the log back into events. It remembers the strings it
// has seen (models, price versions, …), so that a stream of events with few
// distinct ones allocates little. It is not safe for concurrent use.
type Decoder struct {
	interned map[string]string
}

// internedMax bounds what a Decoder remembers; past it, it starts afresh.
const internedMax = 16384

func (d *Decoder) text(b []byte) string {
	if s, ok := d.interned[string(b)]; ok {
		return s
	}
	if d.interned == nil || len(d.interned) >= internedMax {
		d.interned = make(map[string]string)
	}
	s := string(b)
	d.interned[s] = s
	return s
}

// Usage decodes one event into u. The error wraps ErrUndecodable or ErrNewerEvent.
func (d *Decoder) Usage(b []byte, u *Usage) error {
	*u = Usage{}
	var minReader, occurredAtMS, costE12 uint64
	for len(b) > 0 {
		f, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: event field: %v", ErrUndecodable, protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%w: field %d: %v", ErrUndecodable, f, protowire.ParseError(n))
			}
			b = b[n:]
			switch f {
			case fMinReader:
				minReader = v
			case fOccurredAtMS:
				occurredAtMS = v
			case fCostE12:
				costE12 = v
			default:
				if !u.setNumber(f, v) {
					return fmt.Errorf("%w: field %d is out of range: %d", ErrUndecodable, f, v)
				}
			}
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("%w: field %d: %v", ErrUndecodable, f, protowire.ParseError(n))
			}
			b = b[n:]
			if f >= fID && f <= fKeyID {
				if len(v) != 16 {
					return fmt.Errorf("%w: id field %d has %d bytes", ErrUndecodable, f, len(v))
				}
				u.setID(f, uuid.UUID(v))
			} else {
				d.setText(u, f, v)
			}
		default:
			n := protowire.ConsumeFieldValue(f, typ, b)
			if n < 0 {
				return fmt.Errorf("%w: field %d: %v", ErrUndecodable, f, protowire.ParseError(n))
			}
			b = b[n:]
		}
	}
	if minReader > usageReader {
		return fmt.Errorf("%w: version %d, this build reads up to %d", ErrNewerEvent, minReader, usageReader)
	}
	if costE12 > math.MaxInt64 || occurredAtMS > math.MaxInt64 {
		return fmt.Errorf("%w: cost or time out of range", ErrUndecodable)
	}
	u.OccurredAt = time.UnixMilli(int64(occurredAtMS)).UTC()
	u.Cost = decimal.New(int64(costE12), -CostScale)
	if u.OperationID == uuid.Nil {
		u.OperationID = u.ID
	}
	if err := u.Validate(); err != nil {
		return fmt.Errorf("%w: %v", ErrUndecodable, err)
	}
	return nil
}

func (u *Usage) setID(f protowire.Number, v uuid.UUID) {
	switch f {
	case fID:
		u.ID = v
	case fOperationID:
		u.OperationID = v
	case fOrgID:
		u.OrgID = v
	case fTeamID:
		u.TeamID = v
	case fKeyID:
		u.KeyID = v
	}
}

func (d *Decoder) setText(u *Usage, f protowire.Number, v []byte) {
	switch f {
	case fModel:
		u.Model = d.text(v)
	case fProvider:
		u.Provider = d.text(v)
	case fPriceVersion:
		u.PriceVersion = d.text(v)
	case fCurrency:
		u.Currency = d.text(v)
	case fProducer:
		u.Producer = d.text(v)
	case fExternalID:
		u.ExternalID = string(v) // all different: not worth remembering
	}
}

// setNumber reports false when v does not fit the field it is meant for.
func (u *Usage) setNumber(f protowire.Number, v uint64) bool {
	switch f {
	case fTimeAssigned:
		u.TimeAssigned = v != 0
	case fInput:
		u.Tokens.Input = v
	case fCacheRead:
		u.Tokens.CacheRead = v
	case fCacheWrite5m:
		u.Tokens.CacheWrite5m = v
	case fCacheWrite1h:
		u.Tokens.CacheWrite1h = v
	case fOutput:
		u.Tokens.Output = v
	case fReasoning:
		u.Tokens.Reasoning = v
	case fImages:
		u.Images = v
	case fOutcome:
		u.Outcome = Outcome(v)
		return v <= math.MaxUint8
	case fSource:
		u.Source = Source(v)
		return v <= math.MaxUint8
	case fHTTPStatus:
		u.HTTPStatus = uint16(v)
		return v <= math.MaxUint16
	case fLatencyMS:
		u.LatencyMS = uint32(v)
		return v <= math.MaxUint32
	case fTTFTMS:
		u.TTFTMS = uint32(v)
		return v <= math.MaxUint32
	case fStream:
		u.Stream = v != 0
	case fSandbox:
		u.Sandbox = v != 0
	}
	return true
}

// digestSeed is persisted in effect (digests are stored in rows): never change it.
const digestSeed = 0x41494f6e65

// Digest identifies what an event bills: who, what model, how much, when. A copy
// of an event has the same digest; the same id with another digest is a
// conflict, kept aside and not billed. What the platform stamps itself (price,
// cost, time of receipt) or merely observes (latency, status) is not part of it,
// so that a producer's honest retry is never a conflict.
func (u *Usage) Digest() uint64 {
	var a [512]byte
	b := a[:0]
	b = append(b, u.OrgID[:]...)
	b = append(b, u.ID[:]...)
	b = append(b, u.TeamID[:]...)
	b = append(b, u.KeyID[:]...)
	if !u.TimeAssigned {
		b = binary.LittleEndian.AppendUint64(b, uint64(u.OccurredAt.UnixMilli()))
	}
	t := u.Tokens
	for _, n := range [...]uint64{t.Input, t.CacheRead, t.CacheWrite5m, t.CacheWrite1h, t.Output, t.Reasoning, u.Images} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, byte(u.Outcome), byte(protowire.EncodeBool(u.TimeAssigned)), byte(protowire.EncodeBool(u.Sandbox)))
	b = append(b, u.Model...)
	return xxh3.HashSeed(b, digestSeed)
}
