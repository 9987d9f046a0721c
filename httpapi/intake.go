package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"aione/events"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// intake is the working memory of one request with events.
type intake struct {
	body     bytes.Buffer
	decoder  jsontext.Decoder
	usage    []events.Usage // accepted
	rejected []rejected
	scratch  []byte // of a string with escapes
}

var intakes = sync.Pool{New: func() any { return &intake{rejected: []rejected{}} }}

// Memory that one unusual request has grown is not kept for the ordinary ones.
const (
	bodyKeptMax  = 4 << 20
	usageKeptMax = 10_000
)

// release forgets the request and keeps the memory.
func (in *intake) release() {
	if in.body.Cap() > bodyKeptMax || cap(in.usage) > usageKeptMax {
		return
	}
	in.body.Reset()
	clear(in.usage) // its strings and numbers belong to the request
	in.usage = in.usage[:0]
	in.rejected = []rejected{} // the answer may still be holding the old one
	intakes.Put(in)
}

// decode reads the body, one event or a batch, into usage and rejected. The error
// is one of the whole request: bytes that are no JSON (bad UTF-8 and names given
// twice among them), or more than most events.
func (in *intake) decode(t *terms, batch bool, most int) error {
	in.decoder.Reset(&in.body)
	if !batch {
		if err := in.event(t, 0); err != nil {
			return syntaxError(err)
		}
		return in.end()
	}
	switch in.decoder.PeekKind() {
	case '[', jsontext.KindInvalid: // what is invalid ReadToken explains
	default:
		return invalid("list_type", "a batch must be a JSON array", "body")
	}
	if _, err := in.decoder.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for index := 0; in.decoder.PeekKind() != ']'; index++ {
		if index == most {
			return invalid("too_long", fmt.Sprintf("a batch must have %d events or fewer", most), "body")
		}
		if err := in.event(t, index); err != nil {
			return syntaxError(err)
		}
	}
	if _, err := in.decoder.ReadToken(); err != nil {
		return syntaxError(err)
	}
	return in.end()
}

func (in *intake) end() error {
	if _, err := in.decoder.ReadToken(); err != io.EOF {
		return invalid("json_invalid", "there is more after the JSON value", "body", in.decoder.InputOffset())
	}
	return nil
}

// syntaxError tells the client where its JSON breaks off; other errors stay.
func syntaxError(err error) error {
	if e, ok := err.(*jsontext.SyntacticError); ok {
		return invalid("json_invalid", "the body is not valid JSON: "+e.Err.Error(), "body", e.ByteOffset)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return invalid("json_invalid", "the body ends in the middle of a JSON value", "body")
	}
	return err
}

// reading is one event while it is read.
type reading struct {
	u       *events.Usage
	terms   *terms
	offer   *offer // nil until the model is read
	problem string // the first thing wrong with it
	has     uint8
}

const (
	hasSpecVersion = 1 << iota
	hasType
	hasSource
	hasID
	hasTime
	hasData
	hasBucket
)

func (e *reading) reject(problem string) {
	if e.problem == "" {
		e.problem = problem
	}
}

// event reads one CloudEvent to its end, whatever is wrong with it, and puts it
// into usage or into rejected.
func (in *intake) event(t *terms, index int) error {
	in.usage = append(in.usage, t.template)
	e := reading{terms: t, u: &in.usage[len(in.usage)-1]}
	if err := in.attributes(&e); err != nil {
		return err
	}
	if e.problem == "" {
		e.complete()
	}
	if e.problem != "" {
		in.rejected = append(in.rejected, rejected{Index: index, ID: e.u.ExternalID, Detail: e.problem})
		in.usage = in.usage[:len(in.usage)-1]
	}
	return nil
}

