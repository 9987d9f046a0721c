package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"aione/analytics"
	"aione/documents"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// usageRow is a UsageRow of the API. What was not grouped by is null; the token
// counts overlap as OpenAI's do: prompt_tokens holds the cached and cache-written
// ones, completion_tokens the reasoning ones.
type usageRow struct {
	Date             *string `json:"date" doc:"A day, or the start of an hour in UTC."`
	Model            *string `json:"model"`
	TeamID           *string `json:"team_id" format:"uuid"`
	KeyID            *string `json:"key_id" format:"uuid"`
	Requests         uint64  `json:"requests" doc:"As their clients saw them, however many attempts one took."`
	PromptTokens     uint64  `json:"prompt_tokens"`
	CachedTokens     uint64  `json:"cached_tokens"`
	CacheWriteTokens uint64  `json:"cache_write_tokens"`
	CompletionTokens uint64  `json:"completion_tokens"`
	ReasoningTokens  uint64  `json:"reasoning_tokens"`
	TotalTokens      uint64  `json:"total_tokens"`
	Images           uint64  `json:"images"`
	CostRMB          string  `json:"cost_rmb" format:"decimal"`
	ErrorCount       uint64  `json:"error_count" doc:"Requests that failed in the end."`
	Retries          uint64  `json:"retries" doc:"Attempts at providers that failed and that another attempt followed; they cost nothing."`
}

func newUsageRow(r *analytics.UsageRow, by analytics.Group) usageRow {
	row := usageRow{
		Requests: r.Requests, PromptTokens: r.PromptTokens(), CachedTokens: r.CacheReadTokens,
		CacheWriteTokens: r.CacheWrite5mTokens + r.CacheWrite1hTokens,
		CompletionTokens: r.CompletionTokens(), ReasoningTokens: r.ReasoningTokens, TotalTokens: r.TotalTokens(),
		Images: r.Images, CostRMB: r.Cost.String(), ErrorCount: r.Errors, Retries: r.Retries,
	}
	if by.Day || by.Hour {
		row.Date = &r.Date
	}
	if by.Model {
		row.Model = &r.Model
	}
	if by.Team {
		row.TeamID = idOrNull(r.TeamID)
	}
	if by.Key {
		row.KeyID = idOrNull(r.KeyID)
	}
	return row
}

// idOrNull is null for usage that belongs to nobody, such as that of other
// producers, which has no key.
func idOrNull(id uuid.UUID) *string {
	if id == uuid.Nil {
		return nil
	}
	text := id.String()
	return &text
}

const (
	usageDaysDefault   = 7
	usageExportRowsMax = 1 << 40 // every row there can be
)

var (
	startDate     = param{kind: dateParam, name: "start_date", doc: "First day, in the organisation's time zone. Default: six days before end_date."}
	endDate       = param{kind: dateParam, name: "end_date", doc: "Last day, inclusive. Default: today."}
	groupBy       = param{kind: choicesParam, name: "group_by", words: []string{"day", "hour", "model", "key", "team"}, doc: "What rows are grouped by: repeat it, or separate by commas. Default: one row for everything."}
	ofModel       = param{kind: textParam, name: "model", doc: "Only usage of this model, by its standard id."}
	ofTeam        = param{kind: idParam, name: "team_id", doc: "Only usage of this team."}
	ofKey         = param{kind: idParam, name: "key_id", doc: "Only usage of this key."}
	usagePageSize = pageSize(bounds{def: 100, min: 1, max: 1000})
)

// usageRequest is the query of GET /api/v1/obs/usage.
type usageRequest struct {
	query analytics.UsageQuery
	page  page
}

// usage serves GET /api/v1/obs/usage.
func (s *Server) usage(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	req, err := s.parseUsage(r, caller)
	if err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept")
	if wanted(r, jsonType, csvType) == csvType {
		return s.usageCSV(w, r, req)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.AnswerWithin)
	defer cancel()
	if _, err := s.vouch(ctx, w, caller.OrgID); err != nil {
		return err
	}
	rows, total, err := s.usagePage(ctx, req)
	if err != nil {
		return err
	}
	req.page.announce(w, r, total)
	writeJSON(w, http.StatusOK, rows)
	return nil
}

func (s *Server) usagePage(ctx context.Context, req usageRequest) (rows []usageRow, total int, err error) {
	q := req.query
	q.Limit, q.Offset = req.page.size, req.page.offset()
	err = s.config.Usage.EachUsage(ctx, q, func(r analytics.UsageRow, n uint64) error {
		rows, total = append(rows, newUsageRow(&r, q.By)), int(n)
		return nil
	})
	if err == nil && len(rows) == 0 && q.Offset > 0 {
		// Past the end the rows cannot tell how many there are; the first one can.
		q.Limit, q.Offset = 1, 0
		err = s.config.Usage.EachUsage(ctx, q, func(_ analytics.UsageRow, n uint64) error {
			total = int(n)
			return nil
		})
	}
	return rows, total, unavailable(err)
}

