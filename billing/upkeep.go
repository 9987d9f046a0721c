package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// expireCredits ends the credits that have expired.
func (r *run) expireCredits(ctx context.Context) error {
	by := r.by("expired")
	var errs []error
	for _, id := range r.expiring(by.At) {
		_, err := Commands{Log: r.Log, Book: r.Book}.ExpireCredits(ctx, id, by)
		switch {
		case errors.Is(err, ledger.ErrNothingExpired): // another invoicer was first
		case err != nil:
			errs = append(errs, err)
		default:
			r.report.Expired++
		}
	}
	return errors.Join(errs...)
}

// expiring are the orgs with credits that have expired at an instant.
func (r *run) expiring(at time.Time) []uuid.UUID {
	r.Book.mu.RLock()
	defer r.Book.mu.RUnlock()
	var ids []uuid.UUID
	for _, id := range r.Book.order {
		for _, c := range r.Book.orgs[id].state.Credits() {
			if !c.Grant.ExpiresAt.IsZero() && !at.Before(c.Grant.ExpiresAt) {
				ids = append(ids, id)
				break
			}
		}
	}
	return ids
}

// markOverdue says which invoices have become overdue, each once. One that is paid
// meanwhile is not: the records are on one subject.
func (r *run) markOverdue(ctx context.Context) error {
	b := batch{by: r.by("due date passed")}
	r.Book.mu.RLock()
	for _, id := range r.Book.order {
		a := r.Book.orgs[id]
		today := ledger.DateOf(b.by.At, a.zone)
		for _, s := range a.state.Open() {
			if s.Status(today) == ledger.StatusOverdue && !a.overdue[s.Invoice.ID] {
				subject := invoiceSubject(id, s.Invoice.ID)
				b.add(subject, r.Book.lastOn[subject], TypeInvoiceOverdue, newStatusChange(s.Invoice, ledger.StatusOverdue, s.Due, uuid.Nil))
			}
		}
	}
	r.Book.mu.RUnlock()
	n, err := r.announce(ctx, b)
	r.report.Overdue += n
	if err != nil {
		return fmt.Errorf("mark invoices overdue: %w", err)
	}
	return nil
}

// TypeBalanceSettled orders the first word about a balance that a credit limit
// opened among the org's journals; on JournalSubject, without data.
const TypeBalanceSettled = "balance.settled"

// settleBalances tells admission what it does not know of balances that a credit
// limit has opened: what the org had, and what it owed, before.
func (r *run) settleBalances(ctx context.Context) error {
	var ids []uuid.UUID
	r.Book.mu.RLock()
	for _, id := range r.Book.order {
		if a := r.Book.orgs[id]; !a.balance.opened.IsZero() && !a.balance.settled && a.broken == nil {
			ids = append(ids, id)
		}
	}
	r.Book.mu.RUnlock()
	for _, id := range ids {
		b := batch{by: r.by("the balance was opened")}
		err := r.Book.money(id, func(v view) error {
			if untold, err := v.untold(); err != nil || untold.IsZero() {
				return err
			}
			if err := b.addBalance(v, events.DeriveID("opened balance", id[:], fmt.Append(nil, v.balance.opened.UnixMilli())), false, ledger.Amount{}); err != nil {
				return err
			}
			b.add(events.JournalSubject(id), v.journalSeq, TypeBalanceSettled, struct{}{})
			return b.err
		})
		if err != nil {
			return err
		}
		if len(b.appends) == 0 {
			continue
		}
		seqs, err := r.Log.Append(ctx, b.appends...)
		if errors.Is(err, events.ErrConflict) {
			continue // its money has moved, and that has said it
		}
		if err != nil {
			return fmt.Errorf("settle the balance of org %s: %w", id, err)
		}
		if err := r.Book.WaitFor(ctx, slices.Max(seqs)); err != nil {
			return err
		}
	}
	return nil
}

// announceMax bounds an atomic batch of announcements.
const announceMax = 500

// announce writes records that are there once, whoever writes them, and returns how
// many it wrote. Where another was first they are tried one by one, and left out.
func (v *Invoicer) announce(ctx context.Context, b batch) (written int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	var last uint64
	for part := range slices.Chunk(b.appends, announceMax) {
		seqs, err := v.Log.Append(ctx, part...)
		if errors.Is(err, events.ErrConflict) && len(part) > 1 {
			for _, a := range part {
				one, err := v.Log.Append(ctx, a)
				if err != nil && !errors.Is(err, events.ErrConflict) {
					return written, err
				}
				seqs = append(seqs, one...)
			}
		} else if err != nil && !errors.Is(err, events.ErrConflict) {
			return written, err
		}
		for _, seq := range seqs {
			written, last = written+1, max(last, seq)
		}
	}
	return written, v.Book.WaitFor(ctx, last)
}
