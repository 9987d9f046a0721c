package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"aione/analytics"
	"aione/billing"
	"aione/httpapi"
	"aione/ledger"
)

// AuditConfig of the auditor role.
type AuditConfig struct {
	Every time.Duration `name:"audit-every" env:"AIONE_AUDIT_EVERY" default:"5m" help:"How often log, rows and invoices are compared; what has not changed is not read again. 0: never."`
}

// about is the part of the proof that a finding is about.
type about uint8

const (
	aboutRows    about = iota // rows = log
	aboutInputs               // usage = what an invoice was computed from
	aboutJournal              // the ledger in itself
)

// finding is something that is not as it must be.
type finding struct {
	about about
	shard int       // of rows
	org   uuid.UUID // whose it is; zero: nobody's in particular
	text  string    // may name others
}

// audit is one look at everything.
type audit struct {
	at        time.Time
	shards    []analytics.ShardAudit
	ledgerSeq uint64
	invoices  map[uuid.UUID]bool // counted again, and right
	findings  []finding
}

// Auditor proves the chain from the log to the last invoice again and again: all of
// it at its start and for as long as something is wrong, else what is new. It is
// safe for concurrent use.
type Auditor struct {
	node *Node
	off  atomic.Bool // this process is not to audit

	auditing chan struct{} // has room for one audit at a time
	mu       sync.Mutex
	last     *audit // nil: there was none yet
}

func newAuditor(n *Node) *Auditor { return &Auditor{node: n, auditing: make(chan struct{}, 1)} }

// ErrDiffers is returned by Sound when the auditor's last look found a difference.
var ErrDiffers = errors.New("the auditor has found differences; `aione verify` tells them")

// Sound implements billing.Auditor: an error says what is not proven. A process that
// has just begun knows nothing, and what was wrong before may still be: so the first
// audit is waited for, and made if nobody does. Only one that is not to audit at all
// lets everything pass.
func (a *Auditor) Sound(ctx context.Context) error {
	if a.seen() == nil && !a.off.Load() {
		if err := a.run(ctx, func() bool { return a.seen() != nil }, false); err != nil {
			return fmt.Errorf("the first audit could not be made: %w", err)
		}
	}
	last := a.seen()
	if last == nil || len(last.findings) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d, the first: %s", ErrDiffers, len(last.findings), last.findings[0].text)
}