func (s *Server) parseUsage(r *http.Request, caller *keys.Key) (usageRequest, error) {
	org, err := s.config.Orgs.Org(caller.OrgID)
	if err != nil {
		return usageRequest{}, err
	}
	p := queryOf(r)
	groups := p.choices(groupBy)
	by := analytics.Group{
		Day: slices.Contains(groups, "day"), Hour: slices.Contains(groups, "hour"),
		Model: slices.Contains(groups, "model"), Team: slices.Contains(groups, "team"), Key: slices.Contains(groups, "key"),
	}
	req := usageRequest{
		query: analytics.UsageQuery{
			OrgID: org.ID, Zone: org.Timezone, By: by,
			Model: p.text(ofModel), TeamID: p.id(ofTeam), KeyID: p.id(ofKey),
		},
		page: p.page(usagePageSize),
	}
	days, err := s.usageDays(p, org.ID, by)
	if err != nil {
		return usageRequest{}, err
	}
	if err := p.err(); err != nil {
		return usageRequest{}, err
	}
	req.query.From, req.query.To = days.from, days.to
	return req, s.ownFilters(org.ID, req.query)
}

// usageDays reads start_date and end_date: by default the last seven days, today
// included; with one of them given, the other makes it seven days or ends today.
func (s *Server) usageDays(p *params, org uuid.UUID, by analytics.Group) (span, error) {
	zone, err := s.config.Orgs.Zone(org)
	if err != nil {
		return span{}, err
	}
	first, firstGiven := p.date(startDate)
	last, lastGiven := p.date(endDate)
	if !lastGiven {
		last = ledger.DateOf(s.config.Now(), zone)
	}
	if !firstGiven {
		first = last.AddDays(1 - usageDaysDefault)
	}
	if p.err() != nil {
		return span{}, nil
	}
	if before(last, first) {
		p.refuse("end_date", "date_range", "the range ends on %s, before it starts on %s", last, first)
		return span{}, nil
	}
	days, limit := daysOf(first, last, zone), s.limits.UsageDays
	if by.Hour {
		limit = s.limits.HourDays
	}
	if days.count() > limit {
		p.refuse("start_date", "date_range", "the range has %d days, at most %d can be asked for at once", days.count(), limit)
	}
	return days, nil
}

// ownFilters returns a not-found error for a team or key that is not the org's.
func (s *Server) ownFilters(org uuid.UUID, q analytics.UsageQuery) error {
	if q.TeamID != uuid.Nil {
		if err := s.ownTeam(org, q.TeamID); err != nil {
			return err
		}
	}
	if q.KeyID != uuid.Nil {
		if _, err := s.config.Keys.Lookup(org, q.KeyID); err != nil {
			return err
		}
	}
	return nil
}

// ownTeam returns a not-found error for a team that is not the org's.
func (s *Server) ownTeam(org, id uuid.UUID) error {
	teams, err := s.teamNames(org)
	if err != nil {
		return err
	}
	if _, ok := teams[id]; !ok {
		return &apiError{status: http.StatusNotFound, detail: "not found"}
	}
	return nil
}

var usageColumns = []string{
	"date", "model", "team_id", "key_id", "requests", "prompt_tokens", "cached_tokens", "cache_write_tokens",
	"completion_tokens", "reasoning_tokens", "total_tokens", "images", "cost_rmb", "error_count", "retries",
}

// usageCSV streams the answer: all of it, unless a page was asked for. Memory
// does not grow with the number of rows.
func (s *Server) usageCSV(w http.ResponseWriter, r *http.Request, req usageRequest) error {
	if _, err := s.vouch(r.Context(), w, req.query.OrgID); err != nil {
		return err
	}
	q := req.query
	q.Limit = usageExportRowsMax
	if req.page.asked {
		q.Limit, q.Offset = req.page.size, req.page.offset()
	}
	out := csvAnswer{w: w, name: "usage.csv", columns: usageColumns}
	err := s.config.Usage.EachUsage(r.Context(), q, func(row analytics.UsageRow, total uint64) error {
		if out.table == nil {
			w.Header().Set("X-Total-Count", strconv.FormatUint(total, 10))
		}
		u := newUsageRow(&row, q.By)
		return out.row(text(u.Date), text(u.Model), text(u.TeamID), text(u.KeyID), count(u.Requests),
			count(u.PromptTokens), count(u.CachedTokens), count(u.CacheWriteTokens), count(u.CompletionTokens),
			count(u.ReasoningTokens), count(u.TotalTokens), count(u.Images), u.CostRMB, count(u.ErrorCount), count(u.Retries))
	})
	if err != nil && out.table == nil {
		return unavailable(err)
	}
	if err != nil {
		// Rows are out. A clean end would pass them off as all: cut the connection.
		s.logger.Error("export broke off", "request_id", w.Header().Get(requestIDHeader), "error", err)
		panic(http.ErrAbortHandler)
	}
	return out.end()
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// csvAnswer writes CSV; nothing is out before the first row or end.
type csvAnswer struct {
	w       http.ResponseWriter
	name    string // of the file, for browsers
	columns []string
	table   *documents.Table
}

func csvHeaders(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
}

func (a *csvAnswer) begin() (err error) {
	csvHeaders(a.w, a.name)
	a.table, err = documents.NewTable(a.w, a.columns)
	return err
}

func (a *csvAnswer) row(cells ...string) error {
	if a.table == nil {
		if err := a.begin(); err != nil {
			return err
		}
	}
	return a.table.Row(cells...)
}

func (a *csvAnswer) end() error {
	if a.table == nil {
		if err := a.begin(); err != nil {
			return err
		}
	}
	_ = a.table.Close() // a write that failed: the client left, there is nobody to tell
	return nil
}
