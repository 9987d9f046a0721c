package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/billing"
	"aione/documents"
	"aione/ledger"
	"aione/node"
)

type adminInvoiceCmd struct {
	Run_       adminInvoiceRunCmd        `cmd:"" name:"run" help:"Close every period that is due, now."`
	List       adminInvoiceListCmd       `cmd:"" help:"List the invoices of an org, newest first."`
	Show       adminInvoiceShowCmd       `cmd:"" help:"Show an invoice with its lines."`
	PDF        adminInvoicePDFCmd        `cmd:"" name:"pdf" help:"Write an invoice, or a credit note, as PDF."`
	Void       adminInvoiceVoidCmd       `cmd:"" help:"Take an invoice back by a credit note; --reason says why."`
	CreditNote adminInvoiceCreditNoteCmd `cmd:"" help:"Take back parts of an invoice; --reason says why."`
	WriteOff   adminInvoiceWriteOffCmd   `cmd:"" help:"Give up what is still to be paid; --reason says why."`
	Rerate     adminInvoiceRerateCmd     `cmd:"" help:"What an invoice would be with something put right; with --apply, put it right. --reason says why."`
}

type adminInvoiceRunCmd struct {
	Grace   time.Duration `env:"AIONE_INVOICE_GRACE" default:"1h" help:"How long an ended period stays open for late usage."`
	LateAge time.Duration `env:"AIONE_LATE_AGE_MAX" default:"2160h" help:"How long before its period usage may have occurred to be billed as late. 0: no bound."`
	Terms   int           `name:"payment-terms" env:"AIONE_PAYMENT_TERMS_DAYS" default:"30" help:"Days until an invoice is due, where the org's profile does not say."`
}

// Run closes what is due. It is idempotent: what is closed stays closed.
func (c *adminInvoiceRunCmd) Run(ctx context.Context, g *globals, out *output) error {
	n, err := g.open(ctx, out)
	if err != nil {
		return err
	}
	defer n.Close()
	report, err := n.Invoicer(node.InvoiceConfig{Grace: c.Grace, LateAge: c.LateAge, TermsDays: c.Terms}).RunDueBy(ctx, n.Clock(), actorName())
	if err != nil {
		return err
	}
	return out.result(report, func() {
		out.invoices("Issued", n.Book, report.Issued, n.Clock())
		out.say("\n%d invoices issued, %d periods with nothing to bill closed.", report.Invoices, report.Empty)
		if report.TooLate > 0 {
			out.say("%d rows of late usage were too old to be billed.", report.TooLate)
		}
	})
}

type adminInvoiceListCmd struct {
	Org string `arg:"" help:"Org, by name or id."`
}

// Run lists invoices.
func (c *adminInvoiceListCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	s, org, err := g.orgOf(ctx, out, admin, c.Org)
	if err != nil {
		return err
	}
	defer s.Close()
	invoices, _, err := s.Book.Invoices(org.ID, 1, listMax)
	if err != nil {
		return err
	}
	return out.result(invoices, func() { out.invoices("Invoices of "+org.Name, s.Book, invoices, s.Clock()) })
}

// invoice finds an invoice by its number or id.
func (s *session) invoice(ref string) (ledger.Invoice, error) {
	if id, err := uuid.Parse(ref); err == nil {
		org, err := s.Book.OwnerOf(id)
		if err != nil {
			return ledger.Invoice{}, shownBy(err, "aione admin invoice list ORG")
		}
		return s.Book.Invoice(org, id)
	}
	inv, err := s.Book.InvoiceNumbered(ref)
	return inv, shownBy(err, "aione admin invoice list ORG")
}

// invoiceOf opens a session and finds an invoice; the caller closes it.
func (g *globals) invoiceOf(ctx context.Context, out *output, reason, ref string) (*session, ledger.Invoice, error) {
	s, err := g.admin(ctx, out, reason)
	if err != nil {
		return nil, ledger.Invoice{}, err
	}
	inv, err := s.invoice(ref)
	if err != nil {
		s.Close()
		return nil, ledger.Invoice{}, err
	}
	return s, inv, nil
}

type invoiceRef struct {
	Invoice string `arg:"" help:"Number or id."`
}

