package events

import (
	"encoding/hex"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

func genID(t *rapid.T, label string) uuid.UUID {
	id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
	id[0] |= 1 // never zero
	return id
}

func genUsage(t *rapid.T) Usage {
	text := func(label string, least int) string {
		return rapid.StringN(least, 60, MaxTextBytes).Draw(t, label)
	}
	tokens := func(label string) uint64 { return rapid.Uint64Max(MaxTokensPerBucket).Draw(t, label) }
	u := Usage{
		ID: genID(t, "id"), OrgID: genID(t, "org"),
		Model: text("model", 1), Provider: text("provider", 0), PriceVersion: text("price", 1),
		Currency:     rapid.StringMatching(`[A-Z]{3}`).Draw(t, "currency"),
		OccurredAt:   time.UnixMilli(rapid.Int64Range(occurredFromMS, occurredToMS-1).Draw(t, "at")).UTC(),
		TimeAssigned: rapid.Bool().Draw(t, "assigned"),
		Tokens: Tokens{tokens("input"), tokens("read"), tokens("write5m"), tokens("write1h"),
			tokens("output"), tokens("reasoning")},
		Images:     rapid.Uint64Max(MaxImages).Draw(t, "images"),
		Cost:       decimal.New(rapid.Int64Range(0, 1e18-1).Draw(t, "cost"), -CostScale),
		Outcome:    Outcome(rapid.IntRange(1, 5).Draw(t, "outcome")),
		Source:     Source(rapid.IntRange(1, 2).Draw(t, "source")),
		HTTPStatus: rapid.Uint16().Draw(t, "status"), LatencyMS: rapid.Uint32().Draw(t, "latency"), TTFTMS: rapid.Uint32().Draw(t, "ttft"),
		Stream: rapid.Bool().Draw(t, "stream"), Sandbox: rapid.Bool().Draw(t, "sandbox"),
		Producer: text("producer", 0), ExternalID: text("external", 0),
	}
	u.OperationID = u.ID
	if rapid.Bool().Draw(t, "one of several attempts") {
		u.OperationID = genID(t, "operation")
	}
	if u.Retried = rapid.Bool().Draw(t, "retried"); u.Retried {
		u.Tokens, u.Images, u.Cost = Tokens{}, 0, decimal.New(0, -CostScale)
	}
	if rapid.Bool().Draw(t, "known key") {
		u.TeamID, u.KeyID = genID(t, "team"), genID(t, "key")
	}
	if u.Sandbox {
		u.Cost = decimal.New(0, -CostScale)
	}
	return u
}

func sameUsage(a, b Usage) bool {
	same := a.Cost.Equal(b.Cost)
	a.Cost, b.Cost = decimal.Decimal{}, decimal.Decimal{}
	return same && reflect.DeepEqual(a, b)
}

func TestRoundTripOfAnyValidUsage(t *testing.T) {
	var d Decoder
	rapid.Check(t, func(t *rapid.T) {
		us := []Usage{genUsage(t), genUsage(t)}
		for i := range us {
			if err := us[i].Validate(); err != nil {
				t.Fatal(err)
			}
		}
		got, bad, err := d.Envelope(SealUsage(us), nil)
		if err != nil || len(bad) != 0 || len(got) != 2 {
			t.Fatalf("%v %v %d", err, bad, len(got))
		}
		for i := range us {
			if !sameUsage(got[i], us[i]) {
				t.Fatalf("got  %+v\nwant %+v", got[i], us[i])
			}
			if got[i].Digest() != us[i].Digest() {
				t.Fatal("the digest changed on the way")
			}
		}
	})
}

// goldenUsage has every field set that one that is billed may have.
func goldenUsage() Usage {
	return Usage{
		ID:          uuid.MustParse("01970000-0000-7000-8000-000000000001"),
		OperationID: uuid.MustParse("01970000-0000-7000-8000-000000000002"),
		OrgID:       uuid.MustParse("01970000-0000-7000-8000-000000000003"),
		TeamID:      uuid.MustParse("01970000-0000-7000-8000-000000000004"),
		KeyID:       uuid.MustParse("01970000-0000-7000-8000-000000000005"),
		Model:       "gpt-5", Provider: "openai", PriceVersion: "pv1", Currency: "CNY",
		OccurredAt: time.UnixMilli(1_780_000_000_123).UTC(), TimeAssigned: true,
		Tokens: Tokens{1, 2, 3, 4, 5, 300}, Images: 7, Cost: decimal.RequireFromString("0.000123456789"),
		Outcome: OutcomeCancelled, Source: SourceEstimated, HTTPStatus: 200, LatencyMS: 1500, TTFTMS: 80,
		Stream: true, Sandbox: false, Producer: "gateway", ExternalID: "x-1",
	}
}

// TestGoldenBytes fails when the format changes: what is in logs by then could no
// longer be read, or would bill or identify events differently. Never "fix" the
// file; add a field, and raise min_reader if it changes what is billed.
func TestGoldenBytes(t *testing.T) {
	u, sandbox := goldenUsage(), goldenUsage()
	sandbox.Sandbox, sandbox.Cost, sandbox.TimeAssigned = true, decimal.Zero, false
	a := Admission{ID: u.ID, Estimate: u, Deadline: 90 * time.Second}
	retried := u
	retried.Retried, retried.Tokens, retried.Images, retried.Cost = true, Tokens{}, 0, decimal.Zero
	got := strings.Join([]string{
		"event " + hex.EncodeToString(AppendUsage(nil, &u)),
		"envelope " + hex.EncodeToString(SealUsage([]Usage{u, sandbox})),
		"admission " + hex.EncodeToString(appendAdmission(nil, &a)),
		"digest " + hex.EncodeToString(protowire.AppendFixed64(nil, u.Digest())),
		"digest-sandbox " + hex.EncodeToString(protowire.AppendFixed64(nil, sandbox.Digest())),
		"event-retried " + hex.EncodeToString(AppendUsage(nil, &retried)),
	}, "\n") + "\n"
	want, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatalf("%v\nthis build writes:\n%s", err, got)
	}
	if got != string(want) {
		t.Fatalf("the wire format changed. got:\n%s\nwant:\n%s", got, want)
	}
}

