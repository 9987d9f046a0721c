package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/catalog"
	"aione/events"
	"aione/keys"
	"aione/node"
)

type adminCmd struct {
	Reason string `help:"Why, in your words; kept in the ledger."`

	Org     adminOrgCmd     `cmd:"" help:"Tenants."`
	Team    adminTeamCmd    `cmd:"" help:"Cost centres of an org."`
	Key     adminKeyCmd     `cmd:"" help:"API keys and management tokens."`
	Catalog adminCatalogCmd `cmd:"" help:"Models and prices."`
	Plan    adminPlanCmd    `cmd:"" help:"Plans, and who has which."`
	Entity  adminEntityCmd  `cmd:"" help:"Legal entities that issue invoices."`
	Credit  adminCreditCmd  `cmd:"" help:"Prepaid money and promotional credits."`
	Payment adminPaymentCmd `cmd:"" help:"Money that came in."`
	Refund  adminRefundCmd  `cmd:"" help:"Give prepaid money back."`
	Invoice adminInvoiceCmd `cmd:"" help:"Invoices."`
	Webhook adminWebhookCmd `cmd:"" help:"Who is told of invoices and budgets."`

	Budget      adminBudgetCmd      `cmd:"" help:"Monthly budgets of orgs, teams and keys."`
	Limits      adminLimitsCmd      `cmd:"" help:"Rate limits of orgs."`
	CreditLimit adminCreditLimitCmd `cmd:"" help:"Credit of prepaid orgs."`
}

// needsReason refuses what an auditor will ask about unless it says why.
func (c *adminCmd) needsReason(what string) error {
	if c.Reason == "" {
		return fmt.Errorf("%s needs a reason: say --reason", what)
	}
	return nil
}

// session is an admin command at work.
type session struct {
	*node.Node
	actor, reason string
}

// actorName says who types.
func actorName() string {
	if u, err := user.Current(); err == nil {
		return "cli:" + u.Username
	}
	return "cli"
}

func (g *globals) admin(ctx context.Context, out *output, reason string) (*session, error) {
	n, err := g.open(ctx, out)
	if err != nil {
		return nil, err
	}
	return &session{Node: n, actor: actorName(), reason: reason}, nil
}

// orgOf opens a session and finds an org; the caller closes it.
func (g *globals) orgOf(ctx context.Context, out *output, admin *adminCmd, name string) (*session, billing.Org, error) {
	s, err := g.admin(ctx, out, admin.Reason)
	if err != nil {
		return nil, billing.Org{}, err
	}
	org, err := s.org(name)
	if err != nil {
		s.Close()
		return nil, billing.Org{}, err
	}
	return s, org, nil
}

func (s *session) by() billing.By {
	return billing.By{Actor: s.actor, Reason: s.reason, At: s.Clock().UTC()}
}

func (s *session) catalogBy() catalog.By {
	return catalog.By{Actor: s.actor, Reason: s.reason, At: s.Clock().UTC()}
}

func (s *session) commands() billing.Commands {
	return billing.Commands{Log: s.Log, Book: s.Book, Prices: s.Catalog}
}

// org finds an org by id or by name.
func (s *session) org(text string) (billing.Org, error) {
	if id, err := uuid.Parse(text); err == nil {
		return s.Book.Org(id)
	}
	for _, o := range s.Book.Orgs() {
		if o.Name == text {
			return o, nil
		}
	}
	return billing.Org{}, fmt.Errorf("org %q: %w; `aione admin org list` shows all", text, billing.ErrNotFound)
}

// shownBy adds to what is not found the command that shows what there is.
func shownBy(err error, command string) error {
	if errors.Is(err, billing.ErrNotFound) {
		return fmt.Errorf("%w; `%s` shows what there is", err, command)
	}
	return err
}

