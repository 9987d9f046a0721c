package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aione/keys"
	"aione/webhooks"

	"github.com/google/uuid"
)

// Webhooks are the endpoints of orgs and what became of their messages:
// webhooks.Book. What is another org's is webhooks.ErrNotFound.
type Webhooks interface {
	EventTypes() []string
	Endpoints(org uuid.UUID) []webhooks.Endpoint
	Endpoint(org, id uuid.UUID) (webhooks.Endpoint, error)
	Deliveries(org, id uuid.UUID, status webhooks.Status, page, pageSize int) ([]webhooks.Delivery, int, error)
}

// WebhookCommands change endpoints: webhooks.Commands.
type WebhookCommands interface {
	Create(ctx context.Context, in webhooks.CreateInput, by webhooks.By) (webhooks.Endpoint, string, error)
	Update(ctx context.Context, org, id uuid.UUID, in webhooks.UpdateInput, by webhooks.By) (webhooks.Endpoint, error)
	Disable(ctx context.Context, org, id uuid.UUID, by webhooks.By) (webhooks.Endpoint, error)
	Enable(ctx context.Context, org, id uuid.UUID, by webhooks.By) (webhooks.Endpoint, error)
	Delete(ctx context.Context, org, id uuid.UUID, by webhooks.By) error
	Rotate(ctx context.Context, org, id uuid.UUID, grace time.Duration, by webhooks.By) (webhooks.Endpoint, string, error)
	Test(ctx context.Context, org, id uuid.UUID, by webhooks.By) (string, error)
	Replay(ctx context.Context, org, id uuid.UUID, message string, by webhooks.By) error
	ReplaySince(ctx context.Context, org, id uuid.UUID, since time.Time, by webhooks.By) (int, error)
}

// webhookResponse is an endpoint. Secret is given by create and rotate only.
type webhookResponse struct {
	ID              uuid.UUID `json:"id"`
	OrgID           uuid.UUID `json:"org_id"`
	URL             string    `json:"url"`
	Description     string    `json:"description"`
	Events          []string  `json:"events" doc:"Types it is told of; empty means all."`
	Status          string    `json:"status" enum:"enabled,disabled"`
	DisabledReason  *string   `json:"disabled_reason"`
	Secret          *string   `json:"secret" doc:"For checking signatures (Standard Webhooks): given by create and rotate, else null."`
	SecretVersion   int       `json:"secret_version" minimum:"1"`
	OldSecretsUntil *string   `json:"old_secrets_until" format:"date-time" doc:"Until when secrets before the last rotation sign too."`
	CreatedAt       string    `json:"created_at" format:"date-time"`
	UpdatedAt       string    `json:"updated_at" format:"date-time"`
}

type webhookListResponse struct {
	Items      []webhookResponse `json:"items"`
	Total      int               `json:"total" minimum:"0"`
	EventTypes []string          `json:"event_types" doc:"All that an endpoint can be told of."`
}

func newWebhook(e webhooks.Endpoint, secret string) webhookResponse {
	r := webhookResponse{
		ID: e.ID, OrgID: e.OrgID, URL: e.URL, Description: e.Description, Events: append([]string{}, e.Events...), Status: "enabled",
		Secret: textOrNull(secret), SecretVersion: e.SecretVersion, OldSecretsUntil: instantOrNull(e.OldSecretsUntil),
		CreatedAt: instant(e.CreatedAt), UpdatedAt: instant(e.UpdatedAt),
	}
	if e.Disabled {
		r.Status, r.DisabledReason = "disabled", textOrNull(e.DisabledReason)
	}
	return r
}

type webhookCreateRequest struct {
	URL         string   `json:"url" minLength:"1" maxLength:"2048" doc:"By https, to a public address."`
	Description string   `json:"description,omitempty" maxLength:"256"`
	Events      []string `json:"events,omitempty" maxItems:"100" doc:"Types it is told of; empty means all, also those to come."`
}

