package node

import (
	"context"
	"time"

	"aione/billing"
)

// InvoiceConfig of the invoicer role.
type InvoiceConfig struct {
	Schedule  string        `name:"invoice-schedule" env:"AIONE_INVOICE_SCHEDULE" default:"@every 1m" help:"When to look for periods that have ended (cron, UTC)."`
	Grace     time.Duration `name:"invoice-grace" env:"AIONE_INVOICE_GRACE" default:"1h" help:"How long an ended period stays open for late usage."`
	TermsDays int           `name:"payment-terms" env:"AIONE_PAYMENT_TERMS_DAYS" default:"30" help:"Days until an invoice is due."`
}

// Invoicer is the invoicer of this node.
func (n *Node) Invoicer(c InvoiceConfig) *billing.Invoicer {
	return &billing.Invoicer{Log: n.Log, Book: n.Book, Prices: n.Catalog, Usage: n.Projection,
		Auditor: n.Auditor, Clock: n.Clock, Logger: n.Logger, Grace: c.Grace, TermsDays: c.TermsDays}
}

// Invoice closes due periods, at once and then by schedule, until ctx ends.
func (n *Node) Invoice(ctx context.Context, c InvoiceConfig) error {
	return n.Invoicer(c).Schedule(ctx, c.Schedule)
}