// standardModels are the ids of models that a flag names, by id or alias.
func (s *session) standardModels(names []string) ([]string, error) {
	ids, unknown := s.Catalog.StandardIDs(names)
	if len(unknown) > 0 {
		return nil, fmt.Errorf("--models: there is no model %q; `aione admin catalog list` shows what there is", names[unknown[0]])
	}
	return ids, nil
}

func (s *session) team(org billing.Org, text string) (billing.Team, error) {
	teams, err := s.Book.Teams(org.ID)
	if err != nil {
		return billing.Team{}, err
	}
	for _, t := range teams {
		if t.Name == text || t.ID.String() == text {
			return t, nil
		}
	}
	return billing.Team{}, fmt.Errorf("team %q of org %q: %w; `aione admin team list %s` shows all", text, org.Name, billing.ErrNotFound, org.Name)
}

// orgID and teamID derive ids from names, so that creating the same thing twice
// is creating it once.
func orgID(name string) uuid.UUID { return events.DeriveID("org", []byte(name)) }

func teamID(org uuid.UUID, name string) uuid.UUID {
	return events.DeriveID("team", org[:], []byte(name))
}

type adminOrgCmd struct {
	Create  adminOrgCreateCmd  `cmd:"" help:"Create an org. The same again changes nothing."`
	List    adminOrgListCmd    `cmd:"" help:"List all orgs."`
	Profile adminOrgProfileCmd `cmd:"" help:"Show or set how an org is invoiced: bill-to, taxes, terms."`
	Account adminOrgAccountCmd `cmd:"" help:"Show where an org's money stands."`
	Changes adminOrgChangesCmd `cmd:"" help:"The audit trail of an org: what happened, who did it, when and why."`
}

type adminOrgCreateCmd struct {
	Name     string `arg:"" help:"Name, unique."`
	Timezone string `default:"Asia/Shanghai" help:"IANA zone whose months are the billing periods."`
	Currency string `default:"CNY" help:"ISO 4217 currency of its invoices."`
}

// Run creates an org.
func (c *adminOrgCreateCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, err := g.admin(ctx, out, admin.Reason)
	if err != nil {
		return err
	}
	defer s.Close()
	org, err := s.commands().CreateOrg(ctx, billing.Org{ID: orgID(c.Name), Name: c.Name, Timezone: c.Timezone, Currency: c.Currency}, s.by())
	if err != nil {
		return err
	}
	return out.result(org, func() { out.say("org %s  %s  %s  %s", org.ID, org.Name, org.Timezone, org.Currency) })
}

type adminOrgListCmd struct{}

// Run lists the orgs.
func (c *adminOrgListCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	orgs := n.Book.Orgs()
	return out.result(orgs, func() {
		var rows [][]string
		for _, o := range orgs {
			rows = append(rows, []string{o.ID.String(), o.Name, o.Timezone, o.Currency, o.CreatedAt.Format(time.DateOnly)})
		}
		out.table("Orgs", []string{"id", "name", "zone", "currency", "created"}, rows)
	})
}

type adminTeamCmd struct {
	Create adminTeamCreateCmd `cmd:"" help:"Create a team in an org. The same again changes nothing."`
	List   adminTeamListCmd   `cmd:"" help:"List the teams of an org."`
}

type adminTeamCreateCmd struct {
	Org  string `arg:"" help:"Org, by name or id."`
	Name string `arg:"" help:"Name, unique in the org."`
}

// Run creates a team.
func (c *adminTeamCreateCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	team, err := s.commands().CreateTeam(ctx, billing.Team{ID: teamID(org.ID, c.Name), OrgID: org.ID, Name: c.Name}, s.by())
	if err != nil {
		return err
	}
	return out.result(team, func() { out.say("team %s  %s  of %s", team.ID, team.Name, org.Name) })
}

type adminTeamListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run lists teams.
func (c *adminTeamListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	teams, err := s.Book.Teams(org.ID)
	if err != nil {
		return err
	}
	return out.result(teams, func() {
		var rows [][]string
		for _, t := range teams {
			rows = append(rows, []string{t.ID.String(), t.Name, t.CreatedAt.Format(time.DateOnly)})
		}
		out.table("Teams of "+org.Name, []string{"id", "name", "created"}, rows)
	})
}

