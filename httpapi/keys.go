package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aione/keys"

	"github.com/google/uuid"
)

// keyResponse is an API key, as published. Key is the secret, given once.
type keyResponse struct {
	ID               uuid.UUID `json:"id"`
	OrgID            uuid.UUID `json:"org_id"`
	TeamID           *string   `json:"team_id" format:"uuid" doc:"Null for a key of no team."`
	Name             string    `json:"name"`
	Key              *string   `json:"key" doc:"The secret: given by create, else null. It is kept nowhere."`
	KeyPrefix        string    `json:"key_prefix" doc:"The beginning of the secret, to recognise it by."`
	ModelsAllowed    []string  `json:"models_allowed" doc:"Standard ids; empty means every model."`
	RPMLimit         *uint64   `json:"rpm_limit" doc:"Requests a minute; null means no limit of its own."`
	TPMLimit         *uint64   `json:"tpm_limit" doc:"Tokens a minute; null means no limit of its own."`
	IsSandbox        bool      `json:"is_sandbox" doc:"Talks to the simulated provider and is never billed."`
	AllowedIPs       []string  `json:"allowed_ips" doc:"Addresses or CIDRs; empty means from anywhere."`
	ExpiresAt        *string   `json:"expires_at" format:"date-time"`
	RotateGraceUntil *string   `json:"rotate_grace_until" format:"date-time" doc:"Until when the secret before the last rotation works."`
	Status           keyStatus `json:"status" enum:"active,disabled,expired"`
	CreatedAt        string    `json:"created_at" format:"date-time"`
}

type keyStatus string

type keyListResponse struct {
	Items []keyResponse `json:"items"`
	Total int           `json:"total" minimum:"0" doc:"How many there are in all, on this page or not."`
}

type keyRotateResponse struct {
	ID               uuid.UUID `json:"id"`
	Key              string    `json:"key" doc:"The new secret, given this once."`
	KeyPrefix        string    `json:"key_prefix"`
	RotateGraceUntil *string   `json:"rotate_grace_until" format:"date-time" doc:"Until when the old secret works; null: no longer."`
}

type keyCreateRequest struct {
	Name          string     `json:"name" minLength:"1" maxLength:"256"`
	TeamID        *uuid.UUID `json:"team_id,omitempty" nullable:"true" doc:"Default: the team of the token that asks."`
	ModelsAllowed []string   `json:"models_allowed,omitempty" nullable:"true" maxItems:"256" doc:"Ids or aliases; empty means every model."`
	RPMLimit      *uint64    `json:"rpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000"`
	TPMLimit      *uint64    `json:"tpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000"`
	IsSandbox     bool       `json:"is_sandbox,omitempty" default:"false"`
	AllowedIPs    []string   `json:"allowed_ips,omitempty" nullable:"true" maxItems:"256" doc:"Addresses or CIDRs; empty means from anywhere."`
	ExpiresAt     *time.Time `json:"expires_at,omitempty" nullable:"true"`
}

// keyUpdateRequest changes what is given. Null takes a limit away, or a list.
type keyUpdateRequest struct {
	Name          string   `json:"name,omitempty" minLength:"1" maxLength:"256"`
	ModelsAllowed []string `json:"models_allowed,omitempty" nullable:"true" maxItems:"256" doc:"Null or empty: every model."`
	AllowedIPs    []string `json:"allowed_ips,omitempty" nullable:"true" maxItems:"256" doc:"Null or empty: from anywhere."`
	RPMLimit      uint64   `json:"rpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Null: no limit."`
	TPMLimit      uint64   `json:"tpm_limit,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000" doc:"Null: no limit."`
}

func (s *Server) newKeyResponse(k *keys.Key, secret string) keyResponse {
	r := keyResponse{
		ID: k.ID, OrgID: k.OrgID, TeamID: idOrNull(k.TeamID), Name: k.Name, KeyPrefix: k.Prefix,
		ModelsAllowed: append([]string{}, k.ModelsAllowed...), AllowedIPs: append([]string{}, k.AllowedIPStrings()...),
		RPMLimit: limitOrNull(k.RPMLimit), TPMLimit: limitOrNull(k.TPMLimit), IsSandbox: k.Sandbox,
		ExpiresAt: instantOrNull(k.ExpiresAt), RotateGraceUntil: instantOrNull(k.RotateGraceUntil()),
		Status: keyStatus(k.StatusAt(s.config.Now())), CreatedAt: instant(k.CreatedAt),
	}
	if secret != "" {
		r.Key = &secret
	}
	return r
}

func limitOrNull(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

func instantOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := instant(t)
	return &text
}

// keyOf is the API key that the path names, if it is the caller's org's. The routes
// of keys know no management tokens: whoever may write keys must not rotate a token
// that may more, and so get it.
func (s *Server) keyOf(r *http.Request, caller *keys.Key) (*keys.Key, error) {
	id, err := pathID(r, "key_id")
	if err != nil {
		return nil, err
	}
	k, err := s.config.KeyCommands.Get(caller.OrgID, id)
	if err == nil && !k.IsAPIKey() {
		err = keys.ErrUnknownKey
	}
	return k, err
}

