package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"github.com/zeebo/xxh3"
)

// Names of the streams. USAGE_<n> carries subject USAGE.<n>, one per shard;
// admissions have a stream of their own, so that the sequences of USAGE stay
// contiguous and can be audited.
const (
	ledgerStream     = "LEDGER"
	ledgerSubjects   = "LEDGER.>"
	admissionStream  = "ADMITTED"
	admissionSubject = "ADMITTED"
)

func usageStream(shard int) string  { return "USAGE_" + strconv.Itoa(shard) }
func usageSubject(shard int) string { return "USAGE." + strconv.Itoa(shard) }

// duplicateWindow is JetStream's default. It only spares the log a second copy
// when a publish is retried; what makes a retry harmless is the event id.
const duplicateWindow = 2 * time.Minute

// shardsMetadata is the stream metadata key that fixes the number of shards.
const shardsMetadata = "aione_shards"

// JetStream API error codes this package tells apart.
const (
	codeWrongLastSequence = 10071
	codeStoreFailed       = 10077
	codeDuplicateInBatch  = 10201
)

var (
	// ErrUnknown is returned when the log did not confirm in time. The event may
	// be in the log or not; publishing the same event again is always safe.
	ErrUnknown = errors.New("outcome unknown: the event log did not confirm in time")
	// ErrFull is returned when the log has reached its size limit or its disk is
	// full. Nothing was written.
	ErrFull = errors.New("the event log is full")
	// ErrConflict is returned by Append when another writer was first on one of
	// the subjects. Nothing was written; re-read and decide anew.
	ErrConflict = errors.New("another writer was first")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the event log is closed")
	// ErrGap is returned by a reader that misses a sequence: messages of the log
	// are lost, or the stream was replaced.
	ErrGap = errors.New("gap in the event log")
)

// Options configure Open. The zero value suits one machine.
type Options struct {
	Shards   int   // USAGE streams; default 1; fixed by the first Open
	Replicas int   // of every stream; default 1, use 3 in a cluster
	MaxBytes int64 // of each stream; default 0: as much as the server allows

	// ConfirmWithin bounds how long a publish is retried before it is reported as
	// ErrUnknown. Default 30 s.
	ConfirmWithin time.Duration
	Logger        *slog.Logger // default slog.Default()
}

// Log is the event log: streams of usage, of admissions and of the ledger. It is
// safe for concurrent use.
type Log struct {
	js     jetstream.JetStream
	logger *slog.Logger
	shards int
	usage  []*committer
	admits *committer
}

// Open creates the streams if they do not exist and checks their guarantees if
// they do. The connection stays the caller's; close the Log first.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Log, error) {
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = -1
	}
	if o.ConfirmWithin == 0 {
		o.ConfirmWithin = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	l := &Log{js: js, logger: o.Logger, shards: o.Shards}
	if err := l.ensureStreams(ctx, o); err != nil {
		return nil, err
	}
	limit := int(nc.MaxPayload()) - 4096 // room for headers
	for shard := range o.Shards {
		l.usage = append(l.usage, newCommitter(js, usageSubject(shard), limit, o.ConfirmWithin))
	}
	l.admits = newCommitter(js, admissionSubject, limit, o.ConfirmWithin)
	return l, nil
}

func (l *Log) ensureStreams(ctx context.Context, o Options) error {
	configs := []jetstream.StreamConfig{
		{Name: ledgerStream, Subjects: []string{ledgerSubjects}, AllowAtomicPublish: true},
		{Name: admissionStream, Subjects: []string{admissionSubject}},
	}
	for shard := range o.Shards {
		configs = append(configs, jetstream.StreamConfig{Name: usageStream(shard), Subjects: []string{usageSubject(shard)}})
	}
	for _, c := range configs {
		c.Storage = jetstream.FileStorage
		c.Retention = jetstream.LimitsPolicy
		c.Discard = jetstream.DiscardNew
		c.DenyDelete, c.DenyPurge = true, true
		c.Replicas, c.MaxBytes, c.Duplicates = o.Replicas, o.MaxBytes, duplicateWindow
		c.Metadata = map[string]string{shardsMetadata: strconv.Itoa(o.Shards)}
		s, err := l.js.Stream(ctx, c.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s, err = l.js.CreateStream(ctx, c)
		}
		if err != nil {
			return fmt.Errorf("open stream %s: %w", c.Name, err)
		}
		if err := checkStream(s.CachedInfo().Config, o); err != nil {
			return fmt.Errorf("open stream %s: %w", c.Name, err)
		}
	}
	return nil
}

// checkStream refuses a stream that could forget or lose what it acknowledged.
func checkStream(c jetstream.StreamConfig, o Options) error {
	switch {
	case c.Storage != jetstream.FileStorage, c.PersistMode == jetstream.AsyncPersistMode:
		return errors.New("it acknowledges before it has written to disk; a billing log must not")
	case c.Discard != jetstream.DiscardNew, c.MaxAge != 0, !c.DenyDelete, !c.DenyPurge, c.AllowDirect:
		return errors.New("its settings can drop old events (want Discard new, no MaxAge, DenyDelete, DenyPurge, no AllowDirect)")
	case c.Metadata[shardsMetadata] != strconv.Itoa(o.Shards):
		return fmt.Errorf("it was made for %s shards, this process is configured for %d; the number of shards is fixed", c.Metadata[shardsMetadata], o.Shards)
	}
	return nil
}

