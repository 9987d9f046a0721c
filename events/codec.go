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
	fRetried
)

// wireTypes are the wire types of the fields this build knows. A known field
// under another type is damage or a foreign format: skipping it, as protocol
// buffers would, might drop a token count.
var wireTypes = func() (types [fRetried + 1]protowire.Type) {
	for f := range types {
		types[f] = protowire.VarintType
	}
	for _, f := range [...]protowire.Number{fID, fOperationID, fOrgID, fTeamID, fKeyID,
		fModel, fProvider, fPriceVersion, fCurrency, fProducer, fExternalID} {
		types[f] = protowire.BytesType
	}
	return types
}()

const (
	// costDigitsMax is how many digits a coefficient below MaxCost × 10^CostScale has.
	costDigitsMax = 18
	// costPlacesMax bounds the work on a cost that has trailing zeros past CostScale:
	// bringing 1e-2000000000 to another scale would take for ever.
	costPlacesMax = 64
	costExpMax    = 6 // 1e6 is over MaxCost already
)

// costCoefficient is cost × 10^CostScale, exactly.
func costCoefficient(cost decimal.Decimal) (uint64, error) {
	if exp := cost.Exponent(); exp != -CostScale { // ours have it; others are brought to it, or refused
		if cost.IsZero() {
			return 0, nil
		}
		if exp > costExpMax {
			return 0, fmt.Errorf("cost is not in [0, %s)", MaxCost)
		}
		if exp < -costPlacesMax {
			return 0, fmt.Errorf("cost has more than %d decimal places", CostScale)
		}
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

// AppendUsage appends the wire form of u. The caller has validated u. A zero
// OperationID means the event's own id, and reads back as that.
func AppendUsage(b []byte, u *Usage) []byte {
	cost, err := costCoefficient(u.Cost)
	if err != nil {
		panic("events: AppendUsage of an event that was not validated: " + err.Error())
	}
	return appendUsage(b, u, cost)
}

// appendUsage writes the fields in the order of their numbers, so that equal
// events have equal bytes. min_reader would come first; nothing raises it yet.
func appendUsage(b []byte, u *Usage, costE12 uint64) []byte {
	b = appendID(b, fID, u.ID)
	if u.OperationID != u.ID {
		b = appendID(b, fOperationID, u.OperationID)
	}
	b = appendID(b, fOrgID, u.OrgID)
	b = appendID(b, fTeamID, u.TeamID)
	b = appendID(b, fKeyID, u.KeyID)
	b = appendText(b, fModel, u.Model)
	b = appendText(b, fProvider, u.Provider)
	b = appendText(b, fPriceVersion, u.PriceVersion)
	b = appendText(b, fCurrency, u.Currency)
	b = appendNumber(b, fOccurredAtMS, uint64(u.OccurredAt.UnixMilli()))
	b = appendNumber(b, fTimeAssigned, protowire.EncodeBool(u.TimeAssigned))
	b = appendNumber(b, fInput, u.Tokens.Input)
	b = appendNumber(b, fCacheRead, u.Tokens.CacheRead)
	b = appendNumber(b, fCacheWrite5m, u.Tokens.CacheWrite5m)
	b = appendNumber(b, fCacheWrite1h, u.Tokens.CacheWrite1h)
	b = appendNumber(b, fOutput, u.Tokens.Output)
	b = appendNumber(b, fReasoning, u.Tokens.Reasoning)
	b = appendNumber(b, fImages, u.Images)
	b = appendNumber(b, fCostE12, costE12)
	b = appendNumber(b, fOutcome, uint64(u.Outcome))
	b = appendNumber(b, fSource, uint64(u.Source))
	b = appendNumber(b, fHTTPStatus, uint64(u.HTTPStatus))
	b = appendNumber(b, fLatencyMS, uint64(u.LatencyMS))
	b = appendNumber(b, fTTFTMS, uint64(u.TTFTMS))
	b = appendNumber(b, fStream, protowire.EncodeBool(u.Stream))
	b = appendNumber(b, fSandbox, protowire.EncodeBool(u.Sandbox))
	b = appendText(b, fProducer, u.Producer)
	b = appendText(b, fExternalID, u.ExternalID)
	return appendNumber(b, fRetried, protowire.EncodeBool(u.Retried))
}

// appendTag is protowire.AppendTag for field numbers below 2048: tags are a third
// of the work of encoding an event.
func appendTag(b []byte, f protowire.Number, typ protowire.Type) []byte {
	const more = 1 << 7
	v := uint(f)<<3 | uint(typ)
	if v < more {
		return append(b, byte(v))
	}
	return append(b, byte(v|more), byte(v>>7))
}

func appendID(b []byte, f protowire.Number, v uuid.UUID) []byte {
	if v == uuid.Nil {
		return b
	}
	return append(append(appendTag(b, f, protowire.BytesType), byte(len(v))), v[:]...)
}

func appendText(b []byte, f protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(appendTag(b, f, protowire.BytesType), v)
}

func appendNumber(b []byte, f protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(appendTag(b, f, protowire.VarintType), v)
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
	var occurredAtMS, costE12 uint64
	for len(b) > 0 {
		f, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: event field: %v", ErrUndecodable, protowire.ParseError(n))
		}
		b = b[n:]
		if int(f) < len(wireTypes) && typ != wireTypes[f] {
			return fmt.Errorf("%w: field %d has wire type %d", ErrUndecodable, f, typ)
		}
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%w: field %d: %v", ErrUndecodable, f, protowire.ParseError(n))
			}
			b = b[n:]
			switch f {
			case fMinReader:
				// At once: what follows may break bounds of this version that no longer hold.
				if v > usageReader {
					return fmt.Errorf("%w: version %d, this build reads up to %d", ErrNewerEvent, v, usageReader)
				}
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
	case fRetried:
		u.Retried = v != 0
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
	var at uint64 // a time of receipt differs from copy to copy; every field has its fixed place
	if !u.TimeAssigned {
		at = uint64(u.OccurredAt.UnixMilli())
	}
	b = binary.LittleEndian.AppendUint64(b, at)
	t := u.Tokens
	for _, n := range [...]uint64{t.Input, t.CacheRead, t.CacheWrite5m, t.CacheWrite1h, t.Output, t.Reasoning, u.Images} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, byte(u.Outcome), byte(protowire.EncodeBool(u.TimeAssigned)), byte(protowire.EncodeBool(u.Sandbox)))
	b = append(b, u.Model...)
	return xxh3.HashSeed(b, digestSeed)
}
