package main

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
	"aione/keys"
)

// shownKey is a key in JSON, by the names that the API has for its parts.
type shownKey struct {
	ID               uuid.UUID      `json:"id"`
	OrgID            uuid.UUID      `json:"org_id"`
	TeamID           uuid.UUID      `json:"team_id"` // zero: of no team
	Name             string         `json:"name"`
	Prefix           string         `json:"key_prefix"`
	Scopes           []keys.Scope   `json:"scopes"`
	ModelsAllowed    []string       `json:"models_allowed"`
	AllowedIPs       []netip.Prefix `json:"allowed_ips"`
	RPMLimit         uint64         `json:"rpm_limit"` // 0: none of its own
	TPMLimit         uint64         `json:"tpm_limit"`
	Sandbox          bool           `json:"is_sandbox"`
	Status           keys.Status    `json:"status"`
	CreatedAt        time.Time      `json:"created_at"`
	ExpiresAt        time.Time      `json:"expires_at,omitzero"`
	RotateGraceUntil time.Time      `json:"rotate_grace_until,omitzero"`
}

func newShownKey(k *keys.Key, now time.Time) shownKey {
	return shownKey{
		ID: k.ID, OrgID: k.OrgID, TeamID: k.TeamID, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes,
		ModelsAllowed: append([]string{}, k.ModelsAllowed...), AllowedIPs: append([]netip.Prefix{}, k.AllowedIPs...),
		RPMLimit: k.RPMLimit, TPMLimit: k.TPMLimit, Sandbox: k.Sandbox, Status: k.StatusAt(now),
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, RotateGraceUntil: k.RotateGraceUntil(),
	}
}

// shownEvent is a usage event in JSON.
type shownEvent struct {
	ID           uuid.UUID       `json:"id"`
	OrgID        uuid.UUID       `json:"org_id"`
	TeamID       uuid.UUID       `json:"team_id"`
	KeyID        uuid.UUID       `json:"key_id"` // zero: of another producer
	Model        string          `json:"model"`
	Provider     string          `json:"provider"`
	PriceVersion string          `json:"price_version"`
	Currency     string          `json:"currency"`
	OccurredAt   time.Time       `json:"occurred_at"`
	Tokens       events.Tokens   `json:"tokens"`
	Images       uint64          `json:"images"`
	Cost         decimal.Decimal `json:"cost"`
	Outcome      string          `json:"outcome"`
	HTTPStatus   uint16          `json:"http_status"`
	LatencyMS    uint32          `json:"latency_ms"`
	TTFTMS       uint32          `json:"ttft_ms"`
	Stream       bool            `json:"stream"`
	Producer     string          `json:"producer"`
	ExternalID   string          `json:"external_id"`
}

func newShownEvent(u events.Usage) shownEvent {
	return shownEvent{
		ID: u.ID, OrgID: u.OrgID, TeamID: u.TeamID, KeyID: u.KeyID, Model: u.Model, Provider: u.Provider, PriceVersion: u.PriceVersion,
		Currency: u.Currency, OccurredAt: u.OccurredAt, Tokens: u.Tokens, Images: u.Images, Cost: u.Cost, Outcome: u.Outcome.String(),
		HTTPStatus: u.HTTPStatus, LatencyMS: u.LatencyMS, TTFTMS: u.TTFTMS, Stream: u.Stream, Producer: u.Producer, ExternalID: u.ExternalID,
	}
}
