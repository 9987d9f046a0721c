package billing

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Request is a command that was carried out under an idempotency key.
type Request struct {
	OrgID   uuid.UUID       `json:"org_id,omitzero"` // zero: a command of the house
	Key     string          `json:"key"`
	Command string          `json:"command"`
	Digest  ledger.Hash     `json:"digest"` // of command, org, what was asked for, and why
	Answer  json.RawMessage `json:"answer"`
}

// TypeRequest is the record of a Request, on a subject of its own that is written
// once, in the batch of what was asked for.
const TypeRequest = "request.done"

const (
	requestPrefix = "LEDGER.request."
	keyBytesMax   = 255
)

type requestKey struct {
	orgID uuid.UUID
	key   string
}

// subject is where a key is used up. The key is hashed: subjects are short.
func (k requestKey) subject() string {
	sum := sha256.Sum256([]byte(k.key))
	return requestPrefix + k.orgID.String() + "." + fmt.Sprintf("%x", sum[:16])
}

func (b *Book) applyRequest(q Request) error {
	b.requests[requestKey{q.OrgID, q.Key}] = q
	return nil
}

func (b *Book) request(k requestKey) (Request, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	q, ok := b.requests[k]
	return q, ok
}

// batch is the records of one decision.
type batch struct {
	by      By
	appends []events.Append
	err     error
}

func (b *batch) add(subject string, expectLast uint64, typ string, data any) {
	rec, err := events.NewRecord(typ, b.by.At, b.by.Actor, b.by.Reason, data)
	b.err = errors.Join(b.err, err)
	b.appends = append(b.appends, events.Append{Subject: subject, Record: rec, ExpectLast: expectLast})
}

// addUnchecked adds a record on a subject that others write to as well, or whose
// order another record of the batch sees to.
func (b *batch) addUnchecked(subject, typ string, data any) {
	b.add(subject, 0, typ, data)
	b.appends[len(b.appends)-1].Unchecked = true
}

// command is a request to be carried out once.
type command struct {
	Name    string    `json:"name"`
	OrgID   uuid.UUID `json:"org_id"`
	Request any       `json:"request"`
}

// digest is of all that was asked for, why included: another reason is another request.
func (q command) digest(reason string) (ledger.Hash, error) {
	text, err := json.Marshal(struct {
		command
		Reason string `json:"reason,omitempty"`
	}{q, reason})
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return sha256.Sum256(text), nil
}

// id is the id of what a command makes: the caller's, or derived from the key, or new.
func (q command) id(given uuid.UUID, by By) uuid.UUID {
	switch {
	case given != uuid.Nil:
		return given
	case by.Key != "":
		return events.DeriveID(q.Name, q.OrgID[:], []byte(by.Key))
	}
	return events.NewID()
}

// carryOut makes a command happen once. It appends what the decision says, if
// anything, and decides anew on a fresh book whenever another writer was first.
func carryOut[T any](ctx context.Context, c Commands, q command, by By, decide func(*batch) (T, error)) (Outcome[T], error) {
	out, err := tryToCarryOut(ctx, c, q, by, decide)
	if err != nil {
		if q.OrgID != uuid.Nil {
			return Outcome[T]{}, fmt.Errorf("%s of org %s: %w", q.Name, q.OrgID, err)
		}
		return Outcome[T]{}, fmt.Errorf("%s: %w", q.Name, err)
	}
	return out, nil
}

func tryToCarryOut[T any](ctx context.Context, c Commands, q command, by By, decide func(*batch) (T, error)) (out Outcome[T], err error) {
	if len(by.Key) > keyBytesMax || strings.ContainsFunc(by.Key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return out, fmt.Errorf("%w: an idempotency key has 1 to %d printable characters of ASCII", ErrInvalid, keyBytesMax)
	}
	by.At = by.At.UTC().Truncate(time.Millisecond)
	digest, err := q.digest(by.Reason)
	if err != nil {
		return out, err
	}
	key := requestKey{q.OrgID, by.Key}
	for range attemptsMax {
		// A refusal, too, must not rest on old knowledge: another process may have
		// created the org a moment ago.
		if err := catchUp(ctx, c.Log, c.Book); err != nil {
			return out, err
		}
		if done, ok := c.Book.request(key); ok && by.Key != "" {
			return replay[T](done, digest)
		}
		b := batch{by: by}
		if out.Result, err = decide(&b); err != nil {
			return out, err
		}
		if by.Key != "" {
			answer, err := json.Marshal(out.Result)
			if err != nil {
				return out, fmt.Errorf("keep the answer: %w", err)
			}
			b.add(key.subject(), 0, TypeRequest, Request{OrgID: q.OrgID, Key: by.Key, Command: q.Name, Digest: digest, Answer: answer})
		}
		if b.err != nil || len(b.appends) == 0 {
			return out, b.err
		}
		seqs, err := c.Log.Append(ctx, b.appends...)
		if err == nil {
			return out, c.Book.WaitFor(ctx, slices.Max(seqs))
		}
		if !errors.Is(err, events.ErrConflict) {
			return out, err
		}
	}
	return out, fmt.Errorf("%w, %d times in a row", events.ErrConflict, attemptsMax)
}

// replay answers a request that was carried out before.
func replay[T any](done Request, digest ledger.Hash) (out Outcome[T], err error) {
	if done.Digest != digest {
		return out, fmt.Errorf("%w (%s)", ErrIdempotency, done.Command)
	}
	if err := json.Unmarshal(done.Answer, &out.Result); err != nil {
		return out, fmt.Errorf("read the answer to %s: %w", done.Command, err)
	}
	out.Replayed = true
	return out, nil
}
