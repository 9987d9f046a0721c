package billing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Apply takes a record of the ledger, in the order of the log. Records of other
// packages only move AppliedSeq, save those about balances; records applied before
// are ignored. The records of an atomic batch take effect together, with its last
// one: until then a reader sees none of them, a command expects the sequences from
// before the batch, and the log refuses it. After an error the book must not be
// used: the log says something this build does not understand.
func (b *Book) Apply(r events.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Seq <= b.applied {
		return nil
	}
	b.staged = append(b.staged, r)
	if !r.More {
		for _, s := range b.staged {
			if err := b.apply(s); err != nil {
				return fmt.Errorf("apply %s at ledger sequence %d to the book: %w", s.Type, s.Seq, err)
			}
		}
		b.staged = b.staged[:0]
	}
	b.applied = r.Seq
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// written are the subjects that commands of this package write to and expect a
// sequence on.
var written = []string{orgPrefix, planPrefix, publishedPrefix, entityPrefix, journalPrefix, seriesPrefix, invoicePrefix, thresholdPrefix}

const (
	orgPrefix     = "LEDGER.org."
	journalPrefix = "LEDGER.journal."
	seriesPrefix  = "LEDGER.series."
)

func hasAnyPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

func (b *Book) apply(r events.Record) error {
	// Every type counts here, also ones this build does not know: the log compares
	// with the last message on the subject, whatever it says.
	if hasAnyPrefix(r.Subject, written) {
		b.lastOn[r.Subject] = r.Seq
	}
	if err := b.applyType(r); err != nil {
		return err
	}
	b.note(r)
	return nil
}

func (b *Book) applyType(r events.Record) error {
	switch r.Type {
	case TypeOrgCreated:
		return applyTo(r, b.applyOrg)
	case TypeTeamCreated:
		return applyTo(r, b.applyTeam)
	case TypePlanAssigned:
		return applyTo(r, b.applyPlan)
	case TypePlanPublished:
		return applyTo(r, b.applyPublished)
	case TypeProfileSet:
		return applyTo(r, b.applyProfile)
	case TypeLegalEntitySet:
		return applyTo(r, func(e LegalEntity) error {
			b.entities[e.Code] = append(b.entities[e.Code], entityVersion{r.At, e})
			return nil
		})
	case TypeRequest:
		return applyTo(r, b.applyRequest)
	case TypeInvoiced, TypeClosedEmpty:
		return applyTo(r, func(run Run) error { run.RecordID = r.ID; return b.applyRun(run) })
	case TypeNumbered:
		return applyTo(r, b.applyNumber)
	case TypeInvoiceIssued, TypeCreditGranted, TypeCreditsExpired, TypePaymentReceived, TypeRefunded, TypeWrittenOff, TypeCreditNoteIssued:
		return applyTo(r, func(e ledger.Entry) error { return b.applyEntries(r.Subject, e) })
	case TypeCorrected:
		return applyTo(r, func(c Corrected) error { return b.applyEntries(r.Subject, c.entries()...) })
	case TypeInvoiceOverdue:
		return applyTo(r, b.applyOverdue)
	case TypeBudgetCrossed, TypeBalanceLow, TypeBalanceRecovered:
		return b.applyCrossed(r)
	case typeBalanceCredited, typeCreditLimitSet:
		return b.applyBalance(r)
	}
	return nil
}

// applyTo decodes a record for its fold.
func applyTo[T any](r events.Record, fold func(T) error) error {
	var data T
	if err := r.Into(&data); err != nil {
		return err
	}
	return fold(data)
}

func (b *Book) applyOrg(org Org) error {
	if b.orgs[org.ID] != nil {
		return fmt.Errorf("%w: org %s is created twice", ErrCorrupt, org.ID)
	}
	zone, err := zoneOf(org.Timezone)
	if err != nil {
		return err
	}
	b.orgs[org.ID] = &account{org: org, zone: zone, state: ledger.NewState(org.ID, org.Currency)}
	b.order = append(b.order, org.ID)
	return nil
}

func (b *Book) applyTeam(team Team) error {
	a, err := b.known(team.OrgID)
	if err != nil {
		return err
	}
	a.teams = append(a.teams, team)
	return nil
}

func (b *Book) applyRun(run Run) error {
	a, err := b.known(run.OrgID)
	if err != nil {
		return err
	}
	a.runs = append(a.runs, run)
	a.balance.invoiced, err = a.balance.invoiced.Add(run.BalanceSpent)
	return err
}

func (b *Book) applyNumber(n Numbered) error {
	key := seriesKey{n.Series, n.LegalEntity, n.Year}
	more := n.More
	n.More = nil
	b.series[key] = append(b.series[key], n)
	for i, given := range more {
		b.series[key] = append(b.series[key], Numbered{Series: n.Series, LegalEntity: n.LegalEntity, Year: n.Year,
			N: n.N + uint64(i) + 1, OrgID: given.OrgID, InvoiceID: given.InvoiceID})
	}
	return nil
}

// applyEntries moves the org that a journal subject names.
func (b *Book) applyEntries(subject string, entries ...ledger.Entry) error {
	id, err := uuid.Parse(strings.TrimPrefix(subject, journalPrefix))
	if err != nil {
		return fmt.Errorf("%w: %s names no org", ErrCorrupt, subject)
	}
	a, err := b.known(id)
	if err != nil {
		return err
	}
	for i := range entries {
		if err := a.applyEntry(entries[i]); err != nil && a.broken == nil {
			// One org's records do not stop the others: its money is at rest from here on,
			// and Verify says why.
			a.broken = fmt.Errorf("%w: journal %s of org %s: %w", ErrCorrupt, entries[i].Journal.ID, id, err)
		}
	}
	return nil
}

func (a *account) applyEntry(e ledger.Entry) error {
	if e.Journal.Seq == 0 && e.Invoice != nil {
		// Invoices from before journals were chained are booked anew, as they would be
		// today. The journal that was written with them is not part of the chain.
		j, err := ledger.InvoiceJournal(*e.Invoice)
		if err != nil {
			return err
		}
		e.Journal = j.Seal(a.state.Last())
		if a.legacy == nil {
			a.legacy = make(map[uuid.UUID]bool)
		}
		a.legacy[e.Invoice.ID] = true
	}
	a.entries = append(a.entries, e)
	if e.Invoice != nil {
		a.invoices = append(a.invoices, e.Invoice)
	}
	if a.broken != nil {
		return nil
	}
	return a.state.Apply(e)
}

// replayed is the org's state folded anew, free to be moved.
func (a *account) replayed() (*ledger.State, error) {
	s := ledger.NewState(a.org.ID, a.org.Currency)
	for i := range a.entries {
		if err := s.Apply(a.entries[i]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (b *Book) known(orgID uuid.UUID) (*account, error) {
	if a := b.orgs[orgID]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("%w: org %s was never created", ErrCorrupt, orgID)
}
