package documents

import (
	"errors"
	"fmt"

	"aione/ledger"
)

// ErrParty is returned when a name, address or number cannot stand on a document:
// missing, too long, not plain text, or with a character that the font lacks.
var ErrParty = ledger.ErrParty

// The two sides of an invoice and where it is paid to, as billing keeps them.
type (
	Party  = ledger.Party
	Bank   = ledger.Bank
	Issuer = ledger.Issuer
)

// Parties are the two sides of an invoice.
type Parties struct {
	Issuer Issuer `json:"issuer"`
	BillTo Party  `json:"bill_to"`
}

// Check returns ErrParty unless both sides can stand on a document.
func (p Parties) Check() error {
	if err := CheckIssuer(p.Issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if err := CheckParty(p.BillTo); err != nil {
		return fmt.Errorf("bill-to: %w", err)
	}
	return nil
}

// CheckIssuer returns ErrParty unless the issuer can stand on a document: call it
// before one is saved, too.
func CheckIssuer(i Issuer) error {
	if err := i.Check(); err != nil {
		return err
	}
	return errors.Join(
		checkParty(i.Party),
		checkShown("bank account name", i.Bank.AccountName),
		checkShown("bank name", i.Bank.BankName),
		checkShown("bank account number", i.Bank.AccountNumber),
		checkShown("SWIFT code", i.Bank.SWIFT),
		checkShown("note", i.Note),
	)
}

// CheckParty is CheckIssuer for the other side.
func CheckParty(p Party) error {
	if err := p.Check(); err != nil {
		return err
	}
	return checkParty(p)
}

func checkParty(p Party) error {
	for _, line := range p.Address {
		if err := checkShown("address", line); err != nil {
			return err
		}
	}
	return errors.Join(checkShown("name", p.Name), checkShown("tax id", p.TaxID), checkShown("e-mail", p.Email), checkShown("phone", p.Phone))
}

// checkShown holds a text that people typed against what the font has.
func checkShown(what, text string) error {
	if r, missing := firstMissing(text); missing {
		return fmt.Errorf("%w: %s has the character %q (%U), which the font of invoices lacks", ErrParty, what, r, r)
	}
	return nil
}