// attributes reads the context attributes of CloudEvents 1.0. Extensions are
// ignored; an attribute that is null is one that is not there.
func (in *intake) attributes(e *reading) error {
	if open, err := in.open(); err != nil || !open {
		e.reject("an event must be a JSON object")
		return err
	}
	for in.decoder.PeekKind() != '}' {
		name, err := in.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "data":
			e.has |= hasData
			err = in.data(e)
		case "data_base64":
			e.reject("data_base64: the data must be JSON, in data")
			err = in.decoder.SkipValue()
		case "specversion", "type", "source", "id", "time", "datacontenttype":
			err = in.attribute(e, string(name))
		default:
			err = in.decoder.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := in.decoder.ReadToken()
	return err
}

// open enters the object that comes next; false when it is something else, which
// is then skipped.
func (in *intake) open() (bool, error) {
	switch in.decoder.PeekKind() {
	case '{', jsontext.KindInvalid:
		_, err := in.decoder.ReadToken()
		return true, err
	}
	return false, in.decoder.SkipValue()
}

// name reads the name of a member. Its bytes are good until the next read.
func (in *intake) name() ([]byte, error) {
	v, err := in.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	return in.text(v), nil
}

// text is what a JSON string says, good until the next read.
func (in *intake) text(v jsontext.Value) []byte {
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	in.scratch, _ = jsontext.AppendUnquote(in.scratch[:0], v) // ReadValue has checked it
	return in.scratch
}

// eventType is the only type of event taken.
const eventType = "ai.usage"

// attribute reads one of the attributes that are text.
func (in *intake) attribute(e *reading, name string) error {
	v, err := in.decoder.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case 'n':
		return nil
	case '"':
	default:
		e.reject(name + ": must be a string")
		return nil
	}
	text := in.text(v)
	switch name {
	case "specversion":
		if e.has |= hasSpecVersion; string(text) != "1.0" {
			e.reject("specversion: must be 1.0")
		}
	case "type":
		if e.has |= hasType; string(text) != eventType {
			e.reject("type: must be " + eventType)
		}
	case "source":
		if e.has |= hasSource; short(text) {
			e.u.Producer = e.terms.intern(text)
		} else {
			e.reject("source: must have 1 to 512 bytes")
		}
	case "id":
		if e.has |= hasID; short(text) {
			e.u.ExternalID = string(text)
		} else {
			e.reject("id: must have 1 to 512 bytes")
		}
	case "time":
		e.has |= hasTime
		if err := e.u.OccurredAt.UnmarshalText(text); err != nil {
			e.reject("time: must be an RFC 3339 time like 2026-11-30T23:59:59.999Z")
		}
	case "datacontenttype":
		if string(text) != "application/json" && string(text) != "application/json; charset=utf-8" {
			e.reject("datacontenttype: must be application/json")
		}
	}
	return nil
}

func short(text []byte) bool { return len(text) > 0 && len(text) <= events.MaxTextBytes }

// complete checks what no single member shows, prices the event and names it.
func (e *reading) complete() {
	u := e.u
	const required = hasSpecVersion | hasType | hasSource | hasID | hasData
	switch {
	case e.has&required != required:
		e.reject("specversion, type, source, id and data are required")
	case e.offer == nil:
		e.reject("data.model: is required")
	case e.has&hasBucket == 0:
		e.reject("data: names none of the token buckets, nor images")
	case e.has&hasTime == 0:
		u.OccurredAt, u.TimeAssigned = e.terms.now, true
	default:
		u.OccurredAt = u.OccurredAt.UTC().Truncate(time.Millisecond)
		if u.OccurredAt.Before(e.terms.oldest) {
			e.reject("time: is before " + instant(e.terms.oldest) + ", the oldest taken")
		}
		if u.OccurredAt.After(e.terms.newest) {
			e.reject("time: is in the future")
		}
	}
	if e.problem != "" {
		return
	}
	if problem := e.terms.rate(u, e.offer); problem != "" {
		e.reject(problem)
		return
	}
	u.ID = events.ProducerEventID(u.OrgID, u.Producer, u.ExternalID)
	// The log refuses all events of a call that holds one it cannot take.
	if err := u.Validate(); err != nil {
		e.reject("data: is out of bounds")
	}
}