type adminKeyCmd struct {
	Create  adminKeyCreateCmd `cmd:"" help:"Mint a key. Its secret is shown once."`
	List    adminKeyListCmd   `cmd:"" help:"List the keys of an org."`
	Disable adminKeyOffCmd    `cmd:"" help:"Switch a key off."`
	Enable  adminKeyOnCmd     `cmd:"" help:"Switch a key on again."`
}

type adminKeyCreateCmd struct {
	Org     string   `arg:"" help:"Org, by name or id."`
	Team    string   `arg:"" help:"Team, by name or id."`
	Name    string   `arg:"" help:"What the key is for."`
	Scopes  []string `help:"Makes a management token with these scopes (ingest, usage:read, billing:read, keys:write, webhooks:write, admin) instead of a chat key."`
	Models  []string `help:"Models it may use, by id or alias. Default: all."`
	Sandbox bool     `help:"Talks to the simulated provider and is never billed."`
	Expires string   `help:"Date until which it works, YYYY-MM-DD in UTC. Default: for ever."`
}

// Run mints a key.
func (c *adminKeyCreateCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	team, err := s.team(org, c.Team)
	if err != nil {
		return err
	}
	in := keys.CreateInput{OrgID: org.ID, TeamID: team.ID, Name: c.Name, Sandbox: c.Sandbox, Actor: s.actor, Reason: s.reason}
	if in.ModelsAllowed, err = s.standardModels(c.Models); err != nil {
		return err
	}
	for _, scope := range c.Scopes {
		in.Scopes = append(in.Scopes, keys.Scope(scope))
	}
	if c.Expires != "" {
		if in.ExpiresAt, err = time.Parse(time.DateOnly, c.Expires); err != nil {
			return fmt.Errorf("--expires %q is not a date like 2027-01-31", c.Expires)
		}
	}
	key, secret, err := s.Keys.Create(ctx, s.Log, in)
	if err != nil {
		return err
	}
	return out.result(map[string]string{"id": key.ID.String(), "key": secret, "key_prefix": key.Prefix}, func() {
		out.say("key %s  %s\n\n    %s\n\nThis is the only time the secret is shown.", key.ID, key.Name, secret)
	})
}

type adminKeyListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run lists keys, without secrets.
func (c *adminKeyListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	list := s.Keys.List(org.ID)
	shown := make([]shownKey, len(list))
	for i, k := range list {
		shown[i] = newShownKey(k, s.Clock())
	}
	return out.result(shown, func() {
		var rows [][]string
		for _, k := range list {
			var scopes []string
			for _, scope := range k.Scopes {
				scopes = append(scopes, string(scope))
			}
			rows = append(rows, []string{k.ID.String(), k.Name, k.Prefix, strings.Join(scopes, " "), string(k.StatusAt(s.Clock()))})
		}
		out.table("Keys of "+org.Name, []string{"id", "name", "prefix", "scopes", "status"}, rows)
	})
}

type keyRef struct {
	Org string    `arg:"" help:"Org, by name or id."`
	Key uuid.UUID `arg:"" help:"Key id."`
}

type adminKeyOffCmd struct{ keyRef }
type adminKeyOnCmd struct{ keyRef }

// Run switches a key off.
func (c *adminKeyOffCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.change(ctx, g, out, admin, (*keys.Set).Disable)
}

// Run switches a key on.
func (c *adminKeyOnCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.change(ctx, g, out, admin, (*keys.Set).Enable)
}

func (c *keyRef) change(ctx context.Context, g *globals, out *output, admin *adminCmd,
	how func(*keys.Set, context.Context, keys.Appender, keys.ChangeInput) (*keys.Key, error)) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	key, err := how(s.Keys, ctx, s.Log, keys.ChangeInput{OrgID: org.ID, ID: c.Key, Actor: s.actor, Reason: s.reason})
	if err != nil {
		return err
	}
	return out.result(newShownKey(key, s.Clock()), func() { out.say("key %s is %s", key.ID, key.StatusAt(s.Clock())) })
}

