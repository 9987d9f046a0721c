package ledger

import (
	"errors"
	"math/big"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

// Parts add up to the amount, each is less than a minor unit from its share, and
// has its sign.
func TestApportion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		currency := rapid.SampledFrom([]string{"CNY", "JPY", "KWD"}).Draw(t, "currency")
		places, _ := MinorUnits(currency)
		scale := places
		if rapid.Bool().Draw(t, "between minor units") {
			scale += 3
		}
		a := Amount{d: decimal.New(rapid.Int64().Draw(t, "amount"), -scale)}
		weights := rapid.SliceOfN(rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Max(9), rapid.Uint64()), 0, 9).Draw(t, "weights")
		whole := new(big.Rat)
		for _, w := range weights {
			whole.Add(whole, natural(w))
		}
		parts, err := Apportion(a, weights, currency)
		if whole.Sign() == 0 {
			if !errors.Is(err, ErrAmount) {
				t.Fatalf("split by no weight: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		unit, sum := rat(decimal.New(1, -places)), new(big.Rat)
		for i, part := range parts {
			sum.Add(sum, rat(part.d))
			share := new(big.Rat).Quo(product(rat(a.d), natural(weights[i])), whole)
			off := new(big.Rat).Sub(rat(part.d), share)
			if off.Abs(off).Cmp(unit) >= 0 {
				t.Fatalf("part %d of %s by %v is %s, its share %s", i, a, weights, part, share.FloatString(6))
			}
			if part.Sign() == -a.Sign() && a.Sign() != 0 || weights[i] == 0 && !part.IsZero() {
				t.Fatalf("part %d of %s by %v is %s", i, a, weights, part)
			}
			if i < len(parts)-1 && scale == places && !isMinor(part, currency) {
				t.Fatalf("part %d of %s is %s", i, a, part)
			}
		}
		if sum.Cmp(rat(a.d)) != 0 {
			t.Fatalf("the parts of %s by %v come to %s", a, weights, sum.FloatString(12))
		}
	})
}

func TestApportionRoundsOnceForAll(t *testing.T) {
	parts, err := Apportion(mustAmount(t, "0.05"), []uint64{1, 1, 1, 0}, "CNY")
	if err != nil {
		t.Fatal(err)
	}
	// 0.0166… → 0.02, 0.0333… → 0.03, the rest.
	for i, want := range []string{"0.02", "0.01", "0.02", "0"} {
		if parts[i].String() != want {
			t.Errorf("part %d = %s, want %s", i, parts[i], want)
		}
	}
	if _, err := Apportion(mustAmount(t, "1"), []uint64{1, 1}, "XXZ"); !errors.Is(err, ErrUnknownCurrency) {
		t.Errorf("a currency that does not exist: %v", err)
	}
}

// drawTeams splits what an invoice counted between up to four teams and no team.
func drawTeams(t *rapid.T, inv Invoice) []TeamQuantity {
	teams := []uuid.UUID{{}, {1}, {2}, {3}, {4}}[:rapid.IntRange(1, 5).Draw(t, "teams")]
	prices := make(map[string]int)
	for i := range inv.Prices {
		prices[inv.Prices[i].Version] = i
	}
	var used []TeamQuantity
	for _, q := range inv.Inputs.Quantities {
		left := q
		for i, team := range teams {
			u := TeamQuantity{TeamID: team, Quantity: q}
			take := func(left *uint64) uint64 {
				n := *left
				if i < len(teams)-1 {
					n = rapid.Uint64Max(n).Draw(t, "share")
				}
				*left -= n
				return n
			}
			u.Tokens.Input, u.Tokens.CacheRead = take(&left.Tokens.Input), take(&left.Tokens.CacheRead)
			u.Tokens.CacheWrite5m, u.Tokens.CacheWrite1h = take(&left.Tokens.CacheWrite5m), take(&left.Tokens.CacheWrite1h)
			u.Tokens.Output, u.Tokens.Reasoning = take(&left.Tokens.Output), take(&left.Tokens.Reasoning)
			charged := left.Requests - left.Empty
			u.Images, u.Empty = take(&left.Images), take(&left.Empty)
			u.Requests = u.Empty + take(&charged)
			left.Requests = left.Empty + charged
			u.Cost = decimalOf(t, modelCost(inv.Prices[prices[q.PriceVersion]], u.Tokens, u.Images, u.Requests-u.Empty))
			used = append(used, u)
		}
	}
	return shuffled(t, used)
}

