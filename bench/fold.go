package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// Fold says how fast transfers become balances, from nothing.
type Fold struct {
	Transfers      int     `json:"transfers"`
	Accounts       int     `json:"accounts"`
	TransfersPerS  float64 `json:"transfers_per_s"`
	SnapshotBytes  int     `json:"snapshot_bytes"`
	SnapshotReadMS float64 `json:"snapshot_read_ms"` // instead of folding all of them again
}

// Balance says how long it takes to read the balance of one account that all the
// transfers of Fold touched.
type Balance struct {
	Transfers uint64  `json:"transfers"` // behind it
	Reads     int     `json:"reads"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
	MaxMS     float64 `json:"max_ms"`
}

const (
	foldTransfers = 2_000_000
	foldOrgs      = 1000
	foldRounds    = 5
	balanceReads  = 10_000
)

// measureFold folds the transfers of many orgs, each of which passes through the
// account of the house's usage revenue: a hot account, as in production.
func measureFold(_ context.Context, o Options) (*Fold, *Balance, error) {
	n := o.size(foldTransfers)
	o.Step(fmt.Sprintf("fold %d transfers, %d times", n, foldRounds))
	progress := o.Progress("folds")
	transfers := makeTransfers(n)
	var rates []float64
	var balances ledger.Balances
	for round := range foldRounds {
		balances = ledger.Balances{}
		began := time.Now()
		for i := range transfers {
			if err := balances.Add(&transfers[i]); err != nil {
				return nil, nil, err
			}
		}
		rates = append(rates, perSecond(n, time.Since(began)))
		progress(uint64(round+1), foldRounds)
	}
	f := &Fold{Transfers: n, TransfersPerS: median(rates)}
	balances.All(func(ledger.Account, string, ledger.Amount) { f.Accounts++ })
	again, err := f.restore(&balances)
	if err != nil {
		return nil, nil, err
	}
	b, err := readBalances(again, transfers)
	return f, b, err
}

func makeTransfers(n int) []ledger.Transfer {
	orgs := make([]uuid.UUID, min(n, foldOrgs))
	for i := range orgs {
		orgs[i] = dashboardOrg(i)
	}
	transfers := make([]ledger.Transfer, n)
	at := invoiceMonth
	for i := range transfers {
		org := orgs[i%len(orgs)]
		transfers[i] = ledger.Transfer{
			ID: events.NewID(), Debit: ledger.Accrued(org), Credit: ledger.RevenueUsage,
			Amount: ledger.AmountFromInt(int64(1 + i%1000)), Currency: "CNY", Code: ledger.CodeUsage, At: at,
		}
	}
	return transfers
}

// restore goes on from a snapshot, which must say what the fold says.
func (f *Fold) restore(b *ledger.Balances) (*ledger.Balances, error) {
	snapshot, err := b.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	var again ledger.Balances
	began := time.Now()
	if err := again.UnmarshalBinary(snapshot); err != nil {
		return nil, err
	}
	f.SnapshotBytes, f.SnapshotReadMS = len(snapshot), millis(time.Since(began))
	return &again, nil
}

// readBalances reads the hot account, which must hold what adding up by hand gives.
func readBalances(b *ledger.Balances, transfers []ledger.Transfer) (*Balance, error) {
	var want ledger.Amount
	for i := range transfers {
		var err error
		if want, err = want.Sub(transfers[i].Amount); err != nil {
			return nil, err
		}
	}
	took := make([]time.Duration, balanceReads)
	for i := range took {
		began := time.Now()
		got := b.Balance(ledger.RevenueUsage, "CNY")
		took[i] = time.Since(began)
		if got.Cmp(want) != 0 {
			return nil, fmt.Errorf("the balance is %s, the transfers add up to %s", got, want)
		}
	}
	const preciseMS = 6 // a read takes well under a microsecond
	ms := func(q float64) float64 { return round(float64(quantile(took, q))/float64(time.Millisecond), preciseMS) }
	return &Balance{Transfers: b.Count(), Reads: len(took), P50MS: ms(0.5), P99MS: ms(0.99), MaxMS: ms(1)}, nil
}