// data reads the usage itself:
//
//	model                  required; a standard id or an alias
//	input_tokens           prompt tokens neither read from nor written to a cache
//	cache_read_tokens      prompt tokens served from a cache
//	cache_write_5m_tokens  prompt tokens written to a cache kept for 5 minutes
//	cache_write_1h_tokens  prompt tokens written to a cache kept for 1 hour
//	output_tokens          completion tokens without reasoning
//	reasoning_tokens       completion tokens spent on reasoning
//	images                 images made
//	team_id, key_id        of this org; default the token's team, and no key. Tokens of several
//	                       teams that report one source must name it: an event that comes again
//	                       under another team is another body, set aside as a conflict
//	provider               default the model's
//	outcome                completed (default), cancelled, upstream_error, timeout, abandoned
//	latency_ms             request received to last byte
//
// The buckets are disjoint: a token is in one of them, or it is billed twice. One
// at least must be there. Any other member rejects the event: a bucket with a
// misspelt name would be free.
func (in *intake) data(e *reading) error {
	if open, err := in.open(); err != nil || !open {
		e.reject("data: must be a JSON object")
		return err
	}
	t := &e.u.Tokens
	for in.decoder.PeekKind() != '}' {
		name, err := in.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "input_tokens":
			err = in.bucket(e, &t.Input, events.MaxTokensPerBucket)
		case "cache_read_tokens":
			err = in.bucket(e, &t.CacheRead, events.MaxTokensPerBucket)
		case "cache_write_5m_tokens":
			err = in.bucket(e, &t.CacheWrite5m, events.MaxTokensPerBucket)
		case "cache_write_1h_tokens":
			err = in.bucket(e, &t.CacheWrite1h, events.MaxTokensPerBucket)
		case "output_tokens":
			err = in.bucket(e, &t.Output, events.MaxTokensPerBucket)
		case "reasoning_tokens":
			err = in.bucket(e, &t.Reasoning, events.MaxTokensPerBucket)
		case "images":
			err = in.bucket(e, &e.u.Images, events.MaxImages)
		case "latency_ms":
			var ms uint64
			_, err = in.number(e, &ms, math.MaxUint32)
			e.u.LatencyMS = uint32(ms)
		case "model", "provider", "outcome", "team_id", "key_id":
			err = in.label(e, string(name))
		default:
			e.reject(fmt.Sprintf("data: has no member %.100q", name))
			err = in.decoder.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := in.decoder.ReadToken()
	return err
}

func (in *intake) bucket(e *reading, n *uint64, most uint64) error {
	given, err := in.number(e, n, most)
	if given {
		e.has |= hasBucket
	}
	return err
}

// number reads an integer from 0 to most, written with digits only; null is none.
func (in *intake) number(e *reading, n *uint64, most uint64) (given bool, err error) {
	v, err := in.decoder.ReadValue()
	if err != nil || v.Kind() == 'n' {
		return false, err
	}
	const digitsMax = 19 // of what fits 64 bits for certain
	ok := len(v) <= digitsMax
	for _, c := range v {
		ok = ok && c >= '0' && c <= '9'
		*n = *n*10 + uint64(c-'0')
	}
	if !ok || *n > most {
		e.reject(fmt.Sprintf("data: token counts, images and latency_ms must be integers, this one from 0 to %d", most))
	}
	return true, nil
}

// label reads one of the members of data that are text.
func (in *intake) label(e *reading, name string) error {
	v, err := in.decoder.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case 'n':
		return nil
	case '"':
	default:
		e.reject("data." + name + ": must be a string")
		return nil
	}
	text := in.text(v)
	switch name {
	case "model":
		e.offer = e.terms.offer(text)
	case "provider":
		if len(text) > events.MaxTextBytes {
			e.reject("data.provider: must have 512 bytes or less")
			return nil
		}
		e.u.Provider = e.terms.intern(text)
	case "outcome":
		if e.u.Outcome, err = events.ParseOutcome(e.terms.intern(text)); err != nil {
			e.reject("data.outcome: must be completed, cancelled, upstream_error, timeout or abandoned")
		}
	case "team_id":
		return e.owner(&e.u.TeamID, text, "data.team_id: is not a team of this organisation", e.terms.ownTeam)
	case "key_id":
		return e.owner(&e.u.KeyID, text, "data.key_id: is not a key of this organisation", e.terms.ownKey)
	}
	return nil
}

// owner reads a team or key, which must be the org's own.
func (e *reading) owner(id *uuid.UUID, text []byte, problem string, own func(uuid.UUID) (bool, error)) error {
	parsed, err := uuid.ParseBytes(text)
	if err != nil || len(text) != uuidLen {
		e.reject(problem)
		return nil
	}
	ours, err := own(parsed)
	if !ours {
		e.reject(problem)
	}
	*id = parsed
	return err
}