func (a *Auditor) seen() *audit {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// Audit runs the auditor until ctx ends. An audit that cannot be made, because
// something does not answer, leaves the verdict before it in place.
func (n *Node) Audit(ctx context.Context, c AuditConfig) error {
	n.Auditor.off.Store(c.Every <= 0)
	for c.Every > 0 {
		if err := n.Auditor.Run(ctx, false); err != nil && ctx.Err() == nil {
			n.Logger.Warn("the audit could not be made", "error", err)
		}
		if !pause(ctx, c.Every) {
			break
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// Run audits what is new since the last audit, or all. What it finds it looks at
// once more, all of it, before it says so: rows may have been exchanged meanwhile.
func (a *Auditor) Run(ctx context.Context, all bool) error {
	return a.run(ctx, func() bool { return false }, all)
}

// run is Run, unless it is needless by the time that it is its turn.
func (a *Auditor) run(ctx context.Context, needless func() bool, all bool) error {
	select {
	case a.auditing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.auditing }()
	if needless() {
		return nil
	}
	before := a.seen()
	if all || before == nil || len(before.findings) > 0 {
		before = &audit{}
	}
	next, err := a.look(ctx, before)
	if err == nil && len(next.findings) > 0 {
		next, err = a.look(ctx, &audit{})
	}
	if err != nil {
		return err
	}
	for _, f := range next.findings {
		a.node.Logger.Error("the auditor finds a difference", "what", f.text)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = next
	return nil
}

// look makes an audit that goes on from one without findings.
func (a *Auditor) look(ctx context.Context, before *audit) (*audit, error) {
	n := a.node
	next := &audit{at: n.Clock(), invoices: map[uuid.UUID]bool{}, ledgerSeq: before.ledgerSeq}
	for id := range before.invoices {
		next.invoices[id] = true
	}
	for shard := range n.Log.Shards() {
		from := analytics.ShardAudit{Shard: shard}
		if before.shards != nil {
			from = before.shards[shard]
		}
		s, err := n.Projection.AuditOn(ctx, n.Log, from, nil)
		if err != nil {
			return nil, err
		}
		for _, d := range s.Differences {
			next.findings = append(next.findings, finding{about: aboutRows, shard: shard, text: fmt.Sprintf("shard %d: %s", shard, d)})
		}
		next.shards = append(next.shards, s)
	}
	end, err := n.Log.LedgerEnd(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.Book.WaitFor(ctx, end); err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	if end != before.ledgerSeq {
		verdict := billing.Verify(n.Book)
		next.ledgerSeq = verdict.AppliedSeq
		next.findings = append(next.findings, n.attribute(verdict.Findings)...)
	}
	return next, n.eachInvoice(func(org billing.Org, inv ledger.Invoice) error {
		// Rows that are behind are no difference: they will come, and be looked at then.
		if next.invoices[inv.ID] || next.shards[n.Log.Shard(org.ID)].Through < inv.Cut {
			return nil
		}
		problem, err := n.verifyInvoice(ctx, inv)
		if err != nil {
			return err
		}
		if problem != "" {
			next.findings = append(next.findings, finding{about: aboutInputs, org: org.ID, text: problem})
		}
		next.invoices[inv.ID] = true
		return nil
	})
}

// attribute finds out whose the findings about the ledger are: those whose org or
// invoices they name.
func (n *Node) attribute(texts []string) (all []finding) {
	if len(texts) == 0 {
		return nil
	}
	owners := map[string]uuid.UUID{}
	for _, org := range n.Book.Orgs() {
		owners[org.ID.String()] = org.ID
	}
	_ = n.eachInvoice(func(org billing.Org, inv ledger.Invoice) error {
		owners[inv.ID.String()], owners[inv.Number] = org.ID, org.ID
		return nil
	})
	for _, text := range texts {
		f := finding{about: aboutJournal, text: text}
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" :,;()\"", r) }) {
			if org, ok := owners[word]; ok {
				f.org = org
				break
			}
		}
		all = append(all, f)
	}
	return all
}

// What is told to an org of findings that may name others.
const (
	rowsDiffer   = "what is counted of the stream that holds this organisation's usage differs from the log"
	ledgerDiffer = "the ledger cannot be proven as a whole"
)

// Verdict implements httpapi.Audits.
func (a *Auditor) Verdict(_ context.Context, org uuid.UUID) (httpapi.AuditVerdict, bool, error) {
	last := a.seen()
	if last == nil {
		return httpapi.AuditVerdict{}, false, nil
	}
	shard := a.node.Log.Shard(org)
	v := httpapi.AuditVerdict{At: last.at, Through: last.shards[shard].Through, LedgerSeq: last.ledgerSeq, RowsAreLog: true, InputsMatch: true, JournalZero: true}
	told := map[string]bool{}
	for _, f := range last.findings {
		text := f.text
		switch {
		case f.about == aboutRows && f.shard == shard:
			v.RowsAreLog, text = false, rowsDiffer
		case f.about == aboutInputs && f.org == org:
			v.InputsMatch = false
		case f.about == aboutJournal && f.org == org:
			v.JournalZero = false
		case f.about == aboutJournal && f.org == uuid.Nil:
			v.JournalZero, text = false, ledgerDiffer
		default:
			continue
		}
		if !told[text] {
			told[text] = true
			v.Findings = append(v.Findings, text)
		}
	}
	return v, true, nil
}