// envelopeOf seals raw event bytes, as a newer or a broken writer might.
func envelopeOf(events ...[]byte) []byte {
	var frames []byte
	for _, e := range events {
		frames = appendFrame(frames, e)
	}
	return sealEnvelope(len(events), frames)
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	u := goldenUsage()
	b := AppendUsage(nil, &u)
	b = protowire.AppendVarint(protowire.AppendTag(b, 32, protowire.VarintType), math.MaxUint64)
	b = protowire.AppendString(protowire.AppendTag(b, 33, protowire.BytesType), "new")
	b = protowire.AppendFixed64(protowire.AppendTag(b, 1000, protowire.Fixed64Type), 1)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 1001, protowire.Fixed32Type), 1)
	b = protowire.AppendTag(b, 1002, protowire.StartGroupType)
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 9) // not our field 1
	b = protowire.AppendTag(b, 1002, protowire.EndGroupType)
	var got Usage
	if err := new(Decoder).Usage(b, &got); err != nil {
		t.Fatal(err)
	}
	if !sameUsage(got, u) {
		t.Fatalf("got %+v", got)
	}
}

func TestNewerEventIsSetAsideAlone(t *testing.T) {
	a, b := goldenUsage(), goldenUsage()
	a.ID, b.ID = NewID(), NewID()
	newer := protowire.AppendVarint(protowire.AppendTag(nil, fMinReader, protowire.VarintType), 2)
	newer = append(newer, AppendUsage(nil, &a)...)
	// Bounds of this version may not hold in a newer one: still newer, not damaged.
	newer = protowire.AppendVarint(protowire.AppendTag(newer, fOutcome, protowire.VarintType), 1<<20)
	got, bad, err := new(Decoder).Envelope(envelopeOf(AppendUsage(nil, &a), newer, AppendUsage(nil, &b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].ID != a.ID || got[2].ID != b.ID || !reflect.DeepEqual(got[1], Usage{}) {
		t.Fatalf("indexes are not kept: %+v", got)
	}
	if len(bad) != 1 || bad[0].Idx != 1 || !errors.Is(bad[0].Err, ErrNewerEvent) || errors.Is(bad[0].Err, ErrUndecodable) {
		t.Fatalf("bad = %v", bad)
	}
}

func TestDamagedEnvelopeIsOneError(t *testing.T) {
	u := goldenUsage()
	whole := SealUsage([]Usage{u, u})
	var d Decoder
	check := func(what string, n int, b []byte) {
		t.Helper()
		got, bad, err := d.Envelope(b, nil)
		if !errors.Is(err, ErrUndecodable) || len(got) != 0 || bad != nil {
			t.Fatalf("%s %d: %v %v %v", what, n, err, bad, got)
		}
	}
	for n := range whole {
		check("truncated to", n, whole[:n:n])
	}
	for n := range whole {
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			b := append([]byte(nil), whole...)
			b[n] ^= mask
			check("flipped", n, b)
		}
	}
	check("longer by", 1, append(append([]byte(nil), whole...), 0))
	check("trailing", 1, sealEnvelope(1, appendFrame(nil, AppendUsage(nil, &u)), []byte{0}))
	check("too few", 2, sealEnvelope(2, appendFrame(nil, AppendUsage(nil, &u))))
	check("empty", 0, sealEnvelope(0))
	check("too many", MaxEnvelopeEvents+1, sealEnvelope(MaxEnvelopeEvents+1))
	got, _, err := d.Envelope(whole[:5], []Usage{u})
	if err == nil || len(got) != 1 {
		t.Fatalf("what the caller had is gone: %d, %v", len(got), err)
	}
}

// TestDamagedEvent goes past the checksum: a broken writer, not a broken disk.
func TestDamagedEvent(t *testing.T) {
	u := goldenUsage()
	whole := AppendUsage(nil, &u)
	var d Decoder
	for n := range whole {
		var got Usage
		if err := d.Usage(whole[:n], &got); err != nil && !errors.Is(err, ErrUndecodable) {
			t.Fatalf("truncated to %d: %v", n, err)
		}
		for bit := range 8 {
			b := append([]byte(nil), whole...)
			b[n] ^= 1 << bit
			err := d.Usage(b, &got)
			if err != nil && !errors.Is(err, ErrUndecodable) && !errors.Is(err, ErrNewerEvent) {
				t.Fatalf("bit %d of %d: %v", bit, n, err)
			}
			if err == nil && got.Validate() != nil {
				t.Fatalf("bit %d of %d gives an invalid event: %v", bit, n, got.Validate())
			}
		}
	}
	number := func(f protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, f, protowire.VarintType), v)
	}
	bytesOf := func(f protowire.Number, v string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, f, protowire.BytesType), v)
	}
	for name, extra := range map[string][]byte{
		"outcome over a byte":      number(fOutcome, 257),
		"source over a byte":       number(fSource, 258),
		"status over 16 bits":      number(fHTTPStatus, 1<<16+200),
		"latency over 32 bits":     number(fLatencyMS, 1<<32),
		"ttft over 32 bits":        number(fTTFTMS, 1<<32),
		"cost of a million":        number(fCostE12, 1e18),
		"cost over 63 bits":        number(fCostE12, math.MaxUint64),
		"time over 63 bits":        number(fOccurredAtMS, math.MaxUint64),
		"tokens over the bound":    number(fInput, MaxTokensPerBucket+1),
		"unknown outcome":          number(fOutcome, 99),
		"short id":                 bytesOf(fID, "fifteen bytes.."),
		"tokens as bytes":          bytesOf(fInput, "\x05"),
		"cost as bytes":            bytesOf(fCostE12, "\x05"),
		"id as a number":           number(fOrgID, 5),
		"model as a number":        number(fModel, 5),
		"model that is not UTF-8":  bytesOf(fModel, "\xff"),
		"field number zero":        {0x00, 0x01},
		"unterminated group":       {0x83, 0x02},
		"varint over 64 bits":      append(number(fInput, math.MaxUint64)[:2], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"length beyond the end":    {0xb2, 0x02, 0x7f, 'x'},
		"model longer than allows": bytesOf(fModel, strings.Repeat("m", MaxTextBytes+1)),
	} {
		var got Usage
		if err := d.Usage(append(append([]byte(nil), whole...), extra...), &got); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdmissionsRoundTripAndDamage(t *testing.T) {
	a := Admission{Estimate: goldenUsage(), Deadline: 1500*time.Millisecond + time.Microsecond}
	a.ID = a.Estimate.ID
	newer := protowire.AppendVarint(protowire.AppendTag(nil, fMinReader, protowire.VarintType), 2)
	newer = protowire.AppendBytes(protowire.AppendTag(nil, fAdmissionUsage, protowire.BytesType), newer)
	late := protowire.AppendVarint(protowire.AppendTag(nil, fAdmissionDeadline, protowire.VarintType), 1<<62)
	added := protowire.AppendString(protowire.AppendTag(appendAdmission(nil, &a), 77, protowire.BytesType), "new field")
	var d Decoder
	got, err := d.Admissions(envelopeOf(appendAdmission(nil, &a), newer, nil, late, added))
	if !errors.Is(err, ErrNewerEvent) || !errors.Is(err, ErrUndecodable) {
		t.Fatalf("err = %v", err)
	}
	if len(got) != 2 { // one bad admission must not hide the requests beside it
		t.Fatalf("%d admissions", len(got))
	}
	for _, g := range got {
		if g.ID != a.ID || !sameUsage(g.Estimate, a.Estimate) || g.Deadline != 1501*time.Millisecond {
			t.Fatalf("got %+v", g)
		}
	}
	whole := envelopeOf(appendAdmission(nil, &a))
	for n := range whole {
		if got, err := d.Admissions(whole[:n]); !errors.Is(err, ErrUndecodable) || len(got) != 0 {
			t.Fatalf("truncated to %d: %v", n, err)
		}
	}
	body := appendAdmission(nil, &a)
	for n := range body {
		if _, err := d.Admissions(envelopeOf(body[:n])); err != nil && !errors.Is(err, ErrUndecodable) {
			t.Fatalf("admission truncated to %d: %v", n, err)
		}
	}
}

func TestDecoderForgetsPastItsBound(t *testing.T) {
	var d Decoder
	for i := range internedMax + 10 {
		d.text(protowire.AppendVarint(nil, uint64(i)))
	}
	if len(d.interned) > internedMax {
		t.Fatalf("%d strings remembered", len(d.interned))
	}
}
