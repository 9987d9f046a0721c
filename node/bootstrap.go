package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"aione/billing"
	"aione/catalog"
	"aione/events"
	"aione/keys"
)

// Bootstrap is what a fresh installation starts with: one org, one team, a chat
// key and a management token. It is kept in the data directory, readable by its
// owner only, so that `up` can show it again; remove the file once the keys have
// been replaced.
type Bootstrap struct {
	OrgID           uuid.UUID `json:"org_id"`
	TeamID          uuid.UUID `json:"team_id"`
	ChatKey         string    `json:"chat_key"`
	ManagementToken string    `json:"management_token"`
}

// Bootstrap sets a fresh installation up; on any other it returns what was set up
// then, or nothing if the file is gone.
func (n *Node) Bootstrap(ctx context.Context) (Bootstrap, error) {
	file := filepath.Join(n.dataDir, "bootstrap.json")
	var b Bootstrap
	body, err := os.ReadFile(file)
	if err == nil {
		if err := json.Unmarshal(body, &b); err != nil {
			return b, fmt.Errorf("read %s: %w", file, err)
		}
		return b, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || len(n.Book.Orgs()) > 0 {
		return b, nil
	}
	now := n.Clock().UTC()
	if _, err := n.Catalog.Install(ctx, n.Log, catalog.Starter(), catalog.By{Actor: "bootstrap", Reason: "first start", At: now}); err != nil {
		return b, fmt.Errorf("install the starting catalog: %w", err)
	}
	commands, by := billing.Commands{Log: n.Log, Book: n.Book}, billing.By{Actor: "bootstrap", Reason: "first start", At: now}
	org, err := commands.CreateOrg(ctx, billing.Org{ID: events.DeriveID("org", []byte("default")), Name: "default"}, by)
	if err != nil {
		return b, fmt.Errorf("create the first org: %w", err)
	}
	team, err := commands.CreateTeam(ctx, billing.Team{ID: events.DeriveID("team", org.ID[:], []byte("default")), OrgID: org.ID, Name: "default"}, by)
	if err != nil {
		return b, fmt.Errorf("create the first team: %w", err)
	}
	b.OrgID, b.TeamID = org.ID, team.ID
	_, b.ChatKey, err = n.Keys.Create(ctx, n.Log, keys.CreateInput{OrgID: org.ID, TeamID: team.ID, Name: "first key", Actor: by.Actor, Reason: by.Reason})
	if err != nil {
		return b, fmt.Errorf("mint the first key: %w", err)
	}
	_, b.ManagementToken, err = n.Keys.Create(ctx, n.Log, keys.CreateInput{OrgID: org.ID, TeamID: team.ID, Name: "first token", Actor: by.Actor, Reason: by.Reason,
		Scopes: []keys.Scope{keys.ScopeIngest, keys.ScopeUsageRead, keys.ScopeBillingRead, keys.ScopeKeysWrite, keys.ScopeWebhooksWrite}})
	if err != nil {
		return b, fmt.Errorf("mint the first token: %w", err)
	}
	if body, err = json.MarshalIndent(b, "", "  "); err != nil {
		return b, fmt.Errorf("encode the first keys: %w", err)
	}
	if err := os.WriteFile(file, append(body, '\n'), 0o600); err != nil {
		return b, fmt.Errorf("keep the first keys: %w", err)
	}
	return b, nil
}