// The shares of a line are its quantity, those of all the tiers of a charge what
// each team used of it.
func TestSharesAreWhatTeamsUsed(t *testing.T) {
	tiers, packages, several := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Bill(drawBillInput(t))
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		used := drawTeams(t, inv)
		split, err := inv.SplitByTeam(used)
		if err != nil {
			t.Fatal(err)
		}
		type chargeOf struct {
			name    string
			segment int
		}
		byCharge := make(map[chargeOf]map[uuid.UUID]uint64)
		for i := range inv.Lines {
			l := &inv.Lines[i]
			shares, err := split.Shares(i + 1)
			if err != nil {
				t.Fatal(err)
			}
			sum, of := uint64(0), make(map[uuid.UUID]uint64)
			for j, s := range shares {
				if s.Quantity == 0 || j > 0 && shares[j-1].TeamID.String() >= s.TeamID.String() {
					t.Fatalf("line %d is shared by %v", i+1, shares)
				}
				sum, of[s.TeamID] = sum+s.Quantity, s.Quantity
			}
			switch {
			case l.Kind == LineTier && l.Unit == UnitPackages:
				packages++
				checkUsed(t, of, used, inv.UsageOf(i+1))
			case l.Kind == LineTier:
				tiers++
				at := chargeOf{l.Name, l.Segment}
				if byCharge[at] == nil {
					byCharge[at] = make(map[uuid.UUID]uint64)
				} else {
					several++
				}
				for team, n := range of {
					byCharge[at][team] += n
				}
				if next := i + 1; next == len(inv.Lines) || inv.Lines[next].Kind != LineTier || inv.Lines[next].Name != l.Name || inv.Lines[next].Segment != l.Segment {
					checkUsed(t, byCharge[at], used, inv.UsageOf(i+1))
				}
				if sum != l.Quantity {
					t.Fatalf("line %d over %d has the shares %v", i+1, l.Quantity, shares)
				}
				checkFair(t, l, of, wantUsed(used, inv.UsageOf(i+1)))
			case l.Kind == LineUsage:
				checkUsed(t, of, used, inv.UsageOf(i+1))
				if sum != l.Quantity {
					t.Fatalf("line %d over %d has the shares %v", i+1, l.Quantity, shares)
				}
			case len(shares) > 0:
				t.Fatalf("a line of kind %s is shared by %v", l.Kind, shares)
			}
		}
	})
	if !testing.Short() && (tiers == 0 || packages == 0 || several == 0) {
		t.Errorf("%d tiers, %d behind another one, and %d lines of packages were drawn", tiers, several, packages)
	}
}

// wantUsed is what teams used of parts, counted anew.
func wantUsed(used []TeamQuantity, parts []Line) map[uuid.UUID]uint64 {
	want := make(map[uuid.UUID]uint64)
	for _, u := range used {
		for _, p := range parts {
			if u.Model != p.Model || u.PriceVersion != p.PriceVersion || u.Origin != p.Origin || u.Segment != p.Segment {
				continue
			}
			want[u.TeamID] += map[Bucket]uint64{BucketInput: u.Tokens.Input, BucketCacheRead: u.Tokens.CacheRead, BucketCacheWrite5m: u.Tokens.CacheWrite5m,
				BucketCacheWrite1h: u.Tokens.CacheWrite1h, BucketOutput: u.Tokens.Output, BucketReasoning: u.Tokens.Reasoning,
				BucketImages: u.Images, BucketRequests: u.Requests - u.Empty}[p.Bucket]
		}
	}
	return want
}

func checkUsed(t *rapid.T, got map[uuid.UUID]uint64, used []TeamQuantity, parts []Line) {
	for team, n := range wantUsed(used, parts) {
		if got[team] != n {
			t.Fatalf("team %s has %d of %v, it used %d", team, got[team], parts, n)
		}
	}
}

// checkFair: each tier is shared as the whole charge is, but for whole units, of
// which every tier before it may have left one.
func checkFair(t *rapid.T, l *Line, got, used map[uuid.UUID]uint64) {
	whole := new(big.Rat)
	for _, n := range used {
		whole.Add(whole, natural(n))
	}
	for team, n := range used {
		share := new(big.Rat).Quo(product(natural(l.Quantity), natural(n)), whole)
		off := share.Sub(natural(got[team]), share)
		if off.Abs(off).Cmp(natural(uint64(2*l.Tier))) > 0 {
			t.Fatalf("tier %d over %d: team %s, which used %d of %s, has %d", l.Tier, l.Quantity, team, n, whole.RatString(), got[team])
		}
	}
}

// What teams used must be what the invoice counted, in everything.
func TestSplitByTeamIsTheWholeUsage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Bill(drawBillInput(t))
		if errors.Is(err, ErrNothingToBill) || err == nil && len(inv.Inputs.Quantities) == 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		used := drawTeams(t, inv)
		u := &used[rapid.IntRange(0, len(used)-1).Draw(t, "which")]
		switch rapid.IntRange(0, 5).Draw(t, "wrong") {
		case 0:
			u.Tokens.Output++
		case 1:
			u.Images++
		case 2:
			u.Requests++
		case 3:
			u.Cost = u.Cost.Add(decimal.New(1, -12))
		case 4:
			u.Model += "x"
		case 5:
			used = append(used, TeamQuantity{Quantity: Quantity{Model: "unheard of", Requests: 1}})
		}
		if _, err := inv.SplitByTeam(used); !errors.Is(err, ErrInputs) {
			t.Fatalf("split by what nobody counted: %v", err)
		}
	})
}