// webhookUpdateRequest changes what is given.
type webhookUpdateRequest struct {
	URL         *string   `json:"url,omitempty" minLength:"1" maxLength:"2048" doc:"Also for what waits already."`
	Description *string   `json:"description,omitempty" maxLength:"256"`
	Events      *[]string `json:"events,omitempty" maxItems:"100" doc:"For what happens from now on; empty means all."`
	Enabled     *bool     `json:"enabled,omitempty" doc:"A disabled endpoint is not told of what happens; what waits for it waits on."`
}

// byWebhook says who commands.
func (s *Server) byWebhook(caller *keys.Key) webhooks.By {
	return webhooks.By{Actor: actorOf(caller), At: s.config.Now()}
}

// webhookRefused says why a command is not carried out.
func webhookRefused(err error) error {
	var field *webhooks.FieldError
	switch {
	case errors.As(err, &field):
		in := "body"
		if field.Field == "grace_hours" {
			in = "query"
		}
		return invalid("value_error", "the value "+field.Msg, in, field.Field)
	case errors.Is(err, webhooks.ErrNotFound):
		return &apiError{status: http.StatusNotFound, detail: "not found", cause: err}
	case errors.Is(err, webhooks.ErrExists):
		return errKeyReused
	case errors.Is(err, webhooks.ErrTooMany), errors.Is(err, webhooks.ErrDisabled), errors.Is(err, webhooks.ErrManySecrets):
		return &apiError{status: http.StatusConflict, detail: rootText(err), cause: err}
	}
	return err
}

// rootText is the text of the innermost error: that of a sentinel.
func rootText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// listWebhooks serves GET /api/v1/webhooks, oldest first.
func (s *Server) listWebhooks(w http.ResponseWriter, _ *http.Request, caller *keys.Key) error {
	list := webhookListResponse{Items: []webhookResponse{}, EventTypes: s.config.Webhooks.EventTypes()}
	for _, e := range s.config.Webhooks.Endpoints(caller.OrgID) {
		list.Items = append(list.Items, newWebhook(e, ""))
	}
	list.Total = len(list.Items)
	writeJSON(w, http.StatusOK, list)
	return nil
}

// createWebhook serves POST /api/v1/webhooks.
func (s *Server) createWebhook(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	var req webhookCreateRequest
	again, err := s.readCommand(w, r, caller, &req)
	if err != nil {
		return err
	}
	e, secret, err := s.config.WebhookCommands.Create(r.Context(), webhooks.CreateInput{
		OrgID: caller.OrgID, ID: again.id("webhook"), URL: req.URL, Description: req.Description, Events: req.Events,
	}, s.byWebhook(caller))
	if err != nil {
		return webhookRefused(err)
	}
	writeJSON(w, http.StatusCreated, newWebhook(e, secret))
	return nil
}

// onWebhook serves a route of the endpoint in the path.
func (s *Server) onWebhook(serve func(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		id, err := pathID(r, "webhook_id")
		if err != nil {
			return err
		}
		// What is another org's is not there, whatever else is wrong.
		if _, err := s.config.Webhooks.Endpoint(caller.OrgID, id); err != nil {
			return webhookRefused(err)
		}
		return webhookRefused(serve(w, r, caller, id))
	}
}

func (s *Server) getWebhook(w http.ResponseWriter, _ *http.Request, caller *keys.Key, id uuid.UUID) error {
	e, err := s.config.Webhooks.Endpoint(caller.OrgID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newWebhook(e, ""))
	return nil
}

