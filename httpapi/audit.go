package httpapi

import (
	"context"
	"net/http"
	"time"

	"aione/events"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// AuditVerdict is what the auditor last found of an org.
type AuditVerdict struct {
	At          time.Time // when it was found
	Through     uint64    // the usage sequence up to which it holds
	LedgerSeq   uint64    // the ledger sequence up to which it holds
	RowsAreLog  bool      // the rows hold the events of the log, each once
	InputsMatch bool      // usage adds up to what invoices were computed from
	JournalZero bool      // every journal sums to zero
	Findings    []string  // what is wrong with this org, without data of others
}

// Audits knows the auditor's last verdicts.
type Audits interface {
	// Verdict is false when there is none yet.
	Verdict(ctx context.Context, orgID uuid.UUID) (AuditVerdict, bool, error)
}

type auditResponse struct {
	Status       string   `json:"status" enum:"proven,broken,pending" doc:"pending: nothing was audited yet."`
	AuditedAt    *string  `json:"audited_at" format:"date-time"`
	ThroughSeq   uint64   `json:"through_seq" doc:"Usage up to this sequence of the organisation's stream was compared."`
	LedgerSeq    uint64   `json:"ledger_seq"`
	RowsAreLog   bool     `json:"rows_are_log" doc:"What is counted is what is in the log, each event once."`
	InputsMatch  bool     `json:"usage_is_invoice_inputs" doc:"Usage adds up to what the invoices were computed from."`
	JournalsZero bool     `json:"journals_sum_to_zero"`
	Findings     []string `json:"findings"`
}

// audit serves GET /api/v1/audit.
func (s *Server) audit(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	v, ok, err := s.config.Audits.Verdict(r.Context(), caller.OrgID)
	if err != nil {
		return unavailable(err)
	}
	answer := auditResponse{Status: "pending", Findings: []string{}}
	if ok {
		answer = auditResponse{
			Status: "broken", AuditedAt: instantOrNull(v.At), ThroughSeq: v.Through, LedgerSeq: v.LedgerSeq,
			RowsAreLog: v.RowsAreLog, InputsMatch: v.InputsMatch, JournalsZero: v.JournalZero, Findings: append([]string{}, v.Findings...),
		}
		if v.RowsAreLog && v.InputsMatch && v.JournalZero && len(v.Findings) == 0 {
			answer.Status = "proven"
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// Lines finds the events behind an invoice line.
type Lines interface {
	// LineEvents are the events that in counts and that line is the sum of, in the
	// order of the log: those of its model, price version and origin with something
	// in its bucket. It returns the events from offset on, at most limit, and the
	// number of all.
	LineEvents(ctx context.Context, in ledger.InputsQuery, line ledger.Line, limit, offset int) ([]events.Usage, int, error)
}

// lineEvent is one event behind a line.
type lineEvent struct {
	EventID      uuid.UUID `json:"event_id"`
	OccurredAt   string    `json:"occurred_at" format:"date-time"`
	TeamID       *string   `json:"team_id" format:"uuid"`
	KeyID        *string   `json:"key_id" format:"uuid"`
	Model        string    `json:"model"`
	PriceVersion string    `json:"price_version"`
	Bucket       string    `json:"bucket"`
	Quantity     uint64    `json:"quantity" doc:"In the bucket."`
	Outcome      string    `json:"outcome"`
	Source       *string   `json:"source" doc:"Of usage reported by other producers."`
	ExternalID   *string   `json:"external_id" doc:"The producer's own id."`
}

var linePageSize = pageSize(bounds{def: 100, min: 1, max: 1000})

// lineEvents serves GET /api/v1/billing/invoices/{invoice_id}/lines/{n}/events. A
// line of usage has the events that it sums up, a tier those that its charge
// covers, all tiers together: which of them fall into one tier nothing says. Other
// lines come from terms and other lines, and have none.
func (s *Server) lineEvents(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	n, err := pathNumber(r, "n")
	if err != nil {
		return err
	}
	p := queryOf(r)
	page := p.page(linePageSize)
	if err := p.err(); err != nil {
		return err
	}
	inv, err := s.invoiceOf(r, caller.OrgID)
	if err != nil {
		return err
	}
	if _, err := lineOf(&inv, n); err != nil {
		return err
	}
	s.vouchIfKnown(r.Context(), w, caller.OrgID)
	list, total := []lineEvent{}, 0
	for _, part := range inv.UsageOf(n) {
		// Of each part the events behind those of the parts before it.
		limit, offset := page.size-len(list), max(page.offset()-total, 0)
		found, n, err := s.config.Lines.LineEvents(r.Context(), s.config.Accounts.InputsQueryOf(inv), part, limit, offset)
		if err != nil {
			return unavailable(err)
		}
		for i := range found {
			list = append(list, newLineEvent(&found[i], part.Bucket))
		}
		total += n
	}
	page.announce(w, r, total)
	writeJSON(w, http.StatusOK, list)
	return nil
}

func newLineEvent(u *events.Usage, bucket ledger.Bucket) lineEvent {
	return lineEvent{
		EventID: u.ID, OccurredAt: instant(u.OccurredAt), TeamID: idOrNull(u.TeamID), KeyID: idOrNull(u.KeyID),
		Model: u.Model, Bucket: string(bucket), PriceVersion: u.PriceVersion, Quantity: bucket.Of(u.Tokens, u.Images), Outcome: u.Outcome.String(),
		Source: textOrNull(u.Producer), ExternalID: textOrNull(u.ExternalID),
	}
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// proofRoutes are those by which a bill can be proven.
func (s *Server) proofRoutes() []route {
	var routes []route
	if s.config.Lines != nil {
		routes = append(routes, route{
			method: http.MethodGet, path: "/api/v1/billing/invoices/{invoice_id}/lines/{n}/events", id: "listLineEvents", tag: tagBilling,
			summary: "List Events of an Invoice Line",
			doc: "The exact events that a line is the sum of, in the order of the log. For a tier: those that its charge covers, by model, price version and bucket, " +
				"of all its tiers together. Other lines come from terms and other lines, and have no events.",
			scope: keys.ScopeBillingRead, heavy: true, serve: s.lineEvents, params: []param{pageNumber, linePageSize},
			answer: success{of: []lineEvent{}, counted: true, paged: true},
		})
	}
	if s.config.Audits != nil {
		routes = append(routes, route{
			method: http.MethodGet, path: "/api/v1/audit", id: "getAudit", tag: tagBilling, summary: "Get Audit Verdict",
			doc:   "What the auditor last found: rows are the log, usage is what invoices were computed from, journals sum to zero.",
			scope: keys.ScopeBillingRead, serve: s.audit, answer: success{of: auditResponse{}},
		})
	}
	return routes
}
