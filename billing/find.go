package billing

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"aione/ledger"
)

// OwnerOf is the org that an invoice is of, or ErrNotFound. It looks through the
// orgs: it is for operators, not for every request.
func (b *Book) OwnerOf(invoiceID uuid.UUID) (uuid.UUID, error) {
	for _, org := range b.Orgs() {
		if _, err := b.Invoice(org.ID, invoiceID); err == nil {
			return org.ID, nil
		}
	}
	return uuid.Nil, fmt.Errorf("invoice %s: %w", invoiceID, ErrNotFound)
}

// InvoiceNumbered is the invoice with a number, or ErrNotFound, as OwnerOf.
func (b *Book) InvoiceNumbered(number string) (ledger.Invoice, error) {
	for _, org := range b.Orgs() {
		invoices, _, err := b.Invoices(org.ID, 1, math.MaxInt32)
		if err != nil {
			return ledger.Invoice{}, err
		}
		for _, inv := range invoices {
			if inv.Number == number {
				return inv, nil
			}
		}
	}
	return ledger.Invoice{}, fmt.Errorf("invoice %.50q: %w", number, ErrNotFound)
}

// Sides are issuer and recipient of an invoice as they were known when it was
// made: what is entered later does not change what was sent. Of whom nothing was
// entered the code or the name is all there is.
func (b *Book) Sides(inv ledger.Invoice) (issuer ledger.Issuer, billTo ledger.Party, err error) {
	org, err := b.Org(inv.OrgID)
	if err != nil {
		return issuer, billTo, err
	}
	profile, err := b.ProfileAt(inv.OrgID, inv.CreatedAt)
	if err != nil {
		return issuer, billTo, err
	}
	billTo, issuer = ledger.Party{Name: org.Name}, ledger.Issuer{Party: ledger.Party{Name: inv.LegalEntity}}
	if profile.BillTo != nil {
		billTo = *profile.BillTo
	}
	entity, err := b.LegalEntityAt(inv.LegalEntity, inv.CreatedAt)
	switch {
	case err == nil:
		issuer = entity.Issuer
	case !errors.Is(err, ErrNotFound):
		return issuer, billTo, err
	}
	return issuer, billTo, nil
}

// InputsQueryOf asks again for the usage that an invoice counted, with what its
// run left out as too late.
func (b *Book) InputsQueryOf(inv ledger.Invoice) ledger.InputsQuery {
	q := inv.InputsQuery()
	if run, ok := b.RunOf(inv.OrgID, inv.Period.Label); ok {
		q.LateFrom = run.LateFrom
	}
	return q
}
