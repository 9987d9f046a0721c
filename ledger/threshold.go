package ledger

import "github.com/shopspring/decimal"

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