type adminCatalogCmd struct {
	Install adminCatalogInstallCmd `cmd:"" help:"Install the models and prices that ship with the program. What is there stays."`
	List    adminCatalogListCmd    `cmd:"" help:"List models with the price in force."`
	Price   adminPriceCmd          `cmd:"" help:"Publish the next price version of a model."`
}

type adminCatalogInstallCmd struct{}

// Run installs the starting catalog. It is idempotent.
func (c *adminCatalogInstallCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, err := g.admin(ctx, out, admin.Reason)
	if err != nil {
		return err
	}
	defer s.Close()
	installed, err := s.Catalog.Install(ctx, s.Log, catalog.Starter(), s.catalogBy())
	if err != nil {
		return err
	}
	return out.result(map[string]int{"installed": installed}, func() { out.say("%d models installed", installed) })
}

type adminCatalogListCmd struct{}

// Run lists models and prices.
func (c *adminCatalogListCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	type entry struct {
		catalog.Model
		Price *catalog.Price `json:"price"`
	}
	var list []entry
	var rows [][]string
	for _, m := range n.Catalog.Models() {
		e := entry{Model: m}
		row := []string{m.ID, m.Provider, "none", "", "", "", ""}
		if p, err := n.Catalog.PriceAt(m.ID, n.Clock()); err == nil {
			e.Price = &p
			row = []string{m.ID, m.Provider, p.Version, p.Currency, p.Input.String(), p.CacheRead.String(), p.Output.String()}
		}
		list, rows = append(list, e), append(rows, row)
	}
	return out.result(list, func() {
		out.table("Models and prices per 1,000,000 tokens", []string{"model", "provider", "price version", "currency", "input", "cached input", "output"}, rows)
	})
}

type adminPriceCmd struct {
	Model        string          `arg:"" help:"Standard model id."`
	From         time.Time       `required:"" help:"Instant from which it is in force (RFC 3339); not in the past."`
	Currency     string          `default:"CNY"`
	Input        decimal.Decimal `required:"" help:"Per 1,000,000 input tokens."`
	Output       decimal.Decimal `required:"" help:"Per 1,000,000 output tokens."`
	CacheRead    decimal.Decimal `default:"0" help:"Per 1,000,000 cached input tokens."`
	CacheWrite5m decimal.Decimal `name:"cache-write-5m" default:"0" help:"Per 1,000,000 tokens written to the 5 minute cache."`
	CacheWrite1h decimal.Decimal `name:"cache-write-1h" default:"0" help:"Per 1,000,000 tokens written to the 1 hour cache."`
	Reasoning    decimal.Decimal `default:"0" help:"Per 1,000,000 reasoning tokens."`
	Image        decimal.Decimal `default:"0" help:"Per image."`
	Request      decimal.Decimal `default:"0" help:"Per request."`
}

// Run publishes a price version.
func (c *adminPriceCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, err := g.admin(ctx, out, admin.Reason)
	if err != nil {
		return err
	}
	defer s.Close()
	price, err := s.Catalog.PublishPrice(ctx, s.Log, catalog.Publication{Price: catalog.Price{Model: c.Model, EffectiveFrom: c.From.UTC(), Currency: c.Currency,
		Input: c.Input, Output: c.Output, CacheRead: c.CacheRead, CacheWrite5m: c.CacheWrite5m, CacheWrite1h: c.CacheWrite1h,
		Reasoning: c.Reasoning, Image: c.Image, Request: c.Request}}, s.catalogBy())
	if err != nil {
		return err
	}
	return out.result(price, func() {
		out.say("price version %s is in force from %s", price.Version, price.EffectiveFrom.Format(time.RFC3339))
	})
}