// actorOf is how the caller is recorded.
func actorOf(caller *keys.Key) string { return "key:" + caller.ID.String() }

// keysPageSize is as large as it can be by default: whoever knows of no pages has all
// keys of nearly every org.
var keysPageSize = pageSize(bounds{def: 100, min: 1, max: 100})

// listKeys serves GET /api/v1/gateway/keys.
func (s *Server) listKeys(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	p := queryOf(r)
	page := p.page(keysPageSize)
	if err := p.err(); err != nil {
		return err
	}
	part, total := s.config.KeyCommands.APIKeys(caller.OrgID, page.offset(), page.size)
	list := keyListResponse{Items: []keyResponse{}, Total: total}
	for _, k := range part {
		list.Items = append(list.Items, s.newKeyResponse(k, ""))
	}
	page.announce(w, r, total)
	writeJSON(w, http.StatusOK, list)
	return nil
}

// getKey serves GET /api/v1/gateway/keys/{key_id}.
func (s *Server) getKey(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	k, err := s.keyOf(r, caller)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.newKeyResponse(k, ""))
	return nil
}

// createKey serves POST /api/v1/gateway/keys.
func (s *Server) createKey(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	var req keyCreateRequest
	if _, err := s.readBody(w, r, &req); err != nil {
		return err
	}
	in := keys.CreateInput{
		OrgID: caller.OrgID, TeamID: caller.TeamID, Name: req.Name, Sandbox: req.IsSandbox, AllowedIPs: req.AllowedIPs, Actor: actorOf(caller),
	}
	if req.TeamID != nil {
		in.TeamID = *req.TeamID
		if err := s.ownTeam(caller.OrgID, in.TeamID); err != nil {
			return err
		}
	}
	if req.RPMLimit != nil {
		in.RPMLimit = *req.RPMLimit
	}
	if req.TPMLimit != nil {
		in.TPMLimit = *req.TPMLimit
	}
	if req.ExpiresAt != nil {
		in.ExpiresAt = req.ExpiresAt.UTC()
	}
	var err error
	if in.ModelsAllowed, err = s.standardModels(req.ModelsAllowed); err != nil {
		return err
	}
	k, secret, err := s.config.KeyCommands.Create(r.Context(), s.config.Ledger, in)
	if err != nil {
		return commandError(err, "body")
	}
	writeJSON(w, http.StatusOK, s.newKeyResponse(k, secret))
	return nil
}

// standardModels turns names into standard ids.
func (s *Server) standardModels(names []string) ([]string, error) {
	ids, unknown := s.config.Catalog.StandardIDs(names)
	if len(unknown) == 0 {
		return ids, nil
	}
	var problems validationErrors
	for _, i := range unknown[:min(len(unknown), problemsMax)] {
		problems = append(problems, problem{Loc: []any{"body", "models_allowed", i}, Msg: "there is no such model", Type: "model_unknown"})
	}
	return nil, problems
}

// updateKey serves PUT /api/v1/gateway/keys/{key_id}.
func (s *Server) updateKey(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	k, err := s.keyOf(r, caller)
	if err != nil {
		return err
	}
	var req keyUpdateRequest
	sent, err := s.readBody(w, r, &req)
	if err != nil {
		return err
	}
	in := keys.UpdateInput{OrgID: caller.OrgID, ID: k.ID, Actor: actorOf(caller)}
	if sent.has("name") {
		in.Name = &req.Name
	}
	if sent.has("models_allowed") {
		ids, err := s.standardModels(req.ModelsAllowed)
		if err != nil {
			return err
		}
		in.ModelsAllowed = &ids
	}
	if sent.has("allowed_ips") {
		in.AllowedIPs = &req.AllowedIPs
	}
	if sent.has("rpm_limit") {
		in.RPMLimit = &req.RPMLimit
	}
	if sent.has("tpm_limit") {
		in.TPMLimit = &req.TPMLimit
	}
	if k, err = s.config.KeyCommands.Update(r.Context(), s.config.Ledger, in); err != nil {
		return commandError(err, "body")
	}
	writeJSON(w, http.StatusOK, s.newKeyResponse(k, ""))
	return nil
}

