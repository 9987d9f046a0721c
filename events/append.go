package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Append is one record on one subject of the ledger.
type Append struct {
	Subject string
	Record  Record
	// ExpectLast is the sequence of the last message on Subject; 0 means that
	// there must be none. Another value in the log is ErrConflict.
	ExpectLast uint64
	// ExpectOn makes ExpectLast the sequence of the last message on any of several
	// subjects, as the log's wildcards name them. Empty: on Subject, which otherwise
	// must be new.
	ExpectOn string
	// Unchecked appends whatever is there. A retry of a record like this is only
	// recognised within two minutes; after that it is written again.
	Unchecked bool
}

// Append writes records to the ledger, all or none, and returns their sequences.
// Subjects of one call must differ. The identical call may be repeated: it gives
// the same sequences and writes nothing twice.
//
// It retries and resolves an unconfirmed write by looking, so ErrConflict and
// ErrFull mean that nothing was written. Only if the log stays out of reach until
// ctx or Options.ConfirmWithin ends is the error ErrUnknown.
func (l *Log) Append(ctx context.Context, as ...Append) ([]uint64, error) {
	if len(as) == 0 {
		return nil, nil
	}
	msgs, err := appendMessages(as)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("append to %s: %w", as[0].Subject, err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.confirmWithin)
	defer cancel()
	unconfirmed := false // an attempt had no answer: it may be in the log, or get there yet
	for {
		seqs, err := l.appendOnce(ctx, msgs)
		answer := judge(err)
		if answer == answerStored {
			return seqs, nil
		}
		unconfirmed = unconfirmed || answer == answerNone
		if answer == answerConflict || answer == answerDuplicate {
			// The log refuses an identical retry like a foreign write (at R1 it compares
			// the expectation before the id): only looking tells them apart.
			seqs, lookErr := l.find(ctx, as, answer)
			if lookErr == nil && seqs == nil {
				return nil, fmt.Errorf("append to %s: %w", as[0].Subject, ErrConflict)
			}
			if lookErr == nil {
				return seqs, nil
			}
			err, unconfirmed = lookErr, true
		}
		if !unconfirmed && answer == answerFull {
			return nil, fmt.Errorf("append to %s: %w: %v", as[0].Subject, ErrFull, err)
		}
		if !unconfirmed && answer == answerRefused {
			return nil, fmt.Errorf("append to %s: the event log refused: %w", as[0].Subject, err)
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			return nil, fmt.Errorf("append to %s: %w: %w", as[0].Subject, ErrUnknown, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("append to %s: %w: %w: %w", as[0].Subject, ErrUnknown, ctx.Err(), err)
		case <-time.After(retryPause):
		}
	}
}

func appendMessages(as []Append) ([]*nats.Msg, error) {
	msgs := make([]*nats.Msg, len(as))
	seen := make(map[string]bool, len(as))
	for i, a := range as {
		// A subject outside the ledger would be written to another stream, or nowhere.
		name, ok := strings.CutPrefix(a.Subject, ledgerStream+".")
		if !ok || name == "" || strings.ContainsAny(name, "*> \t\r\n") || strings.HasSuffix(name, ".") || strings.Contains(a.Subject, "..") {
			return nil, fmt.Errorf("append: %q is not a subject of the ledger", a.Subject)
		}
		if seen[a.Subject] {
			return nil, fmt.Errorf("append: two records for %s in one call", a.Subject)
		}
		seen[a.Subject] = true
		body, err := json.Marshal(a.Record)
		if err != nil {
			return nil, fmt.Errorf("encode record %s: %w", a.Record.Type, err)
		}
		m := nats.NewMsg(a.Subject)
		m.Data = body
		m.Header.Set(jetstream.MsgIDHeader, a.Record.ID.String())
		if !a.Unchecked {
			m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(a.ExpectLast, 10))
			if a.ExpectOn != "" {
				m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, a.ExpectOn)
			}
		}
		msgs[i] = m
	}
	return msgs, nil
}

// appendOnce takes the sequences from the acknowledgement, not from a look at the
// subjects: another writer may have been there since.
func (l *Log) appendOnce(ctx context.Context, msgs []*nats.Msg) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.attempt)
	defer cancel()
	if len(msgs) == 1 {
		ack, err := l.js.PublishMsg(ctx, msgs[0])
		if err != nil {
			return nil, err
		}
		return []uint64{ack.Sequence}, nil
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, l.js, msgs, jetstreamext.BatchFlowControl{AckFirst: true, AckTimeout: l.attempt})
	if err != nil {
		return nil, err
	}
	return contiguous(ack.Sequence-uint64(len(msgs)-1), len(msgs)), nil
}

