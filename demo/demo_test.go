package demo

import (
	"context"
	"math/big"
	"os"
	"testing"
	"time"

	"aione/embedded"
	"aione/node"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }

// The whole platform on the real trace: every figure must equal the recount.
func TestEveryFigureEqualsTheRecount(t *testing.T) {
	rows := 0
	if testing.Short() {
		rows = 1500
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	report, err := Run(ctx, Options{Engines: node.EngineConfig{DataDir: t.TempDir(), Shards: 1, Replicas: 1}, Rows: rows, Documents: t.TempDir(),
		Step: func(what string) { t.Log(what) }, Progress: func(done, total uint64) {}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	for _, p := range report.Verification.Problems {
		t.Error(p)
	}
	if !report.OK || len(report.Checks) < 10 || len(report.Orgs) != len(orgNames) {
		t.Fatalf("the report is not whole: %d checks, %d orgs", len(report.Checks), len(report.Orgs))
	}
}

func TestRecountRoundsHalfToEven(t *testing.T) {
	for in, want := range map[string]string{"0.005": "0.00", "0.015": "0.02", "0.0150001": "0.02", "0.0049999": "0.00", "2.675": "2.68", "2.665": "2.66", "1": "1.00"} {
		r, ok := new(big.Rat).SetString(in)
		if !ok {
			t.Fatal(in)
		}
		if got := fenText(fen(r)); got != want {
			t.Errorf("%s rounds to %s, want %s", in, got, want)
		}
	}
}

func TestTraceIsWhole(t *testing.T) {
	trace, err := Trace()
	if err != nil {
		t.Fatal(err)
	}
	if len(trace) != 19366 {
		t.Fatalf("%d rows", len(trace))
	}
	for i := 1; i < len(trace); i++ {
		if trace[i].At.Before(trace[i-1].At) {
			t.Fatalf("row %d is older than the one before", i+1)
		}
	}
}

// A check that cannot fail proves nothing.
func TestChecksNameTheFirstDifference(t *testing.T) {
	var c checks
	c.equal("totals", "org A", "1.00", "1.00")
	c.equal("totals", "org B", "1.01", "1.00")
	c.equal("totals", "org C", "9", "1.00")
	got := c.list()
	if len(got) != 1 || got[0].OK || got[0].Detail != "org B: the platform says 1.01, the recount 1.00" {
		t.Fatalf("checks = %+v", got)
	}
}
