package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/admission"
	"aione/billing"
	"aione/embedded"
	"aione/events"
	"aione/keys"
)

// ledgerBatch is how many records are written with one fsync: as many as the log
// takes at once.
const ledgerBatch = 1000

// keysMade is how many keys one set makes before another takes over: what it knows
// of them is of no use here, and would be kept.
const keysMade = 1 << 14

// fillLedger writes orgs, keys and budgets as the commands write them, and returns
// the secrets of the hot keys.
func fillLedger(ctx context.Context, dir string, a *Admission, pepper []byte, progress func(done, total uint64)) (_ []string, err error) {
	nats, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: filepath.Join(dir, "nats"), Port: embedded.NATSPortNone})
	if err != nil {
		return nil, err
	}
	defer nats.Close()
	conn, err := nats.Conn()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	log, err := events.Open(ctx, conn, events.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close(ctx)) }()
	w := &recordWriter{size: min(ledgerBatch, a.Orgs), out: make(chan []events.Append, 8)}
	written := make(chan error, 1)
	go func() {
		var first error
		for batch := range w.out {
			if first == nil {
				_, first = log.Append(ctx, batch...)
			}
		}
		written <- first
	}()
	secrets, err := w.all(ctx, a, pepper, progress)
	close(w.out)
	return secrets, errors.Join(err, <-written)
}

// recordWriter hands records on in batches, each of different subjects.
type recordWriter struct {
	size  int
	batch []events.Append
	out   chan []events.Append
	seq   uint64
}

// Append implements keys.Appender.
func (w *recordWriter) Append(_ context.Context, as ...events.Append) ([]uint64, error) {
	for i := range as {
		as[i].Unchecked = true // nobody else writes, and of one org's keys many are in a batch
	}
	if w.batch = append(w.batch, as...); len(w.batch) >= w.size {
		w.flush()
	}
	w.seq++
	return []uint64{w.seq}, nil
}

// LastOn implements keys.Appender.
func (w *recordWriter) LastOn(context.Context, string) (events.Record, bool, error) {
	return events.Record{}, false, nil
}

func (w *recordWriter) flush() {
	if len(w.batch) > 0 {
		w.out <- w.batch
		w.batch = nil
	}
}

func (w *recordWriter) record(subject, typ string, data any) error {
	r, err := events.NewRecord(typ, time.Now(), "bench", "", data)
	if err == nil {
		_, err = w.Append(context.Background(), events.Append{Subject: subject, Record: r, Unchecked: true})
	}
	return err
}

// all writes the records, kind by kind: of one kind neighbours are on different
// subjects. Every account a request meets is limited, and by more than it takes.
func (w *recordWriter) all(ctx context.Context, a *Admission, pepper []byte, progress func(done, total uint64)) ([]string, error) {
	orgs := make([]uuid.UUID, a.Orgs)
	for i := range orgs {
		orgs[i] = events.NewID()
		org := billing.Org{ID: orgs[i], Name: fmt.Sprint("org ", i), Timezone: billing.DefaultTimezone, Currency: billing.DefaultCurrency,
			LegalEntity: billing.DefaultLegalEntity, CreatedAt: time.Now().UTC()}
		if err := w.record(events.OrgSubject(org.ID), billing.TypeOrgCreated, org); err != nil {
			return nil, err
		}
	}
	w.flush()
	most := decimal.New(1, 9)
	budget := func(org uuid.UUID, scope admission.Scope, id uuid.UUID) error {
		return w.record(admission.BudgetSubject(org), admission.TypeBudgetSet, admission.BudgetSet{OrgID: org, Scope: scope, ID: id, Amount: &most})
	}
	for _, write := range []func(org uuid.UUID) error{
		func(org uuid.UUID) error { return budget(org, admission.ScopeOrg, org) },
		func(org uuid.UUID) error { return budget(org, admission.ScopeTeam, org) }, // its one team has its id
		func(org uuid.UUID) error {
			return w.record(admission.BudgetSubject(org), admission.TypeCreditLimitSet, admission.CreditLimitSet{OrgID: org, Amount: most})
		},
		func(org uuid.UUID) error {
			return w.record(admission.BudgetSubject(org), admission.TypeLimitsSet, admission.LimitsSet{OrgID: org, Rates: admission.Rates{RPM: 1e9, TPM: 4e10}})
		},
	} {
		for _, org := range orgs {
			if err := write(org); err != nil {
				return nil, err
			}
		}
		w.flush()
	}
	var set *keys.Set
	var secrets []string
	hot := make([]uuid.UUID, a.HotKeys)
	for i := range a.Keys {
		if i%keysMade == 0 {
			var err error
			if set, err = keys.NewSet(keys.Config{Peppers: []keys.Pepper{{Version: 1, Secret: pepper}}, Now: time.Now}); err != nil {
				return nil, err
			}
		}
		org := orgs[i%a.Orgs]
		k, secret, err := set.Create(ctx, w, keys.CreateInput{OrgID: org, TeamID: org, Name: fmt.Sprint("key ", i), RPMLimit: 1e9, TPMLimit: 4e10, Actor: "bench"})
		if err != nil {
			return nil, err
		}
		if i < a.HotKeys {
			secrets, hot[i] = append(secrets, secret), k.ID
		}
		progress(uint64(i+1), uint64(a.Keys))
	}
	w.flush()
	for i, key := range hot {
		if err := budget(orgs[i%a.Orgs], admission.ScopeKey, key); err != nil {
			return nil, err
		}
	}
	w.flush()
	return secrets, nil
}
