package ledger

import "github.com/shopspring/decimal"

// LowBalances are the thresholds that a balance fell to or below by a change:
// above one before, not above it after.
func LowBalances(before, after Amount, thresholds []Amount) []Amount {
	var crossed []Amount
	for _, t := range thresholds {
		if before.Cmp(t) > 0 && after.Cmp(t) <= 0 {
			crossed = append(crossed, t)
		}
	}
	return crossed
}

// BudgetCrossings are the percentages of a budget that spend reached by a
// change: below one before, not below it after. A budget of nothing or less has none.
func BudgetCrossings(before, after, budget Amount, percents []int) []int {
	if budget.Sign() <= 0 {
		return nil
	}
	var crossed []int
	for _, pct := range percents {
		at := budget.d.Mul(decimal.NewFromInt(int64(pct))).Shift(-2)
		if before.d.Cmp(at) < 0 && after.d.Cmp(at) >= 0 {
			crossed = append(crossed, pct)
		}
	}
	return crossed
}
