package bench

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"aione/analytics"
)

// Dashboard says how long the dashboard of one org over 30 days takes while the
// table holds many rows of many orgs, and what that depends on: the large org has
// ten times the rows of the small one, in as many groups.
type Dashboard struct {
	P50MS float64 `json:"p50_ms"` // of all calls of one client, both orgs alternately
	P99MS float64 `json:"p99_ms"`
	MaxMS float64 `json:"max_ms"`
	Calls int     `json:"calls"`

	Small OrgLatency `json:"small"`
	Large OrgLatency `json:"large"`

	// The same of both, flat, to lay side by side.
	RawRowsSmall uint64  `json:"raw_rows_small"`
	RawRowsLarge uint64  `json:"raw_rows_large"`
	P99SmallMS   float64 `json:"p99_small_ms"`
	P99LargeMS   float64 `json:"p99_large_ms"`
	// P50Ratio is large to small: 1 if the cost follows groups, 10 if it followed rows.
	P50Ratio float64 `json:"p50_ratio"`

	Clients         int     `json:"clients"` // at once, in the figures below
	ClientsP50MS    float64 `json:"clients_p50_ms"`
	ClientsP99MS    float64 `json:"clients_p99_ms"`
	ClientsPerS     float64 `json:"clients_per_s"`
	Rows            uint64  `json:"rows"` // of the table
	Orgs            int     `json:"orgs"`
	Parts           uint64  `json:"parts"`
	FillSeconds     float64 `json:"fill_s"`
	FillRowsPerS    float64 `json:"fill_rows_per_s"`
	DiskBytes       uint64  `json:"disk_bytes"`
	ProjectionBytes uint64  `json:"projection_bytes"`
}

// OrgLatency is what one org's dashboard costs.
type OrgLatency struct {
	RawRows       uint64  `json:"raw_rows"`       // of the org in the 30 days
	Groups        uint64  `json:"groups"`         // of attempts_by_quarter_hour
	LatencyGroups uint64  `json:"latency_groups"` // of attempt_latency_by_quarter_hour and attempt_ttft_by_quarter_hour
	RowsRead      uint64  `json:"rows_read"`      // by ClickHouse for the queries of the dashboard
	P50MS         float64 `json:"p50_ms"`
	P99MS         float64 `json:"p99_ms"`
	CPUMS         float64 `json:"cpu_ms"` // of ClickHouse for one dashboard: what noise on the machine cannot change
}

const (
	dashboardRows    = 20_000_000
	dashboardSlices  = 20 // each is an INSERT; a month of merges leaves about as many parts
	dashboardDays    = 30
	dashboardOrgs    = 50
	dashboardCalls   = 105       // of each org; a hundredth percentile needs a hundred
	dashboardFewRows = 1_000_000 // with fewer, only fewCalls are made: it is a trial
	fewCalls         = 4
	dashboardClients = 4
	dashboardWarmUp  = 10

	// smallShare and ten times as much are the orgs under test: 500 thousand and five
	// million of twenty million rows.
	smallShare = 40
)

// dashboardFrom begins the 30 days in the middle of a month, so that they lie in
// two partitions as they mostly do.
var dashboardFrom = time.Date(2026, 4, 15, 16, 0, 0, 0, time.UTC) // midnight in Shanghai

//go:embed dashboard_rows.sql
var insertDashboardRows string

// dashboardOrg is the id that dashboard_rows.sql gives to an org.
func dashboardOrg(n int) uuid.UUID {
	var id uuid.UUID
	raw := fmt.Sprintf("bench-org%07d", n)
	// ClickHouse keeps a UUID as two little-endian halves.
	for i := range 8 {
		id[i], id[8+i] = raw[7-i], raw[15-i]
	}
	return id
}

