package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/billing"
	"aione/node"
	"aione/webhooks"
)

type adminWebhookCmd struct {
	node.WebhookConfig

	Create     adminWebhookCreateCmd     `cmd:"" help:"Have an endpoint told of what happens. Its secret is shown."`
	List       adminWebhookListCmd       `cmd:"" help:"List the endpoints of an org."`
	Disable    adminWebhookDisableCmd    `cmd:"" help:"Switch an endpoint off; --reason says why."`
	Enable     adminWebhookEnableCmd     `cmd:"" help:"Switch an endpoint on again."`
	Delete     adminWebhookDeleteCmd     `cmd:"" help:"Take an endpoint away for good, with what waits for it."`
	Rotate     adminWebhookRotateCmd     `cmd:"" help:"Give an endpoint a new secret."`
	Test       adminWebhookTestCmd       `cmd:"" help:"Send a message of the type webhook.test."`
	Deliveries adminWebhookDeliveriesCmd `cmd:"" help:"What became of an endpoint's messages, newest first."`
	Replay     adminWebhookReplayCmd     `cmd:"" help:"Send a message again, or all since an instant."`
}

// hooks is a session that knows an org.
type hooks struct {
	*session
	org      billing.Org
	commands webhooks.Commands
}

func (g *globals) hooks(ctx context.Context, out *output, admin *adminCmd, org string) (*hooks, error) {
	s, o, err := g.orgOf(ctx, out, admin, org)
	if err != nil {
		return nil, err
	}
	return &hooks{session: s, org: o, commands: s.WebhookCommands(admin.Webhook.WebhookConfig)}, nil
}

func (h *hooks) by() webhooks.By {
	return webhooks.By{Actor: h.actor, Reason: h.reason, At: h.Clock().UTC()}
}

// endpoint prints an endpoint, with its secret if it is given.
func (o *output) endpoint(e webhooks.Endpoint, secret string) error {
	shown := struct {
		webhooks.Endpoint
		Secret string `json:"secret,omitempty"`
	}{e, secret}
	return o.result(shown, func() {
		status := "enabled"
		if e.Disabled {
			status = "disabled: " + e.DisabledReason
		}
		o.say("endpoint %s  %s  %s", e.ID, e.URL, status)
		if secret != "" {
			o.say("\n    %s\n\nMessages are signed with this secret (Standard Webhooks).", secret)
		}
	})
}

type adminWebhookCreateCmd struct {
	Org         string   `arg:"" help:"Org, by name or id."`
	URL         string   `arg:"" help:"By https, to a public address."`
	Events      []string `help:"Types it is told of, such as invoice.issued,credit_note.issued. Default: all, also those to come."`
	Description string   `help:"For people."`
}

// Run makes an endpoint: the same again is the same endpoint.
func (c *adminWebhookCreateCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	types := h.Webhooks.EventTypes()
	for _, typ := range c.Events {
		if !slices.Contains(types, typ) {
			return fmt.Errorf("--events: %q is none of %s", typ, strings.Join(types, ", "))
		}
	}
	for _, e := range h.Webhooks.Endpoints(h.org.ID) {
		if e.URL == c.URL {
			return fmt.Errorf("endpoint %s has this URL already; `aione admin webhook rotate` gives it a new secret", e.ID)
		}
	}
	e, secret, err := h.commands.Create(ctx, webhooks.CreateInput{OrgID: h.org.ID, URL: c.URL, Events: c.Events, Description: c.Description}, h.by())
	if err != nil {
		return err
	}
	return out.endpoint(e, secret)
}

type adminWebhookListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run lists endpoints.
func (c *adminWebhookListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	list := h.Webhooks.Endpoints(h.org.ID)
	return out.result(list, func() {
		var rows [][]string
		for _, e := range list {
			status, types := "enabled", "all"
			if e.Disabled {
				status = "disabled"
			}
			if len(e.Events) > 0 {
				types = strings.Join(e.Events, " ")
			}
			rows = append(rows, []string{e.ID.String(), e.URL, types, status, e.CreatedAt.Format(time.DateOnly)})
		}
		out.table("Webhooks of "+h.org.Name, []string{"id", "url", "events", "status", "created"}, rows)
	})
}