type adminInvoiceShowCmd struct{ invoiceRef }

// Run shows an invoice as it stands.
func (c *adminInvoiceShowCmd) Run(ctx context.Context, g *globals, out *output) error {
	s, inv, err := g.invoiceOf(ctx, out, "", c.Invoice)
	if err != nil {
		return err
	}
	defer s.Close()
	at, status, err := standingOf(s.Book, &inv, s.Clock())
	if err != nil {
		return err
	}
	shown := struct {
		Invoice  ledger.Invoice   `json:"invoice"`
		Standing billing.Standing `json:"standing"`
		Status   ledger.Status    `json:"status"`
	}{inv, at, status}
	return out.result(shown, func() { out.invoice(&inv, at, status) })
}

type adminInvoicePDFCmd struct {
	Document string `arg:"" help:"Number or id of an invoice, or number of a credit note (CN-…)."`
	Out      string `short:"o" help:"File to write. Default: the number with .pdf, here."`
	Lang     string `default:"zh-en" enum:"zh-en,zh,en" help:"Language: zh-en, zh or en."`
}

// Run writes a PDF.
func (c *adminInvoicePDFCmd) Run(ctx context.Context, g *globals, out *output) error {
	s, err := g.admin(ctx, out, "")
	if err != nil {
		return err
	}
	defer s.Close()
	pdf, number, err := s.pdf(c.Document, documents.Language(c.Lang))
	if err != nil {
		return err
	}
	if c.Out == "" {
		c.Out = number + ".pdf"
	}
	if err := os.WriteFile(c.Out, pdf, 0o644); err != nil {
		return fmt.Errorf("write the PDF: %w", err)
	}
	return out.result(map[string]string{"number": number, "file": c.Out}, func() { out.say("%s is in %s", number, c.Out) })
}

func (s *session) pdf(ref string, language documents.Language) (pdf []byte, number string, err error) {
	if !strings.HasPrefix(ref, "CN-") {
		inv, err := s.invoice(ref)
		if err != nil {
			return nil, "", err
		}
		pdf, err := s.InvoicePDF(inv, language)
		return pdf, inv.Number, err
	}
	for _, org := range s.Book.Orgs() {
		notes, _, err := s.Book.CreditNotes(org.ID, 1, listMax)
		if err != nil {
			return nil, "", err
		}
		for _, note := range notes {
			if note.Number != ref {
				continue
			}
			inv, err := s.Book.Invoice(org.ID, note.InvoiceID)
			if err != nil {
				return nil, "", err
			}
			parties, err := documents.PartiesOf(s.Book, inv)
			if err != nil {
				return nil, "", err
			}
			pdf, err := documents.CreditNotePDF(note, inv, parties, language)
			return pdf, note.Number, err
		}
	}
	return nil, "", fmt.Errorf("credit note %q: %w", ref, billing.ErrNotFound)
}

type adminInvoiceVoidCmd struct {
	once
	invoiceRef
}

// Run voids an invoice.
func (c *adminInvoiceVoidCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	return c.invoiceRef.credit(ctx, g, out, admin, nil, c.once)
}

// credit issues a credit note.
func (c *invoiceRef) credit(ctx context.Context, g *globals, out *output, admin *adminCmd, lines []ledger.CreditLine, o once) error {
	if err := admin.needsReason("a credit note"); err != nil {
		return err
	}
	s, inv, err := g.invoiceOf(ctx, out, admin.Reason, c.Invoice)
	if err != nil {
		return err
	}
	defer s.Close()
	note, err := s.commands().CreditNote(ctx, inv.OrgID, inv.ID, lines, s.byOnce(o))
	if err != nil {
		return err
	}
	return out.result(note.Result, func() {
		n := note.Result
		out.say("credit note %s for %s: %s %s", n.Number, n.InvoiceNumber, n.Total.Format(n.Currency), n.Currency)
		if n.Full {
			out.say("invoice %s is void", n.InvoiceNumber)
		}
		out.repeated(note.Replayed)
	})
}

type adminInvoiceCreditNoteCmd struct {
	once
	invoiceRef
	Lines map[int]ledger.Amount `name:"line" required:"" help:"What to take back of a line, without tax on top: LINE=AMOUNT; may be repeated."`
}

