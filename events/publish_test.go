package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aione/embedded"
)

func TestConcurrentPublishersShareMessages(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	ctx := bounded(t)
	const publishers, each = 200, 5
	want := someUsages(publishers * each)
	start := make(chan struct{})
	errs := make(chan error, publishers)
	for p := range publishers {
		go func() {
			<-start
			for i := range each {
				at := p*each + i
				if err := l.Publish(ctx, want[at:at+1]); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	close(start)
	for range publishers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	got, messages := readAll(t, l, 0)
	wantOnce(t, got, want)
	if messages*4 > len(want) {
		t.Errorf("%d messages for %d events of %d publishers: no group commit", messages, len(want), publishers)
	}
	last, err := l.UsageLast(ctx, orgA)
	if err != nil || last != uint64(messages) {
		t.Errorf("UsageLast %d, %v", last, err)
	}
}

func TestLargeBatchesAreSplit(t *testing.T) {
	b := startBoxWith(t, embedded.NATSOptions{PayloadMaxBytes: 64 << 10})
	l := b.open(Options{})
	ctx := bounded(t)
	want := someUsages(2000)
	if err := l.Publish(ctx, want); err != nil {
		t.Fatal(err)
	}
	got, messages := readAll(t, l, 0)
	wantOnce(t, got, want)
	for i := range got {
		if got[i].ID != want[i].ID {
			t.Fatalf("event %d of the call is out of order", i)
		}
	}
	if messages < 6 {
		t.Errorf("2000 events of about 300 bytes in %d messages of 64 KiB", messages)
	}
	for seq := range messages {
		m, err := l.UsageAt(ctx, 0, uint64(seq+1))
		if err != nil || len(m.Data) > 64<<10 || m.Seq != uint64(seq+1) || m.Subject != "USAGE.0" {
			t.Fatalf("message %d: %d bytes, %v", seq+1, len(m.Data), err)
		}
	}
}

func TestSplitKeepsBothLimits(t *testing.T) {
	for _, c := range []struct{ events, size, limit, parts int }{
		{0, 10, 100, 0}, {1, 10, 100, 1}, {9, 10, 99, 1}, {10, 10, 99, 2}, {3, 200, 100, 3},
		{MaxEnvelopeEvents, 1, 1 << 30, 1}, {MaxEnvelopeEvents + 1, 1, 1 << 30, 2}, {2*MaxEnvelopeEvents + 1, 1, 1 << 30, 3},
	} {
		var f frameBatch
		for range c.events {
			f.add(make([]byte, c.size))
		}
		parts := f.split(c.limit)
		if len(parts) != c.parts {
			t.Errorf("%+v: %d parts", c, len(parts))
		}
		var total int
		var all []byte
		for _, p := range parts {
			total += p.count
			all = append(all, p.frames...)
			if p.count > MaxEnvelopeEvents || (len(p.frames) > c.limit && p.count > 1) {
				t.Errorf("%+v: a part of %d events, %d bytes", c, p.count, len(p.frames))
			}
		}
		if total != c.events || string(all) != string(f.frames) {
			t.Errorf("%+v: parts hold %d events", c, total)
		}
	}
}

func TestInvalidEventKeepsItsBatchOut(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{Shards: 2})
	us := someUsages(50)
	us[0].OrgID, us[49].Model = orgB, ""
	if err := l.Publish(bounded(t), us); !errors.Is(err, ErrInvalidUsage) {
		t.Fatalf("err = %v", err)
	}
	for shard := range 2 {
		if end, _, err := l.UsageEnd(bounded(t), shard); err != nil || end != 0 {
			t.Fatalf("shard %d ends at %d, %v", shard, end, err)
		}
	}
	if err := l.Publish(bounded(t), nil); err != nil {
		t.Fatalf("nothing to publish: %v", err)
	}
	a := Admission{ID: NewID(), Estimate: us[1]}
	for name, bad := range map[string]Admission{"other id": a, "negative": {ID: us[1].ID, Estimate: us[1], Deadline: -1}, "endless": {ID: us[1].ID, Estimate: us[1], Deadline: MaxDeadline + 1}} {
		if err := l.Admit(bounded(t), bad); !errors.Is(err, ErrInvalidUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShardsAndAdmissions(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{Shards: 3})
	ctx := bounded(t)
	want := map[int][]Usage{}
	var all []Usage
	for range 60 {
		u := someUsage(NewID())
		want[l.Shard(u.OrgID)] = append(want[l.Shard(u.OrgID)], u)
		all = append(all, u)
	}
	if err := l.Publish(ctx, all); err != nil {
		t.Fatal(err)
	}
	for shard := range l.Shards() {
		got, _ := readAll(t, l, shard)
		wantOnce(t, got, want[shard])
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := l.Admit(ctx, Admission{ID: all[i].ID, Estimate: all[i], Deadline: time.Minute}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	end, err := l.AdmissionsEnd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.ReadAdmissions(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	seen := map[string]bool{}
	for seq := uint64(1); seq <= end; seq++ {
		batch, err := r.Next(ctx)
		if err != nil || batch.Err != nil || batch.Seq != seq {
			t.Fatalf("admissions %d: %v %v", seq, err, batch.Err)
		}
		for _, a := range batch.Admissions {
			seen[a.ID.String()] = a.Deadline == time.Minute
		}
	}
	for _, u := range all[:20] {
		if !seen[u.ID.String()] {
			t.Errorf("admission %s is missing", u.ID)
		}
	}
	if _, err := l.ReadUsage(ctx, 3, 1); err == nil {
		t.Error("a shard that does not exist can be read")
	}
}

func TestCloseFlushesAndRefuses(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	ctx := bounded(t)
	const publishers = 100
	us := someUsages(publishers)
	errs := make([]error, publishers)
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() { errs[i] = l.Publish(ctx, us[i:i+1]) })
	}
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	var durable []Usage
	for i, err := range errs {
		switch {
		case err == nil:
			durable = append(durable, us[i])
		case !errors.Is(err, ErrClosed):
			t.Fatalf("publisher %d: %v", i, err)
		}
	}
	if err := l.Publish(ctx, us[:1]); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	if err := l.Admit(ctx, Admission{ID: us[0].ID, Estimate: us[0]}); !errors.Is(err, ErrClosed) {
		t.Errorf("admit after close: %v", err)
	}
	if err := l.Close(ctx); err != nil {
		t.Errorf("second close: %v", err)
	}
	got, _ := readAll(t, l, 0)
	wantOnce(t, got, durable)
}

// blockedCommitter is stuck in its first write until released.
func blockedCommitter(t *testing.T) (c *committer, release func()) {
	gate := make(chan struct{})
	c = newCommitter(nil, "USAGE.0", 1<<20, testBound, testBound, 0)
	var writes atomic.Int32
	c.publish = func(ctx context.Context, m *nats.Msg) error { writes.Add(1); <-gate; return nil }
	if err := c.submit(bounded(t), onePending()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first write has begun", func() bool { return writes.Load() == 1 })
	return c, sync.OnceFunc(func() { close(gate) })
}

func onePending() *pending {
	u := goldenUsage()
	var f frameBatch
	f.add(AppendUsage(nil, &u))
	return f.split(1 << 20)[0]
}

func TestCloseHeedsItsContextWhileTheQueueIsFull(t *testing.T) {
	c, release := blockedCommitter(t)
	defer release()
	ctx := bounded(t)
	taken := make(chan *pending, 2*committerQueue)
	refused := make(chan error, 2*committerQueue)
	const callers = committerQueue + 500 // more than the queue holds
	for range callers {
		go func() {
			p := onePending()
			if err := c.submit(ctx, p); err != nil {
				refused <- err
				return
			}
			taken <- p
		}()
	}
	eventually(t, "the queue is full", func() bool { return len(c.in) == committerQueue })
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := c.close(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("close: %v", err)
	}
	release()
	if err := c.close(ctx); err != nil {
		t.Fatal(err)
	}
	for range callers {
		select {
		case err := <-refused:
			if !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		case p := <-taken:
			if err := p.wait(ctx); err != nil {
				t.Fatalf("taken, but %v", err)
			}
		case <-ctx.Done():
			t.Fatal("a caller was never answered")
		}
	}
}

func TestCancelledWaitIsUnknown(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	b.deafen()
	ctx, cancel := context.WithCancel(bounded(t))
	us := someUsages(1)
	done := make(chan error, 1)
	go func() { done <- l.Publish(ctx, us) }()
	s := streamNamed(t, b.observe(), usageStream(0))
	eventually(t, "the event is stored", func() bool {
		info, err := s.Info(bounded(t))
		return err == nil && info.State.LastSeq == 1
	})
	cancel()
	if err := <-done; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	b.cut()
	got, _ := readAll(t, l, 0)
	wantOnce(t, got, us)
}

// TestLostAnswerIsNotASecondCopy: the log has the event, the caller's connection
// dies before it hears so, the retry is recognised.
func TestLostAnswerIsNotASecondCopy(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	b.deafen()
	us := someUsages(3)
	done := make(chan error, 1)
	go func() { done <- l.Publish(bounded(t), us) }()
	s := streamNamed(t, b.observe(), usageStream(0))
	eventually(t, "the events are stored", func() bool {
		info, err := s.Info(bounded(t))
		return err == nil && info.State.LastSeq == 1
	})
	b.cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got, messages := readAll(t, l, 0)
	wantOnce(t, got, us)
	if messages != 1 {
		t.Errorf("%d messages", messages)
	}
}

func TestServerRestartMidPublish(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	ctx := bounded(t)
	var mu sync.Mutex
	var durable []Usage
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				us := someUsages(2)
				if err := l.Publish(ctx, us); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				durable = append(durable, us...)
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(durable) }
	restarts := 3
	if testing.Short() {
		restarts = 1
	}
	for range restarts {
		before := count()
		eventually(t, "events flow", func() bool { return t.Failed() || count() > before+50 })
		b.stop()
		b.start()
	}
	before := count()
	eventually(t, "events flow again", func() bool { return t.Failed() || count() > before+50 })
	close(stop)
	wg.Wait()
	got, _ := readAll(t, l, 0)
	wantOnce(t, got, durable)
}

func TestServerGoneIsUnknown(t *testing.T) {
	b := startBox(t)
	patient, l := b.open(Options{}), b.open(Options{ConfirmWithin: 150 * time.Millisecond})
	ctx := bounded(t)
	b.stop()
	us := someUsages(2)
	if err := l.Publish(ctx, us[:1]); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrFull) {
		t.Errorf("publish: %v", err)
	}
	if err := l.Admit(ctx, Admission{ID: us[0].ID, Estimate: us[0]}); !errors.Is(err, ErrUnknown) {
		t.Errorf("admit: %v", err)
	}
	if _, err := l.Append(ctx, Append{Subject: OrgSubject(orgA), Record: someRecord(t)}); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrConflict) {
		t.Errorf("append: %v", err)
	}
	b.start()
	if err := patient.Publish(ctx, us[1:]); err != nil { // works again by itself
		t.Fatal(err)
	}
}

func TestFullLogKeepsWhatItHas(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{MaxBytes: 64 << 10})
	ctx := bounded(t)
	var durable []Usage
	var err error
	for len(durable) < 2000 && err == nil {
		us := someUsages(10)
		if err = l.Publish(ctx, us); err == nil {
			durable = append(durable, us...)
		}
	}
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrUnknown) {
		t.Fatalf("after %d events: %v", len(durable), err)
	}
	got, _ := readAll(t, l, 0)
	wantOnce(t, got, durable)
	big := someRecord(t)
	big.Data = []byte(`"` + strings.Repeat("x", 70<<10) + `"`)
	if _, err := l.Append(ctx, Append{Subject: OrgSubject(orgA), Record: big}); !errors.Is(err, ErrFull) {
		t.Fatalf("append: %v", err)
	}
}

func TestWriteTellsAnswersApart(t *testing.T) {
	t.Parallel()
	api := func(status int, code jetstream.ErrorCode, text string) error {
		return fmt.Errorf("nats: %w", &jetstream.APIError{Code: status, ErrorCode: code, Description: text})
	}
	lost, closing := nats.ErrTimeout, api(503, codeStoreFailed, "store is closed")
	full, sealed := api(503, codeStoreFailed, "maximum bytes exceeded"), api(400, 10109, "invalid operation on sealed stream")
	for name, c := range map[string]struct {
		answers []error // the last one repeats
		want    error   // nil for success
		not     error
	}{
		"stored":                         {[]error{nil}, nil, nil},
		"lost, then stored":              {[]error{lost, nil}, nil, nil},
		"server closing, then stored":    {[]error{closing, jetstream.ErrNoStreamResponse, nil}, nil, nil},
		"unavailable, then stored":       {[]error{api(503, 10008, "x"), api(429, 10167, "x"), api(409, codeDuplicateInProcess, "x"), nil}, nil, nil},
		"full":                           {[]error{full}, ErrFull, ErrUnknown},
		"no storage":                     {[]error{api(500, codeNoStorage, "x")}, ErrFull, ErrUnknown},
		"closing, then full":             {[]error{closing, full}, ErrFull, ErrUnknown},
		"lost, then full":                {[]error{lost, full}, ErrUnknown, ErrFull},
		"lost, then refused":             {[]error{lost, sealed}, ErrUnknown, ErrFull},
		"never anything but lost":        {[]error{lost}, ErrUnknown, ErrFull},
		"never anything but unavailable": {[]error{closing}, ErrUnknown, ErrFull},
		"connection closed":              {[]error{nats.ErrConnectionClosed}, ErrUnknown, ErrFull},
		"refused":                        {[]error{sealed}, sealed, ErrUnknown},
	} {
		n, sent := 0, map[string]bool{}
		w := &committer{subject: "USAGE.0", confirmWithin: testBound, attempt: time.Second}
		if strings.HasPrefix(name, "never") {
			w.confirmWithin = 120 * time.Millisecond
		}
		w.publish = func(_ context.Context, m *nats.Msg) error {
			sent[m.Header.Get(jetstream.MsgIDHeader)+string(m.Data)] = true
			n++
			return c.answers[min(n, len(c.answers))-1]
		}
		err := w.write([]*pending{onePending()}, 1)
		if !errors.Is(err, c.want) || (c.not != nil && errors.Is(err, c.not)) {
			t.Errorf("%s: %v", name, err)
		}
		if len(sent) != 1 {
			t.Errorf("%s: retries differ in their id or bytes", name)
		}
	}
}
