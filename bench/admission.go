package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/shopspring/decimal"

	"aione/node"
)

// Admission says what it costs to let a request in: to check its key, its limits
// and to reserve what it may cost, beside many keys. Nothing is left out that an API
// process does there, and it is one replica of a real log; what is written to the
// log by a request is measured elsewhere.
type Admission struct {
	US          float64 `json:"us"`    // key check, limit check and reservation of a request, one after the other
	P5US        float64 `json:"us_p5"` // the same of the fastest twentieth: what others on the machine do not add to
	VerifyUS    float64 `json:"verify_us"`
	ReserveUS   float64 `json:"reserve_us"`
	SettleUS    float64 `json:"settle_us"`   // besides, when the request has ended
	ParallelUS  float64 `json:"parallel_us"` // the same when every core lets requests in at once
	AllocsEach  float64 `json:"allocs"`      // of a request, settlement included
	Keys        int     `json:"keys"`
	Orgs        int     `json:"orgs"`
	HotKeys     int     `json:"hot_keys"` // that make requests, in random order; each has a budget and rates of its own
	StateBytes  uint64  `json:"state_bytes"`
	KeysBytes   uint64  `json:"keys_bytes"`    // of it, what the key check needs
	LimitsBytes uint64  `json:"limits_bytes"`  // of it, limits, budgets and what is spent
	KeyBytes    float64 `json:"bytes_per_key"` // all of it
	Records     uint64  `json:"ledger_records"`
	StartS      float64 `json:"start_s"`      // engines, and the whole ledger read
	RestoreS    float64 `json:"restore_s"`    // then spend, and a place among the replicas
	FirstUseMS  float64 `json:"first_use_ms"` // of an org's accounts: allowances are taken from the log, once
}

const (
	admissionKeys    = 1_000_000
	admissionOrgs    = 1000
	admissionHotKeys = 1 << 16
	admissionRounds  = 5
	admissionBatch   = 4096 // requests on their way at once
)

var admissionBound, admissionCost = decimal.New(3_000_000_000, -12), decimal.New(1_234_567_890, -12)

func measureAdmission(ctx context.Context, o Options, m *Machine) (_ *Admission, err error) {
	p, err := newPlatform(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	a := &Admission{Keys: o.size(admissionKeys)}
	a.Orgs = min(admissionOrgs, a.Keys)
	a.HotKeys = min(admissionHotKeys, a.Keys)
	o.Step(fmt.Sprintf("%d keys of %d orgs into a ledger", a.Keys, a.Orgs))
	pepper := make([]byte, 32)
	if _, err := rand.Read(pepper); err != nil {
		return nil, fmt.Errorf("make a pepper: %w", err)
	}
	usual := debug.SetGCPercent(400) // what is filled is not what is measured
	secrets, err := fillLedger(ctx, p.dir, a, pepper, o.Progress("keys"))
	debug.SetGCPercent(usual)
	if err != nil {
		return nil, fmt.Errorf("fill the ledger: %w", err)
	}
	o.Step("a process starts on it")
	if err := p.open(ctx, m, base64.StdEncoding.EncodeToString(pepper)); err != nil {
		return nil, err
	}
	a.StartS = round(p.started.Seconds(), 2)
	if a.Records, err = p.Log.LedgerEnd(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := p.serve(ctx, node.ServeConfig{}); err != nil {
		return nil, err
	}
	a.RestoreS = round(time.Since(began).Seconds(), 2)
	err = (&admissionBench{n: p.Node, o: o, secrets: secrets}).run(ctx, a)
	if err = errors.Join(err, p.stopServing()); err != nil {
		return nil, err
	}
	return a, a.weigh(p.Node)
}

// weigh closes the node and sees how much memory goes with its parts.
func (a *Admission) weigh(n *node.Node) error {
	if err := n.Close(); err != nil {
		return err
	}
	all := heapBytes()
	n.Keys = nil
	withoutKeys := heapBytes()
	n.Limits = nil
	left := heapBytes()
	a.KeysBytes, a.LimitsBytes, a.StateBytes = all-min(all, withoutKeys), withoutKeys-min(withoutKeys, left), all-min(all, left)
	a.KeyBytes = round(float64(a.StateBytes)/float64(a.Keys), 1)
	return nil
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
