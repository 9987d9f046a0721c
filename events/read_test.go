package events

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func publishSingly(t testing.TB, l *Log, n int) {
	t.Helper()
	for range n {
		if err := l.Publish(bounded(t), someUsages(1)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantNext(t testing.TB, r *Reader, seq uint64) {
	t.Helper()
	m, err := r.Next(bounded(t))
	if err != nil || m.Seq != seq || m.At.IsZero() || m.Subject != "USAGE.0" {
		t.Fatalf("want sequence %d, got %d, %v", seq, m.Seq, err)
	}
}

func TestReaderFromAnywhereAndOverARestart(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	publishSingly(t, l, 10)
	for _, from := range []uint64{0, 1, 4, 10} {
		r, err := l.ReadUsage(bounded(t), 0, from)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stop()
		for seq := max(from, 1); seq <= 10; seq++ {
			wantNext(t, r, seq)
		}
		if from != 4 {
			continue
		}
		// A context that ends leaves the reader where it is.
		short, cancel := context.WithTimeout(bounded(t), time.Millisecond)
		if _, err := r.Next(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("at the end: %v", err)
		}
		cancel()
		b.stop()
		if _, err := r.Next(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("while the server is away: %v", err)
		}
		b.start()
		publishSingly(t, l, 5)
		for seq := uint64(11); seq <= 15; seq++ {
			wantNext(t, r, seq)
		}
		r.Stop()
		r.Stop()
		if _, err := r.Next(bounded(t)); err == nil {
			t.Fatal("a stopped reader goes on")
		}
	}
	end, at, err := l.UsageEnd(bounded(t), 0)
	if err != nil || end != 15 || at.IsZero() {
		t.Fatalf("end %d %s %v", end, at, err)
	}
	m, err := l.UsageAt(bounded(t), 0, 15)
	if err != nil || m.Seq != 15 || !m.At.Equal(at) {
		t.Fatalf("at the end: %+v %v", m, err)
	}
	if _, err := l.UsageAt(bounded(t), 0, 16); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Fatalf("past the end: %v", err)
	}
}

func TestReaderBehindAReplacedLog(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	publishSingly(t, l, 3)
	r, err := l.ReadUsage(bounded(t), 0, 4) // exactly the next one is right
	if err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if _, err := l.ReadUsage(bounded(t), 0, 5); !errors.Is(err, ErrGap) {
		t.Fatalf("the log ends before where the reader was: %v", err)
	}
	if err := l.Follow(bounded(t), 2, func(Record) error { return nil }); !errors.Is(err, ErrGap) {
		t.Fatalf("follow: %v", err)
	}
	if err := l.checkReaches(usageStream(0), 4); err != nil {
		t.Fatal(err)
	}
	if err := l.checkReaches(usageStream(0), 5); !errors.Is(err, ErrGap) {
		t.Fatalf("check: %v", err)
	}
}

// fakeSource yields messages with the given stream sequences, then waits.
type fakeSource struct {
	seqs    []uint64
	stopped chan struct{}
}

func (f *fakeSource) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	if len(f.seqs) == 0 {
		select {
		case <-f.stopped:
			return nil, jetstream.ErrMsgIteratorClosed
		case <-time.After(time.Millisecond):
			return nil, nats.ErrTimeout
		}
	}
	seq := f.seqs[0]
	f.seqs = f.seqs[1:]
	return fakeMsg{seq: seq}, nil
}
func (f *fakeSource) Stop()  { close(f.stopped) }
func (f *fakeSource) Drain() {}

type fakeMsg struct {
	jetstream.Msg
	seq uint64
}

func (m fakeMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.seq}}, nil
}
func (m fakeMsg) Subject() string      { return "USAGE.0" }
func (m fakeMsg) Data() []byte         { return nil }
func (m fakeMsg) Headers() nats.Header { return nil }

func TestReaderRaisesGaps(t *testing.T) {
	reaches := func(uint64) error { return nil }
	for name, c := range map[string]struct {
		from uint64
		seqs []uint64
		good int
	}{
		"skipped":         {1, []uint64{1, 2, 4, 5}, 2},
		"repeated":        {1, []uint64{1, 1}, 1},
		"stepped back":    {7, []uint64{7, 8, 1}, 2},
		"lost its front":  {3, []uint64{9}, 0},
		"skipped, healed": {1, []uint64{1, 3, 2}, 1},
	} {
		src := &fakeSource{seqs: c.seqs, stopped: make(chan struct{})}
		r := newReader(src, 0, c.from, time.Second, reaches)
		for i := range c.good {
			wantNext := c.from + uint64(i)
			if m, err := r.Next(bounded(t)); err != nil || m.Seq != wantNext {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if _, err := r.Next(bounded(t)); !errors.Is(err, ErrGap) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Next(bounded(t)); err == nil {
			t.Errorf("%s: the reader goes on past a gap", name)
		}
		r.Stop()
	}
	// A log that was replaced by a shorter one sends nothing at all.
	var asked atomic.Uint64
	src := &fakeSource{seqs: []uint64{5}, stopped: make(chan struct{})}
	r := newReader(src, 0, 5, time.Millisecond, func(next uint64) error {
		if asked.Add(1) < 3 {
			return nil
		}
		return fmt.Errorf("%w: at %d", ErrGap, next)
	})
	defer r.Stop()
	if _, err := r.Next(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(bounded(t)); !errors.Is(err, ErrGap) {
		t.Fatalf("replaced by a shorter log: %v", err)
	}
}

func TestFollowOverRestarts(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	const total = 30
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	var applied atomic.Uint64
	done := make(chan error, 1)
	go func() {
		done <- l.Follow(ctx, 1, func(r Record) error {
			if want := applied.Load() + 1; r.Seq != want || r.Subject == "" || r.Type != "org.created" {
				return fmt.Errorf("sequence %d after %d", r.Seq, applied.Load())
			}
			applied.Add(1)
			return nil
		})
	}()
	for i := range total {
		mustAppend(t, l, Append{Subject: RunSubject(NewID(), "x"), Record: someRecord(t)})
		if i == total/2 {
			b.stop()
			b.start()
		}
	}
	eventually(t, "all records are applied", func() bool {
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
		return applied.Load() == total
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("follow ends with %v", err)
	}

	broken := errors.New("broken")
	calls := 0
	err := l.Follow(bounded(t), 7, func(r Record) error {
		if calls++; calls == 3 && r.Seq == 9 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || calls != 3 {
		t.Fatalf("after %d calls: %v", calls, err)
	}
}

func TestFollowStartsWhileTheServerIsAway(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	mustAppend(t, l, Append{Subject: OrgSubject(orgA), Record: someRecord(t)})
	b.stop()
	seen := make(chan uint64, 1)
	go l.Follow(bounded(t), 1, func(r Record) error { seen <- r.Seq; return nil })
	b.start()
	select {
	case <-seen:
	case <-bounded(t).Done():
		t.Fatal("never followed")
	}
	closed := b.connect()
	other, err := Open(bounded(t), closed, Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- other.Follow(bounded(t), 1, func(Record) error { seen <- 0; return nil }) }()
	<-seen
	closed.Close()
	if err := <-done; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a connection closed for good: %v", err)
	}
}
