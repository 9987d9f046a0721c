package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	// ErrUnknown. Default 30 s; at most the streams' duplicate window of two minutes,
	// past which a retry could become a second copy.
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

	confirmWithin time.Duration
	attempt       time.Duration // of a write
	lookWithin    time.Duration // bounds every look-up: an answer lost with a connection never comes
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
	limit := int(nc.MaxPayload()) - headerBytesMax
	if limit < payloadBytesMin {
		return nil, fmt.Errorf("open the event log: the server takes messages of %d bytes, want at least %d", nc.MaxPayload(), payloadBytesMin+headerBytesMax)
	}
	l := &Log{js: js, logger: o.Logger, shards: o.Shards, confirmWithin: o.ConfirmWithin, attempt: publishAttempt, lookWithin: lookWithin}
	if err := l.ensureStreams(ctx, o); err != nil {
		return nil, err
	}
	for shard := range o.Shards {
		l.usage = append(l.usage, newCommitter(js, usageSubject(shard), limit, o.ConfirmWithin, l.attempt, 0))
	}
	l.admits = newCommitter(js, admissionSubject, limit, o.ConfirmWithin, l.attempt, admitLinger)
	return l, nil
}

const (
	lookWithin = 5 * time.Second

	headerBytesMax  = 4 << 10
	payloadBytesMin = 16 << 10 // several of the largest events
)

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
		if err := checkStream(s.CachedInfo().Config, c, o); err != nil {
			return fmt.Errorf("open stream %s: %w", c.Name, err)
		}
	}
	return nil
}

// checkStream refuses a stream that could forget or lose what it acknowledged.
func checkStream(c, want jetstream.StreamConfig, o Options) error {
	switch {
	case c.Storage != jetstream.FileStorage, c.PersistMode == jetstream.AsyncPersistMode:
		return errors.New("it acknowledges before it has written to disk; a billing log must not")
	case c.Discard != jetstream.DiscardNew, c.MaxAge != 0, c.MaxMsgsPerSubject > 0, c.Retention != jetstream.LimitsPolicy,
		!c.DenyDelete, !c.DenyPurge, c.AllowRollup, c.AllowMsgTTL:
		return errors.New("its settings can drop old events (want limits retention, Discard new, no MaxAge, no MaxMsgsPerSubject, DenyDelete, DenyPurge, no rollups, no TTL)")
	case c.AllowDirect:
		return errors.New("AllowDirect lets reads miss what was just written")
	case c.AllowAtomicPublish != want.AllowAtomicPublish, !slices.Equal(c.Subjects, want.Subjects), c.Mirror != nil, len(c.Sources) > 0, c.SubjectTransform != nil:
		return errors.New("it was made for something else (subjects, sources or atomic publishing differ)")
	case c.Replicas < o.Replicas:
		return fmt.Errorf("it has %d replicas, this process is configured for %d", c.Replicas, o.Replicas)
	case c.Duplicates < o.ConfirmWithin:
		return fmt.Errorf("it recognises duplicates for %s, but a publish may be retried for %s", c.Duplicates, o.ConfirmWithin)
	case c.Metadata[shardsMetadata] != strconv.Itoa(o.Shards):
		return fmt.Errorf("it was made for %s shards, this process is configured for %d; the number of shards is fixed", c.Metadata[shardsMetadata], o.Shards)
	}
	return nil
}

// Close stops taking events, waits until those taken are settled (or ctx ends)
// and returns. It is idempotent.
func (l *Log) Close(ctx context.Context) error {
	all := append([]*committer{l.admits}, l.usage...)
	for _, c := range all {
		c.stop()
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, c.close(ctx))
	}
	return errors.Join(errs...)
}

// Shards is the number of usage shards.
func (l *Log) Shards() int { return l.shards }

// Shard says which usage shard an org's events go to. It never changes for an org.
func (l *Log) Shard(org uuid.UUID) int { return int(xxh3.Hash(org[:]) % uint64(l.shards)) }

// Publish makes usage durable. A nil error means that every event is fsynced in
// the log. After ErrUnknown, and after any error when the call was too large for
// one message, some of the events may be there: publish the same events again,
// or leave it to the sweeper. Concurrent calls share one fsync.
//
// NOTE: events of one call and one org keep their order in the log; calls are
// not atomic.
func (l *Log) Publish(ctx context.Context, us []Usage) error {
	if len(us) == 0 {
		return nil
	}
	waits, err := l.submitUsage(ctx, us)
	for _, p := range waits {
		err = errors.Join(err, p.wait(ctx))
	}
	if err != nil {
		return fmt.Errorf("publish %d usage events: %w", len(us), err)
	}
	return nil
}

// submitUsage encodes all of us before any of it is submitted, so that an
// invalid event keeps the whole batch out of the log.
func (l *Log) submitUsage(ctx context.Context, us []Usage) (waits []*pending, err error) {
	batches := make([]frameBatch, l.shards)
	var scratch [1024]byte // most events fit; a local array costs no allocation
	one := scratch[:0]
	for i := range us {
		cost, err := us[i].check()
		if err != nil {
			return nil, err
		}
		one = appendUsage(one[:0], &us[i], cost)
		b := &batches[l.Shard(us[i].OrgID)]
		if b.frames == nil {
			b.reserve(len(one), len(us)/l.shards)
		}
		b.add(one)
	}
	for shard := range batches {
		for _, p := range batches[shard].split(l.usage[shard].limitBytes) {
			if e := l.usage[shard].submit(ctx, p); e != nil {
				err = errors.Join(err, e)
				continue
			}
			waits = append(waits, p)
		}
	}
	return waits, err
}

// Hurry says that somebody waits for an admission, which then waits for the company
// of others no longer.
func (l *Log) Hurry() { l.admits.hurryUp() }

// Admit makes an admission durable, a little later than Publish would, with those of
// others; see Hurry. The errors are those of Publish.
func (l *Log) Admit(ctx context.Context, a Admission) error {
	if err := a.Validate(); err != nil {
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
