package main

import (
	"context"

	"aione/node"
)

type upCmd struct {
	node.ServeConfig
	node.IngestConfig
	node.InvoiceConfig
	node.AuditConfig
}

// started is what `up` tells once everything runs.
type started struct {
	API    string `json:"api"`
	Health string `json:"health"`
	node.Bootstrap
}

// Run runs everything in this process.
func (c *upCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := node.Open(ctx, node.Config{Engines: g.EngineConfig, Pepper: g.Pepper, Keys: g.KeyConfig, Logger: g.logger(out.stderr)})
	if err != nil {
		return err
	}
	defer n.Close()
	first, err := n.Bootstrap(ctx)
	if err != nil {
		return err
	}
	api, err := n.Listen(c.ServeConfig)
	if err != nil {
		return err
	}
	at := started{API: api.URL, Health: api.URL + "/readyz", Bootstrap: first}
	err = out.result(at, func() {
		out.say("AIone is up. Stop it with Ctrl-C.\n")
		out.say("  API      %s", at.API)
		out.say("  health   %s", at.Health)
		out.say("  metrics  %s/metrics", at.API)
		if first.ChatKey == "" {
			out.say("\nKeys are as they were; mint more with `aione admin key create`.")
			return
		}
		out.say("  token    %s  (usage, invoices, events)", first.ManagementToken)
		out.say("  key      %s  (chat)", first.ChatKey)
		out.say("\nTry, in another terminal:\n")
		out.say("  export API=%s KEY=%s TOKEN=%s", at.API, first.ChatKey, first.ManagementToken)
		out.say(`  curl $API/v1/chat/completions -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \`)
		out.say(`    -d '{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}'`)
		out.say(`  curl "$API/api/v1/obs/usage?group_by=day,model" -H "Authorization: Bearer $TOKEN"`)
	})
	if err != nil {
		return err
	}
	return n.Run(ctx, api.Run,
		func(ctx context.Context) error { return n.Ingest(ctx, c.IngestConfig) },
		func(ctx context.Context) error { return n.Invoice(ctx, c.InvoiceConfig) },
		func(ctx context.Context) error { return n.Audit(ctx, c.AuditConfig) })
}
