package webhooks

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/keys"
)

func peppersOf(versions ...int) (list []keys.Pepper) {
	for _, v := range versions {
		p := pepper1
		p.Version = v
		list = append(list, p)
	}
	return list
}

// A secret depends on the endpoint, its version and the pepper, and is found again
// after the pepper was replaced, for as long as it is kept.
func TestSecretsAreDerived(t *testing.T) {
	seen := map[string]bool{}
	both := theSecrets
	old, err := NewSecrets(pepper1)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uuid.UUID{{1}, {2}} {
		for version := 1; version <= 11; version++ {
			for pepper := 1; pepper <= 2; pepper++ {
				v := secretVersion{Version: version, Pepper: pepper}
				text, err := both.show(id, v)
				if err != nil || seen[text] {
					t.Fatalf("%v: %v, seen before: %t", v, err, seen[text])
				}
				seen[text] = true
				again, err := old.show(id, v)
				if pepper == 1 && again != text || pepper == 2 && err != errPepperGone {
					t.Fatalf("with the first pepper alone: %v, the same: %t", err, again == text)
				}
			}
		}
	}
	if both.newest() != 2 {
		t.Error("new secrets do not use the newest pepper")
	}
}

// ledger feeds a book without a log: millions of records are for folds alone.
type ledger struct {
	t    *testing.T
	book *Book
	seq  uint64
	org  uuid.UUID
}

func (l *ledger) apply(subject, typ string, data any) events.Record {
	l.t.Helper()
	r, err := events.NewRecord(typ, time.Unix(int64(l.seq), 0), "test", "", data)
	if err != nil {
		l.t.Fatal(err)
	}
	l.seq++
	r.Seq, r.Subject = l.seq, subject
	if err := l.book.Apply(r); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func newLedger(t *testing.T) (*ledger, uuid.UUID) {
	l := &ledger{t: t, book: newBook(t), org: uuid.New()}
	id := uuid.New()
	l.apply(announcedSubject, recordAnnounced, announcedData{thingTypes})
	l.apply(endpointSubject(l.org), recordCreated, createdData{identity: identity{id, l.org}, URL: "https://example.com", Pepper: 1})
	return l, id
}

// However much waits, ends or happens, what is held is bounded, and what is past
// the bounds is said.
func TestBooksAreBounded(t *testing.T) {
	l, id := newLedger(t)
	const over = 100
	var first uint64
	for range waitingMax + over {
		l.apply("LEDGER.thing.x", "thing.born", thing{OrgID: l.org})
		if first == 0 {
			first = l.seq
		}
	}
	counts := func() (waiting, delivered, dead, messages int) {
		_, waiting, _ = l.book.Deliveries(l.org, id, StatusWaiting, 1, 1)
		_, delivered, _ = l.book.Deliveries(l.org, id, StatusDelivered, 1, 1)
		_, dead, _ = l.book.Deliveries(l.org, id, StatusDead, 1, 1)
		tenant := l.book.orgs[l.org]
		if len(tenant.byID) != len(tenant.messages) {
			t.Errorf("%d messages by id, %d in order", len(tenant.byID), len(tenant.messages))
		}
		return waiting, delivered, dead, len(tenant.messages)
	}
	if waiting, delivered, dead, messages := counts(); waiting != waitingMax || delivered != 0 || dead != over || messages != messagesMax {
		t.Errorf("%d wait, %d delivered, %d dead, %d messages", waiting, delivered, dead, messages)
	}
	if list, _, _ := l.book.Deliveries(l.org, id, StatusDead, 1, 1); list[0].Error == "" || list[0].Attempts != 0 {
		t.Errorf("%+v", list[0])
	}
	var all []outcome
	for seq := first; seq < first+waitingMax; seq++ {
		all = append(all, outcome{Endpoint: id, Seq: seq, Status: StatusDelivered, Attempts: 1})
	}
	for some := range slices.Chunk(all, recordOutcomesMax) {
		l.apply(deliverySubject(l.org), recordAttempted, attemptedData{l.org, some})
	}
	if waiting, delivered, dead, _ := counts(); waiting != 0 || delivered != endedMax || dead != over {
		t.Errorf("%d wait, %d delivered, %d dead", waiting, delivered, dead)
	}
	// A replay of all that is remembered is as much as may wait.
	for range 3 {
		l.apply(endpointSubject(l.org), recordReplayed, replayedData{identity: identity{id, l.org}, Since: time.Unix(0, 0)})
		if waiting, _, dead, _ := counts(); waiting != waitingMax || dead > over {
			t.Errorf("%d wait, %d dead", waiting, dead)
		}
	}
	e := l.book.orgs[l.org].endpoints[id]
	if len(e.deliveries) > waitingMax+2*endedMax || len(e.ended[StatusDead]) > endedMax || len(e.ended[StatusDelivered]) > endedMax {
		t.Errorf("%d deliveries are held", len(e.deliveries))
	}
}

// What happened before a type was announced is no message, also for a build that
// knows the type from the beginning of the log.
func TestTypesBeginWhereTheyAreAnnounced(t *testing.T) {
	l := &ledger{t: t, book: newBook(t), org: uuid.New()}
	id := uuid.New()
	l.apply(endpointSubject(l.org), recordCreated, createdData{identity: identity{id, l.org}, URL: "https://example.com", Pepper: 1})
	l.apply(announcedSubject, recordAnnounced, announcedData{[]string{"thing.born"}})
	l.apply("LEDGER.thing.x", "thing.born", thing{OrgID: l.org})
	l.apply("LEDGER.thing.x", "thing.grown", thing{OrgID: l.org})
	if got := l.book.unannounced(); !slices.Equal(got, []string{"thing.grown"}) {
		t.Errorf("not announced: %v", got)
	}
	l.apply(announcedSubject, recordAnnounced, announcedData{[]string{"thing.grown"}})
	l.apply("LEDGER.thing.x", "thing.grown", thing{OrgID: l.org})
	list, _, err := l.book.Deliveries(l.org, id, "", 1, 10)
	if err != nil || len(list) != 2 || list[0].Type != "thing.grown" || list[1].Type != "thing.born" {
		t.Errorf("%+v, %v", list, err)
	}
}

// A log that contradicts itself, or was written by a later build, is an error.
func TestBookRefusesWhatItDoesNotUnderstand(t *testing.T) {
	l, id := newLedger(t)
	other := uuid.New()
	for what, r := range map[string]struct {
		subject, typ string
		data         any
	}{
		"another org's subject":     {endpointSubject(other), recordDisabled, identity{id, l.org}},
		"outcomes of another org":   {deliverySubject(other), recordAttempted, attemptedData{OrgID: l.org}},
		"an endpoint never made":    {endpointSubject(l.org), recordDisabled, identity{other, l.org}},
		"an endpoint made twice":    {endpointSubject(l.org), recordCreated, createdData{identity: identity{id, l.org}}},
		"a record of a later build": {endpointSubject(l.org), "webhook.painted", identity{id, l.org}},
		"data of another form":      {endpointSubject(l.org), recordRotated, []int{1}},
	} {
		record, err := events.NewRecord(r.typ, time.Now(), "test", "", r.data)
		if err != nil {
			t.Fatal(err)
		}
		record.Seq, record.Subject = l.seq+1, r.subject
		if err := l.book.Apply(record); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
