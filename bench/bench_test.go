package bench

import (
	"encoding/json"
	"os"
	"testing"

	"aione/demo"
	"aione/embedded"
)

func TestMain(m *testing.M) {
	os.Exit(embedded.TestMain(m, "TestDashboard", "TestEventsAPI", "TestGateway", "TestIngest", "TestLedger", "TestRebuild"))
}

// measured runs one measurement at a size that takes a moment. Whether figures are
// good is for a quiet machine to say; here they must be there and make sense.
func measured(t *testing.T, name string, size int) Report {
	t.Helper()
	trace, err := demo.Trace()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := Options{Size: size, Dir: dir}
	for _, r := range trace {
		o.Trace = append(o.Trace, Request{Prompt: r.Prompt, Completion: r.Completion})
	}
	report, err := Run(t.Context(), o, name)
	if err != nil {
		t.Fatal(err)
	}
	if report.Machine.Cores < 1 || report.Machine.FsyncP50US <= 0 || report.Machine.ClickHouse == "" {
		t.Errorf("the machine is %+v", report.Machine)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the measurement left %v behind (%v)", left, err)
	}
	return report
}

// positive checks figures at their place in the JSON, which is what scripts read.
func positive(t *testing.T, r Report, name string, figures ...string) {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		if v, ok := all[name][f].(float64); !ok || v <= 0 {
			t.Errorf("%s.%s is %v, want a positive number", name, f, all[name][f])
		}
	}
}

func TestIngest(t *testing.T) {
	size := 3000
	r := measured(t, "ingest", size)
	positive(t, r, "ingest", "ratio", "events_per_s", "ceiling_events_per_s", "publish_events_per_s", "log_bytes_per_event",
		"filter_bytes", "visible_p50_ms", "visible_p99_ms")
	in := r.Ingest
	if in.Events != size || len(in.Rounds) != ingestRounds || len(in.Visible) != 3 {
		t.Errorf("it measured %+v", in)
	}
	for _, v := range in.Visible {
		if v.P50MS < v.DurableP50MS || v.P99MS < v.P50MS || v.MaxMS < v.P99MS {
			t.Errorf("latencies out of order: %+v", v)
		}
	}
}

func TestEventsAPI(t *testing.T) {
	r := measured(t, "events_api", 24_000) // a batch of each client in each round
	positive(t, r, "events_api", "events_per_s", "p50_ms", "p99_ms", "mb_per_s", "ratio", "ceiling_events_per_s", "with_ingest_events_per_s")
	if r.EventsAPI.Events != 24_000 {
		t.Errorf("it measured %+v", r.EventsAPI)
	}
}

func TestGateway(t *testing.T) {
	size := 2000
	r := measured(t, "gateway", size)
	positive(t, r, "gateway", "ratio_8", "ratio_256", "requests", "prompt_bytes")
	g := r.Gateway
	for _, r := range []GatewayRate{g.PerS8, g.PerS256} {
		if r.P50MS <= 0 || r.P99MS < r.P50MS || r.CeilingPerS <= 0 || r.CPUUS <= 0 {
			t.Errorf("it measured %+v", r)
		}
	}
	if h := g.Half; g.Requests < size || h.P50MS <= 0 || h.P99MS < h.P50MS || h.CeilingP99MS < h.CeilingP50MS || h.DiskP50MS <= 0 || h.DiskP99MS < h.DiskP50MS {
		t.Errorf("it measured %+v", g)
	}
}

func TestDashboard(t *testing.T) {
	size := 80_000
	r := measured(t, "dashboard", size)
	positive(t, r, "dashboard", "p50_ms", "p99_ms", "rows", "parts", "disk_bytes", "projection_bytes", "clients_p99_ms")
	d := r.Dashboard
	if d.RawRowsSmall != uint64(size/40) || d.RawRowsLarge != uint64(size/4) || d.Rows != uint64(size) {
		t.Errorf("the orgs have %d and %d rows of %d", d.RawRowsSmall, d.RawRowsLarge, d.Rows)
	}
	for _, org := range []OrgLatency{d.Small, d.Large} {
		if org.Groups == 0 || org.Groups > org.RawRows || org.LatencyGroups == 0 || org.RowsRead == 0 {
			t.Errorf("an org weighs %+v", org)
		}
	}
}

func TestRebuild(t *testing.T) {
	r := measured(t, "rebuild", 3000)
	positive(t, r, "rebuild", "ratio", "fill_ratio", "events_per_s", "ingest_events_per_s")
	for _, round := range r.Rebuild.Rounds {
		if !round.SameAndExchanged || round.CompareSeconds <= 0 {
			t.Errorf("a round was %+v", round)
		}
	}
}

func TestLedger(t *testing.T) {
	size := 40_000
	r := measured(t, "ledger", size)
	positive(t, r, "invoices", "seconds_10k_orgs", "seconds_one_big_org", "invoices_per_s", "heap_peak_bytes")
	positive(t, r, "ledger", "transfers_per_s", "snapshot_bytes")
	positive(t, r, "balance", "p99_ms")
	if in := r.Invoices; in.Orgs != size/2000 || in.Rows != uint64(size) || in.BigOrgRows != uint64(size)/2 {
		t.Errorf("it measured %+v", in)
	}
	if r.Balance.Transfers != uint64(size) {
		t.Errorf("the balance has %d transfers behind it", r.Balance.Transfers)
	}
}

func TestUnknownNames(t *testing.T) {
	if _, err := Run(t.Context(), Options{Trace: []Request{{Prompt: 1}}}, "speed"); err == nil {
		t.Error("a measurement that does not exist was taken")
	}
	if _, err := Run(t.Context(), Options{}); err == nil {
		t.Error("no trace was taken for one")
	}
}

func TestAdmission(t *testing.T) {
	r := measured(t, "admission", 2000)
	positive(t, r, "admission", "us", "us_p5", "verify_us", "reserve_us", "settle_us", "parallel_us", "state_bytes", "keys_bytes", "limits_bytes", "bytes_per_key", "start_s", "restore_s", "first_use_ms")
	if a := r.Admission; a.Keys != 2000 || a.HotKeys != 2000 || a.Records < 5*1000+2*2000 {
		t.Errorf("%+v", a)
	}
}
