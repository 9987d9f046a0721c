package httpapi

import (
	"net/http"
	"regexp"
	"strconv"
	"time"

	"aione/keys"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// route is one operation of the API. Routing, authorisation, bounds and the
// document all come from it: what is not in the table does not exist.
type route struct {
	method, path string // {name} in the path as chi and OpenAPI both write it
	id           string // operationId
	tag          string
	summary, doc string
	scope        keys.Scope // that the token must have; "" serves anybody, by open
	within       time.Duration
	heavy        bool // it reads usage: only so many at once, see newTurns
	params       []param
	body         body
	answer       success
	refusals     []refusal // besides those that follow from the rest

	serve     authorised
	open      handler
	elsewhere bool // the gateway answers it, not we
}

// body is what a request carries; of is nil when it carries nothing.
type body struct {
	of      any // a value of the Go type, as JSON
	media   []content
	example string // as JSON
}

// content is one form of a body or an answer.
type content struct {
	media string
	of    any // a value of the Go type; nil for anything
}

// success is the answer when all is well.
type success struct {
	status  int // default 200
	of      any // as JSON; nil: no body
	other   []content
	counted bool // says how far it has counted, see vouch
	paged   bool // says how many there are, see page.announce

	replayed bool // says whether it was given before, see carriedOut
}

func (a success) code() int { return orStatus(a.status, http.StatusOK) }

func orStatus(status, def int) int {
	if status == 0 {
		return def
	}
	return status
}

// refusal is an answer that says no.
type refusal struct {
	status int
	doc    string
	of     any // besides {"detail": …} or HTTPValidationError; nil: there is no other form

	instead any // of these; nil: it is one of them
}

// Tags, in the order of the document.
const (
	tagChat      = "Chat"
	tagModels    = "Models"
	tagKeys      = "API keys"
	tagUsage     = "Usage"
	tagBilling   = "Billing"
	tagWebhooks  = "Webhooks"
	tagIngest    = "Ingest"
	tagOperators = "Operators"
	tagService   = "Service"
)

// table is every route of this server. A route whose part is not configured is
// not there.
func (s *Server) table() []route {
	var all []route
	for _, routes := range [...][]route{
		s.chatRoutes(), s.modelRoutes(), s.keyRoutes(), s.usageRoutes(), s.accountRoutes(), s.billingRoutes(), s.proofRoutes(), s.webhookRoutes(),
		s.ingestRoutes(), s.adminRoutes(), s.budgetRoutes(), s.financeRoutes(), s.serviceRoutes(),
	} {
		all = append(all, routes...)
	}
	for i := range all {
		if all[i].within == 0 {
			all[i].within = s.limits.AnswerWithin
		}
	}
	return all
}

func (s *Server) mount(r chi.Router, routes []route) {
	for _, at := range routes {
		if at.elsewhere {
			continue
		}
		h := s.handle(at.open)
		if at.scope != "" {
			serve := at.serve
			if at.heavy {
				serve = s.queries.let(serve)
			}
			h = s.bounded(at.within, s.with(at.scope, serve))
		}
		r.Method(at.method, at.path, h)
	}
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// pathNames are the parameters of the path, in their order.
func (at *route) pathNames() []string {
	var names []string
	for _, m := range pathParam.FindAllStringSubmatch(at.path, -1) {
		names = append(names, m[1])
	}
	return names
}

// refusable reports whether there is anything in a request to be wrong with.
func (at *route) refusable() bool {
	return len(at.params) > 0 || at.takesBody() || len(at.pathNames()) > 0
}

func (at *route) takesBody() bool { return at.body.of != nil || len(at.body.media) > 0 }

// pathID reads an id of the path.
func pathID(r *http.Request, name string) (uuid.UUID, error) {
	id, err := parseID(chi.URLParam(r, name))
	if err != nil {
		return uuid.Nil, invalid("uuid_parsing", "the value is not a UUID", "path", name)
	}
	return id, nil
}

// pathNumber reads a number from 1 on of the path.
func pathNumber(r *http.Request, name string) (int, error) {
	n, err := strconv.Atoi(chi.URLParam(r, name))
	if err != nil || n < 1 {
		return 0, invalid("int_parsing", "the value is not a number from 1 on", "path", name)
	}
	return n, nil
}

func (s *Server) usageRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/api/v1/obs/usage", id: "queryUsage", tag: tagUsage, summary: "Query Usage",
		doc: "Usage of whole days of the organisation's time zone. With `Accept: text/csv` all rows are streamed, " +
			"unless a page is asked for.",
		scope: keys.ScopeUsageRead, heavy: true, serve: s.usage,
		within:   s.limits.ExportWithin, // a CSV export may take longer than other answers
		params:   []param{startDate, endDate, groupBy, ofModel, ofTeam, ofKey, pageNumber, usagePageSize},
		answer:   success{of: []usageRow{}, other: []content{{media: "text/csv"}}, counted: true, paged: true},
		refusals: []refusal{{status: http.StatusNotFound, doc: "The team or key is not one of this organisation."}},
	}, {
		method: http.MethodGet, path: "/api/v1/obs/dashboard", id: "getDashboard", tag: tagUsage, summary: "Get Dashboard",
		doc:   "The last days, today included, for engineers (`tech`) or for those who pay (`business`).",
		scope: keys.ScopeUsageRead, heavy: true, serve: s.dashboard,
		params: []param{rangeDays, viewMode},
		answer: success{of: dashboardAnswer{}, counted: true},
	}}
}

func (s *Server) ingestRoutes() []route {
	return []route{{
		method: http.MethodPost, path: "/api/v1/events", id: "postEvents", tag: tagIngest, summary: "Report Usage",
		doc: "Usage of other producers, as CloudEvents 1.0. An event is known by (organisation, source, id): sent again " +
			"it is counted once, so after any doubt the same request can be repeated. 202 means durable.",
		scope: keys.ScopeIngest, serve: s.postEvents,
		body:   body{media: []content{{eventBatchType, []cloudEvent{}}, {oneEventType, cloudEvent{}}}, example: eventExample},
		answer: success{status: http.StatusAccepted, of: eventsAnswer{}},
		refusals: []refusal{
			{status: http.StatusUnprocessableEntity, of: eventsAnswer{}},
			{status: http.StatusBadRequest, doc: "The body could not be read to its end."},
		},
	}}
}

func (s *Server) serviceRoutes() []route {
	text := func(media string) success { return success{other: []content{{media: media}}} }
	return []route{{
		method: http.MethodGet, path: "/healthz", id: "getHealth", tag: tagService, summary: "The process is up",
		open: s.healthz, answer: success{of: map[string]string{}},
	}, {
		method: http.MethodGet, path: "/readyz", id: "getReadiness", tag: tagService, summary: "The process can serve",
		open: s.readyz, answer: success{of: readiness{}},
		refusals: []refusal{{status: http.StatusServiceUnavailable, of: readiness{}}},
	}, {
		method: http.MethodGet, path: "/metrics", id: "getMetrics", tag: tagService, summary: "Prometheus metrics",
		open: func(w http.ResponseWriter, r *http.Request) error {
			s.metrics.handler.ServeHTTP(w, r)
			return nil
		},
		answer: text("text/plain"),
	}, {
		method: http.MethodGet, path: "/openapi.json", id: "getDocument", tag: tagService, summary: "This document",
		open: s.openapi, answer: success{of: anyObject{}},
	}, {
		method: http.MethodGet, path: "/docs", id: "getReference", tag: tagService, summary: "This document for people",
		open: s.reference, answer: text("text/html"),
	}}
}

// anyObject is a JSON object that the document says no more of.
type anyObject map[string]any
