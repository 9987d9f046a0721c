package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"aione/analytics"
	"aione/billing"
	"aione/ledger"
)

// Verification is what the auditor found, from the log to the last invoice line.
type Verification struct {
	OK       bool                   `json:"ok"`
	Shards   []analytics.ShardAudit `json:"shards"`
	Ledger   LedgerAudit            `json:"ledger"`
	Problems []string               `json:"problems"` // in words; empty when OK
}

// LedgerAudit is the part about money.
type LedgerAudit struct {
	Seq      uint64 `json:"seq"` // ledger sequence that was audited
	Orgs     int    `json:"orgs"`
	Runs     int    `json:"runs"`
	Invoices int    `json:"invoices"`

	CreditNotes int `json:"credit_notes"`
	Entries     int `json:"entries"`          // journals: invoices, payments, credits …
	Legacy      int `json:"legacy,omitempty"` // invoices from before journals were chained: not recomputed
}

// Verify proves the whole chain: every event of the log has its row; rows add up
// to the rollups that dashboards read; the inputs stored on each invoice are what
// the rows say up to its cut; each invoice comes out of its inputs as the same
// bytes; journals sum to zero and numbers have no gaps. wait bounds how long it
// waits for rows of what was in the log when it began.
func (n *Node) Verify(ctx context.Context, wait time.Duration, progress func(done, total uint64)) (Verification, error) {
	v := Verification{Problems: []string{}}
	ends := make([]uint64, n.Log.Shards()) // what comes later may still be on its way
	for shard := range ends {
		var err error
		if ends[shard], _, err = n.Log.UsageEnd(ctx, shard); err != nil {
			return v, err
		}
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := n.Projection.CaughtUp(waiting); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return v, err
	}
	for shard := range ends {
		a, err := n.Projection.AuditShard(ctx, n.Log, shard, progress)
		if err != nil {
			return v, err
		}
		v.Shards = append(v.Shards, a)
		for _, d := range a.Differences {
			v.Problems = append(v.Problems, fmt.Sprintf("shard %d: %s", shard, d))
		}
		if a.Through < ends[shard] {
			v.Problems = append(v.Problems, fmt.Sprintf("shard %d: metering is behind: rows go to sequence %d, the log to %d", shard, a.Through, ends[shard]))
		}
	}
	end, err := n.Log.LedgerEnd(ctx)
	if err != nil {
		return v, err
	}
	if err := n.Book.WaitFor(ctx, end); err != nil {
		return v, fmt.Errorf("read the ledger: %w", err)
	}
	verdict := billing.Verify(n.Book)
	v.Ledger = LedgerAudit{Seq: verdict.AppliedSeq, Orgs: verdict.Orgs, Runs: verdict.Runs, Invoices: verdict.Invoices,
		CreditNotes: verdict.CreditNotes, Entries: verdict.Entries, Legacy: verdict.Legacy}
	v.Problems = append(v.Problems, verdict.Findings...)
	err = n.eachInvoice(func(_ billing.Org, inv ledger.Invoice) error {
		problem, err := n.verifyInvoice(ctx, inv)
		if problem != "" {
			v.Problems = append(v.Problems, problem)
		}
		return err
	})
	if err != nil {
		return v, err
	}
	v.OK = len(v.Problems) == 0
	return v, nil
}

// invoicesPage is how many invoices of an org are looked at in one go.
const invoicesPage = 100

// eachInvoice calls f with every invoice that can be proven, until its first error.
func (n *Node) eachInvoice(f func(org billing.Org, inv ledger.Invoice) error) error {
	for _, org := range n.Book.Orgs() {
		for page := 1; ; page++ {
			invoices, total, err := n.Book.Invoices(org.ID, page, invoicesPage)
			if err != nil {
				return err
			}
			for _, inv := range invoices {
				if n.Book.Legacy(org.ID, inv.ID) {
					continue
				}
				if err := f(org, inv); err != nil {
					return err
				}
			}
			if page*invoicesPage >= total {
				break
			}
		}
	}
	return nil
}

// verifyInvoice counts the usage behind an invoice once more, from rows.
func (n *Node) verifyInvoice(ctx context.Context, inv ledger.Invoice) (problem string, err error) {
	inputs, err := n.Projection.Inputs(ctx, n.Book.InputsQueryOf(inv))
	if err != nil {
		return "", err
	}
	again := inv
	again.Inputs = inputs
	again, err = ledger.Recompute(again)
	if err != nil {
		return fmt.Sprintf("invoice %s cannot be recomputed from the rows: %v", inv.Number, err), nil
	}
	if !bytes.Equal(again.CanonicalBytes(), inv.CanonicalBytes()) {
		return fmt.Sprintf("invoice %s over %s counts %d rows (digest %s); the rows up to its cut %d are now %d for %s (digest %s)",
			inv.Number, inv.Total, inv.Inputs.Rows, inv.Inputs.RowsDigest, inv.Cut, inputs.Rows, again.Total, inputs.RowsDigest), nil
	}
	return "", nil
}
