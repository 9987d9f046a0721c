package billing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"aione/events"
	"aione/ledger"
)

// VoidInvoice takes an invoice back in full by a credit note; by.Reason says why.
// Errors are those of CreditNote.
func (c Commands) VoidInvoice(ctx context.Context, orgID, invoiceID uuid.UUID, by By) (Outcome[ledger.CreditNote], error) {
	return c.CreditNote(ctx, orgID, invoiceID, nil, by)
}

// CreditNote takes back parts of an invoice by line; without lines all of it, so
// that it is void. by.Reason says why. Its number is the next of the legal entity's
// own series of credit notes. Errors are ErrNotFound, ErrIdempotency, and those of
// ledger.State.CreditNote.
func (c Commands) CreditNote(ctx context.Context, orgID, invoiceID uuid.UUID, lines []ledger.CreditLine, by By) (Outcome[ledger.CreditNote], error) {
	type request struct {
		InvoiceID uuid.UUID           `json:"invoice_id"`
		Lines     []ledger.CreditLine `json:"lines"`
	}
	return moveMoney(ctx, c, command{"credit note", orgID, request{invoiceID, lines}}, by, TypeCreditNoteIssued, false,
		func(b *batch, v view) (ledger.Entry, error) { return b.addCreditNote(v, v.state, invoiceID, lines) },
		func(e ledger.Entry) ledger.CreditNote { return *e.CreditNote })
}

// addCreditNote decides a credit note and gives it the next number.
func (b *batch) addCreditNote(v view, s *ledger.State, invoiceID uuid.UUID, lines []ledger.CreditLine) (ledger.Entry, error) {
	inv := v.invoice(invoiceID)
	if inv == nil {
		return ledger.Entry{}, fmt.Errorf("invoice %s: %w", invoiceID, ErrNotFound)
	}
	on := ledger.DateOf(b.by.At, v.zone)
	key := seriesKey{SeriesCreditNotes, inv.LegalEntity, on.Year}
	n, seq := v.book.numberAfter(key)
	e, err := s.CreditNote(invoiceID, ledger.CreditRequest{
		Number: ledger.CreditNoteNumber(inv.LegalEntity, on.Year, n), At: b.by.At, On: on, Reason: b.by.Reason, Lines: lines,
	})
	if err != nil {
		return ledger.Entry{}, err
	}
	b.add(key.subject(), seq, TypeNumbered, Numbered{Series: key.kind, LegalEntity: key.legalEntity, Year: key.year, N: n, OrgID: v.org.ID, InvoiceID: e.CreditNote.ID})
	return e, nil
}

// ReRate says what of an invoice is put right.
type ReRate struct {
	InvoiceID uuid.UUID         `json:"invoice_id"`
	Prices    map[string]string `json:"prices,omitempty"`    // by the version that was stamped: the one to bill at
	TaxRates  *[]ledger.TaxRate `json:"tax_rates,omitempty"` // instead of the invoice's; nil: as they are
	Terms     *ledger.Terms     `json:"terms,omitempty"`     // for the whole period; nil: as they are
}

// ReRated is a correction worked out and not written.
type ReRated struct {
	Invoice    ledger.Invoice `json:"invoice"`    // the draft that would replace it, before credits
	Difference ledger.Amount  `json:"difference"` // with tax, before credits: what the draft comes to, less what the invoice did
	Hash       ledger.Hash    `json:"hash"`       // of request, invoice and draft: what Correct is told
}

// Corrected is a correction as it is written: the credit note that makes the
// invoice void, unless it was void already, and the invoice that replaces it.
type Corrected struct {
	CreditNote *ledger.Entry `json:"credit_note,omitempty"`
	Invoice    ledger.Entry  `json:"invoice"`
}

func (c Corrected) entries() []ledger.Entry {
	if c.CreditNote == nil {
		return []ledger.Entry{c.Invoice}
	}
	return []ledger.Entry{*c.CreditNote, c.Invoice}
}

// creditNoteSubject carries the TypeCorrectionNote of a credit note, once.
func creditNoteSubject(orgID, noteID uuid.UUID) string {
	return "LEDGER.credit_note." + orgID.String() + "." + noteID.String()
}

// ErrChanged is returned by Correct when the dry run would now come out
// differently from what was agreed to.
var ErrChanged = errors.New("the correction is no longer what the dry run said")

// ReRate works out what an invoice would be with something put right. It writes
// nothing. It returns ErrNotFound, ErrInvalid, and errors of ledger.Correct.
func (c Commands) ReRate(ctx context.Context, orgID uuid.UUID, r ReRate, by By) (ReRated, error) {
	if err := catchUp(ctx, c.Log, c.Book); err != nil {
		return ReRated{}, err
	}
	var dry ReRated
	err := c.Book.money(orgID, func(v view) (err error) {
		_, dry, err = c.dryRun(v, r, by)
		return err
	})
	if err != nil {
		return ReRated{}, fmt.Errorf("re-rate invoice %s of org %s: %w", r.InvoiceID, orgID, err)
	}
	return dry, nil
}

