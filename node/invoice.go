package node

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/admission"
	"aione/billing"
	"aione/ledger"
)

// InvoiceConfig of the invoicer role.
type InvoiceConfig struct {
	Schedule  string        `name:"invoice-schedule" env:"AIONE_INVOICE_SCHEDULE" default:"@every 1m" help:"When to look for periods that have ended (cron, UTC)."`
	Grace     time.Duration `name:"invoice-grace" env:"AIONE_INVOICE_GRACE" default:"1h" help:"How long an ended period stays open for late usage."`
	LateAge   time.Duration `name:"late-age" env:"AIONE_LATE_AGE_MAX" default:"2160h" help:"How long before the start of a period usage may have occurred to be billed as late; what is older is reported. 0: no bound."`
	TermsDays int           `name:"payment-terms" env:"AIONE_PAYMENT_TERMS_DAYS" default:"30" help:"Days until an invoice is due."`
}

// Invoicer is the invoicer of this node.
func (n *Node) Invoicer(c InvoiceConfig) *billing.Invoicer {
	v := &billing.Invoicer{Log: n.Log, Book: n.Book, Prices: n.Catalog, Usage: n.Projection,
		Auditor: n.Auditor, Clock: n.Clock, Logger: n.Logger, Grace: c.Grace, LateAgeMax: c.LateAge, TermsDays: c.TermsDays}
	if n.Limits != nil {
		v.Standings = standings{n}
	}
	return v
}

// standings let billing announce what package admission counts. A process whose
// limits are not at work knows nothing of it, and announces nothing.
type standings struct{ node *Node }

// Standing implements billing.Standings.
func (s standings) Standing(org uuid.UUID) billing.Spending {
	n, now := s.node, s.node.Clock()
	budget, err := n.Limits.Standing(org, admission.ScopeOrg, org, now)
	if err != nil {
		return billing.Spending{} // not ready: another look comes soon
	}
	balance, err := n.Limits.Standing(org, admission.ScopeBalance, org, now)
	if err != nil {
		return billing.Spending{}
	}
	spending := billing.Spending{Opened: balance.Limited}
	for _, part := range []struct {
		to   *ledger.Amount
		from decimal.Decimal
		has  bool
	}{{&spending.Budget, budget.Limit, budget.Limited}, {&spending.Spent, budget.Spent, true}, {&spending.Balance, balance.Credit.Sub(balance.Spent), balance.Limited}} {
		if !part.has {
			continue
		}
		if *part.to, err = ledger.NewAmount(part.from); err != nil {
			n.Logger.Warn("what an org has spent is no amount", "org", org, "error", err)
			return billing.Spending{}
		}
	}
	return spending
}

// Invoice closes due periods, at once and then by schedule, until ctx ends.
func (n *Node) Invoice(ctx context.Context, c InvoiceConfig) error {
	return n.Invoicer(c).Schedule(ctx, c.Schedule)
}

// announceEvery is how often an API process looks at budgets and balances: the
// invoicer, if it is another process, does not know them.
const announceEvery = time.Minute

// announce announces thresholds that were reached until ctx ends.
func (n *Node) announce(ctx context.Context) {
	v := n.Invoicer(InvoiceConfig{})
	for pause(ctx, announceEvery) {
		if _, err := v.Announce(ctx); err != nil && ctx.Err() == nil {
			n.Logger.Warn("thresholds of budgets were not announced", "error", err)
		}
	}
}
