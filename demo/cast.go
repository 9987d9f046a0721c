package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/catalog"
	"aione/events"
	"aione/keys"
	"aione/node"
)

// Who plays: three orgs in zones whose midnights fall differently into the trace
// (in Kolkata it runs over one), two teams each, a key a team, four models.
var (
	orgNames = []string{"Huangpu Trading", "Hudson Robotics", "Hooghly Textiles"}
	orgZones = []string{"Asia/Shanghai", "America/New_York", "Asia/Kolkata"}
	models   = []string{"gpt-4o", "claude-sonnet-4-6", "deepseek-chat", "qwen-max"}
)

const (
	teamsPerOrg = 2
	// repricedModel gets a second price version in the middle of the trace.
	repricedModel = "deepseek-chat"
)

// repricedAt is a quarter of an hour, at which the driver holds its breath.
var repricedAt = time.Date(2023, 11, 16, 18, 45, 0, 0, time.UTC)

// play is how one row of the trace is played.
type play struct {
	Request
	index     int
	org, team int
	model     string
	cached    uint64 // of the prompt tokens
	reasoning uint64 // of the completion tokens
	stream    bool
}

// plays casts the trace: who sends which row is a matter of its number only.
func plays(trace []Request) []play {
	out := make([]play, len(trace))
	for i, r := range trace {
		p := play{Request: r, index: i, org: [...]int{0, 0, 0, 1, 1, 2}[i%6], team: i / 6 % teamsPerOrg, model: models[i*7%len(models)], stream: i%3 == 0}
		if i%5 == 0 {
			p.cached = r.Prompt / 2
		}
		if i%11 == 0 {
			p.reasoning = r.Completion / 4
		}
		out[i] = p
	}
	return out
}

// actor is one org with its keys.
type actor struct {
	org     billing.Org
	zone    *time.Location
	teams   []billing.Team
	keys    []string // chat key of each team
	sandbox string   // chat key that is never billed
	token   string   // management token: usage and invoices
}

// engage creates the orgs, teams and keys, and the second price version.
func engage(ctx context.Context, n *node.Node) ([]actor, error) {
	now := n.Clock().UTC()
	const who, why = "demo", "demo"
	if _, err := n.Catalog.Install(ctx, n.Log, catalog.Starter(), catalog.By{Actor: who, Reason: why, At: now}); err != nil {
		return nil, fmt.Errorf("install the catalog: %w", err)
	}
	next, err := n.Catalog.PriceAt(repricedModel, now)
	if err != nil {
		return nil, err
	}
	next.Version, next.EffectiveFrom = "", repricedAt
	next.Input, next.Output = next.Input.Add(decimal.RequireFromString("0.25")), next.Output.Add(decimal.RequireFromString("1.5"))
	if _, err := n.Catalog.PublishPrice(ctx, n.Log, catalog.Publication{Price: next}, catalog.By{Actor: who, Reason: "new price list", At: now}); err != nil {
		return nil, fmt.Errorf("publish a price: %w", err)
	}
	commands, by := billing.Commands{Log: n.Log, Book: n.Book}, billing.By{Actor: who, Reason: why, At: now}
	var cast []actor
	for i, name := range orgNames {
		a := actor{}
		if a.org, err = commands.CreateOrg(ctx, billing.Org{ID: events.DeriveID("org", []byte(name)), Name: name, Timezone: orgZones[i], Currency: "CNY"}, by); err != nil {
			return nil, err
		}
		if a.zone, err = time.LoadLocation(orgZones[i]); err != nil {
			return nil, err
		}
		for t := range teamsPerOrg {
			team, err := commands.CreateTeam(ctx, billing.Team{ID: events.DeriveID("team", a.org.ID[:], []byte{byte(t)}), OrgID: a.org.ID, Name: fmt.Sprintf("team %d", t+1)}, by)
			if err != nil {
				return nil, err
			}
			secret, err := mint(ctx, n, keys.CreateInput{OrgID: a.org.ID, TeamID: team.ID, Name: "chat"})
			if err != nil {
				return nil, err
			}
			a.teams, a.keys = append(a.teams, team), append(a.keys, secret)
		}
		if a.sandbox, err = mint(ctx, n, keys.CreateInput{OrgID: a.org.ID, TeamID: a.teams[0].ID, Name: "sandbox", Sandbox: true}); err != nil {
			return nil, err
		}
		a.token, err = mint(ctx, n, keys.CreateInput{OrgID: a.org.ID, TeamID: a.teams[0].ID, Name: "finance",
			Scopes: []keys.Scope{keys.ScopeUsageRead, keys.ScopeBillingRead, keys.ScopeIngest}})
		if err != nil {
			return nil, err
		}
		cast = append(cast, a)
	}
	return cast, nil
}

func mint(ctx context.Context, n *node.Node, in keys.CreateInput) (string, error) {
	in.Actor, in.Reason = "demo", "demo"
	_, secret, err := n.Keys.Create(ctx, n.Log, in)
	if err != nil {
		return "", fmt.Errorf("mint key %q: %w", in.Name, err)
	}
	return secret, nil
}

// Clock is the platform's time in the demo: it stands still until it is moved,
// and never moves back.
type Clock struct {
	mu sync.Mutex
	at time.Time
}

// NewClock starts at an instant.
func NewClock(at time.Time) *Clock { return &Clock{at: at} }

// Now is the clock's instant.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// MoveTo moves the clock to an instant, unless it is past it already.
func (c *Clock) MoveTo(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.at) {
		c.at = at
	}
}