func measureDashboard(ctx context.Context, o Options, m *Machine) (_ *Dashboard, err error) {
	r, err := openRig(ctx, o, m, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	store, err := r.store(ctx, database)
	if err != nil {
		return nil, err
	}
	d := &Dashboard{Rows: uint64(o.size(dashboardRows)), Orgs: 2 + dashboardOrgs}
	if err := r.fillDashboard(ctx, d); err != nil {
		return nil, err
	}
	orgs := []*OrgLatency{&d.Small, &d.Large}
	for i, org := range orgs {
		if err := r.weigh(ctx, dashboardOrg(i), org); err != nil {
			return nil, err
		}
	}
	d.RawRowsSmall, d.RawRowsLarge = d.Small.RawRows, d.Large.RawRows
	o.Step("dashboards, one client")
	if err := r.oneClient(ctx, d, store); err != nil {
		return nil, err
	}
	o.Step(fmt.Sprintf("dashboards, %d clients", dashboardClients))
	return d, d.manyClients(ctx, store)
}

// fillDashboard makes the rows, a slice of time after the other.
func (r *rig) fillDashboard(ctx context.Context, d *Dashboard) error {
	conn, err := r.driver(database)
	if err != nil {
		return err
	}
	defer conn.Close()
	r.options.Step(fmt.Sprintf("make %d rows of %d orgs inside ClickHouse", d.Rows, d.Orgs))
	perSlice := d.Rows / dashboardSlices
	if perSlice < smallShare {
		return fmt.Errorf("%d rows are too few: %d at least", d.Rows, dashboardSlices*smallShare)
	}
	d.Rows = perSlice * dashboardSlices
	took, err := r.fillSlices(ctx, conn, filling{
		insert: insertDashboardRows, slices: dashboardSlices, rows: perSlice, from: dashboardFrom, span: dashboardDays * 24 * time.Hour,
		params: clickhouse.Parameters{"small": fmt.Sprint(perSlice / smallShare), "orgs": fmt.Sprint(dashboardOrgs)},
	})
	if err != nil {
		return err
	}
	d.FillSeconds, d.FillRowsPerS = round(took.Seconds(), 1), perSecond(int(d.Rows), took)
	return conn.QueryRow(ctx, `
		SELECT count(), sum(bytes_on_disk), sum(projection_bytes) FROM
		(SELECT name, any(bytes_on_disk) AS bytes_on_disk FROM system.parts WHERE active AND database = currentDatabase() AND table = 'usage_events' GROUP BY name) AS parts
		LEFT JOIN
		(SELECT parent_name, sum(bytes_on_disk) AS projection_bytes FROM system.projection_parts WHERE active AND database = currentDatabase() AND table = 'usage_events' GROUP BY parent_name) AS projections
		ON parts.name = projections.parent_name`).Scan(&d.Parts, &d.DiskBytes, &d.ProjectionBytes)
}

func dashboardQuery(org int) analytics.DashboardQuery {
	return analytics.DashboardQuery{OrgID: dashboardOrg(org), From: dashboardFrom, To: dashboardFrom.AddDate(0, 0, dashboardDays), Zone: "Asia/Shanghai"}
}

// oneClient asks for both orgs' dashboards in turn.
func (r *rig) oneClient(ctx context.Context, d *Dashboard, store *analytics.Store) error {
	progress := r.options.Progress("dashboards")
	took := make([][]time.Duration, 2)
	var cpu [2]time.Duration
	calls := d.callsEach()
	warmUp := min(calls, dashboardWarmUp)
	for i := range warmUp + calls {
		for org := range took {
			was, began := r.cpu(), time.Now()
			answer, err := store.Dashboard(ctx, dashboardQuery(org))
			ended := time.Now()
			if err != nil {
				return err
			}
			if want := []uint64{d.RawRowsSmall, d.RawRowsLarge}[org]; answer.Total.Requests != want {
				return fmt.Errorf("the dashboard of org %d counts %d requests, its rows are %d", org, answer.Total.Requests, want)
			}
			if i >= warmUp {
				took[org] = append(took[org], ended.Sub(began))
				cpu[org] += r.cpu().clickHouse - was.clickHouse
			}
		}
		progress(uint64(i+1), uint64(warmUp+calls))
	}
	all := slices.Concat(took...)
	d.Calls, d.P50MS, d.P99MS, d.MaxMS = len(all), millis(quantile(all, 0.50)), millis(quantile(all, 0.99)), millis(slices.Max(all))
	for org, at := range []*OrgLatency{&d.Small, &d.Large} {
		at.P50MS, at.P99MS = millis(quantile(took[org], 0.50)), millis(quantile(took[org], 0.99))
		at.CPUMS = round(millis(cpu[org])/float64(calls), 1)
	}
	d.P99SmallMS, d.P99LargeMS, d.P50Ratio = d.Small.P99MS, d.Large.P99MS, round(d.Large.P50MS/d.Small.P50MS, 2)
	return nil
}

func (d *Dashboard) callsEach() int {
	if d.Rows < dashboardFewRows {
		return fewCalls
	}
	return dashboardCalls
}

func (d *Dashboard) manyClients(ctx context.Context, store *analytics.Store) error {
	var mu sync.Mutex
	var took []time.Duration
	g, gctx := errgroup.WithContext(ctx)
	began := time.Now()
	for client := range dashboardClients {
		g.Go(func() error {
			for i := range max(2, d.callsEach()/dashboardClients) {
				began := time.Now()
				if _, err := store.Dashboard(gctx, dashboardQuery((client+i)%2)); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.Clients, d.ClientsPerS = dashboardClients, round(float64(len(took))/time.Since(began).Seconds(), 1)
	d.ClientsP50MS, d.ClientsP99MS = millis(quantile(took, 0.50)), millis(quantile(took, 0.99))
	return nil
}

// The three questions of a dashboard by their projections' keys. The groups are the
// rows that the projections hold of the org once everything has merged.
const (
	quarterHourGroups = `SELECT toStartOfFifteenMinutes(occurred_at), disposition, team_id, key_id, model, outcome, retried, count(), sum(cost)
FROM usage_events WHERE org_id = {org:UUID} AND disposition = 'counted'
GROUP BY toStartOfFifteenMinutes(occurred_at), disposition, team_id, key_id, model, outcome, retried`
	latencyGroups = `SELECT toStartOfFifteenMinutes(occurred_at), disposition, retried, latency_class, count()
FROM usage_events WHERE org_id = {org:UUID} AND disposition = 'counted'
GROUP BY toStartOfFifteenMinutes(occurred_at), disposition, retried, latency_class`
	ttftGroups = `SELECT toStartOfFifteenMinutes(occurred_at), disposition, retried, ttft_class, count()
FROM usage_events WHERE org_id = {org:UUID} AND disposition = 'counted'
GROUP BY toStartOfFifteenMinutes(occurred_at), disposition, retried, ttft_class`
)

// weigh counts what there is of an org, and what ClickHouse reads for it. The
// queries must use the projections, or they fail.
func (r *rig) weigh(ctx context.Context, org uuid.UUID, l *OrgLatency) error {
	rows, groups, read, err := r.explain(ctx, org, quarterHourGroups)
	if err != nil {
		return err
	}
	l.RawRows, l.Groups, l.RowsRead = rows, groups, read
	for _, query := range [...]string{latencyGroups, ttftGroups} {
		_, groups, read, err := r.explain(ctx, org, query)
		if err != nil {
			return err
		}
		l.LatencyGroups += groups
		l.RowsRead += read
	}
	return nil
}

// explain asks for the number of groups with ClickHouse's own account of what it
// read, which only its HTTP formats give.
func (r *rig) explain(ctx context.Context, org uuid.UUID, groups string) (rows, count, read uint64, err error) {
	ask := url.Values{"database": {database}, "param_org": {org.String()}, "force_optimize_projection": {"1"}, "output_format_json_quote_64bit_integers": {"0"},
		"query": {"SELECT sum(`count()`), count() FROM (" + groups + ") FORMAT JSONCompact"}}
	address, err := url.Parse(r.clickHouse.DSN())
	if err != nil {
		return 0, 0, 0, fmt.Errorf("read the DSN: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address.Host+"/?"+ask.Encode(), nil)
	if err != nil {
		return 0, 0, 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, 0, 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, 0, 0, fmt.Errorf("count the groups of an org: %s", body)
	}
	var answer struct {
		Data       [][]uint64
		Statistics struct {
			RowsRead uint64 `json:"rows_read"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Data) != 1 {
		return 0, 0, 0, fmt.Errorf("count the groups of an org: %w in %s", err, body)
	}
	return answer.Data[0][0], answer.Data[0][1], answer.Statistics.RowsRead, nil
}
