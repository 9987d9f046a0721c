package node

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/admission"
	"aione/httpapi"
	"aione/ledger"
)

// allowances are the limits of orgs as the API shows them: money from the limiter,
// requests of all replicas from the rows.
type allowances struct{ node *Node }

// Allowance implements httpapi.Allowances.
func (a allowances) Allowance(ctx context.Context, org uuid.UUID) (out httpapi.Allowance, err error) {
	n, now := a.node, a.node.Clock()
	budget, err := n.Limits.Standing(org, admission.ScopeOrg, org, now)
	if err != nil {
		return out, fmt.Errorf("allowance of org %s: %w", org, err)
	}
	balance, err := n.Limits.Standing(org, admission.ScopeBalance, org, now)
	if err != nil {
		return out, fmt.Errorf("allowance of org %s: %w", org, err)
	}
	// What every request takes from is the org's budget, limited or not.
	var limit ledger.Amount
	for _, f := range []struct {
		to   *ledger.Amount
		from decimal.Decimal
	}{
		{&limit, budget.Limit}, {&out.Spent, budget.Spent.Add(budget.Held)}, {&out.Frozen, budget.Held},
		{&out.Balance, balance.Credit.Sub(balance.Spent)}, {&out.CreditLimit, balance.Limit.Sub(balance.Credit)},
	} {
		if *f.to, err = ledger.NewAmount(f.from); err != nil {
			return out, fmt.Errorf("allowance of org %s: %w", org, err)
		}
	}
	out.Prepaid = balance.Limited
	if budget.Limited {
		out.Budget = &limit
	}
	for _, scope := range []admission.Scope{admission.ScopeIncludedTokens, admission.ScopeIncludedAmount} {
		in, err := n.Limits.Standing(org, scope, org, now)
		if err != nil {
			return out, fmt.Errorf("allowance of org %s: %w", org, err)
		}
		if in.Limited {
			out.Included, out.IncludedUsed = &in.Limit, in.Spent.Add(in.Held)
		}
	}
	rates, _ := n.Limits.OrgRates(org, now)
	if out.RPMLimit = rates.RPM; rates.RPM > 0 {
		out.RPMUsed, err = n.Projection.RequestsSince(ctx, org, now.Add(-time.Minute))
	}
	return out, err
}