type endpointRef struct {
	Org      string    `arg:"" help:"Org, by name or id."`
	Endpoint uuid.UUID `arg:"" help:"Endpoint id."`
}

// change changes an endpoint and prints it.
func (c *endpointRef) change(ctx context.Context, g *globals, out *output, admin *adminCmd, how func(h *hooks) (webhooks.Endpoint, string, error)) error {
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	e, secret, err := how(h)
	if err != nil {
		return err
	}
	return out.endpoint(e, secret)
}

type adminWebhookDisableCmd struct{ endpointRef }
type adminWebhookEnableCmd struct{ endpointRef }
type adminWebhookRotateCmd struct {
	endpointRef
	Grace time.Duration `default:"24h" help:"How long the secrets before sign too."`
}

// Run switches an endpoint off.
func (c *adminWebhookDisableCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.change(ctx, g, out, admin, func(h *hooks) (webhooks.Endpoint, string, error) {
		e, err := h.commands.Disable(ctx, h.org.ID, c.Endpoint, h.by())
		return e, "", err
	})
}

// Run switches an endpoint on.
func (c *adminWebhookEnableCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.change(ctx, g, out, admin, func(h *hooks) (webhooks.Endpoint, string, error) {
		e, err := h.commands.Enable(ctx, h.org.ID, c.Endpoint, h.by())
		return e, "", err
	})
}

// Run gives an endpoint a new secret.
func (c *adminWebhookRotateCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.change(ctx, g, out, admin, func(h *hooks) (webhooks.Endpoint, string, error) {
		return h.commands.Rotate(ctx, h.org.ID, c.Endpoint, c.Grace, h.by())
	})
}

type adminWebhookDeleteCmd struct{ endpointRef }

// Run takes an endpoint away.
func (c *adminWebhookDeleteCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.commands.Delete(ctx, h.org.ID, c.Endpoint, h.by()); err != nil {
		return err
	}
	return out.result(map[string]string{"deleted": c.Endpoint.String()}, func() { out.say("endpoint %s is deleted", c.Endpoint) })
}

type adminWebhookTestCmd struct{ endpointRef }

// Run sends a test message.
func (c *adminWebhookTestCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	message, err := h.commands.Test(ctx, h.org.ID, c.Endpoint, h.by())
	if err != nil {
		return err
	}
	return out.result(map[string]string{"message_id": message}, func() { out.say("message %s is on its way as soon as the API runs", message) })
}

type adminWebhookDeliveriesCmd struct {
	endpointRef
	Status string `default:"" enum:",waiting,delivered,dead" help:"Only those: waiting, delivered or dead."`
	Limit  int    `default:"50" help:"How many, from the newest on."`
}

// Run lists deliveries.
func (c *adminWebhookDeliveriesCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	list, total, err := h.Webhooks.Deliveries(h.org.ID, c.Endpoint, webhooks.Status(c.Status), 1, max(c.Limit, 1))
	if err != nil {
		return err
	}
	return out.result(list, func() {
		var rows [][]string
		for _, d := range list {
			rows = append(rows, []string{d.MessageID, d.Type, d.HappenedAt.UTC().Format(time.RFC3339), string(d.Status), fmt.Sprint(d.Attempts), fmt.Sprint(d.HTTPStatus), d.Error})
		}
		out.table(fmt.Sprintf("Deliveries: %d of %d", len(list), total), []string{"message", "type", "happened", "status", "attempts", "http", "error"}, rows)
	})
}

type adminWebhookReplayCmd struct {
	endpointRef
	Message string    `help:"One message."`
	Since   time.Time `help:"All messages since an instant (RFC 3339)."`
}

// Run replays messages.
func (c *adminWebhookReplayCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	if (c.Message == "") == c.Since.IsZero() {
		return fmt.Errorf("name a --message, or --since when")
	}
	h, err := g.hooks(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer h.Close()
	n := 1
	if c.Message != "" {
		err = h.commands.Replay(ctx, h.org.ID, c.Endpoint, c.Message, h.by())
	} else {
		n, err = h.commands.ReplaySince(ctx, h.org.ID, c.Endpoint, c.Since, h.by())
	}
	if err != nil {
		return err
	}
	return out.result(map[string]int{"messages": n}, func() { out.say("%d messages are sent again", n) })
}