// deleteKey serves DELETE /api/v1/gateway/keys/{key_id}.
func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	k, err := s.keyOf(r, caller)
	if err != nil {
		return err
	}
	if err := s.config.KeyCommands.Delete(r.Context(), s.config.Ledger, keys.ChangeInput{OrgID: caller.OrgID, ID: k.ID, Actor: actorOf(caller)}); err != nil {
		return commandError(err, "path")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var graceHours = param{
	kind: integerParam, name: "grace_hours", bounds: bounds{def: int(keys.DefaultGrace / time.Hour), min: 0, max: int(keys.MaxGrace / time.Hour)},
	doc: "How long the old secret still works.",
}

// rotateKey serves PUT /api/v1/gateway/keys/{key_id}/rotate.
func (s *Server) rotateKey(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	k, err := s.keyOf(r, caller)
	if err != nil {
		return err
	}
	p := queryOf(r)
	in := keys.RotateInput{OrgID: caller.OrgID, ID: k.ID, Grace: time.Duration(p.integer(graceHours)) * time.Hour, Actor: actorOf(caller)}
	in.IdempotencyKey = p.idempotencyKey(r)
	if err := p.err(); err != nil {
		return err
	}
	k, secret, err := s.config.KeyCommands.Rotate(r.Context(), s.config.Ledger, in)
	if err != nil {
		return commandError(err, "query")
	}
	writeJSON(w, http.StatusOK, keyRotateResponse{ID: k.ID, Key: secret, KeyPrefix: k.Prefix, RotateGraceUntil: instantOrNull(k.RotateGraceUntil())})
	return nil
}

// switchKey serves PUT /api/v1/gateway/keys/{key_id}/disable and …/enable.
func (s *Server) switchKey(change func(context.Context, keys.Appender, keys.ChangeInput) (*keys.Key, error)) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		k, err := s.keyOf(r, caller)
		if err != nil {
			return err
		}
		if k, err = change(r.Context(), s.config.Ledger, keys.ChangeInput{OrgID: caller.OrgID, ID: k.ID, Actor: actorOf(caller)}); err != nil {
			return commandError(err, "path")
		}
		writeJSON(w, http.StatusOK, s.newKeyResponse(k, ""))
		return nil
	}
}

// commandError tells the client which field of a command breaks a rule.
func commandError(err error, in string) error {
	var field *keys.FieldError
	if errors.As(err, &field) {
		return invalid("value_error", field.Msg, in, field.Field)
	}
	return err
}

func (s *Server) keyRoutes() []route {
	if s.config.KeyCommands == nil {
		return nil
	}
	const one, all = "/api/v1/gateway/keys/{key_id}", "/api/v1/gateway/keys"
	key := success{of: keyResponse{}}
	changed := []refusal{{status: http.StatusConflict, doc: "The key was changed by somebody else meanwhile, or the Idempotency-Key was used for something else."}}
	return []route{{
		method: http.MethodGet, path: all, id: "listKeys", tag: tagKeys, summary: "List Keys", scope: keys.ScopeKeysWrite, serve: s.listKeys,
		doc: "The organisation's API keys, oldest first, and by their ids among those of one age; up to 100 unless a page is asked for. " +
			"Management tokens are not among them.",
		params: []param{pageNumber, keysPageSize},
		answer: success{of: keyListResponse{}, paged: true},
	}, {
		method: http.MethodPost, path: all, id: "createKey", tag: tagKeys, summary: "Create Key", scope: keys.ScopeKeysWrite, serve: s.createKey,
		doc:  "Makes an API key for chat. This is the only answer with the secret.",
		body: body{of: keyCreateRequest{}, example: `{"name":"research","models_allowed":["gpt-4o"],"rpm_limit":60}`}, answer: key,
		refusals: []refusal{{status: http.StatusNotFound, doc: "The team is not one of this organisation."},
			{status: http.StatusConflict, doc: "The organisation has as many keys as it may have, or its keys were changed by others all the time meanwhile."}},
	}, {
		method: http.MethodGet, path: one, id: "getKey", tag: tagKeys, summary: "Get Key", scope: keys.ScopeKeysWrite, serve: s.getKey, answer: key,
	}, {
		method: http.MethodPut, path: one, id: "updateKey", tag: tagKeys, summary: "Update Key", scope: keys.ScopeKeysWrite, serve: s.updateKey,
		doc:  "Changes what is given and keeps the rest.",
		body: body{of: keyUpdateRequest{}, example: `{"name":"research 2","rpm_limit":null}`}, answer: key, refusals: changed,
	}, {
		method: http.MethodDelete, path: one, id: "deleteKey", tag: tagKeys, summary: "Delete Key", scope: keys.ScopeKeysWrite, serve: s.deleteKey,
		answer: success{status: http.StatusNoContent}, refusals: changed,
	}, {
		method: http.MethodPut, path: one + "/rotate", id: "rotateKey", tag: tagKeys, summary: "Rotate Key", scope: keys.ScopeKeysWrite, serve: s.rotateKey,
		doc:    "Gives the key a new secret under the same id. The same request again with the same Idempotency-Key gives the same secret.",
		params: []param{graceHours, idempotencyKey}, answer: success{of: keyRotateResponse{}}, refusals: changed,
	}, {
		method: http.MethodPut, path: one + "/disable", id: "disableKey", tag: tagKeys, summary: "Disable Key", scope: keys.ScopeKeysWrite,
		serve: s.switchKey(s.config.KeyCommands.Disable), answer: key, refusals: changed,
	}, {
		method: http.MethodPut, path: one + "/enable", id: "enableKey", tag: tagKeys, summary: "Enable Key", scope: keys.ScopeKeysWrite,
		serve: s.switchKey(s.config.KeyCommands.Enable), answer: key, refusals: changed,
	}}
}
