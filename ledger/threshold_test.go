package ledger

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// In however many steps it is reached, each percentage is crossed once.
func TestBudgetCrossings(t *testing.T) {
	percents := []int{50, 80, 100, 120}
	rapid.Check(t, func(t *rapid.T) {
		budget := drawMinor(t, "budget", "CNY")
		spent, crossed := Amount{}, []int(nil)
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			after, err := spent.Add(drawMinor(t, "step", "CNY"))
			if err != nil {
				t.Fatal(err)
			}
			crossed = append(crossed, BudgetCrossings(spent, after, budget, percents)...)
			spent = after
		}
		var want []int
		for _, pct := range percents {
			if product(rat(spent.d), fraction(100, 1)).Cmp(product(rat(budget.d), fraction(pct, 1))) >= 0 {
				want = append(want, pct)
			}
		}
		if !slices.Equal(crossed, want) {
			t.Fatalf("%s of %s: crossed %v, want %v", spent, budget, crossed, want)
		}
	})
	if got := BudgetCrossings(Amount{}, AmountFromInt(1), Amount{}, percents); got != nil {
		t.Errorf("no budget: crossed %v", got)
	}
}
