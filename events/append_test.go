package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func someRecord(t testing.TB) Record {
	t.Helper()
	r, err := NewRecord("org.created", time.UnixMilli(1_780_000_000_123), "cli:alice", "a test", map[string]int{"n": 1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustAppend(t testing.TB, l *Log, as ...Append) []uint64 {
	t.Helper()
	seqs, err := l.Append(bounded(t), as...)
	if err != nil || len(seqs) != len(as) {
		t.Fatalf("append: %v %v", seqs, err)
	}
	return seqs
}

func wantLedgerEnd(t testing.TB, l *Log, want uint64) {
	t.Helper()
	var end uint64
	eventually(t, "the ledger is in reach", func() (ok bool) { // a look-up may be lost with a cut connection
		var err error
		end, err = l.LedgerEnd(bounded(t))
		return err == nil
	})
	if end != want {
		t.Fatalf("the ledger ends at %d, want %d", end, want)
	}
}

func TestAppendExpectations(t *testing.T) {
	l := startBox(t).open(Options{})
	ctx := bounded(t)
	subject := OrgSubject(orgA)
	if _, ok, err := l.LastOn(ctx, subject); ok || err != nil {
		t.Fatalf("an empty subject has a last record: %v", err)
	}
	first := someRecord(t)
	seqs := mustAppend(t, l, Append{Subject: subject, Record: first})
	if _, err := l.Append(ctx, Append{Subject: subject, Record: someRecord(t)}); !errors.Is(err, ErrConflict) {
		t.Fatalf("expect 0 on a subject with a record: %v", err)
	}
	if _, err := l.Append(ctx, Append{Subject: subject, Record: someRecord(t), ExpectLast: seqs[0] + 1}); !errors.Is(err, ErrConflict) {
		t.Fatalf("expect a sequence that is not there: %v", err)
	}
	mustAppend(t, l, Append{Subject: OrgSubject(orgB), Record: someRecord(t)}) // another entity is no conflict
	second := someRecord(t)
	mustAppend(t, l, Append{Subject: subject, Record: second, ExpectLast: seqs[0]})
	mustAppend(t, l, Append{Subject: subject, Record: someRecord(t), Unchecked: true})
	wantLedgerEnd(t, l, 4)
	got, ok, err := l.LastOn(ctx, OrgSubject(orgB))
	if err != nil || !ok || got.Seq != 2 || got.Subject != OrgSubject(orgB) || got.Actor != "cli:alice" || !got.At.Equal(first.At) {
		t.Fatalf("last = %+v, %v", got, err)
	}
	if at, err := l.RecordAt(ctx, 2); err != nil || !reflect.DeepEqual(at, got) {
		t.Fatalf("at 2: %+v, %v; want %+v", at, err, got)
	}
	for _, seq := range []uint64{0, 5} {
		if _, err := l.RecordAt(ctx, seq); err == nil {
			t.Fatalf("there is a record at %d", seq)
		}
	}
	var data map[string]int
	if err := got.Into(&data); err != nil || data["n"] != 1 {
		t.Fatalf("data %v, %v", data, err)
	}
	got.Version++
	if err := got.Into(&data); !errors.Is(err, ErrNewerRecord) {
		t.Fatalf("a newer record: %v", err)
	}
}

// TestExpectOnManySubjects: of those who make an entity at once, each with a subject
// of its own, one is first; and whoever changes one in between is seen too.
func TestExpectOnManySubjects(t *testing.T) {
	l := startBox(t).open(Options{})
	ctx := bounded(t)
	last := uint64(0)
	for round := range 5 {
		const racers = 8
		results := make(chan uint64, racers)
		for range racers {
			racer := Append{Subject: KeySubject(orgA, NewID()), Record: someRecord(t), ExpectLast: last, ExpectOn: KeysSubject(orgA)}
			go func() { // last moves as soon as one of them is in
				seqs, err := l.Append(ctx, racer)
				if err != nil && !errors.Is(err, ErrConflict) {
					t.Errorf("round %d: %v", round, err)
				}
				if err != nil {
					seqs = []uint64{0}
				}
				results <- seqs[0]
			}()
		}
		won := 0
		for range racers {
			if seq := <-results; seq > 0 {
				won, last = won+1, seq
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d were first", round, won)
		}
		mustAppend(t, l, Append{Subject: KeySubject(orgB, NewID()), Record: someRecord(t)}) // another org is no conflict
		r, ok, err := l.LastOn(ctx, KeysSubject(orgA))
		if err != nil || !ok || r.Seq != last {
			t.Fatalf("the last of all is %+v, %v, want %d", r, err, last)
		}
		if round == 3 { // a change of one, by its own subject alone
			changed := Append{Subject: r.Subject, Record: someRecord(t), ExpectLast: last}
			mustAppend(t, l, changed)
			stale := Append{Subject: KeySubject(orgA, NewID()), Record: someRecord(t), ExpectLast: last, ExpectOn: KeysSubject(orgA)}
			if _, err := l.Append(ctx, stale); !errors.Is(err, ErrConflict) {
				t.Fatalf("past a change: %v", err)
			}
			last += 2
		}
	}
	again := Append{Subject: KeySubject(orgA, NewID()), Record: someRecord(t), ExpectLast: last, ExpectOn: KeysSubject(orgA)}
	first := mustAppend(t, l, again)
	if got := mustAppend(t, l, again); got[0] != first[0] {
		t.Errorf("the identical call gave %d, then %d", first[0], got[0])
	}
}

func batchOf(t testing.TB, n int) []Append {
	as := make([]Append, n)
	for i := range as {
		as[i] = Append{Subject: fmt.Sprintf("LEDGER.run.%04d", i), Record: someRecord(t)}
	}
	return as
}

func TestBatchIsAllOrNothing(t *testing.T) {
	l := startBox(t).open(Options{})
	ctx := bounded(t)
	mustAppend(t, l, Append{Subject: "LEDGER.run.0002", Record: someRecord(t)})
	as := batchOf(t, 5)
	if _, err := l.Append(ctx, as...); !errors.Is(err, ErrConflict) {
		t.Fatalf("one of five conflicts: %v", err)
	}
	wantLedgerEnd(t, l, 1)
	as[2].ExpectLast = 1
	if got := mustAppend(t, l, as...); !reflect.DeepEqual(got, []uint64{2, 3, 4, 5, 6}) {
		t.Fatalf("sequences %v", got)
	}
	for name, bad := range map[string][]Append{
		"one subject twice":    {as[0], as[0]},
		"another stream":       {{Subject: "USAGE.0", Record: someRecord(t)}},
		"no entity":            {{Subject: "LEDGER.", Record: someRecord(t)}},
		"empty token":          {{Subject: PriceSubject(""), Record: someRecord(t)}},
		"wildcard":             {{Subject: "LEDGER.>", Record: someRecord(t)}},
		"data that is no JSON": {{Subject: "LEDGER.x", Record: Record{Data: json.RawMessage("{")}}},
	} {
		if _, err := l.Append(ctx, bad...); err == nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if seqs, err := l.Append(ctx); err != nil || seqs != nil {
		t.Errorf("nothing: %v %v", seqs, err)
	}
	wantLedgerEnd(t, l, 6)
}

// TestIdenticalRetryIsSuccess: at R1 the server answers an identical retry with
// "wrong last sequence", which must not look like a conflict, whatever was
// appended on top of it since.
func TestIdenticalRetryIsSuccess(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	single := Append{Subject: OrgSubject(orgA), Record: someRecord(t)}
	unchecked := Append{Subject: JournalSubject(orgA), Record: someRecord(t), Unchecked: true}
	batch := batchOf(t, 3)
	batch[1].Unchecked = true
	loose := []Append{{Subject: "LEDGER.a", Record: someRecord(t), Unchecked: true}, {Subject: "LEDGER.b", Record: someRecord(t), Unchecked: true}}
	cases := map[string][]Append{"single": {single}, "unchecked": {unchecked}, "batch": batch, "unchecked batch": loose}
	first := map[string][]uint64{}
	var last uint64
	for name, as := range cases {
		first[name] = mustAppend(t, l, as...)
		last += uint64(len(as))
	}
	check := func(when string) {
		t.Helper()
		for name, as := range cases {
			if got := mustAppend(t, l, as...); !reflect.DeepEqual(got, first[name]) {
				t.Fatalf("%s %s: sequences %v, first %v", name, when, got, first[name])
			}
		}
		wantLedgerEnd(t, l, last)
	}
	check("at once")
	for _, as := range cases {
		for _, a := range as { // others build on top
			mustAppend(t, l, Append{Subject: a.Subject, Record: someRecord(t), Unchecked: true})
			last++
		}
	}
	check("after others")
	b.stop()
	b.start()
	check("after a restart")
	// The same id in another batch is not the same call.
	mixed := []Append{{Subject: "LEDGER.c", Record: someRecord(t)}, {Subject: "LEDGER.d", Record: batch[0].Record}}
	if _, err := l.Append(bounded(t), mixed...); !errors.Is(err, ErrConflict) {
		t.Fatalf("a reused record: %v", err)
	}
	wantLedgerEnd(t, l, last)
}

func TestTwoRacersOneWinner(t *testing.T) {
	b := startBox(t)
	logs := []*Log{b.open(Options{}), b.open(Options{})}
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	var last uint64
	for round := range rounds {
		var wg sync.WaitGroup
		seqs, errs := make([]uint64, 4), make([]error, 4)
		for i := range seqs {
			wg.Go(func() {
				as := []Append{{Subject: OrgSubject(orgA), Record: someRecord(t), ExpectLast: last}}
				if round%2 == 1 { // racers of batches
					as = append(as, Append{Subject: RunSubject(NewID(), "2026-05"), Record: someRecord(t)})
				}
				var got []uint64
				if got, errs[i] = logs[i%2].Append(bounded(t), as...); errs[i] == nil {
					seqs[i] = got[0]
				}
			})
		}
		wg.Wait()
		winners := 0
		for i, err := range errs {
			if err == nil {
				winners++
				last = seqs[i]
			} else if !errors.Is(err, ErrConflict) {
				t.Fatal(err)
			}
		}
		if winners != 1 {
			t.Fatalf("round %d has %d winners: %v", round, winners, errs)
		}
	}
}

// TestUnconfirmedAppendIsResolved: the write is in the log, its answer is lost
// and, while the caller waits, another writer builds on top of it.
func TestUnconfirmedAppendIsResolved(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := startBox(t)
			l := b.open(Options{})
			as := batchOf(t, n)
			if n > 1 {
				// The first message of a batch waits for an answer; only the last may be lost.
				l.js = deafAfterFirst(b, l)
			} else {
				b.deafen()
			}
			type result struct {
				seqs []uint64
				err  error
			}
			done := make(chan result, 1)
			go func() {
				seqs, err := l.Append(bounded(t), as...)
				done <- result{seqs, err}
			}()
			nc := b.observe()
			s := streamNamed(t, nc, ledgerStream)
			eventually(t, "the records are stored", func() bool {
				info, err := s.Info(bounded(t))
				return err == nil && info.State.LastSeq == uint64(n)
			})
			m := nats.NewMsg(as[0].Subject)
			m.Data = []byte("{}")
			if _, err := mustJS(t, nc).PublishMsg(bounded(t), m); err != nil {
				t.Fatal(err)
			}
			b.cut()
			if got := <-done; got.err != nil || !reflect.DeepEqual(got.seqs, contiguous(1, n)) {
				t.Fatalf("%v, %v", got.seqs, got.err)
			}
			wantLedgerEnd(t, l, uint64(n)+1)
		})
	}
}

func mustJS(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// deafJS makes the box's connections deaf when a batch's second message goes out.
type deafJS struct {
	jetstream.JetStream
	conns int
	hook  func()
}

func (d *deafJS) Conn() *nats.Conn {
	if d.conns++; d.conns == 3 { // NewRespInbox and RequestMsg of the first message came before
		d.hook()
	}
	return d.JetStream.Conn()
}

func deafAfterFirst(b *natsBox, l *Log) jetstream.JetStream {
	return &deafJS{JetStream: l.js, hook: b.deafen}
}

func TestAppendAcrossRestart(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{})
	var want []uint64
	for range 3 {
		b.stop()
		done := make(chan []uint64, 1)
		go func() {
			seqs, err := l.Append(bounded(t), Append{Subject: RunSubject(NewID(), "x"), Record: someRecord(t)})
			if err != nil {
				t.Error(err)
			}
			done <- seqs
		}()
		b.start()
		want = append(want, <-done...)
	}
	if !reflect.DeepEqual(want, []uint64{1, 2, 3}) {
		t.Fatalf("sequences %v", want)
	}
	wantLedgerEnd(t, l, 3)
	cancelled, cancel := context.WithCancel(bounded(t))
	cancel()
	if _, err := l.Append(cancelled, Append{Subject: "LEDGER.x", Record: someRecord(t)}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Fatalf("nothing was sent: %v", err)
	}
}

func TestSubjectsAreDistinctTokens(t *testing.T) {
	seen := map[string]string{}
	for name, s := range map[string]string{
		"org": OrgSubject(orgA), "org B": OrgSubject(orgB), "key": KeySubject(orgA, orgB), "journal": JournalSubject(orgA),
		"run": RunSubject(orgA, "2026-05"), "price": PriceSubject("gpt-5"), "price dotted": PriceSubject("gpt.5"),
		"price wild": PriceSubject("gpt>5 *"), "price upper": PriceSubject("GPT-5"), "series": SeriesSubject("aione.cn", 2026),
	} {
		if twin, dup := seen[s]; dup {
			t.Errorf("%s and %s share %s", name, twin, s)
		}
		seen[s] = name
		if _, err := appendMessages([]Append{{Subject: s, Record: someRecord(t)}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