// Close stops taking events, waits until those taken are settled (or ctx ends)
// and returns. It is idempotent.
func (l *Log) Close(ctx context.Context) error {
	errs := []error{l.admits.close(ctx)}
	for _, c := range l.usage {
		errs = append(errs, c.close(ctx))
	}
	return errors.Join(errs...)
}

// Shards is the number of usage shards.
func (l *Log) Shards() int { return l.shards }

// Shard says which usage shard an org's events go to. It never changes for an org.
func (l *Log) Shard(org uuid.UUID) int { return int(xxh3.Hash(org[:]) % uint64(l.shards)) }

// Publish makes usage durable. A nil error means that every event is fsynced in
// the log. ErrUnknown means that some may not be: publish the same events again,
// or leave it to the sweeper. Concurrent calls share one fsync.
//
// NOTE: all events of one call that belong to one org are contiguous in the log
// unless the call is larger than an envelope; calls are not atomic.
func (l *Log) Publish(ctx context.Context, us []Usage) error {
	batches := make([]frameBatch, l.shards)
	var one []byte
	for i := range us {
		if err := us[i].Validate(); err != nil {
			return err
		}
		one = AppendUsage(one[:0], &us[i])
		batches[l.Shard(us[i].OrgID)].add(one)
	}
	var waits []*pending
	var errs []error
	for shard := range batches {
		for _, p := range batches[shard].split(l.usage[shard].limitBytes) {
			if err := l.usage[shard].submit(ctx, p); err != nil {
				errs = append(errs, err)
				continue
			}
			waits = append(waits, p)
		}
	}
	for _, p := range waits {
		errs = append(errs, p.wait(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("publish %d usage events: %w", len(us), err)
	}
	return nil
}

// Admit makes an admission durable; the errors are those of Publish.
func (l *Log) Admit(ctx context.Context, a Admission) error {
	if a.ID != a.Estimate.ID {
		return fmt.Errorf("admit %s: its estimate has id %s", a.ID, a.Estimate.ID)
	}
	if err := a.Estimate.Validate(); err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	var b frameBatch
	b.add(appendAdmission(nil, &a))
	p := b.split(l.admits.limitBytes)[0]
	if err := l.admits.submit(ctx, p); err != nil {
		return fmt.Errorf("admit %s: %w", a.ID, err)
	}
	if err := p.wait(ctx); err != nil {
		return fmt.Errorf("admit %s: %w", a.ID, err)
	}
	return nil
}

// Append is one record on one subject of the ledger.
type Append struct {
	Subject string
	Record  Record
	// ExpectLast is the sequence of the last message on Subject; 0 means that
	// there must be none. Another value in the log is ErrConflict.
	ExpectLast uint64
	Unchecked  bool // append whatever is there
}

// Append writes records to the ledger, all or none, and returns their
// sequences. Subjects of one call must differ. It resolves an unconfirmed write
// by looking, so its errors are ErrConflict, ErrFull, or that the log is out of
// reach.
func (l *Log) Append(ctx context.Context, as ...Append) ([]uint64, error) {
	msgs := make([]*nats.Msg, len(as))
	for i, a := range as {
		body, err := json.Marshal(a.Record)
		if err != nil {
			return nil, fmt.Errorf("encode record %s: %w", a.Record.Type, err)
		}
		m := nats.NewMsg(a.Subject)
		m.Data = body
		m.Header.Set(jetstream.MsgIDHeader, a.Record.ID.String())
		if !a.Unchecked {
			m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(a.ExpectLast, 10))
		}
		msgs[i] = m
	}
	err := l.appendOnce(ctx, msgs)
	if err == nil {
		return l.sequencesOf(ctx, as)
	}
	// Refused or unconfirmed: the log itself says whether an attempt of ours won.
	seqs, lookErr := l.sequencesOf(ctx, as)
	if lookErr == nil {
		return seqs, nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case codeWrongLastSequence, codeDuplicateInBatch:
			return nil, fmt.Errorf("append to %s: %w", as[0].Subject, ErrConflict)
		case codeStoreFailed:
			return nil, fmt.Errorf("append to %s: %w: %v", as[0].Subject, ErrFull, err)
		}
	}
	return nil, fmt.Errorf("append to %s: %w", as[0].Subject, err)
}

func (l *Log) appendOnce(ctx context.Context, msgs []*nats.Msg) error {
	if len(msgs) == 1 {
		_, err := l.js.PublishMsg(ctx, msgs[0])
		return err
	}
	_, err := jetstreamext.PublishMsgBatch(ctx, l.js, msgs)
	return err
}

var errNotAppended = errors.New("not in the log")

// sequencesOf finds the records in the log by their ids, reading from the
// leader (the streams refuse direct gets).
func (l *Log) sequencesOf(ctx context.Context, as []Append) ([]uint64, error) {
	s, err := l.js.Stream(ctx, ledgerStream)
	if err != nil {
		return nil, fmt.Errorf("look up the ledger: %w", err)
	}
	seqs := make([]uint64, len(as))
	for i, a := range as {
		m, err := s.GetLastMsgForSubject(ctx, a.Subject)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", a.Subject, err)
		}
		if m.Header.Get(jetstream.MsgIDHeader) != a.Record.ID.String() {
			return nil, errNotAppended
		}
		seqs[i] = m.Sequence
	}
	return seqs, nil
}

// LastOn is the last record on a ledger subject; ok is false if there is none.
func (l *Log) LastOn(ctx context.Context, subject string) (r Record, ok bool, err error) {
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
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return Record{}, false, fmt.Errorf("decode ledger sequence %d: %w", m.Sequence, err)
	}
	r.Seq, r.Subject = m.Sequence, m.Subject
	return r, true, nil
}