// Run credits lines.
func (c *adminInvoiceCreditNoteCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	var lines []ledger.CreditLine
	for _, line := range sortedKeys(c.Lines) {
		lines = append(lines, ledger.CreditLine{Line: line, Amount: c.Lines[line]})
	}
	return c.invoiceRef.credit(ctx, g, out, admin, lines, c.once)
}

type adminInvoiceWriteOffCmd struct {
	once
	invoiceRef
}

// Run gives up a receivable.
func (c *adminInvoiceWriteOffCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	if err := admin.needsReason("a write-off"); err != nil {
		return err
	}
	s, inv, err := g.invoiceOf(ctx, out, admin.Reason, c.Invoice)
	if err != nil {
		return err
	}
	defer s.Close()
	off, err := s.commands().WriteOff(ctx, inv.OrgID, inv.ID, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(off.Result, func() {
		out.say("%s %s of %s are written off", off.Result.Amount.Format(inv.Currency), inv.Currency, inv.Number)
		out.repeated(off.Replayed)
	})
}

type adminInvoiceRerateCmd struct {
	once
	invoiceRef
	Prices map[string]string          `name:"price" help:"Bill usage stamped with one price version at another: FROM=TO; may be repeated."`
	Taxes  map[string]decimal.Decimal `name:"tax" help:"Taxes on top instead of the invoice's: NAME=PERCENT; may be repeated."`
	NoTax  bool                       `help:"No tax at all instead of the invoice's."`
	Terms  string                     `type:"existingfile" help:"JSON file with the terms of a plan for the whole period, instead of those in force."`
	Apply  bool                       `help:"Put it right: void the invoice by a credit note and issue the other one."`
}

func (c *adminInvoiceRerateCmd) remedy(id uuid.UUID) (billing.ReRate, error) {
	r := billing.ReRate{InvoiceID: id, Prices: c.Prices}
	if c.NoTax || len(c.Taxes) > 0 {
		rates := []ledger.TaxRate{}
		for _, name := range sortedKeys(c.Taxes) {
			rates = append(rates, ledger.TaxRate{Name: name, Pct: c.Taxes[name]})
		}
		r.TaxRates = &rates
	}
	if c.Terms != "" {
		body, err := os.ReadFile(c.Terms)
		if err != nil {
			return r, fmt.Errorf("read the terms: %w", err)
		}
		if err := json.Unmarshal(body, &r.Terms); err != nil {
			return r, fmt.Errorf("read the terms in %s: %w", c.Terms, err)
		}
	}
	return r, nil
}

// Run works a correction out, and carries it out if told so.
func (c *adminInvoiceRerateCmd) Run(ctx context.Context, g *globals, out *output, admin *adminCmd) error {
	if err := admin.needsReason("a correction"); err != nil {
		return err
	}
	s, inv, err := g.invoiceOf(ctx, out, admin.Reason, c.Invoice)
	if err != nil {
		return err
	}
	defer s.Close()
	remedy, err := c.remedy(inv.ID)
	if err != nil {
		return err
	}
	dry, err := s.commands().ReRate(ctx, inv.OrgID, remedy, s.by())
	if err != nil {
		return err
	}
	if !c.Apply {
		return out.result(dry, func() {
			out.invoice(&dry.Invoice, billing.Standing{}, ledger.StatusDraft)
			out.say("\nIt comes to %s %s more than %s. Nothing was written; --apply puts it right.", dry.Difference.Format(inv.Currency), inv.Currency, inv.Number)
		})
	}
	done, err := s.commands().Correct(ctx, inv.OrgID, remedy, dry.Hash, s.byOnce(c.once))
	if err != nil {
		return err
	}
	return out.result(done.Result, func() {
		if e := done.Result.CreditNote; e != nil && e.CreditNote != nil {
			out.say("credit note %s: invoice %s is void", e.CreditNote.Number, inv.Number)
		}
		if other := done.Result.Invoice.Invoice; other != nil {
			out.say("invoice %s replaces it: %s %s", other.Number, other.Total.Format(other.Currency), other.Currency)
		}
		out.repeated(done.Replayed)
	})
}