func (s *Server) updateWebhook(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error {
	var req webhookUpdateRequest
	if _, err := s.readBody(w, r, &req); err != nil {
		return err
	}
	by := s.byWebhook(caller)
	e, err := s.config.WebhookCommands.Update(r.Context(), caller.OrgID, id, webhooks.UpdateInput{URL: req.URL, Description: req.Description, Events: req.Events}, by)
	if err != nil {
		return err
	}
	if req.Enabled != nil {
		set := s.config.WebhookCommands.Disable
		if *req.Enabled {
			set = s.config.WebhookCommands.Enable
		}
		if e, err = set(r.Context(), caller.OrgID, id, by); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, newWebhook(e, ""))
	return nil
}

func (s *Server) deleteWebhook(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error {
	if err := s.config.WebhookCommands.Delete(r.Context(), caller.OrgID, id, s.byWebhook(caller)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var webhookGrace = param{kind: integerParam, name: "grace_hours", bounds: bounds{def: 24, min: 0, max: 168}, doc: "How long the secrets before sign too."}

func (s *Server) rotateWebhook(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error {
	p := queryOf(r)
	hours := p.integer(webhookGrace)
	if err := p.err(); err != nil {
		return err
	}
	e, secret, err := s.config.WebhookCommands.Rotate(r.Context(), caller.OrgID, id, time.Duration(hours)*time.Hour, s.byWebhook(caller))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newWebhook(e, secret))
	return nil
}

type webhookMessageResponse struct {
	MessageID string `json:"message_id" doc:"The header webhook-id of the message."`
}

func (s *Server) testWebhook(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error {
	message, err := s.config.WebhookCommands.Test(r.Context(), caller.OrgID, id, s.byWebhook(caller))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, webhookMessageResponse{message})
	return nil
}

// webhookDelivery is what became of a message.
type webhookDelivery struct {
	MessageID     string  `json:"message_id" doc:"The header webhook-id, the same on every attempt."`
	Type          string  `json:"type"`
	HappenedAt    string  `json:"happened_at" format:"date-time"`
	Status        string  `json:"status" enum:"waiting,delivered,dead" doc:"dead: given up; it can be replayed."`
	Attempts      int     `json:"attempts" minimum:"0"`
	HTTPStatus    *int    `json:"http_status" doc:"Of the last attempt; null if there was no answer."`
	Error         *string `json:"error" doc:"Why the last attempt failed."`
	LastAttemptAt *string `json:"last_attempt_at" format:"date-time"`
	NextAttemptAt *string `json:"next_attempt_at" format:"date-time"`
}

var deliveryStatus = param{kind: choiceParam, name: "status", words: []string{"all", "waiting", "delivered", "dead"}, doc: "Only these."}

func (s *Server) listDeliveries(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error {
	p := queryOf(r)
	page, status := p.page(invoicesPageSize), webhooks.Status(p.choice(deliveryStatus))
	if err := p.err(); err != nil {
		return err
	}
	if status == "all" {
		status = ""
	}
	found, total, err := s.config.Webhooks.Deliveries(caller.OrgID, id, status, page.number, page.size)
	if err != nil {
		return err
	}
	list := make([]webhookDelivery, len(found))
	for i, d := range found {
		list[i] = webhookDelivery{MessageID: d.MessageID, Type: d.Type, HappenedAt: instant(d.HappenedAt), Status: string(d.Status), Attempts: d.Attempts,
			HTTPStatus: numberOrNull(d.HTTPStatus), Error: textOrNull(d.Error), LastAttemptAt: instantOrNull(d.LastAttemptAt), NextAttemptAt: instantOrNull(d.NextAttemptAt)}
	}
	page.announce(w, r, total)
	writeJSON(w, http.StatusOK, list)
	return nil
}

// webhookReplayRequest names one message, or all since an instant.
type webhookReplayRequest struct {
	MessageID string     `json:"message_id,omitempty" maxLength:"64" doc:"One message, whatever became of it."`
	Since     *time.Time `json:"since,omitempty" doc:"All messages since then."`
}

type webhookReplayResponse struct {
	Messages int `json:"messages" minimum:"0" doc:"How many will be sent again."`
}

func (s *Server) replayWebhook(w http.ResponseWriter, r *http.Request, caller *keys.Key, id uuid.UUID) error {
	var req webhookReplayRequest
	if _, err := s.readBody(w, r, &req); err != nil {
		return err
	}
	if (req.MessageID == "") == (req.Since == nil) {
		return invalid("value_error", "name a message_id, or since when", "body")
	}
	n, err := 1, error(nil)
	if req.Since != nil {
		n, err = s.config.WebhookCommands.ReplaySince(r.Context(), caller.OrgID, id, *req.Since, s.byWebhook(caller))
	} else {
		err = s.config.WebhookCommands.Replay(r.Context(), caller.OrgID, id, req.MessageID, s.byWebhook(caller))
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, webhookReplayResponse{n})
	return nil
}

// webhookRoutes are an org's endpoints. They have a scope of their own: whoever
// sets one up is told of invoices and budgets, which keys:write must not give, and
// changes what others rely on, which billing:read must not.
func (s *Server) webhookRoutes() []route {
	if s.config.Webhooks == nil {
		return nil
	}
	const all = "/api/v1/webhooks"
	const one = all + "/{webhook_id}"
	webhook := success{of: webhookResponse{}}
	routes := []route{{
		method: http.MethodGet, path: all, id: "listWebhooks", summary: "List Webhooks", serve: s.listWebhooks, answer: success{of: webhookListResponse{}},
	}, {
		method: http.MethodPost, path: all, id: "createWebhook", summary: "Create Webhook", serve: s.createWebhook, params: []param{idempotencyKey},
		doc:    "An endpoint that is told of what happens from now on, by signed requests (Standard Webhooks), at least once each.",
		body:   body{of: webhookCreateRequest{}, example: `{"url":"https:\/\/example.com/hooks/aione","events":["invoice.issued","invoice.paid"]}`},
		answer: success{status: http.StatusCreated, of: webhookResponse{}},
	}, {
		method: http.MethodGet, path: one, id: "getWebhook", summary: "Get Webhook", serve: s.onWebhook(s.getWebhook), answer: webhook,
	}, {
		method: http.MethodPut, path: one, id: "updateWebhook", summary: "Update Webhook", serve: s.onWebhook(s.updateWebhook), doc: "Changes what is given.",
		body: body{of: webhookUpdateRequest{}, example: `{"enabled":false}`}, answer: webhook,
	}, {
		method: http.MethodDelete, path: one, id: "deleteWebhook", summary: "Delete Webhook", serve: s.onWebhook(s.deleteWebhook),
		doc: "For good, with what waits for it.", answer: success{status: http.StatusNoContent},
	}, {
		method: http.MethodPut, path: one + "/rotate", id: "rotateWebhook", summary: "Rotate Secret of a Webhook", serve: s.onWebhook(s.rotateWebhook),
		doc: "A new secret; those before sign beside it until their grace ends.", params: []param{webhookGrace}, answer: webhook,
	}, {
		method: http.MethodPost, path: one + "/test", id: "testWebhook", summary: "Test Webhook", serve: s.onWebhook(s.testWebhook),
		doc: "Sends a message of the type webhook.test.", answer: success{status: http.StatusAccepted, of: webhookMessageResponse{}},
	}, {
		method: http.MethodGet, path: one + "/deliveries", id: "listDeliveries", summary: "List Deliveries", serve: s.onWebhook(s.listDeliveries),
		doc: "The newest message first: those that wait, and of those that ended the last.", params: []param{deliveryStatus, pageNumber, invoicesPageSize},
		answer: success{of: []webhookDelivery{}, paged: true},
	}, {
		method: http.MethodPost, path: one + "/replay", id: "replayWebhook", summary: "Replay Messages", serve: s.onWebhook(s.replayWebhook),
		doc:  "Has one message sent again, or all since an instant.",
		body: body{of: webhookReplayRequest{}, example: `{"since":"2026-11-01T00:00:00Z"}`}, answer: success{status: http.StatusAccepted, of: webhookReplayResponse{}},
	}}
	for i := range routes {
		at := &routes[i]
		at.tag, at.scope = tagWebhooks, keys.ScopeWebhooksWrite
		if at.method != http.MethodGet {
			at.refusals = []refusal{{status: http.StatusConflict, doc: "The endpoint is disabled, there are as many as there may be, or somebody else was first: the detail says which."}}
		}
	}
	return routes
}