// dryRun works a correction out. It depends on nothing but the request, the
// invoice, and the corrections before it: so its hash can be agreed to.
func (c Commands) dryRun(v view, r ReRate, by By) (ledger.Remedy, ReRated, error) {
	old := v.invoice(r.InvoiceID)
	if old == nil {
		return ledger.Remedy{}, ReRated{}, fmt.Errorf("invoice %s: %w", r.InvoiceID, ErrNotFound)
	}
	remedy, err := c.remedy(v, old, r, by)
	if err != nil {
		return ledger.Remedy{}, ReRated{}, err
	}
	if err := v.correctable(old); err != nil {
		return ledger.Remedy{}, ReRated{}, err
	}
	remedy.At, remedy.On = old.CreatedAt, old.CreatedOn
	rebilled, err := ledger.Correct(*old, remedy)
	if err != nil {
		return ledger.Remedy{}, ReRated{}, err
	}
	request, err := json.Marshal(r)
	if err != nil {
		return ledger.Remedy{}, ReRated{}, err
	}
	hash := sha256.Sum256(bytes.Join([][]byte{request, old.CanonicalBytes(), rebilled.Draft.CanonicalBytes()}, nil))
	return remedy, ReRated{Invoice: rebilled.Draft, Difference: rebilled.Difference, Hash: hash}, nil
}

// correctable refuses an invoice that cannot be replaced.
func (v view) correctable(old *ledger.Invoice) error {
	for _, inv := range v.invoices {
		if inv.Correction != nil && inv.Correction.Replaces == old.ID {
			return fmt.Errorf("%w: invoice %s is replaced by %s already", ErrInvalid, old.Number, inv.Number)
		}
	}
	if s, _ := v.state.Invoice(old.ID); !s.Void && s.Notes > 0 {
		return fmt.Errorf("%w: invoice %s is credited in part", ErrInvalid, old.Number)
	}
	return nil
}

// remedy is the request in the ledger's terms.
func (c Commands) remedy(v view, old *ledger.Invoice, r ReRate, by By) (ledger.Remedy, error) {
	m := ledger.Remedy{N: 1, Reason: by.Reason, TaxRates: r.TaxRates}
	for _, inv := range v.invoices {
		if inv.Correction != nil && inv.Period.Label == old.Period.Label {
			m.N++
		}
	}
	if by.Reason == "" {
		return m, fmt.Errorf("%w: a correction needs a reason", ErrInvalid)
	}
	for version, instead := range r.Prices {
		price, ok := c.Prices.Price(instead)
		if !ok {
			return m, fmt.Errorf("%w: there is no price version %.100q", ErrInvalid, instead)
		}
		m.Repriced = append(m.Repriced, ledger.Repriced{Version: version, Price: price})
	}
	if r.Terms != nil {
		for _, seg := range old.Segments {
			seg.Terms = *r.Terms
			m.Segments = append(m.Segments, seg)
		}
	}
	if len(r.Prices) == 0 && r.TaxRates == nil && r.Terms == nil {
		return m, fmt.Errorf("%w: nothing is to be put right", ErrInvalid)
	}
	return m, nil
}

// Correct carries out what ReRate worked out, if it still comes to hash: the
// invoice is void by a credit note and the draft is issued in its place, in one
// atomic batch; by.Reason says why, and must be that of the dry run. It returns
// ErrNotFound, ErrInvalid, ErrIdempotency, ErrChanged, and errors of
// ledger.State.CreditNote.
func (c Commands) Correct(ctx context.Context, orgID uuid.UUID, r ReRate, hash ledger.Hash, by By) (Outcome[Corrected], error) {
	type request struct {
		ReRate
		Hash ledger.Hash `json:"hash"`
	}
	return carryOut(ctx, c, command{"correct", orgID, request{r, hash}}, by, func(b *batch) (result Corrected, err error) {
		err = c.Book.money(orgID, func(v view) error {
			remedy, dry, err := c.dryRun(v, r, by)
			if err != nil {
				return err
			}
			if dry.Hash != hash {
				return fmt.Errorf("%w: it comes to %s now", ErrChanged, dry.Hash)
			}
			if result, err = b.addCorrection(v, r.InvoiceID, remedy); err != nil {
				return err
			}
			for _, e := range result.entries() {
				b.addStatuses(v, e)
			}
			if err := b.addBalance(v, result.Invoice.Journal.ID, false, ledger.Amount{}, result.entries()...); err != nil {
				return err
			}
			if e := result.CreditNote; e != nil {
				b.add(creditNoteSubject(orgID, e.CreditNote.ID), 0, TypeCorrectionNote, e.CreditNote)
			}
			b.add(events.JournalSubject(orgID), v.journalSeq, TypeCorrected, result)
			return nil
		})
		return result, err
	})
}

// addCorrection decides both entries, the second on the state after the first, and
// gives them numbers.
func (b *batch) addCorrection(v view, invoiceID uuid.UUID, remedy ledger.Remedy) (result Corrected, err error) {
	s, err := v.replayed()
	if err != nil {
		return result, err
	}
	if standing, _ := s.Invoice(invoiceID); !standing.Void {
		note, err := b.addCreditNote(v, s, invoiceID, nil)
		if err != nil {
			return result, err
		}
		if err := s.Apply(note); err != nil {
			return result, err
		}
		result.CreditNote = &note
	}
	remedy.At, remedy.On, remedy.Credits = b.by.At, ledger.DateOf(b.by.At, v.zone), s.Credits()
	rebilled, err := ledger.Correct(*v.invoice(invoiceID), remedy)
	if err != nil {
		return result, err
	}
	key := seriesKey{"", rebilled.Draft.LegalEntity, remedy.On.Year}
	n, seq := v.book.numberAfter(key)
	if result.Invoice, err = s.IssueInvoice(rebilled.Draft, ledger.InvoiceNumber(key.legalEntity, key.year, n)); err != nil {
		return result, err
	}
	b.add(key.subject(), seq, TypeNumbered, Numbered{LegalEntity: key.legalEntity, Year: key.year, N: n, OrgID: v.org.ID, InvoiceID: result.Invoice.Invoice.ID})
	return result, nil
}