// contiguous is the sequences of a batch: it is written under one lock.
func contiguous(first uint64, n int) []uint64 {
	seqs := make([]uint64, n)
	for i := range seqs {
		seqs[i] = first + uint64(i)
	}
	return seqs
}

// find returns the sequences of the records if an earlier attempt wrote them,
// nil if none did. It reads from the leader (the streams refuse direct gets).
func (l *Log) find(ctx context.Context, as []Append, answer answer) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.lookWithin)
	defer cancel()
	s, err := l.js.Stream(ctx, ledgerStream)
	if err != nil {
		return nil, fmt.Errorf("look up the ledger: %w", err)
	}
	for i, a := range as {
		if a.Unchecked {
			continue
		}
		// The first message past ExpectLast is ours or the one that beat us. The last
		// on the subject would not do: others may have built on ours already.
		m, err := s.GetMsg(ctx, a.ExpectLast+1, jetstream.WithGetMsgSubject(a.Subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", a.Subject, err)
		}
		if m.Header.Get(jetstream.MsgIDHeader) != a.Record.ID.String() || m.Sequence <= uint64(i) {
			return nil, nil
		}
		return l.confirmAt(ctx, s, as, m.Sequence-uint64(i))
	}
	if answer == answerDuplicate {
		return l.findBackwards(ctx, s, as, s.CachedInfo().State.LastSeq)
	}
	return nil, nil
}

// findBackwards finds records without an expectation. The log remembers their ids
// for the duplicate window, so they lie no further back than that.
func (l *Log) findBackwards(ctx context.Context, s jetstream.Stream, as []Append, last uint64) ([]uint64, error) {
	var newest time.Time
	for seq := last; seq > 0; seq-- {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return nil, fmt.Errorf("look up ledger sequence %d: %w", seq, err)
		}
		if m.Header.Get(jetstream.MsgIDHeader) == as[0].Record.ID.String() {
			return l.confirmAt(ctx, s, as, seq)
		}
		if seq == last {
			newest = m.Time
		}
		if newest.Sub(m.Time) > 2*duplicateWindow {
			break
		}
	}
	return nil, nil
}

// confirmAt checks that every record lies where a batch from first on has it.
func (l *Log) confirmAt(ctx context.Context, s jetstream.Stream, as []Append, first uint64) ([]uint64, error) {
	for i, a := range as {
		m, err := s.GetMsg(ctx, first+uint64(i))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look up ledger sequence %d: %w", first+uint64(i), err)
		}
		if m.Subject != a.Subject || m.Header.Get(jetstream.MsgIDHeader) != a.Record.ID.String() {
			return nil, nil
		}
	}
	return contiguous(first, len(as)), nil
}

// LastOn is the last record on a ledger subject, or on several that a wildcard
// names; ok is false if there is none.
func (l *Log) LastOn(ctx context.Context, subject string) (r Record, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.lookWithin)
	defer cancel()
	s, err := l.js.Stream(ctx, ledgerStream)
	if err != nil {
		return Record{}, false, fmt.Errorf("look up the ledger: %w", err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("look up %s: %w", subject, err)
	}
	r, err = decodeRecord(m.Subject, m.Sequence, m.Data)
	return r, err == nil, err
}

// RecordAt is the record at a sequence of the ledger.
func (l *Log) RecordAt(ctx context.Context, seq uint64) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, l.lookWithin)
	defer cancel()
	s, err := l.js.Stream(ctx, ledgerStream)
	if err != nil {
		return Record{}, fmt.Errorf("look up the ledger: %w", err)
	}
	m, err := s.GetMsg(ctx, seq)
	if err != nil {
		return Record{}, fmt.Errorf("read ledger sequence %d: %w", seq, err)
	}
	return decodeRecord(m.Subject, m.Sequence, m.Data)
}

func decodeRecord(subject string, seq uint64, body []byte) (r Record, err error) {
	if err := json.Unmarshal(body, &r); err != nil {
		return Record{}, fmt.Errorf("decode ledger sequence %d: %w", seq, err)
	}
	r.Seq, r.Subject = seq, subject
	return r, nil
}
